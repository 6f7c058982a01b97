"""Submodular selection: facility location and CRAIG against submodlib, and what the others take.

Needs submodlib-py (0.0.3), which is no dependency: pip install submodlib-py. On a machine that
others use as well, OMP_NUM_THREADS=1: many products here are small, and two threads then mostly wait for each other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring import arguments, finish, in_child, interleaved, ratio, say
from torch import Tensor

from datawinnow import select
from datawinnow.core.rng import stream
from datawinnow.select.facility_location import FacilityLocation
from datawinnow.select.greedy import maximise
from datawinnow.select.similarity import Sparse, feature_similarity

WIDTH, CLASSES, NEIGHBOURS = 64, 10, 32
SIZES = {"smoke": (600, 600, 2), "default": (3_000, 5_000, 3), "full": (20_000, 50_000, 1)}
"""Examples of facility location; of CRAIG; rounds of the comparisons. A tenth is chosen."""


def probed(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 64) features in 200 clusters, (n, 10) probabilities of a linear layer on them, (n,) labels."""
    g = stream(0, "benchmark", "submodular", n)
    of = torch.randint(200, (n,), generator=g)
    features = torch.randn(200, WIDTH, generator=g)[of] + torch.randn(n, WIDTH, generator=g)
    probs = (features @ torch.randn(WIDTH, CLASSES, generator=g) / 4).softmax(1)
    return features, probs, of % CLASSES


def once(make: Callable[[], object]) -> dict[str, float]:
    start, used = time.perf_counter(), time.process_time()
    make()
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - used}


def measure_case(name: str, n: int, options: dict[str, Any]) -> dict[str, float]:
    """A selector from features to ids; a tenth is chosen."""
    features, probs, labels = probed(n)

    def choose(m: int) -> object:
        first, gradient = features[:m], (features[:m], probs[:m], labels[:m])
        if name == "craig":
            return select.craig(*gradient, budget=m // 10, **options)
        if name == "per_class(craig)":
            return select.per_class(select.craig)(*gradient, labels=labels[:m], budget=m // 10, **options)
        return select.METHODS[name](first, budget=m // 10, **options)

    choose(100)
    return once(lambda: choose(n))


def only_inputs(n: int) -> int:
    """The inputs alone, for their share of the memory."""
    return sum(a.nbytes for a in probed(n))


def lazy(graph: Sparse) -> list[int]:
    picks: list[int] = maximise(
        FacilityLocation(graph), graph.n // 10, greedy="lazy", epsilon=0.1, sample_seed=0, tie_seed=0
    ).tolist()
    return picks


def theirs_on(graph: Sparse) -> list[int]:
    """The sparse mode of submodlib on the same graph, from a SciPy matrix to ids."""
    import submodlib  # here, not above: its 200 MB are no part of our peak
    from scipy import sparse

    values = graph.values.astype(np.float64)
    matrix = sparse.csr_matrix((values, graph.ends, graph.starts), shape=(graph.n, graph.n))
    function = submodlib.FacilityLocationFunction(n=graph.n, mode="sparse", sijs=matrix, num_neighbors=NEIGHBOURS)
    picks = function.maximize(
        budget=graph.n // 10,
        optimizer="LazyGreedy",
        stopIfZeroGain=False,
        stopIfNegativeGain=False,
        show_progress=False,
    )
    return [i for i, _ in picks]


def value(graph: Sparse, chosen: list[int]) -> float:
    state = FacilityLocation(graph)
    for j in chosen:
        state.add(j)
    return float(state.best.sum(dtype=np.float64))


def on_one_graph(n: int, rounds: int) -> dict[str, Any]:
    """Both greedies in turns on the same graph of neighbours."""
    graph = Sparse(feature_similarity(probed(n)[0], "cosine", None), NEIGHBOURS, tie_seed=0)
    picks: dict[str, list[int]] = {}
    wall, cpu = interleaved(
        {
            "submodlib": lambda: picks.__setitem__("submodlib", theirs_on(graph)),
            "ours": lambda: picks.__setitem__("ours", lazy(graph)),
        },
        rounds,
        warm=0,
    )
    return {
        "edges": len(graph.ends),
        "seconds": {name: statistics.median(each) for name, each in wall.items()},
        "ratio": ratio(wall["submodlib"], wall["ours"]),
        "cpu_ratio": ratio(cpu["submodlib"], cpu["ours"]),
        "value": {name: value(graph, each) for name, each in picks.items()},
        "same_picks": len(set(picks["ours"]) & set(picks["submodlib"])) / (n // 10),
    }


def explicit_craig(n: int) -> list[int]:
    """As others do it: gradients written out, all distances, submodlib; class by class."""
    import submodlib

    features, probs, labels = probed(n)
    chosen: list[int] = []
    for c in range(CLASSES):
        members = torch.nonzero(labels == c).flatten()
        error = probs[members] - torch.eye(CLASSES)[c]
        h = torch.cat([features[members], torch.ones(len(members), 1)], 1)
        gradient = (error[:, :, None] * h[:, None]).flatten(1)
        distance = torch.cdist(gradient, gradient)
        near = (distance.max() - distance).numpy().astype(np.float64)
        function = submodlib.FacilityLocationFunction(n=len(members), mode="dense", sijs=near, separate_rep=False)
        picks = function.maximize(
            budget=len(members) // 10,
            optimizer="LazyGreedy",
            stopIfZeroGain=False,
            stopIfNegativeGain=False,
            show_progress=False,
        )
        chosen += members[[i for i, _ in picks]].tolist()
    return chosen


def timed_explicit(n: int) -> dict[str, float]:
    return once(lambda: explicit_craig(n))


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    n, large, rounds = SIZES[chosen]
    base = {rows: in_child(only_inputs, rows)[1] for rows in {n, large}}

    def row(name: str, rows: int, **options: Any) -> dict[str, Any]:
        figures, peak = in_child(measure_case, name, rows, options)
        shown = "".join(f", {key}={option}" for key, option in options.items())
        say(
            f"{name}{shown}: {rows:,} choose {rows // 10:,}: {figures['seconds']:.2f} s "
            f"({figures['cpu_seconds']:.2f} of CPU), "
            f"peak {peak:,.0f} MB, of which torch and the inputs {base[rows]:,.0f}"
        )
        return {"method": name, "rows": rows, "options": options, **figures, "peak_mb": peak, "inputs_mb": base[rows]}

    rows = [
        row("facility_location", n, form="sparse"),
        row("facility_location", n, form="sparse", greedy="stochastic"),
        row("graph_cut", n, form="sparse"),
        row("log_det", n),
        row("log_det", n, greedy="stochastic"),
        row("per_class(craig)", large),
        row("craig", large, form="sparse"),
    ]
    against, peak = in_child(on_one_graph, n, rounds)
    times, faster = against["seconds"], against["ratio"]
    say(
        f"greedy alone on one graph of {n:,} and {against['edges']:,} edges: submodlib {times['submodlib']:.2f} s "
        f"(peak {peak:,.0f} MB), ours {times['ours']:.3f} s; ratio {faster['median']:.0f} "
        f"[{faster['low']:.0f}, {faster['high']:.0f}] (goal 50), of CPU seconds {against['cpu_ratio']['median']:.0f}; "
        f"value {against['value']['ours'] / against['value']['submodlib']:.6f} of theirs, "
        f"{against['same_picks']:.1%} of the picks the same"
    )
    written, explicit_peak = in_child(timed_explicit, large)
    craig_row = next(each for each in rows if each["method"] == "per_class(craig)")
    say(
        f"CRAIG with gradients written out and submodlib, per class: {written['seconds']:.1f} s, peak "
        f"{explicit_peak:,.0f} MB; ratio {written['seconds'] / craig_row['seconds']:.1f} of seconds, "
        f"{explicit_peak / craig_row['peak_mb']:.1f} of memory"
    )
    result = {
        "width": WIDTH,
        "neighbours": NEIGHBOURS,
        "goal": {"ratio_to_submodlib_sparse": 50, "rows": 20_000},
        "selectors": rows,
        "against_submodlib": {**against, "peak_mb": peak},
        "craig_explicit": {**written, "peak_mb": explicit_peak},
    }
    finish("select_submodular", chosen, result)


if __name__ == "__main__":
    main()
