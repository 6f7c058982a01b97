"""The real images: kept as they came, drawn class by class and normalised on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError


class Real:
    """Images and labels on the device, with an index a class.

    Args:
        images: (n, channels, height, width) uint8, normalised here a batch at a time (a quarter of the memory), or
            floating numbers that are normalised already.
        labels: (n,) int class ids; every class from 0 to the largest must have an image.
        mean: per channel of pixels in [0, 1]; None measures it of uint8 images.
        std: likewise.
        device: where the images are kept.
        every_class: whether each class must have an image; not so of images to judge by.

    Raises:
        ArgumentError: shapes or dtypes that do not fit, a class without images, or a number that is none.
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        mean: Any = None,
        std: Any = None,
        device: torch.device | str = "cpu",
        *,
        every_class: bool = True,
    ) -> None:
        given = check.as_tensor("images", images)
        self.bytes = given.dtype is torch.uint8
        x = given if self.bytes else check.array("images", given, "n,channels,height,width").float()
        if x.ndim != 4 or 0 in x.shape:
            raise ArgumentError(
                f"images must have shape (n, channels, height, width), none of them 0, got {tuple(x.shape)}"
            )
        if not self.bytes:
            _finite(x)
        self.labels = check.labels("labels", labels, len(x)).cpu()
        counts = torch.bincount(self.labels)
        if every_class and bool((counts == 0).any()):
            raise ArgumentError(
                f"labels must use every class from 0 to {len(counts) - 1}, but class {int((counts == 0).nonzero()[0])} "
                "has no image: number the classes that there are from 0"
            )
        self.counts = counts.tolist()
        self.classes = len(self.counts)
        self.index = torch.split_with_sizes(torch.argsort(self.labels, stable=True), self.counts)
        self.device = torch.device(device)
        if (mean is None) != (std is None):
            raise ArgumentError("give both of mean and std, or neither")
        if mean is None and self.bytes:
            mean, std = channel_statistics(x)
        self.mean, self.std = _channels("mean", mean, x.shape[1]), _channels("std", std, x.shape[1])
        if min(self.std, default=1.0) <= 0:
            raise ArgumentError(f"std must be above 0, got {self.std}")
        self.x = x.to(self.device)
        self.shape = tuple(int(side) for side in x.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images (b, channels, height, width) and labels (b,) of (b,) ids, on the device."""
        x = self.x[ids.to(self.device)]
        return self.normalised(x), self.labels[ids].to(self.device)

    def normalised(self, x: Tensor) -> Tensor:
        """uint8 images as networks see them; others as they are."""
        if x.dtype is not torch.uint8:
            return x
        mean = torch.tensor(self.mean, device=x.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(1, -1, 1, 1)
        return (x.float() / 255 - mean) / std

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Ids of ``count`` random images of every class, class by class; all of a class that has fewer."""
        return torch.cat([i[torch.randperm(len(i), generator=generator)[:count]] for i in self.index])

    def anything(self, count: int, generator: torch.Generator) -> Tensor:
        """Ids of ``count`` random images of any class, all where there are fewer."""
        return torch.randperm(len(self), generator=generator)[:count]


def channel_statistics(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (n, c, h, w) uint8, on the scale [0, 1]; std at least 0.001."""
    counts = torch.stack([torch.bincount(x[:, c].reshape(-1), minlength=256) for c in range(x.shape[1])]).double()
    share = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64, device=share.device) / 255
    mean = share @ values
    std = (share * (values - mean[:, None]) ** 2).sum(1).sqrt().clamp_min(1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())


def _channels(name: str, value: Any, channels: int) -> tuple[float, ...]:
    if value is None:
        return ()
    numbers = tuple(float(v) for v in (value if hasattr(value, "__iter__") else [value]))
    if len(numbers) != channels:
        raise ArgumentError(f"{name} must have one number a channel ({channels}), got {len(numbers)}")
    return numbers


def _finite(x: Tensor) -> None:
    for first in range(0, len(x), 4096):
        bad = ~torch.isfinite(x[first : first + 4096].flatten(1)).all(1)
        if bool(bad.any()):
            raise ArgumentError(f"images has a number that is not finite in image {first + int(bad.nonzero()[0])}")
