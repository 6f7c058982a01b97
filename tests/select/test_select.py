"""Selectors: direction, reasons, capacity, and what only one of them does."""

import math

import numpy as np
import pytest
import torch

from datawinnow import select
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.select.coverage import bin_of
from tests.reference import selection as literal

NAN = math.nan


def g(*path):
    return stream(0, *path)


def reasons(selection):
    return [Reason(int(r)).word for r in selection.reason]


# ---- top


def test_top_takes_the_end_it_is_told():
    score = [0.1, 0.9, 0.5, 0.7, 0.3]
    assert select.top(score, budget=2).index.tolist() == [1, 3]
    assert select.top(score, budget=2, end="low").index.tolist() == [0, 4]
    assert select.top(score, budget=3, end="middle").index.tolist() == [2, 4, 3]
    assert select.top(score, budget=2, end="middle").index.tolist() == [2, 4]


def test_top_middle_is_the_middle_band_of_ranks():
    """static.md 4, Moderate: ranks [0.5 - s/2, 0.5 + s/2]."""
    score = torch.rand(101, generator=g("m"))
    ranked = score.argsort().tolist()
    kept = select.top(score, budget=31, end="middle").index.tolist()
    assert sorted(kept) == sorted(ranked[35:66])


@pytest.mark.parametrize("end", ["high", "low", "middle"])
def test_top_takes_all_above_a_tie_first(end):
    score = [2.0, 1.0, 1.0, 2.0, 1.0]
    index = select.top(score, budget=3, end=end).index.tolist()
    values = {"high": [2.0, 2.0, 1.0], "low": [1.0, 1.0, 1.0], "middle": [1.0, 1.0, 2.0]}
    assert [score[i] for i in index] == values[end]


@pytest.mark.parametrize("end", ["high", "low", "middle"])
def test_top_prefixes_nest_and_reasons_tell(end):
    score = torch.randn(50, generator=g("n")).round(decimals=1)
    complete = select.top(score, budget=50, end=end).index
    for budget in (1, 7, 49):
        got = select.top(score, budget=budget, end=end)
        assert torch.equal(got.index, complete[:budget])
        assert set(reasons(got)) == {"ranked", "below_cut"}
        assert (got.reason < 10).sum() == budget


def test_top_refuses_an_unknown_end():
    with pytest.raises(ArgumentError, match="end must be one of 'high', 'low', 'middle', got 'top'"):
        select.top([1.0], budget=1, end="top")


# ---- beta


@pytest.mark.parametrize("total", [15.0, 16.0])
@pytest.mark.parametrize("c_d", [4, 5.5, 11])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_beta_weights_match_scipy(keep, c_d, total):
    stats = pytest.importorskip("scipy.stats")
    n, mu_d = 1000, 0.35
    a, b = select.beta_parameters(mu_d, n, round(keep * n), c_d=c_d, total=total)
    assert (a, b) == pytest.approx(literal.beta_parameters(mu_d, n, round(keep * n), c_d, total))
    mu = torch.linspace(0.001, 0.999, 99, dtype=torch.float64)
    want = stats.beta.logpdf(mu.numpy(), a, b)
    np.testing.assert_allclose(select.beta_log_weight(mu, a, b).numpy(), want, rtol=1e-9, atol=1e-9)


def test_beta_worked_values_of_the_notes():
    """static.md 1.3: means of the Beta for c = 4, mu_D = .35 at r = .3, .5, .7, .8, .9."""
    for total, want in ((15.0, [0.355, 0.391, 0.506, 0.616, 0.776]), (16.0, [0.396, 0.429, 0.537, 0.640, 0.790])):
        for kept, mean in zip((700, 500, 300, 200, 100), want, strict=True):
            a, b = select.beta_parameters(0.35, 1000, kept, c_d=4, total=total)
            assert a / (a + b) == pytest.approx(mean, abs=6e-4)


def test_beta_mean_is_mu_d_when_nothing_is_removed_and_one_when_all_is():
    """static.md 7 (d)."""
    a, b = select.beta_parameters(0.35, 10, 10)
    assert a / (a + b) == pytest.approx(0.35)
    a, b = select.beta_parameters(0.35, 10**9, 1)
    assert a / (a + b) == pytest.approx(1, abs=1e-6)


def test_beta_draws_in_proportion_to_density_times_dual():
    """A budget of one is drawn with probability w / sum w exactly; compare within 4 sigma."""
    stats = pytest.importorskip("scipy.stats")
    n, trials = 8, 4000
    dual = torch.tensor([0.3, 0.1, 0.2, 0.05, 0.25, 0.0, 0.15, 0.2], dtype=torch.float64)
    mu = torch.tensor([0.8, 0.9, 0.95, 0.99, 0.7, 0.9, 0.85, 0.97], dtype=torch.float64)
    a, b = literal.beta_parameters(float(mu[[0, 4]].mean()), n, 1, 2, 15)
    w = stats.beta.pdf(mu.numpy(), a, b) * dual.numpy()
    q = w / w.sum()
    generator = g("trials")
    counts = np.zeros(n)
    for _ in range(trials):
        got = select.beta(dual, mu, budget=1, c_d=2, mu_top=2, generator=generator)
        counts[int(got.index)] += 1
    error = np.sqrt(q * (1 - q) / trials)
    assert (np.abs(counts / trials - q) <= 4 * error).all(), (counts / trials, q)


def test_beta_fitted_to_the_training_is_beta_at_the_c_d_of_the_rule():
    p, dual = torch.rand(12, 300, generator=g("p")), torch.rand(300, generator=g("d"))
    kept = {}
    for epochs in (15, 60, 200):
        by_epochs = select.beta(dual, p, budget=50, train_epochs=epochs, generator=g("x"))
        by_c_d = select.beta(dual, p, budget=50, c_d=4 * (epochs / 200) ** (1 / 4), generator=g("x"))
        assert torch.equal(by_epochs.index, by_c_d.index)
        kept[epochs] = float(p.mean(0)[by_epochs.index].mean())
    assert kept[15] > kept[60] > kept[200]  # the shorter the training, the easier the examples
    assert select.fitted_c_d(1) == pytest.approx(1.064, abs=1e-3)
    assert select.fitted_c_d(10**5) == 5.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c_d": 4, "train_epochs": 30}, "give one of c_d and train_epochs"),
        ({"c_d": 5.5, "train_epochs": 30}, "give one of c_d and train_epochs"),
        ({"train_epochs": 0}, "train_epochs must be above 0"),
        ({"train_epochs": -3}, "train_epochs must be"),
        ({"train_epochs": float("nan")}, "train_epochs must be"),
    ],
)
def test_beta_refuses_a_length_that_cannot_be(options, message):
    with pytest.raises(ArgumentError, match=message):
        select.beta([0.1, 0.2], [0.5, 0.5], budget=1, generator=g("x"), **options)


def test_beta_takes_epochs_or_their_mean():
    p = torch.rand(12, 300, generator=g("p"), dtype=torch.float64)
    dual = torch.rand(300, generator=g("d"))
    by_epoch = select.beta(dual, p, budget=50, generator=g("x"))
    by_mean = select.beta(dual, p.mean(0), budget=50, generator=g("x"))
    assert torch.equal(by_epoch.index, by_mean.index)


def test_beta_moves_to_easy_examples_as_less_is_kept():
    n = 4000
    mu = torch.rand(n, generator=g("mu"))
    dual = (mu * (1 - mu) * (1.3 - mu)).clamp_min(0)  # highest at mu about 0.43
    means = [float(mu[select.beta(dual, mu, budget=k, generator=g("x")).index].mean()) for k in (40, 400, 2000)]
    assert means[0] > means[1] + 0.1 > means[2] + 0.15


def test_beta_examples_without_weight_come_last_and_say_so():
    dual = torch.tensor([0.0, 0.2, 0.0, 0.1, 0.3, 0.0])
    mu = torch.full((6,), 0.5)
    got = select.beta(dual, mu, budget=4, generator=g("z"))
    assert {1, 3, 4} == set(got.index[:3].tolist())
    assert int(got.index[3]) in {0, 2, 5}
    assert reasons(got).count("zero_weight") == 2
    assert reasons(got).count("drawn") == 4


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_beta_survives_means_at_the_edges(value):
    """A b below 1 makes the density infinite at 1, and a of 0 makes it infinite at 0: neither may give NaN."""
    mu = torch.full((20,), value)
    mu[:5] = 0.5
    for budget in (1, 10, 20):
        got = select.beta(torch.rand(20) + 0.1, mu, budget=budget, generator=g("edge"))
        assert got.index.unique().numel() == budget
    a, b = select.beta_parameters(value, 20, 20)
    assert torch.isfinite(select.beta_log_weight(torch.tensor([0.0, 1.0]), a, b)).all()


def test_beta_refuses_what_it_cannot_use():
    dual, mu = torch.rand(4), torch.rand(4)
    with pytest.raises(ArgumentError, match="dual must be at least 0, got -1"):
        select.beta(torch.tensor([0.0, -1.0, 1.0, 1.0]), mu, budget=2, generator=g())
    with pytest.raises(ArgumentError, match=r"p_label must hold probabilities.*3 for example 2"):
        select.beta(dual, [0.1, 0.2, 3.0, 0.4], budget=2, generator=g())
    with pytest.raises(ArgumentError, match="dual has 4, p_label has 5"):
        select.beta(dual, torch.rand(5), budget=2, generator=g())
    with pytest.raises(ArgumentError, match=r"total must be a number in \[15, 1000\], got 14"):
        select.beta(dual, mu, budget=2, total=14, generator=g())
    with pytest.raises(ArgumentError, match="c_d must be a number"):
        select.beta(dual, mu, budget=2, c_d=-1, generator=g())
    with pytest.raises(ArgumentError, match=r"generator must be a torch\.Generator, got 0"):
        select.beta(dual, mu, budget=2, generator=0)


# ---- coverage


@pytest.mark.parametrize("kind", ["normal", "negative", "few values", "constant"])
def test_coverage_fills_its_bins_as_the_literal_ccs(kind):
    n, bins = 300, 12
    score = {
        "normal": torch.randn(n, generator=g("s")),
        "negative": -torch.rand(n, generator=g("s")).square() - 1,  # max * 1.0001 would lose the maximum here
        "few values": torch.randint(0, 3, (n,), generator=g("s")).float(),
        "constant": torch.zeros(n),
    }[kind].to(torch.float64)
    low, high = float(score.min()), float(score.max())
    of = [literal.ccs_bin(v, low, high, bins) for v in score.tolist()]
    assert bin_of(score, bins).tolist() == of
    full = [b for b in range(bins) if of.count(b)]
    for budget in (1, 5, 37, 120, 299, 300):
        want = literal.ccs_budgets([of.count(b) for b in full], budget)
        kept = select.coverage(score, budget=budget, bins=bins, generator=g("c")).index.tolist()
        got = [sum(of[i] == b for i in kept) for b in full]
        assert got == want
        assert sum(got) == budget


def test_coverage_draws_uniformly_inside_a_bin_and_prefixes_nest():
    score = [0.0] * 6 + [1.0] * 3
    counts = torch.zeros(9)
    generator, trials = g("u"), 3000
    for _ in range(trials):
        counts[select.coverage(score, budget=4, bins=2, generator=generator).index] += 1
    want = torch.tensor([2 / 6] * 6 + [2 / 3] * 3)
    error = (want * (1 - want) / trials).sqrt()
    assert ((counts / trials - want).abs() <= 4 * error).all(), counts / trials
    complete = select.coverage(score, budget=9, bins=2, generator=g("n")).index
    for budget in range(1, 9):
        assert torch.equal(select.coverage(score, budget=budget, bins=2, generator=g("n")).index, complete[:budget])


@pytest.mark.parametrize(("end", "suspects"), [("low", {0, 1}), ("high", {8, 9})])
def test_coverage_cuts_the_hard_end_first(end, suspects):
    got = select.coverage(torch.arange(10.0), budget=8, cutoff=0.2, end=end, generator=g("c"))
    assert {i for i, word in enumerate(reasons(got)) if word == "suspect"} == suspects
    assert suspects.isdisjoint(got.index.tolist())
    assert len(got) == 8


def test_coverage_states_its_capacity():
    with pytest.raises(CapacityError, match=r"at most 7 of 10 examples, since cutoff=0\.3 .* got budget=8") as caught:
        select.coverage(torch.rand(10), budget=8, cutoff=0.3, generator=g("c"))
    assert caught.value.capacity == 7


# ---- what was never seen


def cases_with_nan():
    score = torch.tensor([0.1, NAN, 0.3, 0.4, NAN, 0.6])
    mu = torch.tensor([0.5, 0.5, 0.5, NAN, 0.5, 0.5])
    labels = [0, 0, 0, 1, 1, 1]
    return {
        "top": (lambda k: select.top(score, budget=k, missing="skip"), {1, 4}),
        "beta": (lambda k: select.beta(score, mu, budget=k, generator=g(), missing="skip"), {1, 3, 4}),
        "coverage": (lambda k: select.coverage(score, budget=k, generator=g(), missing="skip"), {1, 4}),
        "per_class": (
            lambda k: select.per_class(select.top)(score, labels=labels, budget=k, missing="skip"),
            {1, 4},
        ),
    }


@pytest.mark.parametrize("name", cases_with_nan())
def test_the_unscored_are_never_chosen(name):
    choose, unscored = cases_with_nan()[name]
    for budget in range(1, 7 - len(unscored)):
        got = choose(budget)
        assert len(got) == budget
        assert {i for i, word in enumerate(reasons(got)) if word == "unscored"} == unscored
        assert unscored.isdisjoint(got.index.tolist())
    with pytest.raises(CapacityError, match=f"at most {6 - len(unscored)}"):
        choose(7 - len(unscored))


def test_cutoff_counts_only_the_scored():
    score = torch.tensor([NAN, NAN, 0.0, 1.0, 2.0, 3.0])
    got = select.coverage(score, budget=2, cutoff=0.5, generator=g(), missing="skip")
    assert reasons(got) == ["unscored", "unscored", "suspect", "suspect", "drawn", "drawn"]


# ---- per_class


def test_per_class_keeps_each_class_share():
    labels = torch.tensor([0] * 50 + [1] * 30 + [3] * 20)  # no class 2
    score = torch.rand(100, generator=g("s"))
    for budget in (1, 2, 10, 33, 99, 100):
        got = select.per_class(select.top)(score, labels=labels, budget=budget)
        sizes = torch.bincount(labels[got.index], minlength=4)
        assert int(sizes.sum()) == budget
        assert ((sizes - torch.tensor([0.5, 0.3, 0, 0.2]) * budget).abs() < 1).all()
    got = select.per_class(select.top)(score, labels=labels, budget=10)
    for c in (0, 1, 3):
        ids = torch.nonzero(labels == c).flatten()
        mine = [i for i in got.index.tolist() if labels[i] == c]
        assert mine == ids[score[ids].argsort(descending=True)][: len(mine)].tolist()
    assert set(reasons(got)) == {"ranked", "below_cut"}


def test_per_class_prefixes_are_balanced():
    labels = torch.arange(100) % 2
    got = select.per_class(select.random)(labels, labels=labels, budget=40, generator=g("b"))
    for m in (2, 10, 20):
        assert int(labels[got.index[:m]].sum()) == m // 2


def test_per_class_slices_the_axis_of_examples_and_hands_on_options():
    labels = torch.tensor([0, 1, 0] * 20)
    p = torch.rand(7, 60, generator=g("p"))
    seen = {}

    def spy(dual, p_label, features, *, budget, generator, c_d):
        seen[budget, int(p_label.shape[1])] = (p_label.clone(), features.clone(), c_d, generator.initial_seed())
        return select.beta(dual, p_label, budget=budget, generator=generator, c_d=c_d)

    features = torch.rand(60, 4)
    select.per_class(spy)(torch.rand(60), p, features, labels=labels, budget=21, generator=g("x"), c_d=3)
    first, second = seen[14, 40], seen[7, 20]
    assert torch.equal(first[0], p[:, labels == 0])
    assert torch.equal(second[0], p[:, 1::3])
    assert torch.equal(second[1], features[1::3])
    assert first[2] == 3
    assert first[3] != second[3], "classes must not share a stream"


def test_per_class_draws_of_a_class_do_not_depend_on_the_others():
    labels = torch.tensor([0] * 10 + [1] * 10)
    balanced = select.per_class(select.random)
    one = balanced(labels, labels=labels, budget=8, generator=g("x")).index
    more_labels = torch.cat([labels, torch.full((10,), 2)])
    two = balanced(more_labels, labels=more_labels, budget=12, generator=g("x")).index
    assert one[one < 10].tolist() == two[two < 10].tolist()
    assert one[one >= 10].tolist() == two[(two >= 10) & (two < 20)].tolist()


def test_per_class_respects_what_a_class_can_give():
    """Class 0 has only 2 scored examples of 10: class 1 takes what it cannot."""
    score = torch.rand(20, generator=g("s"))
    score[2:10] = NAN
    labels = [0] * 10 + [1] * 10
    got = select.per_class(select.top)(score, labels=labels, budget=10, missing="skip")
    assert (got.index < 10).sum() == 2
    assert len(got) == 10
    cut = select.per_class(select.coverage)(
        torch.rand(20, generator=g("s")), labels=labels, budget=10, cutoff=0.5, generator=g("c")
    )
    assert torch.bincount(cut.index // 10).tolist() == [5, 5]
    assert reasons(cut).count("suspect") == 10
    with pytest.raises(CapacityError, match=r"budget=11, but the classes can give at most 10 .*\[5, 5\]"):
        select.per_class(select.coverage)(torch.rand(20), labels=labels, budget=11, cutoff=0.5, generator=g("c"))


def test_per_class_errors_speak_of_the_users_ids():
    score = torch.rand(10)
    score[7] = NAN
    with pytest.raises(ArgumentError, match="score is nan for example 7"):
        select.per_class(select.top)(score, labels=[0, 1] * 5, budget=2)
    with pytest.raises(ArgumentError, match="score is about 9 examples, but labels about 10"):
        select.per_class(select.top)(torch.rand(9), labels=[0, 1] * 5, budget=2)
    with pytest.raises(ArgumentError, match="labels must be integer class ids"):
        select.per_class(select.top)(torch.rand(4), labels=[0.0, 1, 0, 1], budget=2)
    with pytest.raises(ArgumentError, match="generator must be a torch"):
        select.per_class(select.random)([0, 1], labels=[0, 1], budget=1)
    with pytest.raises(ArgumentError, match="score must have an axis of examples"):
        select.per_class(select.top)(torch.tensor(0.5), labels=[0, 1], budget=1)


def test_per_class_has_the_card_of_what_it_wraps():
    wrapped = select.per_class(select.beta)
    assert wrapped.card.key == "per_class_beta"
    assert wrapped.card.needs == ("dual", "p_label")
    assert "labels" in wrapped.card.takes
    assert "c_d" in wrapped.card.options
