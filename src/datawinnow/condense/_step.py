"""One matching step: a network, a batch of real images of every class, and the synthetic ones, augmented alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.condense._augment import Augmentation, Drawn
from datawinnow.condense._pixels import Pixels
from datawinnow.condense._real import Real
from datawinnow.condense._tap import Seen, images_at_once, look
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import forked, stream
from datawinnow.core.synthetic import expand

CHANNELS_LAST = 16
"""Pixels a side from which on CPUs are faster with the channels of a pixel side by side (benchmarks/condense.py)."""
BATCH_NORMS = nn.modules.batchnorm._BatchNorm


@dataclass
class World:
    """What networks and objectives work with, the same in every method.

    Attributes:
        real: the real images.
        pixels: the synthetic ones, as stored.
        labels: (classes * per_class,) of those.
        factor: l of the partition; how a synthetic image is decoded.
        build: makes a fresh network.
        seed: every draw is a stream of this and of what it is for, so a run goes on as it began.
        augment: what is done to real and synthetic images alike; None for nothing.
        precision: ``"fp32"`` or ``"bf16"``.
        chunk: real images a forward pass; None chooses by the size of what has to stay in cache.
        at_once: classes whose graph is held together; None for all, on CPUs for as many as stay in cache.
        recompute: gradient checkpointing.
        together: whether gradients of all classes are taken in one pass; None until it is chosen.
        passed: examples passed ``forward`` and ``backward`` so far.
    """

    real: Real
    pixels: Pixels
    labels: Tensor
    factor: int
    build: Callable[[], nn.Module]
    seed: int
    augment: Augmentation | None = None
    precision: str = "fp32"
    chunk: int | None = None
    at_once: int | None = None
    recompute: bool = False
    together: bool | None = None
    passed: Counter[str] = field(default_factory=Counter)

    @property
    def classes(self) -> int:
        """How many."""
        return self.real.classes

    def stream(self, *path: str | int) -> torch.Generator:
        """A generator for one purpose."""
        return stream(self.seed, *path)

    def fresh(self, *path: str | int) -> nn.Module:
        """A new network on the device, initialised from a stream of its own, in training mode.

        Raises:
            ArgumentError: ``build`` gives no network.
        """
        net = fresh(self.build, self.seed, "network", *path).to(self.real.device).train()
        return net.to(memory_format=torch.channels_last) if self.channels_last else net  # type: ignore[call-overload]

    @property
    def channels_last(self) -> bool:
        """Whether convolutions keep the channels of a pixel side by side, which changes rounding and nothing else."""
        return self.real.device.type == "cpu" and min(self.real.shape[1:]) >= CHANNELS_LAST

    def synthetic(self) -> tuple[Tensor, Tensor]:
        """The synthetic images as networks are trained on them, decoded, and their labels."""
        return expand(self.pixels.x, self.factor), self.labels.repeat(self.factor**2)

    def autocast(self) -> Any:
        """Arithmetic of the forward passes."""
        on = self.precision == "bf16"
        return torch.autocast(self.real.device.type, torch.bfloat16) if on else nullcontext()


def fresh(build: Callable[[], nn.Module], seed: int, *path: str | int) -> nn.Module:
    """``build()`` on a stream of its own; the global one is put back.

    Raises:
        ArgumentError: it gives no network.
    """
    if not callable(build) or isinstance(build, nn.Module):
        raise ArgumentError(
            f"build must be a function that returns a fresh network, got {type(build).__name__}: for example "
            "lambda: models.convnet(classes=10, channels=1, size=28)"
        )
    with forked(seed, *path):
        net = build()
    if not isinstance(net, nn.Module):
        raise ArgumentError(f"build() must return a torch.nn.Module, got {type(net).__name__}")
    return net


@dataclass
class Own:
    """What a network sees of the synthetic images of some classes, differentiable in them.

    Attributes:
        seen: logits, features and maps of (b,) images.
        labels: (b,) their classes.
        classes: (k,) which classes those are.
    """

    seen: Seen
    labels: Tensor
    classes: Tensor

    def means(self, values: Tensor) -> Tensor:
        """Mean of (b, ...) values by class: (k, ...)."""
        same = (self.labels == self.classes[:, None]).to(values.dtype)
        weight = same / same.sum(1, keepdim=True)
        return (weight @ values.reshape(len(values), -1)).view(len(self.classes), *values.shape[1:])


@dataclass
class Step:
    """Everything that an objective may look at.

    Attributes:
        world: what stays.
        net: the network of this step.
        percent: its accuracy on real images so far, 0 to 100, where the networks keep count; else 0.
        x: (b, channels, height, width) real images, class by class, not augmented.
        y: (b,) their classes.
        leaf: synthetic images as stored; gradients are of these.
        drawn: the augmentation of every class, for real and synthetic images alike; None for none.
    """

    world: World
    net: nn.Module
    percent: float
    x: Tensor
    y: Tensor
    leaf: Tensor
    drawn: Drawn | None

    @property
    def mixing(self) -> bool:
        """Whether images influence each other within a forward pass, so that it must hold all of them."""
        return any(isinstance(m, BATCH_NORMS) and m.training for m in self.net.modules())

    def groups(self) -> Iterator[Tensor]:
        """(k,) class ids, group by group: an objective that is a sum over classes needs the graph of a group only."""
        every = torch.arange(self.world.classes, device=self.leaf.device)
        most = self.world.at_once or (len(every) if self.leaf.is_cuda else self.fitting())
        return iter([every] if self.mixing else torch.split(every, most))

    def real(self) -> Tensor:
        """The real images, augmented."""
        return self.x if self.drawn is None else self.drawn(self.x, self.y)

    def synthetic(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """The synthetic images of some classes, decoded and augmented, and their labels."""
        every = self.leaf.view(self.world.classes, -1, *self.leaf.shape[1:])
        stored = every[classes].flatten(0, 1)
        x = expand(stored, self.world.factor)
        y = classes.repeat_interleave(every.shape[1]).repeat(self.world.factor**2)
        return (x if self.drawn is None else self.drawn(x, y)), y

    def own(self, classes: Tensor, modules: Sequence[nn.Module] = ()) -> Own:
        """What the network sees of the synthetic images of some classes, differentiably."""
        x, y = self.synthetic(classes)
        self.world.passed["backward"] += len(x)
        with self.world.autocast():
            return Own(look(self.net, x, modules, recompute=self.world.recompute), y, classes)

    @torch.no_grad()
    def real_seen(self, modules: Sequence[nn.Module] = ()) -> tuple[Tensor, list[Tensor]]:
        """What the network sees of the real images: features (b, d), and every class's mean map in each layer."""
        x, net = self.real(), self.net
        self.world.passed["forward"] += len(x)
        features: list[Tensor] = []
        sums: list[Tensor] = []
        count = torch.bincount(self.y, minlength=self.world.classes).to(x.dtype)
        for part, label in zip(self.pieces(x), self.pieces(self.y), strict=True):
            with self.world.autocast():
                seen = look(net, part, modules)
            features.append(seen.features)
            same = (label == torch.arange(self.world.classes, device=x.device)[:, None]).to(x.dtype)
            parts = [same @ m.flatten(1) for m in seen.maps]
            sums = [a.add_(b) for a, b in zip(sums, parts, strict=True)] if sums else parts
            shapes = [m.shape[1:] for m in seen.maps]
        return torch.cat(features), [(s / count[:, None]).view(-1, *h) for s, h in zip(sums, shapes, strict=True)]

    def real_means(self) -> Tensor:
        """(classes, d) mean features of the real images of every class."""
        features, _ = self.real_seen()
        sizes = torch.bincount(self.y, minlength=self.world.classes).tolist()
        return torch.stack([part.mean(0) for part in torch.split(features, sizes)])

    def fitting(self) -> int:
        """Classes whose synthetic images stay in cache together."""
        per_class = len(self.leaf) // self.world.classes * self.world.factor**2
        return max(1, min(self.world.classes, self.chunk() // per_class))

    def pieces(self, x: Tensor) -> tuple[Tensor, ...]:
        """Real images (or their labels) a forward pass at a time, in pieces that differ by one at most."""
        at_once = len(x) if self.mixing else self.chunk()
        return torch.tensor_split(x, -(-len(x) // at_once))

    def chunk(self) -> int:
        """Real images a forward pass."""
        if self.world.chunk is None:
            self.world.chunk = images_at_once(self.net, self.x)
        return self.world.chunk


Objective = Callable[[Step], Iterator[Tensor]]
"""Parts of a loss that sum to it; each is differentiated by itself, so that no more than its graph is held."""
