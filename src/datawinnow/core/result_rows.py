"""``rows.jsonl``: the result rows of a grid, a check or a race, one JSON object a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datawinnow.core.artifact_schemas import ResultLine
from datawinnow.core.artifacts import check_content, read_json_lines, write_json_lines
from datawinnow.core.errors import RunError
from datawinnow.core.verdict import ResultRow

ROWS_FILE = "rows.jsonl"
GRID_FILE = "grid.json"
"""What the rows beside it were made with."""
PLAN_FILE = "plan.json"
"""What `plan` advises, by the rows in the folders beside it."""
PILOTS_FILE = "pilots.json"
"""What the pilots of a plan were made with; a folder with it holds a plan."""
_KEYS = ("method", "keep", "seed", "scenario")


def row_key(row: ResultRow) -> tuple[str, float, int, str]:
    """Method, keep, seed and scenario, as `datawinnow.bench.Cell.key`."""
    return (row["method"], row["keep"], row["seed"], row["scenario"])


def read_rows(path: Path) -> list[ResultRow]:
    """Rows of a results file; none if there is no file.

    Raises:
        RunError: naming the line that is truncated, no row, or of a newer version.
    """
    if not path.exists():
        return []
    rows = read_json_lines(path, remedy="remove the line and run the same command again, which makes the missing cell")
    for number, row in enumerate(rows, 1):
        for key in _KEYS:
            if key not in row:
                raise RunError(
                    f"{path}, line {number}: the row has no {key!r}; it was not written by datawinnow bench, or is "
                    "damaged: remove the line to run it again"
                )
        check_content(row, ResultLine, f"{path}, line {number}", remedy="remove the line to run it again")
    return rows


def write_rows(path: Path, rows: Sequence[ResultRow]) -> None:
    """Write all rows; the file is replaced as a whole.

    Raises:
        RunError: the disk is full.
        ValueError: a value is NaN or infinite, which is a bug: JSON has none.
    """
    write_json_lines(path, rows)
