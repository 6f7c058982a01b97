"""Seconds an iteration of condensing against the class-by-class form that is published, at equal loss.

The published form loops over classes: one forward pass of a class's real images and one of its synthetic ones, whole.
Ours passes all classes together, real images in pieces that stay in cache. Network, images, augmentation and so
the loss are the same in both.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from measuring import arguments, finish, in_child, interleaved, ratio, say
from torch import Tensor

from datawinnow.condense import SIAMESE
from datawinnow.condense.dc import gradient_matching
from datawinnow.condense.dm import distribution_matching
from datawinnow.condense.gradients import gradient_distance
from datawinnow.condense.matching import MatchingContext, MatchingStep
from datawinnow.condense.pixels import LearnedPixels
from datawinnow.condense.real_images import RealImages
from datawinnow.core.rng import stream
from datawinnow.models import convnet


@dataclass(frozen=True)
class Size:
    """A problem: images of ``side`` pixels, a ConvNet, images a class."""

    name: str
    channels: int
    side: int
    width: int
    depth: int
    real_batch: int
    per_class: int


DIGITS = [Size(f"digits, {n} a class", 1, 8, 32, 2, 64, n) for n in (1, 10)]
FASHION = [Size(f"28x28, width 32, {n} a class", 1, 28, 32, 2, 64, n) for n in (1, 10)]
CIFAR = [Size(f"32x32, width 128, {n} a class", 3, 32, 128, 3, 256, n) for n in (1, 10)]
SIZES = {
    "smoke": ([Size("digits, 1 a class", 1, 8, 8, 2, 8, 1)], 2),
    "default": ([*DIGITS, *FASHION], 7),
    "full": ([*DIGITS, *FASHION, *CIFAR], 5),
}
CLASSES = 10
GOAL = {"cpu": 2.0, "cuda": 5.0}
"""Times faster than the published form."""
OBJECTIVES: dict[str, Callable[[MatchingStep], Iterator[Tensor]]] = {
    "dm": distribution_matching,
    "dsa": partial(gradient_matching, metric="rows"),
}


def a_step(size: Size, device: str) -> MatchingStep:
    """One matching step on random images: what they show does not change what they cost."""
    count, shape = CLASSES * size.real_batch, (size.channels, size.side, size.side)
    g = stream(0, "benchmark")
    images = torch.randint(0, 256, (count, *shape), generator=g).to(torch.uint8)
    labels = torch.arange(CLASSES).repeat_interleave(size.real_batch)
    real = RealImages(images, labels, device=device)
    start = torch.randn((CLASSES * size.per_class, *shape), generator=g).to(device)
    labels_by_class = torch.arange(CLASSES, device=device).repeat_interleave(size.per_class)

    def build() -> torch.nn.Module:
        net_options: dict[str, Any] = {
            "channels": size.channels,
            "size": size.side,
            "width": size.width,
            "depth": size.depth,
        }
        return convnet(classes=CLASSES, **net_options)

    context = MatchingContext(real, LearnedPixels(start, CLASSES, 0.5), labels_by_class, build, 0, augment=SIAMESE)
    x, y = real.take(torch.arange(count))
    leaf = start.clone().requires_grad_()
    return MatchingStep(context, context.fresh_network(0), 0.0, x, y, leaf, SIAMESE.draw(CLASSES, stream(0, "augment")))


def ours(step: MatchingStep, method: str) -> float:
    """The loss and the gradient of the pixels, as the loop of the library takes them."""
    gradient, loss = torch.zeros_like(step.leaf), 0.0
    for loss_term in OBJECTIVES[method](step):
        gradient += torch.autograd.grad(loss_term, step.leaf)[0]
        loss += float(loss_term.detach())
    return loss


def published(step: MatchingStep, method: str, net: Any) -> float:
    """A class after the other, its real and its synthetic batch whole; one backward pass for the sum."""
    assert step.draw is not None
    weights = list(net.parameters())
    for weight in weights:
        weight.requires_grad_(method != "dm")
    total = torch.zeros((), device=step.leaf.device)
    images_by_class = step.leaf.view(CLASSES, -1, *step.leaf.shape[1:])
    for c in range(CLASSES):
        x, y = step.x[step.y == c], step.y[step.y == c]
        s, t = images_by_class[c], torch.full((images_by_class.shape[1],), c, device=step.leaf.device)
        x, s = step.draw(x, y), step.draw(s, t)
        if method == "dm":
            real, synthetic_features = net.features(x).detach(), net.features(s)
            total = total + (real.mean(0) - synthetic_features.mean(0)).square().sum()
            continue
        on_real = [g.detach() for g in torch.autograd.grad(F.cross_entropy(net(x), y), weights)]
        on_own = list(torch.autograd.grad(F.cross_entropy(net(s), t), weights, create_graph=True))
        total = total + gradient_distance(on_own, on_real, "rows")
    torch.autograd.grad(total, step.leaf)
    for weight in weights:
        weight.requires_grad_()
    return float(total.detach())


def measure(size: Size, rounds: int, device: str) -> dict[str, Any]:
    """Both forms of both methods on one problem, in turns."""
    rows = {}
    for method in OBJECTIVES:
        step = a_step(size, device)
        plain: Any = copy.deepcopy(step.net)  # as torch makes it:
        plain = plain.to(memory_format=torch.contiguous_format)
        theirs = partial(published, net=plain)
        losses = {"ours": ours(step, method), "published": theirs(step, method)}

        def timed(
            form: Callable[[MatchingStep, str], float], step: MatchingStep = step, method: str = method
        ) -> object:
            loss = form(step, method)
            if device == "cuda":
                torch.cuda.synchronize()
            return loss

        wall, cpu = interleaved({"ours": partial(timed, ours), "published": partial(timed, theirs)}, rounds)
        rows[method] = {
            "loss": losses["ours"],
            "loss_difference": abs(losses["ours"] - losses["published"]) / abs(losses["published"]),
            "seconds": {form: statistics.median(taken) for form, taken in wall.items()},
            "ratio": ratio(wall["published"], wall["ours"]),
            "cpu_ratio": ratio(cpu["published"], cpu["ours"]),
            "chunk": step.context.chunk,
            "together": step.context.together,
        }
    return rows


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    sizes, rounds = SIZES[chosen]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tables = []
    for size in sizes:
        result, peak = in_child(measure, size, rounds, device)
        for method, row in result.items():
            say(
                f"{size.name:30} {method:4} {row['seconds']['ours']:8.4f} s, class by class "
                f"{row['seconds']['published']:8.4f} s: {row['ratio']['median']:.2f}x, "
                f"{row['cpu_ratio']['median']:.2f}x its CPU seconds; losses differ by {row['loss_difference']:.1e}"
            )
        tables.append({"size": size.__dict__, "peak_mb": peak, "methods": result})
    finish("condense", chosen, {"goal": GOAL[device], "device": device, "rounds": rounds, "tables": tables})


if __name__ == "__main__":
    main()
