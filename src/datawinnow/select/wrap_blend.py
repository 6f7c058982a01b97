"""`blend`: several scores as one, each turned so that its paper's end comes out high."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import CONTRACT_PARAMETERS, Card, card_of
from datawinnow.core.check import Missing
from datawinnow.core.errors import ArgumentError

By = Literal["rank", "zscore"]
Score = Callable[..., Tensor]
SCORE_ENDS = ("high", "low", "middle")


def blend(
    *scores: Score,
    weights: Sequence[float] | None = None,
    by: By = "rank",
    options: Sequence[Mapping[str, Any]] | None = None,
) -> Score:
    """Several scores as one score, whose high end is kept.

    Each is turned by its card so that the end which its paper keeps is high, scaled to a common scale, and averaged.

    Args:
        scores: at least two scores, for example ``scores.el2n, scores.aum``; each has a card that names its end, a
            callable without one counts as keeping the high end.
        weights: one number above 0 a score; all the same by default.
        by: the common scale: ``"rank"`` or ``"zscore"``, see `combine`.
        options: one mapping of options a score, for example ``[{"last": 5}, {}]``.

    Returns:
        A score called with the arrays that any of the scores needs, each once, in the order of their first use:
        ``blend(el2n, aum)(error_norm, margin)`` gives (n,). It has a card, so it goes wherever a score goes.

    Raises:
        ArgumentError: fewer than two scores, weights or options of another number, a weight that is not above 0.

    >>> from datawinnow.scores import aum, el2n
    >>> hard = blend(el2n, aum, options=[{"last": 1}, {}])
    >>> hard([[0.1, 0.9, 0.5, 0.3]], [[5.0, -1.0, 2.0, 1.0]]).tolist()
    [0.125, 0.875, 0.5, 0.5]
    """
    if len(scores) < 2:
        raise ArgumentError(f"blend needs at least two scores, got {len(scores)}")
    cards = [card_of(score) for score in scores]
    shares = _shares_of(weights, len(scores))
    settings = [{}] * len(scores) if options is None else [dict(o) for o in options]
    if len(settings) != len(scores):
        raise ArgumentError(f"options must hold one mapping a score: {len(scores)} scores, {len(settings)} mappings")
    check.one_of("by", by, ("rank", "zscore"))
    # Each array once, in the order of first use; dict keeps the order, a set would not.
    needs = tuple(dict.fromkeys(need for c in cards for need in c.needs))
    extra = tuple(dict.fromkeys(need for c in cards for need in c.optional_needs if need not in needs))

    def blended(*arrays: Any, missing: Missing = "raise", **by_name: Any) -> Tensor:
        names = (*needs, *extra)
        if not len(needs) <= len(arrays) <= len(names) or not set(by_name) <= set(names[len(arrays) :]):
            wants = ", ".join(needs) + (f" (and may have {', '.join(extra)})" if extra else "")
            raise ArgumentError(
                f"{blended.__name__} needs {wants} in this order, got {len(arrays)} arrays"
                + (f" and {', '.join(by_name)} by name" if by_name else "")
            )
        # strict=False: optional arrays may be left out at the end.
        have = {**dict(zip(names, arrays, strict=False)), **by_name}
        values = []
        for score, card, chosen in zip(scores, cards, settings, strict=True):
            keywords = {"missing": missing} if "missing" in card.takes else {}
            keywords |= {name: have[name] for name in card.optional_needs if name in have}
            values.append(check.as_tensor(card.key, score(*[have[need] for need in card.needs], **keywords, **chosen)))
        return combine(*values, ends=cards, weights=shares, by=by, missing=missing)

    key = "_".join(["blend", *(c.key for c in cards)])
    blended.__name__ = blended.__qualname__ = key
    blended.__doc__ = f"Mean {by} of {', '.join(c.key for c in cards)}."
    blended.card = Card(  # type: ignore[attr-defined]
        kind="score",
        name="Blend of " + " and ".join(c.name for c in cards),
        key=key,
        source="; ".join(c.source for c in cards),
        needs=needs,
        optional_needs=extra,
        options={},
        end="high",
        cost="time O(all of them + n log n), memory O(n)",
        summary=blended.__doc__,
        takes=tuple(name for name in CONTRACT_PARAMETERS if name == "missing"),
    )
    return blended


def combine(
    *values: Any,
    ends: Sequence[Any] | None = None,
    weights: Sequence[float] | None = None,
    by: By = "rank",
    missing: Missing = "raise",
) -> Tensor:
    """Several arrays of scores as one, whose high end is kept.

    Args:
        values: one (n,) float array a score.
        ends: one a score: ``"high"``, ``"low"`` (turned by its sign), ``"middle"`` (turned by the distance to the
            median), or a method or card that says it; all high by default.
        weights: one number above 0 a score; all the same by default.
        by: ``"rank"`` for the mean rank of equal scores as a fraction of n, (rank - 0.5) / n, in (0, 1), which no
            outlier moves; ``"zscore"`` for (score - mean) / standard deviation (over n), which keeps distances; a
            constant score is 0.5 or 0 for all.
        missing: ``"raise"``, or ``"skip"`` to leave NaN out of a scale; an example with any is NaN in the answer.

    Returns:
        (n,) float32 (float64 if any of the values is): the weighted mean of what the scores are on the common scale.

    Raises:
        ArgumentError: no values, ends or weights of another number, NaN or infinity, arrays of different lengths.

    >>> combine([1.0, 2.0, 3.0, 9.0], [5.0, 5.0, 1.0, 6.0], ends=["high", "low"]).tolist()
    [0.3125, 0.4375, 0.75, 0.5]
    """
    if not values:
        raise ArgumentError("combine needs at least one array of scores")
    arrays = [check.array(f"score {i}", v, "n") for i, v in enumerate(values)]
    check.same_n(**{f"score {i}": a for i, a in enumerate(arrays)})
    turned = ["high"] * len(arrays) if ends is None else [_end_of(e) for e in ends]
    if len(turned) != len(arrays):
        raise ArgumentError(f"ends must hold one end a score: {len(arrays)} scores, {len(turned)} ends")
    check.one_of("by", by, ("rank", "zscore"))
    shares = _shares_of(weights, len(arrays))
    total = torch.zeros(arrays[0].numel(), dtype=torch.float64)
    for i, (array, end, share) in enumerate(zip(arrays, turned, shares, strict=True)):
        check.finite(f"score {i}", array, missing)
        present = ~array.isnan()
        # NaN of any score stays NaN in the weighted sum.
        scaled = torch.full_like(total, torch.nan)
        if bool(present.any()):
            values_high = _high(array[present].double(), end)
            scaled[present] = _rank(values_high) if by == "rank" else _zscore(values_high)
        total.add_(scaled, alpha=share)
    wide = any(a.dtype is torch.float64 for a in arrays)
    return total if wide else total.float()


def _end_of(value: Any) -> str:
    if not isinstance(value, str):
        value = (value if isinstance(value, Card) else card_of(value)).end
    return str(check.one_of("ends", value, SCORE_ENDS))


def _shares_of(weights: Sequence[float] | None, count: int) -> list[float]:
    """One share a score, summing to 1."""
    raw_weights = [1.0] * count if weights is None else list(weights)
    if len(raw_weights) != count:
        raise ArgumentError(f"weights must hold one number a score: {count} scores, {len(raw_weights)} weights")
    for weight in raw_weights:
        check.number("weights", weight, 1e-12, 1e12)
    return [float(w) / sum(raw_weights) for w in raw_weights]


def _high(values: Tensor, end: str) -> Tensor:
    """(m,) values turned so that the end kept is high."""
    if end == "middle":
        ordered = values.sort().values
        # torch.median returns the lower of the middle two; the mean of both does not favour a side.
        median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        return -(values - median).abs()
    return -values if end == "low" else values


def _rank(values: Tensor) -> Tensor:
    """(m,) mean rank of equal values, as a fraction."""
    _, inverse, counts = np.unique(values.numpy(), return_inverse=True, return_counts=True)
    # c equal values end at rank u = cumsum: their mean rank less 1/2 is u - c / 2.
    middle = counts.cumsum() - counts / 2
    return torch.from_numpy(middle[inverse] / values.numel())


def _zscore(values: Tensor) -> Tensor:
    away = values - values.mean()
    spread = away.square().mean().sqrt()
    # a mean of equal values rounds, and dividing by that would blow the rounding up
    return away / spread if float(spread) > 1e-12 * float(values.abs().max()) else torch.zeros_like(away)
