"""One matching step: a network, a batch of real images of every class, and the synthetic images, augmented alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from datawinnow.condense.augment import Augmentation, AugmentationDraw
from datawinnow.condense.features import NetworkOutput, forward_with_features, images_per_pass
from datawinnow.condense.pixels import LearnedPixels
from datawinnow.condense.real_images import RealImages
from datawinnow.condense.training import build_fresh_network
from datawinnow.core.memory_format import channels_last_works
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import expand

CHANNELS_LAST_SIDE = 16
"""Pixels a side from which on CPUs are faster with the channels of a pixel side by side (benchmarks/condense.py)."""
BATCH_NORMS = nn.modules.batchnorm._BatchNorm


@dataclass
class MatchingContext:
    """The state that all networks and objectives of one condensation share.

    Attributes:
        real: the real images.
        pixels: the synthetic images, as stored.
        labels: (classes * per_class,) labels of the stored images.
        build: builds a fresh network.
        seed: every draw is a stream of this seed and of its purpose, so that a run can be resumed.
        factor: l; each stored image is decoded into l x l tiles.
        augment: augmentation of real and synthetic images alike, or None.
        precision: ``"fp32"`` or ``"bf16"``.
        chunk: real images in a forward pass; None until it is chosen by the size of the activations.
        at_once: classes whose graph is held at the same time; None for all, on CPUs as many as fit the cache.
        recompute: whether to use gradient checkpointing.
        together: whether gradients of all classes are taken in one pass; None until it is chosen.
        images_seen: images passed ``forward`` only, and ``backward`` (and forward), so far.
    """

    real: RealImages
    pixels: LearnedPixels
    labels: Tensor
    build: Callable[[], nn.Module]
    seed: int
    factor: int = 1
    augment: Augmentation | None = None
    precision: str = "fp32"
    chunk: int | None = None
    at_once: int | None = None
    recompute: bool = False
    together: bool | None = None
    images_seen: Counter[str] = field(default_factory=Counter)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.real.classes

    def stream(self, *path: str | int) -> torch.Generator:
        """A generator for one purpose."""
        return stream(self.seed, *path)

    def fresh_network(self, *path: str | int) -> nn.Module:
        """A new network on the device, in training mode, initialised from the stream of ``path``.

        Raises:
            ArgumentError: ``build`` does not return a network.
        """
        net = build_fresh_network(self.build, self.seed, "network", *path).to(self.real.device).train()
        if self.channels_last and channels_last_works(net, self.real.device):
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net

    @property
    def channels_last(self) -> bool:
        """Whether convolutions use the channels-last layout, which changes only rounding."""
        return self.real.device.type == "cpu" and min(self.real.shape[1:]) >= CHANNELS_LAST_SIDE

    def decoded(self) -> tuple[Tensor, Tensor]:
        """The synthetic images on which networks are trained, decoded, and their labels."""
        # Tile after tile of all images, as `expand` orders them.
        return expand(self.pixels.x, self.factor), self.labels.repeat(self.factor**2)

    def autocast(self) -> AbstractContextManager[object]:
        """Context of the forward passes, by ``precision``."""
        use_bf16 = self.precision == "bf16"
        return torch.autocast(self.real.device.type, torch.bfloat16) if use_bf16 else nullcontext()


@dataclass
class SyntheticOutput:
    """The outputs of a network on the synthetic images of some classes, differentiable in the images.

    Attributes:
        output: logits, features and maps of (b,) images.
        labels: (b,) their classes.
        classes: (k,) the distinct classes.
    """

    output: NetworkOutput
    labels: Tensor
    classes: Tensor

    def class_means(self, values: Tensor) -> Tensor:
        """Mean of (b, ...) values by class: (k, ...)."""
        same = (self.labels == self.classes[:, None]).to(values.dtype)
        # (k, b): a product serves images in any order, as decoded ones are (tile by tile), and is differentiable.
        weight = same / same.sum(1, keepdim=True)
        return (weight @ values.reshape(len(values), -1)).view(len(self.classes), *values.shape[1:])


@dataclass
class MatchingStep:
    """The inputs of an objective in one step.

    Attributes:
        context: the state of the condensation.
        net: the network of this step.
        percent: its accuracy on real images so far, 0 to 100, if the source of networks counts it; else 0.
        x: (b, channels, height, width) real images, class by class, not augmented.
        y: (b,) their classes.
        leaf: synthetic images as stored; gradients are taken with respect to them.
        draw: the augmentation of every class, for real and synthetic images alike; None for none.
    """

    context: MatchingContext
    net: nn.Module
    percent: float
    x: Tensor
    y: Tensor
    leaf: Tensor
    draw: AugmentationDraw | None

    @property
    def mixes_images(self) -> bool:
        """Whether a batch norm in training mode couples the images of a pass, so that it must hold all of them."""
        return any(isinstance(m, BATCH_NORMS) and m.training for m in self.net.modules())

    def class_groups(self) -> Iterator[Tensor]:
        """(k,) class ids, group by group: an objective that is a sum over classes holds the graph of one group."""
        classes = torch.arange(self.context.classes, device=self.leaf.device)
        if self.mixes_images:
            return iter([classes])
        # Images a class after decoding: what a forward pass sees.
        per_class = len(self.leaf) // self.context.classes * self.context.factor**2
        in_cache = max(1, min(len(classes), self.chunk() // per_class))
        size = self.context.at_once or (len(classes) if self.leaf.is_cuda else in_cache)
        return iter(torch.split(classes, size))

    def real(self) -> Tensor:
        """The real images, augmented."""
        return self.x if self.draw is None else self.draw(self.x, self.y)

    def synthetic(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """The synthetic images of some classes, decoded and augmented, and their labels."""
        by_class = self.leaf.view(self.context.classes, -1, *self.leaf.shape[1:])
        stored = by_class[classes].flatten(0, 1)
        x = expand(stored, self.context.factor)
        # `expand` returns tile after tile of all images, so the labels of the stored images are repeated in whole.
        y = classes.repeat_interleave(by_class.shape[1]).repeat(self.context.factor**2)
        return (x if self.draw is None else self.draw(x, y)), y

    def synthetic_output(self, classes: Tensor, modules: Sequence[nn.Module] = ()) -> SyntheticOutput:
        """The outputs of the network on the synthetic images of some classes, differentiable in the images."""
        x, y = self.synthetic(classes)
        self.context.images_seen["backward"] += len(x)
        with self.context.autocast():
            output = forward_with_features(self.net, x, modules, recompute=self.context.recompute)
        return SyntheticOutput(output, y, classes)

    @torch.no_grad()
    def real_output(self, modules: Sequence[nn.Module] = ()) -> tuple[Tensor, list[Tensor]]:
        """Features (b, d) of the real images, and for each module the mean map of every class (classes, ...)."""
        x, net = self.real(), self.net
        self.context.images_seen["forward"] += len(x)
        features: list[Tensor] = []
        sums: list[Tensor] = []
        count = torch.bincount(self.y, minlength=self.context.classes).to(x.dtype)
        for x_chunk, y_chunk in zip(self.split(x), self.split(self.y), strict=True):
            with self.context.autocast():
                output = forward_with_features(net, x_chunk, modules)
            features.append(output.features)
            same = (y_chunk == torch.arange(self.context.classes, device=x.device)[:, None]).to(x.dtype)
            # Only sums by class are kept: maps of all real images would be the largest arrays of the step.
            chunk_sums = [same @ m.flatten(1) for m in output.maps]
            sums = [a.add_(b) for a, b in zip(sums, chunk_sums, strict=True)] if sums else chunk_sums
            shapes = [m.shape[1:] for m in output.maps]
        return torch.cat(features), [(s / count[:, None]).view(-1, *h) for s, h in zip(sums, shapes, strict=True)]

    def real_class_means(self) -> Tensor:
        """(classes, d) mean features of the real images of every class."""
        features, _ = self.real_output()
        sizes = torch.bincount(self.y, minlength=self.context.classes).tolist()
        # The real images lie class by class (`draw_per_class`).
        return torch.stack([of_class.mean(0) for of_class in torch.split(features, sizes)])

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Real images (or their labels) in chunks of one forward pass, whose sizes differ by at most one."""
        size = len(x) if self.mixes_images else self.chunk()
        # tensor_split and not split: the number of chunks is the same, but none is nearly empty.
        return torch.tensor_split(x, -(-len(x) // size))

    def chunk(self) -> int:
        """Real images in a forward pass."""
        if self.context.chunk is None:
            self.context.chunk = images_per_pass(self.net, self.x)
        return self.context.chunk


MatchingObjective = Callable[[MatchingStep], Iterator[Tensor]]
"""Yields terms of a loss that sum to it. Each is differentiated by itself, so that only its graph is held."""
