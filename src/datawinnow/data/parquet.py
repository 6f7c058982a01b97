"""Parquet in the layout of the Hugging Face hub: encoded images or texts, and labels, in shards by split."""

from __future__ import annotations

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
    NUMBERS_HINT,
    ArrowImages,
    ParquetImages,
    TableImages,
    check_unique,
    choose_columns,
    class_names,
    convert_errors,
    describe_row,
    has_labels,
    holds_images,
    holds_labels,
    holds_text,
    is_artifact,
    label_values,
    read_columns,
    read_schema,
)
from datawinnow.data.assemble import Loaded, ReadOptions, Split, assemble
from datawinnow.data.examples import Origin, short_name
from datawinnow.data.labels import LabelColumn, label_of, label_splits
from datawinnow.data.splits import (
    SHARD,
    choose_splits,
    file_a_split,
    is_hidden,
    name_of_files,
    refuse_split_column,
    shortened_list,
    split_columns,
    split_of,
)
from datawinnow.data.texts import (
    PREVIEW_ROWS,
    TEXT_LABEL_NAMES,
    TEXT_NAMES,
    RawTexts,
    Texts,
    assemble_texts,
    broken_note,
    check_text_options,
    choose_text_columns,
    row_tensor,
    text_of,
)


@dataclass(frozen=True)
class TableSource:
    """Where tables come from.

    Attributes:
        layout: of the `Origin`.
        path: of the `Origin`.
        name: of the dataset.
        schema_metadata: metadata that is added to every file's schema, such as the class names that stand only in the
            hub's description of a dataset; the file's own come first.
        unused: files of the splits that are not used, by their names.
    """

    layout: str
    path: str
    name: str
    schema_metadata: Mapping[bytes, bytes] | None = None
    unused: Mapping[str, tuple[str, ...]] | None = None

    def origin(
        self,
        files: tuple[str, ...],
        columns: dict[str, str],
        num_rows: int,
        rows: Tensor | None = None,
        split: str = "",
    ) -> Origin:
        """The origin of a split in ``files`` of ``num_rows`` rows in all."""
        unused = self.unused or {}
        return Origin(self.layout, self.path, files, rows, columns, self.schema_metadata, split, unused, num_rows)

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
    source = TableSource("parquet", str(root), short_name(root))
    if not root.is_dir():
        return load_tables({"train": [root]}, source, options)
    splits = {name_of_files(paths, split): paths for split, paths in find_parquet(root).items()}
    return load_tables(splits, source, options)


def load_tables(
    splits: Mapping[str, list[Path]], source: TableSource, options: ReadOptions, notes: tuple[str, ...] = ()
) -> tuple[Loaded, Loaded]:
    """Read splits in Parquet or Arrow files: of images, or of texts if there are no images.

    Args:
        splits: files of each split, by its name.
        source: where the files come from.
        options: of `load`.
        notes: for the user, so far.

    Raises:
        DataError: no train split, damaged files, missing columns, missing or wrong labels, broken images, empty texts.
    """

    def label_column(path: Path) -> str:
        schema = source.schema(str(path))
        if _is_read_as_text(path, source, options):
            return _choose_text_columns(str(path), schema, options.text, options.label)[1]
        return choose_columns(schema, str(path), options.image, options.label)[1]

    def is_labelled(train: str, split: str) -> bool:
        return has_labels(splits[split], label_column(splits[train][0]))

    choice = choose_splits(splits, source.path, is_labelled, only=options.only)
    notes += choice.notes
    used = [choice.train, choice.test] if choice.test else [choice.train]
    for split in used:
        notes += _missing_shards(splits[split])
    source = replace(source, unused={name: tuple(map(str, splits[name])) for name in choice.unused})
    if _is_read_as_text(splits[choice.train][0], source, options):
        return _load_text_tables({split: splits[split] for split in used}, source, options, notes)
    table = _ImageTable.read(splits[choice.train], source, options)
    test_table = None
    if choice.test:
        # the columns of the train split, not a second guess
        test_options = replace(options, image=table.columns[0], label=table.columns[1])
        test_table = _ImageTable.read(splits[choice.test], source, test_options)
    classes, labels, test_labels, label_notes = label_splits(
        table.labels, None if test_table is None else test_table.labels, table.names, options.kept_classes
    )
    train = table.split(labels, source, choice.train)
    test = None
    if test_table is not None and test_labels is not None:
        test = test_table.split(test_labels, source, choice.test)
    return assemble(train, test, classes.names, source.name, options, notes + label_notes + classes.notes)


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
        _refuse_split_column(files, source, image, label)
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

    @property
    def labels(self) -> LabelColumn:
        """The labels, with the words for their rows."""
        cells = self.values if isinstance(self.values, list) else self.values.tolist()
        return LabelColumn(cells, self.describe)

    def describe(self, row: int) -> str:
        """``row`` of the concatenated files as "row 3 of FILE"."""
        return describe_row(row, self.files, _starts(self.sizes))

    def split(self, labels: Tensor, source: TableSource, name: str = "") -> Split:
        """The split called ``name`` with its images and class ids."""
        reader: type[TableImages] = ParquetImages if self.files[0].endswith(".parquet") else ArrowImages
        columns = {"image": self.columns[0], "label": self.columns[1]}
        origin = source.origin(self.files, columns, sum(self.sizes), split=name)
        return Split(reader(self.files, self.columns[0], self.sizes), labels, origin)


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _files_by_split(folder: Path) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {}
    if not folder.is_dir():
        return splits
    for path in sorted(p for p in folder.iterdir() if not is_hidden(p.name)):
        split = split_of(path.stem if path.suffix == ".parquet" else path.name)
        if path.is_dir() and split:
            files = sorted(p for p in path.glob("*.parquet") if p.is_file() and not is_hidden(p.name))
        else:
            files = [path] if path.suffix == ".parquet" and path.is_file() else []
        # what this program wrote into the folder (scores, a selection) is no split of the dataset
        files = [file for file in files if split or not is_artifact(file)]
        if files:
            splits.setdefault(split, []).extend(files)
    return splits


def _missing_shards(paths: list[Path]) -> tuple[str, ...]:
    numbers = [match.groups() for match in (SHARD.search(path.name) for path in paths) if match]
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
    splits: Mapping[str, Sequence[Path]], source: TableSource, options: ReadOptions, notes: tuple[str, ...]
) -> tuple[Texts, Texts]:
    """The train split, which comes first in ``splits``, and the test split where there is one."""
    check_text_options(options)
    train, *tests = splits
    train_texts, note = _read_text_table(splits[train], source, train, options)
    notes += note
    test_texts = None
    for test in tests:
        columns = train_texts.origin.columns
        # the columns of the train split, not a second guess
        test_options = replace(options, text=columns["text"], label=columns["label"])
        test_texts, note = _read_text_table(splits[test], source, test, test_options)
        notes += note
    return assemble_texts(train_texts, test_texts, source.name, options, notes)


def _read_text_table(
    paths: Sequence[Path], source: TableSource, split: str, options: ReadOptions
) -> tuple[RawTexts, tuple[str, ...]]:
    """The examples of a split, and a note about broken ones that are left out."""
    files = tuple(map(str, paths))
    text_column, label_column = options.text, options.label
    texts: list[str] = []
    labels: list[Any] = []
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
            label_fault = label_of(label_cell)[1]
            if text_fault or label_fault:
                broken.append((describe_row(row, files, starts), text_fault or label_fault))
            else:
                texts.append(text)
                labels.append(label_cell)
                rows.append(row)
            row += 1
    if not row:
        raise DataError(f"no texts: {files[0]} has no rows")
    _refuse_split_column(files, source, str(text_column), str(label_column))
    notes = broken_note(broken, len(texts), split, options)
    columns = {"text": str(text_column), "label": str(label_column)}
    origin = source.origin(files, columns, row, row_tensor(rows), split)

    def describe(i: int) -> str:
        return describe_row(rows[i], files, starts)

    return RawTexts(texts, LabelColumn(labels, describe), origin, [str(row) for row in rows], names), notes


def _refuse_split_column(files: Sequence[str], source: TableSource, *used: str) -> None:
    """Refuse the files of a split that say that some of their rows are to train on and the rest are not."""
    values: dict[str, set[Any]] = {}
    for path in files:
        schema = source.schema(path)
        columns = [name for name in split_columns(schema.names, *used) if schema.names.count(name) == 1]
        if not columns:
            continue
        with convert_errors(path):
            cells = read_columns(path, columns)
            for name in columns:
                names = class_names(schema, name)
                different = cells.column(name).unique().to_pylist()
                # a ClassLabel of splits holds places in its list of names
                values.setdefault(name, set()).update(
                    different if names is None else [names[v] for v in different if v is not None]
                )
    refuse_split_column(values, shortened_list(files, 3), file_a_split(Path(files[0]).suffix))


def _choose_text_columns(path: str, schema: Any, text: str | None, label: str | None) -> tuple[str, str]:
    check_unique(schema, (text, label) if text and label else (text, label, *TEXT_NAMES, *TEXT_LABEL_NAMES), path)

    def is_usable(field: Any) -> bool:
        # a float may be a label, but one without a usual name is more likely a measurement
        usual = field.name == label or field.name.casefold() in TEXT_LABEL_NAMES
        return holds_text(field.type) or (holds_labels(field.type) and (usual or not pa.types.is_floating(field.type)))

    usable = [field.name for field in schema if schema.names.count(field.name) == 1 and is_usable(field)]
    unusable = [name for name in (text, label) if name is not None and name in schema.names and name not in usable]
    if unusable:
        raise DataError(
            f"column {unusable[0]!r} of {path} holds {schema.field(unusable[0]).type}: texts are strings, and labels "
            "names or integers"
        )
    numeric = [field.name for field in schema if pa.types.is_floating(field.type) and field.name not in usable]
    if len(usable) < 2 and len(numeric) > 1:
        columns = shortened_list(schema.names)
        raise DataError(f"{path} has no column of texts or images; its columns are {columns}{NUMBERS_HINT}")
    with convert_errors(path):
        top = read_columns(path, usable).slice(0, PREVIEW_ROWS)
    return choose_text_columns({name: top.column(name).to_pylist() for name in usable}, path, text, label)
