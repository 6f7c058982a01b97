"""Several settings side by side: what choosing gains over the shorter full run, against passes per example."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from datawinnow.core.artifact_schemas import GridFile
from datawinnow.core.artifacts import read_json
from datawinnow.core.cost import break_even
from datawinnow.core.equal_accuracy import cost_factor, passes_needed
from datawinnow.core.errors import RunError
from datawinnow.core.interval import Interval, best_of
from datawinnow.core.result_rows import GRID_FILE, ROWS_FILE
from datawinnow.core.verdict import CLAIM_SEEDS, Comparison, ResultRow, compare, num_test, outcome_words, points
from datawinnow.report import words
from datawinnow.report.results import file_of, rows
from datawinnow.report.svg import INK, MARKERS, MUTED, SERIES, panels, styled, to_svg
from datawinnow.report.table import CLEAN, SHORTER, TableCell, table

TUNING = "tuning"
"""Ending of the names of settings that tune learning rates; they win nothing."""


@dataclass(frozen=True)
class MethodRun:
    """One method at one budget of one setting, over its seeds.

    Attributes:
        setting: name of the setting, with the scenario where it is not clean.
        n: number of examples.
        budget: passes over all the examples.
        method: its key.
        label: its name for people.
        seeds: seeds with an accuracy.
        accuracy: after the last epoch, a fraction.
        gain: comparison with the best shorter full run of no more passes, paired by seed; None for that run itself.
        against: budget of that reference.
        peak: budget at which the shorter full run has its highest mean.
        needs: passes at which the best shorter full run so far reaches this mean accuracy, interpolated over the
            logarithm of the budgets; None outside of them, or with one budget.
        factor: logarithm of the passes that the shorter full run needs over ``budget``, seed by seed, with its
            interval; None where a seed lies outside of its budgets.
        upper_bound_epochs: the longest of those budgets, where the shorter full run is worse beyond noise at all
            of them and the longest is longer than this budget; None elsewhere.
        upfront_cost: passes paid once beside the budget, as for a plan that other runs reuse; 0 where the budget pays
            for everything.
        chooses: whether it chooses what to train on; False for a control that trains every epoch on all the data with
            another loss or learning rate.
        num_candidates: methods that choose, with enough seeds for a claim, at this setting and budget, this one
            included; the best of many must win by more.
        seconds: wall-clock time of a run.
        flops: of a run, including those of a proxy.
        scenario: its name; also part of ``setting`` where it is not clean.
    """

    setting: str
    n: int
    budget: float
    method: str
    label: str
    seeds: tuple[int, ...]
    accuracy: Interval
    gain: Comparison | None
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
    factor: Interval | None = None

    @property
    def fair(self) -> bool:
        """Whether it may win: it chooses examples, and the budget pays for everything."""
        return self.gain is not None and self.chooses and not self.upfront_cost

    @property
    def saves(self) -> float | None:
        """Passes that the shorter full run needs over the passes of this run; above 1 where choosing saves.

        Where no measured length of the shorter full run is enough, the longest that was measured counts.
        """
        needs = self.upper_bound_epochs if self.needs is None else self.needs
        return None if needs is None else needs / self.budget

    @property
    def pays_back(self) -> float | None:
        """Runs after which the upfront cost is saved; infinite for never, None where unknown."""
        if self.needs is None or not self.upfront_cost:
            return None
        return break_even(self.upfront_cost, full=self.needs, pruned=self.budget)


def is_certain_win(run: MethodRun) -> bool:
    """Whether a run wins with enough seeds, and by more than the best of so many candidates would by chance."""
    if run.gain is None or len(run.seeds) < CLAIM_SEEDS or run.gain.outcome != "wins":
        return False
    gain = run.gain
    return gain.half is not None and gain.difference > best_of(gain.half, gain.num_seeds, run.num_candidates)


def is_comparison(path: Path) -> bool:
    """Whether ``path`` is a folder of settings: it has no rows, and folders in it have some."""
    return path.is_dir() and not (path / ROWS_FILE).exists() and any(path.glob(f"*/{ROWS_FILE}"))


def is_compared(runs: Sequence[MethodRun]) -> bool:
    """Whether any of the runs is beside a shorter full run of its setting."""
    return any(run.gain is not None for run in runs)


def read_runs(path: Path) -> list[MethodRun]:
    """Every method at every budget of every setting in a folder, by the names of the settings, then as their rows.

    Raises:
        RunError: a file of rows is damaged, or there is none.
    """
    folders = sorted(file.parent for file in path.glob(f"*/{ROWS_FILE}"))
    if not folders:
        raise RunError(
            f"no settings at {path}: make some with: datawinnow bench benchmarks/comparison.toml --out {path}"
        )
    rows_by_folder = {folder: rows(file_of(folder)) for folder in folders}
    references = _shared_references(rows_by_folder)
    runs = [
        run
        for folder, of_folder in rows_by_folder.items()
        for run in _runs_of_setting(folder.name, of_folder, references[folder])
    ]
    places = Counter((run.setting, run.budget) for run in runs if run.fair and len(run.seeds) >= CLAIM_SEEDS)
    return [replace(run, num_candidates=max(1, places[run.setting, run.budget])) for run in runs]


ReferenceRuns = dict[tuple[str, float], dict[int, float]]
"""Accuracy of the shorter full run by scenario and budget in passes, and by seed."""


def _shared_references(rows_by_folder: Mapping[Path, Sequence[ResultRow]]) -> dict[Path, ReferenceRuns]:
    """The shorter full runs that each folder is compared with.

    They are those of all folders with the same data, network and recipe, so that budgets may have a folder each.
    """
    groups: dict[str, list[Path]] = {}
    for folder, of_folder in rows_by_folder.items():
        groups.setdefault(_training_key(folder, of_folder), []).append(folder)
    references: dict[Path, ReferenceRuns] = {}
    for folders in groups.values():
        shared: ReferenceRuns = {}
        for row in (row for folder in folders for row in rows_by_folder[folder]):
            if row["method"] == SHORTER and row["accuracy"] is not None:
                budget = round(row["keep"] * row["epochs"], 6)
                shared.setdefault((row["scenario"], budget), {})[row["seed"]] = float(row["accuracy"])
        references.update(dict.fromkeys(folders, shared))
    return references


def _training_key(folder: Path, of_folder: Sequence[ResultRow]) -> str:
    """The same text for two folders whose trainings differ in their length alone; without ``grid.json`` their own."""
    file = folder / GRID_FILE
    if not file.is_file():
        return str(folder)
    settings = read_json(file, schema=GridFile)["settings"]
    train = {key: value for key, value in settings.get("train", {}).items() if key not in ("epochs", "at")}
    first = of_folder[0]
    return json.dumps([first.get("fingerprint"), first["model"], settings.get("data"), train], sort_keys=True)


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
    """One scenario of a setting, with the accuracies by method and keep, and the shorter full runs by budget."""

    name: str
    scenario: str
    n: int
    epochs: float
    accuracies: dict[tuple[str, float], dict[int, float]]
    references: list[_Reference]
    test_n: int | None


def _runs_of_setting(setting: str, result_rows: Sequence[ResultRow], reference_runs: ReferenceRuns) -> list[MethodRun]:
    results = table(result_rows)
    reached = [row for row in result_rows if row["accuracy"] is not None]
    choose = {row["method"] for row in reached if not _on_all(row)}
    runs: list[MethodRun] = []
    for scenario in results.scenarios:
        accuracies: dict[tuple[str, float], dict[int, float]] = {}
        for row in reached:
            if row["scenario"] == scenario:
                accuracies.setdefault((row["method"], row["keep"]), {})[row["seed"]] = float(row["accuracy"])
        name = setting if scenario == CLEAN else f"{setting}, {scenario}"
        references = [
            _Reference(budget, reference_runs[name, budget])
            for name, budget in sorted(reference_runs)
            if name == scenario
        ]
        epochs = float(results.about["epochs"])
        scenario_setting = _Setting(
            name, scenario, results.sizes[scenario], epochs, accuracies, references, num_test(reached)
        )
        cells = sorted(results.of(scenario), key=lambda c: c.keep)
        runs += [_method_run(scenario_setting, cell, chooses=cell.method in choose) for cell in cells]
    return runs


def _on_all(row: ResultRow) -> bool:
    """Whether every epoch of a row was on all the data: a run that chooses makes more epochs of as many passes."""
    extra = row["trained_epochs"] - row["passes"] / row["n"]  # less than half a batch is left out at the end
    return bool(row["total_passes"] == row["passes"] and abs(extra) < MIN_EXTRA_EPOCHS)


MIN_EXTRA_EPOCHS = 0.5
"""Epochs beyond its passes over all the data from which a run counts as choosing."""
BUDGET_TOLERANCE = 0.01
"""Share of a budget that a run may exceed it by, since its last batch is not split."""


def _method_run(setting: _Setting, cell: TableCell, *, chooses: bool) -> MethodRun:
    budget = round(cell.keep * setting.epochs, 6)
    beside = round(cell.total_passes / setting.n - budget, 6)
    run = MethodRun(
        setting=setting.name,
        n=setting.n,
        budget=budget,
        method=cell.method,
        label=cell.label,
        seeds=cell.seeds,
        accuracy=cell.accuracy,
        gain=None,
        needs=None,
        upfront_cost=beside if beside > BUDGET_TOLERANCE * budget else 0.0,
        chooses=chooses,
        scenario=setting.scenario,
        seconds=sum(cell.seconds.values()),
        flops=cell.flops,
    )
    return run if cell.method == SHORTER else _with_gain(run, setting, setting.accuracies[cell.method, cell.keep])


def _with_gain(run: MethodRun, setting: _Setting, accuracy_by_seed: dict[int, float]) -> MethodRun:
    """The run with its gain over the best of the references that pass no more."""
    references = setting.references
    same = [one for one in references if one.budget == run.budget and one.accuracy.keys() & accuracy_by_seed.keys()]
    if not same:
        return run
    # All references are compared on the seeds that the run shares with the one of its own budget.
    seeds = accuracy_by_seed.keys() & same[0].accuracy.keys()
    shorter = [one for one in references if one.budget <= run.budget and seeds <= one.accuracy.keys()]
    # The best of no more passes: a shorter run that is better must be beaten as well.
    best = max(shorter, key=lambda one: sum(one.accuracy[seed] for seed in seeds))
    against_all = [compare(accuracy_by_seed, one.accuracy, test_n=setting.test_n) for one in references]
    above = all(result is not None and result.outcome == "wins" for result in against_all)
    longest = references[-1].budget
    return replace(
        run,
        gain=compare(accuracy_by_seed, best.accuracy, test_n=setting.test_n),
        against=best.budget,
        needs=passes_needed([(one.budget, one.mean) for one in references], run.accuracy.mean),
        factor=cost_factor({one.budget: one.accuracy for one in references}, accuracy_by_seed, run.budget),
        upper_bound_epochs=longest if above and longest > run.budget else None,
        peak=max(references, key=lambda one: one.mean).budget,
    )


def comparison_context(path: Path) -> dict[str, Any]:
    """Variables of the page of a comparison.

    Raises:
        RunError: nothing in the folder is beside all the data for fewer epochs, which runs are compared with.
    """
    runs = read_runs(path)
    if not is_compared(runs):
        folders = sorted(file.parent for file in path.glob(f"*/{ROWS_FILE}"))
        raise RunError(
            f"no results in the folders of {path} hold a run beside all the data for fewer epochs "
            f"({', '.join(folder.name for folder in folders[:5])}{', ...' if len(folders) > 5 else ''}), so there is "
            f"nothing to compare: make the page of one, as with: datawinnow report {folders[0]}"
        )
    names = list(dict.fromkeys(run.setting for run in runs))
    return {
        "title": path.name,
        "about": "Every method passes as many examples as all the data for fewer epochs. All costs are included, "
        "unless an upfront cost is stated.",
        "summary": summary(runs),
        "figure": {"svg": gain_map(runs), "title": "When does choosing pay?", "caption": MAP_CAPTION},
        "needed_words": needed_words,
        "reference_words": reference_words,
        "groups": [(name, [run for run in runs if run.setting == name]) for name in names],
    }


MIN_SAVING = 2.0
"""Ratio of passes from which a saving is reported in a sentence."""


def half_budget_wins(runs: Sequence[MethodRun]) -> list[str]:
    """Descriptions of the wins for whose accuracy the shorter full run needs at least twice the passes.

    Only where choosing wins beyond noise, and where the shorter full run gains from more passes. One run a setting, the
    one that saves most.
    """
    return [
        f"{run.setting} ({run.label}, {run.budget:g} passes: all the data need {_needs_words(run)})"
        for run in _best_by_setting(
            runs, lambda run: run.needs is not None or (run.peak or 0.0) >= MIN_SAVING * run.budget
        )
        if (run.saves or 0.0) >= MIN_SAVING
    ]


def unreached_wins(runs: Sequence[MethodRun]) -> list[str]:
    """Descriptions of the wins whose accuracy no length of the shorter full run reaches."""
    return [
        f"{run.setting} ({run.label}, {run.budget:g} passes; all the data up to {run.upper_bound_epochs:g} were tried)"
        for run in _best_by_setting(
            runs, lambda run: run.upper_bound_epochs is not None and (run.peak or 0.0) < MIN_SAVING * run.budget
        )
    ]


def _best_by_setting(runs: Sequence[MethodRun], fits: Callable[[MethodRun], bool]) -> list[MethodRun]:
    """Of every setting, without those that tune, the certain win with the largest saving among those that fit."""
    best: dict[str, MethodRun] = {}
    for run in runs:
        if run.fair and is_certain_win(run) and not run.setting.endswith(TUNING) and fits(run):
            previous = best.get(run.setting)
            if previous is None or (run.saves or 0, run.accuracy.mean) > (previous.saves or 0, previous.accuracy.mean):
                best[run.setting] = run
    return list(best.values())


def summary(runs: Sequence[MethodRun]) -> str:
    """Sentences on where choosing beats the shorter full run with five seeds, and where it does not.

    Controls, runs with an upfront cost and settings that tune are in the tables, but do not count as wins.
    """
    won, open_, lost = [], [], []
    for setting in dict.fromkeys(run.setting for run in runs if not run.setting.endswith(TUNING)):
        for budget in dict.fromkeys(run.budget for run in runs if run.setting == setting):
            candidates = [a for a in runs if (a.setting, a.budget) == (setting, budget) and a.fair]
            place = f"{setting} at {budget:g} passes"
            best = max((a for a in candidates if is_certain_win(a)), key=lambda a: a.accuracy.mean, default=None)
            if best is not None and best.gain is not None:
                of = f", the best of {best.num_candidates}" if best.num_candidates > 1 else ""
                won.append(f"{place} ({best.label}, {points(best.gain)} points{reference_words(best)}{of})")
            elif candidates and all(len(a.seeds) >= CLAIM_SEEDS for a in candidates):
                lost.append(place)
            elif candidates:
                open_.append(place)
    sentences = []
    if won:
        sentences.append(f"Choosing beats all the data for fewer epochs in {words.listed(won)}.")
    if half := half_budget_wins(runs):
        sentences.append(f"Half the passes or fewer are enough in {words.listed(half)}.")
    if never := unreached_wins(runs):
        sentences.append(f"No length of all the data reaches it in {words.listed(never)}.")
    if lost:
        sentences.append(f"Nothing beats it in {words.listed(lost)}.")
    if open_:
        sentences.append(f"Not settled (fewer than {CLAIM_SEEDS} seeds): {words.listed(open_)}.")
    return " ".join(sentences) or "There is nothing to compare yet."


def gain_words(run: MethodRun) -> str:
    """The gain in points, and the budget of the reference where it is smaller."""
    return f"{points(run.gain)}{reference_words(run)}"


def reference_words(run: MethodRun) -> str:
    """A phrase with the budget of the reference, where it is smaller than that of the run."""
    return "" if run.against in (None, run.budget) else f" against {run.against:g} passes"


def needed_words(run: MethodRun) -> str:
    """A phrase with the passes that the shorter full run needs for the same accuracy, and the upfront cost.

    A dash where the two are within noise, since the passes needed are then unknown.
    """
    apart = run.gain is not None and run.gain.outcome in ("wins", "loses")
    needs = f"{_needs_words(run)} ({_factor_words(run)})" if apart and run.saves is not None else "-"
    return needs + _upfront_words(run)


def _needs_words(run: MethodRun) -> str:
    return (
        f"more than {run.upper_bound_epochs:g} passes" if run.needs is None else f"{run.needs:.1f} passes"
    )  # or none is enough


def _factor_words(run: MethodRun) -> str:
    words_of_mean = f"{'over ' if run.needs is None else ''}{run.saves:.2f}x"
    if run.needs is None or run.factor is None or run.factor.half is None:
        return words_of_mean
    return f"{words_of_mean}, 95%: {math.exp(run.factor.low):.2f} to {math.exp(run.factor.high):.2f}"


def _upfront_words(run: MethodRun) -> str:
    if not run.upfront_cost:
        return ""
    paid, apart = f"; {run.upfront_cost:.1f} paid upfront", run.gain is not None and run.gain.outcome == "wins"
    if run.pays_back is None or not (apart or math.isinf(run.pays_back)):
        return paid
    return paid + (": never pays back" if math.isinf(run.pays_back) else f": pays back after {run.pays_back:.1f} runs")


def comparison_markdown(path: Path) -> str:
    """The summary and a table for each setting, as Markdown."""
    runs = read_runs(path)
    out = [summary(runs), ""]
    for setting in dict.fromkeys(run.setting for run in runs):
        head = "passes | method | seeds | accuracy % | gain, points | reference needs | operations | seconds"
        out += [f"**{setting}**", "", f"| {head} |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
        for run in (a for a in runs if a.setting == setting):
            gain = "-" if run.gain is None else f"{gain_words(run)} {outcome_words(run.gain)}"
            cells = [
                f"{run.budget:g}",
                run.label,
                str(len(run.seeds)),
                words.percent(run.accuracy),
                gain,
                needed_words(run),
                words.flops(run.flops),
                words.seconds(run.seconds),
            ]
            out.append("| " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)


MAP_CAPTION = (
    "Above the line it is worth choosing, below it all the data for fewer epochs is better. Each point is a setting "
    "and a budget, compared with the best of all the data for no more passes; bars: 95% over paired "
    "seeds. One seed has no bar."
)


def gain_map(runs: Sequence[MethodRun], num_methods: int = 6) -> Markup:
    """Gain over the shorter full run against passes per example: a colour for each method, a marker for each setting.

    Clean and changed data have a panel each, since their scales differ. Methods that were run in the most settings are
    drawn, up to ``num_methods``; the tables have all.
    """
    compared = [run for run in runs if run.gain is not None and run.chooses and not run.setting.endswith(TUNING)]
    places = {m: [a for a in compared if a.method == m] for m in dict.fromkeys(a.method for a in compared)}
    chosen = sorted(places, key=lambda m: (-len(places[m]), -sum(_gain_points(a) for a in places[m]) / len(places[m])))[
        :num_methods
    ]
    drawn = [run for run in compared if run.method in chosen]
    settings = list(dict.fromkeys(run.setting for run in drawn))
    sides = {"clean": [a for a in drawn if a.scenario == CLEAN], "changed": [a for a in drawn if a.scenario != CLEAN]}
    sides = {title: of for title, of in sides.items() if of} or {"clean": []}
    with styled():
        figure, panes = panels(len(sides), 4.0 + 3.2 * len(sides), 3.6)
        for axes, (title, runs_of_panel) in zip(panes, sides.items(), strict=True):
            _draw_panel(axes, runs_of_panel, chosen, settings)
            axes.set_title(title if len(sides) > 1 else "", loc="left", fontsize=9, color=MUTED)
        panes[0].set_ylabel("points over all the data, no more passes")
        marks: list[Any] = [
            Line2D([], [], color=SERIES[i % len(SERIES)], linewidth=3, label=places[method][0].label)
            for i, method in enumerate(chosen)
        ]
        marks += [
            Line2D([], [], color=MUTED, linestyle="none", marker=MARKERS[i % len(MARKERS)], label=setting)
            for i, setting in enumerate(settings)
        ]
        if marks:
            figure.legend(handles=marks, frameon=False, fontsize=8, loc="outside right center")
        return to_svg(figure, "map")


def _draw_panel(axes: Axes, runs_of_panel: Sequence[MethodRun], chosen: Sequence[str], settings: Sequence[str]) -> None:
    axes.axhline(0, color=INK, linewidth=1)
    for i, method in enumerate(chosen):
        # A factor, since the axis is logarithmic.
        shift = 1 + 0.03 * (i - (len(chosen) - 1) / 2)  # side by side
        for j, setting in enumerate(settings):
            series = sorted(
                (a for a in runs_of_panel if (a.setting, a.method) == (setting, method)), key=lambda a: a.budget
            )
            if series:
                x, y = [a.budget * shift for a in series], [_gain_points(a) for a in series]
                axes.errorbar(
                    x,
                    y,
                    [_half_points(a) for a in series],
                    color=SERIES[i % len(SERIES)],
                    markersize=5,
                    marker=MARKERS[j % len(MARKERS)],
                    linewidth=1.2,
                    elinewidth=1,
                )
    if budgets := sorted({round(run.budget, 6) for run in runs_of_panel}):
        axes.set_xscale("log")
        axes.set_xticks(budgets, [f"{b:g}" for b in budgets])
        axes.set_xticks([], minor=True)
    axes.set_xlabel("passes per example")


def _gain_points(run: MethodRun) -> float:
    assert run.gain is not None, run.method
    return 100 * run.gain.difference


def _half_points(run: MethodRun) -> float:
    half = 0.0 if run.gain is None else run.gain.half
    return 100 * half if half is not None and math.isfinite(half) else 0.0
