"""The selector network against its literal form, ridge against the normal equations, and what is left out."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from datawinnow.core.errors import ArgumentError, DataError, TrainingError
from datawinnow.instruct import leave_one_out as loo
from datawinnow.instruct import network
from datawinnow.instruct.features import PUBLISHED_SCALE, Standardiser, feature_matrix, layout_of
from datawinnow.instruct.network import NetworkShape, fitting_heads, forward, init_selectors
from datawinnow.instruct.pairs import read_pairs
from datawinnow.instruct.ridge_model import PENALTIES, ridge
from datawinnow.instruct.selector import (
    PAPER_RECIPE,
    PAPER_SEED,
    SelectorRecipe,
    mean_score,
    network_seeds,
    predict,
    recipe_of,
    score_pool,
    train_selectors,
)
from datawinnow.instruct.subsets import read_subsets
from tests.instruct.helpers import record, write_lines, write_subsets
from tests.reference import instruct as literal

G = torch.Generator().manual_seed(0)
X = torch.randn(6, 5, 8, generator=G)
Y = torch.randn(6, generator=G)


def test_the_published_network_has_2737_weights():
    assert NetworkShape(16, 4, 2).parameters == 2737
    assert sum(w.numel() for w in init_selectors(NetworkShape(), [0], published=True).weights) == 2737
    assert sum(w.numel() for w in literal.literal_selector(16, 4, 0).parameters()) == 2737
    assert [fitting_heads(width) for width in (16, 6, 7, 1)] == [4, 3, 1, 1]
    with pytest.raises(ArgumentError, match="heads=4 must divide the 6"):
        NetworkShape(6, 4)


@pytest.mark.parametrize("across", ["pool", "set"])
def test_forward_is_the_literal_network_for_every_copy(across):
    nets = init_selectors(NetworkShape(8, 2), [3, 4], published=True)
    outputs = forward(nets, X[None], across=across)
    for i, seed in enumerate((3, 4)):
        network = literal.literal_selector(8, 2, seed)
        with torch.no_grad():
            expected = network(X)[..., 0] if across == "pool" else network(X.transpose(0, 1))[..., 0].T
        torch.testing.assert_close(outputs[i], expected, rtol=1e-5, atol=1e-5)


def test_attention_across_the_pool_mixes_sets_and_within_a_set_does_not():
    nets, other = init_selectors(NetworkShape(8, 2), [0], published=True), X.clone()
    other[5] += 1
    pool = [forward(nets, x[None], across="pool")[0, 0] for x in (X, other)]
    outputs = [forward(nets, x[None], across="set")[0, 0] for x in (X, other)]
    assert not torch.allclose(pool[0], pool[1])
    assert torch.equal(outputs[0], outputs[1])


def test_padding_changes_nothing():
    nets = init_selectors(NetworkShape(8, 2), [0], published=True)
    mask = torch.ones(1, 6, 5, dtype=torch.bool)
    mask[0, 2, 3:] = False
    noisy = X.clone()
    noisy[2, 3:] = 99
    output = forward(nets, noisy[None], across="set", mask=mask)
    expected = forward(nets, X[None, 2:3, :3], across="set")
    torch.testing.assert_close(output[0, 2, :3], expected[0, 0])
    torch.testing.assert_close(mean_score(output, mask)[0, 2], expected.mean())


@pytest.mark.parametrize("seed", [42, 0])
def test_training_is_the_published_loop(seed):
    recipe = recipe_of("paper", {"heads": 2, "epochs": 7})
    trained = train_selectors(X, Y, recipe=recipe, seeds=[seed])
    net, losses = literal.trained(X, Y, heads=2, seed=seed, epochs=7, rate=0.01)
    assert float(trained.loss) == pytest.approx(losses[-1], rel=1e-4)
    assert losses[-1] < losses[0]
    items = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    scores = score_pool(trained, items, recipe=recipe, size=5, seed=0)[0]
    torch.testing.assert_close(scores, literal.pool_scores(net, items, copies=5), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("entries", [40, 300, 5000], ids=["a few queries", "some heads", "sequences"])
def test_chunks_of_attention_give_the_same(monkeypatch, entries):
    nets = init_selectors(NetworkShape(8, 2), [0], published=True)
    for weight in nets.weights:
        weight.requires_grad_(False)
    items = torch.randn(50, 8, generator=torch.Generator().manual_seed(2))
    mask = torch.rand(1, 6, 5, generator=torch.Generator().manual_seed(3)) > 0.2
    expected = forward(nets, items[None, :, None], across="pool"), forward(nets, X[None], across="set", mask=mask)
    monkeypatch.setattr(network, "MAX_ATTENTION_ENTRIES", entries)
    chunked = forward(nets, items[None, :, None], across="pool"), forward(nets, X[None], across="set", mask=mask)
    for a, b in zip(chunked, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_network_is_the_same_alone_and_among_others():
    alone = train_selectors(X, Y, recipe=PAPER_RECIPE, seeds=[7])
    among = train_selectors(X, Y, recipe=PAPER_RECIPE, seeds=[5, 7, 9])
    for one, many in zip(alone.nets.weights, among.nets.weights, strict=True):
        assert torch.equal(one[0], many[1])
    assert not torch.equal(among.nets.head[0], among.nets.head[1])


def test_global_randomness_is_untouched_and_inputs_too():
    state, x = torch.get_rng_state(), X.clone()
    learned = train_selectors(X, Y, recipe=SelectorRecipe(), seeds=[0])
    score_pool(learned, X.flatten(0, 1), recipe=SelectorRecipe(), size=5, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(X, x)


def test_dealing_scores_every_item_and_depends_on_its_seed_alone():
    recipe = recipe_of("default", {"deals": 3, "networks": 1})
    learned = train_selectors(X, Y, recipe=recipe, seeds=network_seeds(recipe, 0))
    items = torch.randn(23, 8, generator=torch.Generator().manual_seed(1))
    a, b, c = (score_pool(learned, items, recipe=recipe, size=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert bool(torch.isfinite(a).all())
    alone = score_pool(learned, items, recipe=recipe_of("default", {"deals": 0}), size=5, seed=0)
    one = forward(learned.nets, items[None, 3:4, None], across="set")[0, 0, 0]
    torch.testing.assert_close(alone[0, 3], learned.mean[0] + learned.spread[0] * one)


def test_standardised_labels_come_back_in_their_own_units():
    recipe = recipe_of("default", {"epochs": 300, "networks": 1})
    learned = train_selectors(X, 1000 + 10 * Y, recipe=recipe, seeds=[0])
    torch.testing.assert_close(predict(learned, X, recipe=recipe)[0], 1000 + 10 * Y, atol=1.0, rtol=0)
    assert float(learned.loss) < 1.0


def test_a_subset_left_out_has_no_part_in_what_is_expected_of_it():
    recipe = recipe_of("default", {"networks": 2, "epochs": 5})
    labels = torch.arange(6.0)
    predictions = loo.network_predictions(X, labels, recipe=recipe, seed=0, mask=None)
    other = labels.clone()
    other[4] = 99
    again = loo.network_predictions(X, other, recipe=recipe, seed=0, mask=None)
    assert again[4] == predictions[4]
    assert again[3] != predictions[3]
    means = X.mean(1)
    assert loo.ridge_predictions(means, other)[4] == loo.ridge_predictions(means, labels)[4]


@pytest.mark.parametrize("penalty", [0.01, 1.0, 100.0])
def test_ridge_is_the_normal_equations_and_scikit_learn(penalty):
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64) * torch.tensor(
        [1.0, 9, 0.1, 3]
    )
    y = x @ torch.tensor([1.0, 0.2, 3.0, -1.0], dtype=torch.float64) + 5
    fitted = ridge(x, y, (penalty,))
    torch.testing.assert_close(fitted(x), literal.ridge_by_equations(x, y, penalty)(x))
    z = ((x - x.mean(0)) / x.std(0, correction=0)).numpy()
    theirs = SklearnRidge(alpha=penalty).fit(z, y.numpy()).predict(z)
    np.testing.assert_allclose(fitted(x).numpy(), theirs, rtol=1e-9)


def test_ridge_chooses_the_penalty_that_leaving_out_by_hand_chooses():
    g = torch.Generator().manual_seed(5)
    x = torch.randn(12, 6, generator=g, dtype=torch.float64)
    y = x[:, 0] + torch.randn(12, generator=g, dtype=torch.float64)
    centre, spread = x.mean(0), x.std(0, correction=0)
    z = (x - centre) / spread
    errors = {}
    for penalty in PENALTIES:
        total = 0.0
        for i in range(12):
            keep = [j for j in range(12) if j != i]
            # the intercept is free, the scale that of all rows
            design = torch.cat([z[keep], torch.ones(11, 1, dtype=torch.float64)], 1)
            cost = penalty * torch.eye(7, dtype=torch.float64)
            cost[6, 6] = 0
            weight = torch.linalg.solve(design.T @ design + cost, design.T @ y[keep])
            total += float((z[i] @ weight[:6] + weight[6] - y[i]) ** 2)
        errors[penalty] = total
    fitted = ridge(x, y)
    assert fitted.penalty == min(errors, key=lambda p: errors[p])
    assert fitted.error == pytest.approx(errors[fitted.penalty] / 12, rel=1e-9)


def test_noise_shrinks_ridge_to_the_constant_and_a_signal_does_not():
    g = torch.Generator().manual_seed(6)
    x = torch.randn(30, 5, generator=g)
    noise = ridge(x, torch.randn(30, generator=g))
    signal = ridge(x, x[:, 2])
    assert noise.penalty > 10 > signal.penalty
    assert int(signal.weight.abs().argmax()) == 2
    constant_column = ridge(torch.cat([x, torch.full((30, 1), 7.0)], 1), x[:, 2])
    assert float(constant_column.weight[5]) == 0


def test_better_and_worse_are_said_only_where_the_interval_excludes_nothing():
    labels = np.linspace(29, 32, 30)
    draws = np.random.default_rng(0).normal(size=30)
    good = loo.leave_one_out("a", labels + 0.1 * draws, labels)
    bad = loo.leave_one_out("b", 40 + draws, labels)
    none = loo.leave_one_out(loo.MEAN_LABEL, loo.mean_of_others(labels), labels)
    even = loo.leave_one_out("c", loo.mean_of_others(labels) + 0.01 * draws, labels)
    assert (good.outcome, bad.outcome, even.outcome, none.outcome) == ("wins", "loses", "ties", "")
    assert good.error.mean == pytest.approx(np.mean((0.1 * draws) ** 2))
    assert good.correlation > 0.9
    assert math.isnan(none.correlation)
    sentences = loo.summarise([none, good, bad], "b", {"seeds": 1})
    assert sentences[0].endswith("which is worse.")
    assert "30 labels do not show" in sentences[1]
    ridge_too = loo.summarise([none, loo.leave_one_out("ridge", 40 + draws, labels), good], "a", {"seeds": 1})
    assert "It is better than ridge regression" in ridge_too[-1]
    assert not any("do not show" in line for line in ridge_too)


def test_agreement_counts_what_is_chosen_in_common():
    scores = torch.tensor([[4.0, 3, 2, 1], [4, 1, 2, 3], [1, 2, 3, 4]])
    agreement = loo.seed_agreement(scores, lambda row: row.argsort(descending=True)[:2])
    assert agreement["overlap"][0][1] == 0.5
    assert agreement["overlap"][0][2] == 0.0
    assert agreement["correlation"][0][2] == pytest.approx(-1.0)
    assert agreement["overlap_between"] == {"low": 0.0, "mean": pytest.approx(1 / 3), "high": 0.5}
    one = loo.seed_agreement(scores[:1], lambda row: row.argsort()[:2])
    assert "overlap_between" not in one


def test_features_stand_in_the_published_order_and_scale(tmp_path):
    row = record(0, clip=1.0, reward=2.0, length=3.0, gpt=4, image_features=[5, 6], text_features=[7, 8])
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", [row]))
    layout = layout_of(pairs)
    x = feature_matrix(layout, pairs.numbers, pairs.vectors, scale=PUBLISHED_SCALE)
    assert x.tolist() == [[5, 6, 7, 8, 1, 20, 30, 4]]
    assert layout.names[0] == "image_features 1"
    flat = Standardiser.fit(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
    assert flat(torch.tensor([[3.0, 7.0]])).tolist() == [[1.0, 0.0]]
    with pytest.raises(ArgumentError, match="no pair has the indicator 'x'"):
        layout_of(pairs, indicators=("x",))


def test_members_are_found_by_their_indicators_or_the_files_own_are_used(tmp_path):
    rows = [record(i) for i in range(30)]
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", rows))
    path, member = write_subsets(tmp_path / "s.npz", rows)
    subsets = read_subsets(path, pairs, layout_of(pairs))
    assert subsets.member.tolist() == member.tolist()
    assert "all 40 members found" in subsets.notes[0]
    fewer = read_pairs(write_lines(tmp_path / "q.jsonl", rows[:20]))
    lost = read_subsets(path, fewer, layout_of(fewer))
    assert lost.member is None
    assert "are not among the pairs" in lost.notes[0]
    assert lost.features.shape == (5, 8, 10)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"index": np.zeros((3, 2), int)}, r"must hold labels of shape \(s,\)"),
        ({"labels": np.arange(2.0), "index": np.array([[0], [1]])}, "at least 3"),
        ({"labels": np.arange(3.0), "index": np.array([[0, 1], [1, 2], [2, 99]])}, "index has 99, but there are 30"),
        ({"labels": np.arange(3.0), "index": np.array([[0, 1], [1, 1], [2, 3]])}, "subset 1 has a pair twice"),
        ({"labels": np.arange(3.0), "index": np.array([[0, 1], [-1, -1], [2, 3]])}, "subset 1 has no member"),
        ({"labels": np.array([1.0, np.nan, 2.0]), "index": np.array([[0], [1], [2]])}, "label of subset 1"),
        ({"labels": np.arange(3.0), "clip": np.zeros((4, 2))}, "clip is"),
        ({"labels": np.arange(3.0)}, "neither by index nor by"),
        ({"labels": np.arange(3.0), "index": np.ones((3, 2))}, "whole numbers"),
        ({"labels": np.arange(3.0), "index": np.zeros((3, 0), int)}, "index is empty"),
        ({"labels": np.arange(3.0), "index": np.array([[0], [1], [-7]])}, "index has -7, but there are 30 pairs"),
    ],
    ids=["no labels", "few", "outside", "twice", "empty", "nan", "shape", "no members", "floats", "width 0", "below"],
)
def test_wrong_subsets_are_refused_by_name(tmp_path, arrays, match):
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", [record(i) for i in range(30)]))
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(DataError, match=match):
        read_subsets(tmp_path / "s.npz", pairs, layout_of(pairs))


def test_arrays_that_are_not_needed_are_not_unpacked(tmp_path, monkeypatch):
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", [record(i) for i in range(30)]))
    member = np.array([[0, 1], [1, 2], [2, 3]])
    np.savez(tmp_path / "s.npz", labels=np.arange(3.0), index=member, other=np.array([{}], dtype=object))
    assert read_subsets(tmp_path / "s.npz", pairs, layout_of(pairs)).member.tolist() == member.tolist()
    monkeypatch.setattr("datawinnow.instruct.subsets.MAX_ARRAY_BYTES", 100)
    with pytest.raises(DataError, match="labels unpacks to"):
        read_subsets(tmp_path / "s.npz", pairs, layout_of(pairs))


def test_a_pickle_is_never_opened(tmp_path):
    pairs = read_pairs(write_lines(tmp_path / "p.jsonl", [record(0)]))
    np.savez(tmp_path / "s.npz", labels=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"not an .npz of plain arrays"):
        read_subsets(tmp_path / "s.npz", pairs, layout_of(pairs))
    (tmp_path / "t.npz").write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match=r"not an .npz"):
        read_subsets(tmp_path / "t.npz", pairs, layout_of(pairs))


def test_a_loss_that_is_no_number_is_an_error():
    with pytest.raises(TrainingError, match="lower lr=1000"):
        train_selectors(1e20 * X, Y, recipe=recipe_of("paper", {"lr": 1000.0}), seeds=[0])
    with pytest.raises(ArgumentError, match="mode must be one of 'paper', 'default'"):
        recipe_of("other")
    with pytest.raises(ArgumentError, match="across must be one of"):
        recipe_of("paper", {"across": "x"})


def test_the_papers_recipe_is_the_published_one():
    assert PAPER_SEED == 42
    assert dataclasses.asdict(PAPER_RECIPE) == {
        "across": "pool", "standardise": False, "member_features": "file", "published_seed": True, "networks": 1,
        "deals": 0, "epochs": 20, "lr": 0.01, "weight_decay": 0.0, "heads": 4,
    }  # fmt: skip
    weights = init_selectors(NetworkShape(8, 2), [PAPER_SEED], published=True).layers[0]
    with torch.random.fork_rng():
        torch.manual_seed(42)
        attention = torch.nn.MultiheadAttention(8, 2)
    assert torch.equal(weights[0][0], attention.in_proj_weight)


def test_subsets_of_another_pool_are_refused_and_a_changed_file_has_another_digest(tmp_path):
    rows = [record(i) for i in range(30)]
    pairs = read_pairs(write_lines(tmp_path / "pairs.jsonl", rows))
    layout = layout_of(pairs)
    path = tmp_path / "subsets.npz"
    index = np.arange(24).reshape(4, 6)

    def digest(**arrays):
        np.savez(path, **{"labels": np.arange(4.0), "index": index, **arrays})
        return read_subsets(path, pairs, layout).digest

    same = digest()
    assert digest(fingerprint=pairs.fingerprint) == same
    assert digest(index=index[:, ::-1]) != same
    assert digest(labels=np.arange(4.0)[::-1]) != same
    with pytest.raises(DataError, match=f"subsets of another pool .fingerprint 0123. .* {pairs.fingerprint}"):
        digest(fingerprint="0123")
