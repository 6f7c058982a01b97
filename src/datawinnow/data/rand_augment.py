"""`rand_augment`: random changes of images whose strength is one number, a batch at a time on the device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RAND_OPERATIONS = (
    *("brightness", "contrast", "color"),
    *("shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    "cutout",
)
PER_IMAGE = 2
"""Operations on each image, as RandAugment takes for CIFAR and more."""


def rand_augment(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Images after two random operations each, of a fixed strength and a random sign (RandAugment).

    At strength 1: a factor of 0.1 or 1.9 on contrast and on the distance from grey, one standard deviation of
    brightness, a shear of 0.3, a translation by 0.45 of the side, a rotation by 30 degrees, and a cut-out square
    of half the side.

    Args:
        x: (b, channels, height, width) normalised images; what enters from outside is 0, the mean colour.
        strength: in [0, 1]; at 0 the images are returned as they are and nothing is drawn.
        generator: on the CPU.

    References:
        Cubuk et al. 2019, RandAugment, arXiv 1909.13719.
    """
    if strength == 0:
        return x
    for _ in range(PER_IMAGE):
        u = torch.rand((4, len(x)), generator=generator)
        chosen = F.one_hot(
            (u[0] * len(RAND_OPERATIONS)).long().clamp_max(len(RAND_OPERATIONS) - 1), len(RAND_OPERATIONS)
        )
        signed = torch.where(u[1] < 0.5, -strength, strength)
        # 0 leaves an image as it is
        amounts = dict(zip(RAND_OPERATIONS, (chosen * signed[:, None]).T.to(x.device), strict=True))
        x = cut_out(warped(recolored(x, amounts), amounts), amounts["cutout"].abs(), u[2:].to(x.device))
    return x


def recolored(x: Tensor, amounts: dict[str, Tensor]) -> Tensor:
    """(b, c, h, w) with brightness, contrast and colour changed by ``amounts``, each (b,)."""
    brightness, contrast, color = (amounts[name][:, None, None, None] for name in RAND_OPERATIONS[:3])
    mean, grey = x.mean((1, 2, 3), keepdim=True), x.mean(1, keepdim=True)
    # one of the three is not 0
    return x + brightness + 0.9 * contrast * (x - mean) + 0.9 * color * (x - grey)


def warped(x: Tensor, amounts: dict[str, Tensor]) -> Tensor:
    """(b, c, h, w) sheared, translated and rotated by ``amounts``, each (b,)."""
    angle = amounts["rotate"] * math.radians(30)
    ratio = x.shape[2] / x.shape[3]  # coordinates run from -1 to 1 along both sides
    rows = (
        torch.stack([angle.cos(), ratio * (0.3 * amounts["shear_x"] - angle.sin()), 0.9 * amounts["translate_x"]], 1),
        torch.stack([(0.3 * amounts["shear_y"] + angle.sin()) / ratio, angle.cos(), 0.9 * amounts["translate_y"]], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    moved = torch.stack([amounts[name] for name in RAND_OPERATIONS[3:8]]).ne(0).any(0)
    return torch.where(moved[:, None, None, None], F.grid_sample(x, grid, align_corners=False), x)


def cut_out(x: Tensor, share: Tensor, center: Tensor) -> Tensor:
    """(b, c, h, w) with a square of half of ``share`` of each side at 0."""
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for dim, at in ((2, center[0]), (3, center[1])):
        side = x.shape[dim]
        shape = (1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1)
        position = (torch.arange(side, device=x.device) + 0.5).view(shape)
        distance = (position - side * at.view(-1, 1, 1, 1)).abs()
        inside = inside & (distance < 0.25 * side * share.view(-1, 1, 1, 1))
    return x.masked_fill(inside, 0.0)
