"""The folder of a grid's results: ``rows.jsonl`` with a row a cell, and ``grid.json`` with the settings behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datawinnow.bench.grid import Cell, Data, Grid, MethodSpec, Scoring, cells_of, equal_epochs
from datawinnow.core.artifact_schemas import GridFile
from datawinnow.core.artifacts import FORMAT_VERSION, read_json, require_same, write_json
from datawinnow.core.cost import Cost
from datawinnow.core.errors import RunError
from datawinnow.core.files import finite_or_none
from datawinnow.core.provenance import commit, now, versions
from datawinnow.core.result_rows import GRID_FILE, ROWS_FILE, read_rows, row_key, write_rows
from datawinnow.core.verdict import ResultRow
from datawinnow.train import Recipe


def result_row(
    *, score: Cost, select: Cost, train: Cost, accuracy: float | None, test_loss: float | None, **metadata: Any
) -> ResultRow:
    """A row: the metadata of the cell, its accuracy on the test split after the last epoch, and its cost by stage.

    Args:
        score: what this cell is charged of a recording; nothing where it reads none.
        select: of choosing the examples.
        train: of training on them.
        accuracy: in [0, 1]; None where training diverged.
        test_loss: in nats; written as null where it is not finite, since JSON has no NaN.
        metadata: ``benchmark``, ``dataset``, ``method``, ``seed`` and so on.
    """
    return {
        "format": FORMAT_VERSION,
        **metadata,
        "accuracy": finite_or_none(accuracy),
        "test_loss": finite_or_none(test_loss),
        "cost": {"score": score.as_dict(), "select": select.as_dict(), "train": train.as_dict()},
        "passes": train.passes,
        "total_passes": (score + select + train).passes,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": commit(),
        "finished": now(),
    }


class Results:
    """The rows of a grid in a folder, which holds rows of one dataset made under one set of settings.

    Args:
        grid: the grid.
        out: the folder.
        model: name of the network, where a function gives it; by default that of the grid.

    Attributes:
        cells: all cells of the grid, in order.
        rows: the rows made so far, in the order of the grid.

    Raises:
        RunError: the folder holds rows of a newer version, of another dataset, or made under other settings.
    """

    def __init__(self, grid: Grid, out: Path, model: str | None = None) -> None:
        self.out, self.cells = out, cells_of(grid)
        self.rows = read_rows(out / ROWS_FILE)
        self._metadata = _merged_metadata(grid, self.rows, out, model or grid.train.model)
        # before any cell runs: the first recording is bound to these settings
        write_json(out / GRID_FILE, self._metadata)

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the dataset of the rows; None until a dataset is loaded."""
        return self._metadata.get("fingerprint")

    @property
    def test_fingerprint(self) -> str | None:
        """Fingerprint of the test split of the rows; None until a dataset is loaded."""
        return self._metadata.get("test_fingerprint")

    def missing(self) -> list[Cell]:
        """Cells without a row, in order. A cell whose training diverged has a row."""
        done = {row_key(row) for row in self.rows}
        return [cell for cell in self.cells if cell.key not in done]

    def add(self, row: ResultRow) -> None:
        """Put a row in its place and write all rows; the file is replaced as a whole."""
        self.rows = in_order([*self.rows, row], self.cells)
        write_rows(self.out / ROWS_FILE, self.rows)

    def set_fingerprints(self, fingerprint: str | None, test_fingerprint: str | None) -> None:
        """Write the fingerprints of the dataset and its test split into ``grid.json`` once they are known."""
        named = {"fingerprint": fingerprint, "test_fingerprint": test_fingerprint}
        new = {key: value for key, value in named.items() if value not in (None, self._metadata.get(key))}
        if new:
            self._metadata.update(new)
            write_json(self.out / GRID_FILE, self._metadata)


def in_order(rows: Sequence[ResultRow], cells: Sequence[Cell]) -> list[ResultRow]:
    """Rows in the order of the grid; rows of no cell come first."""
    position = {cell.key: i for i, cell in enumerate(cells)}
    return sorted(rows, key=lambda row: position.get(row_key(row), -1))


def _merged_metadata(grid: Grid, rows: list[ResultRow], out: Path, model: str | None) -> dict[str, Any]:
    """The content of ``grid.json``, merged with what is there; settings that differ are refused.

    Methods, seeds, keeps and scenarios may be added. The source of the data may change, since every worker compares
    the dataset's fingerprint before it trains.
    """
    settings = _settings_of(grid, model)
    path = out / GRID_FILE
    fingerprint: str | None = None
    test_fingerprint: str | None = None
    # settings bind once there are rows or recordings made under them
    if path.exists() and (rows or (out / "recordings").exists()):
        metadata = read_json(path, schema=GridFile)
        fingerprint, test_fingerprint = metadata.get("fingerprint"), metadata.get("test_fingerprint")
        before = metadata["settings"]
        _check_settings(before, settings, {row["method"] for row in rows}, out)
        settings["methods"] = {**before.get("methods", {}), **settings["methods"]}
    # rows name their dataset even where grid.json is missing
    fingerprint = fingerprint or (rows[0].get("fingerprint") if rows else None)
    _check_rows(grid, rows, fingerprint, out, model)
    fingerprints = {"fingerprint": fingerprint, "test_fingerprint": test_fingerprint}
    named = {key: value for key, value in fingerprints.items() if value is not None}
    return {"kind": "grid", "name": grid.name, "about": grid.about, **named, "settings": settings}


def _settings_of(grid: Grid, model: str | None) -> dict[str, dict[str, Any]]:
    """What makes rows comparable: everything but the lists, the names, and the source of the data."""
    train = grid.train.model_dump(include={"epochs", "model_options", "at"})
    return {
        "data": grid.data.model_dump(exclude={"source"}),
        "train": {
            **train,
            "model": model,
            **{k: v for k, v in grid.train.recipe().metadata().items() if k != "workers"},
        },
        "score": grid.score.model_dump(),
        "methods": {spec.name: spec.model_dump(exclude={"label"}) for spec in grid.method},
    }


def _check_settings(before: dict[str, Any], now: dict[str, Any], methods_with_rows: set[str], out: Path) -> None:
    """Refuse settings that differ, by name; those of a method count once it has rows.

    A setting that is missing in ``before`` is taken to be at its default.
    """
    train = {**Recipe().metadata(), "at": {}}
    defaults = {"data": Data(source="").model_dump(), "train": train, "score": Scoring().model_dump()}
    for section in ("data", "train", "score", "methods"):
        old_section, new_section = before.get(section, {}), now[section]
        for key in sorted({*old_section, *new_section}):
            if section == "methods" and not (key in old_section and key in new_section and key in methods_with_rows):
                continue
            old, new = old_section.get(key, defaults.get(section, {}).get(key)), new_section.get(key)
            if section == "methods":
                old, new = (MethodSpec.model_validate({**spec, "name": key}) for spec in (old, new))
                old, new = old.model_dump(), new.model_dump()
            remedy = "use another `out=` folder, or the same settings as before"
            require_same({f"[{section}] {key}": old}, {f"[{section}] {key}": new}, out, remedy=remedy)


def _check_rows(grid: Grid, rows: list[ResultRow], fingerprint: str | None, out: Path, model: str | None) -> None:
    """Refuse rows that cannot be of this grid, also where there is no ``grid.json``."""
    model = model or (rows[0].get("model") if rows else None)
    for row in rows:
        for key, value in (("epochs", grid.train.epochs), ("model", model), ("fingerprint", fingerprint)):
            if row.get(key) != value:
                raise RunError(
                    f"{out} holds a row with {key} {row.get(key)!r} where {value!r} is expected: rows of different "
                    "experiments do not go into one folder; give another `out=` folder"
                )
        if row["method"] == "shorter_full":
            expected = equal_epochs(grid.train.epochs, row["keep"], row["n"])
            if row.get("trained_epochs", expected) != expected:
                raise RunError(
                    f"{out} holds a shorter full run at keep {row['keep']:g} of {row['trained_epochs']} epochs, which "
                    f"an older datawinnow rounded; as many examples as are passed at this keep are {expected:g} "
                    "epochs: remove such lines from rows.jsonl to run them again, or give another `out=` folder"
                )
