"""DivBS: the examples of a batch whose gradients represent that of the batch without redundancy."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.card import card
from datawinnow.dynamic._batch import BatchState, batch_result


@card(
    "batch selector",
    "DivBS",
    "Hong et al. 2024, Diversified Batch Selection for Training Acceleration, arXiv 2406.04872",
    cost="time O(b^2 (classes + d) + budget^2 b), memory O(b^2); a forward pass of the batch beforehand",
)
def divbs(
    features: Any,
    probs: Any,
    labels: Any,
    *,
    budget: int,
    pick: Literal["greedy", "sample"] = "greedy",
    generator: torch.Generator,
    state: BatchState | None = None,
) -> tuple[Tensor, Tensor]:
    """Pick greedily the example whose gradient explains most of the residual of the batch's mean gradient.

    The gradient of the last layer is g = (probs - one-hot) x features. The residual starts as the mean of all g; each
    step picks the example of largest |g . residual|, orthogonalises its gradient against those picked before, and
    subtracts its projection from the residual. An example whose gradient is a linear combination of those picked is
    not picked; when only such are left, the rest is drawn at random. Only inner products of the gradients are used,
    (p . p') (f . f'), so the b x (classes d) matrix of published code (2.6 GB for ResNet-50 on ImageNet) is never
    made, and no coordinates need to be dropped.

    Args:
        features: (b, d) float, inputs of the last layer.
        probs: (b, c) float, softmax outputs.
        labels: (b,) int, class ids.
        budget: number to keep, 1 to b.
        pick: ``"greedy"``, the largest (the paper), or ``"sample"``, drawn in proportion (its code).
        generator: CPU `torch.Generator`: draws for ``"sample"``, for ties and for the rest.
        state: not used.

    Returns:
        (budget,) int64 positions in the batch in the order picked, and (budget,) float32 weights of one, on the device
        of ``features``.

    Raises:
        ArgumentError: arrays of other shapes or with NaN, labels past the classes, a budget outside 1 to b.

    References:
        Hong et al. 2024, arXiv 2406.04872, section 3.

    >>> from datawinnow.core.rng import stream
    >>> features, probs = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.full((3, 2), 0.5)
    >>> picked = divbs(features, probs, [0, 0, 0], budget=2, generator=stream(0, "divbs"))[0].tolist()
    >>> picked[0] in (0, 1), picked[1]
    (True, 2)
    """
    check.generator(generator)
    check.one_of("pick", pick, ("greedy", "sample"))
    rows, soft = check.matrix("features", features, "b,d"), check.matrix("probs", probs, "b,c")
    check.probabilities("probs", soft.T)
    classes = check.labels("labels", labels, rows.shape[0])
    check.same_n(features=rows.T, probs=soft.T)
    check_budget(budget, rows.shape[0], items="examples in the batch")
    check.number("labels", int(classes.max()), 0, soft.shape[1] - 1, integer=True)
    # float64: the residual is what is left after subtracting projections, so rounding accumulates.
    error = soft.to(torch.float64) - torch.nn.functional.one_hot(classes.to(soft.device), soft.shape[1])
    wide = rows.to(torch.float64)
    # <e_i f_i^T, e_j f_j^T> = <e_i, e_j> <f_i, f_j>: (b, b) from factors, one product each.
    gram = (error @ error.T) * (wide @ wide.T)
    return batch_result(_orthogonal(gram.cpu(), budget, pick, generator), rows)


def _orthogonal(gram: Tensor, budget: int, pick: str, generator: torch.Generator) -> Tensor:
    """(budget,) positions: Gram-Schmidt written in inner products, a pivoted Cholesky factorisation of ``gram``."""
    b = gram.shape[0]
    # g . residual, and the squared norm of g after projecting out the gradients picked
    # The residual starts as the batch's mean gradient, so its product with each g is a row mean.
    residual, norm = gram.mean(1), gram.diagonal().clone()
    directions = torch.zeros(budget, b, dtype=torch.float64)  # row t: g . (t-th orthonormal direction)
    negligible, is_picked = 1e-10 * gram.diagonal(), torch.zeros(b, dtype=torch.bool)
    tolerance = 1e-12 * float(residual.abs().max())
    order = torch.randperm(b, generator=generator)  # the first of equals in a random order
    picked: list[int] = []
    for turn in range(budget):
        # A negligible norm is a gradient in the span of the picked: its direction would be rounding.
        gain = residual.abs().masked_fill(is_picked | (norm <= negligible), 0.0)
        if float(gain.max()) <= tolerance:
            break
        if pick == "greedy":
            at = int(order[gain[order].argmax()])
        else:
            at = int(torch.multinomial(gain, 1, generator=generator))
        picked.append(at)
        is_picked[at] = True
        # g . (new orthonormal direction) for all examples at once: a row of the Cholesky factor.
        row = (gram[at] - directions[:turn, at] @ directions[:turn]) / norm[at].sqrt()
        # Residual minus its projection on the new direction.
        residual = residual - row * (residual[at] / norm[at].sqrt())
        norm = norm - row.square()
        directions[turn] = row
    rest = order[~is_picked[order]][: budget - len(picked)]
    return torch.cat([torch.tensor(picked, dtype=torch.int64), rest])
