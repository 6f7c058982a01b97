"""Parquet in the layout of the Hugging Face hub: encoded images or texts, and labels, in shards by split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import Loaded, Options, Split, assemble
from datawinnow.data.columns import TESTS, choose_columns, class_names, label_values, open_arrow, reading, row_in_words
from datawinnow.data.examples import Origin, short_name
from datawinnow.data.labels import class_values, named, numbered, renumbering_note
from datawinnow.data.tables import ParquetImages, TableImages
from datawinnow.data.text_tables import holds_texts, load_text_tables

_SPLIT = re.compile(r"^(train|test|validation|valid|val|dev)(?![a-z])", re.IGNORECASE)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


def find_parquet(root: Path) -> dict[str, list[Path]]:
    """Parquet files by split: of ``root``, its ``data`` folder, or its only subfolder that holds some.

    Returns:
        Sorted files under each split's name; files whose names say no split are under ``""``. Empty when there are
        none.

    Raises:
        DataError: several subfolders (configurations) hold Parquet files.
    """
    for folder in (root, root / "data"):
        found = _by_split(folder)
        if found:
            return found
    below = [f for f in sorted(root.iterdir()) if f.is_dir() and _by_split(f)]
    if len(below) > 1:
        raise DataError(
            f"{root} holds Parquet files in several folders ({', '.join(f.name for f in below)}); give one of them"
        )
    return _by_split(below[0]) if below else {}


def load_parquet(root: Path, files: dict[str, list[Path]], options: Options) -> tuple[Loaded, Loaded]:
    """Read Parquet files.

    Args:
        root: the file or folder that the user gave.
        files: by split, from `find_parquet`; a single file is under ``""``.
        options: the user's.

    Raises:
        DataError: damaged files, missing columns, missing or wrong labels, broken images.
    """
    notes: tuple[str, ...] = ()
    train = files.get("train") or files.get("", [])
    if not train:
        raise DataError(f"{root} has Parquet files of {', '.join(files)}, but none whose name begins with train")
    tests = [t for t in TESTS if t in files] if "train" in files else []
    unused = [*tests[1:], *([""] if "train" in files and "" in files else [])]
    notes += tuple(f"not used: {', '.join(p.name for p in files[s][:3])}" for s in unused)
    for part in (train, files[tests[0]] if tests else []):
        notes += _missing_shards(part)
    return load_tables(
        train, files[tests[0]] if tests else None, "parquet", str(root), short_name(root), options, notes
    )


def load_tables(
    train: list[Path],
    test: list[Path] | None,
    layout: str,
    source: str,
    name: str,
    options: Options,
    notes: tuple[str, ...] = (),
    images: type[TableImages] = ParquetImages,
) -> tuple[Loaded, Loaded]:
    """Read splits that lie in tables, Parquet or Arrow: of images, or of texts where there are none.

    Args:
        train: files of the train split.
        test: files of the test split; None to hold one out.
        layout: for the origin.
        source: for the origin.
        name: of the dataset.
        options: the user's.
        notes: so far.
        images: how the files are read.
    """
    if holds_texts(train[0], options):
        return load_text_tables(train, test, layout, source, name, options, notes)
    first = _Table.read(train, options, None, images)
    classes: list[int] | list[str] = []
    if first.names is not None and not isinstance(first.values, list):
        names, labels = first.names, named(first.values, first.names, first.where)
    else:
        classes = class_values(first.values, first.where)
        names, labels = tuple(map(str, classes)), numbered(first.values, classes, first.where)
        notes += renumbering_note(classes)
    splits = [first.split(labels, layout, source, images)]
    if test is not None:
        second = _Table.read(test, options, first.columns, images)
        if classes or isinstance(second.values, list):
            labels = numbered(second.values, classes or list(names), second.where)
        else:
            labels = named(second.values, names, second.where)
        splits.append(second.split(labels, layout, source, images))
    return assemble(splits[0], splits[1] if test is not None else None, names, name, options, notes)


@dataclass(frozen=True)
class _Table:
    """The files of one split, without their images."""

    files: tuple[str, ...]
    columns: tuple[str, str]
    names: tuple[str, ...] | None
    sizes: list[int]
    values: NDArray[np.int64] | list[str]

    @classmethod
    def read(
        cls,
        paths: list[Path],
        options: Options,
        columns: tuple[str, str] | None,
        images: type[TableImages],
    ) -> _Table:
        """Columns, class names and labels; ``columns`` are those of the train split, when this is the other."""
        parts, names = [], None
        files = tuple(str(p) for p in paths)
        for path in files:
            image, label = columns or (options.image, options.label)
            with reading(path):
                file = pq.ParquetFile(path) if images is ParquetImages else open_arrow(path)
                schema = file.schema_arrow if images is ParquetImages else file.schema
                columns = choose_columns(schema, path, image, label)
                names = names or class_names(schema, columns[1])
                table = file.read(columns=[columns[1]]) if images is ParquetImages else file
                parts.append(table.column(columns[1]))
        assert columns is not None  # there is at least one file
        sizes = [len(part) for part in parts]
        if not sum(sizes):
            raise DataError(f"no images: {files[0]} has no rows")
        kinds = {str(part.type) for part in parts}
        if len(kinds) > 1:
            raise DataError(f"column {columns[1]!r} has another type in some files: {', '.join(sorted(kinds))}")
        column = pa.chunked_array([c for part in parts for c in part.chunks], parts[0].type)
        starts = _starts(sizes)
        values = label_values(column, columns[1], lambda row: row_in_words(row, files, starts))
        return cls(files, columns, names, sizes, values)

    def where(self, row: int) -> str:
        """``row`` of the concatenated files as "row 3 of FILE"."""
        return row_in_words(row, self.files, _starts(self.sizes))

    def split(self, labels: Tensor, layout: str, source: str, images: type[TableImages]) -> Split:
        """With its images."""
        origin = Origin(layout, source, self.files, None, {"image": self.columns[0], "label": self.columns[1]})
        return Split(images(self.files, self.columns[0], self.sizes), labels, origin)


def _starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _by_split(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    if not folder.is_dir():
        return found
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        match = _SPLIT.match(path.name)
        split = match.group(1).lower() if match else ""
        if path.is_dir() and split:
            files = sorted(p for p in path.glob("*.parquet") if p.is_file())
        else:
            files = [path] if path.suffix == ".parquet" and path.is_file() else []
        if files:
            found.setdefault(split, []).extend(files)
    return found


def _missing_shards(paths: list[Path]) -> tuple[str, ...]:
    numbers = [m.groups() for m in (_SHARD.search(p.name) for p in paths) if m]
    there = {int(first) for first, _ in numbers}
    most = max((int(of) for _, of in numbers), default=0)
    if len(there) >= most:
        return ()
    return (f"only {len(there)} of the {most} shards that {paths[0].name} speaks of are there",)
