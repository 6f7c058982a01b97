"""Runs the missing cells of a grid, several at a time, and stops cleanly: on Ctrl-C, and before a time limit."""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from datawinnow.bench.cell import run_cell
from datawinnow.bench.grid import Cell, Grid, cells_of
from datawinnow.core.errors import RunError
from datawinnow.core.files import check_format, write_bytes

Told = Callable[[str, int, int], None]


def run_grid(
    grid: Grid,
    out: Path,
    *,
    jobs: int = 0,
    time_limit: float | None = None,
    progress: Told | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Run every cell that has no row yet.

    Rows are written after each cell, whole and renamed, so a run may be killed at any moment and started again. The
    recording of a seed and scenario is made by one cell while the others that need it wait.

    Args:
        grid: what to run.
        out: folder of the results.
        jobs: cells at a time, each with its share of the cores; 0 for one a core on a CPU and one on a GPU.
        time_limit: seconds after which nothing is running any more: a cell that by experience would not be done by
            then is not begun.
        progress: told ``(what, done, total)`` after each cell.
        on_row: told each new row.

    Returns:
        All rows that there are, old and new.

    Raises:
        RunError: rows of a newer version, or of another dataset.
    """
    start = time.monotonic()
    rows = read_rows(out / "rows.jsonl")
    done = {row_key(row) for row in rows}
    waiting = [cell for cell in cells_of(grid) if cell.key not in done]
    total, finished = len(cells_of(grid)), len(cells_of(grid)) - len(waiting)
    jobs = jobs or (1 if torch.cuda.is_available() else max(1, (os.cpu_count() or 1)))
    jobs = max(1, min(jobs, len(waiting)))
    if progress is not None:
        progress("cells", finished, total)
    if not waiting:
        return rows
    threads = max(1, (os.cpu_count() or 1) // jobs)
    running: dict[Future[dict[str, Any]], tuple[Cell, float]] = {}
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(threads,))
    try:
        while waiting or running:
            for cell in _ready(waiting, running, grid, out, jobs):
                if time_limit is not None and not _fits(cell, grid, rows, start, time_limit, running):
                    continue
                waiting.remove(cell)
                running[pool.submit(_work, grid.model_dump(), cell.model_dump(), str(out))] = (cell, time.monotonic())
            if not running:
                break  # nothing more fits the time limit
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                row = future.result()
                rows = [*rows, row]
                write_rows(out / "rows.jsonl", rows)
                finished += 1
                if on_row is not None:
                    on_row(row)
                if progress is not None:
                    progress("cells", finished, total)
    except BaseException:
        _stop(pool)
        raise
    pool.shutdown()
    return rows


def row_key(row: dict[str, Any]) -> tuple[str, float, int, str]:
    """What identifies a row, as `Cell.key`."""
    return (row["method"], row["keep"], row["seed"], row["scenario"])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a results file; none if there is no file.

    Raises:
        RunError: a line that is not a row, or of a newer version.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            check_format(row.get("format"), path)
            row_key(row)
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise RunError(
                f"{path}, line {number}: not a row of results ({error}); remove the line to run it again"
            ) from None
        rows.append(row)
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write all rows whole, one JSON object a line."""
    write_bytes(path, "".join(json.dumps(row, allow_nan=True) + "\n" for row in rows).encode())


def _ready(
    waiting: list[Cell], running: dict[Future[dict[str, Any]], tuple[Cell, float]], grid: Grid, out: Path, jobs: int
) -> list[Cell]:
    """The next cells to begin: never two that would make the same recording at the same time."""
    free = jobs - len(running)
    busy = {_recording_of(cell) for cell, _ in running.values() if _makes_recording(cell, out)}
    chosen: list[Cell] = []
    for cell in waiting:
        if len(chosen) == free:
            break
        makes = _makes_recording(cell, out)
        if makes and _recording_of(cell) in busy:
            continue
        if makes:
            busy.add(_recording_of(cell))
        chosen.append(cell)
    return chosen


def _recording_of(cell: Cell) -> str:
    return f"{cell.scenario.replace(' ', '-')}-seed{cell.seed}"


def _makes_recording(cell: Cell, out: Path) -> bool:
    if cell.kind == "shorter_full" or cell.method == "random":
        return False
    return not (out / "recordings" / _recording_of(cell) / "recording.json").exists()


def _fits(
    cell: Cell,
    grid: Grid,
    rows: list[dict[str, Any]],
    start: float,
    limit: float,
    running: dict[Future[dict[str, Any]], tuple[Cell, float]],
) -> bool:
    left = limit - (time.monotonic() - start)
    speeds = [r["cost"]["train"]["seconds"] / r["passes"] for r in rows if r["passes"]]
    if not speeds:
        return left > 0
    share = 1.0 if cell.kind == "full" else cell.keep
    return statistics.median(speeds) * share * grid.train.epochs * rows[0]["n"] * 1.3 < left


def _start_worker(threads: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(threads)


def _work(grid: dict[str, Any], cell: dict[str, Any], out: str) -> dict[str, Any]:
    return run_cell(Grid.model_validate(grid), Cell.model_validate(cell), Path(out))


def _stop(pool: ProcessPoolExecutor) -> None:
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)
