"""The loss at an epoch, or its mean over epochs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.epochs import mean_over_epochs
from datawinnow.core.errors import ArgumentError
from datawinnow.scores.inputs import at_epoch, epoch_range


@card(
    "score",
    "loss",
    "Loshchilov and Hutter 2016, Online Batch Selection for Faster Training of Neural Networks, arXiv 1511.06343, "
    "section 3",
    cost="time O((last - first) * n), memory O(n)",
    end="high",
)
def loss(
    loss: Any, *, epoch: int = -1, first: int | None = None, last: int | None = None, missing: Missing = "raise"
) -> Tensor:
    """Examples that the network gets wrong with confidence score high.

    ``loss = - log P(label)`` at one epoch, by default the last, or its mean over epochs t in
    [first, last). High is worth keeping, as far as labels can be trusted: the mislabelled come first of all.

    Args:
        loss: (epochs, n) float, cross-entropy in each epoch, nats.
        epoch: index of the epoch, from the end if negative; not beside ``first`` or ``last``.
        first: first epoch of a mean, from 0; 0 if only ``last`` is given.
        last: the epoch after the last of a mean; the end of the recording if only ``first`` is given.
        missing: ``"raise"``, or ``"skip"`` to average over the epochs in which the example was seen.

    Returns:
        (n,) float32 (float64 if ``loss`` is), nats; NaN for an example not seen in those epochs under ``"skip"``.

    Raises:
        ArgumentError: epochs out of range, ``epoch`` beside a range, NaN or infinity, or another shape.

    References:
        Loshchilov and Hutter 2016, arXiv 1511.06343, section 3.

    >>> loss([[1.0, 3.0], [0.5, 2.0]]).tolist(), loss([[1.0, 3.0], [0.5, 2.0]], first=0).tolist()
    ([0.5, 2.0], [0.75, 2.5])
    """
    nats = check.array("loss", loss, "epochs,n")
    if first is None and last is None:
        return at_epoch("loss", nats, epoch, missing)
    # An explicit -1 cannot be distinguished from the default, and is ignored beside a range.
    if epoch != -1:
        raise ArgumentError(f"give either epoch= or first= and last=, got epoch={epoch}, first={first}, last={last}")
    span = epoch_range("loss", nats, 0 if first is None else first, 10**9 if last is None else last)
    return mean_over_epochs(span, "loss", missing)
