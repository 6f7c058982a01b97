"""Estimate of the time and memory of a condensation, from its first iterations."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from datawinnow.condense.evaluation import evaluate
from datawinnow.condense.loop import DivergedError, peak_memory
from datawinnow.condense.run_folder import CondenseRun, Judging
from datawinnow.core.card import card_of
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
        judging_seconds: of the judging networks: all their epochs, and building and testing each.
        memory: bytes at the peak of this process.
    """

    seconds: float
    seconds_per_iteration: float
    judging_seconds: float
    memory: int


def estimate_condensation(
    run: CondenseRun, train: Any, test: Any, judging: Judging, *, max_timed: int = 3
) -> CondenseCost:
    """Estimate a condensation by running up to ``max_timed`` iterations, whose images are discarded.

    Args:
        run: the condenser with its options.
        train: `Examples` of images in memory.
        test: held-out `Examples`; None to judge nothing.
        judging: how the result is judged.
        max_timed: iterations to time. The fastest counts; one that takes more than 10 seconds ends the trial.
    """
    times: list[float] = []
    latest: list[Synthetic] = []

    def on_iteration(done: int, _loss: float | None, synthetic: Callable[[], Synthetic]) -> None:
        times.append(time.perf_counter())
        # Kept by the callback, since the exception below prevents the method from returning anything.
        latest[:] = [synthetic()]
        if done >= min(max_timed, run.iterations) or (done and times[-1] - times[0] > LONG_ITERATION):
            raise _EnoughTimedError

    # without the checkpoints that `every` asks for
    trial = replace(run, options={name: value for name, value in run.options.items() if name != "every"})
    try:  # with the iterations of the full run, so that its learning rates are used, but ended early
        trial.condense(train, torch.Generator().manual_seed(run.seed), on_iteration=on_iteration)
    except DivergedError:  # raised again by the run itself, which saves the last finite images
        times.append(time.perf_counter())
    except _EnoughTimedError:
        pass
    # The minimum: the first iteration allocates and chooses kernels, and other processes only ever add time.
    per_iteration = min(b - a for a, b in itertools.pairwise(times))
    judging_seconds = 0.0
    if test is not None and judging.num_networks:
        taken = []
        # the first call warms up
        for epochs, n in ((1, 1), (1, 1), (11, 1), (1, len(test))):
            began = time.perf_counter()
            evaluate(
                latest[0],
                test.x[:n],
                test.labels[:n],
                build=run.build,
                generator=torch.Generator(),
                networks=1,
                epochs=epochs,
                augment=run.augment,
                device=run.device,
            )
            taken.append(time.perf_counter() - began)
        # the last call has what a network costs once: it is built, and tested on all held-out images
        per_epoch = max(0.0, taken[2] - taken[1]) / 10
        epochs = judging.epochs_for(card_of(run.method).key, run.augment)
        judging_seconds = (taken[3] + per_epoch * (epochs - 1)) * judging.num_networks
    return CondenseCost(per_iteration * run.iterations, per_iteration, judging_seconds, peak_memory())
