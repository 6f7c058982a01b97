"""Exact nearest neighbours in blocks of one matrix product and a partial sort each; no (n, n) array is made."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError

DistanceMetric = Literal["euclidean", "cosine"]

BLOCK_ENTRIES = 1 << 24
"""Entries of a block of distances: 64 MB of float32."""
SPARE_CANDIDATES = 4
"""Number of candidates beyond k whose distance is computed exactly, since matrix products round."""
CENTRING_RATIO = 10.0
"""Points are centred if their mean is farther from the origin than this many times their spread (both squared)."""


class Graph(NamedTuple):
    """A sparse undirected graph: the neighbours of i are ``to[start[i] : start[i + 1]]``, in ascending order.

    Attributes:
        start: (n + 1,) int64.
        to: (edges,) int64; every edge is stored in both directions.
        distance: (edges,) floating, the length of each edge.
    """

    start: Tensor
    to: Tensor
    distance: Tensor


def knn(
    x: Any,
    k: int,
    *,
    metric: DistanceMetric = "euclidean",
    chunk: int | None = None,
    tie_seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest other rows of each row, nearest first.

    Candidates come from one matrix product of a block of rows with all rows. Their distances are then computed again
    from differences, so that those of near-duplicates are accurate (exactly 0 for duplicates). A row whose nearest
    could be hidden by the rounding of the product, as in tight clusters far from each other, is compared with all rows
    by differences, which takes O(n d) instead of the product's fraction of it.

    Args:
        x: (n, d) float, one point a row.
        k: number of neighbours, 0 to n - 1.
        metric: ``"euclidean"`` distance, or ``"cosine"``: 1 minus the cosine of the angle, in [0, 2]; a row of zeros is
            at distance 1 from all.
        chunk: rows in a block; by default as many as give 64 MB of distances. Affects memory and speed only.
        tie_seed: seed of the order of equally near rows; None: the smaller id is nearer.

    Returns:
        ids (n, k) int64 and distances (n, k) float32 (float64 if ``x`` is); a row itself is left out, ties go as
        ``tie_seed`` says (except for ties among more than ``k + 4`` candidates that rounding of the product hides, as
        duplicates can be).

    Raises:
        ArgumentError: another shape, NaN or infinity, numbers too large to square, k outside 0 to n - 1.

    >>> ids, distances = knn([[0.0], [1.0], [3.0]], 1)
    >>> ids.flatten().tolist(), distances.flatten().tolist()
    ([1, 0, 1], [1.0, 1.0, 2.0])
    """
    rows = check.matrix("x", x)
    check.one_of("metric", metric, ("euclidean", "cosine"))
    n = rows.shape[0]
    check.number("k", k, 0, n - 1, integer=True)
    if chunk is not None:
        check.number("chunk", chunk, 1, 10**9, integer=True)
    ids = torch.empty(n, k, dtype=torch.int64, device=rows.device)
    distances = torch.empty(n, k, dtype=rows.dtype, device=rows.device)
    if k == 0:
        return ids, distances
    if tie_seed is not None:
        _checked_squares("x", rows)  # here, where ids are those of the caller
        # neighbours are chosen by place, so of rows in a drawn order ties are drawn
        order = tie_order(n, tie_seed).to(rows.device)
        nearest, away = knn(rows[order], k, metric=metric, chunk=chunk)
        ids[order], distances[order] = order[nearest], away
        return ids, distances
    if metric == "cosine":
        points = unit_rows(rows)
        squares = (points != 0).any(1).to(points.dtype)  # 1, or 0 for a row of zeros
        # the same for all, a row of zeros too: its product, 0, already stands for a right angle
        offset, extra = torch.ones_like(squares), 1 - squares
    else:
        points, squares = centred("x", rows)
        offset, extra = squares, torch.zeros_like(squares)
    largest_square = float(squares.max())
    step = chunk or max(1, BLOCK_ENTRIES // n)
    for first in range(0, n, step):
        block = points[first : first + step]
        # |x_j|^2 - 2 <x_i, x_j>: the squared distance less |x_i|^2, which does not change the order within a row
        keys = torch.addmm(offset, block, points.T, alpha=-2)
        position = torch.arange(block.shape[0], device=rows.device)
        keys[position, first + position] = torch.inf  # a row is no neighbour of itself
        candidates = _smallest(keys, min(n - 1, k + SPARE_CANDIDATES))
        # differences take (rows, candidates, d): smaller blocks than the distances
        size = max(1, BLOCK_ENTRIES // (4 * candidates.shape[1] * rows.shape[1]))
        for start in range(0, block.shape[0], size):
            # rows of x, where `start` counts within the block
            at = slice(first + start, min(first + start + size, first + block.shape[0]))
            sub_block = slice(start, start + size)
            nearest, squared = _refined(points, block[sub_block], candidates[sub_block], extra, k)
            if candidates.shape[1] < n - 1:
                last = keys[sub_block].gather(1, candidates[sub_block]).amax(1)
                unsure = _may_miss_nearer(squared[:, -1], last, squares[at], largest_square, rows.shape[1])
                for i in torch.nonzero(unsure).flatten().tolist():
                    row = first + start + i
                    nearest[i], squared[i] = _nearest_by_differences(points, row, extra, k)
            ids[at] = nearest
            if metric == "cosine":
                # |u - v|^2 / 2 of unit rows; a row of zeros has 1 less in its square, which is added
                distances[at] = (squared + extra[at, None]) / 2
            else:
                distances[at] = squared.sqrt_()
    return ids, distances


def sq_distances(block: Tensor, x: Tensor, squares: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances, by one matrix product; at least 0.

    Args:
        block: (b, d) points.
        x: (n, d) points.
        squares: (n,) squared norms of ``x``, if known.

    Returns:
        (b, n); the error is about 1e-6 of the squared norms, so centre points far from the origin first (`centred`).

    >>> sq_distances(torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0], [0.0, 3.0]])).tolist()
    [[25.0, 0.0]]
    """
    if squares is None:
        squares = squared_norms(x)
    out = torch.addmm(squares, block, x.T, alpha=-2)
    # rounding can make the distance between duplicates negative
    return out.add_(squared_norms(block)[:, None]).clamp_min_(0)


def squared_norms(x: Tensor) -> Tensor:
    """(n,) squared L2 norms of the rows, without a second array of the size of ``x``."""
    # not the square of a norm: the root would break exact ties, for example of points on a grid, in the last bit
    step = max(1, BLOCK_ENTRIES // (4 * x.shape[1]))
    return torch.cat([x[at : at + step].square().sum(1) for at in range(0, x.shape[0], step)])


def centred(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Move points near the origin, where matrix products give accurate distances.

    Args:
        name: the argument's name, for the error.
        x: (n, d) floating.

    Returns:
        (n, d) ``x`` itself, or a copy minus its mean if that is far from the origin; and (n,) squared norms.

    Raises:
        ArgumentError: a squared norm that the dtype cannot hold.
    """
    squares = _checked_squares(name, x)
    mean = x.mean(0)
    # mean of the squares minus the square of the mean is the spread; rounding can make it negative
    away = float(mean.square().sum())
    if away <= CENTRING_RATIO * max(0.0, float(squares.mean()) - away):
        return x, squares
    x = x - mean
    return x, squared_norms(x)


def unit_rows(x: Tensor) -> Tensor:
    """(n, d) copy with rows of norm 1; rows of zeros stay."""
    # divided by the largest entry first: squares of very small or large numbers would underflow or overflow
    scale = x.abs().amax(1, keepdim=True)
    out = x / torch.where(scale > 0, scale, torch.ones_like(scale))
    norm = torch.linalg.vector_norm(out, dim=1, keepdim=True)
    return out.div_(torch.where(norm > 0, norm, torch.ones_like(norm)))


def symmetric_graph(ids: Tensor, distances: Tensor) -> Graph:
    """The undirected graph in which i and j are joined if one of them is among the nearest of the other.

    Args:
        ids: (n, k) int64, as returned by `knn`.
        distances: (n, k).

    Returns:
        A `Graph` of n nodes, each edge once in each direction.

    >>> graph = symmetric_graph(*knn([[0.0], [1.0], [3.0]], 1))
    >>> graph.start.tolist(), graph.to.tolist()
    ([0, 1, 3, 4], [1, 0, 2, 1])
    """
    n, k = ids.shape
    source = torch.arange(n, device=ids.device).repeat_interleave(k)
    target = ids.flatten()
    # each edge in both directions as one integer, so that one sort orders them and brings duplicates together
    # source and target are below n, so source * n + target is unique; int64 holds it for n up to 3e9
    key = torch.cat([source * n + target, target * n + source])
    key, order = torch.sort(key, stable=True)
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    key, order = key[first], order[first]
    start = torch.zeros(n + 1, dtype=torch.int64, device=ids.device)
    start[1:] = torch.bincount(torch.div(key, n, rounding_mode="floor"), minlength=n).cumsum(0)
    # both halves of `key` have the same distances
    return Graph(start, key % n, distances.flatten().repeat(2)[order])


def _smallest(keys: Tensor, k: int) -> Tensor:
    """(b, k) columns of the smallest entries of each row, in ascending order; ties go to the smaller column."""
    count = min(k + 1, keys.shape[1])  # one more, to see whether the k-th is tied with the next
    values, columns = keys.topk(count, dim=1, largest=False, sorted=True)
    # a clone: the rows with ties are overwritten below
    columns = columns[:, :k].clone()
    if count > k and bool((tied := values[:, k] == values[:, k - 1]).any()):
        rows, worst = keys[tied], values[tied, k - 1, None]
        below, level = rows < worst, rows == worst
        # how many of the entries tied at the k-th value still fit
        left = k - below.sum(1, keepdim=True)
        # the first ones by column, so ties go to the smaller id
        kept = below | (level & (level.cumsum(1, dtype=torch.int32) <= left))
        # every row keeps exactly k, and nonzero lists them row by row
        columns[tied] = kept.nonzero()[:, 1].view(-1, k)
    # by column: the stable sort by exact distance then leaves ties in order of id
    return columns.sort(dim=1).values


def _refined(points: Tensor, block: Tensor, candidates: Tensor, extra: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` nearest of each row's candidates and their squared distances by differences, plus ``extra`` (n,)."""
    squared = (points[candidates] - block[:, None]).square_().sum(-1).add_(extra[candidates])
    squared, order = squared.sort(dim=1, stable=True)
    return candidates.gather(1, order[:, :k]), squared[:, :k]


def _may_miss_nearer(squared: Tensor, last: Tensor, squares: Tensor, largest_square: float, d: int) -> Tensor:
    """(b,) bool: whether rounding may have kept a nearer row out of the candidates.

    Args:
        squared: (b,) squared distance of the k-th nearest of the candidates.
        last: (b,) largest key of a candidate: the squared distance, less the row's own square, by the product.
        squares: (b,) squared norms of the rows.
        largest_square: of all rows.
        d: number of columns.
    """
    # Rounding errors of a sum of d products grow as its root; 4 leaves room. A product of the norms is at most the mean
    # of their squares.
    error = 4 * (d**0.5 + 4) * torch.finfo(squared.dtype).eps * (squares + largest_square)
    # Nothing is nearer than a duplicate.
    unsure: Tensor = (squared > 0) & (last + squares < squared + error)
    return unsure


def _nearest_by_differences(points: Tensor, i: int, extra: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(k,) the nearest of row ``i`` and their squared distances plus ``extra`` (n,), by differences to all rows."""
    step = max(1, BLOCK_ENTRIES // points.shape[1])
    squared = torch.cat([(block - points[i]).square_().sum(1) for block in torch.split(points, step)]) + extra
    squared[i] = torch.inf
    ids = _smallest(squared[None], k)[0]
    order = torch.argsort(squared[ids], stable=True)
    return ids[order], squared[ids[order]]


def _checked_squares(name: str, x: Tensor) -> Tensor:
    squares = squared_norms(x)
    # a difference of two centred points, and the terms of its expansion, stay below 16 times the largest square
    if not float(squares.max()) < torch.finfo(x.dtype).max / 16:
        raise ArgumentError(
            f"{name} is too large to be squared in {x.dtype}: the norm of example {int(squares.argmax())} is "
            f"{float(torch.linalg.vector_norm(x[int(squares.argmax())].double())):g}; divide {name} by a constant"
        )
    return squares
