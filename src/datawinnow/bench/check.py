"""Is a selection worth it? Trains on it, on as many random examples, and on all the data.

A check is a grid of one keep. Its rows are in the folder ``check`` of the run, and ``check.json`` sums them up.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from datawinnow.bench.cell import GridData
from datawinnow.bench.grid import Cell, Grid, cells_of
from datawinnow.bench.runner import run_grid
from datawinnow.core import check as arguments
from datawinnow.core.artifact_schemas import CheckFile
from datawinnow.core.artifacts import read_json, settings_difference, write_json
from datawinnow.core.budget import budget_of
from datawinnow.core.chance import rows_sentence, warn_of_learning
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.progress import Progress
from datawinnow.core.result_rows import ROWS_FILE, read_rows, row_key
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.core.verdict import FULL, SHORTER, ResultRow, Verdict, verdict
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.methods import METHODS
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.near_chance import near_chance
from datawinnow.runs.network import recorded_model
from datawinnow.runs.select import select_examples
from datawinnow.runs.selection_file import selection_digest
from datawinnow.runs.stage import arithmetic_for, arithmetic_of, augment_of, resolve_arithmetic
from datawinnow.train import Recipe
from datawinnow.train.build import Model, build_network, check_outputs_for

CHECK_FILE, CHECK_FOLDER = "check.json", "check"


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
    """Train on the kept examples, on as many random ones, and on all the data, in full and for fewer epochs.

    All but the full training pass the same number of examples (the shorter one may end in part of an epoch), and the
    schedule of each decays to its own end. Each training is written down when it ends: the same check continues from
    there, and a check with more seeds trains only the new ones. A check with other settings, or of another selection,
    starts anew.

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
        The content of ``check.json`` with ``rows``: ``verdict`` (a line), ``word``, ``sentence`` (the line and its
        details), ``comparisons`` (by reference), ``settings``, ``arithmetic``, ``fingerprint`` and ``cost``.

    Raises:
        ArgumentError: no test split, no seeds, a network of which only the name is known, or one with too few outputs.
        RunError: the run has no selection or is about another dataset, or its ``check.json`` or rows are damaged.
    """
    arguments.number("seeds", seeds, 1, 10_000, integer=True)
    arguments.number("epochs", epochs, 1, 1 << 20, integer=True)
    if test is None:
        raise ArgumentError(
            "check needs a test split (`test=`), since accuracy on the training examples decides nothing"
        )
    selected = folder.metadata["options"].get("select")
    if model is None and selected is not None:
        model, options_of_run = recorded_model(folder)
        model_options = model_options or options_of_run
    options, recipe = dict(model_options or {}), recipe or Recipe()
    if selected is None:
        raise RunError(
            f"{folder.path} has no selection to check; make one with "
            f"`dw.api.select({str(folder.path)!r}, keep={keep:g})`"
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
    measured = before.get("arithmetic") or arithmetic_for(arithmetic_of(folder), settings, recipe.device)
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

    def write(rows: Sequence[ResultRow], answer: Verdict) -> dict[str, Any]:
        folder.charge("check", sum((Cost.from_dict(row["cost"]["train"]) for row in rows), Cost()))
        named = {reference: asdict(comparison) for reference, comparison in answer.comparisons.items()}
        texts = {"verdict": answer.line, "word": answer.word, "sentence": str(answer).strip()}
        summary = {**folder.made_by("check"), **about, "comparisons": named, **texts}
        write_json(folder.path / CHECK_FILE, summary)
        return summary

    def write_unfinished() -> None:
        if len(done) < total:
            write(
                done, Verdict("none", f"The check is not finished: {len(done)} of {total} trainings are done.", "", {})
            )

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
    if not near_chance(folder):  # said when it was recorded; the verdict says it of the rows
        warn_of_learning(rows_sentence(rows))
    answer = verdict(rows, selected["method"])
    once = "The selection was made once, so the intervals do not say how much it varies."
    if max(row["seed"] for row in rows) > 0:
        answer = replace(answer, details=f"{answer.details} {once}")
    return {**write(rows, answer), "rows": rows}


def _earlier_check(folder: RunFolder, settings: Mapping[str, Any], log: Callable[[str], None] | None) -> dict[str, Any]:
    """The content of ``check.json`` if it is about the same check; empty otherwise, which is logged."""
    path = folder.path / CHECK_FILE
    if not path.exists():
        return {}
    summary = read_json(path, schema=CheckFile)
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
    """The checked method and its three references at one keep; seeds with all their rows stay in the grid."""
    methods = {selected["method"]: selected["label"], "random": "random"}
    names = [*methods, SHORTER, FULL]
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
