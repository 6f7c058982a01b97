"""Estimate of the time and memory of a condensation, from its first iterations."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from datawinnow.condense.loop import DivergedError, peak_memory
from datawinnow.core.synthetic import Synthetic

LONG_ITERATION = 10.0
"""Seconds after which a single iteration is enough for the estimate."""


class _EnoughTimedError(Exception):
    pass


@dataclass(frozen=True)
class CondenseCost:
    """Estimated cost of a condensation.

    Attributes:
        seconds: of all iterations.
        seconds_per_iteration: of one iteration.
        judging_seconds: of all epochs of the judging networks.
        memory: bytes at the peak of this process.
    """

    seconds: float
    seconds_per_iteration: float
    judging_seconds: float
    memory: int


def estimate_condensation(
    method: Callable[..., Synthetic],
    images: Any,
    labels: Any,
    *,
    seed: int,
    iterations: int,
    options: Mapping[str, Any],
    max_timed: int = 3,
    judge: Callable[[Synthetic, int], object] | None = None,
    judge_epochs: int = 0,
) -> CondenseCost:
    """Estimate a condensation by running up to ``max_timed`` iterations, whose images are discarded.

    Args:
        method: a condenser.
        images: as for the condenser.
        labels: as for the condenser.
        seed: seed of the trial.
        iterations: iterations of the full run.
        options: options of the condenser.
        max_timed: iterations to time. The fastest counts; one that takes more than 10 seconds ends the trial.
        judge: called as ``judge(synthetic, epochs)``, trains one network on the trial's images.
        judge_epochs: epochs of all judging networks together; 0 for no judging.
    """
    times: list[float] = []
    latest: list[Synthetic] = []

    def on_iteration(done: int, _loss: float | None, synthetic: Callable[[], Synthetic]) -> None:
        times.append(time.perf_counter())
        # Kept by the callback, since the exception below prevents the method from returning anything.
        latest[:] = [synthetic()]
        if done >= min(max_timed, iterations) or (done and times[-1] - times[0] > LONG_ITERATION):
            raise _EnoughTimedError

    run_options = {k: v for k, v in options.items() if k not in ("checkpoint", "progress", "every", "on_iteration")}
    generator = torch.Generator().manual_seed(seed)
    try:  # with the iterations of the full run, so that its learning rates are used, but ended early
        method(images, labels, generator=generator, iterations=iterations, on_iteration=on_iteration, **run_options)
    except DivergedError:  # raised again by the run itself, which saves the last finite images
        times.append(time.perf_counter())
    except _EnoughTimedError:
        pass
    # The minimum: the first iteration allocates and chooses kernels, and other processes only ever add time.
    per_iteration = min(b - a for a, b in itertools.pairwise(times))
    judging = 0.0
    if judge is not None and judge_epochs:
        taken = []
        for epochs in (1, 1, 11):  # the first call warms up
            began = time.perf_counter()
            judge(latest[0], epochs)
            taken.append(time.perf_counter() - began)
        # The difference of 11 epochs and 1 leaves out what a judging costs once, as building and testing do.
        judging = max(0.0, taken[2] - taken[1]) / 10 * judge_epochs
    return CondenseCost(per_iteration * iterations, per_iteration, judging, peak_memory())
