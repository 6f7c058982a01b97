"""Reads grids from TOML and checks, before anything is trained, that every cell can run."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError, field_validator, model_validator

from datawinnow.bench.grid import (
    BASELINES,
    FolderName,
    Grid,
    KeptFractions,
    MethodSpec,
    SeedValue,
    Strict,
    parse_scenario,
)
from datawinnow.bench.grid_mistakes import Mistakes, validation_mistakes
from datawinnow.core.card import unknown_name
from datawinnow.core.errors import ArgumentError, DatawinnowError
from datawinnow.models import MODELS
from datawinnow.runs.early_stopping import RankStability
from datawinnow.text.image_processor import takes_images
from datawinnow.text.pretrained import is_pretrained
from datawinnow.train.recipe import check_recipe
from datawinnow.vit import SparseLevels

ModelT = TypeVar("ModelT", bound=Strict)


class Setting(Strict):
    """``[[setting]]``: a dataset, a network, and the budgets, as ``passes`` over all the examples or as ``keep``.

    With ``passes``, full training lasts as long as the largest of them; with ``keep``, as long as ``epochs`` of
    ``train``. What a setting says of ``data``, ``train`` and ``score`` is added to what the file says.
    """

    name: str
    about: str = ""
    passes: list[float] | None = None
    keep: KeptFractions | None = None
    data: dict[str, Any] = {}
    train: dict[str, Any] = {}
    score: dict[str, Any] = {}
    methods: list[str] | None = None
    method: list[MethodSpec] = []
    seeds: list[SeedValue] | None = None
    scenarios: list[str] | None = None

    @field_validator("passes")
    @classmethod
    def _check_passes(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and (not value or any(not 0 < p < 1 << 20 for p in value)):
            raise ValueError("must be numbers above 0: the epochs that the shorter full runs train")
        return value

    @model_validator(mode="after")
    def _check_one_budget(self) -> Setting:
        if self.passes is not None and self.keep is not None:
            raise ValueError("set either passes or keep, which give the budgets")
        return self


class Suite(Strict):
    """A file with ``[[setting]]``: what it says holds for every setting that does not say otherwise."""

    name: FolderName
    about: str = ""
    methods: list[str]
    seeds: list[SeedValue]
    keep: KeptFractions | None = None
    scenarios: list[str] = ["clean"]
    data: dict[str, Any] = {}
    train: dict[str, Any] = {}
    score: dict[str, Any] = {}
    method: list[MethodSpec] = []
    setting: list[Setting]


def read_grid(path: Path, *, models: Collection[str] = ()) -> Grid:
    """Read and check a file of one grid; ``$NAME`` in the source is replaced from the environment.

    Args:
        path: the file.
        models: the ``"module:function"`` that it may name as networks: a file may come from somebody else, so nothing
            is imported because a file names it.

    Raises:
        ArgumentError: no such file, not TOML, an unknown or wrong key (named), an unknown method or scenario, or a
            function that is not in ``models``.
    """
    return _refuse_imports(path, grid_of(path, _parse_toml(path)), models)


def read_grids(path: Path, *, models: Collection[str] = ()) -> tuple[str, dict[str, Grid]]:
    """Read and check a file of one or several grids.

    Args:
        path: the file.
        models: as for `read_grid`.

    Returns:
        The file's name for its results, and a grid by the name of its setting; a file without ``[[setting]]`` has one
        grid, named ``""``.

    Raises:
        ArgumentError: as `read_grid`; two settings of one name; a setting without budgets.
    """
    raw = _parse_toml(path)
    if "setting" in raw:
        return str(raw.get("name", path.stem)), read_suite(path, models=models)
    grid = _refuse_imports(path, grid_of(path, raw), models)
    return grid.name, {"": grid}


def read_suite(path: Path, *, models: Collection[str] = ()) -> dict[str, Grid]:
    """Read and check a file with ``[[setting]]``: a grid by the name of its setting.

    With ``passes``, the reference of each budget is ``shorter_full``: all the data for that many epochs. ``keep`` of a
    cell is then its budget over the largest one of the setting. With ``keep``, a setting is a grid like any other.

    Raises:
        ArgumentError: as `read_grids`.
    """
    suite = _validated(path, Suite, _parse_toml(path))
    grids: dict[str, Grid] = {}
    for setting in suite.setting:
        if setting.name in grids or not setting.name.replace("_", "").replace("-", "").isalnum():
            why = "is there twice" if setting.name in grids else "names a folder: letters, digits, - and _"
            raise ArgumentError(f"{path}: [[setting]] {setting.name!r} {why}")
        grids[setting.name] = _refuse_imports(
            path, grid_of(f"{path}, setting {setting.name!r}", _setting_as_grid(path, suite, setting)), models
        )
    return grids


def _refuse_imports(path: Path, grid: Grid, models: Collection[str]) -> Grid:
    """``grid``, if each function that it names as a network is in ``models``."""
    small = [spec.batch or spec.replay for spec in grid.method]
    for name in (grid.train.model, grid.score.model, *(None if spec is None else spec.model for spec in small)):
        if name is not None and ":" in name and not is_pretrained(name) and name not in models:
            raise ArgumentError(
                f"{path} names the function {name!r} as a network. A file may come from somebody else, so nothing that "
                "it names is imported: if you trust it and its model_options, run the same command again with "
                f"`models=[{name.replace('`', '?')!r}]`"
            )
    for spec in grid.method:
        for options in (spec.options, spec.score_options, *spec.options_at.values()):
            embedding = options.get("embedding")
            if embedding is not None and not is_pretrained(embedding):
                raise ArgumentError(
                    f"{path}: embedding={str(embedding).replace('`', '?')!r} of a file must be hf:PATH: nothing that "
                    "a file names is imported"
                )
    return grid


def _setting_as_grid(path: Path, suite: Suite, setting: Setting) -> dict[str, Any]:
    """The setting in the layout of a file of one grid."""
    overridden = {spec.name for spec in setting.method}
    train = {**suite.train, **setting.train}
    keep = setting.keep or suite.keep
    if setting.passes is not None:
        longest = max(setting.passes)
        # full training lasts as long as the largest budget; the others are fractions of it
        train, keep = {**train, "epochs": longest}, [passes / longest for passes in setting.passes]
    if keep is None:
        raise ArgumentError(
            f"{path}: [[setting]] {setting.name!r} has no budgets: give it passes, or it or the file keep"
        )
    # a method of the setting replaces the file's of the same name
    specs = [*(spec for spec in suite.method if spec.name not in overridden), *setting.method]
    return {
        "name": f"{suite.name} {setting.name}",
        "about": setting.about or suite.about,
        "data": {**suite.data, **setting.data},
        "train": train,
        "score": {**suite.score, **setting.score},
        "methods": setting.methods or suite.methods,
        "method": [spec.model_dump() for spec in specs],
        "keep": keep,
        "seeds": setting.seeds or suite.seeds,
        "scenarios": setting.scenarios or suite.scenarios,
    }


def _parse_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArgumentError(f"no such file: {path}") from None
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ArgumentError(f"{path} is not TOML: {error}") from None


def _validated(path: Path | str, model: type[ModelT], raw: dict[str, Any]) -> ModelT:
    """``raw`` as ``model``.

    Raises:
        ArgumentError: naming every key that is not as it must be.
    """
    mistakes = Mistakes()
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        mistakes.sentences = validation_mistakes(error, model, raw)
    mistakes.raise_all(path)
    raise AssertionError  # there are mistakes


def grid_of(path: Path | str, raw: dict[str, Any]) -> Grid:
    """Validate and check a grid given as nested dicts; errors name ``path``.

    Raises:
        ArgumentError: as `read_grid`.
    """
    grid = check_grid(_validated(path, Grid, raw), path)
    source = grid.data.source
    if source.startswith("$DATAWINNOW_DATA"):
        source = source.replace("$DATAWINNOW_DATA", os.environ.get("DATAWINNOW_DATA", "../shared/data"), 1)
    model, tokenizer = grid.train.model, grid.data.tokenizer
    if tokenizer is None and model is not None and is_pretrained(model) and not takes_images(model):
        tokenizer = model
    data = {"source": os.path.expandvars(source), "tokenizer": tokenizer}
    return grid.model_copy(update={"data": grid.data.model_copy(update=data)})


def check_grid(grid: Grid, path: Path | str = "") -> Grid:
    """Check that every cell can run, as far as can be seen without the data; errors name ``path``, or the grid.

    Returns:
        ``grid`` itself.

    Raises:
        ArgumentError: names, options or numbers of epochs with which some cell would fail, all of them.
    """
    mistakes = Mistakes()
    for check in (_check_recipe, _check_scoring, _check_method_names):
        with mistakes.collect():
            check(grid)
    for section, model in (("train", grid.train.model), ("score", grid.score.model)):
        if model is not None and ":" not in model and model not in MODELS:
            mistakes.sentences.append(f"[{section}] {unknown_name('model', model, MODELS)}")
    for scenario in grid.scenarios:
        with mistakes.collect("scenarios: "):
            parse_scenario(scenario)
    for name in dict.fromkeys([*grid.methods, *(spec.name for spec in grid.method)]):
        for check_method in (grid.recipe, lambda name: _check_method(grid, name)):
            with mistakes.collect():
                check_method(name)
    mistakes.raise_all(path or f"grid {grid.name!r}")
    return grid


def _check_recipe(grid: Grid) -> None:
    recipe = grid.train.recipe()
    for at in grid.train.at.values():
        replace(recipe, **check_recipe(at))
    if grid.score.size_schedule:
        replace(recipe, **check_recipe({"size_schedule": grid.score.size_schedule}))


def _check_scoring(grid: Grid) -> None:
    if grid.score.model_options and not grid.score.model:
        raise ArgumentError("[score] model_options requires [score] model")
    if grid.score.schedule_epochs is not None and grid.score.schedule_epochs < grid.recorded_epochs:
        raise ArgumentError(
            f"[score] schedule_epochs={grid.score.schedule_epochs} must be at least the "
            f"{grid.recorded_epochs} epochs recorded"
        )
    if grid.until is not None:
        _check_until(grid, grid.until)


def _check_method_names(grid: Grid) -> None:
    names = [spec.name for spec in grid.method]
    for name in names:
        if name in BASELINES or names.count(name) > 1:
            why = "is the name of a baseline" if name in BASELINES else "is there twice"
            raise ArgumentError(f"[[method]] {name!r} {why}; give it another name")


def _check_method(grid: Grid, name: str) -> None:
    """Check that every cell of a method can run."""
    spec = grid.spec_of(name)
    if set(spec.keep) - set(grid.keep):
        raise ArgumentError(f"[[method]] {name!r} has keep {spec.keep}, not all of them in the grid's {grid.keep}")
    SparseLevels.from_options(spec.levels)
    if grid.kind(name) in ("static", "policy") and spec.selection is None:
        for keep in spec.keep or grid.keep:
            _check_cell(grid, spec, keep)


def _check_cell(grid: Grid, spec: MethodSpec, keep: float) -> None:
    """Check that a method can run at ``keep``."""
    name = spec.name
    if keep == 1 and grid.kind(name) == "static":
        raise ArgumentError(f"method {name!r} at keep 1 keeps everything: leave 1 out of keep")
    try:
        if grid.kind(name) == "policy":
            small = spec.batch or spec.replay
            if small is not None and small.model is not None and ":" not in small.model and small.model not in MODELS:
                raise unknown_name("model", small.model, MODELS)
            if spec.batch is None:
                grid.policy(name, keep)
            return
        method, limit = grid.method_of(name)
        epochs = min(grid.min_recorded_epochs, limit or grid.min_recorded_epochs)
        method.dry_run(keep=keep, epochs=epochs)
    except DatawinnowError as error:
        early = ""
        if grid.until is not None:
            early = f" (by [score] until_stable it may end after {grid.min_recorded_epochs})"
        raise ArgumentError(f"method {name!r} at keep {keep:g}: {error}{early}") from None


def _check_until(grid: Grid, until: RankStability) -> None:
    try:
        until.check_epochs(grid.recorded_epochs)
    except ArgumentError as error:
        raise ArgumentError(f"[score] {error}") from None
    for name in grid.methods:
        epochs = grid.spec_of(name).epochs
        if epochs is not None:
            raise ArgumentError(
                f"method {name!r} reads {epochs} epochs of the recording, but with [score] until_stable their number "
                "is not known in advance: remove one of the two"
            )
