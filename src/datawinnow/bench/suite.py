"""Several grids in one file: the same methods and seeds on other data, each setting with its own budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator, model_validator

from datawinnow.bench.grid import Grid
from datawinnow.bench.reading import grid_of, parse, wrong
from datawinnow.bench.specs import MethodSpec, Strict
from datawinnow.core.errors import ArgumentError


class Setting(Strict):
    """``[[setting]]``: a dataset, a network, and the budgets: in passes over all the examples, or as ``keep``.

    With ``passes`` the longest is how long full training takes, with ``keep`` that is ``epochs`` of ``train``. What an
    setting says of ``train``, ``score`` or ``data`` comes on top of what the file says.
    """

    name: str
    about: str = ""
    passes: list[float] | None = None
    keep: list[float] | None = None
    data: dict[str, Any] = {}
    train: dict[str, Any] = {}
    score: dict[str, Any] = {}
    methods: list[str] | None = None
    method: list[MethodSpec] = []
    seeds: list[int] | None = None
    scenarios: list[str] | None = None

    @field_validator("passes")
    @classmethod
    def _passes(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and (not value or any(not 0 < p < 1 << 20 for p in value)):
            raise ValueError("must be numbers above 0: the epochs that the shorter full runs train")
        return value

    @model_validator(mode="after")
    def _one_budget(self) -> Setting:
        if self.passes is not None and self.keep is not None:
            raise ValueError("give one of passes and keep: how large the budgets are")
        return self


class Suite(Strict):
    """The whole file; what a setting does not say itself it has from here, of two methods of one name its own."""

    name: str
    about: str = ""
    methods: list[str]
    seeds: list[int]
    keep: list[float] | None = None
    scenarios: list[str] = ["clean"]
    data: dict[str, Any] = {}
    train: dict[str, Any] = {}
    score: dict[str, Any] = {}
    method: list[MethodSpec] = []
    setting: list[Setting]


def read_grids(path: Path) -> tuple[str, dict[str, Grid]]:
    """What a file holds: its name, and a grid a setting; of a file without settings the one grid, under ``""``.

    Raises:
        ArgumentError: as `read_grid` and `read_suite`.
    """
    raw = parse(path)
    if "setting" in raw:
        return str(raw.get("name", path.stem)), read_suite(path)
    grid = grid_of(path, raw)
    return grid.name, {"": grid}


def read_suite(path: Path) -> dict[str, Grid]:
    """Read and check a file with ``[[setting]]``: a grid a setting, by its name.

    With ``passes`` the reference of each budget is ``shorter_full``: all the data for that many epochs. ``keep`` of a
    cell is its budget over the largest of the setting's; policies that train on a fraction an epoch have it among their
    options. With ``keep`` a setting is a grid as any other.

    Raises:
        ArgumentError: as `read_grid`; two settings of one name; a setting without budgets.
    """
    try:
        suite = Suite.model_validate(parse(path))
    except ValidationError as error:
        raise wrong(path, error) from None
    grids: dict[str, Grid] = {}
    for setting in suite.setting:
        if setting.name in grids or not setting.name.replace("_", "").replace("-", "").isalnum():
            why = "is there twice" if setting.name in grids else "names a folder: letters, digits, - and _"
            raise ArgumentError(f"{path}: [[setting]] {setting.name!r} {why}")
        grids[setting.name] = grid_of(path, _raw(path, suite, setting))
    return grids


def _raw(path: Path, suite: Suite, setting: Setting) -> dict[str, Any]:
    """The setting as the file of a single grid would say it."""
    own = {spec.name for spec in setting.method}
    train = {**suite.train, **setting.train}
    keep = setting.keep or suite.keep
    if setting.passes is not None:
        longest = max(setting.passes)
        train, keep = {**train, "epochs": longest}, [passes / longest for passes in setting.passes]
    if keep is None:
        raise ArgumentError(
            f"{path}: [[setting]] {setting.name!r} has no budgets: give it passes, or it or the file keep"
        )
    return {
        "name": f"{suite.name} {setting.name}",
        "about": setting.about or suite.about,
        "data": {**suite.data, **setting.data},
        "train": train,
        "score": {**suite.score, **setting.score},
        "methods": setting.methods or suite.methods,
        "method": [m.model_dump() for m in (*(m for m in suite.method if m.name not in own), *setting.method)],
        "keep": keep,
        "seeds": setting.seeds or suite.seeds,
        "scenarios": setting.scenarios or suite.scenarios,
    }
