"""Reads and checks result rows: a table must not be made from half a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datawinnow.core.artifacts import check_format
from datawinnow.core.errors import RunError
from datawinnow.core.result_rows import ROWS_FILE, read_rows
from datawinnow.core.verdict import ResultRow


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_integer(value: object) -> bool:
    # bool is a subclass of int.
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_cost(value: object) -> bool:
    if not isinstance(value, dict) or "train" not in value:
        return False
    return all(
        isinstance(stage, dict) and all(_is_number(number) and number >= 0 for number in stage.values())
        for stage in value.values()
    )


NEEDED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset": (_is_name, "a name"),
    "model": (_is_name, "a name"),
    "n": (_is_integer, "a whole number"),
    "method": (_is_name, "a name"),
    "label": (_is_name, "a name"),
    "scenario": (_is_name, "a name"),
    "keep": (lambda value: _is_number(value) and 0 < value <= 1, "a fraction in (0, 1]"),
    "seed": (_is_integer, "a whole number"),
    "cost": (_is_cost, "an object with the stage train, of numbers from 0 up"),
    "passes": (lambda value: _is_number(value) and value >= 0, "a number from 0 up"),
    "total_passes": (lambda value: _is_number(value) and value >= 0, "a number from 0 up"),
}
"""Keys that every row must have besides its accuracy; others are shown where they are present."""

SAME = ("dataset", "model", "epochs")
"""Keys with one value in all rows of a table, since accuracies are not comparable otherwise; ``n`` by scenario."""


def file_of(path: Path) -> Path:
    """The rows file of ``path``: itself, or ``rows.jsonl`` in a folder.

    Raises:
        RunError: there is none.
    """
    file = path / ROWS_FILE if path.is_dir() else path
    if not file.is_file():
        raise RunError(f"no results at {path}: there is no file {file}. Make some with: datawinnow bench FILE.toml")
    return file


def rows(path: Path) -> list[ResultRow]:
    """Every result row of a bench.

    Args:
        path: ``rows.jsonl``, or the folder that it is in.

    Returns:
        One dict a line, in the order of the file, as the contract's result rows.

    Raises:
        RunError: no such file, no rows, a line that is truncated, of a newer format, lacks a key or holds a wrong
            value, a cell that is there twice, or rows of two datasets or models. The line is named.
    """
    file = file_of(Path(path))
    all_rows = read_rows(file)
    if not all_rows:
        raise RunError(f"{file} holds no results yet; run the bench that writes it: datawinnow bench FILE.toml")
    return checked(all_rows, str(file))


def checked(all_rows: list[ResultRow], where: str) -> list[ResultRow]:
    """Check that every row is complete and that the rows belong together, and return them.

    Raises:
        RunError: as in `rows`.
    """
    cells: dict[tuple[Any, ...], int] = {}
    first: dict[str, tuple[int, ResultRow]] = {}  # of each scenario: one with long-tailed classes has fewer examples
    for number, row in enumerate(all_rows, 1):
        _check_row(row, f"{where}, line {number}")
        at, first_row = first.setdefault(row["scenario"], (number, row))
        for key, line, other in (*((key, 1, all_rows[0]) for key in SAME), ("n", at, first_row)):
            if row.get(key) != other.get(key):
                raise RunError(
                    f"{where}, line {number}: {key} is {row.get(key)!r}, but line {line} has {other.get(key)!r}; such "
                    "accuracies cannot be compared, so keep them in files of their own"
                )
        cell = (row["scenario"], row["keep"], row["method"], row["seed"])
        if cell in cells:
            raise RunError(
                f"{where}, line {number}: scenario {cell[0]!r}, keep {cell[1]}, method {cell[2]!r}, seed {cell[3]} is "
                f"already on line {cells[cell]}; remove one of the two"
            )
        cells[cell] = number
    return all_rows


def _check_row(row: ResultRow, where: str) -> None:
    check_format(row.get("format"), where)
    for key, (good, description) in NEEDED.items():
        if key not in row:
            raise RunError(f"{where}: the row has no {key!r}; it was not written by datawinnow bench, or is damaged")
        if not good(row[key]):
            raise RunError(f"{where}: {key} must be {description}, got {row[key]!r}")
    _check_accuracy(row, where)
    for key in ("changed", "changed_kept"):
        changed = row.get(key)
        if changed is not None and not (_is_number(changed) and 0 <= changed <= 1):
            raise RunError(f"{where}: {key} must be a fraction in [0, 1] or null, got {changed!r}")


def _check_accuracy(row: ResultRow, where: str) -> None:
    """A fraction, or null in a row whose training diverged, which says so under ``failed``."""
    if "accuracy" not in row:
        raise RunError(f"{where}: the row has no 'accuracy'; it was not written by datawinnow bench, or is damaged")
    value, failed = row["accuracy"], row.get("failed")
    if failed is not None and not (_is_name(failed) and value is None):
        raise RunError(
            f"{where}: failed must be the words of an error, beside accuracy null, got {failed!r} beside {value!r}"
        )
    if failed is None and not (_is_number(value) and 0 <= value <= 1):
        raise RunError(f"{where}: accuracy must be a fraction in [0, 1], got {value!r}")
