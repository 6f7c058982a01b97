"""Several settings side by side: what choosing gains over the shorter full run, against passes per example."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datawinnow.core.errors import RunError
from datawinnow.core.interval import best_of
from datawinnow.report.results import ROWS, Row, file_of, rows
from datawinnow.report.statistics import Difference, Interval, difference
from datawinnow.report.table import CLEAN, SHORTER, Cell, table

CLAIM = 5
"""Seeds that a claim needs."""
TUNING = "tuning"
"""How the names of settings end that are for choosing learning rates."""


@dataclass(frozen=True)
class Arm:
    """One method at one budget of one setting, over its seeds.

    Attributes:
        setting: name of the setting, with the scenario where it is not clean.
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
        upper_bound_epochs: the longest of those budgets, where the shorter full run is worse beyond noise at all
            and the longest is longer than this budget; None elsewhere.
        upfront_cost: passes paid once beside the budget, as for a plan that other runs train by again; 0 where the
            budget pays for everything.
        chooses: whether it chooses what to train on; False where every epoch was all the data, as in a control by
            another loss or learning rate.
        num_candidates: methods that choose, with enough seeds for a claim, at this setting and budget, this one
            included; the best of many must win by more.
        seconds: of a run, all of it, on the wall; machines are busy.
        flops: of a run, a proxy's included.
        scenario: its name, which stands in ``setting`` too where it is not clean.
    """

    setting: str
    n: int
    budget: float
    method: str
    label: str
    seeds: tuple[int, ...]
    accuracy: Interval
    gain: Difference | None
    needs: float | None
    upper_bound_epochs: float | None = None
    upfront_cost: float = 0.0
    chooses: bool = True
    scenario: str = CLEAN
    against: float | None = None
    peak: float | None = None
    num_candidates: int = 1
    seconds: float = 0.0
    flops: float = 0.0

    @property
    def fair(self) -> bool:
        """Whether it may win: a choice of examples for which the budget pays everything."""
        return self.gain is not None and self.chooses and not self.upfront_cost

    @property
    def saves(self) -> float | None:
        """Passes that the shorter full run needs, over those of this arm; above 1 where choosing saves.

        Where it needs more than anybody has measured, or where no length of it is enough, the most that was measured.
        """
        needs = self.upper_bound_epochs if self.needs is None else self.needs
        return None if needs is None else needs / self.budget

    @property
    def pays_back(self) -> float | None:
        """Runs after which what was paid beforehand is saved; infinite for never, None where nobody knows."""
        if self.needs is None or not self.upfront_cost:
            return None
        saved = self.needs - self.budget
        return self.upfront_cost / saved if saved > 0 else math.inf


def sure(arm: Arm) -> bool:
    """Whether it wins with enough seeds, and by more than the best of so many would by chance."""
    if arm.gain is None or len(arm.seeds) < CLAIM or arm.gain.verdict != "wins":
        return False
    found = arm.gain.interval
    return found.half is not None and found.mean > best_of(found.half, found.n, arm.num_candidates)


def is_comparison(path: Path) -> bool:
    """Whether ``path`` is a folder of settings: no rows of its own, but folders that have some."""
    return path.is_dir() and not (path / ROWS).exists() and any(path.glob(f"*/{ROWS}"))


def arms(path: Path) -> list[Arm]:
    """Every arm of every setting in a folder, in the order of the settings' names and of their rows.

    Raises:
        RunError: a file of rows is damaged, or there is none.
    """
    folders = sorted(file.parent for file in path.glob(f"*/{ROWS}"))
    if not folders:
        raise RunError(
            f"no settings at {path}: make some with: datawinnow bench benchmarks/comparison.toml --out {path}"
        )
    found = [arm for folder in folders for arm in _of(folder.name, rows(file_of(folder)))]
    places = Counter((arm.setting, arm.budget) for arm in found if arm.fair and len(arm.seeds) >= CLAIM)
    return [replace(arm, num_candidates=max(1, places[arm.setting, arm.budget])) for arm in found]


@dataclass(frozen=True)
class _Reference:
    """All the data for fewer epochs, at one budget."""

    budget: float
    accuracy: dict[int, float]

    @property
    def mean(self) -> float:
        return sum(self.accuracy.values()) / len(self.accuracy)


@dataclass(frozen=True)
class _Setting:
    """One scenario of a setting: what its arms are compared with."""

    name: str
    scenario: str
    n: int
    epochs: float
    accuracies: dict[tuple[str, float], dict[int, float]]

    def references(self) -> list[_Reference]:
        """By budget."""
        own = [(keep, seeds) for (method, keep), seeds in self.accuracies.items() if method == SHORTER]
        return [_Reference(round(keep * self.epochs, 6), seeds) for keep, seeds in sorted(own, key=lambda one: one[0])]


def _of(setting: str, given: Sequence[Row]) -> list[Arm]:
    found = table(given)
    reached = [row for row in given if row["accuracy"] is not None]
    choose = {row["method"] for row in reached if not _on_all(row)}
    made = []
    for scenario in found.scenarios:
        accuracies: dict[tuple[str, float], dict[int, float]] = {}
        for row in reached:
            if row["scenario"] == scenario:
                accuracies.setdefault((row["method"], row["keep"]), {})[row["seed"]] = float(row["accuracy"])
        name = setting if scenario == CLEAN else f"{setting}, {scenario}"
        here = _Setting(name, scenario, found.sizes[scenario], float(found.about["epochs"]), accuracies)
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


def _arm(setting: _Setting, cell: Cell, *, chooses: bool) -> Arm:
    budget = round(cell.keep * setting.epochs, 6)
    beside = round(cell.total_passes / setting.n - budget, 6)
    arm = Arm(
        setting=setting.name,
        n=setting.n,
        budget=budget,
        method=cell.method,
        label=cell.label,
        seeds=cell.seeds,
        accuracy=cell.accuracy,
        gain=None,
        needs=None,
        upfront_cost=beside if beside > HALF_A_BATCH * budget else 0.0,
        chooses=chooses,
        scenario=setting.scenario,
        seconds=sum(cell.seconds.values()),
        flops=cell.flops,
    )
    return arm if cell.method == SHORTER else _compared(arm, setting, setting.accuracies[cell.method, cell.keep])


def _compared(arm: Arm, setting: _Setting, own: dict[int, float]) -> Arm:
    """With what it gains: over the best of the references that pass no more."""
    references = setting.references()
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
        needs=needed([(one.budget, one.mean) for one in references], arm.accuracy.mean),
        upper_bound_epochs=longest if above and longest > arm.budget else None,
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
