"""Corruption of a fraction of the images, in any dtype, batch by batch; the result does not depend on the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import shuffled
from datawinnow.core.errors import ArgumentError
from datawinnow.scenarios._inputs import check_inputs, draw_changed

BATCH_VALUES = 1 << 22
"""Values of a batch: 16 MB as float32."""

Corruption = Callable[[Tensor, Tensor], Tensor]
"""From (b, channels, height, width) float32 images in [0, 1] and (b, draws) uniform numbers to corrupted images."""


def corrupt_images(
    images: Any, labels: Any, *kinds: Corruption, rate: float, generator: torch.Generator, draws: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Corrupt a fraction of the images, drawn uniformly, each by one of ``kinds``.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids.
        kinds: corruptions; their results are clipped to [0, 1]. One that draws numbers of its own draws them image by
            image, in order.
        rate: fraction of images that change.
        generator: source of all draws.
        draws: uniform numbers drawn for an image.

    Returns:
        ``(images, labels, changed)``: copies of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: images of another shape, dtype or range, or another number of images than of labels.
    """
    classes = check_inputs(labels, rate, generator)
    x = _check_images(images, len(classes))
    changed = draw_changed(len(classes), rate, generator)
    index = torch.nonzero(changed).flatten()
    # Drawn for all images before the first batch, so that the size of a batch changes nothing.
    uniforms = torch.rand((len(index), draws), generator=generator, dtype=torch.float64)
    # A permutation modulo the number of kinds: equal numbers of each, up to one.
    kind = shuffled(len(index), generator) % len(kinds)
    new = x.clone()
    size = max(1, BATCH_VALUES // max(1, x[0].numel()))
    for first in range(0, len(index), size):
        batch = slice(first, first + size)
        for number, corrupt in enumerate(kinds):
            selected = kind[batch] == number
            rows = index[batch][selected]
            if len(rows):
                new[rows] = _to_dtype(corrupt(_to_unit(x[rows]), uniforms[batch][selected]), x.dtype)
    return new, classes.clone(), changed


def _check_images(images: Any, n: int) -> Tensor:
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
            "normalising"
        )
    return x


def _to_unit(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype is torch.uint8 else x.float()


def _to_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    x = x.clamp(0, 1)
    # round() before the cast, which truncates.
    return (x * 255).round().to(dtype) if dtype is torch.uint8 else x.to(dtype)
