"""``datawinnow report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from datawinnow import api
from datawinnow.cli.options import Quiet
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.options import Option


@verb("datawinnow report runs/digits", "datawinnow report results/cifar10_cpu --out cifar10.html", docs=api.report)
def report(
    path: Annotated[Path, Option("RUN|RESULTS", positional=True)],
    out: Annotated[Path | None, Option("FILE")] = None,
    quiet: Quiet = False,
) -> None:
    """Write the HTML page of a run or of a bench: one file without external resources.

    The page of a run has the data map, the histogram of its scores, and a gallery of kept, dropped, hard and suspicious
    images with their reasons; the page of a bench has accuracy against total cost, and the table.
    """
    Screen(quiet=quiet).print(str(api.report(path, out=out)))
