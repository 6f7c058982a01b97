"""Several arenas side by side: what choosing gains over the shorter full run, against passes per example."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from datawinnow.core.errors import RunError
from datawinnow.report import words
from datawinnow.report.results import ROWS, Row, file_of, rows
from datawinnow.report.statistics import Difference, Interval
from datawinnow.report.svg import INK, MARKERS, MUTED, SERIES, panels, styled, to_svg
from datawinnow.report.table import CLEAN, SHORTER, Cell, table

SAYS = (
    "Above the line it is worth choosing, below it all the data for fewer epochs is better. Each point is an arena and "
    "a budget, at equal examples passed; bars: 95% over paired seeds. One seed has no bar."
)


@dataclass(frozen=True)
class Arm:
    """One method at one budget of one arena, over its seeds.

    Attributes:
        arena: name of the arena, with the scenario where it is not clean.
        n: examples there.
        budget: passes over all the examples.
        method: its key.
        label: its name for people.
        seeds: those with an accuracy.
        accuracy: fraction right after the last epoch.
        gain: over the shorter full run of the same budget, paired by seed; None for that run itself.
        needs: passes that the shorter full run needs for this mean accuracy, interpolated over the logarithm of its
            budgets; None outside them, or with one budget.
        beyond: the longest of those budgets where the shorter full run has a lower mean at every one of them, and that
            is longer than this; None elsewhere.
        beforehand: passes paid once beside the budget, as for a plan that other runs train by again; 0 where the
            budget pays for everything.
        chooses: whether it chooses what to train on; False where every epoch was all the data, as in a control by
            another loss or learning rate.
        scenario: its name, which stands in ``arena`` too where it is not clean.
    """

    arena: str
    n: int
    budget: float
    method: str
    label: str
    seeds: tuple[int, ...]
    accuracy: Interval
    gain: Difference | None
    needs: float | None
    beyond: float | None = None
    beforehand: float = 0.0
    chooses: bool = True
    scenario: str = CLEAN

    @property
    def fair(self) -> bool:
        """Whether it may win: a choice of examples for which the budget pays everything."""
        return self.gain is not None and self.chooses and not self.beforehand

    @property
    def saves(self) -> float | None:
        """Passes that the shorter full run needs, over those of this arm; above 1 where choosing saves.

        Where it needs more than anybody has measured, or where no length of it is enough, the most that was measured.
        """
        needs = self.beyond if self.needs is None else self.needs
        return None if needs is None else needs / self.budget

    @property
    def pays_back(self) -> float | None:
        """Runs after which what was paid beforehand is saved; infinite for never, None where nobody knows."""
        if self.needs is None or not self.beforehand:
            return None
        saved = self.needs - self.budget
        return self.beforehand / saved if saved > 0 else math.inf


def is_contest(path: Path) -> bool:
    """Whether ``path`` is a folder of arenas: no rows of its own, but folders that have some."""
    return path.is_dir() and not (path / ROWS).exists() and any(path.glob(f"*/{ROWS}"))


def arms(path: Path) -> list[Arm]:
    """Every arm of every arena in a folder, in the order of the arenas' names and of their rows.

    Raises:
        RunError: a file of rows is damaged, or there is none.
    """
    folders = sorted(file.parent for file in path.glob(f"*/{ROWS}"))
    if not folders:
        raise RunError(f"no arenas at {path}: make some with: datawinnow bench benchmarks/contest.toml --out {path}")
    return [arm for folder in folders for arm in _of(folder.name, rows(file_of(folder)))]


def _of(arena: str, given: Sequence[Row]) -> list[Arm]:
    found = table(given)
    # an epoch of all the data passes n
    choose = {row["method"] for row in given if row["accuracy"] is not None and not _on_all(row)}
    epochs = float(found.about["epochs"])
    made = []
    for scenario in found.scenarios:
        n = found.sizes[scenario]
        name = arena if scenario == CLEAN else f"{arena}, {scenario}"
        curve = sorted((c.passes / n, c.accuracy.mean) for c in found.of(scenario, method=SHORTER))
        cells = sorted(found.of(scenario), key=lambda c: c.keep)
        found_here = [_arm(name, n, cell, round(cell.keep * epochs, 6), curve, cell.method in choose) for cell in cells]
        made += [replace(arm, scenario=scenario) for arm in found_here]
    return made


def _on_all(row: Row) -> bool:
    """Whether every epoch of a row was on all the data: one that chooses makes more epochs of as many passes."""
    more = row["trained_epochs"] - row["passes"] / row["n"]  # less than half a batch is left out at the end
    return bool(row["total_passes"] == row["passes"] and abs(more) < HALF_AN_EPOCH)


HALF_AN_EPOCH = 0.5
"""Epochs more than its passes over all the data that a run must make to have chosen."""
HALF_A_BATCH = 0.01
"""Share of a budget that an arm may pass beyond it for want of a smaller step."""


def _arm(arena: str, n: int, cell: Cell, budget: float, curve: Sequence[tuple[float, float]], chooses: bool) -> Arm:
    gain = None if cell.method == SHORTER else cell.to_shorter
    needs = None if cell.method == SHORTER else needed(curve, cell.accuracy.mean)
    beside = round(cell.total_passes / n - budget, 6)
    beforehand = beside if beside > HALF_A_BATCH * budget else 0.0
    above = gain is not None and needs is None and all(mean < cell.accuracy.mean for _, mean in curve)
    beyond = curve[-1][0] if above and curve and curve[-1][0] > budget * (1 + HALF_A_BATCH) else None
    return Arm(
        arena, n, budget, cell.method, cell.label, cell.seeds, cell.accuracy, gain, needs, beyond, beforehand, chooses
    )


def needed(curve: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """Passes at which a curve of (passes, accuracy), sorted, first reaches an accuracy; None if outside of it.

    >>> needed([(15, 0.70), (60, 0.80)], 0.75)
    30.0
    """
    for (before, low), (after, high) in itertools.pairwise(curve):
        if low <= accuracy <= high and high > low:
            share = (accuracy - low) / (high - low)
            return round(math.exp((1 - share) * math.log(before) + share * math.log(after)), 6)
    return None


def contest_context(path: Path) -> dict[str, Any]:
    """What the page of a contest shows."""
    found = arms(path)
    names = list(dict.fromkeys(arm.arena for arm in found))
    return {
        "title": path.name,
        "about": "Every arm passes as many examples as all the data for fewer epochs, everything counted but what "
        "is told to be paid beforehand.",
        "says": verdict(found),
        "figure": {"svg": the_map(found), "title": "When does choosing pay?", "says": SAYS},
        "needed": needed_by,
        "arenas": [(name, [arm for arm in found if arm.arena == name]) for name in names],
    }


HALVES = 2.0
"""From so many times the passes on, that choosing saves is worth a sentence."""


def halved(found: Sequence[Arm]) -> list[str]:
    """Where the shorter full run needs at least twice the passes for what choosing reaches, in words.

    Only where choosing beats it at equal passes beyond noise: else fewer passes may do as well. Of every arena the arm
    that saves most.
    """
    said = []
    for arena in dict.fromkeys(arm.arena for arm in found if not arm.arena.endswith(TUNING)):
        here = [arm for arm in found if arm.arena == arena and arm.fair and _sure(arm)]
        best = max(here, key=lambda arm: (arm.saves or 0.0, arm.accuracy.mean), default=None)
        if best is not None and best.saves is not None and best.saves >= HALVES:
            said.append(f"{arena} ({best.label}, {best.budget:g} passes: all the data need {_needs(best)})")
    return said


def verdict(found: Sequence[Arm]) -> str:
    """Where choosing beats the shorter full run with five seeds, and where it does not, in words.

    Controls and what was paid for beside the budget are in the tables, and win nothing; nor does an arena that tunes.
    """
    won, open_, lost = [], [], []
    for arena in dict.fromkeys(arm.arena for arm in found if not arm.arena.endswith(TUNING)):
        for budget in dict.fromkeys(arm.budget for arm in found if arm.arena == arena):
            here = [a for a in found if (a.arena, a.budget) == (arena, budget) and a.fair]
            place = f"{arena} at {budget:g} passes"
            best = max((a for a in here if _sure(a)), key=lambda a: a.accuracy.mean, default=None)
            if best is not None and best.gain is not None:
                settled = sum(len(a.seeds) >= CLAIM for a in here)
                of = f", the best of {settled}" if settled > 1 else ""
                won.append(f"{place} ({best.label}, {words.points(best.gain)} points{of})")
            elif here and all(len(a.seeds) >= CLAIM for a in here):
                lost.append(place)
            elif here:
                open_.append(place)
    parts = []
    if won:
        parts.append(f"Choosing beats all the data for fewer epochs in {words.listed(won)}.")
    if half := halved(found):
        parts.append(f"Half the passes or fewer are enough in {words.listed(half)}.")
    if lost:
        parts.append(f"Nothing beats it in {words.listed(lost)}.")
    if open_:
        parts.append(f"Not settled (fewer than {CLAIM} seeds): {words.listed(open_)}.")
    return " ".join(parts) or "There is nothing to compare yet."


CLAIM = 5
"""Seeds that a claim needs."""
TUNING = "tuning"
"""How the names of arenas end that are for choosing learning rates."""


def _sure(arm: Arm) -> bool:
    return arm.gain is not None and len(arm.seeds) >= CLAIM and arm.gain.verdict == "wins"


def the_map(found: Sequence[Arm], most: int = 6) -> Markup:
    """Gain over the shorter full run against passes per example, a colour a method, a marker an arena.

    Clean data and changed ones have a panel each, since what wrong labels cost is another scale. Drawn are the methods
    that choose and stand in most places, the best of them first; all are in the tables.
    """
    compared = [arm for arm in found if arm.gain is not None and arm.chooses and not arm.arena.endswith(TUNING)]
    places = {m: [a for a in compared if a.method == m] for m in dict.fromkeys(a.method for a in compared)}
    chosen = sorted(places, key=lambda m: (-len(places[m]), -sum(_gain(a) for a in places[m]) / len(places[m])))[:most]
    drawn = [arm for arm in compared if arm.method in chosen]
    arenas = list(dict.fromkeys(arm.arena for arm in drawn))
    sides = {"clean": [a for a in drawn if a.scenario == CLEAN], "changed": [a for a in drawn if a.scenario != CLEAN]}
    sides = {title: of for title, of in sides.items() if of} or {"clean": []}
    with styled():
        figure, panes = panels(len(sides), 4.0 + 3.2 * len(sides), 3.6)
        for axes, (title, here) in zip(panes, sides.items(), strict=True):
            _panel(axes, here, chosen, arenas)
            axes.set_title(title if len(sides) > 1 else "", loc="left", fontsize=9, color=MUTED)
        panes[0].set_ylabel("points over all the data for as many passes")
        marks: list[Any] = [
            Line2D([], [], color=SERIES[i % len(SERIES)], linewidth=3, label=places[method][0].label)
            for i, method in enumerate(chosen)
        ]
        marks += [
            Line2D([], [], color=MUTED, linestyle="none", marker=MARKERS[i % len(MARKERS)], label=arena)
            for i, arena in enumerate(arenas)
        ]
        if marks:
            figure.legend(handles=marks, frameon=False, fontsize=8, loc="outside right center")
        return to_svg(figure, "map")


def _panel(axes: Axes, here: Sequence[Arm], chosen: Sequence[str], arenas: Sequence[str]) -> None:
    axes.axhline(0, color=INK, linewidth=1)
    for i, method in enumerate(chosen):
        shift = 1 + 0.03 * (i - (len(chosen) - 1) / 2)  # side by side, not on top of each other
        for j, arena in enumerate(arenas):
            points = sorted((a for a in here if (a.arena, a.method) == (arena, method)), key=lambda a: a.budget)
            if points:
                x, y = [a.budget * shift for a in points], [_gain(a) for a in points]
                axes.errorbar(x, y, [_reach(a) for a in points], color=SERIES[i % len(SERIES)], markersize=5,
                              marker=MARKERS[j % len(MARKERS)], linewidth=1.2, elinewidth=1)  # fmt: skip
    if budgets := sorted({round(arm.budget, 6) for arm in here}):
        axes.set_xscale("log")
        axes.set_xticks(budgets, [f"{b:g}" for b in budgets])
        axes.set_xticks([], minor=True)
    axes.set_xlabel("passes per example")


def _gain(arm: Arm) -> float:
    assert arm.gain is not None, arm.method
    return 100 * arm.gain.interval.mean


def _reach(arm: Arm) -> float:
    half = 0.0 if arm.gain is None else arm.gain.interval.half
    return 100 * half if half is not None and math.isfinite(half) else 0.0


def needed_by(arm: Arm) -> str:
    """The passes that the shorter full run needs for as much, and what was paid beforehand, in words."""
    return "-" if arm.saves is None else f"{_needs(arm)} ({_factor(arm)}){_beforehand(arm)}"


def _needs(arm: Arm) -> str:
    return f"more than {arm.beyond:g} passes" if arm.needs is None else f"{arm.needs:.1f} passes"


def _factor(arm: Arm) -> str:
    return f"{'over ' if arm.needs is None else ''}{arm.saves:.2f}x"


def _beforehand(arm: Arm) -> str:
    if arm.pays_back is None:
        return ""
    after = "never pays back" if math.isinf(arm.pays_back) else f"pays back after {arm.pays_back:.1f} runs"
    return f"; {arm.beforehand:.1f} paid beforehand: {after}"


def contest_markdown(path: Path) -> str:
    """The verdict and a table an arena, as Markdown."""
    found = arms(path)
    out = [verdict(found), ""]
    for arena in dict.fromkeys(arm.arena for arm in found):
        out += [f"**{arena}**", "", "| passes | method | seeds | accuracy % | gain, points | reference needs |"]
        out.append("| --- | --- | --- | --- | --- | --- |")
        for arm in (a for a in found if a.arena == arena):
            gain = "-" if arm.gain is None else f"{words.points(arm.gain)} {words.mark(arm.gain)}"
            cells = [
                f"{arm.budget:g}",
                arm.label,
                str(len(arm.seeds)),
                words.percent(arm.accuracy),
                gain,
                needed_by(arm),
            ]
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)
