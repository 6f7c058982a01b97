"""What a condensation will take, from its first iterations on this machine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from datawinnow.condense._loop import memory
from datawinnow.core.synthetic import Synthetic

LONG = 10.0
"""Seconds after which one iteration is enough to judge by."""


class _EnoughError(Exception):
    pass


def estimate(
    method: Callable[..., Synthetic],
    images: Any,
    labels: Any,
    *,
    seed: int,
    iterations: int,
    tries: int = 3,
    **how: Any,
) -> dict[str, float]:
    """Seconds and memory of ``method`` with ``how``, from up to ``tries`` iterations; what they made is thrown away.

    Args:
        method: a condenser.
        images: as the condenser takes them.
        labels: likewise.
        seed: of the trial.
        iterations: of the whole run.
        tries: iterations to time; the fastest counts, and where one takes more than 10 seconds it is the only one.
        how: its options.

    Returns:
        ``seconds`` of all iterations, ``iteration`` seconds of one, ``memory`` bytes at the peak of this process.
    """
    stamps: list[float] = []

    def on_iteration(done: int, _loss: float | None, _synthetic: Callable[[], Synthetic]) -> None:
        stamps.append(time.perf_counter())
        if done >= min(tries, iterations) or (done and stamps[-1] - stamps[0] > LONG):
            raise _EnoughError

    quiet = {k: v for k, v in how.items() if k not in ("checkpoint", "progress", "every", "on_iteration")}
    generator = torch.Generator().manual_seed(seed)
    with suppress(_EnoughError):  # the trial has the schedule of the whole run, and ends early
        method(images, labels, generator=generator, iterations=iterations, on_iteration=on_iteration, **quiet)
    each = min(b - a for a, b in itertools.pairwise(stamps))
    return {"seconds": each * iterations, "iteration": each, "memory": float(memory())}
