"""GraNd of the last layer: the length of its gradient, in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.scores.inputs import common_length, row_blocks, validate_class_ids


@card(
    "score",
    "GraNd (last layer)",
    "Guo et al. 2022, DeepCore, arXiv 2204.08499 (error-based methods), after Paul et al. 2021, Deep Learning on a "
    "Data Diet, arXiv 2107.07075, definition 2.1",
    cost="time O(n * (d + c)), memory O(n)",
    end="high",
)
def grand_last(features: Any, probs: Any, labels: Any, *, missing: Missing = "raise") -> Tensor:
    """Examples that would move the last layer most score high.

    The gradient of cross-entropy with respect to the weight and bias of the last linear layer is the outer product of
    P - one_hot(label) and [h, 1], so its norm needs no gradient: ``grand_last = ||P - y||_2 * sqrt(1 + ||h||_2^2)``.
    Scores do not depend on batches; the DeepCore code divides by the size of the batch, so that a short last batch
    scores too high. Both papers average ten short runs: ``over_runs(grand_last)`` does. High is worth keeping, as far
    as labels can be trusted.

    Args:
        features: (n, d) float, the input of the last layer.
        probs: (n, c) float, softmax of its output.
        labels: (n,) int, class id.
        missing: ``"raise"``, or ``"skip"`` to let an example with NaN in its features or probabilities have NaN.

    Returns:
        (n,) float32 (float64 if ``features`` or ``probs`` is), unit of a feature.

    Raises:
        ArgumentError: arrays about different examples, probabilities that are none, labels that are no class of
            ``probs``, NaN or infinity.

    References:
        Guo et al. 2022, arXiv 2204.08499; Paul et al. 2021, arXiv 2107.07075, definition 2.1.

    >>> [round(v, 4) for v in grand_last([[3.0], [0.0]], [[0.5, 0.5], [0.9, 0.1]], [0, 0]).tolist()]
    [2.2361, 0.1414]
    """
    h = check.matrix("features", features, "n,d", missing)
    p = check.distributions("probs", probs, missing)
    y = validate_class_ids("labels", labels, p.shape[1], "probs")
    n = common_length(features=h, probs=p, labels=y)
    out = torch.empty(n, dtype=torch.promote_types(h.dtype, p.dtype))
    for first, last in row_blocks(n, h.shape[1] + p.shape[1]):
        # copy=True: float64 probabilities would otherwise be a view, and the next line would change the caller's array.
        error = p[first:last].to(torch.float64, copy=True)
        error[torch.arange(last - first), y[first:last]] -= 1
        # ||h||^2; the 1 that is added to it is the bias, a feature of constant 1.
        length = h[first:last].to(torch.float64).square().sum(dim=1)
        out[first:last] = (error.square().sum(dim=1) * (1 + length)).sqrt()
    return out
