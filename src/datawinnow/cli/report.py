"""``datawinnow report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datawinnow.cli.options import Quiet
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb


@verb("datawinnow report runs/digits", "datawinnow report results/cifar10_cpu --out cifar10.html")
def report(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|RESULTS", help="A run folder, or the folder of a bench's results.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The page. Default: report.html in that folder.", show_default=False
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write the HTML page of a run or of a bench: one file, fit to be mailed.

    A run's page has the data map, the histogram of its scores and a gallery of kept, dropped, hard and doubtful
    images with their reasons; a bench's page has accuracy against total cost and the table.
    """
    from datawinnow import report as pages

    Screen(quiet=quiet).print(str(pages.write(path, out)))
