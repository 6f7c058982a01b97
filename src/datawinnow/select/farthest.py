"""Exact farthest-first traversal, with far fewer passes over the points than picks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import in_tie_order, largest
from datawinnow.core.errors import ArgumentError

FirstPick = int | Literal["mean", "random"] | None

DISTANCE_BLOCK = 1 << 22
"""Numbers in a block of distances to the new centres: 16 MB of float32."""
INITIAL_POOL = 256
"""Number of candidates of the first round; later rounds adapt it to the number of picks per round."""
MAX_PICKS = 128
"""Maximum number of centres that a round chooses before the distances of all points are updated."""


class Points(NamedTuple):
    """Points whose distance is ``offset_i + offset_j - <left_i, right_j>``.

    Attributes:
        left: (n, m).
        right: ids (p,) -> (p, m).
        offset: (n,).
        noise: (n,) rounding error of that product; smaller distances count as 0.
    """

    left: Tensor
    right: Callable[[Tensor], Tensor]
    offset: Tensor
    noise: Tensor


def farthest_first(points: Points, first: int, budget: int, tie_seed: int, outliers: int = 0) -> Tensor:
    """Ids in the order chosen: each the farthest (or the one after ``outliers`` farther ones) from those before.

    Distances to the chosen only ever fall. So among the farthest points of the moment (the pool) the next picks can
    be made one after the other, as long as they stay farther than all outside the pool were; then the distances of
    all points are updated in one matrix product. The result is that of one pick at a time.

    Args:
        points: to choose from.
        first: the first id.
        budget: number of picks.
        tie_seed: seed of the order of equal distances.
        outliers: number of farthest points passed over at each pick.

    Returns:
        (budget,) int64; ties are drawn.
    """
    n = points.offset.numel()
    chosen = [first]
    # Distance to the nearest chosen; -1 marks a chosen point, inf that none was chosen yet.
    near = torch.full_like(points.offset, torch.inf)
    _update_nearest(points, near, chosen)
    pool = INITIAL_POOL
    while len(chosen) < budget:
        if not bool((near > 0).any()):  # every other point equals a chosen one
            # All distances are 0: in the order of ties, without further passes.
            rest = in_tie_order(torch.nonzero(near >= 0).flatten(), tie_seed)
            return torch.cat([torch.tensor(chosen), rest])[:budget]
        picks = _round(
            points,
            near,
            min(pool + outliers, n - len(chosen)),
            min(MAX_PICKS, budget - len(chosen)),
            outliers,
            tie_seed,
        )
        chosen += picks
        # Few picks a round: the pool was exhausted early, so a larger one is worth its cost; full rounds allow a
        # smaller one.
        if len(picks) < MAX_PICKS // 8:
            pool = min(2 * pool, max(INITIAL_POOL, n // 8))
        elif len(picks) == MAX_PICKS:
            pool = max(INITIAL_POOL, pool // 2)
        if len(chosen) < budget:
            _update_nearest(points, near, picks)
    return torch.tensor(chosen)


def _round(points: Points, near: Tensor, size: int, max_picks: int, outliers: int, tie_seed: int) -> list[int]:
    """The next picks that the ``size`` farthest points decide by themselves; at least one, ``max_picks`` at most."""
    top = largest(near, min(size + 1, near.numel()), tie_seed)
    # an outside point is at most this far now, and comes after any of the pool that were as far
    limit = float(near[top[size]]) if top.numel() > size else -1.0
    ids = in_tie_order(top[:size], tie_seed)  # the first of equals wins
    left, offset, noise = points.left[ids], points.offset[ids], points.noise[ids]
    start = near[ids].numpy()
    # `start` stays: a point that is as far as the limit is only safe if its distance has not changed since the cut.
    now = start.copy()
    # Of all points, since the outliers passed over are the farthest of all of these.
    unchosen = int((near >= 0).sum())
    picks: list[int] = []
    while len(picks) < max_picks:
        # Once no more than `outliers` are left, they are taken too, the nearest first.
        past = min(outliers, unchosen - len(picks) - 1)
        # argmax returns the first of equals, and a stable sort keeps their order: that of `ids`.
        at = int(now.argmax()) if past == 0 else int(np.argsort(-now, kind="stable")[past])
        # The first pick of a round is always valid; later ones only while no point outside the pool can be farther.
        if picks and not (now[at] > limit or now[at] == limit == start[at]):
            break
        pick = ids[at : at + 1]
        picks.append(int(pick))
        away = torch.addmv(offset, left, points.right(pick)[0], alpha=-1).add_(points.offset[pick])
        np.minimum(now, away.mul_(away > noise).numpy(), out=now)
        # After the minimum, which would have made it 0.
        now[at] = -1
        if len(picks) == size:
            break
    return picks


def _update_nearest(points: Points, near: Tensor, picks: list[int]) -> None:
    """Lower ``near`` to the distance from the nearest of ``picks``, which get -1."""
    ids = torch.tensor(picks)
    right, offset = points.right(ids), points.offset[ids]
    step = max(1, DISTANCE_BLOCK // len(picks))
    for at in range(0, near.numel(), step):
        rows = slice(at, at + step)
        if len(picks) == 1:
            away = torch.addmv(points.offset[rows], points.left[rows], right[0], alpha=-1).add_(offset)
        else:
            # offset_i is the same for all picks, so it is added after the minimum: one pass less over (rows, picks).
            away = torch.addmm(offset, points.left[rows], right.T, alpha=-1).amin(1).add_(points.offset[rows])
        away.mul_(away > points.noise[rows])
        torch.minimum(near[rows], away, out=near[rows])
    near[ids] = -1


def first_position(
    first: Any, n: int, ids: Tensor | None, central: Callable[[], int], generator: torch.Generator
) -> int:
    """The position of the first pick.

    Args:
        first: an id, ``"mean"``, or ``"random"`` (also None).
        n: number of examples.
        ids: (m,) those that can be chosen; None for all.
        central: returns the position nearest the mean.
        generator: source of a random one; unused otherwise.

    Returns:
        A position among ``ids``.

    Raises:
        ArgumentError: another string, or an id outside 0 to n - 1 or with NaN.
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
