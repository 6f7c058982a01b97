"""Examples suspected of a wrong label: two normal distributions fitted to the log-odds of the label."""

from __future__ import annotations

import torch
from torch import Tensor

from datawinnow.core.two_normals import ashman_d, fit_two_normals, is_better_than_one, log_odds

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
    if (
        not is_better_than_one(gain, sampled.numel())
        or ashman_d(centre, spread) < separation
        or float(centre[0]) > WRONG_LOG_ODDS
    ):
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
