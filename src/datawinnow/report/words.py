"""Numbers and findings as words: one way to say each thing, on the page, in the terminal and in the log."""

from __future__ import annotations

import math
from collections.abc import Sequence

from datawinnow.report.statistics import Difference, Interval
from datawinnow.report.table import FULL, REFERENCES, SHORTER, Cell, Lost, Table

NONE = "-"
MARKS = {"wins": "better", "loses": "LOSES", "within noise": "within noise"}
"""Verdicts as they stand in tables: losing is what a reader must not miss, so it shouts."""


def percent(found: Interval | None, digits: int = 1) -> str:
    """A fraction as a percentage with its interval: ``81.2 ± 0.6``."""
    if found is None:
        return NONE
    return f"{100 * found.mean:.{digits}f}" + ("" if found.half is None else f" ± {100 * found.half:.{digits}f}")


def points(found: Difference | None) -> str:
    """A difference in percentage points: ``+0.8 ± 0.5``; two digits where one would show a zero that is none."""
    if found is None:
        return NONE
    sizes = [100 * abs(found.interval.mean)] + ([] if found.interval.half is None else [100 * found.interval.half])
    digits = 2 if any(0 < size < 0.05 for size in sizes) else 1
    half = "" if found.interval.half is None else f" ± {100 * found.interval.half:.{digits}f}"
    return f"{100 * found.interval.mean:+.{digits}f}{half}"


def mark(found: Difference | None) -> str:
    """The verdict as a word."""
    return "" if found is None else MARKS.get(found.verdict, found.verdict)


def seeds(count: int) -> str:
    """``1 seed`` or ``5 seeds``."""
    return f"{count} seed{'' if count == 1 else 's'}"


def seeds_of(cell: Cell | Lost) -> str:
    """How many seeds a line rests on: ``1 seed``, ``3``, or ``2 of 3 seeds; 1 diverged``."""
    count, lost = len(cell.seeds), len(cell.diverged)
    if lost:
        return f"{count} of {seeds(count + lost)}; {lost} diverged"
    return seeds(1) if count == 1 else str(count)


def diverged(table: Table, scenario: str) -> str:
    """What has fewer seeds than were run, or none, as a sentence; empty where nothing diverged."""
    said = [
        f"{name_of(cell)}{'' if cell.method == FULL else f' at keep {cell.keep:g}'} "
        f"({len(cell.diverged)} of {seeds(len(cell.seeds) + len(cell.diverged))})"
        for cell in table.lines(scenario)
        if cell.diverged
    ]
    return f" Training diverged, and counts in no mean: {listed(said)}." if said else ""


def ratio(value: float | None) -> str:
    """A cost relative to full training as a percentage."""
    return NONE if value is None else f"{100 * value:.0f}%" if value >= 0.0995 else f"{100 * value:.1f}%"


def share(value: float) -> str:
    """A part of a whole, as a percentage that is 0 or 100 only where it is: ``12%``, ``3.4%``, ``under 0.1%``."""
    hundred = 100 * float(value)
    if 0 < hundred < 0.1:
        return "under 0.1%"
    if 99.9 < hundred < 100:
        return "over 99.9%"
    return f"{hundred:.1f}%" if 0 < hundred < 9.95 or 99 <= hundred < 100 else f"{hundred:.0f}%"


def many(number: float, what: str) -> str:
    """``1 epoch``, ``20 epochs``."""
    return f"{count(number)} {what}{'' if number == 1 else 's'}"


def pays_back(runs: float | None) -> str:
    """Break-even as a phrase: ``after 2.3 runs``, ``never``, ``at once``."""
    if runs is None:
        return NONE
    if math.isinf(runs):
        return "never"
    if runs == 0:
        return "at once"
    digits = 1 if runs < 99.95 else 0
    return f"after {runs:,.{digits}f} run{'' if f'{runs:.1f}' == '1.0' else 's'}"


def count(value: float) -> str:
    """A whole number with thousands separated; short from a million up."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}" if value / size < 999.5 else f"{value / size:,.0f} {letter}"
    return f"{value:,.0f}"


def flops(value: float) -> str:
    """FLOPs with an SI prefix; a dash where none were counted."""
    if not value > 0:
        return NONE
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


FEW = 5
"""Methods at a keep up to which the best of them is told without a warning that it was picked."""


def headline(table: Table, scenario: str) -> str:
    """What the data of a scenario say of pruning against its two references, in one or two sentences.

    Only differences whose 95% interval excludes 0 count as won or lost; with one seed the sentence says so.
    """
    contenders = [cell for cell in table.of(scenario) if not cell.is_reference]
    if not contenders:
        if any(cell.method not in REFERENCES for cell in table.lines(scenario)):
            return "No pruning method has an accuracy." + diverged(table, scenario)
        return "There are no pruning methods in these results, only references." + diverged(table, scenario)
    single = all(len(cell.seeds) == 1 for cell in contenders)
    said = [
        _against(table, scenario, field, name, single)
        for field, name in (("to_shorter", "the shorter full run"), ("to_random", "random choice"))
    ]
    noise = " With 1 seed this may be noise." if single else ""
    return " ".join(said) + _expensive(table, scenario) + noise + diverged(table, scenario)


def changed(table: Table, scenario: str) -> str:
    """What share of the examples a scenario changed, and which methods keep fewest and most; ``""`` where none is."""
    share = table.changed.get(scenario)
    if share is None:
        return ""
    what = "are of the rarer half of the classes" if scenario.startswith("long_tail") else "were changed"
    said = [f"{100 * share:.1f}% of the examples {what}."]
    for keep in table.keeps(scenario):
        found = [(c.changed_kept.mean, name_of(c)) for c in table.of(scenario, keep=keep)
                 if c.changed_kept is not None and not c.is_reference]  # fmt: skip
        if len(found) > 1:
            (low, least), (high, most) = min(found), max(found)
            said.append(
                f"Of those kept at keep {keep:g} it is {100 * low:.1f}% ({least}) to {100 * high:.1f}% ({most})."
            )
    return " ".join(said)


def _expensive(table: Table, scenario: str) -> str:
    """A sentence for a table in which one pruned run with its scoring costs no less than full training, else ``""``."""
    full = table.full(scenario)
    cells = [cell for cell in table.of(scenario) if not cell.is_reference]
    if full is None or any(cell.relative_passes is None or cell.relative_passes < 1 for cell in cells):
        return ""
    text = " With scoring, a single run of any method costs no less than full training"
    if all(cell.accuracy.mean < full.accuracy.mean for cell in cells):
        text += f", whose mean is higher ({percent(full.accuracy)}%): here pruning can pay only over several runs"
    return text + "."


def _against(table: Table, scenario: str, field: str, name: str, single: bool) -> str:
    good = ("ahead, 1 seed",) if single else ("wins",)
    compared, won, lost = [], [], []
    for keep in table.keeps(scenario):
        cells = [c for c in table.of(scenario, keep=keep) if not c.is_reference and getattr(c, field) is not None]
        if not cells:
            continue
        compared.append(keep)
        best = [cell for cell in cells if getattr(cell, field).verdict in good]
        if best:
            top = max(best, key=lambda cell: cell.accuracy.mean)
            of = f", the best of {len(cells)}" if len(cells) > FEW else ""
            won.append(f"at keep {keep:g} ({top.label}, {points(getattr(top, field)).split(' ')[0]} points{of})")
        elif all(getattr(cell, field).verdict == "loses" for cell in cells):
            lost.append(f"{keep:g}")
    if not compared:
        return f"There is nothing to compare with {name}: it was not run."
    verb = "was ahead of" if single else "beats"
    if not won:
        places = f"keep {compared[0]:g}" if len(compared) == 1 else "any keep"
        text = f"No method {verb} {name} at {places}"
    else:
        text = f"Pruning {verb} {name} {listed(won)}"
        if len(won) < len(compared):
            text += f", {len(won)} of {len(compared)} keeps"
    most = max(len(table.of(scenario, keep=keep)) for keep in compared)
    if won and not single and most > FEW:
        text += " (who is picked as the best of many is flattered: confirm it on seeds of its own)"
    if lost:
        text += f"; at keep {listed(lost)} every method loses to it"
    return text + "."


def by_keep(table: Table, scenario: str) -> list[str]:
    """One sentence a keep: the best method, and how it stands against the references."""
    lines = []
    for keep in table.keeps(scenario):
        cells = [cell for cell in table.of(scenario, keep=keep) if not cell.is_reference]
        if not cells:
            continue
        best = max(cells, key=lambda cell: cell.accuracy.mean)
        parts = [
            f"{points(found)} points against {name} ({mark(found).lower()})"
            for found, name in ((best.to_shorter, "the shorter full run"), (best.to_random, "random"))
            if found is not None
        ]
        cost = (
            "" if best.relative_passes is None else f", at {ratio(best.relative_passes)} of the cost of full training"
        )
        text = f"Keep {keep:g}: {best.label} has the highest mean, {percent(best.accuracy)}%{cost}"
        lines.append(text + (f"; {' and '.join(parts)}" if parts else "") + ".")
    return lines


def name_of(cell: Cell | Lost) -> str:
    """The method's name; the shorter full run is told apart whatever its label."""
    return cell.label if cell.method != SHORTER or "full" in cell.label.lower() else f"{cell.label} (shorter full run)"
