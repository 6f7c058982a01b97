"""Forgetting events: the number of epochs in which a correct example becomes wrong."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.epochs import GRAIN, blocks, parallel_columns
from datawinnow.core.errors import ArgumentError


@card(
    "score",
    "forgetting",
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
            be; ``"zero"`` leaves it at 0, as the CCS, D2 and DeepCore code does, which ranks it easiest.
        missing: ``"raise"``, or ``"skip"`` to compare each epoch with the last one in which the example was seen.

    Returns:
        (n,) float32, events; NaN for an example never seen under ``"skip"``.

    Raises:
        ArgumentError: values other than 0 and 1, shapes that differ, or an epoch not seen (unless ``"skip"``).

    References:
        Toneva et al. 2019, arXiv 1812.05159, section 3.

    >>> forgetting([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]]).tolist()
    [2.0, 4.0, 0.0]
    """
    check.one_of("never_learned", never_learned, ("max", "zero"))
    check.one_of("missing", missing, ("raise", "skip"))
    # NaN in `correct` has become "not seen" here.
    right, visited = _right_and_seen(correct, seen)
    epochs, n = right.shape
    now = right.view(torch.uint8)  # bytes compare and add without a change of dtype
    visited_bytes = None if visited is None else visited.view(torch.uint8)
    out = torch.empty(n, dtype=torch.float32)

    def work(begin: int, end: int) -> None:
        for first, last in blocks(end, GRAIN, begin):
            if visited_bytes is None or _all(visited_bytes[:, first:last]):
                score, ever = _events(now[:, first:last])
                met = None
            elif missing == "raise":
                # The error is built from the whole array, to name the first missing entry and count them all.
                raise _not_seen(visited_bytes)
            else:
                score, ever, met = _events_between_visits(now[:, first:last], visited_bytes[:, first:last])
            if never_learned == "max":
                # Before NaN is written below: an example that was never seen was never right either.
                score.masked_fill_(ever == 0, float(epochs))
            if met is not None:
                score.masked_fill_(met == 0, float("nan"))
            out[first:last] = score

    parallel_columns(n, GRAIN, work)
    return out


def _all(visited_bytes: Tensor) -> bool:
    """Whether all of (epochs, columns) bytes are 1."""
    every = visited_bytes[0].clone()
    for seen in visited_bytes[1:]:
        every.bitwise_and_(seen)
    return bool(every.amin())


def _events(now: Tensor) -> tuple[Tensor, Tensor]:
    """(columns,) events, and whether ever right, of (epochs, columns) bytes, 1 where right; all seen."""
    events, forgot = _counter(now), torch.empty(now.shape[1], dtype=torch.bool)
    ever = now[0].clone()
    for epoch in range(1, len(now)):
        # 1 > 0 exactly where right became wrong.
        torch.gt(now[epoch - 1], now[epoch], out=forgot)
        events.add_(forgot.view(torch.uint8))
        ever.bitwise_or_(now[epoch])
    return events.to(torch.float32), ever


def _events_between_visits(now: Tensor, visited_bytes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_events`, each epoch compared with the last one seen; and whether ever seen. ``here`` is 1 where seen."""
    events, forgot = _counter(now), torch.empty(now.shape[1], dtype=torch.bool)
    # The same memory as bytes: `forgot` can be added and combined without a conversion.
    byte = forgot.view(torch.uint8)
    was, ever, met = (torch.zeros_like(byte) for _ in range(3))  # was: right when last seen
    for right, seen in zip(now, visited_bytes, strict=True):
        torch.gt(was, right, out=forgot)
        # An epoch in which the example was not seen is no event: `right` is 0 there and would look forgotten.
        events.add_(byte.bitwise_and_(seen))
        was.bitwise_xor_(torch.bitwise_xor(was, right, out=byte).bitwise_and_(seen))  # = right where seen
        ever.bitwise_or_(was)
        met.bitwise_or_(seen)
    return events.to(torch.float32), ever, met


def _counter(now: Tensor) -> Tensor:
    """Zeros that can count to half the epochs, which is as often as an example can be forgotten."""
    return torch.zeros(now.shape[1], dtype=torch.uint8 if len(now) // 2 <= 255 else torch.int32)


def _right_and_seen(correct: Any, seen: Any) -> tuple[Tensor, Tensor | None]:
    visited = None if seen is None else check.bits("seen", seen, "epochs,n")
    raw = check.as_tensor("correct", correct)
    nan = raw.isnan() if raw.is_floating_point() else None
    if nan is not None and bool(nan.any()):
        raw = torch.where(nan, 0.0, raw)
    right = check.bits("correct", raw, "epochs,n")
    if visited is not None and visited.shape != right.shape:
        raise ArgumentError(f"seen must have the shape of correct, {tuple(right.shape)}, got {tuple(visited.shape)}")
    if nan is not None and bool(nan.any()):
        visited = ~nan if visited is None else visited & ~nan
    return right, visited


def _not_seen(visited: Tensor) -> ArgumentError:
    missed = visited == 0
    epoch, example = (int(i) for i in torch.nonzero(missed)[0])
    return ArgumentError(
        f"example {example} was not seen in epoch {epoch} ({int(missed.sum())} such entries of correct); pass "
        'missing="skip" to compare with the last epoch in which it was seen'
    )
