"""Several labels an example: Dawid and Skene, and WAUM."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from datawinnow.audit.crowds import dawid_skene, waum
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream

N, PEOPLE, CLASSES = 300, 6, 3


def votes(accuracy, seed=0, each=4):
    """Votes of people who are right with their accuracy; and the classes."""
    g = stream(seed, "votes")
    truth = torch.randint(0, CLASSES, (N,), generator=g)
    example = torch.arange(N).repeat_interleave(each)
    worker = torch.cat([torch.randperm(PEOPLE, generator=g)[:each] for _ in range(N)])
    right = torch.rand(len(example), generator=g) < torch.tensor(accuracy)[worker]
    step = torch.randint(1, CLASSES, (len(example),), generator=g)
    label = torch.where(right, truth[example], (truth[example] + step) % CLASSES)
    return example, worker, label, truth


def literal_dawid_skene(example, worker, label, rounds):
    """The same in loops."""
    n, people = max(example) + 1, max(worker) + 1
    t = [[0.0] * CLASSES for _ in range(n)]
    for i, y in zip(example, label, strict=True):
        t[i][y] += 1
    t = [[v / sum(row) for v in row] for row in t]
    for _ in range(rounds):
        pi = [[[0.01] * CLASSES for _ in range(CLASSES)] for _ in range(people)]
        for i, w, y in zip(example, worker, label, strict=True):
            for k in range(CLASSES):
                pi[w][k][y] += t[i][k]
        pi = [[[v / sum(row) for v in row] for row in matrix] for matrix in pi]
        prior = [sum(row[k] for row in t) / n for k in range(CLASSES)]
        logs = [[math.log(prior[k]) for k in range(CLASSES)] for _ in range(n)]
        for i, w, y in zip(example, worker, label, strict=True):
            for k in range(CLASSES):
                logs[i][k] += math.log(pi[w][k][y])
        t = [[math.exp(v - max(row)) for v in row] for row in logs]
        t = [[v / sum(row) for v in row] for row in t]
    return torch.tensor(t).double(), torch.tensor(pi).double()


def test_it_is_the_literal_loop_and_better_than_the_majority():
    example, worker, label, truth = votes([0.95, 0.9, 0.9, 0.4, 0.35, 0.3])
    crowd = dawid_skene(example, worker, label)
    probs, confusion = literal_dawid_skene(example.tolist(), worker.tolist(), label.tolist(), 50)
    torch.testing.assert_close(crowd.probs, probs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(crowd.confusion, confusion, atol=1e-4, rtol=1e-4)
    counts = torch.zeros(N, CLASSES).index_put_((example, label), torch.ones(len(example)), accumulate=True)
    mine = float((crowd.labels == truth).float().mean())
    assert mine > float((counts.argmax(1) == truth).float().mean()) + 0.03
    assert crowd.confusion[0].diagonal().mean() > 0.85 > crowd.confusion[5].diagonal().mean() + 0.3


def test_waum_is_the_weighted_mean_of_the_votes():
    example, worker, label, _ = votes([0.9] * PEOPLE)
    g = stream(1, "waum")
    margin = torch.rand(5, len(example), generator=g).double() * 2 - 1
    probs = torch.rand(len(example), CLASSES, generator=g).double().softmax(1)
    confusion = torch.rand(PEOPLE, CLASSES, CLASSES, generator=g).double().softmax(2)
    mine = waum(example, worker, label, margin, probs, confusion=confusion)
    total, weight = [0.0] * N, [0.0] * N
    for v, (i, w) in enumerate(zip(example.tolist(), worker.tolist(), strict=True)):
        trust = sum(float(probs[v, k] * confusion[w, k, k]) for k in range(CLASSES))
        total[i] += trust * float(margin[:, v].mean())
        weight[i] += trust
    torch.testing.assert_close(mine, torch.tensor([a / b for a, b in zip(total, weight, strict=True)]).double())


def test_one_perfect_person_gives_the_mean_margin():
    margin = torch.tensor([[0.5, -0.25, 0.125], [0.25, -0.75, 0.375]]).double()
    scores = waum([0, 1, 2], [0, 0, 0], [0, 1, 1], margin, torch.eye(2)[[0, 1, 1]], confusion=torch.eye(2)[None])
    assert scores.tolist() == margin.mean(0).tolist()


def test_ambiguous_examples_come_last():
    example, worker, label, truth = votes([0.95] * PEOPLE)
    ambiguous = torch.zeros(N, dtype=torch.bool)
    ambiguous[:40] = True
    g = stream(2, "ambiguous")
    label = torch.where(ambiguous[example], torch.randint(0, CLASSES, (len(label),), generator=g), label)
    sure = torch.eye(CLASSES)[truth[example]] * 4 * (~ambiguous[example])[:, None]
    logits = sure + torch.randn(len(label), CLASSES, generator=g)
    probs = logits.softmax(1)
    rows = torch.arange(len(label))
    rest = probs.clone()
    rest[rows, label] = -1
    margin = (probs[rows, label] - rest.max(1).values)[None]
    assert roc_auc_score(ambiguous, -waum(example, worker, label, margin, probs)) > 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 2], [0, 0], [0, 1]), "example 1 has no vote"),
        (([0, 1], [0], [0, 1]), "worker"),
        (([0, 1], [0, 0], [0, 3]), "class 3"),
    ],
)
def test_votes_that_do_not_fit(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        dawid_skene(*arguments, classes=3)
