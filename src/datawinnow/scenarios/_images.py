"""Images changed a batch at a time, whatever their dtype, with the same answer whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import shuffled
from datawinnow.core.errors import ArgumentError
from datawinnow.scenarios._given import chosen, labels_of

PIXELS = 1 << 22
"""Values that are worked on at a time: 16 MB as float32."""

Corrupt = Callable[[Tensor, Tensor], Tensor]


def corrupted(
    images: Any, labels: Any, *kinds: Corrupt, rate: float, generator: torch.Generator, draws: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """A fraction of the images, drawn uniformly, put through one of ``kinds`` each; the others as they are.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids.
        kinds: from (b, channels, height, width) float32 in [0, 1] and (b, draws) uniform numbers of theirs to as many
            images, cut to [0, 1] afterwards. What one draws itself it draws image by image, in their order.
        rate: fraction of images that change.
        generator: source of all draws.
        draws: how many uniform numbers an image gets.

    Raises:
        ArgumentError: images of another shape, dtype or range, or another number of them than of labels.
    """
    given = labels_of(labels, rate, generator)
    x = _checked(images, len(given))
    changed = chosen(len(given), rate, generator)
    index = torch.nonzero(changed).flatten()
    drawn = torch.rand((len(index), draws), generator=generator, dtype=torch.float64)
    kind = shuffled(len(index), generator) % len(kinds)
    new = x.clone()
    size = max(1, PIXELS // max(1, x[0].numel()))
    for first in range(0, len(index), size):
        part = slice(first, first + size)
        for number, corrupt in enumerate(kinds):
            here = kind[part] == number
            ids = index[part][here]
            if len(ids):
                new[ids] = _stored(corrupt(_unit(x[ids]), drawn[part][here]), x.dtype)
    return new, given.clone(), changed


def _checked(images: Any, n: int) -> Tensor:
    x = check.as_tensor("images", images)
    if x.ndim != 4 or 0 in x.shape:
        raise ArgumentError(f"images must have shape (n, channels, height, width), got {tuple(x.shape)}")
    if len(x) != n:
        raise ArgumentError(f"images must have one row for each of the {n} labels, got {len(x)}")
    if x.dtype is torch.uint8:
        return x
    if not x.is_floating_point():
        raise ArgumentError(f"images must be uint8, or floating in [0, 1], got dtype {x.dtype}")
    low, high = (float(value) for value in torch.aminmax(x))
    if not (low >= -1e-3 and high <= 1.001):  # NaN fails as well
        raise ArgumentError(
            f"images of dtype {x.dtype} must be in [0, 1], got values from {low:g} to {high:g}: corrupt them before "
            "they are normalised"
        )
    return x


def _unit(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype is torch.uint8 else x.float()


def _stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    x = x.clamp(0, 1)
    return (x * 255).round().to(dtype) if dtype is torch.uint8 else x.to(dtype)
