"""Farthest-first traversal, exact, with far fewer passes over the points than picks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import largest
from datawinnow.core.errors import ArgumentError

First = int | Literal["mean", "random"] | None

BLOCK = 1 << 22
"""Numbers in a block of distances to the new centres: 16 MB of float32."""
POOL = 256
"""Candidates that a round starts with; their number follows how far they last."""
PICKS = 128
"""Most centres that a round chooses before all points are told of them."""


class Points(NamedTuple):
    """Points whose distance is ``own_i + own_j - <left_i, right_j>``.

    Attributes:
        left: (n, m).
        right: ids (p,) -> (p, m).
        own: (n,).
        noise: (n,) what a distance must exceed not to be rounding of that product.
    """

    left: Tensor
    right: Callable[[Tensor], Tensor]
    own: Tensor
    noise: Tensor


def farthest_first(points: Points, first: int, budget: int, outliers: int = 0) -> Tensor:
    """Ids in the order chosen: each the farthest (or the one after ``outliers`` farther ones) from those before.

    Distances to the chosen only ever fall. So among the farthest points of the moment (the pool) the next picks can
    be made one after the other, as long as they stay farther than all outside the pool were; then all points learn of
    these picks in one matrix product. The choice is that of one pick at a time.

    Args:
        points: what to choose from.
        first: the first id.
        budget: how many.
        outliers: how many of the farthest are passed over at each pick.

    Returns:
        (budget,) int64; ties go to the smaller id.
    """
    n = points.own.numel()
    chosen = [first]
    near = torch.full_like(points.own, torch.inf)
    _tell(points, near, chosen)
    pool = POOL
    while len(chosen) < budget:
        if not bool((near > 0).any()):  # what is left equals what is chosen
            rest = torch.nonzero(near >= 0).flatten()
            return torch.cat([torch.tensor(chosen), rest])[:budget]
        picks = _round(points, near, min(pool + outliers, n - len(chosen)), min(PICKS, budget - len(chosen)), outliers)
        chosen += picks
        if len(picks) < PICKS // 8:
            pool = min(2 * pool, max(POOL, n // 8))
        elif len(picks) == PICKS:
            pool = max(POOL, pool // 2)
        if len(chosen) < budget:
            _tell(points, near, picks)
    return torch.tensor(chosen)


def _round(points: Points, near: Tensor, size: int, most: int, outliers: int) -> list[int]:
    """The next picks that the ``size`` farthest points decide by themselves; at least one, ``most`` at most."""
    top = largest(near, min(size + 1, near.numel()))
    # an outside point is at most this far now, and has a larger id than any of the pool that were as far
    limit = float(near[top[size]]) if top.numel() > size else -1.0
    ids = top[:size].sort().values  # by id, so that the first of equals is the smaller id
    left, own, noise = points.left[ids], points.own[ids], points.noise[ids]
    start = near[ids].numpy()
    now = start.copy()
    unchosen = int((near >= 0).sum())
    picks: list[int] = []
    while len(picks) < most:
        past = min(outliers, unchosen - len(picks) - 1)
        at = int(now.argmax()) if past == 0 else int(np.argsort(-now, kind="stable")[past])
        if picks and not (now[at] > limit or now[at] == limit == start[at]):
            break
        pick = ids[at : at + 1]
        picks.append(int(pick))
        away = torch.addmv(own, left, points.right(pick)[0], alpha=-1).add_(points.own[pick])
        np.minimum(now, away.mul_(away > noise).numpy(), out=now)
        now[at] = -1
        if len(picks) == size:
            break
    return picks


def _tell(points: Points, near: Tensor, picks: list[int]) -> None:
    """Lower ``near`` to the distance from the nearest of ``picks``, which get -1."""
    ids = torch.tensor(picks)
    right, own = points.right(ids), points.own[ids]
    step = max(1, BLOCK // len(picks))
    for at in range(0, near.numel(), step):
        part = slice(at, at + step)
        if len(picks) == 1:
            away = torch.addmv(points.own[part], points.left[part], right[0], alpha=-1).add_(own)
        else:
            away = torch.addmm(own, points.left[part], right.T, alpha=-1).amin(1).add_(points.own[part])
        away.mul_(away > points.noise[part])
        torch.minimum(near[part], away, out=near[part])
    near[ids] = -1


def first_of(first: Any, n: int, ids: Tensor | None, central: Callable[[], int], generator: torch.Generator) -> int:
    """The position to begin with.

    Args:
        first: an id, ``"mean"``, or ``"random"`` (also None).
        n: number of examples.
        ids: (m,) those that can be chosen; None for all.
        central: gives the position nearest the mean.
        generator: the source of a random one; not drawn from otherwise.

    Returns:
        A position among those that can be chosen.

    Raises:
        ArgumentError: another word, an id outside 0 to n - 1 or without numbers.
    """
    if first == "mean":
        return central()
    if first is None or first == "random":
        return int(torch.randint(n if ids is None else ids.numel(), (), generator=generator))
    if isinstance(first, str):
        raise ArgumentError(f'first must be an id, "mean" or "random" (or None, the same), got {first!r}')
    position: int = check.number("first", first, 0, n - 1, integer=True)
    if ids is None:
        return position
    at = torch.nonzero(ids == position).flatten()
    if not at.numel():
        raise ArgumentError(f"first={first} is an example without numbers (NaN); begin with another")
    return int(at)
