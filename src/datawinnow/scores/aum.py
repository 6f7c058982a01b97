"""AUM: the area under the margin."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.epochs import mean_over_epochs


@card(
    "score",
    "AUM",
    "Pleiss et al. 2020, Identifying Mislabeled Data using the Area Under the Margin Ranking, arXiv 2001.10528, "
    "equation 2",
    cost="time O(epochs * n), memory O(n)",
    end="low",
)
def aum(margin: Any, *, missing: Missing = "raise") -> Tensor:
    """Examples whose label loses against another class throughout training score low.

    ``aum = mean over epochs t of (z_t[label] - max over other classes c of z_t[c])``, on logits. The lowest are likely
    mislabelled, the low ones hard, the high ones easy; as a pruning score the low end is kept (the CCS baseline).
    ``margin_softmax`` gives the variant of the CCS code.

    Args:
        margin: (epochs, n) float, label logit minus the best other logit.
        missing: ``"raise"``, or ``"skip"`` to average over the epochs in which the example was seen.

    Returns:
        (n,) float32 (float64 if ``margin`` is), unit of logits; NaN for an example never seen under ``"skip"``.

    Raises:
        ArgumentError: NaN or infinity, or another shape.

    References:
        Pleiss et al. 2020, arXiv 2001.10528, equation 2.

    >>> aum([[2.0, -3.0], [4.0, -1.0]]).tolist()
    [3.0, -2.0]
    """
    return mean_over_epochs(check.array("margin", margin, "epochs,n"), "margin", missing)
