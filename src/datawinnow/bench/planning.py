"""Which cells of a grid come next, and how long a cell will take."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datawinnow.bench.arms import plan_file
from datawinnow.bench.cell import equal_epochs, recording_folder
from datawinnow.bench.grid import Cell, Grid
from datawinnow.bench.recording import awaited

SLACK = 1.3
"""How much longer than by experience a cell is taken to need."""


def ready(
    waiting: Sequence[Cell],
    running: Sequence[Cell],
    grid: Grid,
    out: Path,
    free: int,
    rows: Sequence[dict[str, Any]] = (),
    left: float | None = None,
) -> list[Cell]:
    """The next cells to begin: never two that would make the same recording, or look at its network, at the same time.

    Args:
        waiting: cells without a row, in order.
        running: cells under way.
        grid: the grid.
        out: folder of the results.
        free: how many may be begun.
        rows: from which the time of a cell is foretold.
        left: seconds until the time limit; a cell that would take longer is passed over.
    """
    busy = {place for cell in running if (place := made(cell, grid, out)) is not None}
    chosen: list[Cell] = []
    for cell in waiting:
        if len(chosen) >= free:
            break
        writes = made(cell, grid, out)
        if writes in busy:
            continue
        if left is not None and foretold(cell, grid, out, rows) >= left:
            continue
        if writes is not None:
            busy.add(writes)
        chosen.append(cell)
    return chosen


def made(cell: Cell, grid: Grid, out: Path) -> Path | None:
    """What a cell would write that others read too: its recording, or the plan that it trains by; None for nothing."""
    if makes(cell, grid, out):
        return recording_folder(cell, out)
    plan = plan_file(grid, cell, out)
    return plan if plan is not None and not plan.exists() else None


def makes(cell: Cell, grid: Grid, out: Path) -> bool:
    """Whether a cell would write to its recording: make it, or look at its network for the first time."""
    if makes_recording(cell, grid, out):
        return True
    return cell.kind == "static" and awaited(recording_folder(cell, out), grid.spec(cell.method)[0].at(cell.keep))


def makes_recording(cell: Cell, grid: Grid, out: Path) -> bool:
    """Whether a cell would find no recording where it needs one."""
    return grid.reads_recording(cell) and not (recording_folder(cell, out) / "recording.json").exists()


def foretold(cell: Cell, grid: Grid, out: Path, rows: Sequence[dict[str, Any]]) -> float:
    """Seconds that a cell will take, from the rows that there are; 0 if there are none to tell."""
    speeds = [row["cost"]["train"]["seconds"] / row["passes"] for row in rows if row["passes"]]
    if not speeds:
        return 0.0
    n = int(rows[0]["n"])
    epochs: float = grid.train.epochs  # over all the examples
    if cell.kind != "full":
        epochs = equal_epochs(grid.train.epochs, cell.keep, n)
    if makes_recording(cell, grid, out):
        epochs = grid.recorded_epochs + (0 if cell.kind == "full" else epochs)
    return SLACK * float(statistics.median(speeds)) * epochs * n
