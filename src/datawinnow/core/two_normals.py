"""Two normal distributions fitted to log-odds: a group of wrong labels beside the rest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_EM_ITERATIONS = 300
BINS = 512
MAX_LOG_ODDS = 12.0
"""Larger log-odds are as good as certain."""


def log_odds(loss: Tensor) -> Tensor:
    """(n,) float64 log(p / (1 - p)) of a label with probability p = exp(-loss)."""
    # p / (1 - p) = 1 / (e^loss - 1); expm1 keeps the digits of small losses, and a loss of 0 gives +inf, which is
    # clamped.
    return (-torch.log(torch.expm1(loss.to(torch.float64)))).clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)


def ashman_d(centre: Tensor, spread: Tensor) -> float:
    """Ashman's D of two normal distributions: |m1 - m2| / sqrt((s1^2 + s2^2) / 2) (arXiv astro-ph/9408030).

    Args:
        centre: (2,) means, the lower first.
        spread: (2,) standard deviations.
    """
    return math.sqrt(2) * float(centre[1] - centre[0]) / float(spread.square().sum().sqrt())


def is_better_than_one(gain: float, number: int) -> bool:
    """Whether two distributions fit ``number`` values significantly better than one.

    By Schwarz's criterion (BIC) for three more parameters, and a difference of 10, which counts as very strong
    evidence: nearly every small sample is fitted better by two normal distributions than by one.

    Args:
        gain: as of `fit_two_normals`.
        number: of values.
    """
    return 2 * number * gain >= 3 * math.log(number) + 10


def fit_two_normals(z: Tensor, *, max_ratio: float = math.inf) -> tuple[Tensor, Tensor, Tensor, float]:
    """Two normal distributions by expectation maximisation on a histogram, so that iterations cost the same for any m.

    Args:
        z: (m,) float64 within +-`MAX_LOG_ODDS`.
        max_ratio: largest standard deviation of the lower distribution, in those of the other.

    Returns:
        Shares, means and standard deviations, (2,) float64 each, the lower mean first; and the gain in mean log
        likelihood of an example over one normal distribution.
    """
    width = 2 * MAX_LOG_ODDS / BINS
    bin_of = ((z + MAX_LOG_ODDS) / width).long().clamp_(0, BINS - 1)
    x = (torch.arange(BINS, dtype=torch.float64) + 0.5) * width - MAX_LOG_ODDS
    mass = torch.bincount(bin_of, minlength=BINS).to(torch.float64) / z.numel()
    mean = (mass * x).sum()
    # No narrower than a bin, or the densities below divide by 0.
    std = (mass * (x - mean).square()).sum().sqrt().clamp(min=width)
    # A small low group and a large high one: what wrong labels look like. EM finds the local optimum near its start.
    share = torch.tensor([0.2, 0.8], dtype=torch.float64)
    centre = torch.stack([mean - 1.5 * std, mean + 0.4 * std])
    spread = torch.stack([0.6 * std, 0.8 * std])
    for _ in range(MAX_EM_ITERATIONS):
        logs = share.log() - spread.log() - ((x[:, None] - centre) / spread).square() / 2
        # (bins, 2): E step in log space; the constant log sqrt(2 pi) is the same for both.
        responsibility = torch.softmax(logs, dim=1) * mass[:, None]
        share = responsibility.sum(0).clamp(min=1e-9)
        new = (responsibility * x[:, None]).sum(0) / share
        variance = (responsibility * (x[:, None] - new).square()).sum(0) / share
        # Without a floor a component can shrink onto one bin with infinite likelihood.
        spread = variance.sqrt().clamp(min=max(width, 0.05 * float(std)))
        spread = torch.stack([torch.minimum(spread[0], max_ratio * spread[1]), spread[1]])
        moved = float((new - centre).abs().max())
        centre = new
        if moved < 1e-7:
            break
    order = torch.argsort(centre)
    logs = share.log() - spread.log() - ((x[:, None] - centre) / spread).square() / 2
    # Mean log likelihood of two minus that of one normal, -log std - 1/2; log sqrt(2 pi) cancels.
    gain = float((mass * torch.logsumexp(logs, dim=1)).sum() + std.log() + 0.5)
    return share[order], centre[order], spread[order], gain
