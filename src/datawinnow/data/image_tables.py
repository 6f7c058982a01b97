"""Tables of labels of images in files: ``metadata.csv`` of an ImageFolder of `datasets`, ``train.csv`` of Kaggle."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from datawinnow.core.counts import many
from datawinnow.core.errors import DataError
from datawinnow.data.arrow import LABEL_NAMES
from datawinnow.data.assemble import ReadOptions
from datawinnow.data.images import SUFFIXES
from datawinnow.data.labels import label_of
from datawinnow.data.separated import (
    MAX_TITLES,
    SEPARATOR_LINE,
    Record,
    clean_name,
    column_by_number,
    guess_dialect,
    is_title,
    read_records,
    repeated_key,
    table_notes,
    width_fault,
)
from datawinnow.data.splits import is_hidden, readable_name, refuse_split_column, split_columns, split_of
from datawinnow.data.texts import broken_note

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_id", "img", "path", "image_path", "id", "name")
IMAGE_LABEL_COLUMNS = (*LABEL_NAMES, "category", "species", "breed", "label_name", "class_name")


@dataclass(frozen=True)
class ImageTable:
    """Images of a split with the labels that a table has for them.

    Attributes:
        path: the table.
        images: their paths relative to the root, in the table's order.
        labels: of the images, as they stand in the table.
        image: the column of files.
        label: the column of labels.
        lines: of the images in the table.
        notes: for the user.
    """

    path: Path
    images: list[str]
    labels: list[Any]
    image: str
    label: str
    lines: list[int]
    notes: tuple[str, ...]

    def describe(self, i: int) -> str:
        """Image ``i`` as "line 3 of FILE", for errors."""
        return f"line {self.lines[i]} of {self.path}"


def find_image_table(
    root: Path, folder: Path, split: str, images: ImageNames, options: ReadOptions
) -> tuple[Path | None, tuple[str, ...]]:
    """The table of labels of a split, and notes on tables that are not used.

    That is ``metadata.csv`` in its folder, or a file of the root that is named after the split; for the train split
    also another file that names its images.

    Args:
        root: of the dataset.
        folder: of the split.
        split: its name; ``""`` where the root is the only one.
        images: of the split.
        options: of `load`.

    Raises:
        DataError: several files of the root may be the table.
    """
    tables = [table for suffix in TABLE_SUFFIXES if (table := folder / f"metadata{suffix}").is_file()]
    if tables:
        return tables[0], tuple(f"{other.name} is not used: {tables[0].name} has the labels" for other in tables[1:])
    if any(_is_class_folder(child) for child in folder.iterdir()) if split else folder != root:
        # with folders of classes, a table beside them says nothing that they do not
        return None, ()
    of_root = [path for path in _tables_in(root) if split_of(path.stem) == split_of(split)]
    if split_of(split) in ("", "train"):
        of_root = of_root or [path for path in _tables_in(root) if not split_of(path.stem)]
        of_root = [path for path in of_root if names_images(path, images)]
    if len(of_root) > 1:
        of_root = [path for path in of_root if has_image_labels(path, images, options)] or of_root
    if len(of_root) > 1:
        raise DataError(
            f"{', '.join(path.name for path in of_root)} of {root} may each hold the labels of the images in {folder}: "
            f"move the one that does to {folder / 'metadata'}{of_root[0].suffix}, with the names of the files in a "
            "column file_name"
        )
    return (of_root[0] if of_root else None), ()


def find_split_tables(root: Path, images: ImageNames) -> dict[str, Path]:
    """Tables of a folder that list the images of each split, as ``train.csv`` and ``test.csv``, by their names.

    Empty without one to train on, and where several mean the same split.
    """
    tables = [path for path in _tables_in(root) if split_of(path.stem) and names_images(path, images)]
    meanings = [split_of(path.stem) for path in tables]
    return {path.stem: path for path in tables} if meanings.count("train") == 1 else {}


def _tables_in(root: Path) -> list[Path]:
    return [
        path
        for path in sorted(root.iterdir())
        if path.suffix.lower() in TABLE_SUFFIXES and not is_hidden(path.name) and path.is_file()
    ]


def _is_class_folder(path: Path) -> bool:
    return path.is_dir() and not is_hidden(path.name)


def listed_images(path: Path, images: ImageNames) -> list[str]:
    """Paths of the images that a table names in any column, relative to the root, in its order."""
    listed = {}
    for record in read_records(path):
        cells = record.cells.values() if isinstance(record.cells, dict) else record.cells
        for cell in cells:
            if isinstance(cell, str) and (name := images.find(cell)) is not None:
                listed[name] = True
                break
    return list(listed)


def has_image_labels(path: Path, images: ImageNames, options: ReadOptions) -> bool:
    """Whether a table has a column of labels, and in it another label than -1, which stands for a secret one."""
    try:
        table = _read_table(path, images, options)
    except DataError:
        return False
    return any(str(cells.get(table.label) or "").strip() not in ("", "-1") for _, cells in table.rows)


def names_images(path: Path, images: ImageNames) -> bool:
    """Whether one of the first records of a table names an image."""
    try:
        for record in itertools.islice(read_records(path), NUM_PREVIEW):
            cells = record.cells.values() if isinstance(record.cells, dict) else record.cells
            if any(isinstance(cell, str) and images.find(cell) is not None for cell in cells):
                return True
    except DataError:  # reported where the table is read
        return False
    return False


class ImageNames:
    """Finds the image that a cell of a table names.

    Args:
        images: paths of the images relative to the root of the dataset.
        below: path of the folder that the table's names start from, relative to the root, with a slash at the end.
    """

    def __init__(self, images: Sequence[str], below: str = "") -> None:
        self.images = images
        self._by_name = {name.removeprefix(below): name for name in images}
        # Kaggle names files without their suffix
        self._by_stem = _single_values(
            (str(PurePosixPath(name).with_suffix("")), full) for name, full in self._by_name.items()
        )
        self._by_file_name = _single_values((PurePosixPath(name).name, name) for name in images)
        self._by_file_stem = _single_values((PurePosixPath(name).stem, name) for name in images)

    def find(self, cell: str) -> str | None:
        """Path of the image relative to the root; None if there is no such image, or several."""
        file = cell.strip().replace("\\", "/").removeprefix("./")
        if not file:
            return None
        if (name := self._by_name.get(file) or self._by_stem.get(file)) is not None:
            return name
        # the table may have been made where the images were in another folder
        last = file.rsplit("/", 1)[-1]
        return self._by_file_name.get(last) or self._by_file_stem.get(last)


def _single_values(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Pairs as a dict, without the keys that stand for several values."""
    values: dict[str, str] = {}
    doubled = set()
    for key, value in pairs:
        if values.setdefault(key, value) != value:
            doubled.add(key)
    return {key: value for key, value in values.items() if key not in doubled}


def read_image_table(path: Path, folder: Path, images: ImageNames, options: ReadOptions) -> ImageTable:
    """Read the labels of a split's images.

    Args:
        path: the table.
        folder: of the split, for errors.
        images: of the folder.
        options: of `load`; ``image`` and ``label`` name the columns.

    Raises:
        DataError: no column of files or of labels; with ``on_broken="raise"`` a line without a file or a label, whose
            file does not exist, or that names an image of another line with another label.
    """
    table = _read_table(path, images, options)
    paths: list[str] = []
    labels: list[Any] = []
    lines: list[int] = []
    broken = list(table.broken)
    first: dict[str, int] = {}
    num_repeated = 0
    split_cells: dict[str, set[str]] = {}
    for line, cells in table.rows:
        file, value = str(cells.get(table.image) or "").strip(), cells.get(table.label)
        name = images.find(file)
        fault = label_of(value)[1]
        if name is None:
            fault = (
                f"it names the image {file!r}, which is not in {folder} (files ending in {', '.join(SUFFIXES)})"
                if file
                else "it names no image"
            )
        elif name in first and not fault:
            other = first[name]
            if str(labels[other]).strip() == str(value).strip():
                num_repeated += 1
                continue
            fault = f"it names the image {file!r} again, which has another label in line {lines[other]}"
        if fault or name is None:
            broken.append((f"line {line} of {path}", fault))
            continue
        first[name] = len(paths)
        paths.append(name)
        labels.append(value)
        lines.append(line)
        for column in split_columns(cells, table.image, table.label):
            split_cells.setdefault(column, set()).add(str(cells[column]))
    refuse_split_column(
        split_cells,
        str(path),
        f"write one table a split, train{path.suffix} and test{path.suffix}, into {folder}, or move the images of each "
        "split into a folder of its own",
    )
    if not paths and not broken:
        raise DataError(f"{path} has no lines")
    notes = [*table.notes, *broken_note(broken, len(paths), path.name, options)]
    notes.append(f"labels are in column {table.label!r} of {path.name}, files in column {table.image!r}")
    if num_repeated:
        notes.append(f"{num_repeated:,} lines of {path.name} name an image again with the same label: it counts once")
    return ImageTable(path, paths, labels, table.image, table.label, lines, tuple(notes))


def unlabelled_note(table: ImageTable, images: Iterable[str], folder: Path) -> tuple[str, ...]:
    """A note on images of a split's folder that no table names.

    Args:
        table: of the split.
        images: paths of such images, relative to the root.
        folder: of the split.
    """
    without = sorted(images)
    if not without:
        return ()
    return (
        f"{len(without):,} images of {readable_name(str(folder))} are not in {table.path.name} and are left out, the "
        f"first {readable_name(without[0])}",
    )


NUM_PREVIEW = 100
"""Records at the top of a table in which names of images are looked for."""


@dataclass(frozen=True)
class _Table:
    """Lines of a table as they stand in it.

    Attributes:
        image: the column of files.
        label: the column of labels.
        rows: line and cells of each.
        broken: place and fault of lines that cannot be read.
        notes: for the user.
    """

    image: str
    label: str
    rows: list[tuple[int, dict[str, Any]]]
    broken: list[tuple[str, str]]
    notes: tuple[str, ...]


def _read_table(path: Path, images: ImageNames, options: ReadOptions) -> _Table:
    """The lines of a table, after what stands above them.

    Raises:
        DataError: the file may not be read, or it has no column of files or of labels.
    """
    if path.suffix.lower() == ".jsonl":
        return _read_json_lines(path, options)
    dialect = guess_dialect(path)
    source = read_records(path, dialect)
    top = list(itertools.islice(source, NUM_PREVIEW))
    header_at, num_leading = _find_header(top, dialect.width, images, options)
    titles = top[: num_leading if header_at is None else header_at]
    notes = table_notes(path, dialect.delimiter, titles)
    rows: list[tuple[int, dict[str, Any]]] = []
    broken: list[tuple[str, str]] = []
    if header_at is not None:
        names = [clean_name(cell) for cell in top[header_at].cells]
        image, label = _image_columns(path, names, options)
    else:
        names = [str(i) for i in range(dialect.width)]
        image, label = _columns_without_header(path, names, top[num_leading:], images, options)
        notes += (f"{path.name} has no line of names: files are in column {image}, labels in column {label}",)
    num_headers = 0
    for record in itertools.chain(top[num_leading:], source):
        cells = list(record.cells)
        if header_at is not None and [clean_name(cell) for cell in cells] == names:
            num_headers += 1
        elif record.wrong or len(cells) != len(names):
            fault = record.wrong or width_fault(len(cells), len(names))
            broken.append((f"line {record.line} of {path}", fault))
        else:
            rows.append((record.line, dict(zip(names, cells, strict=True))))
    if num_headers:
        repeats = many(num_headers, "time")
        notes += (f"the header of {path.name} stands {repeats} more between its lines, where it is no image",)
    return _Table(image, label, rows, broken, notes)


def _find_header(top: Sequence[Record], width: int, images: ImageNames, options: ReadOptions) -> tuple[int | None, int]:
    """Place of the record that names the columns, if there is one, and the number of records before the first image."""
    usual = {*FILE_COLUMNS, *IMAGE_LABEL_COLUMNS, *(name.casefold() for name in (options.image, options.label) if name)}
    num_titles = 0
    for i, record in enumerate(top[: MAX_TITLES + 1]):
        if SEPARATOR_LINE.fullmatch(record.raw):
            num_titles = i + 1
            continue
        cells = list(record.cells)
        has_usual = len(cells) > 1 and any(clean_name(cell).casefold() in usual for cell in cells)
        # the usual names first: an image may be called id.png
        if not has_usual and any(images.find(cell) is not None for cell in cells):
            return None, num_titles
        if has_usual or not (record.wrong or is_title(cells, width)):
            return i, i + 1
    return None, num_titles


def _columns_without_header(
    path: Path, names: Sequence[str], records: Sequence[Record], images: ImageNames, options: ReadOptions
) -> tuple[str, str]:
    rows = [list(record.cells) for record in records if len(record.cells) == len(names)]
    counts = [sum(images.find(row[i]) is not None for row in rows) for i in range(len(names))]
    image = column_by_number(options.image, names)
    if image is None and any(counts):
        image = names[counts.index(max(counts))]
    return _image_columns(path, names, replace(options, image=image))


def _read_json_lines(path: Path, options: ReadOptions) -> _Table:
    rows: list[tuple[int, dict[str, Any]]] = []
    broken: list[tuple[str, str]] = []
    raws: list[str] = []
    for record in read_records(path):
        if record.wrong or not isinstance(record.cells, dict):
            broken.append((f"line {record.line} of {path}", record.wrong))
            continue
        rows.append((record.line, record.cells))
        raws.append(record.raw)
    names = list(dict.fromkeys(name for _, cells in rows[:NUM_PREVIEW] for name in cells))
    if not rows and broken:
        return _Table("", "", rows, broken, ())
    image, label = _image_columns(path, names, options)
    for (line, _), raw in zip(rows, raws, strict=True):
        if key := repeated_key(raw, (image, label)):
            broken.append((f"line {line} of {path}", f"it has {key!r} twice"))
    wrong = {place for place, _ in broken}
    return _Table(image, label, [row for row in rows if f"line {row[0]} of {path}" not in wrong], broken, ())


def _image_columns(path: Path, names: Sequence[str], options: ReadOptions) -> tuple[str, str]:
    folded = {name.casefold(): name for name in reversed(names)}
    image = column_by_number(options.image, names) or next((folded[n] for n in FILE_COLUMNS if n in folded), None)
    # columns without a name are none; spreadsheets and pandas leave them
    rest = [name for name in names if name != image and name]
    label = column_by_number(options.label, names) or next(
        (folded[name] for name in IMAGE_LABEL_COLUMNS if name in folded), None
    )
    if label is None and len(rest) == 1:
        label = rest[0]
    for content, column, option in (("files", image, "image"), ("labels", label, "label")):
        if column is None or column not in names:
            missing = f"no column {column!r}" if column else f"no column that is known to hold {content}"
            raise DataError(
                f"{path} has {missing}; its columns are {', '.join(names) or 'none'}. Name the column of {content} "
                f"with `{option}=`"
            )
        if names.count(column) > 1:
            raise DataError(
                f"{path} has {names.count(column)} columns called {column!r}; rename one, or take the others out, so "
                "that it is clear which is meant"
            )
    assert image is not None  # both were checked
    assert label is not None
    return image, label
