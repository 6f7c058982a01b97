"""Pairs of rows within a small distance of each other, without an (n, n) array; of many rows, in cells."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.neighbours import DistanceMetric
from datawinnow.core.rng import stream

EXACT_ROWS = 8192
"""Up to so many rows every pair is compared."""
ROWS_PER_CELL = 500
"""Rows of a cell on average: with more, comparing within cells costs most; with fewer, finding the cells does."""
BLOCK_ROWS = 4096
"""Rows of a block whose cells are looked up at once."""
BLOCK_CELL_ENTRIES = 1 << 22
"""Entries of a block of distances within a cell: 16 MB of float32."""


class ClosePairs(NamedTuple):
    """Pairs of a query and a row within a distance of each other.

    Attributes:
        query: (m,) int64 number of the query; in rising order.
        row: (m,) int64 number of the row.
        distance: (m,) float32, in the metric of the index.
    """

    query: Tensor
    row: Tensor
    distance: Tensor


class CellIndex:
    """Rows divided into cells, each around a pivot (a row drawn at random), to look up close rows fast.

    A query is compared with the rows of the cells of its nearest pivots only. Two rows that are much closer to each
    other than to the pivots lie in the same cell or in neighbouring ones, so a few cells hold nearly all close pairs.
    Up to `EXACT_ROWS` rows form one cell: every pair is compared.

    Args:
        x: (n, d) float, finite; kept, not copied.
        metric: ``"euclidean"``, or ``"cosine"``: 1 minus the cosine of the angle; a row of zeros is at distance 1 from
            all.
        cells: number of cells; by default `ROWS_PER_CELL` rows each.
        seed: of the draw of the pivots.

    Raises:
        ArgumentError: another shape, NaN or infinity, or an unknown metric.
    """

    def __init__(
        self, x: Any, *, metric: DistanceMetric = "euclidean", cells: int | None = None, seed: int = 0
    ) -> None:
        self.x = check.matrix("x", x)
        self.metric = check.one_of("metric", metric, ("euclidean", "cosine"))
        n = len(self.x)
        if cells is None:
            cells = 1 if n <= EXACT_ROWS else -(-n // ROWS_PER_CELL)
        check.number("cells", cells, 1, n, integer=True)
        # points near the origin: products of points far from it round away small distances
        self.centre = torch.zeros_like(self.x[0]) if metric == "cosine" else _column_means(self.x)
        drawn = torch.randperm(n, generator=stream(seed, "close pairs", "pivots"))[:cells].sort().values
        self.pivots = self._points(self.x[drawn])
        self.pivot_squares = self.pivots.square().sum(1)
        cell = torch.cat([self._cells(block, 1)[:, 0] for block in self.x.split(BLOCK_ROWS)])
        self.members = torch.argsort(cell, stable=True)
        self.start = torch.zeros(cells + 1, dtype=torch.int64)
        self.start[1:] = torch.bincount(cell, minlength=cells).cumsum(0)

    def search(
        self, queries: Any, radius: float, *, k: int = 8, probes: int = 4, exclude_same: bool = False
    ) -> ClosePairs:
        """The rows within ``radius`` of each query, at most ``k`` of a cell: the nearest.

        Args:
            queries: (m, d) float, finite.
            radius: the largest distance, in the metric.
            k: rows of a cell that a query is paired with at most.
            probes: cells that a query is looked up in; 1 and above.
            exclude_same: leave out the pair of query i and row i, for queries that are the rows.

        Returns:
            `ClosePairs`.

        Raises:
            ArgumentError: another shape, NaN or infinity, or a number out of range.
        """
        targets = check.matrix("queries", queries, "m,d")
        check.number("radius", radius, 0, float("inf"))
        check.number("k", k, 1, 10**9, integer=True)
        check.number("probes", probes, 1, 10**9, integer=True)
        probes = min(probes, len(self.pivots))
        # |u - v|^2 is twice the distance of unit rows
        bound = 2 * radius if self.metric == "cosine" else radius * radius
        cells = torch.cat([self._cells(block, probes) for block in targets.split(BLOCK_ROWS)]).flatten()
        order = torch.argsort(cells, stable=True)
        counts = torch.bincount(cells, minlength=len(self.pivots)).tolist()
        chunks, first = [], 0
        for cell, count in enumerate(counts):
            members = self.members[self.start[cell] : self.start[cell + 1]]
            if count and len(members):
                # `order` counts (query, probe) pairs
                numbers = order[first : first + count] // probes
                chunks += self._within(targets, numbers, members, bound, k, exclude_same)
            first += count
        if not chunks:
            none = torch.empty(0, dtype=torch.int64)
            return ClosePairs(none, none, torch.empty(0))
        query, row, distance = (torch.cat(each) for each in zip(*chunks, strict=True))
        by_query = torch.argsort(query, stable=True)
        return ClosePairs(query[by_query], row[by_query], distance[by_query])

    def _within(
        self, targets: Tensor, numbers: Tensor, members: Tensor, bound: float, k: int, exclude_same: bool
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Close pairs of the queries ``numbers`` and the rows ``members`` of one cell."""
        points = self._points(self.x[members])
        squares, extra = self._squares(points)
        # the product rounds: a little more than the bound, and the distance of what passes is computed again
        slack = 64 * torch.finfo(points.dtype).eps * float(squares.max())
        chunks = []
        for queries in numbers.split(min(BLOCK_ROWS, max(1, BLOCK_CELL_ENTRIES // len(members)))):
            block = self._points(targets[queries])
            block_squares, block_extra = self._squares(block)
            keys = torch.addmm(squares, block, points.T, alpha=-2)
            limit = bound - block_squares + slack
            if exclude_same:
                keys[queries[:, None] == members] = torch.inf
            near = torch.nonzero(keys.amin(1) <= limit).flatten()
            if not len(near):
                continue
            values, columns = keys[near].topk(min(k, len(members)), dim=1, largest=False)
            at, place = torch.nonzero(values <= limit[near, None], as_tuple=True)
            at, column = near[at], columns[at, place]
            squared = (block[at] - points[column]).square_().sum(1) + block_extra[at] + extra[column]
            close = squared <= bound * (1 + 1e-6)
            distance = squared[close] / 2 if self.metric == "cosine" else squared[close].sqrt()
            chunks.append((queries[at[close]], members[column[close]], distance.float()))
        return chunks

    def _cells(self, block: Tensor, count: int) -> Tensor:
        """(b, count) the cells of the nearest pivots of each row."""
        if len(self.pivots) == 1:
            return torch.zeros(len(block), 1, dtype=torch.int64)
        keys = torch.addmm(self.pivot_squares, self._points(block), self.pivots.T, alpha=-2)
        return keys.argmin(1)[:, None] if count == 1 else keys.topk(count, dim=1, largest=False, sorted=False).indices

    def _squares(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(m,) squared lengths to compare by, and what differences lack of them: 0 but for rows of zeros."""
        squares = points.square().sum(1)
        if self.metric == "euclidean":
            return squares, torch.zeros_like(squares)
        # a row of zeros counts as of length 1: its products, 0, then stand for a right angle
        return torch.ones_like(squares), (squares == 0).to(squares.dtype)

    def _points(self, rows: Tensor) -> Tensor:
        """Rows as they are compared: centred, or of length 1."""
        rows = rows.to(self.x.dtype)
        if self.metric == "euclidean":
            return rows - self.centre
        norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        return rows / torch.where(norm > 0, norm, torch.ones_like(norm))


def close_pairs(
    x: Any,
    radius: float,
    *,
    metric: DistanceMetric = "euclidean",
    k: int = 8,
    probes: int = 4,
    cells: int | None = None,
    seed: int = 0,
) -> ClosePairs:
    """Pairs of rows within ``radius`` of each other.

    Up to `EXACT_ROWS` rows all pairs are compared; of more, those in cells of the same few pivots (`CellIndex`), in
    O(n sqrt(n) d) time for a bounded number of rows in a cell and without a second copy of ``x``.

    Args:
        x: (n, d) float, finite.
        radius: the largest distance.
        metric: ``"euclidean"`` or ``"cosine"``.
        k: the number of nearest rows in a cell that a row is paired with at most.
        probes: cells in which a row is looked up; more find more and take longer.
        cells: number of cells; by default by the number of rows.
        seed: of the draw of the pivots.

    Returns:
        `ClosePairs`, each pair once, with the smaller number as its query.

    Raises:
        ArgumentError: another shape, NaN or infinity, or a number out of range.

    >>> pairs = close_pairs([[0.0], [5.0], [0.1], [5.0]], 0.2)
    >>> pairs.query.tolist(), pairs.row.tolist()
    ([0, 1], [2, 3])
    """
    index = CellIndex(x, metric=metric, cells=cells, seed=seed)
    both_ways = index.search(index.x, radius, k=k, probes=probes, exclude_same=True)
    return unique_pairs(both_ways, len(index.x))


def unique_pairs(pairs: ClosePairs, n: int) -> ClosePairs:
    """Each pair of rows once, the smaller number first, with its smallest distance; pairs of a row with itself go."""
    low, high = torch.minimum(pairs.query, pairs.row), torch.maximum(pairs.query, pairs.row)
    # by distance first: the stable sort by pair then has the smallest first
    order = torch.argsort(pairs.distance, stable=True)
    key = (low * n + high)[order]
    key, by_key = torch.sort(key, stable=True)
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[1:] != key[:-1]
    chosen = order[by_key[first]]
    chosen = chosen[low[chosen] != high[chosen]]
    return ClosePairs(low[chosen], high[chosen], pairs.distance[chosen])


def _column_means(x: Tensor) -> Tensor:
    """(d,) mean of the rows, in float64 and by blocks."""
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for block in x.split(BLOCK_ROWS):
        total += block.sum(0, dtype=torch.float64)
    return (total / len(x)).to(x.dtype)
