"""A grid of experiments, read from TOML: method x keep x seed x scenario."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from datawinnow.core.errors import ArgumentError, DatawinnowError
from datawinnow.models import MODELS
from datawinnow.pipeline.methods import METHODS, Method, method_of, needs_of, rehearse
from datawinnow.scenarios import METHODS as SCENARIOS
from datawinnow.train import Recipe

BASELINES = {"full": "all the data", "shorter_full": "all the data, fewer epochs"}


class Strict(BaseModel):
    """A section of the file: an unknown key is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Strict):
    """``[data]``: what to train on."""

    source: str
    limit: int | None = None
    size: int | None = None
    seed: int = 0
    image: str | None = None
    label: str | None = None
    flip: bool | None = None


class Train(Strict):
    """``[train]``: the network and how every cell trains it; other keys are fields of `Recipe`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    epochs: int = Field(gt=0)
    model: str | None = None
    model_options: dict[str, Any] = {}

    def recipe(self) -> Recipe:
        """The recipe of every cell.

        Raises:
            ArgumentError: an unknown key, or a value out of range.
        """
        given = dict(self.__pydantic_extra__ or {})
        known = list(Recipe.__dataclass_fields__)
        for key in given:
            if key not in known:
                raise ArgumentError(
                    f"[train] has no key {key!r}; its keys are: epochs, model, model_options, {', '.join(known)}"
                )
        # Not "auto" unless the file says so: timed in every cell by itself it could choose differently in two of them.
        return Recipe(**{"precision": "fp32", **given})


class Scoring(Strict):
    """``[score]``: the recording that all scores of a seed and scenario share."""

    epochs: int | None = Field(default=None, gt=0)
    of: int | None = Field(default=None, gt=0)
    model: str | None = None
    model_options: dict[str, Any] = {}


class MethodSpec(Strict):
    """``[[method]]``: a method put together in the file."""

    name: str
    label: str | None = None
    method: str | None = None
    score: str | None = None
    select: str | None = None
    options: dict[str, Any] = {}
    score_options: dict[str, Any] = {}
    epochs: int | None = Field(default=None, gt=0)
    per_class: bool = False


class Grid(Strict):
    """The whole file."""

    name: str
    about: str = ""
    data: Data
    train: Train
    score: Scoring = Scoring()
    methods: list[str]
    keep: list[float]
    seeds: list[int]
    scenarios: list[str] = ["clean"]
    method: list[MethodSpec] = []

    @field_validator("keep")
    @classmethod
    def _keep(cls, value: list[float]) -> list[float]:
        if any(not 0 < k < 1 for k in value):
            raise ValueError("each keep must be in (0, 1): it is the fraction kept")
        return value

    @field_validator("methods", "seeds", "scenarios", "keep")
    @classmethod
    def _some(cls, value: list[Any]) -> list[Any]:
        if not value:
            raise ValueError("must not be empty")
        if len(set(value)) != len(value):
            raise ValueError(f"has an entry twice: {value}")
        return value

    def spec(self, name: str) -> tuple[Method, int | None]:
        """The method called ``name`` in this file, and the number of recorded epochs it may read."""
        for spec in self.method:
            if spec.name == name:
                built = method_of(
                    spec.method,
                    score=spec.score,
                    select_by=spec.select,
                    options=spec.options,
                    score_options=spec.score_options,
                    per_class=spec.per_class,
                )
                label = spec.label or (built.label if spec.method else name)
                return replace(built, key=name, label=label), spec.epochs
        return method_of(name), None

    @property
    def recorded_epochs(self) -> int:
        """Epochs of the recording."""
        return self.score.epochs or self.train.epochs

    @property
    def full_is_recording(self) -> bool:
        """Whether the full run and the scoring run are the same run, so that one does for both."""
        score = self.score
        return (
            (score.epochs in (None, self.train.epochs)) and (score.of in (None, self.train.epochs)) and not score.model
        )

    def reads_recording(self, cell: Cell) -> bool:
        """Whether a cell needs the recording of its seed and scenario."""
        if cell.kind == "full":
            return self.full_is_recording
        return cell.kind == "static" and bool(needs_of(self.spec(cell.method)[0]))

    def label(self, name: str) -> str:
        """The method's name for people."""
        return BASELINES[name] if name in BASELINES else self.spec(name)[0].label


class Cell(Strict):
    """One run of the grid."""

    kind: Literal["full", "shorter_full", "static"]
    method: str
    keep: float
    seed: int
    scenario: str

    @property
    def key(self) -> tuple[str, float, int, str]:
        """What identifies its row."""
        return (self.method, self.keep, self.seed, self.scenario)

    @property
    def title(self) -> str:
        """What it is, for people."""
        kept = "" if self.kind == "full" else f" at keep {self.keep:g}"
        return f"cell {self.method}{kept}, seed {self.seed}, {self.scenario}"


def parse_scenario(text: str) -> tuple[str, float]:
    """``"symmetric 0.2"`` -> ``("symmetric", 0.2)``; ``"clean"`` -> ``("clean", 0.0)``.

    Raises:
        ArgumentError: an unknown scenario or a rate outside (0, 1].
    """
    if text == "clean":
        return "clean", 0.0
    name, _, rate = text.partition(" ")
    try:
        value = float(rate)
    except ValueError:
        value = -1.0
    if name not in SCENARIOS or not 0 < value <= 1:
        raise ArgumentError(
            f'scenario must be "clean" or "NAME RATE" with RATE in (0, 1] and NAME one of '
            f"{', '.join(SCENARIOS)}, got {text!r}"
        )
    return name, value


def read_grid(path: Path) -> Grid:
    """Read and check a grid; ``$NAME`` in the source is taken from the environment.

    Raises:
        ArgumentError: no such file, not TOML, an unknown or wrong key (named), an unknown method or scenario.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArgumentError(f"no such file: {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} is not TOML: {error}") from None
    try:
        grid = check_grid(Grid.model_validate(raw))
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ArgumentError(f"{path}: {lines}") from None
    except DatawinnowError as error:
        raise ArgumentError(f"{path}: {error}") from None
    source = grid.data.source
    if source.startswith("$DATAWINNOW_DATA"):
        source = source.replace("$DATAWINNOW_DATA", os.environ.get("DATAWINNOW_DATA", "../shared/data"), 1)
    return grid.model_copy(update={"data": grid.data.model_copy(update={"source": os.path.expandvars(source)})})


def check_grid(grid: Grid) -> Grid:
    """``grid``, if every cell of it can run as far as can be told without the data.

    Raises:
        ArgumentError: a name, an option or a number of epochs that some cell would stumble over after hours.
        MissingArrayError: a method needs an array that a recording does not make.
    """
    grid.train.recipe()
    for section, model in (("train", grid.train.model), ("score", grid.score.model)):
        if model is not None and ":" not in model and model not in MODELS:
            raise ArgumentError(f"[{section}] no model is called {model!r}. There are: {', '.join(MODELS)}")
    if grid.score.model_options and not grid.score.model:
        raise ArgumentError("[score] model_options are those of [score] model, which is not given")
    if grid.score.of is not None and grid.score.of < grid.recorded_epochs:
        raise ArgumentError(
            f"[score] of={grid.score.of} is the length of the schedule, at least the {grid.recorded_epochs} epochs "
            "recorded"
        )
    for scenario in grid.scenarios:
        parse_scenario(scenario)
    named = [spec.name for spec in grid.method]
    for name in named:
        if name in BASELINES or named.count(name) > 1:
            why = "is the name of a baseline" if name in BASELINES else "is there twice"
            raise ArgumentError(f"[[method]] {name!r} {why}; give it another name")
    for name in grid.methods:
        if name in BASELINES:
            continue
        method, limit = grid.spec(name)
        for keep in grid.keep:
            try:
                rehearse(method, keep=keep, epochs=min(grid.recorded_epochs, limit or grid.recorded_epochs))
            except DatawinnowError as error:
                raise ArgumentError(f"method {name!r} at keep {keep:g}: {error}") from None
    return grid


def cells_of(grid: Grid) -> list[Cell]:
    """All cells, seed by seed, the recording (``full``) first, so that every prefix is as whole as can be."""
    cells: list[Cell] = []
    for seed in grid.seeds:
        for scenario in grid.scenarios:
            if "full" in grid.methods:
                cells.append(Cell(kind="full", method="full", keep=1.0, seed=seed, scenario=scenario))
            for keep in grid.keep:
                for name in grid.methods:
                    if name == "full":
                        continue
                    kind: Literal["shorter_full", "static"] = "shorter_full" if name == "shorter_full" else "static"
                    cells.append(Cell(kind=kind, method=name, keep=keep, seed=seed, scenario=scenario))
    return cells


def known_methods() -> list[str]:
    """Names that ``methods`` may list without a ``[[method]]`` of their own."""
    return [*BASELINES, *METHODS]
