"""AUM on probabilities."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.epochs import mean_over_epochs


@card(
    "score",
    "AUM (softmax)",
    "Zheng et al. 2023, Coverage-centric Coreset Selection for High Pruning Rates, arXiv 2210.15809 (its code), after "
    "Pleiss et al. 2020, arXiv 2001.10528, equation 2",
    cost="time O(epochs * n), memory O(n)",
    end="low",
)
def aum_softmax(margin_softmax: Any, *, missing: Missing = "raise") -> Tensor:
    """Examples whose label loses against another class throughout training score low, on probabilities.

    ``aum_softmax = mean over epochs t of (P_t[label] - max over other classes c of P_t[c])``. This is the area under
    the margin that the CCS and D2 code computes (there a sum, which ranks the same); `aum` is the paper's own, on
    logits. Low is kept as a pruning score; the score lies in [-1, 1].

    Args:
        margin_softmax: (epochs, n) float, probability of the label minus that of the best other class.
        missing: ``"raise"``, or ``"skip"`` to average over the epochs in which the example was seen.

    Returns:
        (n,) float32 (float64 if ``margin_softmax`` is), probability; NaN for an example never seen under ``"skip"``.

    Raises:
        ArgumentError: NaN or infinity, or another shape.

    References:
        Zheng et al. 2023, arXiv 2210.15809; Pleiss et al. 2020, arXiv 2001.10528, equation 2.

    >>> aum_softmax([[0.5, -0.75], [1.0, -0.25]]).tolist()
    [0.75, -0.5]
    """
    return mean_over_epochs(check.array("margin_softmax", margin_softmax, "epochs,n"), "margin_softmax", missing)
