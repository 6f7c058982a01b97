"""`plan`: how few are enough: the cheapest training that stays within a promised drop of accuracy, from pilots."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.api.dataset import open_dataset, require_two_classes, results_folder
from datawinnow.api.race import are_large_images, default_size_schedule
from datawinnow.api.train import described, recommended
from datawinnow.core.bars import with_progress
from datawinnow.core.chance import rows_sentence, warn_of_learning
from datawinnow.core.counts import many
from datawinnow.core.duration import seconds_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.progress import ProgressOption, named_progress
from datawinnow.core.result_rows import PLAN_FILE

if TYPE_CHECKING:
    from datawinnow.core.verdict import ResultRow
    from datawinnow.data.dataset_info import DatasetInfo
    from datawinnow.plan.advice import PlanAdvice, Route
    from datawinnow.train import Recipe
    from datawinnow.train.build import Model

CHEAPER_RUN = "cheaper"
"""Name, in the grid, of what benchmarks recommend on all the data: small inputs first, a policy, or both."""


@dataclass(frozen=True, eq=False)
class PlanResult:
    """The advice of a plan.

    Attributes:
        folder: where the pilots' rows, ``plan.json`` and the page are.
        advice: the fitted curves, the route chosen and its promise; None where too few pilots were run for curves.
        rows: result rows of the pilots.
        sentence: the advice with its confidence and its cost.
        labels: what a thousand more labels would bring, in a sentence; empty without a curve over examples.
        notes: pilots that were not run for want of time, or learned nothing.
        report: the HTML page; None if none was asked for.
    """

    folder: Path
    advice: PlanAdvice | None
    rows: list[ResultRow]
    sentence: str
    labels: str
    notes: list[str]
    report: Path | None

    def __repr__(self) -> str:
        return f"PlanResult({many(len(self.rows), 'pilot')} in {self.folder})\n{self.sentence}"


@with_progress
def plan(
    data: Any,
    *,
    max_drop: float = 0.5,
    epochs: int = 30,
    methods: Sequence[str] = (),
    folds: int = 3,
    runs: int = 10,
    at_most: float | str | None = None,
    seed: int = 0,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    load: LoadOptions | None = None,
    out: Path | str | None = None,
    report: bool = True,
    progress: ProgressOption = None,
    on_row: Callable[[ResultRow], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> PlanResult:
    """Find the cheapest training that loses at most ``max_drop`` points against training on everything.

    Pilots train on an eighth, a quarter and a half of the examples, on all the examples for as many operations, and, on
    images and wherever benchmarks recommend it, in what gains most from those operations (small inputs first, a
    policy); then once in full. Each is repeated on ``folds`` folds, which hold out other training examples: the test
    split has no part in it. A curve with an irreducible error is fitted to each, and the cheapest share whose accuracy
    is within the promise in 95% of the bootstrap's replicates is the advice.

    Pilots that were stopped go on with the same call.

    Args:
        data: DATA (``"digits"``, a path or ``"hf:owner/name"``), or a training split: a map-style dataset of
            ``(x, y)``.
        max_drop: accuracy that may be lost against the full training, in percentage points.
        epochs: of the full training, the one that you would run.
        methods: static method to try beside random examples (repeatable), for example dual_beta; its scores are
            charged to it, spread over ``runs``.
        folds: pilots of each kind; more make the promise sharper.
        runs: trainings that will follow the advice.
        at_most: time that the pilots may take: 10m, 1.5h, 45s, or seconds. Larger pilots than fit are left out, and
            the accuracy of the full training is then extrapolated. Default: run all.
        seed: of the folds and the bootstrap.
        model: network; by default chosen by the shape of the examples.
        model_options: options of the network.
        recipe: how to train; its size schedule is tried as the cheaper training.
        load: how DATA is read.
        out: folder of rows and page. Default: runs/plan-<data>; a new temporary folder for a dataset object without
            a name.
        report: write an HTML page beside the rows.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        on_row: called with each new row.
        log: called with what was chosen.

    Raises:
        ArgumentError: options out of range or that do not go together, or one class.
        RunError: ``out`` holds pilots on another dataset or under other settings, or something else than a plan; or a
            pilot diverged.
    """
    from datawinnow import report as reports
    from datawinnow.core import check
    from datawinnow.core.artifacts import write_json
    from datawinnow.methods import create_method
    from datawinnow.plan.advice import advice_sentence, advise
    from datawinnow.plan.pilots import FULL, MIN_FOLDS, PilotSettings, RouteSpec, run_pilots
    from datawinnow.train import Recipe

    check.number("max_drop", max_drop, 0, 99.9)
    check.number("epochs", epochs, 2, 1 << 20, integer=True)
    check.number("folds", folds, 2, 100, integer=True)
    check.number("runs", runs, 1, 1 << 40, integer=True)
    at_most = seconds_of(at_most, "at_most") if isinstance(at_most, str) else at_most
    methods = (methods,) if isinstance(methods, str) else methods
    methods = [name for name in dict.fromkeys(methods) if name != "random"]  # which is tried anyway
    for name in methods:
        create_method(name)
    if recipe is not None and (recipe.loss is not None or recipe.metric is not None):
        raise ArgumentError("plan compares accuracies of the cross-entropy: it takes no loss or metric of your own")
    splits = open_dataset(data, load=load, model=model, recipe=recipe, progress=progress, log=log)
    info, recipe = splits.train, recipe or Recipe()
    require_two_classes(info)
    specs = [
        RouteSpec("random", "examples", label="random examples"),
        *(RouteSpec(name, "examples") for name in methods),
        RouteSpec("shorter_full", "epochs", label="all the data, fewer epochs"),
    ]
    cheaper = cheaper_training(info, epochs, model, model_options, recipe, log)
    if cheaper is not None:
        label = cheaper.pop("label")
        specs.append(RouteSpec(CHEAPER_RUN, "epochs", cheaper, ends_at_full=False, label=label))
    folder = results_folder(out, "plan", data, splits)
    network = None if model is None or isinstance(model, str) else model
    fields = {key: value for key, value in vars(recipe).items() if value is not None and key != "size_schedule"}

    def grid(
        fold: DatasetInfo, number: int, tables: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> Mapping[str, Any]:
        return {
            "name": f"plan {info.name}",
            "about": f"{info.name}: pilots of a training of {many(epochs, 'epoch')}, fold {number}",
            "data": {"source": info.source or info.name, **({} if splits.load is None else splits.load.to_dict())},
            "train": {
                **fields,
                "epochs": epochs,
                "model": model if network is None else None,
                "model_options": dict(model_options or {}),
            },
            "methods": list(names),
            "method": list(tables),
        }

    if log is not None:
        log(
            f"each pilot holds out one of {max(MIN_FOLDS, folds)} folds of the {info.n:,} training examples"
            + ("" if splits.test is None else "; the test split is left alone")
        )
    pilots = run_pilots(
        info,
        folder,
        specs,
        PilotSettings(epochs, folds=folds, seed=seed, at_most=at_most),
        grid=grid,
        network=network,
        progress=named_progress(progress, f"plan {info.name}"),
        on_row=on_row,
    )
    warn_of_learning(rows_sentence(row for row in pilots.rows if row["method"] == FULL))
    notes = [pilots.stopped] if pilots.stopped else []
    if pilots.near_chance:
        notes.append(f"left out of the curves, near chance: {', '.join(pilots.near_chance)}")
    routes: list[Route] = pilots.routes
    advice = None
    try:
        if any(row["keep"] == 1 for row in pilots.rows) and pilots.full is None:
            raise ArgumentError("the full training learned nothing")
        advice = advise(
            routes,
            pilots.full,
            n=info.n,
            max_drop=max_drop / 100,
            pilots_cost=pilots.cost,
            runs=runs,
            seed=seed,
            num_trained=pilots.num_trained,
            num_judged=pilots.num_judged,
        )
        sentence = advice_sentence(advice, epochs, info.n)
    except ArgumentError as error:
        if not notes:
            raise
        remedy = "give the pilots more time (`at_most=`)" if pilots.stopped else "train for longer (`epochs=`)"
        sentence = f"Nothing can be promised: {error}; {remedy}."
    labels = _labels_sentence(advice)
    content = {
        **_content(advice, routes, pilots.full, sentence, labels, notes, epochs),
        "name": info.name,
        "n": info.n,
        "fingerprint": info.fingerprint,
        "pilots_cost": pilots.cost,
        "num_pilots": len(pilots.rows),
        **{name: row.get(name) for row in pilots.rows[-1:] for name in ("commit", "device", "threads", "versions")},
        "max_drop": max_drop,
    }
    write_json(folder / PLAN_FILE, content)
    page = reports.write(folder) if report else None
    return PlanResult(folder, advice, pilots.rows, sentence, labels, notes, page)


def cheaper_training(
    info: DatasetInfo,
    epochs: int,
    model: Model,
    model_options: Mapping[str, Any] | None,
    recipe: Recipe,
    log: Callable[[str], None] | None,
) -> dict[str, Any] | None:
    """A ``[[method]]`` of what benchmarks recommend on all the data, or of small images first; None for neither."""
    from datawinnow.train.build import takes_sizes

    try_sizes = partial(takes_sizes, model=model, info=info, options=model_options)
    images = are_large_images(info)
    setting = recommended(described(info, info.n, noisy=False), epochs, try_sizes if images else None, log)
    schedule = recipe.size_schedule or (default_size_schedule(setting, try_sizes) if images else None)
    policy = None if setting is None or not setting.policy else setting
    if schedule is None and policy is None:
        return None
    words = [] if schedule is None else ["small inputs first"]
    method: dict[str, Any] = {"baseline": "shorter_full"}
    if policy is not None:
        method = {"policy": policy.policy, "options": dict(policy.options), "wrap": list(policy.wrap)}
        words.append(policy.label.removeprefix("views from half the side, "))
    if schedule is not None:
        sizes = {key: value for key, value in vars(schedule).items() if value is not None}
        method["train"] = {"size_schedule": sizes}
    label = f"all the data, {' and '.join(words)}"
    return {**method, "label": label}


def _labels_sentence(advice: PlanAdvice | None) -> str:
    from datawinnow.plan.advice import LABELS

    if advice is None or advice.labels_gain is None:
        return ""
    median, low, high = (100 * value for value in advice.labels_gain)
    return (
        f"{LABELS:,} more labels would bring about {median:.1f} points (95% of {low:.1f} to {high:.1f}), by the curve "
        "over random examples."
    )


def _content(
    advice: PlanAdvice | None,
    routes: Sequence[Route],
    full: Sequence[float] | None,
    sentence: str,
    labels: str,
    notes: Sequence[str],
    epochs: int,
) -> dict[str, Any]:
    """What ``plan.json`` holds: the pilots, the curves and the advice."""
    curves = {} if advice is None else {curve.route.name: curve for curve in advice.curves}
    entries = []
    for route in routes:
        curve = curves.get(route.name)
        entry: dict[str, Any] = {
            "label": route.label,
            "axis": route.axis,
            "pilots": [{"share": share, "errors": list(errors)} for share, errors in sorted(route.errors.items())],
            "share": None if curve is None else curve.share,
            "curve": [],
        }
        if curve is not None:
            entry["curve"] = [
                {"share": share, "error": error, "drop": list(curve.drop_at(share))}
                for share, error in zip(curve.shares.tolist(), curve.curve.at(curve.shares)[0].tolist(), strict=True)
            ]
        entries.append(entry)
    chosen = None if advice is None or advice.chosen is None else advice.chosen
    return {
        "kind": "plan",
        "sentence": sentence,
        "labels": labels,
        "notes": list(notes),
        "epochs": epochs,
        "routes": entries,
        "full": None if full is None else list(full),
        "chosen": None if chosen is None else {"label": chosen.route.label, "share": chosen.share},
        "cost": None if advice is None else advice.cost,
        "break_even": None if advice is None or math.isinf(advice.break_even) else advice.break_even,
    }
