"""The command `datawinnow`: its verbs by group."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from datawinnow import __version__

VERBS = {
    "Start here": {
        "demo": "Show what pruning saves and loses, in about two minutes and without a network connection.",
        "prune": "Record, score and select in one: from a dataset to the examples worth training on.",
    },
    "Step by step": {
        "estimate": "Estimate how many seconds and how much memory a method takes, before anything runs.",
        "record": "Train briefly on all the data and record every example at every visit.",
        "score": "Compute scores from a recording.",
        "select": "Choose which examples to keep, from a recording.",
        "train": "Train on the kept examples, on all, or on what a policy chooses each epoch; show accuracy and cost.",
        "condense": "Learn a few images of every class on which a network can be trained instead of all the data.",
    },
    "What is wrong with the data": {
        "audit": "Find wrong labels, duplicates, leakage, outliers, broken examples and odd classes.",
    },
    "Instruction data": {
        "instruct": "Choose which pairs of an instruction dataset to tune on, and test the choice on subsets left out.",
    },
    "Compare and show": {
        "plan": "Find the cheapest training that loses at most --max-drop points, from short pilot trainings.",
        "race": "Compare all the data for fewer epochs with what may learn more at equal cost, on your data.",
        "bench": "Run a grid of methods, and put total cost beside every accuracy.",
        "report": "Write the HTML page of a run or of a bench: one file without external resources.",
        "methods": "List every method with what it needs, its options, its cost, and its source.",
    },
}
"""Group -> verb -> first sentence of its help; the file of a verb is imported when it is used."""
VERB_NAMES = tuple(name for verbs in VERBS.values() for name in verbs)
RUN_WITHOUT_OPTIONS = ("demo", "methods")
"""Verbs that run where nothing follows them; the others show their help."""
HELP_FLAGS = ["-h", "--help"]
HELP = """Train on the right examples, and know what it costs.

datawinnow finds the examples of a dataset that are worth training on, measures how much training on them saves and \
loses, and shows why each was kept or dropped. --keep 0.3 (or 30%) always means that 30% are kept.

Start with:

  $ datawinnow demo

  $ datawinnow prune my-images/ --keep 0.3 --check

  $ datawinnow train my-images/ --select runs/my-images
"""


class _Commands(Mapping[str, Any]):
    """The commands by name, each built when it is first asked for."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in VERB_NAMES:
            raise KeyError(name)
        if name not in self._built:
            function = getattr(importlib.import_module(f"datawinnow.cli.{name}"), name)
            alone = typer.Typer(
                add_completion=False,
                pretty_exceptions_enable=False,
                context_settings={"help_option_names": HELP_FLAGS},
            )
            alone.command(name, no_args_is_help=name not in RUN_WITHOUT_OPTIONS)(function)
            self._built[name] = typer.main.get_command(alone)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(VERB_NAMES)

    def __len__(self) -> int:
        return len(VERB_NAMES)


class _Verbs(TyperGroup):
    """The top level; its help imports no verb, and is plain text, since the boxes of a verb's help take 0.2 s."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments; without any, the help, as an error of use."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb; where it is to run, all are imported, for messages name the options of others as well."""
        if not set(HELP_FLAGS) & set(args):
            dict(self.commands)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Usage, what it does, options, verbs by group."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The verbs by group."""
        for group, verbs in VERBS.items():
            with formatter.section(group):
                formatter.write_dl([(name.ljust(max(map(len, VERB_NAMES))), text) for name, text in verbs.items()])


app = typer.Typer(
    name="datawinnow",
    cls=_Verbs,
    help=HELP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP_FLAGS},
)


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
    from datawinnow.cli.verb import report_errors, terminate_cleanly

    terminate_cleanly()
    try:
        with report_errors():
            app()
    except typer.Exit as stop:  # raised outside of a verb: while typer parsed the command
        sys.exit(stop.exit_code)
