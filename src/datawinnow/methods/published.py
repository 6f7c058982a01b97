"""Methods as people name them, with the settings that were published for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import Tensor

from datawinnow.core.selection import Selection

T = TypeVar("T")


@dataclass(frozen=True)
class Method:
    """A static pruning method: what to score by and how to select.

    Attributes:
        key: name on the command line and in files.
        label: name for people.
        score: name of a score, or a callable; None if the selector needs none.
        selector: name of a selector, or a callable.
        score_options: keyword arguments of the score, and of the probe that makes its arrays.
        options: keyword arguments of the selector.
        options_at: more of them, a function of the fraction kept (published settings by pruning rate).
        per_class: whether the budget is split over the classes.
        score_options_at: more keyword arguments of the score, a function of the fraction kept.
        epochs: how many of the recorded epochs the method reads at most, or a function of the fraction kept that says
            so; None for all.
        cutoff: fraction of the examples of lowest AUM that is dropped before the selector sees the rest, or a function
            of the fraction kept that gives it.
        cutoff_in_class: whether that fraction is of every class, and not of all examples.
        embedding: ``hf:PATH`` of a model whose sentence embeddings are the ``features``; None for the recorded
            network's.
    """

    key: str
    label: str
    score: str | Callable[..., Tensor] | None
    selector: str | Callable[..., Selection]
    score_options: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    options_at: Callable[[float], dict[str, Any]] | None = None
    per_class: bool = False
    score_options_at: Callable[[float], dict[str, Any]] | None = None
    epochs: int | Callable[[float], int] | None = None
    cutoff: float | Callable[[float], float] = 0.0
    cutoff_in_class: bool = False
    embedding: str | None = None

    def at(self, keep: float) -> Method:
        """The method with its settings for this fraction kept; what was set by hand stays."""
        return replace(
            self,
            options={**(self.options_at(keep) if self.options_at else {}), **self.options},
            score_options={**(self.score_options_at(keep) if self.score_options_at else {}), **self.score_options},
            epochs=self.epochs(keep) if callable(self.epochs) else self.epochs,
            cutoff=self.cutoff(keep) if callable(self.cutoff) else self.cutoff,
            options_at=None,
            score_options_at=None,
        )


def nearest(published: Mapping[float, T], keep: float) -> T:
    """What was published for the fraction kept that is nearest to ``keep``.

    >>> nearest({0.3: "a", 0.1: "b"}, 0.15)
    'b'
    """
    return published[min(published, key=lambda k: abs(k - keep))]


def lowest_aum(keep: float) -> float:
    """Fraction of lowest AUM that CCS drops on CIFAR-10 (static.md 4.1), and BOSS of every class (4.4)."""
    return min(nearest({0.7: 0.0, 0.5: 0.0, 0.3: 0.1, 0.2: 0.1, 0.1: 0.3}, keep), max(0.0, 1 - keep))


def d2_cutoff(keep: float) -> float:
    """Fraction of lowest AUM that D2 drops: 0.4 at keep 0.1 (its README; static.md 4.3).

    Its table for other rates was not found; CCS, whose code base it is, stands in there.
    """
    return min(0.4, 1 - keep) if keep <= 0.1 else lowest_aum(keep)


def ccs_cutoff(keep: float) -> dict[str, Any]:
    """Hard cutoff of CCS on CIFAR-10 by fraction kept (static.md 4.1), from the nearest published pruning rate."""
    return {"cutoff": lowest_aum(keep), "end": "low"}


TDDS_WINDOWS = {0.7: (90, 10), 0.5: (70, 10), 0.3: (60, 20), 0.2: (20, 10), 0.1: (10, 5)}
"""Epochs read and window of TDDS by fraction kept, on CIFAR (static.md 4.2)."""
ZERO = {"never_learned": "zero"}
MEAN = {"first": "mean"}

METHODS: dict[str, Method] = {
    m.key: m
    for m in (
        Method("random", "random", None, "random"),
        Method("dual_beta", "DUAL+Beta", "dual", "beta"),
        Method("dual", "DUAL", "dual", "top"),
        Method("dyn_unc", "Dyn-Unc", "dyn_unc", "top"),
        Method("forgetting", "forgetting", "forgetting", "top"),
        Method("el2n", "EL2N", "el2n", "top"),
        Method("aum", "AUM", "aum", "top"),
        Method("entropy", "entropy", "entropy", "top"),
        Method("ccs", "CCS", "aum", "coverage", options_at=ccs_cutoff),
        # from the recording
        Method("aum_softmax", "AUM (softmax)", "aum_softmax", "top"),
        Method("margin", "margin", "margin", "top"),
        Method("least_confidence", "least confidence", "least_confidence", "top"),
        Method("loss", "loss", "loss", "top"),
        Method("forgetting_zero", "forgetting (never learned = 0)", "forgetting", "top", score_options=ZERO),
        Method(
            "tdds",
            "TDDS",
            "tdds",
            "top",
            score_options_at=lambda keep: {"window": nearest(TDDS_WINDOWS, keep)[1]},
            epochs=lambda keep: nearest(TDDS_WINDOWS, keep)[0],
        ),
        # from a pass over the recorded network as it is after the last epoch. GraNd's paper takes the mean of ten runs
        # early in training: scores.over_runs does that with networks of your own
        Method("grand_last", "GraNd (last layer)", "grand_last", "top"),
        Method("grand_full", "GraNd", "grand_full", "top"),
        Method("slo_curves", "SLo-Curves", "curvature", "top", per_class=True),
        Method("moderate", "Moderate", "moderate", "middle"),
        Method("prototypes", "prototypes (SSP)", "prototypes", "top"),
        Method("deepfool", "DeepFool", "deepfool", "top"),
        # its code leaves examples that were never learned at 0 (static.md 4)
        Method("d2", "D2", "forgetting", "d2", score_options=ZERO, per_class=True, cutoff=d2_cutoff),
        Method("boss", "BOSS", "el2n", "boss", per_class=True, cutoff=lowest_aum, cutoff_in_class=True),
        # class by class as the condensation papers and DeepCore do it (condense.md 1.1, 1.2)
        Method("herding", "herding", None, "herding", per_class=True),
        Method("k_center", "k-center", None, "k_center", options=MEAN, per_class=True),
        Method(
            "k_center_robust", "k-center (robust)", None, "k_center", options={**MEAN, "outliers": 1}, per_class=True
        ),
        Method("facility_location", "facility location", None, "facility_location", per_class=True),
        Method("graph_cut", "graph cut", None, "graph_cut", per_class=True),
        Method("log_det", "log-determinant", None, "log_det", per_class=True),
        Method("craig", "CRAIG", None, "craig", per_class=True),
        Method("grad_match", "GradMatch", None, "grad_match", per_class=True),
        # class by class as DeepCore's balanced mode, but by the held-out loss of all classes
        Method("glister", "GLISTER", None, "glister", per_class=True),
        # among all examples, as their papers do it
        Method("contextual_diversity", "contextual diversity", None, "contextual_diversity"),
        Method("cal", "CAL", None, "cal"),
    )
}
