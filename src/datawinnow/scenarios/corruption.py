"""Corrupted images: noise, an occluded square, low resolution, fog, motion blur, or a mixture.

The settings are those of the robustness study of Moderate coresets (robust/corrupt-cifar.py at 999385e), which DUAL's
study uses too; they are far stronger than ImageNet-C's. Errors of that code (noise below zero wraps around in uint8,
fog is stored as zeros, blur is stretched to full contrast) are not reproduced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core.card import card
from datawinnow.scenarios._effects import add_fog, add_noise, blur_along_line, occlude, reduce_resolution
from datawinnow.scenarios.corrupt_images import corrupt_images

HENDRYCKS = "Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness, arXiv 1903.12261"
MODERATE_SETTINGS = "settings of Xia et al. 2023, Moderate Coreset (code)"
CORRUPTION_COST = "time O(rate n d), memory O(n d) for the copy"

ChangedImages = tuple[Tensor, Tensor, Tensor]


@card("scenario", "Gaussian noise", f"{HENDRYCKS}, section 3; {MODERATE_SETTINGS}", cost=CORRUPTION_COST)
def gaussian_noise(
    images: Any, labels: Any, *, rate: float, generator: torch.Generator, std: float = 1.0, mean: float = 0.2
) -> ChangedImages:
    """Add independent Gaussian noise to every pixel and channel of a fraction of the images.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; returned unchanged.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of all draws.
        std: standard deviation of the noise, for pixels in [0, 1]; ImageNet-C on CIFAR: 0.04, 0.06, 0.08, 0.09, 0.10.
        mean: mean of the noise; ImageNet-C has 0.

    Returns:
        ``(images, labels, changed)``: copies of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or invalid images.

    References:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, section 3.

    >>> from datawinnow.core.rng import stream
    >>> x = torch.full((4, 1, 8, 8), 128, dtype=torch.uint8)
    >>> new, _, changed = gaussian_noise(x, [0, 1, 0, 1], rate=0.5, generator=stream(0, "noise"))
    >>> int(changed.sum()), bool((new[~changed] == 128).all())
    (2, True)
    """
    return corrupt_images(images, labels, add_noise(std, mean, generator), rate=rate, generator=generator)


@card(
    "scenario",
    "Random occlusion",
    f"DeVries and Taylor 2017, Cutout, arXiv 1708.04552, section 3; {MODERATE_SETTINGS}",
    cost=CORRUPTION_COST,
)
def occlusion(
    images: Any, labels: Any, *, rate: float, generator: torch.Generator, side: float = 0.5, fill: float = 0.0
) -> ChangedImages:
    """Cover a square at a random place inside each of a fraction of the images.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; returned unchanged.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of all draws.
        side: height and width of the square, as a fraction of the image's (16 of 32 pixels in the code of the
            Moderate coresets, always at the same place).
        fill: brightness of the square, from black 0 to white 1.

    Returns:
        ``(images, labels, changed)``: copies of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or invalid images.

    References:
        DeVries and Taylor 2017, arXiv 1708.04552, section 3.

    >>> from datawinnow.core.rng import stream
    >>> x = torch.full((1, 1, 8, 8), 9, dtype=torch.uint8)
    >>> new, _, _ = occlusion(x, [0], rate=1.0, generator=stream(0, "occlusion"))
    >>> int((new == 0).sum())
    16
    """
    return corrupt_images(images, labels, occlude(side, fill), rate=rate, generator=generator, draws=2)


@card("scenario", "Low resolution", f"{HENDRYCKS}, section 3 (pixelate); {MODERATE_SETTINGS}", cost=CORRUPTION_COST)
def low_resolution(
    images: Any, labels: Any, *, rate: float, generator: torch.Generator, factor: float = 4.0
) -> ChangedImages:
    """Shrink a fraction of the images and enlarge them again, both bicubic with antialiasing.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; returned unchanged.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of the draw.
        factor: height and width are divided by this and rounded, at least 1 (32 pixels to 8 by default).

    Returns:
        ``(images, labels, changed)``: copies of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or invalid images.

    References:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, section 3 (there with box filters, by at most 1.5 on CIFAR).

    >>> from datawinnow.core.rng import stream
    >>> x = torch.tensor([0.0, 1.0]).repeat(1, 1, 8, 4)
    >>> new, _, _ = low_resolution(x, [0], rate=1.0, generator=stream(0, "low"))
    >>> [round(value, 3) for value in (float(new.min()), float(new.max()))]  # stripes become grey
    [0.447, 0.553]
    """
    return corrupt_images(images, labels, reduce_resolution(factor), rate=rate, generator=generator)


@card(
    "scenario",
    "Fog",
    f"Narasimhan and Nayar 2002, doi:10.1023/A:1016328200723; {MODERATE_SETTINGS}",
    cost=CORRUPTION_COST,
)
def fog(
    images: Any, labels: Any, *, rate: float, generator: torch.Generator, density: float = 0.4, airlight: float = 0.5
) -> ChangedImages:
    """Put fog over a fraction of the images, densest in the middle: x * t + airlight * (1 - t).

    t = exp(-density * d) is the transmission, with d = sqrt(32) - 0.04 * (distance from the middle), on the scale of
    an image whose longer side is 32; at other sizes the same fog.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; returned unchanged.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of the draw.
        density: density of the fog; at 0.4 a tenth of the contrast is left in the middle.
        airlight: brightness of the fog, in [0, 1].

    Returns:
        ``(images, labels, changed)``: copies of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or invalid images.

    References:
        Narasimhan and Nayar 2002, doi:10.1023/A:1016328200723 (attenuation and airlight). ImageNet-C (arXiv 1903.12261)
        has patches of fog instead.

    >>> from datawinnow.core.rng import stream
    >>> new, _, _ = fog(torch.ones(1, 1, 32, 32), [0], rate=1.0, generator=stream(0, "fog"))
    >>> round(float(new[0, 0, 16, 16]), 4)  # 0.5 + 0.5 exp(-0.4 sqrt(32))
    0.552
    """
    return corrupt_images(images, labels, add_fog(density, airlight), rate=rate, generator=generator)


@card("scenario", "Motion blur", f"{HENDRYCKS}, section 3; {MODERATE_SETTINGS}", cost=CORRUPTION_COST)
def motion_blur(
    images: Any,
    labels: Any,
    *,
    rate: float,
    generator: torch.Generator,
    length: float = 15 / 32,
    angle: float | None = None,
) -> ChangedImages:
    """Blur a fraction of the images along a line, as a camera does that moves evenly.

    A pixel becomes the mean of interpolated values on the line through it, a pixel apart; the image is mirrored at its
    edges.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; returned unchanged.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of all draws.
        length: length of the line, as a fraction of the image's longer side (15 of 32 pixels by default).
        angle: angle of the line, in degrees from the horizontal; None draws one for each image, uniform in [-45, 45]
            as in ImageNet-C.

    Returns:
        ``(images, labels, changed)``: copies of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate or option out of range, or invalid images.

    References:
        Hendrycks and Dietterich 2019, arXiv 1903.12261, section 3.

    >>> from datawinnow.core.rng import stream
    >>> x = torch.zeros(1, 1, 9, 9)
    >>> x[..., 4] = 1
    >>> new, _, _ = motion_blur(x, [0], rate=1.0, generator=stream(0, "blur"), length=1 / 3, angle=0)
    >>> [round(value, 2) for value in new[0, 0, 4].tolist()]
    [0.0, 0.0, 0.0, 0.33, 0.33, 0.33, 0.0, 0.0, 0.0]
    """
    return corrupt_images(images, labels, blur_along_line(length, angle), rate=rate, generator=generator, draws=1)


@card("scenario", "Corruption of five kinds", f"{HENDRYCKS}, section 3; {MODERATE_SETTINGS}", cost=CORRUPTION_COST)
def corruption(images: Any, labels: Any, *, rate: float, generator: torch.Generator) -> ChangedImages:
    """Corrupt a fraction of the images, a fifth of these each by noise, occlusion, low resolution, fog and blur.

    The kinds have their default settings and are assigned at random, in numbers that differ by at most one.

    Args:
        images: (n, channels, height, width), uint8 or floating in [0, 1].
        labels: (n,) int, class ids; returned unchanged.
        rate: fraction of images that change, in [0, 1]; exactly ``round(rate * n)``, halves up.
        generator: CPU `torch.Generator`, the source of all draws.

    Returns:
        ``(images, labels, changed)``: copies of the same shape and dtype, (n,) int64, and (n,) bool.

    Raises:
        ArgumentError: a rate outside [0, 1], or invalid images.

    References:
        Xia et al. 2023, Moderate Coreset, ICLR, robustness against corrupted images (its code); kinds as in arXiv
        1903.12261.

    >>> from datawinnow.core.rng import stream
    >>> x = torch.rand((20, 3, 8, 8), generator=stream(0, "pictures"))
    >>> new, _, changed = corruption(x, [0, 1] * 10, rate=0.5, generator=stream(0, "mixed"))
    >>> int(changed.sum()), torch.equal((new != x).flatten(1).any(1), changed)
    (10, True)
    """
    kinds = (
        add_noise(1.0, 0.2, generator),
        occlude(0.5, 0.0),
        reduce_resolution(4.0),
        add_fog(0.4, 0.5),
        blur_along_line(15 / 32, None),
    )
    return corrupt_images(images, labels, *kinds, rate=rate, generator=generator, draws=2)
