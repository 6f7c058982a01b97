"""Is a selection worth it? Trains on it, on as many random examples, and on all the data for fewer epochs.

A check is a grid of one keep. Its rows are in the folder ``check`` of the run, and ``check.json`` sums them up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from datawinnow.bench.cell import GridData
from datawinnow.bench.grid import Cell, Grid, cells_of
from datawinnow.bench.runner import run_grid
from datawinnow.core import check as arguments
from datawinnow.core.artifacts import read_json, settings_difference, write_json
from datawinnow.core.budget import budget_of
from datawinnow.core.chance import rows_sentence, warn_near_chance
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.progress import Progress
from datawinnow.core.result_rows import ROWS_FILE, read_rows, row_key
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.core.verdict import Comparison, ResultRow, clause, compare, indication_note
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.methods import METHODS
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import Model, build_network, check_outputs_for, recorded_model
from datawinnow.runs.select import select_examples
from datawinnow.runs.selection_file import selection_digest
from datawinnow.runs.stage import augment_of, resolve_arithmetic
from datawinnow.train import Recipe

CHECK_FILE, CHECK_FOLDER = "check.json", "check"
REFERENCE_NAMES = {"random": "as many random examples", "shorter_full": "all the data for fewer epochs"}
REFERENCE_AHEAD = {
    "random": "Random examples did better here: do not pay for scoring at this keep and schedule.",
    "shorter_full": "All the data for fewer epochs did better here, with nothing spent on scoring: train shorter "
    "instead of pruning.",
}
REFERENCE_LEVEL = {
    "random": "Random examples did as well here, as far as this can show, and need no scoring: do not pay for it at "
    "this keep and schedule, or let more seeds decide.",
    "shorter_full": "All the data for fewer epochs did as well here, as far as this can show, with nothing spent on "
    "scoring: train shorter instead of pruning, or let more seeds decide.",
}


def check(
    folder: RunFolder,
    train: Any,
    test: Any,
    selection: Selection,
    *,
    keep: float,
    epochs: int,
    seeds: int = 1,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    on_row: Callable[[ResultRow], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train on the kept examples, on as many random ones, and on all for fewer epochs, and compare them.

    The three pass the same number of examples (all the data may end in part of an epoch), and the schedule of each
    decays to its own end. Each training is written down when it ends: the same check continues from there, and a check
    with more seeds trains only the new ones. A check with other settings, or of another selection, starts anew.

    Args:
        folder: the run that the selection was made in.
        train: the dataset.
        test: held-out split; only the accuracy after the last epoch counts.
        selection: the kept examples.
        keep: fraction kept.
        epochs: epochs to train on the kept examples.
        seeds: minimum number of seeds, with paired weights and orders; seeds that are done already count too.
        model: network; that of the run by default.
        model_options: options of the network.
        recipe: how to train. ``precision="auto"`` is what the run recorded with, or else measured once for the check.
        progress: called after each step.
        on_row: called with each new result row.
        log: called where an earlier check is replaced.

    Returns:
        The content of ``check.json`` with ``rows``: ``sentence``, ``comparisons`` (by reference), ``settings``,
        ``arithmetic``, ``fingerprint`` and ``cost``.

    Raises:
        ArgumentError: no test split, no seeds, a network of which only the name is known, or one with too few outputs.
        RunError: the run has no selection or is about another dataset, or its ``check.json`` or rows are damaged.
    """
    arguments.number("seeds", seeds, 1, 10_000, integer=True)
    arguments.number("epochs", epochs, 1, 1 << 20, integer=True)
    if test is None:
        raise ArgumentError("check needs a test split (test=), since accuracy on the training examples decides nothing")
    selected = folder.metadata["options"].get("select")
    if model is None and selected is not None:
        model, options_of_run = recorded_model(folder)
        model_options = model_options or options_of_run
    options, recipe = dict(model_options or {}), recipe or Recipe()
    if selected is None:
        raise RunError(
            f"{folder.path} has no selection to check; make one with `dw.api.select({str(folder.path)!r}, keep=0.3)`"
        )
    info = dataset_info(train)
    folder.check_dataset(info)
    network, name, _ = build_network(model, info, 0, options)
    check_outputs_for(network, info)
    scoring = _scoring_cost(folder)
    selections: dict[str, Callable[[int], tuple[Selection, Cost]]] = {
        "random": lambda seed: (_random_selection(info, keep, seed), Cost()),
        selected["method"]: lambda seed: (selection, scoring),  # last: a random selection may be what is checked
    }
    data = GridData(info, test, None if model is None or isinstance(model, str) else model, selections)
    settings = {
        "method": selected["method"],
        "selection": selection_digest(selection),
        "keep": keep,
        "epochs": epochs,
        "model": name,
        "model_options": options,
        "recipe": {key: value for key, value in recipe.metadata().items() if key != "workers"},
        "augment": augment_of(info.data),
        "test": data.test_fingerprint,
    }
    before = _earlier_check(folder, settings, log)
    recorded = folder.metadata["model"]
    # a measurement holds only for the network that was measured
    same_network = recorded["name"] == name and recorded.get("options", {}) == options
    measured = before.get("arithmetic") or (folder.metadata.get("arithmetic") if same_network else None)
    recipe, arithmetic = resolve_arithmetic(network, info.data, recipe, measured)
    out = folder.path / CHECK_FOLDER
    if not before:
        # its rows are about another selection or other settings
        shutil.rmtree(out, ignore_errors=True)
    rows = read_rows(out / ROWS_FILE)
    # a function cannot be in a grid's file: it goes with `GridData`
    grid_model = name if model is None or isinstance(model, str) else None
    grid = _check_grid(info, selected, selection, keep, epochs, seeds, grid_model, options, recipe, rows)
    total = len(cells_of(grid))
    about = {"settings": settings, "arithmetic": arithmetic}

    def write(rows: Sequence[ResultRow], sentence: str, comparisons: Mapping[str, Comparison]) -> dict[str, Any]:
        folder.charge("check", sum((Cost.from_dict(row["cost"]["train"]) for row in rows), Cost()))
        named = {reference: asdict(comparison) for reference, comparison in comparisons.items()}
        summary = {**folder.made_by("check"), **about, "comparisons": named, "sentence": sentence}
        write_json(folder.path / CHECK_FILE, summary)
        return summary

    def write_unfinished() -> None:
        if len(done) < total:
            write(done, f"The check is not finished: {len(done)} of {total} trainings are done.", {})

    def on_new_row(row: ResultRow) -> None:
        done.append(row)
        write_unfinished()
        if on_row is not None:
            on_row(row)

    def on_step(cell: Cell, _: str, step: int, steps: int) -> None:
        if progress is not None:
            progress(f"checking: {grid.label(cell.method)}", step, steps)

    keys = {cell.key for cell in cells_of(grid)}
    done = [row for row in rows if row_key(row) in keys]
    write_unfinished()
    rows = run_grid(grid, out, data=data, on_row=on_new_row, on_step=on_step)
    rows = [row for row in rows if row_key(row) in keys]
    warn_near_chance(rows_sentence(rows))
    sentence, comparisons = verdict(rows, selected["method"], selected["label"])
    return {**write(rows, sentence, comparisons), "rows": rows}


def _earlier_check(folder: RunFolder, settings: Mapping[str, Any], log: Callable[[str], None] | None) -> dict[str, Any]:
    """The content of ``check.json`` if it is about the same check; empty otherwise, which is logged."""
    path = folder.path / CHECK_FILE
    if not path.exists():
        return {}
    summary = read_json(path)
    folder.check_made(summary, path)
    difference = settings_difference(summary.get("settings") or {}, settings)
    if difference is None:
        return summary
    if log is not None:
        log(
            f"the check in {folder.path} was started with {difference}: its trainings are replaced by those of this one"
        )
    return {}


def _check_grid(
    info: DatasetInfo,
    selected: Mapping[str, Any],
    selection: Selection,
    keep: float,
    epochs: int,
    seeds: int,
    model: str | None,
    model_options: Mapping[str, Any],
    recipe: Recipe,
    rows: Sequence[ResultRow],
) -> Grid:
    """The checked method, random examples and all the data, at one keep; seeds with all three rows stay in the grid."""
    methods = {selected["method"]: selected["label"], "random": "random"}
    names = [*methods, "shorter_full"]
    done = {(row["seed"], row["method"]) for row in rows}
    complete = [seed for seed, _ in done if all((seed, name) in done for name in names)]
    digests = {"random": "drawn for each seed", selected["method"]: selection_digest(selection)}
    return Grid.model_validate(
        {
            "name": "check",
            "about": f"{selected['label']} at keep {keep:g}: is it worth it?",
            "data": {"source": info.source or info.name},
            "train": {"epochs": epochs, "model": model, "model_options": dict(model_options), **vars(recipe)},
            "methods": names,
            "method": [{"name": name, "label": methods[name], "selection": digests[name]} for name in methods],
            # a selection of another size than keep * n is compared with as many examples as it has
            "keep": [keep if budget_of(keep, info.n) == len(selection) else len(selection) / info.n],
            "seeds": sorted({*range(seeds), *complete}),
        }
    )


def _random_selection(info: DatasetInfo, keep: float, seed: int) -> Selection:
    """As many random examples, drawn for each seed."""
    draws = stream(seed, "check", "random")
    return select_examples(info, METHODS["random"], keep=keep, generator=draws).selection


def _scoring_cost(folder: RunFolder) -> Cost:
    """Cost of all that was done for scores, if the selection reads any of it; the recording counts in full."""
    if not folder.metadata["options"]["select"]["charge"]:
        return Cost()
    spent = folder.metadata["cost"]
    return sum((Cost.from_dict(spent[stage]) for stage in ("record", "probe", "subsets") if stage in spent), Cost())


def verdict(rows: Sequence[ResultRow], method: str, label: str) -> tuple[str, dict[str, Comparison]]:
    """The verdict of a check in words, and the comparisons behind it.

    With several seeds a difference counts only where its 95% interval over seeds excludes 0. A reference that does as
    well is the better advice, since it needs no recording.

    Args:
        rows: result rows of the method and its references, all with the same seeds.
        method: key of the method that is checked.
        label: its name for people.

    Returns:
        A few sentences, and the comparison with each reference.
    """
    accuracies: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["accuracy"] is not None:
            accuracies.setdefault(row["method"], {})[row["seed"]] = row["accuracy"]
    ours = accuracies.get(method, {})
    pairs = ((name, compare(ours, accuracies.get(name, {}))) for name in REFERENCE_NAMES if name != method)
    comparisons = {name: comparison for name, comparison in pairs if comparison is not None}
    failed = [f"{row['label']}, seed {row['seed']}" for row in rows if row["accuracy"] is None]
    diverged = f" Training diverged and counts in no mean: {'; '.join(failed)}." if failed else ""
    if not comparisons:
        return f"There is nothing to compare.{diverged}", {}
    clauses = ", and ".join(clause(comparison, REFERENCE_NAMES[name]) for name, comparison in comparisons.items())
    num_seeds = min(comparison.num_seeds for comparison in comparisons.values())
    sentences = [f"{label} {clauses}.{diverged}", _examples_passed(rows), _advice(rows, comparisons, method, label)]
    if num_seeds > 1:
        sentences.append(
            f"Means over {num_seeds} seeds, with 95% intervals of the differences paired by seed; the selection was "
            "made once, so how much it would vary is not in them."
        )
    return " ".join(filter(None, [*sentences, indication_note(num_seeds), rows_sentence(rows)])), comparisons


def _advice(rows: Sequence[ResultRow], comparisons: Mapping[str, Comparison], method: str, label: str) -> str:
    """What to do; one seed has no interval, so there the sign of the difference decides."""

    def sign(comparison: Comparison) -> int:
        if comparison.num_seeds > 1:
            return {"wins": 1, "loses": -1, "ties": 0}[comparison.outcome]
        # as shown: a difference of 0.00 is a tie
        points = round(100 * comparison.difference, 2)
        return (points > 0) - (points < 0)

    unbeaten = [name for name, comparison in comparisons.items() if sign(comparison) <= 0]
    if not unbeaten:
        recorded = any(row["cost"]["score"]["backward"] for row in rows if row["method"] == method)
        aside = ", the recording that it took set aside" if recorded else ""
        return f"{label} is the best of the {len(comparisons) + 1} here{aside}."
    ahead = [name for name in unbeaten if sign(comparisons[name]) < 0]
    best = max(ahead or unbeaten, key=lambda name: comparisons[name].reference)
    return (REFERENCE_AHEAD if ahead else REFERENCE_LEVEL)[best]


def _examples_passed(rows: Sequence[ResultRow]) -> str:
    """Examples that each training passed, as counted."""
    passed = {row["label"]: f"{row['passes']:,.0f}" for row in rows if row["accuracy"] is not None}
    if len(set(passed.values())) == 1:
        return f"Each passed {next(iter(passed.values()))} examples in training."
    return f"Examples passed in training: {', '.join(f'{count} ({label})' for label, count in passed.items())}."
