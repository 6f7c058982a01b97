"""Margin between the two likeliest classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.scores.inputs import at_epoch


@card(
    "score",
    "margin",
    "Coleman et al. 2020, Selection via Proxy, arXiv 1906.11829, section 2; as in Guo et al. 2022, DeepCore, "
    "arXiv 2204.08499 (uncertainty-based methods)",
    cost="time O(n), memory O(n)",
    end="low",
)
def margin(margin_top2: Any, *, epoch: int = -1, missing: Missing = "raise") -> Tensor:
    """Examples for which two classes are about as likely score low.

    ``margin = P(first) - P(second)`` of the two likeliest classes at one epoch, by default the last. It
    does not use the label. Low is worth keeping; the score lies in [0, 1]. (AUM is the mean over epochs of another
    margin, that of the label.)

    Args:
        margin_top2: (epochs, n) float, probability of the likeliest class minus that of the second.
        epoch: index of the epoch, from the end if negative.
        missing: ``"raise"``, or ``"skip"`` to let an example not seen in that epoch have NaN.

    Returns:
        (n,) float32 (float64 if ``margin_top2`` is), probability; NaN for an example not seen in that epoch under
        ``"skip"``.

    Raises:
        ArgumentError: an epoch out of range, NaN or infinity in it, or another shape.

    References:
        Coleman et al. 2020, arXiv 1906.11829, section 2; Guo et al. 2022, arXiv 2204.08499.

    >>> margin([[0.25, 0.5], [0.5, 0.0]]).tolist()
    [0.5, 0.0]
    """
    return at_epoch("margin_top2", check.array("margin_top2", margin_top2, "epochs,n"), epoch, missing)
