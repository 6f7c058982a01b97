"""The folder of a bench's results: a row a cell, and beside them what they were made with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datawinnow.bench.cell import equal_epochs
from datawinnow.bench.grid import Cell, Data, Grid, Scoring, cells_of
from datawinnow.bench.specs import MethodSpec
from datawinnow.core.errors import RunError
from datawinnow.core.files import check_format, read_json, write_bytes, write_json
from datawinnow.train import Recipe

Row = dict[str, Any]


class Results:
    """The rows of a grid in a folder, which holds rows of this grid's settings and of one dataset only.

    Args:
        grid: the grid.
        out: the folder; ``grid.json`` and ``rows.jsonl`` are in it.

    Attributes:
        cells: all cells of the grid, in order.
        rows: those that there are, in the order of the grid.
        fingerprint: of the dataset they are about; None until it is known.

    Raises:
        RunError: the folder holds rows of a newer version, of another dataset, or made under other settings.
    """

    def __init__(self, grid: Grid, out: Path) -> None:
        self.out, self.cells = out, cells_of(grid)
        self.rows = read_rows(out / "rows.jsonl")
        self._facts = _compared(grid, self.rows, out)
        write_json(out / "grid.json", self._facts)

    @property
    def fingerprint(self) -> str | None:
        """Of the dataset that the results are about."""
        return self._facts.get("fingerprint")

    def missing(self) -> list[Cell]:
        """Cells without a row, in order; one that failed has a row."""
        done = {row_key(row) for row in self.rows}
        return [cell for cell in self.cells if cell.key not in done]

    def add(self, row: Row) -> None:
        """Put a row in its place; the file is written whole and renamed."""
        self.rows = in_order([*self.rows, row], self.cells)
        write_rows(self.out / "rows.jsonl", self.rows)

    def note(self, fingerprint: str | None) -> None:
        """Write down which dataset the results are about, as soon as it is known."""
        if fingerprint is not None and fingerprint != self.fingerprint:
            self._facts["fingerprint"] = fingerprint
            write_json(self.out / "grid.json", self._facts)


def in_order(rows: Sequence[Row], cells: Sequence[Cell]) -> list[Row]:
    """Rows in the order of the grid, whatever the order in which they were done; those of no cell first."""
    place = {cell.key: i for i, cell in enumerate(cells)}
    return sorted(rows, key=lambda row: place.get(row_key(row), -1))


def row_key(row: Row) -> tuple[str, float, int, str]:
    """What identifies a row, as `Cell.key`."""
    return (row["method"], row["keep"], row["seed"], row["scenario"])


def read_rows(path: Path) -> list[Row]:
    """Rows of a results file; none if there is no file.

    Raises:
        RunError: a line that is not a row, or of a newer version.
    """
    if not path.exists():
        return []
    rows = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: it is no text ({error}); move it away to start anew") from None
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        try:
            row = json.loads(line)
            check_format(row.get("format"), path)
            row_key(row)
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise RunError(
                f"{path}, line {number}: not a row of results ({error}); remove the line to run it again"
            ) from None
        rows.append(row)
    return rows


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write all rows whole, one JSON object a line; a row with NaN is a bug, since JSON has none."""
    write_bytes(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode())


def _compared(grid: Grid, rows: list[Row], out: Path) -> dict[str, Any]:
    """What ``grid.json`` is to hold; refuses to mix rows made under different settings.

    More methods, seeds, keeps and scenarios may be added. Where the data lies may change, since every worker compares
    its fingerprint before it trains.
    """
    own = _settings(grid)
    path = out / "grid.json"
    fingerprint: str | None = None
    if path.exists() and (rows or (out / "recordings").exists()):
        metadata = read_json(path)
        fingerprint, before = metadata.get("fingerprint"), metadata["settings"]
        _compare_settings(before, own, {row["method"] for row in rows}, out)
        own["methods"] = {**before.get("methods", {}), **own["methods"]}
    fingerprint = fingerprint or (rows[0].get("fingerprint") if rows else None)
    _compare_rows(grid, rows, fingerprint, out)
    known = {} if fingerprint is None else {"fingerprint": fingerprint}
    return {"kind": "grid", "name": grid.name, "about": grid.about, **known, "settings": own}


def _settings(grid: Grid) -> dict[str, dict[str, Any]]:
    """What makes numbers comparable: all but the lists, the names, and where the data lies."""
    train = grid.train.model_dump(include={"epochs", "model", "model_options", "at"})
    return {
        "data": grid.data.model_dump(exclude={"source"}),
        "train": {**train, **{k: v for k, v in grid.train.recipe().metadata().items() if k != "workers"}},
        "score": grid.score.model_dump(),
        "methods": {spec.name: spec.model_dump(exclude={"label"}) for spec in grid.method},
    }


def _compare_settings(before: dict[str, Any], own: dict[str, Any], there: set[str], out: Path) -> None:
    """Refuse settings that differ, by name; those of a method count once it has rows.

    A setting that an older version did not have yet was at what is now its default.
    """
    train = {**Recipe().metadata(), "at": {}}
    default = {"data": Data(source="").model_dump(), "train": train, "score": Scoring().model_dump()}
    for section in ("data", "train", "score", "methods"):
        then, now = before.get(section, {}), own[section]
        for key in sorted({*then, *now}):
            if section == "methods" and (key not in then or key not in now or key not in there):
                continue
            old, new = then.get(key, default.get(section, {}).get(key)), now.get(key)
            if section == "methods":  # what an older version did not write down was at its default
                old, new = (MethodSpec.model_validate({**said, "name": key}) for said in (old, new))
            if old != new:
                raise RunError(
                    f"{out} holds rows made with [{section}] {key} = {old!r}, now it is {new!r}: "
                    "give another --out folder, or the same settings as before"
                )


def _compare_rows(grid: Grid, rows: list[Row], fingerprint: str | None, out: Path) -> None:
    """Refuse rows that cannot be of this grid, also where no ``grid.json`` tells."""
    model = grid.train.model or (rows[0].get("model") if rows else None)
    for row in rows:
        for key, value in (("epochs", grid.train.epochs), ("model", model), ("fingerprint", fingerprint)):
            if row.get(key) != value:
                raise RunError(
                    f"{out} holds a row with {key} {row.get(key)!r} where {value!r} is expected: rows of different "
                    "experiments do not go into one folder; give another --out folder"
                )
        if row["method"] == "shorter_full":
            expected = equal_epochs(grid.train.epochs, row["keep"], row["n"])
            if row.get("trained_epochs", expected) != expected:
                raise RunError(
                    f"{out} holds a shorter full run at keep {row['keep']:g} of {row['trained_epochs']} epochs, which "
                    f"an older datawinnow rounded; as many examples as are passed at this keep are {expected:g} "
                    "epochs: remove such lines from rows.jsonl to run them again, or give another --out folder"
                )
