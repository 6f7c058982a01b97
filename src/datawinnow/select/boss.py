"""BOSS: a cover of the features by examples of the difficulty that a Beta density asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, selectable_ids
from datawinnow.select.beta import beta_log_weight
from datawinnow.select.greedy import maximise
from datawinnow.select.similarity import FormName, IdArray, SimilarityForm, build_form, feature_similarity


class WeightedCover:
    """``f(S) = sum_i max_{j in S} v_j s_ij``, with the best of each example so far.

    Args:
        form: the similarities s, in [0, 1].
        weight: (n,) the v, at least 0.
    """

    def __init__(self, form: SimilarityForm, weight: NDArray[np.float32]) -> None:
        self.form, self.n, self.width = form, form.n, form.width
        self.weight = weight
        self.best = np.zeros(form.n, dtype=np.float32)

    def gains(self, ids: IdArray) -> NDArray[np.float64]:
        """(b,) ``sum_i max(0, v_j s_ij - best_i)``."""
        out = np.empty(len(ids))
        for at, j in enumerate(ids.tolist()):
            where, values = self.form.row(j)
            # v_j s_ij is not on the grid of the similarities, so its sums round: one row at a time, so that a gain does
            # not depend on which others are computed with it.
            over = values * self.weight[j] - self.best[where]
            out[at] = np.maximum(over, 0, out=over).sum(dtype=np.float64)
        return out

    def add(self, j: int) -> None:
        """Let ``j`` serve whom it serves best."""
        where, values = self.form.row(j)
        self.best[where] = np.maximum(self.best[where], values * self.weight[j])


@card(
    "selector",
    "BOSS",
    "Acharya et al. 2024, Balancing Feature Similarity and Label Variability for Optimal Size-Aware One-shot Subset "
    "Selection, ICML; greedy of Nemhauser et al. 1978, doi:10.1007/BF01588971",
    cost="time O(n^2 d) for the similarities and O(n) a gain, memory O(n neighbours) (dense: n^2 under 1 GB)",
)
def boss(
    features: Any,
    score: Any,
    *,
    budget: int,
    a: float = 2.0,
    b: float = 2.0,
    form: FormName = "auto",
    neighbours: int = 128,
    tie_seed: int = 0,
    missing: Missing = "raise",
) -> Selection:
    """Greedily cover all examples by similar ones, of which those of a wanted difficulty count for more.

    Maximises ``f(S) = sum_i max_{j in S} v_j (0.5 + 0.5 cos(h_i, h_j))`` (facility location), where
    ``v_j = BetaPDF(e_j; a, b)`` and e is the score scaled to [0, 1] by its smallest and largest value, clipped to
    [1e-6, 1 - 1e-6] (0.5 where all are the same). The method works class by class, ``per_class(boss)``, after the
    lowest AUM of the class are dropped (``drop_tail``). Larger a keeps harder examples, larger b easier ones.

    Args:
        features: (n, d) float, penultimate activations h.
        score: (n,) float, the difficulty; EL2N in the paper.
        budget: number of examples to keep, 1 to n.
        a: first parameter of the Beta density, above 0 (``c_param`` of the authors' code; their example has 2).
        b: second parameter, above 0 (``a_param`` of the authors' code; their example has 2). The values that they used
            for each fraction kept were not found.
        form: ``"dense"`` keeps all (n, n) similarities, under 1 GB; ``"blocked"`` computes them again when needed;
            ``"sparse"`` keeps those to the nearest neighbours and counts the rest as 0, which is not what the authors
            do; ``"auto"`` is dense under 256 MB (n < 8,000), else sparse.
        neighbours: number of neighbours per example in the sparse form.
        tie_seed: seed of the order of equal gains.
        missing: ``"raise"``, or ``"skip"`` never to choose (or cover) an example with NaN in either array.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen (prefixes nest), weights of one. Ties are drawn.

    Raises:
        ArgumentError: a budget outside 1 to n, a or b not above 0, a dense form of 1 GB or more, NaN or infinity.
        CapacityError: fewer examples without NaN than ``budget``.

    References:
        Acharya, Yu, Yu and Liu 2024, ICML; Nemhauser et al. 1978, doi:10.1007/BF01588971.

    >>> boss([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], [0.5, 0.0, 1.0], budget=1).index.tolist()
    [0]
    """
    check.number("a", a, 1e-6, 1e6)
    check.number("b", b, 1e-6, 1e6)
    check.seed("tie_seed", tie_seed)
    rows = check.matrix("features", features, missing=missing)
    values = check.array("score", score, "n")
    n = rows.shape[0]
    if values.numel() != n:
        raise ArgumentError(f"features is about {n} examples, but score about {values.numel()}")
    ids = selectable_ids(budget, missing, features=rows[:, 0] if missing == "raise" else rows.sum(1), score=values)
    if ids is not None:
        rows, values = rows[ids], values[ids]
    low, high = torch.aminmax(values.double())
    # Equal scores have no range; 0.5 gives all the same weight.
    scaled = (values.double() - low) / (high - low) if high > low else torch.full_like(values, 0.5).double()
    log_weight = beta_log_weight(scaled, a, b)
    # a common factor changes no pick: the largest weight is 1, so that sharp densities do not overflow
    weight = (log_weight - log_weight.max()).exp().float().numpy()
    cover = WeightedCover(build_form(feature_similarity(rows, "cosine", None), form, neighbours, tie_seed), weight)
    chosen = maximise(cover, budget, greedy="lazy", epsilon=0.1, sample_seed=0, tie_seed=tie_seed)
    return build_selection(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED)
