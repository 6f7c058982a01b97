"""Parquet in the layout of the Hugging Face hub: encoded images or texts, and labels, in shards by split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.errors import DataError
from datawinnow.data.arrow import (
    TEST_SPLITS,
    ArrowImages,
    ParquetImages,
    TableImages,
    choose_columns,
    class_names,
    convert_errors,
    describe_row,
    holds_images,
    holds_text,
    label_values,
    read_columns,
    read_schema,
)
from datawinnow.data.assemble import Loaded, ReadOptions, Split, assemble
from datawinnow.data.examples import Origin, short_name
from datawinnow.data.labels import Classes
from datawinnow.data.texts import (
    PREVIEW_ROWS,
    RawTexts,
    Texts,
    assemble_texts,
    broken_note,
    check_text_options,
    choose_text_columns,
    label_array,
    label_of,
    row_tensor,
    text_of,
)

PARQUET_SPLIT = re.compile(r"^(train|test|validation|valid|val|dev)(?![a-z])", re.IGNORECASE)
"""Names of files and folders that say a split."""
PARQUET_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


@dataclass(frozen=True)
class TableSource:
    """Where tables come from.

    Attributes:
        layout: of the `Origin`.
        path: of the `Origin`.
        name: of the dataset.
        schema_metadata: metadata that is added to every file's schema, such as the class names that stand only in the
            hub's description of a dataset; the file's own come first.
    """

    layout: str
    path: str
    name: str
    schema_metadata: Mapping[bytes, bytes] | None = None

    def origin(self, files: tuple[str, ...], columns: dict[str, str], rows: Tensor | None = None) -> Origin:
        """The origin of a split in ``files``."""
        return Origin(self.layout, self.path, files, rows, columns, self.schema_metadata)

    def schema(self, path: str) -> Any:
        """Schema of a file, with the metadata added.

        Raises:
            DataError: no such file, or damaged.
        """
        return read_schema(path, self.schema_metadata)


def find_parquet(root: Path) -> dict[str, list[Path]]:
    """Parquet files by split: of ``root``, its ``data`` folder, or its only subfolder that holds some.

    Returns:
        Sorted files under each split's name; files whose names say no split are under ``""``. Empty when there are
        none.

    Raises:
        DataError: several subfolders (configurations) hold Parquet files.
    """
    for folder in (root, root / "data"):
        files = _files_by_split(folder)
        if files:
            return files
    subfolders = [folder for folder in sorted(root.iterdir()) if folder.is_dir() and _files_by_split(folder)]
    if len(subfolders) > 1:
        raise DataError(
            f"{root} holds Parquet files in several folders ({', '.join(f.name for f in subfolders)}); give one of them"
        )
    return _files_by_split(subfolders[0]) if subfolders else {}


def load_parquet(root: Path, options: ReadOptions) -> tuple[Loaded, Loaded]:
    """Read a Parquet file, or a folder of them.

    Args:
        root: a file, or a folder in which `find_parquet` finds some.
        options: of `load`.

    Raises:
        DataError: damaged files, missing columns, missing or wrong labels, broken images.
    """
    files = find_parquet(root) if root.is_dir() else {"": [root]}
    train = files.get("train") or files.get("", [])
    if not train:
        raise DataError(f"{root} has Parquet files of {', '.join(files)}, but none whose name begins with train")
    tests = [split for split in TEST_SPLITS if split in files] if "train" in files else []
    unused = [*tests[1:], *([""] if "train" in files and "" in files else [])]
    notes = tuple(f"not used: {', '.join(path.name for path in files[split][:3])}" for split in unused)
    for paths in (train, files[tests[0]] if tests else []):
        notes += _missing_shards(paths)
    source = TableSource("parquet", str(root), short_name(root))
    return load_tables(train, files[tests[0]] if tests else None, source, options, notes)


def load_tables(
    train: list[Path],
    test: list[Path] | None,
    source: TableSource,
    options: ReadOptions,
    notes: tuple[str, ...] = (),
) -> tuple[Loaded, Loaded]:
    """Read splits in Parquet or Arrow files: of images, or of texts if there are no images.

    Args:
        train: files of the train split.
        test: files of the test split; None to hold one out.
        source: where the files come from.
        options: of `load`.
        notes: for the user, so far.

    Raises:
        DataError: damaged files, missing columns, missing or wrong labels, broken images, empty texts.
    """
    if _is_read_as_text(train[0], source, options):
        return _load_text_tables(train, test, source, options, notes)
    table = _ImageTable.read(train, source, options)
    classes = Classes.of(table.values, table.names, table.describe)
    splits = [table.split(classes.ids(table.values, table.describe), source)]
    if test is not None:
        # the columns of the train split, not a second guess
        test_options = replace(options, image=table.columns[0], label=table.columns[1])
        test_table = _ImageTable.read(test, source, test_options)
        splits.append(test_table.split(classes.ids(test_table.values, test_table.describe), source))
    test_split = splits[1] if test is not None else None
    return assemble(splits[0], test_split, classes.names, source.name, options, notes + classes.notes)


@dataclass(frozen=True)
class _ImageTable:
    """Labels of the files of a split; their images are not read.

    Attributes:
        files: of the split.
        columns: of images and of labels.
        names: of the classes, where a file has a list of them.
        sizes: rows of each file.
        values: (n,) labels of all files.
    """

    files: tuple[str, ...]
    columns: tuple[str, str]
    names: tuple[str, ...] | None
    sizes: list[int]
    values: NDArray[np.int64] | list[str]

    @classmethod
    def read(cls, paths: list[Path], source: TableSource, options: ReadOptions) -> _ImageTable:
        """Labels, class names, and which columns hold images and labels (``options`` or a guess)."""
        files = tuple(str(path) for path in paths)
        image, label = options.image, options.label
        label_columns, names = [], None
        for path in files:
            schema = source.schema(path)
            image, label = choose_columns(schema, path, image, label)
            names = names or class_names(schema, label)
            with convert_errors(path):
                label_columns.append(read_columns(path, [label]).column(label))
        assert image is not None  # there is at least one file
        assert label is not None
        sizes = [len(column) for column in label_columns]
        if not sum(sizes):
            raise DataError(f"no images: {files[0]} has no rows")
        types = {str(column.type) for column in label_columns}
        if len(types) > 1:
            raise DataError(f"column {label!r} has another type in some files: {', '.join(sorted(types))}")
        # chunks are listed, not copied
        column = pa.chunked_array([chunk for c in label_columns for chunk in c.chunks], label_columns[0].type)
        starts = _starts(sizes)
        values = label_values(column, label, lambda row: describe_row(row, files, starts))
        return cls(files, (image, label), names, sizes, values)

    def describe(self, row: int) -> str:
        """``row`` of the concatenated files as "row 3 of FILE"."""
        return describe_row(row, self.files, _starts(self.sizes))

    def split(self, labels: Tensor, source: TableSource) -> Split:
        """The split with its images and class ids."""
        reader: type[TableImages] = ParquetImages if self.files[0].endswith(".parquet") else ArrowImages
        origin = source.origin(self.files, {"image": self.columns[0], "label": self.columns[1]})
        return Split(reader(self.files, self.columns[0], self.sizes), labels, origin)


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    if not folder.is_dir():
        return splits
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        match = PARQUET_SPLIT.match(path.name)
        split = match.group(1).lower() if match else ""
        if path.is_dir() and split:
            files = sorted(p for p in path.glob("*.parquet") if p.is_file())
        else:
            files = [path] if path.suffix == ".parquet" and path.is_file() else []
        if files:
            splits.setdefault(split, []).extend(files)
    return splits


def _missing_shards(paths: list[Path]) -> tuple[str, ...]:
    numbers = [match.groups() for match in (PARQUET_SHARD.search(path.name) for path in paths) if match]
    present = {int(shard) for shard, _ in numbers}
    expected = max((int(total) for _, total in numbers), default=0)
    if len(present) >= expected:
        return ()
    return (f"only {len(present)} of the {expected} shards that {paths[0].name} speaks of are present",)


def _is_read_as_text(path: Path, source: TableSource, options: ReadOptions) -> bool:
    """Whether a table is read for its texts: ``text=`` is set, or it has columns of text and none of images."""
    if options.text is not None or options.image is not None:
        return options.text is not None
    types = [field.type for field in source.schema(str(path))]
    return any(map(holds_text, types)) and not any(map(holds_images, types))


def _load_text_tables(
    train: Sequence[Path],
    test: Sequence[Path] | None,
    source: TableSource,
    options: ReadOptions,
    notes: tuple[str, ...],
) -> tuple[Texts, Texts]:
    check_text_options(options)
    train_texts, note = _read_text_table(train, source, "train", options)
    notes += note
    test_texts = None
    if test is not None:
        columns = train_texts.origin.columns
        # the columns of the train split, not a second guess
        test_options = replace(options, text=columns["text"], label=columns["label"])
        test_texts, note = _read_text_table(test, source, "test", test_options)
        notes += note
    return assemble_texts(train_texts, test_texts, source.name, options, notes)


def _read_text_table(
    paths: Sequence[Path], source: TableSource, split: str, options: ReadOptions
) -> tuple[RawTexts, tuple[str, ...]]:
    """The examples of a split, and a note about broken ones that are left out."""
    files = tuple(map(str, paths))
    text_column, label_column = options.text, options.label
    texts: list[str] = []
    labels: list[str | int] = []
    rows: list[int] = []
    starts: list[int] = []
    broken: list[tuple[str, str]] = []
    row, names = 0, None
    for path in files:
        starts.append(row)
        schema = source.schema(path)
        text_column, label_column = _choose_text_columns(path, schema, text_column, label_column)
        names = names or class_names(schema, label_column)
        with convert_errors(path):
            table = read_columns(path, [text_column, label_column])
            cells = zip(table.column(text_column).to_pylist(), table.column(label_column).to_pylist(), strict=True)
        for text_cell, label_cell in cells:
            text, text_fault = text_of(text_cell)
            label, label_fault = label_of(label_cell)
            if text_fault or label_fault:
                broken.append((describe_row(row, files, starts), text_fault or label_fault))
            else:
                texts.append(text)
                labels.append(label)
                rows.append(row)
            row += 1
    if not row:
        raise DataError(f"no texts: {files[0]} has no rows")
    notes = broken_note(broken, len(texts), split, options)
    origin = source.origin(files, {"text": str(text_column), "label": str(label_column)}, row_tensor(rows))

    def describe(i: int) -> str:
        return describe_row(rows[i], files, starts)

    return RawTexts(texts, label_array(labels), describe, origin, [str(row) for row in rows], names), notes


def _choose_text_columns(path: str, schema: Any, text: str | None, label: str | None) -> tuple[str, str]:
    usable = [
        f.name for f in schema if holds_text(f.type) or pa.types.is_integer(f.type) or pa.types.is_boolean(f.type)
    ]
    unusable = [name for name in (text, label) if name is not None and name in schema.names and name not in usable]
    if unusable:
        raise DataError(
            f"column {unusable[0]!r} of {path} holds {schema.field(unusable[0]).type}: texts are strings, and labels "
            "names or integers"
        )
    with convert_errors(path):
        top = read_columns(path, usable).slice(0, PREVIEW_ROWS)
    return choose_text_columns({name: top.column(name).to_pylist() for name in usable}, path, text, label)
