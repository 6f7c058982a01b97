"""GLISTER: examples that lower the loss on held-out data when the last layer takes a step on them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import largest
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection
from datawinnow.select.last_layer import LastLayer, held_out_layer, last_layer

NUM_BLOCKS = 15
"""Blocks that the budget is divided into, as in the authors' greedy in rounds."""


@card(
    "selector",
    "GLISTER",
    "Killamsetty et al. 2021, GLISTER: Generalization based Data Subset Selection for Efficient and Robust Learning, "
    "arXiv 2012.10630, section 3 (one-step and Taylor approximations)",
    cost="time O(budget / refresh * (n + v) d c), memory O(n + v c)",
)
def glister(
    features: Any,
    probs: Any,
    labels: Any,
    val_features: Any,
    val_probs: Any,
    val_labels: Any,
    *,
    budget: int,
    step: float = 0.01,
    refresh: int | None = None,
    reduce: Literal["sum", "mean"] = "sum",
    tie_seed: int = 0,
    missing: Missing = "raise",
) -> Selection:
    """Choose greedily the examples whose gradients point along that of the held-out loss.

    With S chosen so far, one step of gradient descent on them gives ``theta_S = theta - step * sum_{j in S} g_j``, and
    to first order adding example i lowers the held-out loss by ``step * <g_i, grad L_V(theta_S)>``. The best
    ``refresh`` examples are taken, then theta_S and the held-out gradient are renewed, so that what S has taught
    already counts for less. All of it in the last layer, where the held-out logits after a step are known without the
    network: ``log probs - step * sum_S g_j h``. Mislabelled examples point against the gradient of held-out data whose
    labels are right, and come last; of data with the same wrong labels, which the network was trained on, they follow
    the gradient and come first. The paper's optional further terms in the greedy's gain (training loss, diversity) are
    left out.

    With ``per_class`` every class is chosen by the whole held-out loss.

    Args:
        features: (n, d) float, input of the last layer.
        probs: (n, c) float, softmax of the same pass.
        labels: (n,) int, class ids.
        val_features: (v, d) float, the same of held-out data with labels that can be trusted.
        val_probs: (v, c) float.
        val_labels: (v,) int.
        budget: number of examples to keep, 1 to n.
        step: learning rate of the step (0.01 in the authors' settings); 0 ranks by the first gradient alone.
        refresh: examples taken between two renewals; None for a fifteenth of the budget, rounded up, as the
            authors' code; 1 renews after each. With a number, prefixes nest.
        reduce: ``"sum"`` of the chosen gradients as in the paper, or their ``"mean"`` as in DeepCore, with which the
            step does not grow with S.
        tie_seed: seed of the order of equal gains.
        missing: ``"raise"``, or ``"skip"`` never to choose an example whose features or probs are NaN.

    Returns:
        `Selection` of exactly ``budget`` ids in the order chosen, weights of one; ties are drawn.

    Raises:
        ArgumentError: a budget outside 1 to n, an option out of range, arrays that do not fit each other, NaN.
        CapacityError: fewer examples without NaN than ``budget``.

    References:
        Killamsetty et al. 2021, arXiv 2012.10630, section 3.

    >>> unsure = [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]
    >>> rows = [[1.0], [-1.0], [1.0]]  # held-out: positive rows are of class 1, so example 2 is mislabelled
    >>> glister(rows, unsure, [1, 0, 0], rows[:2], unsure[:2], [1, 0], budget=3).index.tolist()
    [0, 1, 2]
    """
    check.number("step", step, 0, 1e6)
    check.seed("tie_seed", tie_seed)
    if refresh is not None:
        check.number("refresh", refresh, 1, 10**12, integer=True)
    check.one_of("reduce", reduce, ("sum", "mean"))
    layer, ids, n = last_layer(features, probs, labels, budget=budget, missing=missing)
    held_out = held_out_layer(val_features, val_probs, val_labels, layer)
    # ceil(budget / 15): without a number the block depends on the budget, and prefixes do not nest.
    block = refresh or -(-budget // NUM_BLOCKS)
    left = torch.ones(layer.n, dtype=torch.bool)
    chosen = torch.empty(0, dtype=torch.int64)
    # sum_S g_j as a (c, d + 1) matrix; a gradient is a vector only through its factors.
    total = torch.zeros(layer.probs.shape[1], layer.features.shape[1] + 1, dtype=torch.float64)
    # In the first round the sum is 0: the gain is the inner product with the gradient at the current network.
    while len(chosen) < budget:
        scale = step / max(1, len(chosen)) if reduce == "mean" else step
        # <g_i, grad L_V(theta_S)>, without the factor `step`, which changes no order.
        gain = layer.along(gradient_after_step(held_out, total, scale)).masked_fill_(~left, -torch.inf)
        new = largest(gain, min(block, budget - len(chosen)), tie_seed)
        left[new] = False
        chosen = torch.cat([chosen, new])
        error, row = layer.factors(new)
        total.addmm_(error.T, row)
    return build_selection(chosen, n, ids, kept=Reason.RANKED, dropped=Reason.BELOW_CUT)


def gradient_after_step(held_out: LastLayer, total: Tensor, scale: float) -> Tensor:
    """(c, d + 1) float64: mean gradient of the held-out loss after a step of ``scale`` along ``-total``."""
    out = torch.zeros_like(total)
    tiny = torch.finfo(torch.float64).tiny
    for rows in held_out.blocks():
        error, row = held_out.factors(rows)
        # softmax forgets a constant, so the logarithms of the probabilities serve as logits
        logits = held_out.probs[rows].double().clamp_min(tiny).log_().addmm_(row, total.T, alpha=-scale)
        one_hot = torch.zeros_like(error).scatter_(1, held_out.labels[rows, None], 1)
        out.addmm_((logits.softmax(1) - one_hot).T, row)
    return out.div_(held_out.n)
