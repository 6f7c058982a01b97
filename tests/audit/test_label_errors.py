"""Label errors: literal references, planted noise, calibration, and what cannot be told."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import datawinnow as dw
from datawinnow.audit import find_label_errors, label_errors, label_issues
from datawinnow.audit.label_errors import asymmetry, class_alignment, confident_joint, transition_odds
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.probe import probe

CLASSES = 4


@pytest.fixture(scope="module")
def digits():
    train, _ = dw.load("digits")
    return train


@pytest.fixture(scope="module")
def recordings(digits):
    """(kind, rate) -> arrays of a recording on digits with planted wrong labels, and which are wrong."""
    cache = {}
    vectors = digits.x.float().flatten(1)

    def make(kind, rate):
        if (kind, rate) not in cache:
            scenario = {"symmetric": dw.scenarios.symmetric, "pair": dw.scenarios.pair}.get(
                kind, dw.scenarios.instance_dependent
            )
            _, labels, wrong = scenario(vectors, digits.labels, rate=rate, generator=stream(0, "noise"), classes=10)
            noisy = replace(digits, labels=labels)
            recorder = dw.Recorder(len(noisy), 25)
            model, _ = dw.fit("mlp", noisy, epochs=25, recorder=recorder, recipe=dw.Recipe(lr=0.05, batch=64))
            probed = probe(model, noisy, arrays=("features", "probs"))
            arrays = {"probs": probed["probs"], "features": probed["features"], "p_label": recorder["p_label"]}
            cache[kind, rate] = labels, wrong, arrays | {"margin": recorder["margin"], "correct": recorder["correct"]}
        return cache[kind, rate]

    return make


def calibration_error(p, wrong):
    bins = np.minimum((p * 10).astype(int), 9)
    return sum(
        (bins == b).mean() * abs(p[bins == b].mean() - wrong[bins == b].mean()) for b in range(10) if (bins == b).any()
    )


def overlapping(n=300, seed=0):
    """Class probabilities of a network that is often unsure, and clean labels."""
    g = stream(seed, "probs")
    labels = torch.arange(n) % CLASSES
    logits = torch.randn(n, CLASSES, generator=g) + torch.eye(CLASSES)[labels] * 1.2
    return logits.softmax(1), labels


# --- literal references -----------------------------------------------------------------------------------------------


def literal_joint(probs, labels):
    n, c = len(labels), len(probs[0])
    mean = []
    for k in range(c):
        label_probs = [probs[i][k] for i in range(n) if labels[i] == k]
        mean.append(sum(label_probs) / len(label_probs) if label_probs else math.inf)
    joint = [[0.0] * c for _ in range(c)]
    for i in range(n):
        sure = [k for k in range(c) if probs[i][k] >= mean[k]]
        best = max(sure or range(c), key=lambda k: probs[i][k])
        joint[best][labels[i]] += 1
    return joint


def test_the_joint_is_the_literal_one_and_cleanlabs_where_all_are_sure():
    probs, labels = overlapping()
    labels[:40] = (labels[:40] + 1) % CLASSES
    joint = confident_joint(probs, labels)
    assert joint.tolist() == literal_joint(probs.tolist(), labels.tolist())
    assert joint.sum() == 300
    from cleanlab.count import compute_confident_joint

    sharp = (probs * 200).softmax(1)
    theirs = compute_confident_joint(labels.numpy(), sharp.double().numpy(), calibrate=False)
    mine = confident_joint(sharp, labels)
    # theirs has labels in rows, and drops whoever is under every threshold
    assert np.abs(mine.T.numpy() - theirs).sum() <= abs(300 - theirs.sum())


def test_direction_counts_only_beyond_chance():
    symmetric = torch.full((4, 4), 10.0).fill_diagonal_(100)
    assert asymmetry(symmetric) == 0
    one_way = torch.eye(4) * 100
    one_way[0, 1] = one_way[1, 2] = 30
    excess = 2 * (30 - 2 * math.sqrt(30))
    assert asymmetry(one_way) == pytest.approx(excess / 60)
    odds = transition_odds(one_way.double())
    assert odds.diagonal().tolist() == [1.0] * 4
    assert odds[0, 1] > 10 * odds[0, 2]
    rest = ~torch.eye(4, dtype=torch.bool)
    torch.testing.assert_close(transition_odds(symmetric.double())[rest], torch.ones(12, dtype=torch.float64))


def test_alignment_is_the_cosine_to_the_mean_of_the_others_of_the_class():
    g = stream(0, "features")
    features, labels = torch.randn(40, 5, generator=g), torch.arange(40) % 3
    labels[0] = 3
    mine = class_alignment(features, labels)
    for i in range(40):
        rest = [j for j in range(40) if labels[j] == labels[i] and j != i]
        if not rest:
            assert mine[i] == 0
            continue
        mean = torch.stack([features[j] / features[j].norm() for j in rest]).mean(0)
        expected = float(mean @ features[i] / mean.norm() / features[i].norm())
        assert float(mine[i]) == pytest.approx(expected, abs=1e-5)


def test_a_foreign_row_is_the_least_aligned():
    features = torch.eye(3).repeat_interleave(20, 0) + 0.1 * torch.randn(60, 3, generator=stream(1, "f"))
    labels = torch.arange(3).repeat_interleave(20)
    labels[25] = 0
    assert int(class_alignment(features, labels).argmin()) == 25


# --- planted noise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "rate"), [("symmetric", 0.05), ("symmetric", 0.4), ("pair", 0.2), ("instance", 0.2)])
def test_planted_wrong_labels_come_first_with_their_probability_and_true_class(digits, recordings, kind, rate):
    labels, wrong, arrays = recordings(kind, rate)
    errors = find_label_errors(labels, **arrays)
    p = errors.p_wrong.numpy()
    assert errors.is_separated
    assert roc_auc_score(wrong, p) > 0.985
    assert calibration_error(p, wrong.numpy()) < 0.05
    assert errors.rate == pytest.approx(rate, abs=0.05)
    flagged = errors.p_wrong > 0.5
    assert float(wrong[flagged].float().mean()) > 0.75  # precision
    assert float(flagged[wrong].float().mean()) > 0.9  # recall
    assert float((errors.suggested == digits.labels)[wrong].float().mean()) > 0.9
    assert bool((errors.suggested != labels).all())
    both = (flagged & wrong).numpy()
    share, right = (errors.p_suggested / errors.p_wrong).numpy(), (errors.suggested == digits.labels).numpy()
    assert calibration_error(share[both], right[both]) < 0.1
    assert bool((errors.p_suggested <= errors.p_wrong + 1e-9).all())


def test_one_recording_beats_the_last_epoch_and_the_loss_of_pair_noise(recordings):
    labels, wrong, arrays = recordings("pair", 0.4)
    rows = torch.arange(len(labels))
    last = roc_auc_score(wrong, -arrays["probs"][rows, labels])
    mean = roc_auc_score(wrong, -arrays["p_label"].mean(0))
    mine = roc_auc_score(wrong, find_label_errors(labels, **arrays).p_wrong)
    assert mine > mean + 0.02
    assert mine > last + 0.05


def test_clean_labels_are_not_called_wrong(digits):
    recorder = dw.Recorder(len(digits), 15)
    model, _ = dw.fit("mlp", digits, epochs=15, recorder=recorder, recipe=dw.Recipe(lr=0.05, batch=64))
    probed = probe(model, digits, arrays=("features", "probs"))
    arrays = {"probs": probed["probs"], "features": probed["features"], "p_label": recorder["p_label"]}
    assert float(find_label_errors(digits.labels, **arrays).rate) < 0.02


def test_an_unsure_network_calls_few_labels_wrong_and_says_so():
    probs, labels = overlapping(2000)
    errors = find_label_errors(labels, probs=probs)
    assert not errors.is_separated
    assert int((errors.p_wrong > 0.5).sum()) == 0
    assert errors.rate < 0.03
    assert any("separated" in note for note in errors.notes)


def test_a_poor_network_out_of_fold_is_no_evidence_against_the_labels():
    g = stream(0, "poor")
    labels = torch.arange(2000) % CLASSES
    guess = torch.where(torch.rand(2000, generator=g) < 0.4, labels, (labels + 1) % CLASSES)
    probs = (torch.randn(2000, CLASSES, generator=g) * 0.3 + 5 * torch.eye(CLASSES)[guess]).softmax(1)
    errors = find_label_errors(labels, probs=probs)
    assert errors.rate < 0.05
    assert int((errors.p_wrong > 0.5).sum()) == 0
    assert errors.p_wrong.argmax() in torch.nonzero(guess != labels)
    assert "agree with 38% of the labels only" in errors.notes[0]
    # that half of the labels are wrong is believed where the network agrees with the others
    better = torch.where(torch.rand(2000, generator=g) < 0.7, labels, (labels + 1) % CLASSES)
    probs = (torch.randn(2000, CLASSES, generator=g) * 0.3 + 5 * torch.eye(CLASSES)[better]).softmax(1)
    assert find_label_errors(labels, probs=probs).rate == pytest.approx(0.3, abs=0.03)


def test_without_features_or_without_probs_it_still_works(recordings):
    labels, wrong, arrays = recordings("symmetric", 0.2)
    for names in (("p_label", "probs"), ("p_label", "features"), ("probs", "features", "p_label")):
        errors = find_label_errors(labels, **{name: arrays[name] for name in names})
        assert roc_auc_score(wrong, errors.p_wrong) > 0.985, names


def test_of_many_examples_neighbours_are_sought_among_a_sample(recordings, monkeypatch):
    labels, wrong, arrays = recordings("symmetric", 0.2)
    exact = find_label_errors(labels, **arrays)
    monkeypatch.setattr(label_errors, "NEIGHBOUR_SAMPLE_ROWS", 400)
    sampled = find_label_errors(labels, **arrays)
    assert roc_auc_score(wrong, sampled.p_wrong) > roc_auc_score(wrong, exact.p_wrong) - 0.01
    difference = sampled.evidence["disagreeing"] - exact.evidence["disagreeing"]
    assert float(difference.abs().mean()) < 0.2
    # none is its own neighbour: features that tell nothing agree with the label no more often than chance
    features = torch.randn(len(labels), 8, generator=stream(0, "features"))
    agreeing = 1 - find_label_errors(labels, p_label=arrays["p_label"], features=features).evidence["disagreeing"]
    assert float(agreeing.mean()) < 0.12


def test_a_recording_alone_ranks_and_suggests_no_class(recordings):
    labels, wrong, arrays = recordings("symmetric", 0.2)
    errors = find_label_errors(labels, p_label=arrays["p_label"])
    assert roc_auc_score(wrong, errors.p_wrong) > 0.97
    issues = label_issues(errors, labels, [f"digit {k}" for k in range(10)])
    assert issues
    assert {(issue.suggested_label, issue.suggested_probability) for issue in issues} == {("", None)}
    assert {issue.action for issue in issues} <= {"drop", "look"}


def test_permuting_the_examples_permutes_the_answer(recordings):
    labels, _, arrays = recordings("symmetric", 0.2)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    permuted = {
        name: a[:, order] if name in ("p_label", "margin", "correct") else a[order] for name, a in arrays.items()
    }
    torch.testing.assert_close(
        find_label_errors(labels[order], **permuted).p_wrong,
        find_label_errors(labels, **arrays).p_wrong[order],
        atol=1e-3,
        rtol=1e-3,
    )


# --- bad input --------------------------------------------------------------------------------------------------------


def test_one_class_only_says_that_nothing_can_be_told():
    errors = find_label_errors(torch.zeros(50, dtype=torch.int64), probs=torch.ones(50, 1))
    assert float(errors.p_wrong.sum()) == 0
    assert "one class" in errors.notes[0]


def test_a_short_recording_and_unseen_examples_are_told():
    g = stream(0, "short")
    p_label, probs = torch.rand(2, 60, generator=g), torch.rand(60, 3, generator=g).softmax(1)
    p_label[:, 7] = torch.nan
    errors = find_label_errors(torch.arange(60) % 3, p_label=p_label, probs=probs)
    assert any("2 epochs" in note for note in errors.notes)
    assert any("1 example" in note for note in errors.notes)
    assert errors.p_wrong.isnan().nonzero().flatten().tolist() == [7]
    assert 7 not in [issue.example for issue in label_issues(errors, torch.arange(60) % 3, "abc")]


def test_wrong_arrays_are_named():
    probs, labels = overlapping(40)
    with pytest.raises(ArgumentError, match="probs has 40 rows, labels 39"):
        find_label_errors(labels[:39], probs=probs)
    with pytest.raises(ArgumentError, match="features has 3 rows"):
        find_label_errors(labels, probs=probs, features=torch.zeros(3, 2))
    with pytest.raises(ArgumentError, match="p_label has 9 examples"):
        find_label_errors(labels, probs=probs, p_label=torch.zeros(2, 9))
    with pytest.raises(ArgumentError, match="only 3 columns"):
        find_label_errors(labels, probs=probs[:, :3] / probs[:, :3].sum(1, keepdim=True))
    with pytest.raises(ArgumentError, match="need probs"):
        find_label_errors(labels)
    with pytest.raises(ArgumentError, match="out-of-fold"):
        find_label_errors(labels, features=torch.rand(40, 2), engine="cleanlab")
    broken = probs.clone()
    broken[3, 1] = torch.nan
    with pytest.raises(ArgumentError, match="example 3"):
        find_label_errors(labels, probs=broken)


# --- cleanlab and the issues ------------------------------------------------------------------------------------------


def test_the_engine_cleanlab_flags_what_cleanlab_flags():
    from cleanlab.filter import find_label_issues

    probs, labels = overlapping(400)
    probs = (probs * 6).softmax(1)
    labels[:40] = (labels[:40] + 1) % CLASSES
    errors = find_label_errors(labels, probs=probs, engine="cleanlab")
    theirs = find_label_issues(labels.numpy(), probs.double().numpy() / probs.double().numpy().sum(1, keepdims=True))
    assert (errors.p_wrong >= 0.5).numpy().tolist() == theirs.tolist()
    assert theirs.sum() > 5


def test_issues_have_words_a_suggestion_and_an_action(recordings):
    labels, _, arrays = recordings("symmetric", 0.2)
    errors = find_label_errors(labels, **arrays)
    names = [f"digit {k}" for k in range(10)]
    issues = label_issues(errors, labels, names, epochs=25)
    assert len(issues) == int((errors.p_wrong >= 0.5).sum())
    for issue in issues:
        p_class = issue.suggested_probability
        sure = f"relabel:{issue.suggested_label}"
        assert issue.action == (sure if p_class >= 0.75 else "drop" if issue.severity >= 0.9 else "look")
        assert issue.suggested_label != names[int(labels[issue.example])]
    assert sum(issue.action.startswith("relabel") for issue in issues) > len(issues) / 2
    first = issues[0]
    p = float(arrays["p_label"][:, first.example].mean())
    assert f"p({names[int(labels[first.example])]}) {p:.2f}" in first.evidence
    assert "of 10 neighbours" in first.evidence
