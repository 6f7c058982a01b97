"""Several grids in one file: the same methods and seeds on other data, each arena with its own budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError, field_validator

from datawinnow.bench.grid import Grid
from datawinnow.bench.reading import grid_of, parse, wrong
from datawinnow.bench.specs import MethodSpec, Strict
from datawinnow.core.errors import ArgumentError


class Arena(Strict):
    """``[[arena]]``: a dataset, a network, and the budgets in passes over all the examples."""

    name: str
    about: str = ""
    passes: list[float]
    data: dict[str, Any]
    train: dict[str, Any]
    methods: list[str] | None = None
    seeds: list[int] | None = None
    scenarios: list[str] = ["clean"]

    @field_validator("passes")
    @classmethod
    def _passes(cls, value: list[float]) -> list[float]:
        if not value or any(not 0 < p < 1 << 20 for p in value):
            raise ValueError("must be numbers above 0: the epochs that the shorter full runs train")
        return value


class Suite(Strict):
    """The whole file; what an arena does not say itself it has from here."""

    name: str
    about: str = ""
    methods: list[str]
    seeds: list[int]
    train: dict[str, Any] = {}
    method: list[MethodSpec] = []
    arena: list[Arena]


def read_grids(path: Path) -> tuple[str, dict[str, Grid]]:
    """What a file holds: its name, and a grid an arena; of a file without arenas the one grid, under ``""``.

    Raises:
        ArgumentError: as `read_grid` and `read_suite`.
    """
    raw = parse(path)
    if "arena" in raw:
        return str(raw.get("name", path.stem)), read_suite(path)
    grid = grid_of(path, raw)
    return grid.name, {"": grid}


def read_suite(path: Path) -> dict[str, Grid]:
    """Read and check a file with ``[[arena]]``: a grid an arena, by its name.

    The reference of each budget is ``shorter_full``: all the data for that many epochs. ``keep`` of a cell is its
    budget over the largest of the arena's; policies that train on a fraction an epoch have it among their options.

    Raises:
        ArgumentError: as `read_grid`; two arenas of one name.
    """
    try:
        suite = Suite.model_validate(parse(path))
    except ValidationError as error:
        raise wrong(path, error) from None
    grids: dict[str, Grid] = {}
    for arena in suite.arena:
        if arena.name in grids or not arena.name.replace("_", "").replace("-", "").isalnum():
            why = "is there twice" if arena.name in grids else "names a folder: letters, digits, - and _"
            raise ArgumentError(f"{path}: [[arena]] {arena.name!r} {why}")
        longest = max(arena.passes)
        grids[arena.name] = grid_of(
            path,
            {
                "name": f"{suite.name} {arena.name}",
                "about": arena.about or suite.about,
                "data": arena.data,
                "train": {**suite.train, **arena.train, "epochs": longest},
                "methods": arena.methods or suite.methods,
                "method": [spec.model_dump() for spec in suite.method],
                "keep": [passes / longest for passes in arena.passes],
                "seeds": arena.seeds or suite.seeds,
                "scenarios": arena.scenarios,
            },
        )
    return grids
