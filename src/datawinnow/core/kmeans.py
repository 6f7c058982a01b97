"""k-means in chunks: Lloyd's algorithm, by default from a start that draws nothing."""

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

ENTRIES = 1 << 18
"""Entries of a chunk, 2 MB in float64, near the cache of a core: all that is ever held of the n x k distances."""
ENTRIES_CUDA = 1 << 24
"""The same on a GPU, which has more to do at once."""
TURNS = 10
"""Steps of the power iteration for a principal direction: a start needs no more than roughly that."""


class Clusters(NamedTuple):
    """What `kmeans` finds.

    Attributes:
        centres: (k, d) float64, the mean of each cluster; some may be equal where fewer than k rows are distinct.
        assignment: (n,) int64, the nearest centre, ties to the smaller number.
        inertia: sum of squared distances to it.
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
    """Divide rows into k clusters that make the sum of squared distances to their means small (Lloyd 1982).

    All sums and distances are float64, whatever ``x`` is, and taken over chunks of rows: no n x k array is made, and
    the order of the rows has no part in the answer but for ties. A cluster left empty begins anew at the row that is
    farthest from its centre.

    Args:
        x: (n, d) float, finite.
        k: clusters, 1 to n.
        init: ``"principal"`` splits the cluster of the largest sum of squares at its mean, across its principal
            direction, until there are k (PCA-Part of Su and Dy 2007, Intelligent Data Analysis 11); nothing is drawn.
            ``"++"`` draws rows by their squared distance to those drawn before, the best of a few each time
            (Arthur and Vassilvitskii 2007, greedy form).
        generator: source of the draw, for ``"++"`` only.
        iterations: most steps.
        tolerance: stop when the centres' squared moves together are at most this share of the mean variance of a
            column; 0 to go on until no row changes its cluster.
        unit: divide every row by its length first (a zero row stays).

    Returns:
        `Clusters`.

    Raises:
        ArgumentError: NaN or infinity, k outside 1 to n, another ``init``, or a generator missing or too many.

    >>> kmeans([[0.0], [1.0], [9.0], [11.0]], 2).assignment.tolist()
    [0, 0, 1, 1]
    """
    rows = _Rows(check.rows("x", x), unit)
    check.number("k", k, 1, 10**9, integer=True)
    check.number("iterations", iterations, 1, 10**9, integer=True)
    check.number("tolerance", tolerance, 0, math.inf)
    check.one_of("init", init, ("principal", "++"))
    if k > rows.n:
        raise ArgumentError(f"k must be at most the number of rows, {rows.n}, got {k}")
    if init == "principal":
        if generator is not None:
            raise ArgumentError('generator is for init="++"; init="principal" draws nothing')
        centres = _principal(rows, k)
    else:
        centres = _plus_plus(rows, k, check.generator(generator))
    return _lloyd(rows, centres, iterations, tolerance)


class _Rows:
    """Rows of ``x`` in float64, a chunk at a time."""

    def __init__(self, x: Tensor, unit: bool) -> None:
        self.x, self.unit = x, unit
        self.n, self.d = x.shape

    def take(self, which: slice | Tensor) -> Tensor:
        """(m, d) float64."""
        part = self.x[which].to(torch.float64)
        if self.unit:
            part = part / part.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        return part

    def chunks(self, width: int, ids: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """(where, rows) of all rows, or of ``ids``, so many that (m, max(d, width)) is a chunk."""
        n = self.n if ids is None else ids.numel()
        entries = ENTRIES_CUDA if self.x.is_cuda else ENTRIES
        for first, last in blocks(n, max(1, entries // max(self.d, width))):
            where = slice(first, last)
            yield where, self.take(where if ids is None else ids[where])

    def zeros(self, *shape: int) -> Tensor:
        """Float64 zeros where the rows are."""
        return torch.zeros(*shape, dtype=torch.float64, device=self.x.device)


def _lloyd(rows: _Rows, centres: Tensor, iterations: int, tolerance: float) -> Clusters:
    enough = tolerance * _part(rows, None).square / (rows.n * rows.d)
    assignment = torch.full((rows.n,), -1, dtype=torch.int64, device=rows.x.device)
    away = rows.zeros(rows.n)
    for _ in range(iterations):
        sums, count, changed = _assign(rows, centres, assignment, away)
        if not changed:
            break
        _fill_empty(rows, sums, count, assignment, away)
        new = torch.where(count[:, None] > 0, sums / count[:, None].clamp_min(1), centres)
        moved = float((new - centres).square().sum())
        centres = new
        if tolerance and moved <= enough:
            _assign(rows, centres, assignment, away)
            break
    else:
        _assign(rows, centres, assignment, away)
    return Clusters(centres, assignment, float(away.sum()))


def _assign(rows: _Rows, centres: Tensor, assignment: Tensor, away: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Write each row's nearest centre and squared distance; sums and counts of clusters, and whether any row moved."""
    k = len(centres)
    sums = rows.zeros(k, rows.d)
    half = centres.square().sum(dim=1) / 2
    changed = False
    for where, part in rows.chunks(k):
        nearest = (half - part @ centres.T).argmin(dim=1)  # half the squared distance, less half the row's own square
        changed = changed or not torch.equal(nearest, assignment[where])
        assignment[where] = nearest
        away[where] = (part - centres[nearest]).square().sum(dim=1)
        if part.is_cuda:  # index_add_ adds in any order there
            member = torch.nn.functional.one_hot(nearest, k).to(part.dtype)
            sums += member.T @ part
        else:
            sums.index_add_(0, nearest, part)
    return sums, torch.bincount(assignment, minlength=k).to(torch.float64), changed


def _fill_empty(rows: _Rows, sums: Tensor, count: Tensor, assignment: Tensor, away: Tensor) -> None:
    """Move the rows farthest from their centres (ties: smaller id) into the empty clusters, one each."""
    empty = torch.nonzero(count == 0).flatten().tolist()
    if not empty:
        return
    for i in largest(away.cpu(), min(rows.n, 2 * len(empty))).tolist():
        if not empty or not away[i] > 0:
            return
        old = int(assignment[i])
        if count[old] > 1:
            new = empty.pop(0)
            row = rows.take(slice(i, i + 1))[0]
            sums[old] -= row
            count[old] -= 1
            sums[new] = row
            count[new] = 1


class _Part(NamedTuple):
    """Some rows: their ids (None for all), mean, summed squared distance to it, and the way to the farthest."""

    ids: Tensor | None
    mean: Tensor
    square: float
    far: Tensor


def _principal(rows: _Rows, k: int) -> Tensor:
    """(k, d) means of the parts of PCA-Part; the first is repeated where nothing more can be split."""
    parts = [_part(rows, None)]
    while len(parts) < k:
        worst = max(range(len(parts)), key=lambda j: parts[j].square)  # the first of the largest
        if parts[worst].square <= 0:
            break
        right = _right_of(rows, parts[worst])
        if not 0 < int(right.sum()) < right.numel():  # equal rows whose mean has rounded
            parts[worst] = parts[worst]._replace(square=0.0)
            continue
        ids = parts[worst].ids
        if ids is None:
            ids = torch.arange(rows.n, device=rows.x.device)
        parts[worst] = _part(rows, ids[~right])
        parts.append(_part(rows, ids[right]))
    means = [part.mean for part in parts]
    return torch.stack(means + means[:1] * (k - len(means)))


def _part(rows: _Rows, ids: Tensor | None) -> _Part:
    """The part that holds ``ids``; of rows equally far from the mean, the first counts as farthest."""
    mean = rows.zeros(rows.d)
    for _, chunk in rows.chunks(1, ids):
        mean += chunk.sum(dim=0)
    mean /= rows.n if ids is None else ids.numel()
    total, most, far = 0.0, -1.0, mean
    for _, chunk in rows.chunks(1, ids):
        chunk = chunk - mean
        square = chunk.square().sum(dim=1)
        total += float(square.sum())
        at = int(square.argmax())
        if float(square[at]) > most:
            most, far = float(square[at]), chunk[at].clone()
    return _Part(ids, mean, total, far)


def _right_of(rows: _Rows, part: _Part) -> Tensor:
    """(m,) bool, which rows of a part lie past its mean along its principal direction.

    Power iteration from the farthest row, which is seldom at a right angle to it. The direction's largest coordinate is
    made positive, so that the order of the rows cannot turn it.
    """
    direction = part.far / part.far.norm()
    for _ in range(TURNS):
        image = rows.zeros(rows.d)
        offset = part.mean @ direction
        for _, chunk in rows.chunks(1, part.ids):
            image += chunk.T @ (chunk @ direction - offset)  # the mean's own share sums to nothing
        length = image.norm()
        if not length > 0:
            break
        direction = image / length
    if direction[direction.abs().argmax()] < 0:
        direction = -direction
    return torch.cat([(chunk - part.mean) @ direction > 0 for _, chunk in rows.chunks(1, part.ids)])


def _plus_plus(rows: _Rows, k: int, generator: torch.Generator) -> Tensor:
    """(k, d) rows drawn by squared distance to those before; of 2 + log k candidates the one that leaves least."""
    tries = 2 + int(math.log(k))
    first = int(torch.randint(rows.n, (), generator=generator))
    centres = [rows.take(slice(first, first + 1))[0]]
    nearest = torch.cat([(part - centres[0]).square().sum(dim=1) for _, part in rows.chunks(1)])
    while len(centres) < k:
        upto = nearest.cumsum(0)
        mark = torch.rand(tries, generator=generator, dtype=torch.float64).to(upto.device) * upto[-1]
        drawn = torch.searchsorted(upto, mark, right=True).clamp_max(rows.n - 1)
        candidates = rows.take(drawn)
        left = rows.zeros(rows.n, tries)
        for where, part in rows.chunks(tries):
            for j, candidate in enumerate(candidates):
                left[where, j] = (part - candidate).square().sum(dim=1).minimum(nearest[where])
        best = int(left.sum(dim=0).argmin())
        centres.append(candidates[best])
        nearest = left[:, best].clone()
    return torch.stack(centres)
