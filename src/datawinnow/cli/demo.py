"""``datawinnow demo``: what pruning costs and loses, on an embedded dataset."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datawinnow.cli.bench import cell_line, show_results
from datawinnow.cli.options import Quiet
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb

if TYPE_CHECKING:
    from datawinnow.bench import Grid

KEEP = 0.3


@verb("datawinnow demo", "datawinnow demo --out /tmp/demo")
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where results and images go.")] = Path(
        "runs/demo"
    ),
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="Trainings at a time; 0 for one a core.", min=0)] = 0,
    quiet: Quiet = False,
) -> None:
    """See what pruning costs and loses, in about two minutes and without a network.

    Trains on the embedded digits: on all, on all for fewer epochs, on what UCB chooses again each epoch, on random
    examples, and on those that DUAL and DUAL with Beta sampling keep, at keep 0.5, 0.3 and 0.1, three seeds each.
    Prints the table, with total cost beside every accuracy, and writes two pages. Run it again to resume.
    """
    from datawinnow import api
    from datawinnow.bench import read_grid

    screen = Screen(quiet=quiet)
    with importlib.resources.as_file(importlib.resources.files("datawinnow.bench") / "demo.toml") as file:
        grid = read_grid(file)
    screen.note(f"demo: {grid.about}")
    with screen.stage() as stage:
        result = api.bench(grid, out=out, jobs=jobs, progress=stage, on_row=lambda row: stage.detail(cell_line(row)))
    page = prune_page(screen, grid, out / "prune")
    show_results(screen, out, result.grids[""].rows, result.report)
    screen.rows([("images", str(page))])
    screen.note("next, with your own data: datawinnow prune my-images/ --keep 0.3 --check")


def prune_page(screen: Screen, grid: Grid, folder: Path) -> Path:
    """Record and select once as in the grid, for the gallery and the data map; returns the page."""
    from datawinnow import report
    from datawinnow.bench.cell import datasets_of
    from datawinnow.runs.record import record_run
    from datawinnow.runs.select import select_run

    train, test = datasets_of(grid)
    with screen.stage("recording once more, for images") as stage:
        done = record_run(
            train,
            folder,
            test=test,
            epochs=grid.train.epochs,
            model=grid.train.model,
            model_options=grid.train.model_options,
            recipe=grid.train.recipe(),
            source=grid.data.source,
            progress=stage,
        )
    select_run(done, train, keep=KEEP)
    page: Path = report.write(folder)
    return page
