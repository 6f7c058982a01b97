"""``datawinnow methods``: every method, from its card."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from datawinnow.cli.options import Quiet
from datawinnow.cli.ui import Screen, columns
from datawinnow.cli.verb import verb
from datawinnow.core.errors import ArgumentError

if TYPE_CHECKING:
    from datawinnow.methods import Method

Entry = tuple[str, str, list[str], Callable[[], str]]
"""Kind, key, fields of the table, and the full detail."""
HEAD = ["kind", "name", "needs", "options", "keeps", "cost", "source"]
PAGE = ("kind", "name", "needs", "keeps", "source")
"""Columns of the table on a page, which has less room for long ones: all is in the text, and in the detail."""


@verb("datawinnow methods", "datawinnow methods --kind score", "datawinnow methods dual")
def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this one, in full.", show_default=False)
    ] = None,
    kind: Annotated[
        Literal["method", "score", "selector", "policy", "batch-selector", "condenser", "scenario"] | None,
        typer.Option("--kind", help="Only this kind.", show_default=False),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown.", show_default=False)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """List every method: what it needs, what can be set, what it costs, and where it comes from.

    A method is a score and a selector put together; --score and --select put together your own. A policy chooses again
    while training (datawinnow train --policy); a batch selector chooses within a batch, in a loop of your own. A
    condenser learns new examples (datawinnow condense). A scenario changes the data of a bench.
    """
    screen = Screen(quiet=quiet)
    entries = [entry for entry in catalogue() if kind is None or kind.replace("-", " ") == entry[0]]
    if name is not None:
        key = name.replace("-", "_").replace("+", "_").lower()
        found = [entry for entry in entries if entry[1] == key]
        if not found:
            known = ", ".join(dict.fromkeys(entry[1] for entry in entries))
            raise ArgumentError(f"no method is called {name!r}; there are: {known}")
        screen.print("\n\n".join(entry[3]() for entry in found))
        return
    if markdown:
        lines = [[entry[2][HEAD.index(name)] for name in PAGE] for entry in entries]
        screen.print(columns(list(PAGE), lines, markdown=True))
        return
    for each in dict.fromkeys(entry[0] for entry in entries):
        lines = [entry[2][1:-1] for entry in entries if entry[0] == each]
        screen.print(columns([each, *HEAD[2:-1]], lines))
        screen.print()
    screen.note("one in full, with its source: datawinnow methods NAME")


def catalogue() -> list[Entry]:
    """Every method, score, selector, policy, batch selector, condenser and scenario."""
    from datawinnow import condense, dynamic, scenarios, scores, select
    from datawinnow.methods import METHODS

    entries = [_of_method(method) for method in METHODS.values()]
    own = (scores.METHODS, select.METHODS, dynamic.POLICIES, dynamic.BATCH_SELECTORS)
    for parts in (*own, condense.METHODS, scenarios.METHODS):
        entries += [_of_part(part) for part in parts.values()]
    return entries


def _of_method(method: Method) -> Entry:
    chooser, score = method.selector_card, method.score_card
    own = {key: value for key, value in chooser.options.items() if key != "end" or score is None}  # end: the score's
    settled = method.at(0.5)
    options = {**(score.options if score else {}), **own, **method.score_options, **method.options}
    changing = {**settled.options, **settled.score_options}
    options |= {
        key: "by keep" for key in changing if key in options and key not in (*method.options, *method.score_options)
    }
    if method.cutoff:
        options["cutoff"] = "by keep" if callable(method.cutoff) else method.cutoff
    parts = f"{score.key} + {chooser.key}" if score else chooser.key
    if method.per_class:
        parts += ", in every class"
    sources = "; ".join(card.source for card in (score, chooser) if card is not None)
    needs = ", ".join(method.needs) or "nothing"
    end = score.end if score is not None and score.end else "-"
    fields = ["method", method.key, needs, _options(options), end, parts, sources]

    def detail() -> str:
        rows = [("is", parts), ("needs", needs), ("options", _options(options)), ("keeps", end), ("source", sources)]
        return _block(f"{method.label} (method {method.key})", rows, "")

    return "method", method.key, fields, detail


def _of_part(part: Any) -> Entry:
    from datawinnow.probe import array_options

    card = part.card
    looks = array_options(*card.needs) if card.kind == "score" else ()
    options = ", ".join(
        [f"{key} (given)" for key in card.takes if card.kind == "policy"]
        + [_options(card.options)] * bool(card.options or not (looks or card.takes))
        + [f"{key} (of the probe)" for key in looks]
    )
    needs = ", ".join([*card.needs, *(f"{need} (if there)" for need in card.optional_needs)]) or "nothing"
    fields = [card.kind, card.key, needs, options, card.end or "-", card.cost, card.source]

    def detail() -> str:
        rows = [
            ("needs", needs),
            ("options", options),
            ("keeps", card.end or "-"),
            ("cost", card.cost),
            ("source", card.source),
        ]
        return _block(f"{card.name} ({card.kind} {card.key})", rows, inspect.getdoc(part) or "")

    return card.kind, card.key, fields, detail


def _options(options: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "none"


def _block(title: str, rows: list[tuple[str, str]], text: str) -> str:
    width = max(len(word) for word, _ in rows)
    lines = [title, *(f"  {word.ljust(width)}  {value}" for word, value in rows)]
    return "\n".join([*lines, *(["", *(f"  {line}".rstrip() for line in text.split("\n"))] if text else [])])
