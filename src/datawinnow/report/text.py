"""The table as plain text for the terminal and as Markdown for a log."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from datawinnow.core.chance import rows_sentence
from datawinnow.core.verdict import ResultRow, outcome_words, points
from datawinnow.report import words
from datawinnow.report.table import FULL, Lost, Table, TableCell, table

TABLE_HEAD = ("keep", "method", "seeds", "accuracy %", "against random", "against shorter full", "cost", "pays back")
NOTE = (
    "Accuracy: mean over seeds ± 95% interval (Student t). Differences: percentage points, paired by seed, ± 95%; "
    '"within noise": the interval includes 0; LOSES: all of it is below 0. Shorter full: all the data for as many '
    "training passes. Cost: passes forward and backward, scoring included, relative to full training. Pays back: "
    "training runs on the selection until scoring is paid for, and the accuracy that each loses against full training."
)


def _line(cell: TableCell | Lost) -> tuple[str, ...]:
    if isinstance(cell, Lost):
        return (_keep(cell), words.name_of(cell), words.seeds_of(cell), *(words.NONE,) * (len(TABLE_HEAD) - 3))
    changed = () if cell.changed_kept is None else (words.percent(cell.changed_kept),)
    return (
        _keep(cell),
        words.name_of(cell),
        words.seeds_of(cell),
        words.percent(cell.accuracy),
        f"{points(cell.to_random)} {outcome_words(cell.to_random)}".strip(),
        f"{points(cell.to_shorter)} {outcome_words(cell.to_shorter)}".strip(),
        words.ratio(cell.relative_passes),
        words.pays_back(cell.break_even, cell.to_full),
        *changed,
    )


def _keep(cell: TableCell | Lost) -> str:
    return "1" if cell.method == FULL else f"{cell.keep:g}"


def _lines(results: Table, scenario: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    lines = [_line(cell) for cell in results.lines(scenario)]
    width = max(len(line) for line in lines)
    head = TABLE_HEAD if width == len(TABLE_HEAD) else (*TABLE_HEAD, "changed kept %")
    return head, [line + (words.NONE,) * (width - len(line)) for line in lines]


def _clean(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def text_table(rows: Sequence[ResultRow], *, near_chance: bool = True) -> str:
    """The table for a terminal, about 110 columns wide.

    Args:
        rows: as `datawinnow.report.rows` returns them.
        near_chance: whether to warn of networks near chance; not below a verdict, which has said so.

    Returns:
        Lines of text, a block a scenario, each opened by what the data say; how to read them stands below the last.
        No trailing newline.
    """
    results = table(rows)
    blocks = []
    for scenario in results.scenarios:
        head, lines = _lines(results, scenario)
        lines = [tuple(_clean(field) for field in line) for line in lines]
        widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
        out = [f"{_clean(scenario)}: {_clean(words.headline(results, scenario))}", ""]
        if changed_note := words.changed(results, scenario):
            out[1:] = [textwrap.fill(_clean(changed_note), 110), ""]
        out.append("  ".join(name.ljust(width) for name, width in zip(head, widths, strict=True)).rstrip())
        out.append("  ".join("-" * width for width in widths))
        before = ""
        for line in lines:
            if before not in ("", line[0]):
                out.append("")
            before = line[0]
            out.append("  ".join(field.ljust(width) for field, width in zip(line, widths, strict=True)).rstrip())
        blocks.append("\n".join(out))
    warning = [textwrap.fill(_clean(near), 110)] if near_chance and (near := rows_sentence(rows)) else []
    return "\n\n\n".join([*blocks, *warning, textwrap.fill(NOTE, 110)])


def markdown_table(rows: Sequence[ResultRow]) -> str:
    """The table in GitHub's Markdown, one for each scenario.

    Args:
        rows: as `datawinnow.report.rows` returns them.

    Returns:
        Markdown, with what the data say above each table and how to read them below the last; no trailing newline.
    """
    results = table(rows)
    about = ", ".join(
        f"{key} {results.about[key]}" for key in ("dataset", "n", "model", "epochs") if key in results.about
    )
    out = []
    for scenario in results.scenarios:
        head, lines = _lines(results, scenario)
        out += [f"**{_escape(scenario)}** ({_escape(about)}). {_escape(words.headline(results, scenario))}", ""]
        if changed_note := words.changed(results, scenario):
            out += [_escape(changed_note), ""]
        out += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        out += ["| " + " | ".join(_escape(field) for field in line) + " |" for line in lines]
        out.append("")
    warning = [_escape(near), ""] if (near := rows_sentence(rows)) else []
    return "\n".join([*out, *warning, NOTE])


def _escape(text: str) -> str:
    # The backslash first, or it would escape those that are added.
    for letter in "\\|*_<>`":
        text = text.replace(letter, "\\" + letter)
    return _clean(text)
