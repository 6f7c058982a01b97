"""Checks, draws and results of batch selectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.draw import gumbel_top_k
from datawinnow.dynamic.plan import topk_random_ties

BatchState = dict[str, Tensor]
"""State of a batch selector between batches; the caller keeps it and passes the same dictionary every time."""


def losses(name: str, value: Any) -> Tensor:
    """(b,) finite floats on the CPU; one copy from the device, since a selection needs the numbers on the host.

    Raises:
        ArgumentError: another shape (a scalar: the loss was reduced), NaN or infinity.
    """
    values = check.array(name, value, "b").cpu().contiguous()
    check.finite(name, values)
    return values


def topk_positions(score: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """(budget,) positions of the highest scores, highest first; ties are drawn."""
    kept = topk_random_ties(score, budget, generator)
    kept = kept[torch.randperm(budget, generator=generator)]  # so that a stable sort leaves ties in random order
    return kept[torch.argsort(score[kept], descending=True, stable=True)]


def by_weight(weight: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """(budget,) positions drawn one after the other without replacement, by weight; those with weight 0 come last."""
    # Gumbel noise on log weights and the largest `budget`: the same as drawing one at a time and renormalising. log(0)
    # is -inf.
    return gumbel_top_k(weight.to(torch.float64).log(), weight.numel(), budget, generator)


def batch_result(positions: Tensor, like: Any) -> tuple[Tensor, Tensor]:
    """Positions and weights of one, on the device of ``like``."""
    device = like.device if isinstance(like, Tensor) else torch.device("cpu")
    return positions.to(device), torch.ones(positions.numel(), device=device)
