"""A grid made small: the same cells in a fraction of the time, to see that a file runs before hours go into it."""

from __future__ import annotations

import inspect
from typing import Any

from datawinnow.bench.cell import datasets_of
from datawinnow.bench.grid import Data, Grid, MethodSpec, Train
from datawinnow.bench.grid_file import check_grid
from datawinnow.core import check
from datawinnow.core.card import card_of
from datawinnow.dynamic.build import policies_by_name
from datawinnow.models import MODELS
from datawinnow.runs.early_stopping import WINDOW

MIN_EPOCHS, MIN_WINDOW = 4, 3
"""The shortest window that every score takes, and a run that is longer than it."""
MIN_EXAMPLES, MIN_CHANNELS = 100, 4


def shrunk(grid: Grid, by: int) -> Grid:
    """The grid with examples, epochs, channels of the networks, and windows over epochs divided by ``by``.

    At least `MIN_EXAMPLES`, `MIN_EPOCHS`, `MIN_CHANNELS` and `MIN_WINDOW` are left, or as many as the grid has. Keeps,
    seeds, methods, scenarios, the recipe and the test split stay. Accuracies of such a grid mean nothing; its name has
    the divisor, so that its rows do not mix with others.

    Args:
        grid: a checked grid.
        by: divisor, an integer from 1.

    Raises:
        ArgumentError: ``by`` out of range, or a grid that cannot run this small.
    """
    check.number("shrink", by, 1, 10**6, integer=True)
    if by == 1:
        return grid
    score = grid.score
    epochs = _divided(grid.train.epochs, by, MIN_EPOCHS)
    # never longer than the shrunk full run
    recorded = None if score.epochs is None else min(epochs, _divided(score.epochs, by, MIN_WINDOW))
    scoring = {
        "epochs": recorded,
        "schedule_epochs": None
        if score.schedule_epochs is None
        else max(recorded or epochs, _divided(score.schedule_epochs, by, MIN_EPOCHS)),
        "until_stable": score.until_stable if (recorded or epochs) >= WINDOW else None,
        "model_options": _narrow(score.model, score.model_options, by),
    }
    train: Train = grid.train.model_copy(
        update={"epochs": epochs, "model_options": _narrow(grid.train.model, grid.train.model_options, by)}
    )
    methods = {spec.name: spec for spec in grid.method}
    for name in grid.methods:
        if (spec := _shrunk_method(grid, grid.spec_of(name), by)) != grid.spec_of(name):
            methods[name] = spec
    changes = {
        "name": f"{grid.name} shrunk {by}",
        "data": _fewer(grid, by),
        "train": train,
        "score": score.model_copy(update=scoring),
        "method": list(methods.values()),
    }
    return check_grid(grid.model_copy(update=changes))


def _divided(value: int, by: int, minimum: int) -> int:
    return min(value, max(minimum, round(value / by)))


def _fewer(grid: Grid, by: int) -> Data:
    n = len(datasets_of(grid)[0]) if grid.data.limit is None else grid.data.limit
    return grid.data.model_copy(update={"limit": _divided(n, by, MIN_EXAMPLES)})


def _narrow(model: str | None, options: dict[str, Any], by: int) -> dict[str, Any]:
    """Options of a network, with ``width`` divided where it has one."""
    if model not in MODELS or "width" not in (parameters := inspect.signature(MODELS[model]).parameters):
        return options
    width = options.get("width", parameters["width"].default)
    return {**options, "width": _divided(width, by, MIN_CHANNELS)}


def _shrunk_method(grid: Grid, spec: MethodSpec, by: int) -> MethodSpec:
    """The method with its epochs, windows, periods and small networks divided."""
    new: dict[str, Any] = {}
    if spec.epochs is not None:
        new["epochs"] = _divided(spec.epochs, by, MIN_WINDOW)
    for key in ("batch", "replay"):
        small = getattr(spec, key)
        if small is not None:
            new[key] = small.model_copy(update={"model_options": _narrow(small.model, small.model_options, by)})
    policies = policies_by_name()
    defaults = card_of(policies[spec.policy]).options if spec.policy in policies else {}
    period = {**defaults, **spec.options}.get("period")
    if isinstance(period, int):
        new["options"] = {**spec.options, "period": _divided(period, by, 1)}
    if grid.kind(spec.name) == "static":
        new |= _windows(grid, spec, by)
    return spec.model_copy(update=new) if new else spec


def _windows(grid: Grid, spec: MethodSpec, by: int) -> dict[str, Any]:
    """Options of the score that are about epochs, divided."""
    method, _ = grid.method_of(spec.name)
    if method.score_card is None:
        return {}
    settings = {**method.score_card.options, **method.score_options}
    options = dict(spec.score_options)
    if isinstance(settings.get("window"), int):
        options["window"] = _divided(settings["window"], by, MIN_WINDOW)
    if isinstance(settings.get("last"), int):
        options["last"] = _divided(settings["last"], by, MIN_WINDOW)
        options["first"] = min(settings.get("first", 0) // by, options["last"] - 1)
    return {"score_options": options} if options != spec.score_options else {}
