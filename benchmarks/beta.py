"""Beta sampling from mean and score: time and memory at 100M rows, and a ratio against numpy's `Generator.choice`."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from measuring import arguments, finish, in_child, interleaved, ratio, say
from torch import Tensor

from datawinnow import select
from datawinnow.core.rng import stream

KEEP = 0.3
SIZES = {"smoke": (20_000, 5_000, 1), "default": (10_000_000, 1_000_000, 5), "full": (100_000_000, 1_000_000, 7)}
"""Rows of the large draw, rows of the comparison, rounds of it."""


def inputs(n: int) -> tuple[Tensor, Tensor]:
    """Scores and means (n,) float32; the score peaks at middling means, as DUAL does."""
    draws = stream(0, "benchmark", "beta")
    mean = torch.rand(n, generator=draws)
    score = torch.rand(n, generator=draws).mul_(mean).mul_(1 - mean)
    return score, mean


def large(n: int) -> dict[str, Any]:
    """One draw of 0.3 n of n rows."""
    score, mean = inputs(n)
    start, used = time.perf_counter(), time.process_time()
    kept = select.beta(score, mean, budget=int(KEEP * n), generator=stream(0, "select"))
    seconds, cpu = time.perf_counter() - start, time.process_time() - used
    return {"rows": n, "kept": len(kept), "seconds": seconds, "cpu_seconds": cpu, "rows_per_second": n / seconds}


def only_inputs(n: int) -> int:
    """The inputs alone, for their share of the memory."""
    return sum(a.nbytes for a in inputs(n))


def choice(score: np.ndarray, mean: np.ndarray, budget: int, rng: np.random.Generator) -> np.ndarray:
    """What the authors' code does, with numpy's newer generator: weights, normalised, drawn without replacement."""
    n = len(score)
    hardest = np.argpartition(score, n - 10)[-10:]
    a, b = select.beta_parameters(float(mean[hardest].mean(dtype=np.float64)), n, budget)
    at = mean.astype(np.float64)
    weight = at ** (a - 1) * (1 - at) ** (b - 1) * score
    return rng.choice(n, budget, replace=False, p=weight / weight.sum())


def compared(n: int, rounds: int) -> dict[str, Any]:
    """Both at ``n`` rows, in turns."""
    score, mean = inputs(n)
    budget = int(KEEP * n)
    generator, rng = stream(0, "select"), np.random.default_rng(0)
    score_, mean_ = score.numpy(), mean.numpy()
    drawn: dict[str, float] = {}

    def ours() -> None:
        index = select.beta(score, mean, budget=budget, generator=generator).index
        drawn["beta"] = float(mean[index].mean(dtype=torch.float64))

    def theirs() -> None:
        drawn["choice"] = float(mean_[choice(score_, mean_, budget, rng)].mean(dtype=np.float64))

    wall, cpu = interleaved({"choice": theirs, "beta": ours}, rounds)
    seconds = {name: statistics.median(each) for name, each in wall.items()}
    return {
        "rows": n,
        "rounds": rounds,
        "seconds": seconds,
        "ratio": ratio(wall["choice"], wall["beta"]),
        "cpu_ratio": ratio(cpu["choice"], cpu["beta"]),
        "mean_of_drawn": drawn,  # the two draw from one distribution
    }


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    rows, small, rounds = SIZES[chosen]
    say(f"Beta sampling, {KEEP:.0%} of {rows:,} rows, from mean and score")
    speed, peak = in_child(large, rows)
    _, base = in_child(only_inputs, rows)
    say(
        f"{speed['seconds']:.1f} s ({speed['cpu_seconds']:.1f} s of CPU), "
        f"{speed['rows_per_second'] / 1e6:.1f}M rows/s (goal at 100M rows < 30 s)"
    )
    say(f"peak memory {peak:,.0f} MB, of which torch and the inputs {base:,.0f} (goal < 4,000)")
    against, _ = in_child(compared, small, rounds)
    times, faster = against["seconds"], against["ratio"]
    say(
        f"at {small:,} rows, in turns: numpy Generator.choice {times['choice']:.3f} s, ours {times['beta']:.3f} s; "
        f"ratio {faster['median']:.1f} [{faster['low']:.1f}, {faster['high']:.1f}], "
        f"of CPU seconds {against['cpu_ratio']['median']:.1f}"
    )
    goal = {"seconds": 30, "peak_mb": 4000, "rows": 100_000_000}
    result = {"keep": KEEP, "goal": goal, **speed, "peak_mb": peak, "inputs_mb": base, "against_choice": against}
    finish("beta", chosen, result)


if __name__ == "__main__":
    main()
