"""The command `datawinnow`: its verbs by group."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from datawinnow import __version__
from datawinnow.cli.bench import bench
from datawinnow.cli.condense import condense
from datawinnow.cli.demo import demo
from datawinnow.cli.estimate import estimate
from datawinnow.cli.instruct import instruct
from datawinnow.cli.methods import methods
from datawinnow.cli.prune import prune
from datawinnow.cli.race import race
from datawinnow.cli.record import record
from datawinnow.cli.report import report
from datawinnow.cli.score import score
from datawinnow.cli.select import select
from datawinnow.cli.train import train
from datawinnow.cli.verb import report_errors, terminate_cleanly

VERBS = {
    "Start here": (demo, prune),
    "Step by step": (estimate, record, score, select, train, condense),
    "Instruction data": (instruct,),
    "Compare and show": (race, bench, report, methods),
}
HELP = """Train on the right examples, and know what it costs.

datawinnow finds the examples of a dataset that are worth training on, measures how much training on them saves and \
loses, and shows why each was kept or dropped. --keep 0.3 always means that 30% are kept.

Start with:

  $ datawinnow demo

  $ datawinnow prune my-images/ --keep 0.3 --check

  $ datawinnow train my-images/ --select runs/my-images
"""

app = typer.Typer(
    name="datawinnow",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, verbs in VERBS.items():
    for function in verbs:
        app.command(function.__name__, rich_help_panel=panel, no_args_is_help=function not in (demo, methods))(function)


def _print_version(value: bool) -> None:
    if value:
        print(f"datawinnow {__version__}")
        raise typer.Exit


@app.callback()
def global_options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options before the verb."""


def main() -> None:
    """Run the command line, and exit with its code."""
    terminate_cleanly()
    try:
        with report_errors():
            app()
    except typer.Exit as stop:  # raised outside of a verb: while typer parsed the command
        sys.exit(stop.exit_code)
