"""Labelled texts in Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import Options
from datawinnow.data.columns import class_names, holds_images, open_arrow, reading, row_in_words
from datawinnow.data.examples import Origin
from datawinnow.data.text_assemble import RawTexts, assemble_texts, check_text_options, rows_of, without_broken
from datawinnow.data.text_columns import choose_text_columns, label_of, text_of, values_of
from datawinnow.data.texts import Texts

LOOKED_AT = 1000
"""Rows at the top of a file from which its columns are guessed."""


def holds_texts(path: Path, options: Options) -> bool:
    """Whether a table is read for its texts: the user says so, or there are some and no images."""
    if options.text is not None or options.image is not None:
        return options.text is not None
    kinds = [field.type for field in _schema(str(path))]
    return any(map(_is_text, kinds)) and not any(map(holds_images, kinds))


def load_text_tables(
    train: Sequence[Path],
    test: Sequence[Path] | None,
    layout: str,
    source: str,
    name: str,
    options: Options,
    notes: tuple[str, ...] = (),
) -> tuple[Texts, Texts]:
    """Read labelled texts from tables; arguments as of `datawinnow.data.parquet.load_tables`.

    Raises:
        ArgumentError: an option for images.
        DataError: damaged files, missing columns, empty texts, missing or wrong labels.
    """
    check_text_options(options)
    first, more = _read(train, layout, source, "train", options, (options.text, options.label))
    notes += more
    second = None
    if test is not None:
        columns = (first.origin.columns["text"], first.origin.columns["label"])
        second, more = _read(test, layout, source, "test", options, columns)
        notes += more
    return assemble_texts(first, second, name, options, notes)


def _read(
    paths: Sequence[Path], layout: str, source: str, which: str, options: Options, told: tuple[str | None, str | None]
) -> tuple[RawTexts, tuple[str, ...]]:
    """The examples of a split, and a note about what is left out."""
    files = tuple(map(str, paths))
    texts: list[str] = []
    labels: list[str | int] = []
    rows: list[int] = []
    starts: list[int] = []
    broken: list[tuple[str, str]] = []
    row, names = 0, None
    for path in files:
        starts.append(row)
        columns = _columns(path, *told)
        told = columns
        names = names or class_names(_schema(path), columns[1])
        for text_cell, label_cell in zip(*_cells(path, columns), strict=True):
            text, fault = text_of(text_cell)
            label, second = label_of(label_cell)
            if fault or second:
                broken.append((row_in_words(row, files, starts), fault or second))
            else:
                texts.append(text)
                labels.append(label)
                rows.append(row)
            row += 1
    if not row:
        raise DataError(f"no texts: {files[0]} has no rows")
    notes = without_broken(broken, len(texts), which, options)
    origin = Origin(layout, source, files, rows_of(rows), {"text": str(told[0]), "label": str(told[1])})
    ids = [str(r) for r in rows]

    def where(i: int) -> str:
        return row_in_words(rows[i], files, starts)

    return RawTexts(texts, values_of(labels), where, origin, ids, names), notes


def _columns(path: str, text: str | None, label: str | None) -> tuple[str, str]:
    schema = _schema(path)
    usable = [f.name for f in schema if _is_text(f.type) or pa.types.is_integer(f.type) or pa.types.is_boolean(f.type)]
    told = [name for name in (text, label) if name is not None and name in schema.names and name not in usable]
    if told:
        raise DataError(
            f"column {told[0]!r} of {path} holds {schema.field(told[0]).type}: texts are strings, and labels names or "
            "whole numbers"
        )
    with reading(path):
        top = _opened(path, usable).slice(0, LOOKED_AT)
    return choose_text_columns({name: top.column(name).to_pylist() for name in usable}, path, text, label)


def _cells(path: str, columns: tuple[str, str]) -> list[list[Any]]:
    with reading(path):
        table = _opened(path, columns)
        return [table.column(name).to_pylist() for name in columns]


def _opened(path: str, columns: Sequence[str]) -> Any:
    if path.endswith(".parquet"):
        return pq.ParquetFile(path).read(columns=list(dict.fromkeys(columns)))
    return open_arrow(path).select(list(dict.fromkeys(columns)))


def _schema(path: str) -> Any:
    with reading(path):
        return pq.read_schema(path) if path.endswith(".parquet") else open_arrow(path).schema


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
