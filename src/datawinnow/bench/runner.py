"""Runs the missing cells of a grid, several at a time, and stops cleanly: on Ctrl-C, and at a time limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from datawinnow.bench.cell import GridData
from datawinnow.bench.grid import Cell, Grid
from datawinnow.bench.grid_file import check_grid
from datawinnow.bench.planning import next_cells
from datawinnow.bench.precision import with_fixed_precision
from datawinnow.bench.results import Results
from datawinnow.bench.workers import DATASET, TEST_SPLIT, InProcess, Workers, check_fingerprint
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import require_folder
from datawinnow.core.lock import only_writer
from datawinnow.core.progress import Progress
from datawinnow.core.result_rows import PILOTS_FILE
from datawinnow.core.verdict import ResultRow


def run_grid(
    grid: Grid,
    out: Path,
    *,
    data: GridData | None = None,
    fingerprints: tuple[str, str] | None = None,
    jobs: int = 0,
    threads: int = 0,
    time_limit: float | None = None,
    progress: Progress | None = None,
    on_row: Callable[[ResultRow], None] | None = None,
    log: Callable[[str], None] | None = None,
    on_step: Callable[[Cell, str, int, int], None] | None = None,
) -> list[ResultRow]:
    """Run every cell that has no row yet.

    The rows are written after each cell, so a run may be killed at any moment and started again. The recording of a
    seed and scenario is made by one cell while the others that need it wait. A cell whose training diverges gets a row
    too, with ``accuracy`` null and the error in ``failed``, and so does every cell that needs a recording that
    diverged; none of them is run again while its row is there.

    Args:
        grid: what to run.
        out: folder of the results; one process at a time may write to it.
        data: datasets and functions of this process, in which the cells then run one at a time. None to load what the
            grid names in worker processes.
        fingerprints: without ``data``, of the train and test split that the grid names, where the caller has loaded
            them: compared with those of the rows, so that rows of another dataset are refused also where all are there.
        jobs: worker processes; 0 for one a core on a CPU and one on a GPU.
        threads: of torch in each worker; 0 for its share of the cores. Sums are rounded differently with another
            number, so rows are the same only for the same number.
        time_limit: in seconds. A cell that by experience would take longer is not started, and a cell in a worker that
            is not done by then is ended, to be run again (a recording resumes from its last epoch).
        progress: called as ``progress("cells", done, total)`` after each cell.
        on_row: called with each new row, failed ones too.
        log: called with the arithmetic, where it is measured.
        on_step: with ``data``: called with the cell, a stage, the steps done and their total after each training step.

    Returns:
        All rows, old and new, in the order of the grid.

    Raises:
        ArgumentError: the grid cannot run.
        RunError: the folder is busy, or holds rows of a newer version, of another dataset or test split, or made under
            other settings; a cell that failed otherwise than by diverging, named.
    """
    # monotonic: the time of day may be set while a grid runs
    start = time.monotonic()
    check.number("jobs", jobs, 0, 4096, integer=True)
    check.number("threads", threads, 0, 4096, integer=True)
    if time_limit is not None:
        check.number("time_limit", time_limit, 0, float("inf"))
    check_grid(grid)
    selections = set() if data is None else set(data.selections)
    for name in grid.methods:
        if grid.spec_of(name).selection is not None and name not in selections:
            raise ArgumentError(f"method {name!r} has a selection that is not in data.selections")
    require_folder(out)
    if (out / PILOTS_FILE).exists():
        raise RunError(f"{out} holds a plan, whose page would hide these results; give another `out=` folder")
    cores = os.cpu_count() or 1
    jobs = jobs or (1 if torch.cuda.is_available() else cores)
    # by the jobs asked for, not by the cells left: the last cell of a resumed run must give what it would have given
    threads = threads or max(1, cores // jobs)

    def time_left() -> float | None:
        return None if time_limit is None else time_limit - (time.monotonic() - start)

    with only_writer(out):
        grid, note = with_fixed_precision(grid, out, data, threads if data is None else torch.get_num_threads())
        if note and log is not None:
            log(f"arithmetic: {note}, for all trainings")
        results = Results(grid, out, None if data is None else data.model_name)
        if data is not None:
            fingerprints = (data.info.fingerprint, data.test_fingerprint)
        if fingerprints is not None:  # before the rows are returned: none may be missing
            name = grid.data.source if data is None else data.info.name
            check_fingerprint(fingerprints[0], results.fingerprint, out, split=DATASET, name=name)
            check_fingerprint(fingerprints[1], results.test_fingerprint, out, split=TEST_SPLIT)
        waiting = results.missing()
        if progress is not None:
            progress("cells", len(results.cells) - len(waiting), len(results.cells))
        if not waiting or _is_over(time_left()):
            return results.rows
        workers: InProcess | Workers
        if data is not None:
            workers = InProcess(grid, out, data, results.fingerprint, results.test_fingerprint, on_step)
        else:
            workers = Workers(
                min(jobs, len(waiting)), threads, grid, out, results.fingerprint, results.test_fingerprint
            )
        results.set_fingerprints(workers.fingerprint, workers.test_fingerprint)
        try:
            _run_cells(waiting, workers, results, grid, time_left, progress, on_row)
        finally:
            workers.stop()
        return results.rows


def _is_over(time_left: float | None) -> bool:
    return time_left is not None and time_left <= 0


def _run_cells(
    waiting: list[Cell],
    workers: InProcess | Workers,
    results: Results,
    grid: Grid,
    time_left: Callable[[], float | None],
    progress: Progress | None,
    on_row: Callable[[ResultRow], None] | None,
) -> None:
    """Keep the workers busy until no cell is waiting, or none that fits into the time left."""
    total = len(results.cells)
    while waiting or workers.running:
        seconds = time_left()
        if _is_over(seconds):
            return
        for cell in next_cells(waiting, workers.running, grid, results.out, workers.free, results.rows, seconds):
            waiting.remove(cell)
            workers.start(cell)
        if not workers.running:
            return  # nothing more fits the time limit
        # returns for a row, for the fingerprint of the dataset, or at the time limit
        rows = workers.finished(seconds)
        results.set_fingerprints(workers.fingerprint, workers.test_fingerprint)
        for _, row in rows:
            results.add(row)
            if on_row is not None:
                on_row(row)
            if progress is not None:
                progress("cells", total - len(waiting) - len(workers.running), total)
