"""Which examples look mislabelled: two normal distributions fitted to the log-odds of the label, if there are two."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROUNDS = 300
BINS = 512
ENDS = 12.0
"""Log-odds past this are as good as certain."""
WRONG = -1.5
"""Mean log-odds of the label from which on a group counts as sure that it is wrong: a probability under 0.18. With 20%
wrong labels the groups had -2.5 and less; on clean data those that lay apart had -1.2 and more, or were of a few."""
LEAST = 0.05
"""Share of the sample below which a group of higher loss is taken for the tail of the rest."""
FEWEST = 20
"""As many of the sample at least must be in the group."""


def suspects(mean: Tensor, sample: Tensor, separation: float, most: float) -> Tensor:
    """Examples of the distribution of higher loss, if there are two and the higher is of wrong labels.

    Args:
        mean: (n,) float, running mean of the cross-entropy of each example's label, nats; NaN for no evidence.
        sample: (m,) int64 ids that stand for all, drawn without regard to their loss: who is looked at *because* of a
            high loss makes a group of its own. Those of NaN are left out.
        separation: least of Ashman's D.
        most: largest fraction of the examples that may be suspected.

    Returns:
        (n,) bool.
    """
    z = log_odds(mean)
    out = torch.zeros(mean.numel(), dtype=torch.bool)
    number = int(most * mean.numel() + 1e-9)
    part = z[sample]
    part = part[~part.isnan()]
    if part.numel() < FEWEST or not number:
        return out
    share, centre, spread, gain = fitted(part)
    apart = math.sqrt(2) * float(centre[1] - centre[0]) / float(spread.square().sum().sqrt())
    # three more parameters by Schwarz's criterion, and 10 more, which counts as very strong: small samples always part
    chance = 2 * part.numel() * gain < 3 * math.log(part.numel()) + 10
    if chance or apart < separation or float(centre[0]) > WRONG:
        return out
    # past the worse mean a wider "better" distribution must not win them back, nor a wider worse one the very best
    place = z.clamp(min=float(centre[0]))[:, None]
    logs = share.log() - spread.log() - ((place - centre) / spread).square() / 2
    out = (logs[:, 0] > logs[:, 1]) & (z < float(centre[1]))  # NaN is False
    if int(out[sample].sum()) < max(FEWEST, LEAST * part.numel()):
        return torch.zeros_like(out)
    if int(out.sum()) > number:
        cut = torch.kthvalue(z.masked_fill(~out, torch.inf), number + 1).values
        out &= z < cut  # of those that tie at the cut none, so that nothing depends on ids
    return out


def log_odds(loss: Tensor) -> Tensor:
    """(n,) float64 log(p / (1 - p)) of a label with probability p = exp(-loss)."""
    return (-torch.log(torch.expm1(loss.to(torch.float64)))).clamp(-ENDS, ENDS)


def fitted(z: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Two normal distributions by expectation maximisation, on a histogram: a round costs nothing, whatever n.

    Args:
        z: (m,) float64 within +-`ENDS`.

    Returns:
        Shares, means and standard deviations, (2,) float64 each, the lower mean first; and by how much the mean log
        likelihood of an example is above that of one normal distribution.
    """
    width = 2 * ENDS / BINS
    place = ((z + ENDS) / width).long().clamp_(0, BINS - 1)
    x = (torch.arange(BINS, dtype=torch.float64) + 0.5) * width - ENDS
    mass = torch.bincount(place, minlength=BINS).to(torch.float64) / z.numel()
    middle = (mass * x).sum()
    whole = (mass * (x - middle).square()).sum().sqrt().clamp(min=width)
    share = torch.tensor([0.2, 0.8], dtype=torch.float64)
    centre = torch.stack([middle - 1.5 * whole, middle + 0.4 * whole])
    spread = torch.stack([0.6 * whole, 0.8 * whole])
    for _ in range(ROUNDS):
        logs = share.log() - spread.log() - ((x[:, None] - centre) / spread).square() / 2
        part = torch.softmax(logs, dim=1) * mass[:, None]
        share = part.sum(0).clamp(min=1e-9)
        new = (part * x[:, None]).sum(0) / share
        spread = ((part * (x[:, None] - new).square()).sum(0) / share).sqrt().clamp(min=max(width, 0.05 * float(whole)))
        moved = float((new - centre).abs().max())
        centre = new
        if moved < 1e-7:
            break
    order = torch.argsort(centre)
    logs = share.log() - spread.log() - ((x[:, None] - centre) / spread).square() / 2
    gain = float((mass * torch.logsumexp(logs, dim=1)).sum() + whole.log() + 0.5)
    return share[order], centre[order], spread[order], gain
