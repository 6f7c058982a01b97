"""Methods under the names and settings that their papers give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor

from datawinnow import scores, select
from datawinnow.core.arrays import is_recorded
from datawinnow.core.card import card_of
from datawinnow.methods.method import Method
from datawinnow.probe import is_probed

PublishedT = TypeVar("PublishedT")


def nearest_keep(published: Mapping[float, PublishedT], keep: float) -> PublishedT:
    """The setting published for the fraction kept that is nearest to ``keep``.

    >>> nearest_keep({0.3: "a", 0.1: "b"}, 0.15)
    'b'
    """
    return published[min(published, key=lambda k: abs(k - keep))]


def lowest_aum(keep: float) -> float:
    """Fraction of lowest AUM that CCS drops on CIFAR-10, and BOSS in every class."""
    # at most what is dropped anyway
    return min(nearest_keep({0.7: 0.0, 0.5: 0.0, 0.3: 0.1, 0.2: 0.1, 0.1: 0.3}, keep), max(0.0, 1 - keep))


def d2_cutoff(keep: float) -> float:
    """Fraction of lowest AUM that D2 drops: 0.4 at keep 0.1 (README of the authors' code).

    No table for other rates is published; those of CCS, whose code D2 builds on, are used there.
    """
    # at most what is dropped anyway
    return min(0.4, 1 - keep) if keep <= 0.1 else lowest_aum(keep)


TDDS_WINDOWS = {0.7: (90, 10), 0.5: (70, 10), 0.3: (60, 20), 0.2: (20, 10), 0.1: (10, 5)}
"""Number of epochs read and window of TDDS by fraction kept, on CIFAR."""
NEVER_LEARNED_ZERO = {"never_learned": "zero"}
FIRST_MEAN = {"first": "mean"}

LISTED: tuple[Method | Callable[..., Tensor], ...] = (
    Method("random", "random", None, select.random),
    Method("dual_beta", "DUAL+Beta", scores.dual, select.beta),
    scores.dual,
    scores.dyn_unc,
    scores.forgetting,
    scores.el2n,
    scores.aum,
    scores.entropy,
    Method(
        # on probabilities, as the code of the published figures; score=aum is the definition of its source, on logits
        "ccs",
        "CCS",
        scores.aum_softmax,
        select.coverage,
        options_at=lambda keep: {"cutoff": lowest_aum(keep), "end": "low"},
    ),
    scores.aum_softmax,
    scores.margin,
    scores.least_confidence,
    scores.loss,
    Method(
        "forgetting_zero",
        "forgetting (never learned = 0)",
        scores.forgetting,
        select.top,
        score_options=NEVER_LEARNED_ZERO,
    ),
    Method(
        "tdds",
        "TDDS",
        scores.tdds,
        select.top,
        score_options_at=lambda keep: {"window": nearest_keep(TDDS_WINDOWS, keep)[1]},
        epochs=lambda keep: nearest_keep(TDDS_WINDOWS, keep)[0],
    ),
    # The paper of GraNd takes the mean of ten runs early in training (`scores.over_runs` does that); here the norms
    # are those of the recorded network after its last epoch.
    scores.grand_last,
    scores.grand_full,
    Method("slo_curves", "SLo-Curves", scores.curvature, select.top, per_class=True),
    Method("moderate", "Moderate", scores.moderate, select.middle),
    scores.prototypes,
    scores.deepfool,
    # the authors' code leaves examples that were never learned at 0, and gives classes equal budgets after the cut
    Method(
        "d2",
        "D2",
        scores.forgetting,
        select.d2,
        score_options=NEVER_LEARNED_ZERO,
        per_class=True,
        class_split="equal",
        cutoff=d2_cutoff,
    ),
    Method("boss", "BOSS", scores.el2n, select.boss, per_class=True, cutoff=lowest_aum, cutoff_in_class=True),
    # class by class, as the condensation papers and DeepCore do it
    Method("herding", "herding", None, select.herding, per_class=True),
    Method("k_center", "k-center", None, select.k_center, options=FIRST_MEAN, per_class=True),
    Method(
        "k_center_robust",
        "k-center (robust)",
        None,
        select.k_center,
        options={**FIRST_MEAN, "outliers": 1},
        per_class=True,
    ),
    Method("facility_location", "facility location", None, select.facility_location, per_class=True),
    Method("graph_cut", "graph cut", None, select.graph_cut, per_class=True),
    Method("log_det", "log-determinant", None, select.log_det, per_class=True),
    Method("craig", "CRAIG", None, select.craig, per_class=True),
    Method("grad_match", "GradMatch", None, select.grad_match, per_class=True),
    # class by class as DeepCore's balanced mode, but by the held-out loss of all classes
    Method("glister", "GLISTER", None, select.glister, per_class=True),
    # among all examples, as their papers do it
    Method("contextual_diversity", "contextual diversity", None, select.contextual_diversity),
    Method("cal", "CAL", None, select.cal),
)
"""Methods with published settings, and scores kept by `top`, in the order shown to users.

A score that is not listed gets an entry at the end.
"""


def _unlisted_scores() -> list[Callable[..., Tensor]]:
    """Scores that no entry of `LISTED` uses and whose arrays a recording or its network makes."""
    used = [entry.score if isinstance(entry, Method) else entry for entry in LISTED]
    return [
        score
        for score in scores.METHODS.values()
        if score not in used
        and all(need == "labels" or is_recorded(need) or is_probed(need) for need in card_of(score).needs)
    ]


METHODS: dict[str, Method] = {
    method.key: method
    for method in (
        entry if isinstance(entry, Method) else Method.from_score(entry) for entry in (*LISTED, *_unlisted_scores())
    )
}
"""Methods by key."""
