"""The table of published settings, entry by entry, and the class budgets of D2 as its code divides them."""

import pytest
import torch

from datawinnow.core.rng import stream
from datawinnow.methods import METHODS

KEEPS = (0.7, 0.5, 0.3, 0.2, 0.1)
CCS_CUTOFFS = (0.0, 0.0, 0.1, 0.1, 0.3)
TOP_SCORES = {  # score kept by `top` and which end of it, None where another selector decides
    "forgetting": "high", "dyn_unc": "high", "el2n": "high", "aum": "low", "entropy": "high", "aum_softmax": "low",
    "margin": "low", "least_confidence": "high", "loss": "high", "tdds": "high", "grand_last": "high",
    "grand_full": "high", "slo_curves": "low", "dual": "high", "forgetting_zero": "high",
}  # fmt: skip
SELECTORS = {
    "random": "random", "dual_beta": "beta", "ccs": "coverage", "moderate": "middle", "d2": "d2", "boss": "boss",
    "herding": "herding", "k_center": "k_center", "k_center_robust": "k_center", "facility_location":
    "facility_location", "graph_cut": "graph_cut", "log_det": "log_det", "craig": "craig", "grad_match": "grad_match",
    "glister": "glister", "contextual_diversity": "contextual_diversity", "cal": "cal",
}  # fmt: skip
SCORES = {"ccs": "aum_softmax", "moderate": "moderate", "d2": "forgetting", "boss": "el2n", "dual_beta": "dual",
          "slo_curves": "curvature", "forgetting_zero": "forgetting"}  # fmt: skip
PER_CLASS = {
    "slo_curves", "d2", "boss", "herding", "k_center", "k_center_robust", "facility_location", "graph_cut", "log_det",
    "craig", "grad_match", "glister",
}  # fmt: skip


@pytest.mark.parametrize("key", TOP_SCORES)
def test_scores_are_kept_at_the_end_of_their_papers(key):
    method = METHODS[key]
    assert method.selector_card.key == "top"
    assert method.score_card.key == SCORES.get(key, key)
    assert method.selector_options(0.3)["end"] == TOP_SCORES[key]


@pytest.mark.parametrize("key", SELECTORS)
def test_selectors_are_those_of_the_papers(key):
    assert METHODS[key].selector_card.key == SELECTORS[key]
    assert METHODS[key].score_card is None or METHODS[key].score_card.key == SCORES[key]


def test_balanced_are_those_that_their_papers_balance():
    assert {key for key, method in METHODS.items() if method.per_class} == PER_CLASS
    assert {key for key, method in METHODS.items() if method.class_split == "equal"} == {"d2"}


def test_what_is_cut_off_and_where():
    for keep, cutoff in zip(KEEPS, CCS_CUTOFFS, strict=True):
        assert METHODS["ccs"].selector_options(keep)["cutoff"] == pytest.approx(cutoff)
        assert METHODS["boss"].at(keep).cutoff == pytest.approx(cutoff)
        assert METHODS["d2"].at(keep).cutoff == pytest.approx(0.4 if keep == 0.1 else cutoff)
        windows = {0.7: (90, 10), 0.5: (70, 10), 0.3: (60, 20), 0.2: (20, 10), 0.1: (10, 5)}[keep]
        tdds = METHODS["tdds"].at(keep)
        assert (tdds.epochs, tdds.score_options["window"]) == windows
    assert METHODS["ccs"].selector_options(0.1)["end"] == "low"
    assert {key for key, method in METHODS.items() if method.has_cutoff} == {"d2", "boss"}
    assert METHODS["boss"].cutoff_in_class
    assert not METHODS["d2"].cutoff_in_class


def test_options_are_those_of_the_papers():
    never_learned = {"never_learned": "zero"}
    assert METHODS["d2"].score_options == METHODS["forgetting_zero"].score_options == never_learned
    assert METHODS["forgetting"].score_options == {}
    assert METHODS["grad_match"].selector_card.options["lam"] == 0.5
    d2 = METHODS["d2"].selector_card.options
    assert (d2["neighbours"], d2["gamma"], d2["gamma_forward"], d2["power"]) == (5, 0.1, 1.0, 1)
    assert METHODS["ccs"].selector_card.options["bins"] == 50
    assert METHODS["k_center"].options == {"first": "mean"}
    assert METHODS["k_center_robust"].options == {"first": "mean", "outliers": 1}


@pytest.mark.parametrize("key", ["d2", "boss", "ccs"])
def test_the_lowest_are_by_probabilities(key):
    n, rng = 60, stream(0, "x")
    labels = torch.arange(n) % 3
    score = torch.rand(6, n, generator=rng) * 2 - 1
    arrays = {
        "margin_softmax": score,
        "margin": -score,  # the other way round, were it read
        "correct": torch.rand(6, n, generator=rng) < 0.5,
        "error_norm": torch.rand(6, n, generator=rng),
        "features": torch.randn(n, 3, generator=rng),
    }
    selection, _ = METHODS[key].run(arrays, labels, keep=0.1, generator=stream(0, "select"))
    suspects = torch.nonzero(selection.reason == 12).flatten()
    lowest = score.mean(0).argsort()
    if key == "boss":
        lowest = torch.cat([lowest[labels[lowest] == c][:6] for c in range(3)])
    assert set(suspects.tolist()) == set(lowest[: {"d2": 24, "ccs": 18, "boss": 18}[key]].tolist())


def uniform_budgets(total, sizes):
    """The authors' division: from the smallest class up an equal part of what is left, the rest to the largest."""
    out, order = [0] * len(sizes), sorted(range(len(sizes)), key=lambda c: sizes[c])
    order = [c for c in order if sizes[c]]
    for place, c in enumerate(order):
        out[c] = min(sizes[c], total // (len(order) - place))
        total -= out[c]
    for c in reversed(order):
        if total and out[c] < sizes[c]:
            out[c] += 1
            total -= 1
    return out


@pytest.mark.parametrize("keep", [0.1, 0.2, 0.3])
def test_after_the_cut_every_class_gets_the_same_budget_in_d2(keep):
    n, classes, rng = 400, 5, stream(0, "d2")
    labels = torch.arange(n) * classes // n
    margin = (torch.rand(4, n, generator=rng) - 0.2 * labels).clamp(-1, 1)  # the higher classes are harder
    arrays = {"margin_softmax": margin, "correct": margin > 0, "features": torch.randn(n, 4, generator=rng)}
    selection, _ = METHODS["d2"].run(arrays, labels, keep=keep, generator=stream(0, "select"))
    left = labels[selection.reason != 12]
    sizes = torch.bincount(left, minlength=classes).tolist()
    assert torch.bincount(labels[selection.index], minlength=classes).tolist() == uniform_budgets(
        round(keep * n), sizes
    )
