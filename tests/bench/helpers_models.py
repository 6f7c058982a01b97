"""Networks that misbehave, named in grids as ``tests.bench.helpers_models:...``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from datawinnow.models import mlp


def sleeping(*, classes: int, features: int, folder: str) -> nn.Module:
    """Says who it is, and then takes an hour."""
    (Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(3600)
    return mlp(classes=classes, features=features)


def dying(*, classes: int, features: int, flag: str) -> nn.Module:
    """Killed, as by a system without memory, once the flag stands; the full run comes before it."""
    if Path(flag).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return mlp(classes=classes, features=features)


class Diverging(nn.Module):
    """Gives no number any more after so many training steps, which it counts in its state."""

    left: Tensor

    def __init__(self, network: nn.Module, after: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("left", torch.tensor(after))

    def forward(self, x: Tensor) -> Tensor:
        self.left -= int(self.training)
        return self.network(x) * torch.where(self.left < 0, float("nan"), 1.0)


def diverging(*, classes: int, features: int, after: int) -> nn.Module:
    """Training that diverges in its step ``after``, counted from 0."""
    return Diverging(mlp(classes=classes, features=features), after)


def wrong(*, classes: int, features: int) -> nn.Module:
    """A mistake of the user's."""
    raise ZeroDivisionError("no such thing")
