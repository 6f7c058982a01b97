"""Gradients of the loss with respect to the weights, class by class: what DC and DSA match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from datawinnow.condense._step import Step
from datawinnow.core import check

Metric = Literal["rows", "mse", "cos"]
METRICS: tuple[Metric, ...] = ("rows", "mse", "cos")
TOGETHER = 10
"""Synthetic images a class up to which CPUs are faster with all classes in one pass (benchmarks/condense.py)."""


def matched(metric: Metric) -> Metric:
    """``metric`` if it is known.

    Raises:
        ArgumentError: it is not.
    """
    check.one_of("metric", metric, METRICS)
    return metric


def parameters_of(net: nn.Module) -> list[Tensor]:
    """Trained parameters, in order."""
    return [p for p in net.parameters() if p.requires_grad]


def distance(own: Tensor, real: Tensor, metric: Metric = "rows") -> Tensor:
    """Distance of two gradients of one parameter: a number; `metric` ``"cos"`` takes the whole gradient, flattened.

    Args:
        own: gradient on synthetic images, of the parameter's shape.
        real: gradient on real images.
        metric: ``"rows"``: ``sum over rows of 1 - <a, b> / (|a| |b| + 1e-6)``, a row being all that goes into one
            output; parameters of one dimension (biases, norms) count 0. ``"mse"``: the sum of squared differences.
            ``"cos"``: ``1 - <a, b> / (|a| |b| + 1e-6)``.
    """
    if metric == "mse":
        return (own - real).square().sum()
    if metric == "rows" and own.ndim < 2:
        return own.new_zeros(())
    a, b = (own.flatten(1), real.flatten(1)) if metric == "rows" else (own.flatten()[None], real.flatten()[None])
    lengths = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    apart: Tensor = (1 - (a * b).sum(1) / (lengths + 1e-6)).sum()
    return apart


def gradient_distance(own: list[Tensor], real: list[Tensor], metric: Metric) -> Tensor:
    """Distance of two gradients of a network, a tensor a parameter each."""
    if metric == "cos":
        return distance(torch.cat([g.flatten() for g in own]), torch.cat([g.flatten() for g in real]), "cos")
    return torch.stack([distance(a, b, metric) for a, b in zip(own, real, strict=True)]).sum()


def real_gradients(step: Step) -> list[list[Tensor]]:
    """Gradient of the mean cross-entropy of each class's real images: (classes) lists of a tensor a parameter."""
    net, found = step.net, []
    weights = parameters_of(net)
    x = step.real()
    step.world.passed["backward"] += len(x)
    sizes = torch.bincount(step.y, minlength=step.world.classes).tolist()
    for images, labels in zip(torch.split(x, sizes), torch.split(step.y, sizes), strict=True):
        total: list[Tensor] = []
        for part, label in zip(step.pieces(images), step.pieces(labels), strict=True):
            loss = F.cross_entropy(net(part), label, reduction="sum") / len(images)
            here = list(torch.autograd.grad(loss, weights))
            total = [a.add_(b) for a, b in zip(total, here, strict=True)] if total else here
        found.append(total)
    return found


def own_gradients(step: Step) -> Iterator[tuple[Tensor, list[list[Tensor]]]]:
    """The same of the synthetic images, differentiable in them: (k,) classes and their gradients, group by group.

    Either all classes go through one pass, the gradient of one class mapped over the classes, or one class after the
    other; both give the same but for rounding. CPUs are faster with the former while there are few images a class.
    """
    world = step.world
    if world.together is None:
        world.together = step.leaf.is_cuda or len(step.leaf) // world.classes * world.factor**2 <= TOGETHER
        if world.together and not _maps(step):
            world.together = False
    if world.together:
        for classes in step.groups():
            yield classes, _mapped(step, classes)
    else:
        for classes in torch.split(torch.arange(world.classes, device=step.leaf.device), 1):
            yield classes, [_of_one_class(step, classes)]


def _of_one_class(step: Step, classes: Tensor) -> list[Tensor]:
    x, y = step.synthetic(classes)
    step.world.passed["backward"] += 2 * len(x)
    return list(torch.autograd.grad(F.cross_entropy(step.net(x), y), parameters_of(step.net), create_graph=True))


def _mapped(step: Step, classes: Tensor) -> list[list[Tensor]]:
    x, y = step.synthetic(classes)
    step.world.passed["backward"] += 2 * len(x)
    order = torch.argsort(y, stable=True)  # decoded images come tile by tile
    x, y = (t[order].view(len(classes), -1, *t.shape[1:]) for t in (x, y))
    weights = {k: p.detach() for k, p in step.net.named_parameters() if p.requires_grad}
    rest = {k: t.detach() for k, t in [*step.net.named_parameters(), *step.net.named_buffers()] if k not in weights}

    def loss(weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Any:
        return F.cross_entropy(functional_call(step.net, {**weights, **rest}, (images,)), labels)

    every = list(vmap(grad(loss), (None, 0, 0))(weights, x, y).values())
    return [[g[i] for g in every] for i in range(len(classes))]


def _maps(step: Step) -> bool:
    """Whether the network can be mapped over classes; one with an operation that writes in place cannot always."""
    passed = step.world.passed.copy()
    try:
        _mapped(step, torch.zeros(1, dtype=torch.int64, device=step.leaf.device))
    except RuntimeError:
        return False
    finally:
        step.world.passed = passed
    return True
