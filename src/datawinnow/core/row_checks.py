"""Rows of a table that know their place and carry a checksum: a table that was sorted or filtered names the same rows.

A table of examples gets two columns: ``position``, the place of the example in the dataset as it was loaded, and
``checksum``, over what the row says. Readers go by ``position``, never by the place in the file. Each row is checked by
itself, so a part of a table can be checked too. Users' own datasets are indexed by ``row``, the place in the source,
before examples were held out or left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from datawinnow.core.errors import RunError

POSITION, CHECKSUM = "position", "checksum"
ROW = "row"
"""Column of places in the source."""
SELECTION_COLUMNS = ("id", "row", "label", "kept", "order", "weight", "reason")
"""What the checksums of a selection are of."""


def with_row_checks(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """``table`` with the columns ``position`` and ``checksum``.

    Args:
        table: a row an example, in the order of the dataset.
        columns: what the checksums are of, beside ``position``.
    """
    table = table.append_column(POSITION, pa.array(np.arange(len(table))))
    covers = {"covers": ",".join(columns)}
    return table.append_column(
        pa.field(CHECKSUM, pa.uint64(), metadata=covers), pa.array(row_checksums(table, columns))
    )


def row_checksums(table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """(rows,) uint64 over ``position`` and ``columns``; any order of the rows gives the same one a row."""
    with np.errstate(over="ignore"):
        checksums = np.zeros(len(table), dtype=np.uint64)
        for name in (POSITION, *columns):
            checksums = _mixed(checksums * np.uint64(0x9E3779B97F4A7C15) + _bits(table.column(name)))
    return checksums


def _mixed(values: np.ndarray) -> np.ndarray:
    """Bits of each value spread over all 64 (splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _bits(column: pa.ChunkedArray) -> np.ndarray:
    """(rows,) uint64 that stand for the values."""
    kind = column.type
    if pa.types.is_floating(kind):
        values = column.to_numpy().astype(np.float32)
        return np.where(np.isnan(values), np.float32("nan"), values).view(np.uint32).astype(np.uint64)
    if pa.types.is_integer(kind):
        column = column.fill_null(-1)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64).view(np.uint64)
    texts = column.to_pylist()  # a column of categories, as pandas writes them, gives its texts too
    return np.fromiter((zlib.crc32(str(text).encode("utf-8", "replace")) for text in texts), np.uint64, len(texts))


def names_by_default(table: pa.Table) -> list[str]:
    """The columns that checksums are of where their column does not say so: those of a selection, else all others."""
    if "kept" in table.column_names:
        return [name for name in SELECTION_COLUMNS if name in table.column_names]
    return [name for name in table.column_names if name not in (POSITION, CHECKSUM)]


def checked_rows(table: pa.Table, path: Path, num_rows: int, remedy: str) -> np.ndarray:
    """(rows,) int64: the place of each row of the file in the dataset, if every row says what it was written with.

    Args:
        table: as read, in any order, whole or in part.
        path: its file, for errors.
        num_rows: number of examples of the dataset.
        remedy: what to do, for errors.

    Raises:
        RunError: a row that is not in the dataset, that is there twice, or that was changed.
    """
    for name in (POSITION, CHECKSUM):
        if name not in table.column_names or not pa.types.is_integer(table.schema.field(name).type):
            raise RunError(f"{path} lacks the column {name}, by which its rows are found and checked; {remedy}")
        if table.column(name).null_count:
            raise RunError(f"{path} is damaged (empty cells in the column {name}); {remedy}")
    rows = np.array(table.column(POSITION).to_numpy(), dtype=np.int64)  # a copy that can be written to
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < num_rows:
        raise RunError(f"{path} names positions from {rows.min()} to {rows.max()} of {num_rows:,} examples; {remedy}")
    # not bincount: `num_rows` comes from a file, and a damaged one would ask for any amount of memory
    positions, counts = np.unique(rows, return_counts=True)
    if len(rows) and int(counts.max()) > 1:
        raise RunError(f"{path} has position {int(positions[counts.argmax()])} {int(counts.max())} times; {remedy}")
    covers = (table.schema.field(CHECKSUM).metadata or {}).get(b"covers")
    # pandas loses the metadata of columns
    columns = names_by_default(table) if covers is None else covers.decode("utf-8", "replace").split(",")
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise RunError(f"{path} lacks the columns {', '.join(missing)}; {remedy}")
    try:
        wrong = np.flatnonzero(row_checksums(table, columns) != table.column(CHECKSUM).to_numpy().astype(np.uint64))
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise RunError(f"{path} is damaged ({error}); {remedy}") from None
    if len(wrong):
        raise RunError(
            f"{path} is damaged or was edited: {len(wrong):,} of {len(table):,} rows do not say what was written, the "
            f"first is at position {int(rows[wrong[0]])} of the dataset (sorting and filtering is fine, other values "
            f"are not); {remedy}"
        )
    return rows


def in_dataset_order(table: pa.Table, path: Path, num_rows: int, remedy: str) -> pa.Table:
    """``table`` without its columns of places and checksums, in the order of the dataset.

    Raises:
        RunError: as of `checked_rows`, or some examples are missing.
    """
    rows = checked_rows(table, path, num_rows, remedy)
    if len(rows) != num_rows:
        raise RunError(f"{path} has {len(rows):,} rows, one for each of {num_rows:,} examples is needed; {remedy}")
    table = table.drop_columns([name for name in (POSITION, CHECKSUM, ROW) if name in table.column_names])
    return table if np.array_equal(rows, np.arange(num_rows)) else table.take(np.argsort(rows))
