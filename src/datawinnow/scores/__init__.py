"""Scores: pure functions ``f(array, ..., *, option=...) -> (n,)``, one per file; `over_runs` wraps any of them.

A new score takes its file, its import below and its test.
"""

from datawinnow.core.card import collect
from datawinnow.scores.aum import aum
from datawinnow.scores.aum_softmax import aum_softmax
from datawinnow.scores.curvature import curvature
from datawinnow.scores.deepfool import deepfool
from datawinnow.scores.dual import dual
from datawinnow.scores.dyn_unc import dyn_unc
from datawinnow.scores.el2n import el2n
from datawinnow.scores.entropy import entropy
from datawinnow.scores.forgetting import forgetting
from datawinnow.scores.grand_full import grand_full
from datawinnow.scores.grand_last import grand_last
from datawinnow.scores.least_confidence import least_confidence
from datawinnow.scores.loss import loss
from datawinnow.scores.margin import margin
from datawinnow.scores.memorization import memorization, memorization_error
from datawinnow.scores.moderate import moderate
from datawinnow.scores.prototypes import prototypes
from datawinnow.scores.tdds import tdds
from datawinnow.scores.wrap import OverRuns, over_runs

METHODS = collect(globals())

__all__ = [
    "METHODS",
    "OverRuns",
    "aum",
    "aum_softmax",
    "curvature",
    "deepfool",
    "dual",
    "dyn_unc",
    "el2n",
    "entropy",
    "forgetting",
    "grand_full",
    "grand_last",
    "least_confidence",
    "loss",
    "margin",
    "memorization",
    "memorization_error",
    "moderate",
    "over_runs",
    "prototypes",
    "tdds",
]
