"""``datawinnow bench``."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from datawinnow.cli.options import Quiet
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.errors import ArgumentError

if TYPE_CHECKING:
    from datawinnow.bench import Grid

RESULTS = Path("results")
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@verb(
    "datawinnow bench benchmarks/cifar10_cpu.toml --time-limit 90m",
    "datawinnow bench benchmarks/comparison.toml --setting cifar10 --time-limit 2h",
    "datawinnow bench my-grid.toml --out results/mine --jobs 2 --table markdown",
    "datawinnow bench benchmarks/paper/static.toml --shrink 50",
)
def bench(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.toml", help="The grid: method x keep x seed x scenario.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Results; cells that have a row there are not run again. Default: results/<name of the grid>.",
            show_default=False,
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            "--time-limit",
            metavar="TIME",
            help="Stop cleanly by then: 90m, 1.5h, 45s, or seconds. Default: run every cell.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option("--jobs", metavar="N", help="Cells at a time; 0 for one a core on a CPU and one on a GPU.", min=0),
    ] = 0,
    threads: Annotated[
        int,
        typer.Option("--threads", metavar="N", help="CPU threads of each cell; 0 for its share of the cores.", min=0),
    ] = 0,
    setting: Annotated[
        list[str],
        typer.Option(
            "--setting",
            metavar="NAME",
            help="Run only this [[setting]] of the file (repeatable). Default: all, in order.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    shrink: Annotated[
        int,
        typer.Option(
            "--shrink",
            metavar="K",
            help="Divide examples, epochs, and channels by K, to see that a file runs; its accuracies mean nothing.",
            min=1,
        ),
    ] = 1,
    table: Annotated[Literal["text", "markdown"], typer.Option("--table", help="How the table is printed.")] = "text",
    quiet: Quiet = False,
) -> None:
    """Run a grid of methods, and put total cost beside every accuracy.

    Every method is compared with random choice and with all the data for as many examples passed. Only cells without a
    row are run, so stop it at any moment and run the same command again. A cell whose training diverges gets a row that
    says so, and the others go on. Ends with the table and an HTML page.
    """
    screen = Screen(quiet=quiet)
    limit = None if time_limit is None else seconds_of(time_limit)
    from datawinnow.bench import read_grids, shrunk

    begun = time.monotonic()
    name, grids = read_grids(file)
    if shrink > 1:
        name = f"{name}_shrunk_{shrink}"
        grids = {one: shrunk(grids[one], shrink) for one in chosen(grids, setting)}
    folder = out or RESULTS / name
    for one in chosen(grids, setting):
        place = folder / one
        left = None if limit is None else max(0.0, limit - (time.monotonic() - begun))
        rows, total = run(screen, grids[one], place, limit=left, jobs=jobs, threads=threads)
        show(screen, place, rows, table=table)
        if len(rows) < total:
            of = f" of {one}" if one else ""
            screen.say(f"{len(rows)} of {total} cells{of} are done; run the same command again to go on")
    if "" not in grids:
        from datawinnow import report

        screen.say()
        screen.rows([("all settings", str(report.write(folder)))])


def chosen(grids: dict[str, Grid], only: list[str]) -> list[str]:
    """Names of the settings to run.

    Raises:
        ArgumentError: one that the file does not have.
    """
    for name in only:
        if name not in grids:
            there = ", ".join(filter(None, grids)) or "none: it is a single grid"
            raise ArgumentError(f"--setting {name!r}: the file has no such setting. There are: {there}")
    return [name for name in grids if not only or name in only]


def run(
    screen: Screen, grid: Grid, folder: Path, *, limit: float | None = None, jobs: int = 0, threads: int = 0
) -> tuple[list[dict[str, Any]], int]:
    """Run the missing cells under a bar; the rows there are now, and how many cells the grid has."""
    from datawinnow.bench import cells_of, run_grid

    with screen.stage(f"bench {grid.name}") as stage:

        def on_row(row: dict[str, Any]) -> None:
            cell = f"{row['label']} keep {row['keep']:g} seed {row['seed']} {row['scenario']}"
            reached = f"failed: {row['failed']}" if row.get("failed") else f"{100 * row['accuracy']:.1f}%"
            stage.detail(f"{cell}: {reached}")

        rows = run_grid(grid, folder, jobs=jobs, threads=threads, time_limit=limit, progress=stage, on_row=on_row)
    return rows, len(cells_of(grid))


def show(screen: Screen, folder: Path, rows: list[dict[str, Any]], *, table: str = "text") -> None:
    """Print the table and write the page; nothing where there are no rows yet."""
    if not rows:
        return
    from datawinnow import report

    found = report.rows(folder)
    screen.say(report.markdown_table(found) if table == "markdown" else report.text_table(found))
    page = report.write(folder)
    screen.say()
    screen.rows([("rows", str(folder / "rows.jsonl")), ("report", str(page))])
    tell_failed(screen, folder, rows)


def tell_failed(screen: Screen, folder: Path, rows: list[dict[str, Any]]) -> None:
    """Say which cells have no accuracy, why, and how to run them again; nothing where all have one."""
    failed = [row for row in rows if row.get("failed")]
    if not failed:
        return
    screen.say()
    screen.say(f"training diverged in {len(failed)} cell{'' if len(failed) == 1 else 's'}:")
    for row in failed:
        screen.say(f"  {row['label']}, keep {row['keep']:g}, seed {row['seed']}, {row['scenario']}: {row['failed']}")
    screen.say(
        f"The same command does not run them again: remove their lines from {folder / 'rows.jsonl'} for that, and the "
        f"folders in {folder / 'recordings'} whose recording.json says failed"
    )


def seconds_of(text: str) -> float:
    """``"90m"``, ``"1.5h"``, ``"45s"`` or ``"3600"`` in seconds.

    Raises:
        ArgumentError: something else.

    >>> seconds_of("90m"), seconds_of("1.5h"), seconds_of("30")
    (5400.0, 5400.0, 30.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in UNITS:
        raise ArgumentError(f"--time-limit must be a time such as 90m, 1.5h, 45s or 3600 (seconds), got {text!r}")
    return float(match[1]) * UNITS[match[2]]
