"""Gradients of the loss with respect to the weights, class by class, which DC and DSA match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from datawinnow.condense.matching import MatchingStep

GradientMetric = Literal["rows", "mse", "cos"]
GRADIENT_METRICS: tuple[GradientMetric, ...] = ("rows", "mse", "cos")
MAX_MAPPED_PER_CLASS = 10
"""Synthetic images a class up to which CPUs are faster with all classes in one pass (benchmarks/condense.py)."""


def trained_parameters(net: nn.Module) -> list[Tensor]:
    """Trained parameters, in order."""
    return [p for p in net.parameters() if p.requires_grad]


def parameter_distance(synthetic: Tensor, real: Tensor, metric: GradientMetric = "rows") -> Tensor:
    """Distance of two gradients of one parameter, a scalar.

    Args:
        synthetic: gradient on synthetic images, of the parameter's shape.
        real: gradient on real images.
        metric: ``"rows"``: ``sum over rows of 1 - <a, b> / (|a| |b| + 1e-6)``, a row being all weights of one
            output; parameters of one dimension (biases, norms) count 0. ``"mse"``: the sum of squared differences.
            ``"cos"``: ``1 - <a, b> / (|a| |b| + 1e-6)`` of the flattened gradients.
    """
    if metric == "mse":
        return (synthetic - real).square().sum()
    # The published distance skips biases and norm parameters.
    if metric == "rows" and synthetic.ndim < 2:
        return synthetic.new_zeros(())
    if metric == "rows":
        # A row is all weights of one output: (out, in * kh * kw) for a convolution.
        a, b = synthetic.flatten(1), real.flatten(1)
    else:
        a, b = synthetic.flatten()[None], real.flatten()[None]
    lengths = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    # 1e-6 as in the published code; a row without gradient then has distance 1 instead of NaN.
    distance: Tensor = (1 - (a * b).sum(1) / (lengths + 1e-6)).sum()
    return distance


def gradient_distance(synthetic: list[Tensor], real: list[Tensor], metric: GradientMetric) -> Tensor:
    """Distance of two gradients of a network, each a list with one tensor a parameter."""
    if metric == "cos":
        # One cosine over all parameters, not a sum of cosines by parameter.
        flat_synthetic, flat_real = (torch.cat([g.flatten() for g in gradient]) for gradient in (synthetic, real))
        return parameter_distance(flat_synthetic, flat_real, "cos")
    return torch.stack([parameter_distance(a, b, metric) for a, b in zip(synthetic, real, strict=True)]).sum()


def real_gradients(step: MatchingStep) -> list[list[Tensor]]:
    """Gradients of the mean cross-entropy of each class's real images: for each class one tensor a parameter."""
    net, gradients = step.net, []
    weights = trained_parameters(net)
    x = step.real()
    step.context.images_seen["backward"] += len(x)
    sizes = torch.bincount(step.y, minlength=step.context.classes).tolist()
    for images, labels in zip(torch.split(x, sizes), torch.split(step.y, sizes), strict=True):
        total: list[Tensor] = []
        for x_chunk, y_chunk in zip(step.split(images), step.split(labels), strict=True):
            # Sums over chunks divided by the size of the class give the gradient of the mean, whatever the chunks.
            loss = F.cross_entropy(net(x_chunk), y_chunk, reduction="sum") / len(images)
            gradient = list(torch.autograd.grad(loss, weights))
            # In place: without create_graph no graph holds these gradients.
            total = [a.add_(b) for a, b in zip(total, gradient, strict=True)] if total else gradient
        gradients.append(total)
    return gradients


def synthetic_gradients(step: MatchingStep) -> Iterator[tuple[Tensor, list[list[Tensor]]]]:
    """Gradients on the synthetic images, differentiable in them: (k,) classes and their gradients, group by group.

    Either one pass for all classes, with the gradient of a class mapped over the classes, or a pass for each class;
    the same but for rounding. CPUs are faster with one pass while there are few images a class.
    """
    context = step.context
    if context.together is None:
        per_class = len(step.leaf) // context.classes * context.factor**2
        # Decided once for the run: both ways round differently.
        context.together = (step.leaf.is_cuda or per_class <= MAX_MAPPED_PER_CLASS) and _can_map(step)
    if context.together:
        for classes in step.class_groups():
            yield classes, _mapped_gradients(step, classes)
    else:
        for classes in torch.split(torch.arange(context.classes, device=step.leaf.device), 1):
            yield classes, [_gradient_of_class(step, classes)]


def _gradient_of_class(step: MatchingStep, classes: Tensor) -> list[Tensor]:
    x, y = step.synthetic(classes)
    # Twice: the gradient is differentiated again with respect to the images.
    step.context.images_seen["backward"] += 2 * len(x)
    return list(torch.autograd.grad(F.cross_entropy(step.net(x), y), trained_parameters(step.net), create_graph=True))


def _mapped_gradients(step: MatchingStep, classes: Tensor) -> list[list[Tensor]]:
    x, y = step.synthetic(classes)
    step.context.images_seen["backward"] += 2 * len(x)
    order = torch.argsort(y, stable=True)  # decoded images are ordered tile by tile, not class by class
    x, y = (t[order].view(len(classes), -1, *t.shape[1:]) for t in (x, y))
    # Detached: the result is differentiated with respect to the images only, so no graph of the weights is kept.
    weights = {k: p.detach() for k, p in step.net.named_parameters() if p.requires_grad}
    frozen = {k: t.detach() for k, t in [*step.net.named_parameters(), *step.net.named_buffers()] if k not in weights}

    def loss(weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Any:
        return F.cross_entropy(functional_call(step.net, {**weights, **frozen}, (images,)), labels)

    # The weights are shared, images and labels mapped over classes: one (classes, ...) gradient a parameter.
    by_parameter = list(vmap(grad(loss), (None, 0, 0))(weights, x, y).values())
    return [[gradient[i] for gradient in by_parameter] for i in range(len(classes))]


def _can_map(step: MatchingStep) -> bool:
    """Whether vmap supports the network; in-place operations can prevent it."""
    # The trial must not count as work.
    images_seen = step.context.images_seen.copy()
    try:
        _mapped_gradients(step, torch.zeros(1, dtype=torch.int64, device=step.leaf.device))
    except RuntimeError:
        return False
    finally:
        step.context.images_seen = images_seen
    return True
