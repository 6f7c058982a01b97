"""``datawinnow methods``."""

from __future__ import annotations

from typing import Annotated, Literal

from datawinnow import api
from datawinnow.api import MethodEntry
from datawinnow.cli.options import Quiet
from datawinnow.cli.ui import Screen, columns
from datawinnow.cli.verb import verb
from datawinnow.core.options import Option

MARKDOWN_HEAD = ("kind", "name", "needs", "keeps", "source")
"""Columns of the Markdown table, which leaves out the long ones."""


@verb("datawinnow methods", "datawinnow methods --kind score", "datawinnow methods dual", docs=api.methods)
def methods(
    name: Annotated[str | None, Option("NAME", positional=True, help="Show this method in full.")] = None,
    kind: Literal["method", "score", "selector", "policy", "batch-selector", "condenser", "scenario"] | None = None,
    markdown: Annotated[bool, Option(help="Print the table as Markdown.")] = False,
    quiet: Quiet = False,
) -> None:
    """List every method with what it needs, its options, its cost, and its source.

    A method is a score with a selector; --score and --select combine any two. A policy selects examples during training
    (datawinnow train --policy); a batch selector selects within a batch, in your own training loop. A condenser learns
    new examples (datawinnow condense). A scenario changes the data of a bench.
    """
    screen = Screen(quiet=quiet)
    entries = api.methods(name, kind=kind)
    if name is not None:
        screen.print("\n\n".join(_details(entry) for entry in entries))
        return
    if markdown:
        lines = [[entry.kind, entry.key, entry.needs, entry.keeps, entry.source] for entry in entries]
        screen.print(columns(list(MARKDOWN_HEAD), lines, markdown=True))
        return
    for group in dict.fromkeys(entry.kind for entry in entries):
        lines = [
            [entry.key, entry.needs, entry.options, entry.keeps, entry.cost] for entry in entries if entry.kind == group
        ]
        last = "score + selector" if group == "method" else "cost"
        screen.table([group, "needs", "options", "keeps", last], lines, optional="options")
        screen.print()
    screen.note("options, details and sources: datawinnow methods NAME")


def _details(entry: MethodEntry) -> str:
    rows = [
        ("score + selector" if entry.kind == "method" else "cost", entry.cost),
        ("needs", entry.needs),
        ("options", entry.options),
        ("keeps", entry.keeps),
        ("source", entry.source),
    ]
    width = max(len(label) for label, _ in rows)
    lines = [f"{entry.label} ({entry.kind} {entry.key})"]
    lines += [f"  {label.ljust(width)}  {value}" for label, value in rows]
    if entry.description:
        lines += ["", *(f"  {line}".rstrip() for line in entry.description.split("\n"))]
    return "\n".join(lines)
