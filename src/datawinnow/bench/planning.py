"""Which cells of a grid come next, and how long a cell will take."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datawinnow.bench.cell import awaits_recording, recording_done, recording_folder
from datawinnow.bench.grid import Cell, Grid, equal_epochs
from datawinnow.bench.policy_runs import plan_file

SLACK = 1.3
"""Factor by which the time of a cell is overestimated."""


def next_cells(
    waiting: Sequence[Cell],
    running: Sequence[Cell],
    grid: Grid,
    out: Path,
    free: int,
    rows: Sequence[dict[str, Any]] = (),
    time_left: float | None = None,
) -> list[Cell]:
    """The next cells to start: never two that would write the same recording, or probe its network, at the same time.

    Args:
        waiting: cells without a row, in order.
        running: cells under way.
        grid: the grid.
        out: folder of the results.
        free: how many may be started.
        rows: rows made so far, from which the time of a cell is estimated.
        time_left: seconds until the time limit; a cell that would take longer is skipped.
    """
    busy = {path for cell in running if (path := shared_output(cell, grid, out)) is not None}
    chosen: list[Cell] = []
    for cell in waiting:
        if len(chosen) >= free:
            break
        path = shared_output(cell, grid, out)
        # what it would write is being written by another cell: it waits
        if path in busy:
            continue
        # passed over, not the end: a shorter cell behind it may fit
        if time_left is not None and estimate_seconds(cell, grid, out, rows) >= time_left:
            continue
        if path is not None:
            busy.add(path)
        chosen.append(cell)
    return chosen


def shared_output(cell: Cell, grid: Grid, out: Path) -> Path | None:
    """What a cell would write that others read: its recording, or the plan that it trains by; None for nothing."""
    if writes_recording(cell, grid, out):
        return recording_folder(cell, out)
    plan = plan_file(grid, cell, out)
    # a finished plan is only read
    return plan if plan is not None and not plan.exists() else None


def writes_recording(cell: Cell, grid: Grid, out: Path) -> bool:
    """Whether a cell would make its recording, or be the first to probe the recorded network."""
    if makes_recording(cell, grid, out):
        return True
    return cell.kind == "static" and grid.reads_recording(cell) and awaits_recording(grid, cell, out)


def makes_recording(cell: Cell, grid: Grid, out: Path) -> bool:
    """Whether a cell needs a recording that is not there."""
    return grid.reads_recording(cell) and not recording_done(cell, out)


def estimate_seconds(cell: Cell, grid: Grid, out: Path, rows: Sequence[dict[str, Any]]) -> float:
    """Seconds that a cell will take, by the speed of the rows made so far; 0 where there are none."""
    # seconds an example
    speeds = [row["cost"]["train"]["seconds"] / row["passes"] for row in rows if row["passes"]]
    if not speeds:
        return 0.0
    n = int(rows[0]["n"])
    epochs: float = grid.train.epochs  # over all the examples
    if cell.kind != "full":
        epochs = equal_epochs(grid.train.epochs, cell.keep, n)
    if makes_recording(cell, grid, out):
        # the recording comes first; the full run is the recording
        epochs = grid.recorded_epochs + (0 if cell.kind == "full" else epochs)
    return SLACK * float(statistics.median(speeds)) * epochs * n
