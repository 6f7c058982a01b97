"""Reads a grid from TOML, and finds what would stop it before hours have gone into it."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from datawinnow.bench.grid import BASELINES, Grid, parse_scenario
from datawinnow.core.errors import ArgumentError, DatawinnowError
from datawinnow.models import MODELS
from datawinnow.runs.early_stopping import Settled
from datawinnow.text.pretrained import is_pretrained
from datawinnow.train.recipe import check_recipe
from datawinnow.vit import SparseLevels


def read_grid(path: Path) -> Grid:
    """Read and check a grid; ``$NAME`` in the source is taken from the environment.

    Raises:
        ArgumentError: no such file, not TOML, an unknown or wrong key (named), an unknown method or scenario.
    """
    return grid_of(path, parse(path))


def parse(path: Path) -> dict[str, Any]:
    """What stands in a TOML file.

    Raises:
        ArgumentError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArgumentError(f"no such file: {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} is not TOML: {error}") from None


def wrong(path: Path, error: ValidationError) -> ArgumentError:
    """What pydantic found, in a line that names file and keys."""
    lines = "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
    )
    return ArgumentError(f"{path}: {lines}")


def grid_of(path: Path, raw: dict[str, Any]) -> Grid:
    """The grid that ``raw`` says, checked; errors name ``path``.

    Raises:
        ArgumentError: as `read_grid`.
    """
    try:
        grid = check_grid(Grid.model_validate(raw))
    except ValidationError as error:
        raise wrong(path, error) from None
    except DatawinnowError as error:
        raise ArgumentError(f"{path}: {error}") from None
    source = grid.data.source
    if source.startswith("$DATAWINNOW_DATA"):
        source = source.replace("$DATAWINNOW_DATA", os.environ.get("DATAWINNOW_DATA", "../shared/data"), 1)
    own = grid.train.model if is_pretrained(grid.train.model) else None
    data = {"source": os.path.expandvars(source), "tokenizer": grid.data.tokenizer or own}
    return grid.model_copy(update={"data": grid.data.model_copy(update=data)})


def check_grid(grid: Grid) -> Grid:
    """``grid``, if every cell of it can run as far as can be told without the data.

    Raises:
        ArgumentError: a name, an option or a number of epochs that some cell would stumble over after hours.
        MissingArrayError: a method needs an array that a recording does not make.
    """
    recipe = grid.train.recipe()
    for at in grid.train.at.values():
        replace(recipe, **check_recipe(at))
    for section, model in (("train", grid.train.model), ("score", grid.score.model)):
        if model is not None and ":" not in model and model not in MODELS:
            raise ArgumentError(f"[{section}] no model is called {model!r}. There are: {', '.join(MODELS)}")
    if grid.score.model_options and not grid.score.model:
        raise ArgumentError("[score] model_options are those of [score] model, which is not given")
    if grid.score.schedule_epochs is not None and grid.score.schedule_epochs < grid.recorded_epochs:
        raise ArgumentError(
            f"[score] schedule_epochs={grid.score.schedule_epochs} is the length of the schedule, at least "
            f"the {grid.recorded_epochs} epochs recorded"
        )
    if grid.until is not None:
        _check_until(grid, grid.until)
    for scenario in grid.scenarios:
        parse_scenario(scenario)
    named = [spec.name for spec in grid.method]
    for name in named:
        if name in BASELINES or named.count(name) > 1:
            why = "is the name of a baseline" if name in BASELINES else "is there twice"
            raise ArgumentError(f"[[method]] {name!r} {why}; give it another name")
    for name in dict.fromkeys([*grid.methods, *named]):
        grid.recipe(name)
        spec = grid.named(name)
        if set(spec.keep) - set(grid.keep):
            raise ArgumentError(f"[[method]] {name!r} has a keep of {spec.keep} that the grid's {grid.keep} has not")
        SparseLevels.from_options(spec.levels)
        if grid.kind(name) not in ("static", "policy"):
            continue
        for keep in spec.keep or grid.keep:
            if keep == 1 and grid.kind(name) == "static":
                raise ArgumentError(f"method {name!r} at keep 1 keeps everything: leave 1 out of keep")
            try:
                if grid.kind(name) == "policy":
                    _check_choosing(grid, name, keep)
                    continue
                method, limit = grid.spec(name)
                method.dry_run(keep=keep, epochs=min(grid.least_recorded, limit or grid.least_recorded))
            except DatawinnowError as error:
                early = (
                    "" if grid.until is None else f" (by [score] until_stable it may end after {grid.least_recorded})"
                )
                raise ArgumentError(f"method {name!r} at keep {keep:g}: {error}{early}") from None
    return grid


def _check_until(grid: Grid, until: Settled) -> None:
    try:
        until.check_epochs(grid.recorded_epochs)
    except ArgumentError as error:
        raise ArgumentError(f"[score] {error}") from None
    for name in grid.methods:
        if grid.named(name).epochs is not None:
            raise ArgumentError(
                f"method {name!r} reads {grid.named(name).epochs} epochs of the recording, and by [score] until_stable "
                "nobody knows how many it has: leave one of the two out"
            )


def _check_choosing(grid: Grid, name: str, keep: float) -> None:
    spec = grid.named(name)
    small = spec.batch or spec.replay
    if small is not None and small.model is not None and ":" not in small.model and small.model not in MODELS:
        raise ArgumentError(f"no model is called {small.model!r}. There are: {', '.join(MODELS)}")
    if spec.batch is None:
        grid.policy(name, keep)
