"""``datawinnow bench``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from datawinnow.cli.options import Quiet
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.errors import ArgumentError

if TYPE_CHECKING:
    from datawinnow.api.bench import GridResult

TIME_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


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
    row are run, so you can stop at any moment and run the same command again. A cell whose training diverges gets a row
    that says so, and the others go on. Prints the table and writes an HTML page.
    """
    from datawinnow import api

    screen = Screen(quiet=quiet)
    limit = None if time_limit is None else seconds_of(time_limit)

    def on_grid(result: GridResult) -> None:
        show_results(screen, result.folder, result.rows, result.report, table=table)
        if not result.done:
            place = f" of {result.setting}" if result.setting else ""
            screen.print(
                f"{len(result.rows)} of {result.num_cells} cells{place} are done; run the same command again to go on"
            )

    with screen.stage() as stage:
        results = api.bench(
            file,
            out=out,
            setting=setting,
            shrink=shrink,
            time_limit=limit,
            jobs=jobs,
            threads=threads,
            progress=stage,
            on_row=lambda row: stage.detail(cell_line(row)),
            on_grid=on_grid,
        )
    if "" not in results.grids and results.report is not None:
        screen.print()
        screen.rows([("all settings", str(results.report))])


def cell_line(row: dict[str, Any]) -> str:
    """A result row in a line, for the progress display."""
    reached = f"failed: {row['failed']}" if row.get("failed") else f"{100 * row['accuracy']:.1f}%"
    return f"{row['label']} keep {row['keep']:g} seed {row['seed']} {row['scenario']}: {reached}"


def show_results(
    screen: Screen, folder: Path, rows: list[dict[str, Any]], page: Path | None, *, table: str = "text"
) -> None:
    """Print the table, the files, and the cells whose training diverged; nothing where there are no rows."""
    if not rows:
        return
    from datawinnow import report

    checked = report.rows(folder)
    screen.print(report.markdown_table(checked) if table == "markdown" else report.text_table(checked))
    screen.print()
    screen.rows([("rows", str(folder / "rows.jsonl")), ("report", str(page))])
    failed = [row for row in rows if row.get("failed")]
    if not failed:
        return
    screen.print()
    screen.print(f"training diverged in {len(failed)} cell{'' if len(failed) == 1 else 's'}:")
    for row in failed:
        screen.print(f"  {row['label']}, keep {row['keep']:g}, seed {row['seed']}, {row['scenario']}: {row['failed']}")
    screen.print(
        f"The same command does not run them again: remove their lines from {folder / 'rows.jsonl'} for that, and the "
        f"folders in {folder / 'recordings'} whose run.json says diverged"
    )


def seconds_of(text: str) -> float:
    """``"90m"``, ``"1.5h"``, ``"45s"`` or ``"3600"`` in seconds.

    Raises:
        ArgumentError: something else.

    >>> seconds_of("90m"), seconds_of("1.5h"), seconds_of("30")
    (5400.0, 5400.0, 30.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in TIME_UNITS:
        raise ArgumentError(f"--time-limit must be a time such as 90m, 1.5h, 45s or 3600 (seconds), got {text!r}")
    return float(match[1]) * TIME_UNITS[match[2]]
