"""What the benchmarks share: interleaved repeats, ratios of pairs, peak memory of a child process, one JSON line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from datawinnow.core import provenance

Action = Callable[[], object]
Seconds = dict[str, list[float]]


def arguments(about: str, argv: Sequence[str] | None = None) -> str:
    """``"smoke"``, ``"default"`` or ``"full"`` from the command line."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--smoke", dest="size", action="store_const", const="smoke", help="seconds: does it run at all")
    size.add_argument("--full", dest="size", action="store_const", const="full", help="the sizes that the goals name")
    parser.set_defaults(size="default")
    return str(parser.parse_args(argv).size)


def interleaved(actions: Mapping[str, Action], repeats: int, *, warm: int = 1) -> tuple[Seconds, Seconds]:
    """Seconds of each action, ``repeats`` times in turns: on the wall, and of this process's CPU.

    Whatever else the machine does then meets all of them alike. Every other round runs backwards (A B, B A, ...), so
    that none is always the one that follows a given other.

    Args:
        actions: name -> what to time.
        repeats: timed rounds.
        warm: rounds before those, not timed.

    Returns:
        name -> seconds of each round, twice. CPU seconds count all threads, but no other process; where others compete
        for the cores they are the fairer ones, since what is long loses more of its wall time than what is short.
    """
    wall: Seconds = {name: [] for name in actions}
    cpu: Seconds = {name: [] for name in actions}
    for turn in range(-warm, repeats):
        for name in list(actions) if turn % 2 == 0 else reversed(list(actions)):
            start, used = time.perf_counter(), time.process_time()
            actions[name]()
            if turn >= 0:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - used)
    return wall, cpu


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Median over rounds of ``above / below`` within the round, and an interval for that median.

    ``low`` and ``high`` are order statistics that hold the true median 95 times in 100 whatever the distribution
    (normal approximation of the binomial); with fewer than 6 rounds they are the extremes, and hold it less often.
    """
    pairs = sorted(a / b for a, b in zip(above, below, strict=True))
    reach = 0.98 * len(pairs) ** 0.5  # 1.96 standard deviations of a Binomial(k, 1/2)
    first = max(0, int(len(pairs) / 2 - reach))
    return {"median": statistics.median(pairs), "low": pairs[first], "high": pairs[len(pairs) - 1 - first]}


def in_child(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """``function(*args)`` in a fresh process: its answer, and the peak memory of that process in MB.

    The peak counts all that was resident: the interpreter and torch (about 250 MB), inputs, and pages of mapped files.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(with_peak, function, args).result()


def with_peak(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, float]:
    """What ``function(*args)`` returns, and the peak memory of this process in MB."""
    answer = function(*args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return answer, peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)  # bytes on macOS, KiB on Linux


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def finish(name: str, size: str, result: Mapping[str, Any]) -> None:
    """Print the JSON line: what was measured, and on what."""
    flag = "" if size == "default" else f" --{size}"
    metadata = {
        "benchmark": name,
        "size": size,
        "command": f"python benchmarks/{name}.py{flag}",
        **result,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),  # 1-minute mean at the end; more than `threads` means contended
        "machine": platform.machine(),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "finished": provenance.now(),
    }
    say(json.dumps(rounded(metadata)))


def rounded(value: Any) -> Any:
    """``value`` with its floats at 5 significant digits: no timing deserves more."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value
