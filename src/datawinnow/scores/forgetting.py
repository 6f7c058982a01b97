"""Forgetting events: how often an example that was right becomes wrong."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.epochs import blocks
from datawinnow.core.errors import ArgumentError


@card(
    "score",
    "Forgetting",
    "Toneva et al. 2019, An Empirical Study of Example Forgetting during Deep Neural Network Learning, "
    "arXiv 1812.05159, section 3",
    cost="time O(epochs * n), memory O(n)",
    end="high",
)
def forgetting(
    correct: Any, seen: Any = None, *, never_learned: Literal["max", "zero"] = "max", missing: Missing = "raise"
) -> Tensor:
    """Examples forgotten often, and those never learned, score high.

    ``forgetting = number of epochs t with correct[t-1] = 1 and correct[t] = 0``. An example that was never right has
    no such epoch; Toneva et al. rank it above all others, which is the default here. High is worth keeping.

    Args:
        correct: (epochs, n) bool or 0 and 1, whether the arg-max was the label; NaN counts as not seen.
        seen: (epochs, n) bool or 0 and 1, whether the example was seen in the epoch; None for always.
        never_learned: ``"max"`` gives an example that was never right the number of epochs, more than any count can
            be; ``"zero"`` leaves it at 0, as the CCS, D2 and DeepCore code does, which calls it the easiest.
        missing: ``"raise"``, or ``"skip"`` to compare each epoch with the last one in which the example was seen.

    Returns:
        (n,) float32, events; NaN for an example never seen under ``"skip"``.

    Raises:
        ArgumentError: values other than 0 and 1, shapes that differ, or an epoch not seen (unless ``"skip"``).

    References:
        Toneva et al. 2019, arXiv 1812.05159, section 3; static.md 4.

    >>> forgetting([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]]).tolist()
    [2.0, 4.0, 0.0]
    """
    check.one_of("never_learned", never_learned, ("max", "zero"))
    right, there = _right_and_seen(correct, seen)
    epochs, n = right.shape
    if there is not None:
        _all_seen(there, missing)
    out = torch.empty(n, dtype=torch.float32)
    for first, last in blocks(n, 1 << 17):
        events = torch.zeros(last - first, dtype=torch.int32)
        was = torch.zeros(last - first, dtype=torch.bool)  # right when last seen
        ever = torch.zeros_like(was)
        met = torch.zeros_like(was)
        for epoch in range(epochs):
            now = right[epoch, first:last]
            here = torch.ones_like(was) if there is None else there[epoch, first:last]
            events += was & here & ~now
            was = torch.where(here, now, was)
            ever |= here & now
            met |= here
        score = events.to(torch.float32)
        if never_learned == "max":
            score[~ever] = float(epochs)
        score[~met] = float("nan")
        out[first:last] = score
    return out


def _right_and_seen(correct: Any, seen: Any) -> tuple[Tensor, Tensor | None]:
    there = None if seen is None else check.bits("seen", seen, "epochs,n")
    raw = check.as_tensor("correct", correct)
    if raw.is_floating_point():
        nan = raw.isnan()
        if bool(nan.any()):
            there = ~nan if there is None or there.shape != nan.shape else there & ~nan
            raw = torch.where(nan, 0.0, raw)
    right = check.bits("correct", raw, "epochs,n")
    if there is not None and there.shape != right.shape:
        raise ArgumentError(f"seen must have the shape of correct, {tuple(right.shape)}, got {tuple(there.shape)}")
    return right, there


def _all_seen(there: Tensor, missing: Missing) -> None:
    check.one_of("missing", missing, ("raise", "skip"))
    if missing == "raise" and not bool(there.all()):
        epoch, example = (int(i) for i in torch.nonzero(~there)[0])
        raise ArgumentError(
            f"example {example} was not seen in epoch {epoch} ({int((~there).sum())} such entries of correct); pass "
            'missing="skip" to compare with the last epoch in which it was seen'
        )
