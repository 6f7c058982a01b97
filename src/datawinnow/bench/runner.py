"""Runs the missing cells of a grid, several at a time, and stops cleanly: on Ctrl-C, and at a time limit."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from datawinnow.bench.cell import recording_folder
from datawinnow.bench.grid import Cell, Grid, cells_of, check_grid
from datawinnow.bench.workers import Workers
from datawinnow.core import check
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import check_format, read_json, write_bytes, write_json

Told = Callable[[str, int, int], None]
SLACK = 1.3
"""How much longer than by experience a cell is taken to need."""


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
    recording of a seed and scenario is made by one cell while the others that need it wait.

    Args:
        grid: what to run.
        out: folder of the results.
        jobs: cells at a time; 0 for one a core on a CPU and one on a GPU.
        threads: of torch in each; 0 for a job's share of the cores. Sums are rounded differently with another number,
            so rows are the same only for the same number.
        time_limit: seconds after which nothing is running any more: a cell that by experience would not be done by
            then is not begun, and one that is not is ended, to be run again (a recording goes on where it was).
        progress: told ``(what, done, total)`` after each cell.
        on_row: told each new row.

    Returns:
        All rows that there are, old and new, in the order of the grid.

    Raises:
        ArgumentError: the grid cannot run.
        RunError: rows of a newer version, of another dataset or made under other settings; a cell that failed, named.
    """
    start = time.monotonic()
    check.number("jobs", jobs, 0, 4096, integer=True)
    check.number("threads", threads, 0, 4096, integer=True)
    if time_limit is not None:
        check.number("time_limit", time_limit, 0, float("inf"))
    check_grid(grid)
    if out.exists() and not out.is_dir():
        raise ArgumentError(f"{out} is a file, not a folder; give another --out")
    cells = cells_of(grid)
    rows = read_rows(out / "rows.jsonl")
    _same_settings(grid, rows, out)
    done = {row_key(row) for row in rows}
    waiting = [cell for cell in cells if cell.key not in done]
    jobs = jobs or (1 if torch.cuda.is_available() else max(1, os.cpu_count() or 1))
    # not of the jobs that are left: the last cell of a resumed run must give what it would have given
    threads = threads or max(1, (os.cpu_count() or 1) // jobs)
    if progress is not None:
        progress("cells", len(cells) - len(waiting), len(cells))
    left = None if time_limit is None else time_limit - (time.monotonic() - start)
    if not waiting or (left is not None and left <= 0):
        return rows
    workers = Workers(min(jobs, len(waiting)), threads, grid, out)

    def add(row: dict[str, Any]) -> None:
        nonlocal rows
        rows = in_order([*rows, row], cells)
        write_rows(out / "rows.jsonl", rows)
        if on_row is not None:
            on_row(row)
        if progress is not None:
            progress("cells", len(cells) - len(waiting) - len(workers.running), len(cells))

    try:
        while waiting or workers.running:
            left = None if time_limit is None else time_limit - (time.monotonic() - start)
            if left is not None and left <= 0:
                break
            for cell in ready(waiting, workers.running, grid, out, workers.free, rows, left):
                waiting.remove(cell)
                workers.begin(cell, rows[0]["fingerprint"] if rows else None)
            if not workers.running:
                break  # nothing more fits the time limit
            for _, row in workers.finished(left):
                add(row)
    finally:
        workers.stop()
    return rows


def in_order(rows: Sequence[dict[str, Any]], cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Rows in the order of the grid, whatever the order in which they were done; those of no cell first."""
    place = {cell.key: i for i, cell in enumerate(cells)}
    return sorted(rows, key=lambda row: place.get(row_key(row), -1))


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
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: it is no text ({error}); move it away to start anew") from None
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
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
    """Write all rows whole, one JSON object a line; a row with NaN is a bug, since JSON has none."""
    write_bytes(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode())


def _same_settings(grid: Grid, rows: list[dict[str, Any]], out: Path) -> None:
    """Refuse to mix rows made under different settings; ``grid.json`` keeps those of the rows that are there.

    More methods, seeds, keeps and scenarios may be added. Where the data lies may change, since every worker compares
    its fingerprint with that of the rows.
    """
    own = _settings(grid)
    there = {row["method"] for row in rows}
    path = out / "grid.json"
    if path.exists() and (rows or (out / "recordings").exists()):
        before = read_json(path)["settings"]
        for section in ("data", "train", "score", "methods"):
            then, now = before.get(section, {}), own[section]
            for key in sorted({*then, *now}):
                if section == "methods" and (key not in then or key not in now or key not in there):
                    continue
                if then.get(key) != now.get(key):
                    raise RunError(
                        f"{out} holds rows made with [{section}] {key} = {then.get(key)!r}, now it is "
                        f"{now.get(key)!r}: give another --out folder, or the same settings as before"
                    )
        own["methods"] = {**before.get("methods", {}), **own["methods"]}
    model = grid.train.model or (rows[0].get("model") if rows else None)
    for row in rows:
        for key, value in (
            ("epochs", grid.train.epochs),
            ("model", model),
            ("fingerprint", rows[0].get("fingerprint")),
        ):
            if row.get(key) != value:
                raise RunError(
                    f"{out} holds a row with {key} {row.get(key)!r} where {value!r} is expected: rows of different "
                    "experiments do not go into one folder; give another --out folder"
                )
    write_json(path, {"kind": "grid", "name": grid.name, "about": grid.about, "settings": own})


def _settings(grid: Grid) -> dict[str, dict[str, Any]]:
    """What makes numbers comparable: all but the lists, the names, and where the data lies."""
    train = {"epochs": grid.train.epochs, "model": grid.train.model, "model_options": grid.train.model_options}
    return {
        "data": grid.data.model_dump(exclude={"source"}),
        "train": {**train, **{k: v for k, v in grid.train.recipe().facts().items() if k != "workers"}},
        "score": grid.score.model_dump(),
        "methods": {spec.name: spec.model_dump(exclude={"label"}) for spec in grid.method},
    }


def ready(
    waiting: Sequence[Cell],
    running: Sequence[Cell],
    grid: Grid,
    out: Path,
    free: int,
    rows: Sequence[dict[str, Any]] = (),
    left: float | None = None,
) -> list[Cell]:
    """The next cells to begin: never two that would make the same recording at the same time.

    Args:
        waiting: cells without a row, in order.
        running: cells under way.
        grid: the grid.
        out: folder of the results.
        free: how many may be begun.
        rows: from which the time of a cell is foretold.
        left: seconds until the time limit; a cell that would take longer is passed over.
    """
    busy = {recording_folder(cell, out) for cell in running if makes_recording(cell, grid, out)}
    chosen: list[Cell] = []
    for cell in waiting:
        if len(chosen) >= free:
            break
        makes = makes_recording(cell, grid, out)
        if makes and recording_folder(cell, out) in busy:
            continue
        if left is not None and foretold(cell, grid, out, rows) >= left:
            continue
        if makes:
            busy.add(recording_folder(cell, out))
        chosen.append(cell)
    return chosen


def makes_recording(cell: Cell, grid: Grid, out: Path) -> bool:
    """Whether a cell would find no recording where it needs one."""
    return grid.reads_recording(cell) and not (recording_folder(cell, out) / "recording.json").exists()


def foretold(cell: Cell, grid: Grid, out: Path, rows: Sequence[dict[str, Any]]) -> float:
    """Seconds that a cell will take, from the rows that there are; 0 if there are none to tell."""
    speeds = [row["cost"]["train"]["seconds"] / row["passes"] for row in rows if row["passes"]]
    if not speeds:
        return 0.0
    epochs: float = grid.train.epochs
    if cell.kind == "shorter_full":
        epochs = max(1, round(epochs * cell.keep))
    elif cell.kind == "static":
        epochs *= cell.keep
    if makes_recording(cell, grid, out):
        epochs = grid.recorded_epochs + (0 if cell.kind == "full" else epochs)
    return SLACK * float(statistics.median(speeds)) * epochs * int(rows[0]["n"])
