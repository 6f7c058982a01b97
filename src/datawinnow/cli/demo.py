"""``datawinnow demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from datawinnow import api
from datawinnow.api.demo import DEMO_FOLDER
from datawinnow.cli.bench import cell_line, show_results
from datawinnow.cli.options import Quiet
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.options import Option


@verb("datawinnow demo", "datawinnow demo --out /tmp/demo", docs=api.demo)
def demo(
    out: Annotated[Path, Option("FOLDER")] = DEMO_FOLDER,
    jobs: Annotated[int, Option("N", min=0)] = 0,
    quiet: Quiet = False,
) -> None:
    """Show what pruning saves and loses, in about two minutes and without a network connection.

    Trains on the embedded digits: on all, on all for fewer epochs, on what UCB selects each epoch, on random examples,
    and on those that DUAL and DUAL with Beta sampling keep, at keep 0.5, 0.3 and 0.1, three seeds each. Prints the
    table, with total cost beside every accuracy, and writes two pages. Run it again to resume.
    """
    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        result = api.demo(
            out=out,
            jobs=jobs,
            progress=stage,
            on_row=lambda row: stage.detail(cell_line(row)),
            log=screen.note,
        )
    screen.print(result.verdict)
    screen.print()
    show_results(screen, out, result.bench.rows, result.bench.report)
    screen.rows([("images", str(result.run_page))])
    screen.note("next, with your own data: datawinnow prune my-images/ --keep 0.3 --check")
