"""k-means in chunks: Lloyd's algorithm, by default with a deterministic initialisation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import largest
from datawinnow.core.epochs import blocks
from datawinnow.core.errors import ArgumentError

CHUNK_ENTRIES = 1 << 18
"""Entries of a chunk of the (n, k) distances: 2 MB in float64, about the cache of a core."""
CHUNK_ENTRIES_CUDA = 1 << 24
"""The same on a GPU, which needs larger operations."""
POWER_ITERATIONS = 10
"""Steps of the power iteration for a principal direction; the initialisation needs it only roughly."""


class Clusters(NamedTuple):
    """Result of `kmeans`.

    Attributes:
        centres: (k, d) float64, the mean of each cluster; some are equal if fewer than k rows are distinct.
        assignment: (n,) int64, the nearest centre; ties go to the smaller number.
        inertia: sum of squared distances to the nearest centre.
    """

    centres: Tensor
    assignment: Tensor
    inertia: float


def kmeans(
    x: Any,
    k: int,
    *,
    init: Literal["principal", "++"] = "principal",
    generator: torch.Generator | None = None,
    iterations: int = 100,
    tolerance: float = 1e-4,
    unit: bool = False,
) -> Clusters:
    """Divide rows into k clusters of small squared distances to their means (Lloyd 1982).

    Sums and distances are float64, whatever the dtype of ``x``, and computed for chunks of rows: no (n, k) array is
    made, and the order of the rows matters only for ties. An empty cluster is moved to the row that is farthest from
    its centre.

    Args:
        x: (n, d) float, finite.
        k: number of clusters, 1 to n.
        init: ``"principal"`` splits the cluster of the largest sum of squares at its mean, across its principal
            direction, until there are k (PCA-Part, Su and Dy 2007, Intelligent Data Analysis 11); it is deterministic.
            ``"++"`` draws rows by their squared distance to those drawn before, the best of a few candidates each
            time (Arthur and Vassilvitskii 2007, greedy form).
        generator: source of the draw, for ``"++"`` only.
        iterations: maximum number of steps.
        tolerance: stop if the sum of the centres' squared moves is at most this fraction of the mean variance of a
            column; 0 to continue until no row changes its cluster.
        unit: divide every row by its norm first (a row of zeros stays).

    Returns:
        `Clusters`.

    Raises:
        ArgumentError: NaN or infinity, k outside 1 to n, another ``init``, or a generator missing or not needed.

    >>> kmeans([[0.0], [1.0], [9.0], [11.0]], 2).assignment.tolist()
    [0, 0, 1, 1]
    """
    rows = ClusterRows(check.matrix("x", x), unit)
    check.number("k", k, 1, 10**9, integer=True)
    check.number("iterations", iterations, 1, 10**9, integer=True)
    check.number("tolerance", tolerance, 0, math.inf)
    check.one_of("init", init, ("principal", "++"))
    if k > rows.n:
        raise ArgumentError(f"k must be at most the number of rows, {rows.n}, got {k}")
    if init == "principal":
        if generator is not None:
            raise ArgumentError('generator is for init="++"; init="principal" draws nothing')
        centres = principal_start(rows, k)
    else:
        centres = plus_plus_start(rows, k, check.generator(generator))
    return lloyd(rows, centres, iterations, tolerance)


class ClusterRows:
    """Rows of ``x`` in float64, a chunk at a time."""

    def __init__(self, x: Tensor, unit: bool) -> None:
        self.x, self.unit = x, unit
        self.n, self.d = x.shape

    def take(self, ids: slice | Tensor) -> Tensor:
        """(m, d) float64."""
        taken = self.x[ids].to(torch.float64)
        if self.unit:
            # a row of zeros stays: 0 divided by the smallest number is 0
            taken = taken / taken.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        return taken

    def chunks(self, width: int, ids: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """(slice, rows) of all rows, or of ``ids``, with as many rows m as make (m, max(d, width)) one chunk."""
        n = self.n if ids is None else ids.numel()
        entries = CHUNK_ENTRIES_CUDA if self.x.is_cuda else CHUNK_ENTRIES
        # the rows themselves count too: with few clusters the (m, d) copy is the larger array
        for first, last in blocks(n, max(1, entries // max(self.d, width))):
            where = slice(first, last)
            yield where, self.take(where if ids is None else ids[where])

    def zeros(self, *shape: int) -> Tensor:
        """Float64 zeros on the device of the rows."""
        return torch.zeros(*shape, dtype=torch.float64, device=self.x.device)


def lloyd(rows: ClusterRows, centres: Tensor, iterations: int, tolerance: float) -> Clusters:
    """Lloyd's algorithm from the (k, d) ``centres``: assign and average until a step moves them too little.

    Args:
        rows: the examples.
        centres: (k, d), replaced by the means.
        iterations: maximum number of steps.
        tolerance: as in `kmeans`.
    """
    # the sum of squares about the mean over n * d is the mean variance of a column
    stop_below = tolerance * measure_subset(rows, None).square / (rows.n * rows.d)
    # -1 differs from every cluster: the first step always counts as a change
    assignment = torch.full((rows.n,), -1, dtype=torch.int64, device=rows.x.device)
    distance = rows.zeros(rows.n)  # squared, to the nearest centre
    for _ in range(iterations):
        sums, count, changed = _assign(rows, centres, assignment, distance)
        if not changed:
            break
        _fill_empty(rows, sums, count, assignment, distance)
        # a cluster that stays empty keeps its centre
        new = torch.where(count[:, None] > 0, sums / count[:, None].clamp_min(1), centres)
        moved = float((new - centres).square().sum())
        centres = new
        if tolerance and moved <= stop_below:
            # assignment and distances must belong to the centres that are returned
            _assign(rows, centres, assignment, distance)
            break
    else:
        # the limit of iterations was reached: the same, for the last centres
        _assign(rows, centres, assignment, distance)
    return Clusters(centres, assignment, float(distance.sum()))


def _assign(rows: ClusterRows, centres: Tensor, assignment: Tensor, distance: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Write each row's nearest centre and squared distance; sums and counts of clusters, and whether any row moved."""
    k = len(centres)
    sums = rows.zeros(k, rows.d)
    half = centres.square().sum(dim=1) / 2
    changed = False
    for where, chunk in rows.chunks(k):
        # half the squared distance, less half the square of the row, which does not change the order
        nearest = (half - chunk @ centres.T).argmin(dim=1)
        changed = changed or not torch.equal(nearest, assignment[where])
        assignment[where] = nearest
        # from differences: the product above cancels for a row close to its centre
        distance[where] = (chunk - centres[nearest]).square().sum(dim=1)
        if chunk.is_cuda:  # index_add_ is not deterministic on CUDA
            member = torch.nn.functional.one_hot(nearest, k).to(chunk.dtype)
            sums += member.T @ chunk
        else:
            sums.index_add_(0, nearest, chunk)
    return sums, torch.bincount(assignment, minlength=k).to(torch.float64), changed


def _fill_empty(rows: ClusterRows, sums: Tensor, count: Tensor, assignment: Tensor, distance: Tensor) -> None:
    """Move the rows farthest from their centres (ties: smaller id) into the empty clusters, one each."""
    empty = torch.nonzero(count == 0).flatten().tolist()
    if not empty:
        return
    # twice as many candidates: a row that is alone in its cluster is passed over
    for i in largest(distance.cpu(), min(rows.n, 2 * len(empty))).tolist():
        # a row at distance 0 equals its centre: moving it gains nothing
        if not empty or not distance[i] > 0:
            return
        old = int(assignment[i])
        if count[old] > 1:
            # only sums and counts change; the next step assigns the rows
            new = empty.pop(0)
            row = rows.take(slice(i, i + 1))[0]
            sums[old] -= row
            count[old] -= 1
            sums[new] = row
            count[new] = 1


class RowSubset(NamedTuple):
    """A subset of the rows: ids (None for all), mean, sum of squared distances to it, farthest row minus mean."""

    ids: Tensor | None
    mean: Tensor
    square: float
    farthest: Tensor


def principal_start(rows: ClusterRows, k: int) -> Tensor:
    """(k, d) means of the subsets of PCA-Part; the first is repeated if nothing more can be split."""
    subsets = [measure_subset(rows, None)]
    while len(subsets) < k:
        worst = max(range(len(subsets)), key=lambda j: subsets[j].square)  # of equals the first
        if subsets[worst].square <= 0:
            break
        right = _right_of(rows, subsets[worst])
        if not 0 < int(right.sum()) < right.numel():  # equal rows, apart from the rounding of their mean
            # never chosen again
            subsets[worst] = subsets[worst]._replace(square=0.0)
            continue
        ids = subsets[worst].ids
        if ids is None:
            ids = torch.arange(rows.n, device=rows.x.device)
        subsets[worst] = measure_subset(rows, ids[~right])
        subsets.append(measure_subset(rows, ids[right]))
    means = [subset.mean for subset in subsets]
    # the number of centres is always k: copies of the first attract no row, since ties go to the smaller number
    return torch.stack(means + means[:1] * (k - len(means)))


def measure_subset(rows: ClusterRows, ids: Tensor | None) -> RowSubset:
    """The subset of ``ids``; of rows equally far from the mean, the first is the farthest."""
    mean = rows.zeros(rows.d)
    for _, chunk in rows.chunks(1, ids):
        mean += chunk.sum(dim=0)
    mean /= rows.n if ids is None else ids.numel()
    # -1, so that even a distance of 0 is above it
    total, maximum, farthest = 0.0, -1.0, mean
    for _, chunk in rows.chunks(1, ids):
        # a second pass about the mean: sum(x^2) - n mean^2 would cancel far from the origin
        chunk = chunk - mean
        square = chunk.square().sum(dim=1)
        total += float(square.sum())
        at = int(square.argmax())
        if float(square[at]) > maximum:
            maximum, farthest = float(square[at]), chunk[at].clone()
    return RowSubset(ids, mean, total, farthest)


def _right_of(rows: ClusterRows, subset: RowSubset) -> Tensor:
    """(m,) bool: rows of a subset that lie past its mean along its principal direction.

    Power iteration from the farthest row, which is rarely orthogonal to that direction. The direction's largest
    coordinate is made positive, so that its sign does not depend on the order of the rows.
    """
    # the norm is positive: only subsets with a positive sum of squares are split
    direction = subset.farthest / subset.farthest.norm()
    for _ in range(POWER_ITERATIONS):
        image = rows.zeros(rows.d)
        offset = subset.mean @ direction
        for _, chunk in rows.chunks(1, subset.ids):
            # the left factor needs no centring: the contributions of the mean add up to 0
            image += chunk.T @ (chunk @ direction - offset)
        length = image.norm()
        if not length > 0:
            break
        direction = image / length
    if direction[direction.abs().argmax()] < 0:
        direction = -direction
    # strictly above 0: rows at the mean stay on the left
    return torch.cat([(chunk - subset.mean) @ direction > 0 for _, chunk in rows.chunks(1, subset.ids)])


def plus_plus_start(rows: ClusterRows, k: int, generator: torch.Generator) -> Tensor:
    """(k, d) rows drawn by squared distance to those before; the best of 2 + log k candidates each time."""
    num_candidates = 2 + int(math.log(k))
    first = int(torch.randint(rows.n, (), generator=generator))
    centres = [rows.take(slice(first, first + 1))[0]]
    nearest = torch.cat([(chunk - centres[0]).square().sum(dim=1) for _, chunk in rows.chunks(1)])
    while len(centres) < k:
        cumulative = nearest.cumsum(0)
        uniform = torch.rand(num_candidates, generator=generator, dtype=torch.float64).to(cumulative.device)
        # right=True passes over rows of weight 0; the clamp is for rounding, and for all distances being 0
        drawn = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True).clamp_max(rows.n - 1)
        candidates = rows.take(drawn)
        # (n, candidates): squared distances to the nearest centre if the candidate became one
        left = rows.zeros(rows.n, num_candidates)
        for where, chunk in rows.chunks(num_candidates):
            for j, candidate in enumerate(candidates):
                left[where, j] = (chunk - candidate).square().sum(dim=1).minimum(nearest[where])
        best = int(left.sum(dim=0).argmin())
        centres.append(candidates[best])
        # a clone: a view of one column would keep the whole array
        nearest = left[:, best].clone()
    return torch.stack(centres)
