"""Runs the missing cells of a grid, several at a time, and stops cleanly: on Ctrl-C, and at a time limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from datawinnow.bench.grid import Cell, Grid
from datawinnow.bench.lock import only_writer
from datawinnow.bench.planning import ready
from datawinnow.bench.reading import check_grid
from datawinnow.bench.results import Results
from datawinnow.bench.workers import Workers
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError

Told = Callable[[str, int, int], None]


def run_grid(
    grid: Grid,
    out: Path,
    *,
    jobs: int = 0,
    threads: int = 0,
    time_limit: float | None = None,
    progress: Told | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Run every cell that has no row yet.

    Rows are written after each cell, whole and renamed, so a run may be killed at any moment and started again. The
    recording of a seed and scenario is made by one cell while the others that need it wait. A cell whose training
    diverges gets a row too, with ``accuracy`` null and the error's words in ``failed``, and so does every cell that
    needs a recording that diverged; none of them is run again while its row is there.

    Args:
        grid: what to run.
        out: folder of the results; one process at a time may write to it.
        jobs: cells at a time; 0 for one a core on a CPU and one on a GPU.
        threads: of torch in each; 0 for a job's share of the cores. Sums are rounded differently with another number,
            so rows are the same only for the same number.
        time_limit: seconds after which nothing is running any more: a cell that by experience would not be done by
            then is not begun, and one that is not is ended, to be run again (a recording goes on where it was).
        progress: told ``(what, done, total)`` after each cell.
        on_row: told each new row, failed ones too.

    Returns:
        All rows that there are, old and new, in the order of the grid.

    Raises:
        ArgumentError: the grid cannot run.
        RunError: the folder is busy, or holds rows of a newer version, of another dataset or made under other settings;
            a cell that failed otherwise than by diverging, named.
    """
    start = time.monotonic()
    check.number("jobs", jobs, 0, 4096, integer=True)
    check.number("threads", threads, 0, 4096, integer=True)
    if time_limit is not None:
        check.number("time_limit", time_limit, 0, float("inf"))
    check_grid(grid)
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{out} is a file, not a folder; give another --out")
    cores = os.cpu_count() or 1
    jobs = jobs or (1 if torch.cuda.is_available() else cores)
    # not of the jobs that are left: the last cell of a resumed run must give what it would have given
    threads = threads or max(1, cores // jobs)

    def left() -> float | None:
        return None if time_limit is None else time_limit - (time.monotonic() - start)

    with only_writer(out):
        results = Results(grid, out)
        waiting = results.missing()
        if progress is not None:
            progress("cells", len(results.cells) - len(waiting), len(results.cells))
        if not waiting or _over(left()):
            return results.rows
        workers = Workers(min(jobs, len(waiting)), threads, grid, out, results.fingerprint)
        try:
            _run(waiting, workers, results, grid, left, progress, on_row)
        finally:
            workers.stop()
        return results.rows


def _over(left: float | None) -> bool:
    return left is not None and left <= 0


def _run(
    waiting: list[Cell],
    workers: Workers,
    results: Results,
    grid: Grid,
    left: Callable[[], float | None],
    progress: Told | None,
    on_row: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Keep the workers busy until no cell is waiting, or none that fits into the time that is left."""
    total = len(results.cells)
    while waiting or workers.running:
        seconds = left()
        if _over(seconds):
            return
        for cell in ready(waiting, workers.running, grid, results.out, workers.free, results.rows, seconds):
            waiting.remove(cell)
            workers.begin(cell)
        if not workers.running:
            return  # nothing more fits the time limit
        rows = workers.finished(seconds)
        results.note(workers.fingerprint)
        for _, row in rows:
            results.add(row)
            if on_row is not None:
                on_row(row)
            if progress is not None:
                progress("cells", total - len(waiting) - len(workers.running), total)
