"""Weights by id, on the device of the losses that they multiply."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.selection import Selection


class Weights:
    """The weights of one epoch's plan; an id outside it has 1.

    Args:
        plan: the epoch's.
        n: number of examples.

    Attributes:
        device: where weights are given out; None for the device of the ids asked for.
    """

    def __init__(self, plan: Selection, n: int) -> None:
        self.device: torch.device | None = None
        self._table = torch.ones(n, dtype=torch.float32)
        self._table[plan.index] = plan.weight

    def __getitem__(self, index: Any) -> Tensor:
        """(b,) float32 weights of the integer ids ``index`` (b,), whatever device they are on."""
        ids = check.as_tensor("index", index)
        device = self.device or ids.device
        if self._table.device != device:  # once an epoch
            self._table = self._table.to(device)
        return self._table[ids.to(device, torch.int64, non_blocking=True)]
