"""Similarities of examples, in the three forms that a greedy method can afford: dense, in blocks, on a graph.

Every similarity is scaled into [0, 1], computed in float64 and rounded to a multiple of 2**-24. Such numbers are exact
in float32, and so is every sum of fewer than 2**29 of them in float64: gains do not depend on the order of summation,
what ties in truth ties in the machine, and the forms agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import tie_order
from datawinnow.core.errors import ArgumentError
from datawinnow.core.neighbours import DistanceMetric, knn, symmetric_graph

FormName = Literal["auto", "dense", "blocked", "sparse"]
SimilarityKind = Literal["cosine", "rbf", "dot", "distance"]
IdArray = NDArray[np.int64]
RowIndex = slice | NDArray[np.integer]

GRID = 2.0**24
DENSE_BYTES = 1e9
AUTO_BYTES = 256e6
"""Above this "auto" takes the graph: features and activations need memory too."""
BLOCK_BYTES = 64e6
COLUMN_BLOCK = 8192
EXTRA_NEIGHBOURS = 4
"""Additional neighbours whose similarity is computed exactly, since products in single precision round."""
KNN_METRICS: dict[str, DistanceMetric] = {"cosine": "cosine", "rbf": "euclidean"}
"""Metric by which the nearest neighbours are the most similar."""


class Similarity:
    """Similarity of any two of n examples, never all of them at once.

    Args:
        factors: (n, d) matrices M with a number a: the inner product of examples i and j is the product over them of
            ``<M_i, M_j> + a``. One matrix with 0 is plain features; an outer product of two vectors, such as the
            gradient of a linear layer, is two matrices.
        kind: with p the inner product and d the distance that it gives,
            ``"cosine"``: 0.5 + 0.5 p_ij / sqrt(p_ii p_jj) (a zero vector has cosine 0 to all others);
            ``"rbf"``: exp(-gamma d_ij^2); ``"dot"``: max(0, p_ij) / max p_ii;
            ``"distance"``: 1 - d_ij / D with D twice the largest norm, which no distance exceeds.
        gamma: for ``"rbf"``.
    """

    def __init__(self, factors: Sequence[tuple[Tensor, float]], kind: SimilarityKind, gamma: float = 1.0) -> None:
        self.factors, self.kind, self.gamma = factors, kind, gamma
        self.n = factors[0][0].shape[0]
        self.square = torch.empty(self.n, dtype=torch.float64)
        for first in range(0, self.n, self.pairs_at_once):
            ids = torch.arange(first, min(self.n, first + self.pairs_at_once))
            # p_ii, the squared norms: n products and not n^2.
            self.square[ids] = self._products(ids, ids)
        largest = float(self.square.max())
        # All vectors zero: any divisor serves, since every product is 0.
        self.largest = largest if largest > 0 else 1.0

    @property
    def rows_at_once(self) -> int:
        """Number of rows of similarities that fit in a block."""
        return max(1, int(BLOCK_BYTES / (8 * self.n)))

    @property
    def pairs_at_once(self) -> int:
        """Number of pairs of rows multiplied at a time: with all copies a quarter of a block."""
        return max(1, int(BLOCK_BYTES / (128 * max(matrix.shape[1] for matrix, _ in self.factors))))

    def diagonal(self) -> NDArray[np.float64]:
        """(n,) similarity of each example to itself."""
        if self.kind != "dot":
            return np.ones(self.n)
        return _gridded(self.square / self.largest).numpy().astype(np.float64)

    def block(self, rows: IdArray) -> Tensor:
        """(b, n) float32 similarities of the examples ``rows`` to all."""
        at = torch.from_numpy(rows)
        out = _gridded(self._finish(self._inner(at, torch.float64), self.square[at, None], self.square))  # (b, n)
        if self.kind != "dot":  # rounding, or a zero vector, leaves others
            out[torch.arange(len(rows)), at] = 1.0
        return out

    def pairs(self, a: Tensor, b: Tensor) -> Tensor:
        """(m,) float32 similarities of the examples ``a`` to the examples ``b``."""
        similarities = []
        size = self.pairs_at_once
        for first in range(0, a.numel(), size):
            i, j = a[first : first + size], b[first : first + size]
            similarities.append(_gridded(self._finish(self._products(i, j), self.square[i], self.square[j])))
        return torch.cat(similarities) if similarities else torch.empty(0)

    def nearest(self, k: int, tie_seed: int) -> Tensor:
        """(n, k) int64 ids of the k most similar to each, itself left out; ties are drawn."""
        matrix, shift = self.factors[0]
        # Plain features: the shared nearest-neighbour search. Products of factors and the inner product have no metric
        # there.
        if len(self.factors) == 1 and shift == 0 and self.kind in KNN_METRICS:
            return knn(matrix, k, metric=KNN_METRICS[self.kind], tie_seed=tie_seed)[0]
        if k == 0:
            return torch.empty(self.n, 0, dtype=torch.int64)
        num_candidates = min(k + EXTRA_NEIGHBOURS, self.n - 1)
        # |x_j|^2 / 2 - <x_i, x_j> is half the squared distance up to a term that does not depend on j
        # float32 finds candidates at half the cost; outside this range of squared norms it would over- or underflow.
        dtype = torch.float32 if 1e-30 < self.largest < 1e30 else torch.float64
        half = (self.square / 2).to(dtype) if self.kind in ("rbf", "distance") else torch.zeros(1, dtype=dtype)
        out = torch.empty(self.n, k, dtype=torch.int64)
        ties = tie_order(self.n, tie_seed)
        for first in range(0, self.n, self.rows_at_once):
            rows = torch.arange(first, min(self.n, first + self.rows_at_once))
            near = self._inner(rows, dtype).sub_(half)
            # The example itself is not its neighbour.
            near[torch.arange(rows.numel()), rows] = -torch.inf
            # In the order of ties, which the stable sort below keeps among equals.
            candidates = ties[near[:, ties].topk(num_candidates, dim=1).indices.sort(dim=1).values]
            exact = self.pairs(rows.repeat_interleave(num_candidates), candidates.flatten()).view(-1, num_candidates)
            order = exact.sort(dim=1, descending=True, stable=True).indices[:, :k]
            out[rows] = candidates.gather(1, order)
        return out

    def _inner(self, rows: Tensor, dtype: torch.dtype) -> Tensor:
        """(b, n) inner products."""
        product = torch.ones(1, dtype=dtype)
        for position, (matrix, shift) in enumerate(self.factors):
            left = matrix[rows].to(dtype)
            factor = torch.empty(rows.numel(), self.n, dtype=dtype)
            for first in range(0, self.n, COLUMN_BLOCK):  # never a copy of the whole matrix in another precision
                right = matrix[first : first + COLUMN_BLOCK].to(dtype)
                torch.mm(left, right.T, out=factor[:, first : first + COLUMN_BLOCK])
            factor = factor.add_(shift) if shift else factor
            product = product.mul_(factor) if position else factor
        return product

    def _products(self, i: Tensor, j: Tensor) -> Tensor:
        product = torch.ones(i.numel(), dtype=torch.float64)
        for matrix, shift in self.factors:
            product *= (matrix[i].to(torch.float64) * matrix[j].to(torch.float64)).sum(1) + shift
        return product

    def _finish(self, product: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """From inner products to similarities in [0, 1]; changes ``product``."""
        if self.kind == "cosine":
            tiny = torch.finfo(torch.float64).tiny
            return product.div_(a.sqrt().clamp_min(tiny)).div_(b.sqrt().clamp_min(tiny)).mul_(0.5).add_(0.5)
        if self.kind == "dot":
            return product.div_(self.largest)
        # Near-equal rows cancel to a small negative number, whose root would be NaN.
        squared = product.mul_(-2).add_(a).add_(b).clamp_(min=0)
        if self.kind == "rbf":
            return squared.mul_(-self.gamma).exp_()
        # 1 - d / D with D = 2 max |x|.
        return squared.sqrt_().div_(-2 * self.largest**0.5).add_(1)


def feature_similarity(features: Tensor, kind: str, gamma: float | None) -> Similarity:
    """The similarity of (n, d) features.

    Args:
        features: (n, d) floating.
        kind: ``"cosine"``, ``"rbf"`` or ``"dot"``.
        gamma: of the RBF; None for one over the mean squared distance between two examples.

    Raises:
        ArgumentError: an unknown similarity, or a gamma that is not positive.
    """
    check.one_of("similarity", kind, ("cosine", "rbf", "dot"))
    out = Similarity([(features, 0.0)], kind)  # type: ignore[arg-type]
    if gamma is not None:
        out.gamma = check.number("gamma", gamma, 1e-300, 1e300)
    elif kind == "rbf":
        mean = features.mean(0, dtype=torch.float64)
        # E |x - y|^2 = 2 (E |x|^2 - |E x|^2): the mean over all n^2 pairs in O(n d).
        spread = 2 * float(out.square.mean() - mean @ mean)
        out.gamma = 1 / spread if spread > 1e-12 * out.largest else 1.0
    return out


class SimilarityForm(Protocol):
    """Similarities as a greedy method reads them; they are symmetric, so that a row is a column."""

    n: int
    width: int

    def excess(self, ids: IdArray, best: NDArray[np.float32]) -> NDArray[np.float64]:
        """(b,) ``sum_i max(0, s_ij - best_i)`` of each j in ``ids``."""
        ...

    def row(self, j: int) -> tuple[RowIndex, NDArray[np.float32]]:
        """Indices of the examples with a similarity to j, and the similarities."""
        ...


class Matrix:
    """All n similarities of an example, stored (dense) or computed on each access (blocked)."""

    def __init__(self, similarity: Similarity, *, keep: bool) -> None:
        self.n, self.width = similarity.n, similarity.rows_at_once
        self.similarity = similarity
        self.kept: NDArray[np.float32] | None = None
        if keep:
            self.kept = np.empty((self.n, self.n), dtype=np.float32)
            for first in range(0, self.n, self.width):
                ids = np.arange(first, min(self.n, first + self.width))
                self.kept[first : first + self.width] = similarity.block(ids).numpy()

    def excess(self, ids: IdArray, best: NDArray[np.float32]) -> NDArray[np.float64]:
        """(b,) ``sum_i max(0, s_ij - best_i)`` of each j in ``ids``."""
        out = np.empty(len(ids))
        for first in range(0, len(ids), self.width):
            # Fancy indexing copies, so the subtraction does not change the stored similarities.
            over = self._rows(ids[first : first + self.width])
            over -= best
            np.maximum(over, 0, out=over)
            out[first : first + self.width] = over.sum(1, dtype=np.float64)
        return out

    def row(self, j: int) -> tuple[RowIndex, NDArray[np.float32]]:
        """Indices of the examples with a similarity to j (all), and the similarities."""
        return slice(None), self._rows(np.array([j]))[0]

    def _rows(self, ids: IdArray) -> NDArray[np.float32]:
        if self.kept is None:
            return self.similarity.block(ids).numpy()
        return self.kept[ids]


class Sparse:
    """Similarities to the nearest neighbours only; all others count as 0.

    Two examples are joined if either is among the k nearest of the other; each is joined to itself.

    Args:
        similarity: of the examples.
        neighbours: k.
        tie_seed: seed of the order of equally similar examples.
    """

    width = 64

    def __init__(self, similarity: Similarity, neighbours: int, tie_seed: int) -> None:
        n = self.n = similarity.n
        itself = torch.arange(n)[:, None]
        nearest = torch.cat([similarity.nearest(min(neighbours, n - 1), tie_seed), itself], 1)
        # Only the edges matter: the zero distances are expanded from one number and take no memory.
        graph = symmetric_graph(nearest, torch.zeros(1).expand(nearest.shape))
        start_of = itself[:, 0].repeat_interleave(graph.start.diff())
        values = similarity.pairs(start_of, graph.to)
        values[start_of == graph.to] = torch.from_numpy(similarity.diagonal().astype(np.float32))
        self.starts, self.values = graph.start.numpy(), values.numpy()
        # Half the memory of the largest array of the graph.
        self.ends = graph.to.to(torch.int32 if n < 2**31 else torch.int64).numpy()

    def excess(self, ids: IdArray, best: NDArray[np.float32]) -> NDArray[np.float64]:
        """(b,) ``sum_i max(0, s_ij - best_i)`` of each j in ``ids``."""
        # The lazy greedy mostly asks for one gain: a slice is cheaper than the gather below.
        if len(ids) == 1:
            where, values = self.row(int(ids[0]))
            one: NDArray[np.float64] = np.maximum(values - best[where], 0).sum(dtype=np.float64, keepdims=True)
            return one
        out = np.empty(len(ids))
        for first in range(0, len(ids), COLUMN_BLOCK):
            block = ids[first : first + COLUMN_BLOCK]
            sizes = self.starts[block + 1] - self.starts[block]
            offsets = sizes.cumsum() - sizes
            # Positions of all edges of the block, list after list: a gather of ragged rows without a loop.
            at = np.arange(int(sizes.sum())) + np.repeat(self.starts[block] - offsets, sizes)
            over = self.values[at] - best[self.ends[at]]
            np.maximum(over, 0, out=over)
            # reduceat needs every list to be non-empty, which the edge of each example to itself guarantees.
            out[first : first + COLUMN_BLOCK] = np.add.reduceat(over, offsets, dtype=np.float64)
        return out

    def row(self, j: int) -> tuple[RowIndex, NDArray[np.float32]]:
        """Indices of the examples with a similarity to j, and the similarities."""
        at = slice(self.starts[j], self.starts[j + 1])
        return self.ends[at], self.values[at]


def build_form(similarity: Similarity, form: str, neighbours: int, tie_seed: int) -> SimilarityForm:
    """The similarities in a form that a greedy method reads.

    Args:
        similarity: of the examples.
        form: ``"dense"`` keeps (n, n) float32, which must be under 1 GB; ``"blocked"`` computes rows on each
            access; ``"sparse"`` keeps the graph of ``neighbours`` nearest neighbours; ``"auto"`` is dense
            under 256 MB (n < 8,000) and sparse above.
        neighbours: k of the graph.
        tie_seed: seed of the order of equally similar examples, of which the graph keeps k.

    Raises:
        ArgumentError: an unknown form, fewer than 1 neighbour, or a dense form of 1 GB or more.
    """
    check.one_of("form", form, ("auto", "dense", "blocked", "sparse"))
    check.number("neighbours", neighbours, 1, 10**6, integer=True)
    size = 4.0 * similarity.n**2
    if form == "dense" and size >= DENSE_BYTES:
        raise ArgumentError(
            f'form="dense" would keep {size / 1e9:.1f} GB of similarities of {similarity.n} examples, and the most is '
            f'1 GB: use form="sparse" (the {neighbours} nearest neighbours), form="blocked" (computed again for each '
            "pick), or wrap the selector in per_class"
        )
    if form == "auto":
        form = "dense" if size < AUTO_BYTES else "sparse"
    return Sparse(similarity, neighbours, tie_seed) if form == "sparse" else Matrix(similarity, keep=form == "dense")


def _gridded(values: Tensor) -> Tensor:
    # A power of two: multiplying and dividing by it is exact, only round_() changes the value.
    return values.clamp_(0, 1).mul_(GRID).round_().div_(GRID).to(torch.float32)
