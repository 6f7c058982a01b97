"""Several arenas side by side: what choosing gains over the shorter full run, against passes per example."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from datawinnow.core.errors import RunError
from datawinnow.core.interval import best_of
from datawinnow.report import words
from datawinnow.report.results import ROWS, Row, file_of, rows
from datawinnow.report.statistics import Difference, Interval, difference
from datawinnow.report.svg import INK, MARKERS, MUTED, SERIES, panels, styled, to_svg
from datawinnow.report.table import CLEAN, SHORTER, Cell, table

SAYS = (
    "Above the line it is worth choosing, below it all the data for fewer epochs is better. Each point is an arena and "
    "a budget, against the best of all the data for no more passes; bars: 95% over paired seeds. One seed has no bar."
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
        gain: over the shorter full run of the same budget, or of a smaller one where that did better (with wrong labels
            it may), paired by seed; None for that run itself.
        against: the budget of that run.
        peak: the budget at which the shorter full run has its highest mean.
        needs: passes after which the best of all shorter full runs so far has this mean accuracy, interpolated over the
            logarithm of their budgets; None outside them, or with one budget.
        beyond: the longest of those budgets where the shorter full run is worse, beyond noise, at every one of them and
            the longest is longer than this; None elsewhere.
        beforehand: passes paid once beside the budget, as for a plan that other runs train by again; 0 where the
            budget pays for everything.
        chooses: whether it chooses what to train on; False where every epoch was all the data, as in a control by
            another loss or learning rate.
        rivals: arms of the same arena and budget that choose and have seeds enough for a claim, this among them; who is
            the best of many must win by more.
        seconds: of a run, all of it, on the wall; machines are busy.
        flops: of a run, a proxy's included.
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
    against: float | None = None
    peak: float | None = None
    rivals: int = 1
    seconds: float = 0.0
    flops: float = 0.0

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
    found = [arm for folder in folders for arm in _of(folder.name, rows(file_of(folder)))]
    places = Counter((arm.arena, arm.budget) for arm in found if arm.fair and len(arm.seeds) >= CLAIM)
    return [replace(arm, rivals=max(1, places[arm.arena, arm.budget])) for arm in found]


@dataclass(frozen=True)
class _Reference:
    """All the data for fewer epochs, at one budget."""

    budget: float
    passes: float
    accuracy: dict[int, float]

    @property
    def mean(self) -> float:
        return sum(self.accuracy.values()) / len(self.accuracy)


@dataclass(frozen=True)
class _Arena:
    """One scenario of an arena: what its arms are compared with."""

    name: str
    scenario: str
    n: int
    epochs: float
    accuracies: dict[tuple[str, float], dict[int, float]]

    def references(self) -> list[_Reference]:
        """By budget."""
        own = [(keep, seeds) for (method, keep), seeds in self.accuracies.items() if method == SHORTER]
        return [_Reference(round(k * self.epochs, 6), k * self.epochs, seeds) for k, seeds in sorted(own, key=_first)]


def _first(pair: tuple[float, Any]) -> float:
    return pair[0]


def _of(arena: str, given: Sequence[Row]) -> list[Arm]:
    found = table(given)
    reached = [row for row in given if row["accuracy"] is not None]
    choose = {row["method"] for row in reached if not _on_all(row)}
    made = []
    for scenario in found.scenarios:
        accuracies: dict[tuple[str, float], dict[int, float]] = {}
        for row in reached:
            if row["scenario"] == scenario:
                accuracies.setdefault((row["method"], row["keep"]), {})[row["seed"]] = float(row["accuracy"])
        name = arena if scenario == CLEAN else f"{arena}, {scenario}"
        here = _Arena(name, scenario, found.sizes[scenario], float(found.about["epochs"]), accuracies)
        cells = sorted(found.of(scenario), key=lambda c: c.keep)
        made += [_arm(here, cell, chooses=cell.method in choose) for cell in cells]
    return made


def _on_all(row: Row) -> bool:
    """Whether every epoch of a row was on all the data: one that chooses makes more epochs of as many passes."""
    more = row["trained_epochs"] - row["passes"] / row["n"]  # less than half a batch is left out at the end
    return bool(row["total_passes"] == row["passes"] and abs(more) < HALF_AN_EPOCH)


HALF_AN_EPOCH = 0.5
"""Epochs more than its passes over all the data that a run must make to have chosen."""
HALF_A_BATCH = 0.01
"""Share of a budget that an arm may pass beyond it for want of a smaller step."""


def _arm(arena: _Arena, cell: Cell, *, chooses: bool) -> Arm:
    budget = round(cell.keep * arena.epochs, 6)
    beside = round(cell.total_passes / arena.n - budget, 6)
    arm = Arm(
        arena=arena.name,
        n=arena.n,
        budget=budget,
        method=cell.method,
        label=cell.label,
        seeds=cell.seeds,
        accuracy=cell.accuracy,
        gain=None,
        needs=None,
        beforehand=beside if beside > HALF_A_BATCH * budget else 0.0,
        chooses=chooses,
        scenario=arena.scenario,
        seconds=sum(cell.seconds.values()),
        flops=cell.flops,
    )
    return arm if cell.method == SHORTER else _compared(arm, arena, arena.accuracies[cell.method, cell.keep])


def _compared(arm: Arm, arena: _Arena, own: dict[int, float]) -> Arm:
    """With what it gains: over the best of the references that pass no more."""
    references = arena.references()
    same = [one for one in references if one.budget == arm.budget and one.accuracy.keys() & own.keys()]
    if not same:
        return arm
    seeds = own.keys() & same[0].accuracy.keys()
    shorter = [one for one in references if one.budget <= arm.budget and seeds <= one.accuracy.keys()]
    best = max(shorter, key=lambda one: sum(one.accuracy[seed] for seed in seeds))
    against_all = [difference(own, one.accuracy) for one in references]
    above = all(found is not None and found.verdict == "wins" for found in against_all)
    longest = references[-1].budget
    return replace(
        arm,
        gain=difference(own, best.accuracy),
        against=best.budget,
        needs=needed([(one.passes, one.mean) for one in references], arm.accuracy.mean),
        beyond=longest if above and longest > arm.budget else None,
        peak=max(references, key=lambda one: one.mean).budget,
    )


def needed(curve: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """Passes at which a curve of (passes, accuracy), sorted, first reaches an accuracy; None if outside of it.

    >>> needed([(15, 0.70), (60, 0.80)], 0.75)
    30.0
    >>> needed([(10, 0.95), (30, 0.93), (60, 0.94)], 0.935)  # reached before it begins
    """
    best = curve[0][1] if curve else math.inf  # of all so far: a shorter run may be better than a longer one
    for (before, _), (after, high) in itertools.pairwise(curve):
        if best <= accuracy <= high and best < high:
            share = (accuracy - best) / (high - best)
            return round(math.exp((1 - share) * math.log(before) + share * math.log(after)), 6)
        best = max(best, high)
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
        "gained": gained,
        "arenas": [(name, [arm for arm in found if arm.arena == name]) for name in names],
    }


HALVES = 2.0
"""From so many times the passes on, that choosing saves is worth a sentence."""


def halved(found: Sequence[Arm]) -> list[str]:
    """Where the shorter full run needs at least twice the passes for what choosing reaches, in words.

    Only where choosing beats it at no more passes, beyond noise, and where more passes are of use to it: else fewer may
    do as well. Of every arena the arm that saves most.
    """
    return [
        f"{arm.arena} ({arm.label}, {arm.budget:g} passes: all the data need {_needs(arm)})"
        for arm in _most(found, lambda arm: arm.needs is not None or (arm.peak or 0.0) >= HALVES * arm.budget)
        if (arm.saves or 0.0) >= HALVES
    ]


def unreached(found: Sequence[Arm]) -> list[str]:
    """Where every length of the shorter full run, longer ones too, stays below what choosing reaches, in words."""
    return [
        f"{arm.arena} ({arm.label}, {arm.budget:g} passes; all the data up to {arm.beyond:g} were tried)"
        for arm in _most(found, lambda arm: arm.beyond is not None and (arm.peak or 0.0) < HALVES * arm.budget)
    ]


def _most(found: Sequence[Arm], which: Callable[[Arm], bool]) -> list[Arm]:
    """Of every arena that tunes nothing the surest winner that saves most, of some."""
    best: dict[str, Arm] = {}
    for arm in found:
        if arm.fair and _sure(arm) and not arm.arena.endswith(TUNING) and which(arm):
            other = best.get(arm.arena)
            if other is None or (arm.saves or 0, arm.accuracy.mean) > (other.saves or 0, other.accuracy.mean):
                best[arm.arena] = arm
    return list(best.values())


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
                of = f", the best of {best.rivals}" if best.rivals > 1 else ""
                won.append(f"{place} ({best.label}, {words.points(best.gain)} points{_other(best)}{of})")
            elif here and all(len(a.seeds) >= CLAIM for a in here):
                lost.append(place)
            elif here:
                open_.append(place)
    parts = []
    if won:
        parts.append(f"Choosing beats all the data for fewer epochs in {words.listed(won)}.")
    if half := halved(found):
        parts.append(f"Half the passes or fewer are enough in {words.listed(half)}.")
    if never := unreached(found):
        parts.append(f"No length of all the data reaches it in {words.listed(never)}.")
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
    """Whether it wins with enough seeds, and by more than the best of so many would by chance."""
    if arm.gain is None or len(arm.seeds) < CLAIM or arm.gain.verdict != "wins":
        return False
    found = arm.gain.interval
    return found.half is not None and found.mean > best_of(found.half, found.n, arm.rivals)


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
        panes[0].set_ylabel("points over all the data, no more passes")
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


def gained(arm: Arm) -> str:
    """The gain in points, and against which budget where that is a smaller one."""
    return f"{words.points(arm.gain)}{_other(arm)}"


def _other(arm: Arm) -> str:
    return "" if arm.against in (None, arm.budget) else f" against {arm.against:g} passes"


def needed_by(arm: Arm) -> str:
    """The passes that the shorter full run needs for as much, and what was paid beforehand, in words.

    Not where the two cannot be told apart: then nobody knows what it needs.
    """
    apart = arm.gain is not None and arm.gain.verdict in ("wins", "loses")
    found = f"{_needs(arm)} ({_factor(arm)})" if apart and arm.saves is not None else "-"
    return found + _beforehand(arm)


def _needs(arm: Arm) -> str:
    return f"more than {arm.beyond:g} passes" if arm.needs is None else f"{arm.needs:.1f} passes"  # or none is enough


def _factor(arm: Arm) -> str:
    return f"{'over ' if arm.needs is None else ''}{arm.saves:.2f}x"


def _beforehand(arm: Arm) -> str:
    if not arm.beforehand:
        return ""
    paid, apart = f"; {arm.beforehand:.1f} paid beforehand", arm.gain is not None and arm.gain.verdict == "wins"
    if arm.pays_back is None or not (apart or math.isinf(arm.pays_back)):
        return paid
    return paid + (": never pays back" if math.isinf(arm.pays_back) else f": pays back after {arm.pays_back:.1f} runs")


def contest_markdown(path: Path) -> str:
    """The verdict and a table an arena, as Markdown."""
    found = arms(path)
    out = [verdict(found), ""]
    for arena in dict.fromkeys(arm.arena for arm in found):
        head = "passes | method | seeds | accuracy % | gain, points | reference needs | operations | seconds"
        out += [f"**{arena}**", "", f"| {head} |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
        for arm in (a for a in found if a.arena == arena):
            gain = "-" if arm.gain is None else f"{gained(arm)} {words.mark(arm.gain)}"
            cells = [
                f"{arm.budget:g}",
                arm.label,
                str(len(arm.seeds)),
                words.percent(arm.accuracy),
                gain,
                needed_by(arm),
                words.flops(arm.flops),
                words.seconds(arm.seconds),
            ]
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)
