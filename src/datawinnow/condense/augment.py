"""Differentiable Siamese augmentation (DSA): one draw that can be applied to any batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError

NUM_UNIFORMS = 3
"""Uniform numbers drawn for an operation: colour uses 3, crop, cutout and scale 2, flip and rotate 1."""


@dataclass(frozen=True)
class Augmentation:
    """The operations of an augmentation and their strengths; the defaults are the paper's.

    Operations work on normalised images, so zero is the dataset's mean colour.

    Attributes:
        strategy: names of operations, joined by underscores. Do not use ``flip`` where mirrored images change class, as
            for digits.
        mode: ``"single"`` applies one random operation each time (the papers); ``"all"`` applies each in turn.
        brightness: range of the added constant; 1 adds -0.5 to 0.5.
        saturation: largest factor on the distance of colours from grey.
        contrast: values are scaled about the image's mean by ``contrast`` to ``1 + contrast``.
        crop: largest shift, as a share of the side.
        cutout: side of the zero square, as a share of the side.
        flip: probability of a mirror image.
        scale: largest factor of a side; the smallest is its inverse.
        rotate: largest angle in degrees.

    Raises:
        ArgumentError: an unknown or repeated operation, or a number out of range.

    References:
        Zhao and Bilen 2021, Dataset Condensation with Differentiable Siamese Augmentation, arXiv 2102.08259.
    """

    strategy: str = "color_crop_cutout_flip_scale_rotate"
    mode: Literal["single", "all"] = "single"
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5
    crop: float = 0.125
    cutout: float = 0.5
    flip: float = 0.5
    scale: float = 1.2
    rotate: float = 15.0

    def __post_init__(self) -> None:
        check.one_of("mode", self.mode, ("single", "all"))
        names = self.names
        for i, name in enumerate(names):
            if name not in OPERATIONS or name in names[:i]:
                raise ArgumentError(
                    f"augment must name operations once each, joined by underscores, of {', '.join(OPERATIONS)}; got "
                    f"{name!r} in {self.strategy!r}"
                )
        for field in ("brightness", "saturation", "contrast"):
            check.number(field, getattr(self, field), 0, 100)
        for field in ("crop", "cutout", "flip"):
            check.number(field, getattr(self, field), 0, 1)
        check.number("scale", self.scale, 1, 100)
        check.number("rotate", self.rotate, 0, 180)

    @property
    def names(self) -> tuple[str, ...]:
        """The operations, in order."""
        return tuple(self.strategy.lower().split("_"))

    def without(self, *names: str) -> Augmentation:
        """A copy without some operations: ``without("flip")`` for digits."""
        return replace(self, strategy="_".join(name for name in self.names if name not in names))

    def draw(self, groups: int, generator: torch.Generator, *, one_operation: bool = False) -> AugmentationDraw:
        """Draw the operations and parameters of ``groups`` groups of images.

        Args:
            groups: number of groups; the images of a group share an operation and its parameters. A group is a class in
                matching, an image in training.
            generator: CPU `torch.Generator`.
            one_operation: whether all groups share the operation and differ only in its parameters, as in the published
                training.

        Returns:
            A draw that can be applied to any number of batches of any size.
        """
        count = len(self.names)
        # expand() repeats one number for all groups without drawing it again.
        pick = torch.randint(count, (1 if one_operation else groups,), generator=generator).expand(groups)
        chosen = F.one_hot(pick, count).bool() if self.mode == "single" else torch.ones(groups, count, dtype=torch.bool)
        # Numbers for every operation are drawn, chosen or not: the stream does not depend on the choice.
        return AugmentationDraw(self, chosen, torch.rand((groups, count, NUM_UNIFORMS), generator=generator))


@dataclass(frozen=True, eq=False)
class AugmentationDraw:
    """One draw of an `Augmentation`.

    Attributes:
        augmentation: the augmentation drawn from.
        chosen: (groups, operations) bool.
        u: (groups, operations, 3) float32, uniform in [0, 1).
    """

    augmentation: Augmentation
    chosen: Tensor
    u: Tensor

    def __call__(self, x: Tensor, group: Tensor) -> Tensor:
        """Images (b, channels, height, width) after the operations of their groups, differentiable in ``x``.

        Args:
            x: the images, normalised.
            group: (b,) int64 group of each image, on any device.
        """
        group = group.cpu()
        for i, name in enumerate(self.augmentation.names):
            at = self.chosen[group, i].nonzero().flatten()
            if not at.numel():
                continue
            u = self.u[group[at], i].to(x.device)
            # The common case without a copy; index_copy keeps the gradient of the images that do not change.
            if len(at) == len(x):
                x = OPERATIONS[name](x, u, self.augmentation)
            else:
                at = at.to(x.device)
                x = x.index_copy(0, at, OPERATIONS[name](x[at], u, self.augmentation).to(x.dtype))
        return x


def _color(x: Tensor, u: Tensor, options: Augmentation) -> Tensor:
    brightness, saturation, contrast = u[:, :, None, None, None].unbind(1)
    # Brightness, saturation, contrast, in the order of the published code: they do not commute.
    x = x + (brightness - 0.5) * options.brightness
    grey = x.mean(1, keepdim=True)
    x = (x - grey) * (saturation * options.saturation) + grey
    level = x.mean((1, 2, 3), keepdim=True)
    return (x - level) * (contrast + options.contrast) + level


def _crop(x: Tensor, u: Tensor, options: Augmentation) -> Tensor:
    height, width = x.shape[2:]
    # Rounded half up as in the published code; Python's round() goes to even.
    max_shift = [int(side * options.crop + 0.5) for side in (height, width)]
    # -m to m, both included.
    down, right = ((_uniform_int(u[:, i], 2 * m + 1) - m)[:, None] for i, m in enumerate(max_shift))
    rows = torch.arange(height, device=x.device) + down + max_shift[0]
    columns = torch.arange(width, device=x.device) + right + max_shift[1]
    padded = F.pad(x, (max_shift[1], max_shift[1], max_shift[0], max_shift[0]))
    image = torch.arange(len(x), device=x.device)[:, None, None]
    # Advanced indices around a slice come first: (b, h, w, channels).
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cutout(x: Tensor, u: Tensor, options: Augmentation) -> Tensor:
    inside = []
    for i, side in enumerate(x.shape[2:]):
        cut = int(side * options.cutout + 0.5)
        # The centre may lie on the border, and the square is cut off there, as in the published code.
        centre = _uniform_int(u[:, i], side + 1 - cut % 2)[:, None]
        first = centre - cut // 2
        at = torch.arange(side, device=x.device)
        inside.append((at >= first) & (at < first + cut))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return x * ~hole[:, None]


def _uniform_int(u: Tensor, count: int) -> Tensor:
    """Uniform integers below ``count``. Clamped: a float32 just below 1 times ``count`` may round up to ``count``."""
    return (u * count).long().clamp_max(count - 1)


def _flip(x: Tensor, u: Tensor, options: Augmentation) -> Tensor:
    return torch.where((u[:, 0] < options.flip)[:, None, None, None], x.flip(3), x)


def _resize(x: Tensor, u: Tensor, options: Augmentation) -> Tensor:
    low = 1 / options.scale
    # The grid is scaled by this factor: above 1 the image shrinks.
    across, along = (u[:, :2] * (options.scale - low) + low).unbind(1)
    zero = torch.zeros_like(across)
    return _warp(x, torch.stack([across, zero, zero, zero, along, zero], 1))


def _rotate(x: Tensor, u: Tensor, options: Augmentation) -> Tensor:
    angle = (u[:, 0] - 0.5) * (2 * options.rotate * math.pi / 180)
    zero, shape = torch.zeros_like(angle), x.shape[2] / x.shape[3]  # grid_sample scales both sides to [-1, 1]
    sine, cosine = angle.sin(), angle.cos()
    return _warp(x, torch.stack([cosine, -sine * shape, zero, sine / shape, cosine, zero], 1))


def _warp(x: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta.view(-1, 2, 3).to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


OPERATIONS: dict[str, Callable[[Tensor, Tensor, Augmentation], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _resize,
    "rotate": _rotate,
}


def to_augmentation(value: object) -> Augmentation | None:
    """An `Augmentation` from itself, from a strategy, or None.

    Raises:
        ArgumentError: any other value.
    """
    if value is None or isinstance(value, Augmentation):
        return value
    if isinstance(value, str):
        return Augmentation(value)
    raise ArgumentError(f"augment must be an Augmentation, a strategy such as 'color_crop', or None, got {value!r}")


SIAMESE = Augmentation()
"""All six operations, one at a time, as in DSA, DM and IDM."""
