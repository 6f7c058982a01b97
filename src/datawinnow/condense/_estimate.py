"""What a condensation will take, from its first iterations on this machine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import torch

from datawinnow.condense._loop import DivergedError, memory
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
    judging: Callable[[Synthetic, int], object] | None = None,
    epochs: int = 0,
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
        judging: called as ``judging(synthetic, epochs)``, trains one network on the trial's images for so many epochs.
        epochs: that all judging networks take together; 0 to judge nothing.
        how: its options.

    Returns:
        ``seconds`` of all iterations, ``iteration`` seconds of one, ``judging`` seconds of all ``epochs``, ``memory``
        bytes at the peak of this process.
    """
    stamps: list[float] = []
    made: list[Synthetic] = []

    def on_iteration(done: int, _loss: float | None, synthetic: Callable[[], Synthetic]) -> None:
        stamps.append(time.perf_counter())
        made[:] = [synthetic()]
        if done >= min(tries, iterations) or (done and stamps[-1] - stamps[0] > LONG):
            raise _EnoughError

    quiet = {k: v for k, v in how.items() if k not in ("checkpoint", "progress", "every", "on_iteration")}
    generator = torch.Generator().manual_seed(seed)
    try:  # the trial has the schedule of the whole run, and ends early
        method(images, labels, generator=generator, iterations=iterations, on_iteration=on_iteration, **quiet)
    except DivergedError:  # for the run itself to tell, which keeps the last good images
        stamps.append(time.perf_counter())
    except _EnoughError:
        pass
    each = min(b - a for a, b in itertools.pairwise(stamps))
    judged = 0.0
    if judging is not None and epochs:
        taken = [_seconds(judging, made[0], count) for count in (1, 1, 11)]  # the first also warms up
        judged = max(0.0, taken[2] - taken[1]) / 10 * epochs
    return {"seconds": each * iterations, "iteration": each, "judging": judged, "memory": float(memory())}


def _seconds(judging: Callable[[Synthetic, int], object], made: Synthetic, epochs: int) -> float:
    begun = time.perf_counter()
    judging(made, epochs)
    return time.perf_counter() - begun
