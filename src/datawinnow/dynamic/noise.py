"""Examples suspected of a wrong label: two normal distributions fitted to the log-odds of the label."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_EM_ITERATIONS = 300
BINS = 512
MAX_LOG_ODDS = 12.0
"""Larger log-odds are as good as certain."""
WRONG_LOG_ODDS = -1.5
"""Mean log-odds of the label up to which a group counts as confidently wrong: a probability under 0.18. With 20% wrong
labels the groups had -2.5 and less; on clean data separated groups had -1.2 and more, or were small."""
MIN_GROUP_SHARE = 0.05
"""Share of the sample below which a group of higher loss counts as the tail of the rest."""
MIN_GROUP_SIZE = 20
"""Smallest number of the sample in the group."""


def suspected_of_wrong_label(mean: Tensor, sample: Tensor, separation: float, max_fraction: float) -> Tensor:
    """Examples of the distribution of higher loss, if there are two and the higher one has wrong labels.

    Args:
        mean: (n,) float, running mean of the cross-entropy of each example's label, nats; NaN for no evidence.
        sample: (m,) int64 ids that represent all, drawn regardless of their loss: examples visited *because* of a high
            loss would form a group by themselves. Those with NaN are left out.
        separation: smallest value of Ashman's D.
        max_fraction: largest fraction of the examples that may be suspected.

    Returns:
        (n,) bool.
    """
    z = log_odds(mean)
    out = torch.zeros(mean.numel(), dtype=torch.bool)
    # 0.29 * 100 is 28.999... in binary.
    number = int(max_fraction * mean.numel() + 1e-9)
    sampled = z[sample]
    sampled = sampled[~sampled.isnan()]
    if sampled.numel() < MIN_GROUP_SIZE or not number:
        return out
    share, centre, spread, gain = fit_two_normals(sampled)
    # D = |m1 - m2| / sqrt((s1^2 + s2^2) / 2).
    ashman_d = math.sqrt(2) * float(centre[1] - centre[0]) / float(spread.square().sum().sqrt())
    # Schwarz's criterion (BIC) for three more parameters, and a difference of 10, which counts as very strong evidence:
    # nearly every small sample is fitted better by two normal distributions than by one
    insignificant = 2 * sampled.numel() * gain < 3 * math.log(sampled.numel()) + 10
    if insignificant or ashman_d < separation or float(centre[0]) > WRONG_LOG_ODDS:
        return out
    # the tails: beyond the worse mean a wider "better" distribution must not take examples back, nor may a wider worse
    # distribution take the best examples
    clamped = z.clamp(min=float(centre[0]))[:, None]
    logs = share.log() - spread.log() - ((clamped - centre) / spread).square() / 2
    out = (logs[:, 0] > logs[:, 1]) & (z < float(centre[1]))  # NaN is False
    # Counted in the sample, which represents all; the other visits favour high losses.
    if int(out[sample].sum()) < max(MIN_GROUP_SIZE, MIN_GROUP_SHARE * sampled.numel()):
        return torch.zeros_like(out)
    if int(out.sum()) > number:
        cut = torch.kthvalue(z.masked_fill(~out, torch.inf), number + 1).values
        out &= z < cut  # none of those that tie at the cut, so that nothing depends on ids
    return out


def log_odds(loss: Tensor) -> Tensor:
    """(n,) float64 log(p / (1 - p)) of a label with probability p = exp(-loss)."""
    # p / (1 - p) = 1 / (e^loss - 1); expm1 keeps the digits of small losses, and a loss of 0 gives +inf, which is
    # clamped.
    return (-torch.log(torch.expm1(loss.to(torch.float64)))).clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)


def fit_two_normals(z: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Two normal distributions by expectation maximisation on a histogram, so that iterations cost the same for any m.

    Args:
        z: (m,) float64 within +-`MAX_LOG_ODDS`.

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
        moved = float((new - centre).abs().max())
        centre = new
        if moved < 1e-7:
            break
    order = torch.argsort(centre)
    logs = share.log() - spread.log() - ((x[:, None] - centre) / spread).square() / 2
    # Mean log likelihood of two minus that of one normal, -log std - 1/2; log sqrt(2 pi) cancels.
    gain = float((mass * torch.logsumexp(logs, dim=1)).sum() + std.log() + 0.5)
    return share[order], centre[order], spread[order], gain
