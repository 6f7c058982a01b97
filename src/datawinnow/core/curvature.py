"""Curvature of the loss around an example, from two gradients with respect to the input (SLo-Curves).

Garg and Roy, Samples with Low Loss Curvature Improve Data Efficiency (CVPR 2023), in two forms: the direction of CURE
(arXiv 1811.09716) and the random directions of the same authors' later work (arXiv 2307.05831).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError

Mode = Literal["cure", "rademacher"]
MODES: tuple[Mode, ...] = ("cure", "rademacher")
STEP: dict[Mode, float] = {"cure": 3.0, "rademacher": 1e-3}
"""Default distance from the example at which the second gradient is taken, in units of the (normalised) input."""
REPEATS: dict[Mode, int] = {"cure": 1, "rademacher": 10}
"""Default number of directions an example; CURE's one direction is given by the gradient."""


def input_curvature(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    h: float | None = None,
    mode: Mode = "cure",
    repeats: int | None = None,
    square: bool = False,
    generator: torch.Generator | None = None,
    create_graph: bool = False,
) -> Tensor:
    """Change of the gradient of each example's loss for a small step of the input.

    With g(x) the gradient of the cross-entropy with respect to x: ``"cure"`` is || g(x + h z) - g(x) ||_2 at
    z = sign(g(x)) / || sign(g(x)) ||_2, one fixed direction; ``"rademacher"`` is the mean over ``repeats`` draws of
    || g(x + h v) - g(x) ||_2, each entry of v being -1 or 1. Neither is divided by h. The loss is summed over the
    batch, not averaged, so that a score does not depend on the size of the batch.

    Args:
        model: returns logits (b, c) of x. Its mode is not changed: for a score call ``model.eval()`` before. In
            training mode batch norm mixes the examples of a batch, and counts the moved ones in its statistics.
        x: (b, ...) floating-point inputs, normalised as in training.
        y: (b,) int64 class ids.
        h: length of the step (of each entry, for ``"rademacher"``); by default 3.0 and 1e-3.
        mode: ``"cure"`` or ``"rademacher"``.
        repeats: draws of v; by default 10. ``"cure"`` has one direction.
        square: return the mean of squared norms, as in CURE's regulariser.
        generator: of v (CPU); the draws of an example are consecutive, so that the size of the batches changes
            nothing as long as the order of the examples is the same.
        create_graph: make the result differentiable with respect to the weights (through both gradients, not through
            z), for training with it.

    Returns:
        (b,) norms in nats per unit of the input, of the loss's dtype; low is flat. An example whose gradient is zero
        has curvature zero by ``"cure"``.

    Raises:
        ArgumentError: integer inputs, labels of another shape, an option out of range, no generator for
            ``"rademacher"``, or logits that do not depend on x.
    """
    check.one_of("mode", mode, MODES)
    step = check.number("h", STEP[mode] if h is None else h, 0, math.inf)
    if step == 0:
        raise ArgumentError("h must be above 0: the gradient is compared with the one a step of length h away")
    count = check.number(
        "repeats", REPEATS[mode] if repeats is None else repeats, 1, 1 if mode == "cure" else math.inf, integer=True
    )
    if not x.is_floating_point():
        raise ArgumentError(f"curvature moves the input, which must be floating-point, got x of {x.dtype}")
    if y.shape != (len(x),):
        raise ArgumentError(f"y must be one class id an example, shape ({len(x)},), got {tuple(y.shape)}")
    base = _gradient(model, x, y, create_graph)
    if mode == "cure":
        # (b, ...) -> (b, 1, ...): one direction an example; the direction itself is not differentiated
        directions = _signs(base.detach())[:, None]
    else:
        # (b, repeats, ...), drawn on the CPU example by example: neither device nor batch size changes the
        # numbers
        drawn = torch.randint(
            0, 2, (len(x), count, *x.shape[1:]), generator=check.generator(generator), dtype=torch.int8
        )
        directions = (2 * drawn - 1).to(x.device)
    total = torch.zeros((), dtype=base.dtype, device=base.device)
    # one direction at a time: memory for one more gradient, however many directions there are
    for k in range(count):
        change = (_gradient(model, x.detach() + step * directions[:, k], y, create_graph) - base).flatten(1)
        # vector_norm has gradient zero at zero; the square root of a sum of squares would have NaN
        total = total + (change.square().sum(dim=1) if square else torch.linalg.vector_norm(change, dim=1))
    mean: Tensor = total / count
    return mean


def _signs(gradient: Tensor) -> Tensor:
    signs = gradient.sign()
    length = torch.linalg.vector_norm(signs.flatten(1), dim=1)
    # the signs of a gradient other than zero have length 1 or more, so only zero is clamped
    unit: Tensor = signs / length.clamp_min(1).view(-1, *[1] * (signs.ndim - 1))
    return unit


def _gradient(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, create_graph: bool) -> Tensor:
    """(b, ...) gradient of each example's loss with respect to its input."""
    # callers score under no_grad
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        logits = model(leaf.clone())  # a clone: a first operation in place is not allowed on a leaf
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
            shown = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ArgumentError(f"the model must give logits of shape ({len(x)}, classes), got {shown}")
        # the log of a softmax in half precision would round away small gradients
        half = logits.dtype in (torch.float16, torch.bfloat16)
        loss = F.cross_entropy(logits.float() if half else logits, y, reduction="sum")
        gradient: Tensor | None = None
        if loss.requires_grad:
            # allow_unused: a network that ignores x gives None, which is reported below
            (gradient,) = torch.autograd.grad(loss, leaf, create_graph=create_graph, allow_unused=True)
    if gradient is None:
        raise ArgumentError(
            "the model's logits have no gradient with respect to its input: it computes without gradients "
            "(torch.no_grad, detach) or does not use x"
        )
    return gradient
