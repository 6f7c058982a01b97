"""Graph cut: examples similar to all others, but not to each other."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, selectable_ids
from datawinnow.select.greedy import Greedy, check_greedy, maximise
from datawinnow.select.similarity import FormName, IdArray, SimilarityForm, build_form, feature_similarity


class GraphCut:
    """``f(S) = sum_{i, j in S} s_ij - lam sum_{i in S, j in S} s_ij``, i of the first sum over all.

    Keeps each example's similarity to S so far.

    Args:
        form: the similarities.
        lam: weight of the second sum.
        diagonal: (n,) similarity of each example to itself.
    """

    # A gain is a lookup, so many stale bounds are refreshed at once.
    width = 8192

    def __init__(self, form: SimilarityForm, lam: float, diagonal: NDArray[np.float64]) -> None:
        self.form, self.n, self.lam, self.diagonal = form, form.n, lam, diagonal
        # With best = 0 the excess is the plain sum over i of s_ij: the modular first term, computed once.
        self.total = form.excess(np.arange(form.n), np.zeros(form.n, dtype=np.float32))
        self.inside = np.zeros(form.n)

    def gains(self, ids: IdArray) -> NDArray[np.float64]:
        """(b,) ``sum_i s_ij - lam (2 sum_{i in S} s_ij + s_jj)``."""
        # S grows by j: pairs (i, j) and (j, i) for every i in S, and (j, j).
        return self.total[ids] - self.lam * (2 * self.inside[ids] + self.diagonal[ids])

    def add(self, j: int) -> None:
        """Add the similarities to ``j``."""
        where, values = self.form.row(j)
        self.inside[where] += values


@card(
    "selector",
    "Graph cut",
    "Iyer et al. 2021, Submodular Combinatorial Information Measures, arXiv 2006.15412, generalised graph cut; lazy as "
    "Minoux 1978, stochastic as Mirzasoleiman et al. 2015, arXiv 1409.7938",
    cost="time O(n^2 d) for the similarities and O(n) a pick (blocked: O(n d)), memory O(n neighbours) (dense: n^2 "
    "under 1 GB)",
)
def graph_cut(
    features: Any,
    *,
    budget: int,
    lam: float = 0.5,
    similarity: Literal["cosine", "rbf", "dot"] = "cosine",
    gamma: float | None = None,
    form: FormName = "auto",
    neighbours: int = 32,
    greedy: Greedy = "lazy",
    epsilon: float = 0.1,
    sample_seed: int = 0,
    tie_seed: int = 0,
    missing: Missing = "raise",
) -> Selection:
    """Keep examples that are similar to all others but not to each other.

    Greedily maximises ``f(S) = sum_{i, j in S} s_ij - lam sum_{i in S, j in S} s_ij`` with i of the first sum over all.
    f is submodular, and monotone for ``lam`` up to 0.5, where greedy reaches 1 - 1/e of the best; above that there
    is no such guarantee and the last picks may lower f. The first sum grows with n and the second with the budget: with
    all similarities and a small budget it chooses the dense middle, on the graph (``form="sparse"``) less so. Gains
    are exact, as in `facility_location`, up to the product with ``lam``; ties are drawn; prefixes nest
    (unless stochastic).

    Args:
        features: (n, d) float, for example penultimate activations.
        budget: number of examples to keep, 1 to n.
        lam: weight of the similarity among the kept, 0 and above.
        similarity: ``"cosine"`` is 0.5 + 0.5 cos; ``"rbf"`` is exp(-gamma ||x - y||^2); ``"dot"`` is max(0, <x, y>), as
            a share of the largest ||x||^2.
        gamma: of the RBF; None for one over the mean squared distance between two examples.
        form: ``"dense"`` keeps all (n, n) similarities, under 1 GB; ``"blocked"`` computes them again when needed, the
            same picks in O(n) memory beside the features; ``"sparse"`` keeps those to the nearest neighbours, either's
            of the other, and counts the rest as 0; ``"auto"`` is dense under 256 MB (n < 8,000), else sparse.
        neighbours: number of neighbours per example in the sparse form, itself not counted.
        greedy: ``"lazy"`` and ``"naive"`` make the same picks; ``"stochastic"`` evaluates a random sample per pick.
        epsilon: of the stochastic greedy: it evaluates ``n / budget * log(1 / epsilon)`` examples per pick.
        sample_seed: seed of those samples; an integer and no ``generator``, since by default nothing is drawn.
        tie_seed: seed of the order of equal gains.
        missing: ``"raise"``, or ``"skip"`` to leave out an example with a NaN feature.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen, weights of one.

    Raises:
        ArgumentError: an option out of range, a budget outside 1 to n, NaN or infinity, a dense form of 1 GB or more.
        CapacityError: fewer examples with features than ``budget``.

    References:
        Iyer, Khargonkar, Bilmes and Asnani 2021, arXiv 2006.15412 (generalised graph cut); Minoux 1978; Mirzasoleiman
        et al. 2015, arXiv 1409.7938, algorithm 1.

    >>> graph_cut([[1.0, 0.0], [0.9, 0.1], [1.0, 0.2], [-1.0, 0.1]], budget=2, lam=2.0).index.tolist()
    [2, 3]
    """
    check_greedy(greedy, epsilon, sample_seed, tie_seed)
    check.number("lam", lam, 0, 1e9)
    values = check.matrix("features", features, missing=missing)
    n = values.shape[0]
    ids = selectable_ids(budget, missing, features=values.sum(1, dtype=torch.float64))
    alike = feature_similarity(values if ids is None else values[ids], similarity, gamma)
    objective = GraphCut(build_form(alike, form, neighbours, tie_seed), lam, alike.diagonal())
    chosen = maximise(objective, budget, greedy=greedy, epsilon=epsilon, sample_seed=sample_seed, tie_seed=tie_seed)
    return build_selection(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED)
