"""Entropy of the prediction."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.scores.inputs import at_epoch


@card(
    "score",
    "entropy",
    "Coleman et al. 2020, Selection via Proxy, arXiv 1906.11829, section 2",
    cost="time O(n), memory O(n)",
    end="high",
)
def entropy(entropy: Any, *, epoch: int = -1, missing: Missing = "raise") -> Tensor:
    """Examples with an uncertain prediction score high.

    ``entropy = - sum over classes c of P(c) log P(c)`` at one epoch, by default the last. It does not use
    the label. High is worth keeping.

    Args:
        entropy: (epochs, n) float, entropy of the softmax in each epoch, nats.
        epoch: index of the epoch, from the end if negative.
        missing: ``"raise"``, or ``"skip"`` to let an example not seen in that epoch have NaN.

    Returns:
        (n,) float32 (float64 if ``entropy`` is), nats; NaN for an example not seen in that epoch under ``"skip"``.

    Raises:
        ArgumentError: an epoch out of range, NaN or infinity in it, or another shape.

    References:
        Coleman et al. 2020, arXiv 1906.11829, section 2.

    >>> entropy([[0.7, 0.6], [0.5, 0.0]]).tolist()
    [0.5, 0.0]
    """
    return at_epoch("entropy", check.array("entropy", entropy, "epochs,n"), epoch, missing)
