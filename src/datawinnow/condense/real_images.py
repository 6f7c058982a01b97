"""The real images of a condensation: stored in their dtype, drawn class by class, normalised on the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError


class RealImages:
    """Images and labels on the device, indexed by class.

    Args:
        images: (n, channels, height, width) uint8, normalised batch by batch (a quarter of the memory), or
            floating-point images that are already normalised.
        labels: (n,) int class ids; every class from 0 to the largest must have an image.
        mean: mean per channel of pixels in [0, 1]; None measures it on uint8 images.
        std: standard deviation per channel; as ``mean``.
        device: device of the images.
        every_class: whether each class must have an image (not required of test images).

    Raises:
        ArgumentError: a wrong shape or dtype, a class without images, or values that are not finite.
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
        x = check.as_tensor("images", images)
        is_uint8 = x.dtype is torch.uint8
        x = x if is_uint8 else check.array("images", x, "n,channels,height,width").float()
        if x.ndim != 4 or 0 in x.shape:
            raise ArgumentError(
                f"images must have shape (n, channels, height, width), all above 0, got {tuple(x.shape)}"
            )
        if not is_uint8:
            _check_finite(x)
        self.labels = check.labels("labels", labels, len(x)).cpu()
        counts = torch.bincount(self.labels)
        if every_class and bool((counts == 0).any()):
            raise ArgumentError(
                f"labels must use every class from 0 to {len(counts) - 1}, but class {int((counts == 0).nonzero()[0])} "
                "has no image: number the classes from 0 without gaps"
            )
        self.counts = counts.tolist()
        self.classes = len(self.counts)
        # Stable: the ids of a class rise, so a draw does not depend on the sorting algorithm.
        self.ids_by_class = torch.split_with_sizes(torch.argsort(self.labels, stable=True), self.counts)
        self.device = torch.device(device)
        if (mean is None) != (std is None):
            raise ArgumentError("give both of mean and std, or neither")
        if mean is None and is_uint8:
            mean, std = pixel_mean_and_std(x)
        self.mean, self.std = _per_channel("mean", mean, x.shape[1]), _per_channel("std", std, x.shape[1])
        if min(self.std, default=1.0) <= 0:
            raise ArgumentError(f"std must be above 0, got {self.std}")
        self.x = x.to(self.device)
        self.shape = tuple(int(side) for side in x.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images (b, channels, height, width) and labels (b,) of (b,) ids, on the device."""
        # Only the batch is converted to float32: the images stay uint8 on the device.
        x = self.x[ids.to(self.device)]
        return self.normalise(x), self.labels[ids].to(self.device)

    def normalise(self, x: Tensor) -> Tensor:
        """Normalise uint8 images; return others unchanged."""
        if x.dtype is not torch.uint8:
            return x
        mean = torch.tensor(self.mean, device=x.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(1, -1, 1, 1)
        return (x.float() / 255 - mean) / std

    def draw_per_class(self, count: int, generator: torch.Generator) -> Tensor:
        """Ids of ``count`` random images of every class, class by class; all images of a class with fewer."""
        # Every class draws a whole permutation: the draws of later classes do not depend on `count`.
        return torch.cat([ids[torch.randperm(len(ids), generator=generator)[:count]] for ids in self.ids_by_class])

    def draw_any(self, count: int, generator: torch.Generator) -> Tensor:
        """Ids of ``count`` random images of any class; all images if there are fewer."""
        return torch.randperm(len(self), generator=generator)[:count]


def pixel_mean_and_std(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (n, c, h, w) uint8, on the scale [0, 1]; std at least 0.001."""
    # From the histogram of 256 values: exact in float64, and no float copy of all images.
    counts = torch.stack([torch.bincount(x[:, c].reshape(-1), minlength=256) for c in range(x.shape[1])]).double()
    share = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64, device=share.device) / 255
    mean = share @ values
    std = (share * (values - mean[:, None]) ** 2).sum(1).sqrt().clamp_min(1e-3)
    return tuple(mean.tolist()), tuple(std.tolist())


def _per_channel(name: str, value: Any, channels: int) -> tuple[float, ...]:
    if value is None:
        return ()
    numbers = tuple(float(v) for v in (value if hasattr(value, "__iter__") else [value]))
    if len(numbers) != channels:
        raise ArgumentError(f"{name} must have one number a channel ({channels}), got {len(numbers)}")
    return numbers


def _check_finite(x: Tensor) -> None:
    # In blocks: the mask of all images would be a quarter of their size again.
    for first in range(0, len(x), 4096):
        bad = ~torch.isfinite(x[first : first + 4096].flatten(1)).all(1)
        if bool(bad.any()):
            raise ArgumentError(f"images has a number that is not finite in image {first + int(bad.nonzero()[0])}")
