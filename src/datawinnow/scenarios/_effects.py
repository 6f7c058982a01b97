"""Corruptions of (b, channels, height, width) float32 images in [0, 1]; each function checks its settings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core import check
from datawinnow.scenarios.corrupt_images import Corruption


def add_noise(std: float, mean: float, generator: torch.Generator) -> Corruption:
    check.number("std", std, 0, 1e6)
    check.number("mean", mean, -1e6, 1e6)

    def corrupt(x: Tensor, u: Tensor) -> Tensor:
        del u
        # a draw for each image, so that the numbers do not depend on the batch
        return x + torch.stack([torch.randn(x.shape[1:], generator=generator) for _ in x]) * std + mean

    return corrupt


def occlude(side: float, fill: float) -> Corruption:
    check.number("side", side, 1e-6, 1)
    check.number("fill", fill, 0, 1)

    def corrupt(x: Tensor, u: Tensor) -> Tensor:
        covered = torch.ones((len(x), 1, 1, 1), dtype=torch.bool)
        for axis in (0, 1):
            size = x.shape[2 + axis]
            long = max(1, int(side * size + 0.5))
            # size - long + 1 places, so that the square lies inside the image.
            start = (u[:, axis] * (size - long + 1)).long()[:, None]
            at = torch.arange(size)
            inside = (at >= start) & (at < start + long)
            covered = covered & (inside[:, None, :, None] if axis == 0 else inside[:, None, None, :])
        return torch.where(covered, torch.tensor(float(fill)), x)

    return corrupt


def reduce_resolution(factor: float) -> Corruption:
    check.number("factor", factor, 1, 1e6)

    def corrupt(x: Tensor, u: Tensor) -> Tensor:
        del u
        small = [max(1, round(size / factor)) for size in x.shape[2:]]
        # Bicubic weights are partly negative and overshoot; an image file would be clipped here.
        shrunk = F.interpolate(x, size=small, mode="bicubic", antialias=True).clamp(0, 1)
        return F.interpolate(shrunk, size=x.shape[2:], mode="bicubic", antialias=True)

    return corrupt


def add_fog(density: float, airlight: float) -> Corruption:
    check.number("density", density, 0, 1e6)
    check.number("airlight", airlight, 0, 1)

    def corrupt(x: Tensor, u: Tensor) -> Tensor:
        del u
        height, width = x.shape[2:]
        down = torch.arange(height)[:, None] - height // 2
        right = torch.arange(width)[None] - width // 2
        # In pixels of an image of 32, for which the constants of the published code are made.
        distance = (down**2 + right**2).sqrt() * (32 / max(height, width))
        transmission = torch.exp(-density * (math.sqrt(32) - 0.04 * distance))
        return x * transmission + airlight * (1 - transmission)

    return corrupt


def blur_along_line(length: float, angle: float | None) -> Corruption:
    check.number("length", length, 1e-6, 10)
    if angle is not None:
        check.number("angle", angle, -360, 360)

    def corrupt(x: Tensor, u: Tensor) -> Tensor:
        height, width = x.shape[2:]
        degrees = u[:, 0] * 90 - 45 if angle is None else torch.full((len(x),), float(angle))
        turn = torch.deg2rad(degrees.double())
        # with align_corners, -1 and 1 are the centres of the outer pixels; the y axis points down
        scale = torch.tensor([2 / max(1, width - 1), 2 / max(1, height - 1)], dtype=torch.float64)
        step = (torch.stack([turn.cos(), -turn.sin()], 1) * scale).float()[:, None, None, :]
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
        identity = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[None]
        taps = max(1, int(length * max(height, width) + 0.5))
        total = torch.zeros_like(x)
        for tap in range(taps):
            # Taps are centred, so that the blur does not shift the image.
            grid = identity + (tap - (taps - 1) / 2) * step
            total += F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
        return total / taps

    return corrupt
