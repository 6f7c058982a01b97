"""Facility location: every example is represented by the most similar of the kept."""

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


class FacilityLocation:
    """``f(S) = sum_i max_{j in S} s_ij``, with the best similarity of each example so far.

    Args:
        form: the similarities.
    """

    def __init__(self, form: SimilarityForm) -> None:
        self.form, self.n, self.width = form, form.n, form.width
        # Starting at 0, the value of the empty set, requires similarities of at least 0.
        self.best = np.zeros(form.n, dtype=np.float32)

    def gains(self, ids: IdArray) -> NDArray[np.float64]:
        """(b,) ``sum_i max(0, s_ij - best_i)``."""
        return self.form.excess(ids, self.best)

    def add(self, j: int) -> None:
        """Add ``j``: raise the best similarity of the examples that it is most similar to."""
        where, values = self.form.row(j)
        self.best[where] = np.maximum(self.best[where], values)


@card(
    "selector",
    "Facility location",
    "greedy of Nemhauser et al. 1978, doi:10.1007/BF01588971, on the function of Cornuejols et al. 1977; lazy as "
    "Minoux 1978, stochastic as Mirzasoleiman et al. 2015, arXiv 1409.7938",
    cost="time O(n^2 d) for the similarities, on the graph O(n neighbours) a round of gains, memory O(n neighbours) "
    "(dense: n^2 under 1 GB)",
)
def facility_location(
    features: Any,
    *,
    budget: int,
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
    """Keep the examples that together are most similar to all examples.

    Greedily maximises ``f(S) = sum_i max_{j in S} s_ij``, which is monotone and submodular: at least 1 - 1/e of the
    best that ``budget`` examples can reach. Similarities are in [0, 1] and rounded to multiples of 2**-24, so that
    gains are exact and ties are drawn. Prefixes nest (unless stochastic).

    Args:
        features: (n, d) float, for example penultimate activations.
        budget: number of examples to keep, 1 to n.
        similarity: ``"cosine"`` is 0.5 + 0.5 cos; ``"rbf"`` is exp(-gamma ||x - y||^2); ``"dot"`` is max(0, <x, y>), as
            a share of the largest ||x||^2.
        gamma: of the RBF; None for one over the mean squared distance between two examples.
        form: ``"dense"`` keeps all (n, n) similarities, under 1 GB; ``"blocked"`` computes them again when needed, the
            same picks in O(n) memory beside the features; ``"sparse"`` keeps those to the nearest neighbours, either's
            of the other, and counts the rest as 0; ``"auto"`` is dense under 256 MB (n < 8,000), else sparse.
        neighbours: number of neighbours per example in the sparse form, itself not counted.
        greedy: ``"lazy"`` and ``"naive"`` make the same picks; ``"stochastic"`` evaluates a random sample per pick.
        epsilon: of the stochastic greedy: it evaluates ``n / budget * log(1 / epsilon)`` examples per pick, and expects
            at least 1 - 1/e - epsilon of the best.
        sample_seed: seed of those samples; an integer and no ``generator``, since by default nothing is drawn.
        tie_seed: seed of the order of equal gains.
        missing: ``"raise"``, or ``"skip"`` to leave out (and not represent) an example with a NaN feature.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen, weights of one. A dropped example that no kept one is
        similar to (possible in the sparse form) has the reason ``below_cut``, the others ``covered``.

    Raises:
        ArgumentError: an option out of range, a budget outside 1 to n, NaN or infinity, a dense form of 1 GB or more.
        CapacityError: fewer examples with features than ``budget``.

    References:
        Nemhauser, Wolsey and Fisher 1978, doi:10.1007/BF01588971, section 4; Cornuejols, Fisher and Nemhauser 1977;
        Minoux 1978; Mirzasoleiman et al. 2015, arXiv 1409.7938, algorithm 1.

    >>> facility_location([[1.0, 0.0], [0.9, 0.1], [1.0, 0.2], [-1.0, 0.1]], budget=2).index.tolist()
    [2, 3]
    """
    check_greedy(greedy, epsilon, sample_seed, tie_seed)
    values = check.matrix("features", features, missing=missing)
    n = values.shape[0]
    ids = selectable_ids(budget, missing, features=values.sum(1, dtype=torch.float64))
    rows = values if ids is None else values[ids]
    objective = FacilityLocation(build_form(feature_similarity(rows, similarity, gamma), form, neighbours, tie_seed))
    chosen = maximise(objective, budget, greedy=greedy, epsilon=epsilon, sample_seed=sample_seed, tie_seed=tie_seed)
    special = torch.zeros(n, dtype=torch.int8)
    # Exactly 0: similarities on the graph that are not stored were never written.
    unserved = torch.from_numpy(np.flatnonzero(objective.best == 0))
    special[unserved if ids is None else ids[unserved]] = int(Reason.BELOW_CUT)
    return build_selection(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED, special=special)
