"""Networks that misbehave, named in grids as ``tests.bench.helpers_models:...``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from torch import nn

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


def wrong(*, classes: int, features: int) -> nn.Module:
    """A mistake of the user's."""
    raise ZeroDivisionError("no such thing")
