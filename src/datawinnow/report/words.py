"""Numbers and findings as words, for pages, the terminal and Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from datawinnow.core.counts import many as many  # for pages
from datawinnow.core.interval import Interval
from datawinnow.core.verdict import Comparison, count_seeds, indication_note, points
from datawinnow.core.verdict import outcome_words as outcome_words  # for templates
from datawinnow.report.table import FULL, REFERENCES, SHORTER, Lost, Table, TableCell

NONE = "-"


def as_sentence(note: str) -> str:
    """A note as a sentence: its first letter a capital, and the others as they are.

    >>> as_sentence("`flip=False` in 2 JPEGs")
    '`flip=False` in 2 JPEGs.'
    """
    return f"{note[:1].upper()}{note[1:]}."


def percent(value: Interval | None, digits: int = 1) -> str:
    """A fraction as a percentage with its interval: ``81.2 ± 0.6``."""
    if value is None:
        return NONE
    return f"{100 * value.mean:.{digits}f}" + ("" if value.half is None else f" ± {100 * value.half:.{digits}f}")


def seeds_of(cell: TableCell | Lost) -> str:
    """Number of seeds of a line: ``1 seed``, ``3``, or ``2 of 3 seeds; 1 diverged``."""
    count, lost = len(cell.seeds), len(cell.diverged)
    if lost:
        return f"{count} of {count_seeds(count + lost)}; {lost} diverged"
    return count_seeds(1) if count == 1 else str(count)


def diverged(table: Table, scenario: str) -> str:
    """A sentence on the trainings that diverged; empty where none did."""
    phrases = [
        f"{name_of(cell)}{'' if cell.method == FULL else f' at keep {cell.keep:g}'} "
        f"({len(cell.diverged)} of {count_seeds(len(cell.seeds) + len(cell.diverged))})"
        for cell in table.lines(scenario)
        if cell.diverged
    ]
    return f" Training diverged and is left out of the means: {listed(phrases)}." if phrases else ""


def ratio(value: float | None) -> str:
    """A cost relative to full training as a percentage."""
    return NONE if value is None else f"{100 * value:.0f}%" if value >= 0.0995 else f"{100 * value:.1f}%"


def share(value: float) -> str:
    """A fraction as a percentage that is 0% or 100% only where it is exact: ``12%``, ``3.4%``, ``under 0.1%``."""
    hundred = 100 * float(value)
    if 0 < hundred < 0.1:
        return "under 0.1%"
    if 99.9 < hundred < 100:
        return "over 99.9%"
    return f"{hundred:.1f}%" if 0 < hundred < 9.95 or 99 <= hundred < 100 else f"{hundred:.0f}%"


def pays_back(runs: float | None, to_full: Comparison | None = None) -> str:
    """Break-even as a phrase, with the accuracy that is lost: ``after 2.3 runs, -1.4 points``, ``never``."""
    if runs is None:
        return NONE
    if math.isinf(runs):
        return "never"
    lost = to_full is not None and round(100 * to_full.difference, 1) < 0
    return f"{_after(runs)}, {100 * to_full.difference:+.1f} points" if lost and to_full is not None else _after(runs)


def _after(runs: float) -> str:
    if runs == 0:
        return "at once"
    # 99.95 would be rounded to 100.0.
    digits = 1 if runs < 99.95 else 0
    return f"after {runs:,.{digits}f} run{'' if f'{runs:.1f}' == '1.0' else 's'}"


def count(value: float) -> str:
    """A whole number with thousands separated; short from a million up."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            # .3g would write 1e+03 from 999.5 up.
            return f"{value / size:.3g} {letter}" if value / size < 999.5 else f"{value / size:,.0f} {letter}"
    return f"{value:,.0f}"


def flops(value: float) -> str:
    """FLOPs with an SI prefix; a dash where none were counted."""
    if not value > 0:
        return NONE
    # The list of prefixes ends at Z.
    power = min(max(math.floor(math.log10(value) / 3), 0), 7)
    return f"{value / 1000**power:.3g} {('', 'k', 'M', 'G', 'T', 'P', 'E', 'Z')[power]}FLOPs"


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    if value < 0.0005:
        return "0 s"
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 100:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 5400 else f"{value / 3600:.1f} h"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else "none"


MAX_WITHOUT_WARNING = 5
"""Methods at a keep up to which the best is reported without a warning that it was picked from many."""


def headline(table: Table, scenario: str) -> str:
    """How pruning compares with its two references in a scenario, in one or two sentences.

    Only differences whose 95% interval excludes 0 count as won or lost. Fewer than five seeds are an indication.
    """
    contenders = [cell for cell in table.of(scenario) if not cell.is_reference]
    if not contenders:
        if any(cell.method not in REFERENCES for cell in table.lines(scenario)):
            return "No pruning method has a result." + diverged(table, scenario)
        return "There are no pruning methods in these results, only references." + diverged(table, scenario)
    single = all(len(cell.seeds) == 1 for cell in contenders)
    references = [("to_shorter", "the shorter full run"), ("to_random", "random choice")]
    compared = [pair for pair in references if any(getattr(cell, pair[0]) is not None for cell in contenders)]
    phrases = [_against(table, scenario, field, name, single) for field, name in compared or references]
    note = indication_note(min(len(cell.seeds) for cell in contenders))
    return " ".join(filter(None, [*phrases, _expensive(table, scenario).strip(), note])) + diverged(table, scenario)


def changed(table: Table, scenario: str) -> str:
    """Share of examples that a scenario changed, and which methods keep fewest and most; empty if it changes none."""
    share = table.changed.get(scenario)
    if share is None:
        return ""
    noun = "are of the rarer half of the classes" if scenario.startswith("long_tail") else "were changed"
    phrases = [f"{100 * share:.1f}% of the examples {noun}."]
    for keep in table.keeps(scenario):
        value = [
            (c.changed_kept.mean, name_of(c))
            for c in table.of(scenario, keep=keep)
            if c.changed_kept is not None and not c.is_reference
        ]
        if len(value) > 1:
            (low, lowest), (high, highest) = min(value), max(value)
            phrases.append(
                f"Among the kept at keep {keep:g}: {100 * low:.1f}% ({lowest}) to {100 * high:.1f}% ({highest})."
            )
    return " ".join(phrases)


def _expensive(table: Table, scenario: str) -> str:
    """A sentence for a table in which one pruned run with its scoring costs no less than full training, else ``""``."""
    full = table.full(scenario)
    cells = [cell for cell in table.of(scenario) if not cell.is_reference]
    if full is None or any(cell.relative_passes is None or cell.relative_passes < 1 for cell in cells):
        return ""
    text = " Including scoring, a single run of any method costs at least as much as full training"
    if all(cell.accuracy.mean < full.accuracy.mean for cell in cells):
        text += f", which is more accurate ({percent(full.accuracy)}%): pruning can pay off only over several runs"
    return text + "."


def _against(table: Table, scenario: str, field: str, name: str, single: bool) -> str:
    compared, won, lost = [], [], []
    for keep in table.keeps(scenario):
        cells = [c for c in table.of(scenario, keep=keep) if not c.is_reference and getattr(c, field) is not None]
        if not cells:
            continue
        compared.append(keep)
        best = [cell for cell in cells if getattr(cell, field).sign > 0]
        if best:
            top = max(best, key=lambda cell: cell.accuracy.mean)
            of = f", the best of {len(cells)}" if len(cells) > MAX_WITHOUT_WARNING else ""
            won.append(f"at keep {keep:g} ({top.label}, {points(getattr(top, field)).split(' ')[0]} points{of})")
        elif all(getattr(cell, field).outcome == "loses" for cell in cells):
            lost.append(f"{keep:g}")
    if not compared:
        return f"No comparison with {name}: it was not run."
    verb = "was ahead of" if single else "beats"
    if not won:
        places = f"keep {compared[0]:g}" if len(compared) == 1 else "any keep"
        text = f"No method {verb} {name} at {places}"
    else:
        text = f"Pruning {verb} {name} {listed(won)}"
        if len(won) < len(compared):
            text += f", {len(won)} of {len(compared)} keeps"
    highest = max(len(table.of(scenario, keep=keep)) for keep in compared)
    if won and not single and highest > MAX_WITHOUT_WARNING:
        # Selection on the same seeds that are reported is optimistic.
        text += " (the best of many is picked partly by chance: confirm it on new seeds)"
    if lost:
        text += f"; at keep {listed(lost)} every method loses to it"
    return text + "."


def name_of(cell: TableCell | Lost) -> str:
    """The method's name; the shorter full run is named as such, whatever its label."""
    return cell.label if cell.method != SHORTER or "full" in cell.label.lower() else f"{cell.label} (shorter full run)"


def provenance(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values of where numbers come from."""
    versions = row.get("versions") or {}
    entries = [("commit", row.get("commit") or "none"), ("device", row.get("device", ""))]
    entries += [("threads", row.get("threads", "")), ("dataset fingerprint", row.get("fingerprint", ""))]
    return [(name, str(value)) for name, value in [*entries, *versions.items()] if value not in ("", None)]
