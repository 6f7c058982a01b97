"""Corrupted images: noise, an occluded square, low resolution, fog, motion blur, or some of each.

The settings are those of the robustness study of Moderate coresets (its code, robust/corrupt-cifar.py at 999385e), the
five kinds that DUAL's study names too; they are far stronger than ImageNet-C's. Where that code goes wrong (noise below
zero wraps around in uint8, fog is stored as zeros, blur is stretched to full contrast), the intended image is made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core.card import card
from datawinnow.scenarios._effects import cover, haze, move, noise, shrink
from datawinnow.scenarios._images import corrupted

C = "Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness, arXiv 1903.12261"
MODERATE = "settings of Xia et al. 2023, Moderate Coreset (code)"
COST = "time O(rate n d), memory O(n d) for the copy"

Changed = tuple[Tensor, Tensor, Tensor]


@card("scenario", "Gaussian noise", f"{C}, section 3; {MODERATE}", cost=COST)
def gaussian_noise(
    images: Any, labels: Any, *, rate: float, generator: torch.Generator, std: float = 1.0, mean: float = 0.2
) -> Changed:
    """Add Gaussian noise, its own at every pixel and channel, to a fraction of the images.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; handed back as they are.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of all draws.
        std: of the noise, where pixels are in [0, 1]; ImageNet-C on CIFAR has 0.04, 0.06, 0.08, 0.09 and 0.10.
        mean: of the noise; ImageNet-C has 0.

    Returns:
        ``(images, labels, changed)``: new ones of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or images that are none.

    References:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, section 3.

    >>> from datawinnow.core.rng import stream
    >>> x = torch.full((4, 1, 8, 8), 128, dtype=torch.uint8)
    >>> new, _, changed = gaussian_noise(x, [0, 1, 0, 1], rate=0.5, generator=stream(0, "noise"))
    >>> int(changed.sum()), bool((new[~changed] == 128).all())
    (2, True)
    """
    return corrupted(images, labels, noise(std, mean, generator), rate=rate, generator=generator)


@card(
    "scenario",
    "Random occlusion",
    f"DeVries and Taylor 2017, Cutout, arXiv 1708.04552, section 3; {MODERATE}",
    cost=COST,
)
def occlusion(
    images: Any, labels: Any, *, rate: float, generator: torch.Generator, side: float = 0.5, fill: float = 0.0
) -> Changed:
    """Cover a part of a fraction of the images, at a place of its own in each, all of it inside the image.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; handed back as they are.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of all draws.
        side: height and width of what is covered, as a fraction of the image's (16 of 32 pixels in the code named
            above, there always at the same place).
        fill: what covers it, from black 0 to white 1.

    Returns:
        ``(images, labels, changed)``: new ones of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or images that are none.

    References:
        DeVries and Taylor 2017, arXiv 1708.04552, section 3.

    >>> from datawinnow.core.rng import stream
    >>> x = torch.full((1, 1, 8, 8), 9, dtype=torch.uint8)
    >>> new, _, _ = occlusion(x, [0], rate=1.0, generator=stream(0, "occlusion"))
    >>> int((new == 0).sum())
    16
    """
    return corrupted(images, labels, cover(side, fill), rate=rate, generator=generator, draws=2)


@card("scenario", "Low resolution", f"{C}, section 3 (pixelate); {MODERATE}", cost=COST)
def low_resolution(
    images: Any, labels: Any, *, rate: float, generator: torch.Generator, factor: float = 4.0
) -> Changed:
    """Shrink a fraction of the images and enlarge them again, both bicubic with antialiasing.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; handed back as they are.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of the draw.
        factor: height and width are divided by this and rounded, at least 1 (32 pixels to 8 by default).

    Returns:
        ``(images, labels, changed)``: new ones of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or images that are none.

    References:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, section 3 (there with box filters, by at most 1.5 on CIFAR).

    >>> from datawinnow.core.rng import stream
    >>> x = torch.tensor([0.0, 1.0]).repeat(1, 1, 8, 4)
    >>> new, _, _ = low_resolution(x, [0], rate=1.0, generator=stream(0, "low"))
    >>> [round(value, 3) for value in (float(new.min()), float(new.max()))]  # stripes become grey
    [0.447, 0.553]
    """
    return corrupted(images, labels, shrink(factor), rate=rate, generator=generator)


@card("scenario", "Fog", f"Narasimhan and Nayar 2002, doi:10.1023/A:1016328200723; {MODERATE}", cost=COST)
def fog(
    images: Any, labels: Any, *, rate: float, generator: torch.Generator, density: float = 0.4, airlight: float = 0.5
) -> Changed:
    """Put fog over a fraction of the images, densest in the middle: x * t + airlight * (1 - t).

    t = exp(-density * d) is what comes through, with d = sqrt(32) - 0.04 * (distance from the middle), on the scale of
    an image whose longer side is 32; at other sizes the same fog.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; handed back as they are.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of the draw.
        density: of the fog; at 0.4 a tenth of the contrast is left in the middle.
        airlight: the fog's own brightness, in [0, 1].

    Returns:
        ``(images, labels, changed)``: new ones of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or images that are none.

    References:
        Narasimhan and Nayar 2002, doi:10.1023/A:1016328200723 (attenuation and airlight). ImageNet-C (arXiv 1903.12261)
        has patches of fog instead.

    >>> from datawinnow.core.rng import stream
    >>> new, _, _ = fog(torch.ones(1, 1, 32, 32), [0], rate=1.0, generator=stream(0, "fog"))
    >>> round(float(new[0, 0, 16, 16]), 4)  # 0.5 + 0.5 exp(-0.4 sqrt(32))
    0.552
    """
    return corrupted(images, labels, haze(density, airlight), rate=rate, generator=generator)


@card("scenario", "Motion blur", f"{C}, section 3; {MODERATE}", cost=COST)
def motion_blur(
    images: Any,
    labels: Any,
    *,
    rate: float,
    generator: torch.Generator,
    length: float = 15 / 32,
    angle: float | None = None,
) -> Changed:
    """Blur a fraction of the images along a line, as a camera does that moves evenly.

    A pixel becomes the mean of those on the line through it, a pixel apart and interpolated; the image is mirrored at
    its edge.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; handed back as they are.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of all draws.
        length: of the line, as a fraction of the image's longer side (15 of 32 pixels by default).
        angle: of the line, in degrees from the horizontal; None for a direction of its own for each image, uniform in
            [-45, 45] as in ImageNet-C.

    Returns:
        ``(images, labels, changed)``: new ones of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or images that are none.

    References:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, section 3.

    >>> from datawinnow.core.rng import stream
    >>> x = torch.zeros(1, 1, 9, 9)
    >>> x[..., 4] = 1
    >>> new, _, _ = motion_blur(x, [0], rate=1.0, generator=stream(0, "blur"), length=1 / 3, angle=0)
    >>> [round(value, 2) for value in new[0, 0, 4].tolist()]
    [0.0, 0.0, 0.0, 0.33, 0.33, 0.33, 0.0, 0.0, 0.0]
    """
    return corrupted(images, labels, move(length, angle), rate=rate, generator=generator, draws=1)


@card("scenario", "Corruption of five kinds", f"{C}, section 3; {MODERATE}", cost=COST)
def corruption(images: Any, labels: Any, *, rate: float, generator: torch.Generator) -> Changed:
    """Corrupt a fraction of the images, a fifth of these each by noise, occlusion, low resolution, fog and blur.

    The kinds have their default settings; which image gets which is drawn, in numbers that differ by at most one.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; handed back as they are.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of all draws.

    Returns:
        ``(images, labels, changed)``: new ones of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate outside [0, 1], or images that are none.

    References:
        Xia et al. 2023, Moderate Coreset, ICLR, robustness against corrupted images (its code); kinds as in arXiv
        1903.12261.

    >>> from datawinnow.core.rng import stream
    >>> x = torch.rand((20, 3, 8, 8), generator=stream(0, "pictures"))
    >>> new, _, changed = corruption(x, [0, 1] * 10, rate=0.5, generator=stream(0, "mixed"))
    >>> int(changed.sum()), torch.equal((new != x).flatten(1).any(1), changed)
    (10, True)
    """
    kinds = (noise(1.0, 0.2, generator), cover(0.5, 0.0), shrink(4.0), haze(0.4, 0.5), move(15 / 32, None))
    return corrupted(images, labels, *kinds, rate=rate, generator=generator, draws=2)
