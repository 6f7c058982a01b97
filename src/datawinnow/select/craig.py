"""CRAIG: a weighted subset whose gradients represent those of all examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, scale_to_mean_one
from datawinnow.select.facility_location import FacilityLocation
from datawinnow.select.greedy import Greedy, check_greedy, maximise
from datawinnow.select.last_layer import last_layer
from datawinnow.select.similarity import FormName, Similarity, build_form


@card(
    "selector",
    "CRAIG",
    "Mirzasoleiman, Bilmes and Leskovec 2020, Coresets for Data-efficient Training of Machine Learning Models, arXiv "
    "1906.01827, algorithm 1",
    cost="time O(n^2 (d + c)) for the similarities and O(n budget (d + c)) for the weights, memory O(n neighbours) "
    "(dense: n^2 under 1 GB)",
)
def craig(
    features: Any,
    probs: Any,
    labels: Any,
    *,
    budget: int,
    weights: bool = True,
    mean_weight_one: bool = True,
    form: FormName = "auto",
    neighbours: int = 32,
    greedy: Greedy = "lazy",
    epsilon: float = 0.1,
    sample_seed: int = 0,
    tie_seed: int = 0,
    missing: Missing = "raise",
) -> Selection:
    """Keep the examples closest to all last-layer gradients, each weighted by the number of examples it represents.

    With d_ij the distance between the gradients of examples i and j, greedily minimises
    ``L(S) = sum_i min_{j in S} d_ij`` as facility location on the similarity ``D - d_ij``. D is twice the largest
    gradient norm, which no distance exceeds; unless sparse, picks do not depend on it. The weight of a kept example is
    the number of examples nearest to it. The gradient of cross-entropy by the last linear layer, weight and bias, is
    the outer product of ``e = probs - onehot(labels)`` and ``[h, 1]``, and is never formed:
    ``<g_i, g_j> = <e_i, e_j> (<h_i, h_j> + 1)``. The paper selects class by class: ``per_class(craig)``.
    Ties are drawn; prefixes nest (unless stochastic), but for the weights.

    Args:
        features: (n, d) float, inputs h of the last linear layer.
        probs: (n, c) float, its softmax.
        labels: (n,) int, classes as trained on, below c.
        budget: number of examples to keep, 1 to n.
        weights: False for weights of one.
        mean_weight_one: scale weights to a mean of one, which keeps the length of training steps. False leaves the
            numbers of examples; `per_class` scales the classes' together.
        form: ``"dense"`` keeps all (n, n) similarities, under 1 GB; ``"blocked"`` computes them again when needed, the
            same picks in O(n) memory beside the inputs; ``"sparse"`` keeps those to the nearest neighbours, either's
            of the other, and counts the rest as at distance D; ``"auto"`` is dense under 256 MB (n < 8,000), else
            sparse.
        neighbours: number of neighbours per example in the sparse form, itself not counted.
        greedy: ``"lazy"`` and ``"naive"`` make the same picks; ``"stochastic"`` evaluates a random sample per pick.
        epsilon: of the stochastic greedy: it evaluates ``n / budget * log(1 / epsilon)`` examples per pick.
        sample_seed: seed of those samples; an integer and no ``generator``, since by default nothing is drawn.
        tie_seed: seed of the order of equal gains.
        missing: ``"raise"``, or ``"skip"`` to leave out (and not represent) an example with a NaN.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen. Weights are the sizes of the clusters, scaled to a
        mean of one; a kept example is in its own cluster, another in that of the nearest kept one, of equals the first
        chosen. Clusters are by exact distances whatever the form. The paper chooses in every epoch; chosen once, on a
        network that has fitted its data, most gradients are near zero, one cluster of a class holds nearly all of
        them, and its example has a weight to match: then take ``weights=False`` or an earlier network.

    Raises:
        ArgumentError: an option out of range, a budget outside 1 to n, labels that ``probs`` has no column for,
            probabilities outside 0 to 1, NaN or infinity, a dense form of 1 GB or more.
        CapacityError: fewer examples with gradients than ``budget``.

    References:
        Mirzasoleiman, Bilmes and Leskovec 2020, arXiv 1906.01827, equations 11 to 14 and algorithm 1.

    >>> h, p = [[1.0], [1.1], [1.2], [9.0]], [[0.5, 0.5]] * 4
    >>> craig(h, p, [0, 0, 0, 0], budget=2).weight.tolist()
    [1.5, 0.5]
    """
    check_greedy(greedy, epsilon, sample_seed, tie_seed)
    check.one_of("weights", weights, (True, False))
    check.one_of("mean_weight_one", mean_weight_one, (True, False))
    layer, ids, n = last_layer(features, probs, labels, budget=budget, missing=missing)
    # copy=True: float64 probabilities would otherwise be a view of the caller's array.
    error = layer.probs.to(torch.float64, copy=True)
    error[torch.arange(layer.n), layer.labels] -= 1
    # <e_i h_i^T, e_j h_j^T> = <e_i, e_j> (<x_i, x_j> + 1), the 1 from the bias: gradients of c (d + 1) numbers are
    # never formed.
    alike = Similarity([(error, 0.0), (layer.features, 1.0)], "distance")
    objective = FacilityLocation(build_form(alike, form, neighbours, tie_seed))
    chosen = maximise(objective, budget, greedy=greedy, epsilon=epsilon, sample_seed=sample_seed, tie_seed=tie_seed)
    sizes = cluster_sizes(alike, chosen) if weights else None
    out = build_selection(chosen, n, ids, kept=Reason.COVERS, dropped=Reason.COVERED)
    if sizes is None:
        return out
    weight = scale_to_mean_one(sizes) if mean_weight_one else sizes
    return replace(out, weight=weight.to(torch.float32))


def cluster_sizes(alike: Similarity, chosen: Tensor) -> Tensor:
    """(m,) int64 number of examples nearest to each of ``chosen``, of equals to the first; each to itself."""
    # Below every similarity, so that the first block always sets an owner.
    best = torch.full((alike.n,), -1.0)
    owner = torch.zeros(alike.n, dtype=torch.int64)
    for first in range(0, chosen.numel(), alike.rows_at_once):
        near, who = alike.block(np.asarray(chosen[first : first + alike.rows_at_once])).max(0)  # the first of equals
        # Strictly: of equals the one chosen first keeps the example.
        closer = near > best
        best[closer] = near[closer]
        owner[closer] = first + who[closer]
    # Of duplicates among the chosen each still owns itself, so that no weight is 0.
    owner[chosen] = torch.arange(chosen.numel())
    return torch.bincount(owner, minlength=chosen.numel())
