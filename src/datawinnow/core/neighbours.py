"""Exact nearest neighbours in blocks: a matrix product and a partial sort each, never n x n."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError

Metric = Literal["euclidean", "cosine"]

BLOCK = 1 << 24
"""Numbers in a block of distances: 64 MB of float32."""
SPARE = 4
"""How many more candidates than asked for have their distance computed exactly, since products round."""
FAR = 10.0
"""Points are moved to their mean when it is farther from the origin than so many times their spread (both squared)."""


class Graph(NamedTuple):
    """A sparse undirected graph: the neighbours of i are ``to[start[i] : start[i + 1]]``, by rising id.

    Attributes:
        start: (n + 1,) int64.
        to: (edges,) int64; every edge is there in both directions.
        distance: (edges,) floating, the length of each.
    """

    start: Tensor
    to: Tensor
    distance: Tensor


def knn(x: Any, k: int, *, metric: Metric = "euclidean", chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest other rows of each row, nearest first.

    A block of rows at a time meets all rows in one matrix product; the nearest by that, and a few more, are then
    measured again by differences, so that distances of near-duplicates are right (exactly 0 for duplicates).

    Args:
        x: (n, d) float, a row a point.
        k: how many neighbours, 0 to n - 1.
        metric: ``"euclidean"`` distance, or ``"cosine"``: 1 less the cosine of the angle, in [0, 2]; a row of zeros is
            at 1 from everything.
        chunk: rows in a block; by default as many as make 64 MB of distances. It changes memory and speed only.

    Returns:
        ids (n, k) int64 and distances (n, k) float32 (float64 if ``x`` is); a row itself is left out, ties go to the
        smaller id (ties that no more than rounding of the product hides, beyond ``k + 4`` candidates, may not).

    Raises:
        ArgumentError: another shape, NaN or infinity, numbers too large to square, k outside 0 to n - 1.

    >>> ids, distances = knn([[0.0], [1.0], [3.0]], 1)
    >>> ids.flatten().tolist(), distances.flatten().tolist()
    ([1, 0, 1], [1.0, 1.0, 2.0])
    """
    rows = check.rows("x", x)
    check.one_of("metric", metric, ("euclidean", "cosine"))
    n = rows.shape[0]
    check.number("k", k, 0, n - 1, integer=True)
    if chunk is not None:
        check.number("chunk", chunk, 1, 10**9, integer=True)
    ids = torch.empty(n, k, dtype=torch.int64, device=rows.device)
    distances = torch.empty(n, k, dtype=rows.dtype, device=rows.device)
    if k == 0:
        return ids, distances
    if metric == "cosine":
        points = unit_rows(rows)
        squares = (points != 0).any(1).to(points.dtype)  # 1, or 0 for a row of zeros
        offset = torch.ones_like(squares)
    else:
        points, squares = centred("x", rows)
        offset = squares
    step = chunk or max(1, BLOCK // n)
    for first in range(0, n, step):
        block = points[first : first + step]
        # |x_j|^2 - 2 <x_i, x_j>: what is missing to the squared distance does not depend on j
        near = torch.addmm(offset, block, points.T, alpha=-2)
        own = torch.arange(block.shape[0], device=rows.device)
        near[own, first + own] = torch.inf
        candidates = _smallest(near, min(n - 1, k + SPARE))
        for part in range(0, block.shape[0], size := max(1, BLOCK // (4 * candidates.shape[1] * rows.shape[1]))):
            at = slice(first + part, min(first + part + size, first + block.shape[0]))
            found, squared = _refined(points, block[part : part + size], candidates[part : part + size], k)
            ids[at] = found
            if metric == "cosine":
                distances[at] = (squared + (1 - squares[at, None]) + (1 - squares[found])) / 2
            else:
                distances[at] = squared.sqrt_()
    return ids, distances


def sq_distances(block: Tensor, x: Tensor, squares: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances, by one matrix product; at least 0.

    Args:
        block: (b, d) points.
        x: (n, d) points.
        squares: (n,) squared norms of ``x`` where the caller has them.

    Returns:
        (b, n); the error is about 1e-6 of the squared norms, so centre first (`centred`) what lies far out.

    >>> sq_distances(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0], [0.0, 3.0]])).tolist()
    [[25.0, 0.0]]
    """
    if squares is None:
        squares = squared_norms(x)
    out = torch.addmm(squares, block, x.T, alpha=-2)
    return out.add_(squared_norms(block)[:, None]).clamp_min_(0)


def squared_norms(x: Tensor) -> Tensor:
    """(n,) squared L2 norms of the rows, without a second array of the size of ``x``."""
    # not the square of the norm: a root would make what ties, on a grid for example, differ in the last bit
    step = max(1, BLOCK // (4 * x.shape[1]))
    return torch.cat([x[at : at + step].square().sum(1) for at in range(0, x.shape[0], step)])


def centred(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Points with the same distances between them, near enough to the origin for products to tell them, and squares.

    Args:
        name: the argument's name, for the error.
        x: (n, d) floating.

    Returns:
        (n, d) ``x`` itself, or a copy less its mean where the mean is far out; and (n,) squared norms.

    Raises:
        ArgumentError: a squared norm that the dtype cannot hold.
    """
    squares = _checked_squares(name, x)
    mean = x.mean(0)
    away = float(mean.square().sum())
    if away <= FAR * max(0.0, float(squares.mean()) - away):
        return x, squares
    x = x - mean
    return x, squared_norms(x)


def unit_rows(x: Tensor) -> Tensor:
    """(n, d) a copy with rows of norm 1; rows of zeros stay."""
    # by the largest number first: squares of very small or large numbers would vanish or overflow
    scale = x.abs().amax(1, keepdim=True)
    out = x / torch.where(scale > 0, scale, torch.ones_like(scale))
    norm = torch.linalg.vector_norm(out, dim=1, keepdim=True)
    return out.div_(torch.where(norm > 0, norm, torch.ones_like(norm)))


def symmetric(ids: Tensor, distances: Tensor) -> Graph:
    """The undirected graph in which i and j are joined where either has the other among its nearest.

    Args:
        ids: (n, k) int64, as `knn` gives them.
        distances: (n, k).

    Returns:
        A `Graph` of n nodes, each edge once in each direction.

    >>> graph = symmetric(*knn([[0.0], [1.0], [3.0]], 1))
    >>> graph.start.tolist(), graph.to.tolist()
    ([0, 1, 3, 4], [1, 0, 2, 1])
    """
    n, k = ids.shape
    here = torch.arange(n, device=ids.device).repeat_interleave(k)
    there = ids.flatten()
    key = torch.cat([here * n + there, there * n + here])
    key, order = torch.sort(key, stable=True)
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    key, order = key[first], order[first]
    start = torch.zeros(n + 1, dtype=torch.int64, device=ids.device)
    start[1:] = torch.bincount(torch.div(key, n, rounding_mode="floor"), minlength=n).cumsum(0)
    return Graph(start, key % n, distances.flatten().repeat(2)[order])


def _smallest(near: Tensor, k: int) -> Tensor:
    """(b, k) columns of the smallest numbers of each row, by rising column; ties go to the smaller column."""
    most = min(k + 1, near.shape[1])
    values, columns = near.topk(most, dim=1, largest=False, sorted=True)
    columns = columns[:, :k].clone()
    if most > k and bool((tied := values[:, k] == values[:, k - 1]).any()):
        rows, worst = near[tied], values[tied, k - 1, None]
        below, level = rows < worst, rows == worst
        left = k - below.sum(1, keepdim=True)
        kept = below | (level & (level.cumsum(1, dtype=torch.int32) <= left))
        columns[tied] = kept.nonzero()[:, 1].view(-1, k)
    return columns.sort(dim=1).values


def _refined(points: Tensor, block: Tensor, candidates: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest of each row's candidates and their squared distances, by differences."""
    squared = (points[candidates] - block[:, None]).square_().sum(-1)
    squared, order = squared.sort(dim=1, stable=True)
    return candidates.gather(1, order[:, :k]), squared[:, :k]


def _checked_squares(name: str, x: Tensor) -> Tensor:
    squares = squared_norms(x)
    if not float(squares.max()) < torch.finfo(x.dtype).max / 16:
        raise ArgumentError(
            f"{name} is too large to be squared in {x.dtype}: the norm of example {int(squares.argmax())} is "
            f"{float(torch.linalg.vector_norm(x[int(squares.argmax())].double())):g}; divide {name} by a constant"
        )
    return squares
