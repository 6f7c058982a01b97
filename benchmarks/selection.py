"""Selectors on features: seconds and peak memory of each against a named alternative, each run in a process of its own.

One function a row (`ROWS`), returning what was compared. The file is not called select.py: Python puts the folder of a
script first on the path, and the standard library has a module of that name, which subprocess needs.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring import arguments, finish, in_child, ratio, say
from torch import Tensor

from datawinnow import select
from datawinnow.core.rng import stream

Numbers = dict[str, Any]
CLASSES = 10
SIZES: dict[str, dict[str, tuple[int, int, int, int]]] = {
    "smoke": {"k_center": (600, 32, 60, 1), "k_center_wide": (3_000, 16, 30, 1)}
    | {"herding": (600, 32, 60, 1), "d2": (600, 32, 180, 1)},
    "default": {"k_center": (10_000, 256, 1_000, 3), "k_center_wide": (100_000, 64, 300, 3)}
    | {"herding": (10_000, 256, 1_000, 3), "d2": (10_000, 256, 3_000, 3)},
    "full": {"k_center": (50_000, 512, 5_000, 2), "k_center_wide": (1_000_000, 64, 1_000, 2)}
    | {"herding": (50_000, 512, 5_000, 2), "d2": (50_000, 512, 15_000, 2)},
}
"""Of each row: examples, features, how many are kept, rounds."""


def features(n: int, d: int) -> Tensor:
    """(n, d) float32 like the activations behind a last layer: around a mean for each class, none below 0."""
    draws = stream(0, "benchmark", "selection")
    means = torch.randn(CLASSES, d, generator=draws)
    x = torch.randn(n, d, generator=draws)
    for first in range(0, n, 65_536):  # no second array of this size: it would be in the peak memory of all
        block = x[first : first + 65_536]
        block += means[torch.arange(first, first + block.shape[0]) % CLASSES]
        block.clamp_min_(0)
    return x


def difficulty(n: int) -> Tensor:
    """(n,) like counts of forgetting: many at 0."""
    return torch.rand(n, generator=stream(0, "benchmark", "difficulty")).mul_(20).sub_(5).clamp_min_(0).floor_()


# ---- what is compared; each gives the ids that it chose


def k_center(x: Tensor, budget: int) -> Tensor:
    return select.k_center(x, budget=budget, first=0, generator=stream(0, "unused")).index


def k_center_kept_distances(x: Tensor, budget: int) -> Tensor:
    """The literal form: a row of distances for each centre, and the minimum over all rows at each pick."""
    norms = x.square().sum(1)
    rows = torch.empty(budget, x.shape[0])
    chosen = [0]
    for i in range(budget - 1):
        centre = x[chosen[-1]]
        rows[i] = (norms + norms[chosen[-1]] - 2 * (x @ centre)).clamp_min(0).sqrt()
        near = rows[: i + 1].amin(0)
        near[chosen] = -1
        chosen.append(int(near.argmax()))
    return torch.tensor(chosen)


def read_once_a_pick(x: Tensor, budget: int) -> Tensor:
    """One product of the matrix with a vector a pick: what one pick at a time costs at the least. Chooses nothing."""
    for i in range(budget):
        x @ x[i]
    return torch.arange(budget)


def herding(x: Tensor, budget: int) -> Tensor:
    return select.herding(x, budget=budget).index


def herding_by_differences(x: Tensor, budget: int) -> Tensor:
    """The literal form: every candidate's distance from where the next mean should be, by differences."""
    mean = x.mean(0)
    total, left = torch.zeros_like(mean), torch.ones(x.shape[0], dtype=torch.bool)
    chosen: list[int] = []
    for i in range(budget):
        gap = ((i + 1) * mean - total - x).norm(dim=1)
        gap[~left] = torch.inf
        chosen.append(int(gap.argmin()))
        total += x[chosen[-1]]
        left[chosen[-1]] = False
    return torch.tensor(chosen)


def d2(x: Tensor, budget: int) -> Tensor:
    return select.d2(difficulty(x.shape[0]), x, budget=budget).index


def d2_scikit_learn(x: Tensor, budget: int) -> Tensor:
    """scikit-learn's exact graph, then an argmax over all examples each pick."""
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(x.numpy(), 5, mode="distance")
    graph = graph.maximum(graph.T).tocsr()
    score = difficulty(x.shape[0]).numpy().astype(np.float64)
    forward = graph.copy()
    forward.data = np.exp(-forward.data)
    value = score + forward @ np.maximum(score, 1e-7)
    chosen: list[int] = []
    for _ in range(budget):
        pick = int(value.argmax())
        edges = slice(graph.indptr[pick], graph.indptr[pick + 1])
        value[graph.indices[edges]] -= np.exp(-0.1 * graph.data[edges]) * value[pick]
        value[pick] = -np.inf
        chosen.append(pick)
    return torch.tensor(chosen)


ACTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    f.__name__: f
    for f in (
        k_center,
        k_center_kept_distances,
        read_once_a_pick,
        herding,
        herding_by_differences,
        d2,
        d2_scikit_learn,
    )
}


# ---- how


def once(name: str, n: int, d: int, budget: int) -> tuple[float, float, list[int], float]:
    """Seconds on the wall and of CPU, the ids, and the peak memory in MB before; in a process of its own."""
    x = features(n, d)
    ACTIONS[name](x[:64], 8)  # starts threads, imports what is imported late
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, used = time.perf_counter(), time.process_time()
    chosen = ACTIONS[name](x, budget)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    return seconds, used, chosen.tolist(), before / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def compared(names: list[str], n: int, d: int, budget: int, rounds: int) -> Numbers:
    """Each action in turns, every other round backwards; the first is ours."""
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    peak: dict[str, float] = {}
    before: dict[str, float] = {}
    ids: dict[str, list[int]] = {}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            (seconds, used, ids[name], before[name]), mb = in_child(once, name, n, d, budget)
            wall[name].append(seconds)
            cpu[name].append(used)
            peak[name] = max(mb, peak.get(name, 0.0))
    ours, *alternatives = names
    return {
        "n": n,
        "d": d,
        "kept": budget,
        "rounds": rounds,
        "seconds": {name: statistics.median(each) for name, each in wall.items()},
        "cpu_seconds": {name: statistics.median(each) for name, each in cpu.items()},
        "peak_mb": peak,
        "inputs_mb": before[ours],
        "ratio": {name: ratio(wall[name], wall[ours]) for name in alternatives},
        "cpu_ratio": {name: ratio(cpu[name], cpu[ours]) for name in alternatives},
        # float32 breaks near ties in one way or another; both are the method's choice
        "same_ids": {
            name: len({*ids[ours]} & {*ids[name]}) / budget for name in alternatives if name != "read_once_a_pick"
        },
    }


def row_k_center(sizes: tuple[int, int, int, int]) -> Numbers:
    return compared(["k_center", "k_center_kept_distances", "read_once_a_pick"], *sizes)


def row_k_center_wide(sizes: tuple[int, int, int, int]) -> Numbers:
    return compared(["k_center", "read_once_a_pick"], *sizes)


def row_herding(sizes: tuple[int, int, int, int]) -> Numbers:
    return compared(["herding", "herding_by_differences", "read_once_a_pick"], *sizes)


def row_d2(sizes: tuple[int, int, int, int]) -> Numbers:
    return compared(["d2", "d2_scikit_learn"], *sizes)


ROWS: dict[str, Callable[[tuple[int, int, int, int]], Numbers]] = {
    "k_center": row_k_center,
    "k_center_wide": row_k_center_wide,
    "herding": row_herding,
    "d2": row_d2,
}
GOAL = {"k_center": {"k_center_kept_distances": 8, "read_once_a_pick": 0.5}, "k_center_wide": {"read_once_a_pick": 0.5}}
"""How many times as long the alternative is to take, at the full sizes; 0.5 is within twice of reading the matrix."""


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    result: dict[str, Numbers] = {}
    for name, measure in ROWS.items():
        row = result[name] = measure(SIZES[chosen][name])
        say(f"{name}: {row['kept']:,} of {row['n']:,} x {row['d']}; inputs and torch {row['inputs_mb']:,.0f} MB")
        for action, seconds in row["seconds"].items():
            line = f"  {action:28} {seconds:9.3f} s  {row['peak_mb'][action]:8,.0f} MB"
            if action in row["ratio"]:
                times = row["ratio"][action]
                line += f"  {times['median']:6.2f} times ours [{times['low']:.2f}, {times['high']:.2f}]"
                line += f", of CPU seconds {row['cpu_ratio'][action]['median']:.2f}"
                goal = GOAL.get(name, {}).get(action)
                line += f" (goal {goal})" if goal else ""
            say(line)
    finish("selection", chosen, {"goal": GOAL, "rows": result})


if __name__ == "__main__":
    main()
