"""Distance of an example from where the model's prediction changes: DeepFool (arXiv 1511.04599)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError


@dataclass(frozen=True)
class Walk:
    """Result of `deepfool`.

    Attributes:
        distance: (b,) L2 norm of the change that reaches the boundary; NaN where the logits or their gradients are NaN.
        reached: (b,) bool, whether the prediction changed.
        flat: (b,) bool, where the logits do not change with the input, so that there is no direction to go.
        forward: examples passed forward.
        backward: gradients of one class of one example.
    """

    distance: Tensor
    reached: Tensor
    flat: Tensor
    forward: int
    backward: int


@torch.no_grad()
def deepfool(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    max_iter: int = 50,
    overshoot: float = 0.02,
    candidates: int | None = None,
) -> Walk:
    """L2 norm of a small change to each input that changes the model's prediction (algorithm 2 of arXiv 1511.04599).

    From the predicted class k (not the label: a misclassified example has a distance too), each step goes
    to the nearest boundary of the linearised classifier: with w_l = grad f_l - grad f_k and f'_l = f_l - f_k it is
    r = |f'_l| / ||w_l||^2 w_l, at the l of smallest |f'_l| / ||w_l||. It ends when x + (1 + overshoot) * (sum of r) has
    another prediction. The distance is || sum of r ||_2, without the overshoot: exact for a linear model.
    The authors' code goes on from the overshot point, tries the 10 best classes only (``candidates=10``), and adds
    1e-4 to each step.

    Args:
        model: returns logits (b, c), each row from its example alone (evaluation mode).
        x: (b, ...) floating-point inputs, normalised as in training: that is the unit of the distance.
        max_iter: maximum number of steps.
        overshoot: fraction of the distance by which a step passes the boundary before the prediction is compared.
        candidates: number of classes tried, those of highest logits at the start, the predicted one included; None for
            all.

    Raises:
        ArgumentError: whole-number inputs, an option out of range, or fewer than two classes.
    """
    check.number("max_iter", max_iter, 1, math.inf, integer=True)
    check.number("overshoot", overshoot, 0, math.inf)
    if candidates is not None:
        check.number("candidates", candidates, 2, math.inf, integer=True)
    if not x.is_floating_point():
        raise ArgumentError(f"DeepFool moves the input, which must be floating-point, got x of {x.dtype}")
    logits = model(x)
    if logits.shape[1] < 2:
        raise ArgumentError(f"there is no boundary between classes: the model has {logits.shape[1]} output")
    # stable: among equal logits the smaller class, as argmax takes it
    order = logits.sort(dim=1, descending=True, stable=True).indices[:, :candidates]
    walked = torch.zeros_like(x)
    reached = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    flat = torch.zeros_like(reached)
    active = torch.arange(len(x), device=x.device)
    forward, backward = len(x), 0
    for _ in range(max_iter):
        # from the point without the overshoot, as in the paper
        step, length = _boundary_step(model, x[active] + walked[active], order[active])
        walked[active] += step
        prediction = model(x[active] + (1 + overshoot) * walked[active]).argmax(dim=1)
        forward, backward = forward + len(active), backward + len(active) * order.shape[1]
        reached[active] = (prediction != order[active, 0]) | (length == 0)  # a step of zero: on the boundary
        flat[active] = length.isinf()
        # NaN ends the walk too: its distance is NaN
        active = active[~((reached | flat)[active] | length.isnan())]
        if len(active) == 0:
            break
    distance = torch.linalg.vector_norm(walked.flatten(1), dim=1)
    return Walk(distance, reached, flat, forward, backward)


def _boundary_step(model: Callable[[Tensor], Tensor], x: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """(b, ...) step to the nearest boundary of the linearised classifier, and its length (b,); inf where there is none.

    Class by class, with a running minimum: all gradients at once would be (b, c, ...).
    """
    shape = (-1, *[1] * (x.ndim - 1))
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        # a clone: the model may work in place, which a leaf does not allow
        logits = model(leaf.clone()).gather(1, order)  # (b, candidates), the predicted class first
        if not logits.requires_grad:
            raise ArgumentError(
                "the model's logits have no gradient: it works without gradients (torch.no_grad, detach)"
            )
        predicted = _input_gradient(logits[:, 0], leaf)
        nearest = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        step = torch.zeros_like(x)
        for k in range(1, order.shape[1]):
            normal = _input_gradient(logits[:, k], leaf) - predicted
            size = torch.linalg.vector_norm(normal.flatten(1), dim=1)
            gap = (logits[:, k] - logits[:, 0]).detach().abs().to(x.dtype)
            # two logits that move alike have no boundary between them: not 0 / 0
            length = torch.where(size == 0, torch.inf, gap / size)
            closer = (length < nearest) | length.isnan()  # so that NaN is not lost
            nearest = torch.where(closer, length, nearest)
            # r = (gap / size^2) * normal, and length is gap / size already
            step = torch.where(closer.view(shape), (length / size).view(shape) * normal, step)
    return step.detach(), nearest


def _input_gradient(values: Tensor, leaf: Tensor) -> Tensor:
    # the graph is used once a class; a sum over the batch gives each example its own gradient
    (gradient,) = torch.autograd.grad(values.sum(), leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if gradient is None else gradient
