"""Labelled texts in ``.csv``, ``.tsv`` and ``.jsonl`` files: one, or a folder with a file for each split."""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import ReadOptions
from datawinnow.data.examples import Origin, short_name
from datawinnow.data.images import SUFFIXES
from datawinnow.data.splits import choose_splits, is_hidden, name_of_files, split_of
from datawinnow.data.texts import (
    RawTexts,
    Texts,
    assemble_texts,
    broken_note,
    check_text_options,
    choose_text_columns,
    has_header,
    label_array,
    label_of,
    row_tensor,
    text_of,
    usual_width,
)

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl")
MAX_CELL_LENGTH = 1 << 30
"""Characters in a cell of a ``.csv``; Python's own limit of 131,072 is below the length of a book."""


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        line: on which it begins, from 1.
        raw: its text in the file, with the line end.
        cells: its values: texts by place, or what a JSON object holds by name.
        wrong: why the record cannot be read; ``""`` if it can.
    """

    line: int
    raw: str
    cells: list[str] | dict[str, Any]
    wrong: str = ""


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file in order, the line of names of a table among them; empty lines are passed over.

    Bytes that are no UTF-8 are kept in ``raw`` (as surrogates), for writing the file again.

    Raises:
        DataError: no such file, or it may not be read.
    """
    kind = path.suffix.lower()
    try:
        # a .csv may have line ends within its cells, which csv itself looks after
        newline = "" if kind == ".csv" else "\n"
        # utf-8-sig drops the mark that Excel puts at the start of a file
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
            yield from (
                _csv_records(file)
                if kind == ".csv"
                else _read_lines(file, _json_record if kind == ".jsonl" else _tab_record)
            )
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except PermissionError:
        raise DataError(f"the file {path} may not be read; change its permissions") from None


def _read_lines(file: Any, read: Any) -> Iterator[Record]:
    for number, raw in enumerate(file, start=1):
        line = raw.rstrip("\r\n")
        if not line.strip():
            continue
        yield Record(number, raw, [], NOT_UTF8) if _is_not_utf8(raw) else read(number, raw, line)


NOT_UTF8 = "it is not UTF-8"


def _is_not_utf8(raw: str) -> bool:
    """Whether bytes were met that are no UTF-8."""
    # surrogateescape stands for a byte 0x80 to 0xFF as U+DC80 to U+DCFF
    return not raw.isascii() and any("\udc80" <= letter <= "\udcff" for letter in raw)


def _tab_record(number: int, raw: str, line: str) -> Record:
    return Record(number, raw, [_strip_quotes(cell) for cell in line.split("\t")])


def _strip_quotes(cell: str) -> str:
    """A cell without quotes around it, if they are such as a writer of tables puts there; a text may have its own."""
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _json_record(number: int, raw: str, line: str) -> Record:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        return Record(number, raw, {}, f"it is not JSON ({str(error).split(': line')[0]})")
    if not isinstance(value, dict):
        return Record(number, raw, {}, f"it holds {type(value).__name__}, not an object with fields")
    return Record(number, raw, value)


def _csv_records(file: Any) -> Iterator[Record]:
    """Records of a ``.csv``; a cell in quotes may go over several lines.

    Where a quote is never closed only the line with it is broken: the lines that it swallowed are read again.
    """
    # lines to be read again before the file goes on
    waiting: deque[str] = deque([file.readline()])
    taken: list[str] = []

    def lines() -> Iterator[str]:
        # an empty string ends the loop: only the end of the file reads as one
        while raw := waiting.popleft() if waiting else file.readline():
            taken.append(raw)
            yield raw

    delimiter = _delimiter(waiting[0])
    # strict: an unclosed quote is an error instead of a cell as long as the file
    number, reader = 1, csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        wrong: str = ""
        cells: list[str] = []
        try:
            # around each record: between two, the caller may use csv itself
            with _long_csv_cells():
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            wrong = f"it is no CSV ({error})"
            # extendleft reverses, so the lines are given to it reversed
            waiting.extendleft(reversed(taken[1:]))
            del taken[1:]
            reader = csv.reader(lines(), delimiter=delimiter, strict=True)
        raw = "".join(taken)
        if raw.strip():
            yield Record(number, raw, cells, NOT_UTF8 if _is_not_utf8(raw) else wrong)
        number += len(taken)
        taken.clear()


def _delimiter(line: str) -> str:
    """The mark between the cells: a comma, or where there is none a semicolon or a tab."""
    return next((mark for mark in ",;\t" if mark in line), ",")


@contextmanager
def _long_csv_cells() -> Iterator[None]:
    """Lift the limit on a cell's length, which is one for the whole process, for the while."""
    before = csv.field_size_limit(MAX_CELL_LENGTH)
    try:
        yield
    finally:
        csv.field_size_limit(before)


PREVIEW_RECORDS = 1000
"""Records at the top of a file from which its columns are guessed."""


def find_texts(root: Path) -> dict[str, list[Path]]:
    """Files of texts by split: ``train.tsv``, ``dev.tsv``, ``test.tsv``, or shards such as ``train-0.jsonl``.

    Returns:
        Sorted files under each split's name; empty without a train split, and where there are folders of images, which
        the tables may describe.

    Raises:
        DataError: a split in files of several kinds.
    """
    splits: dict[str, list[Path]] = {}
    for path in sorted(p for p in root.iterdir() if p.suffix.lower() in TEXT_SUFFIXES and p.is_file()):
        split = "" if is_hidden(path.name) else split_of(path.stem)
        if split:
            splits.setdefault(split, []).append(path)
    if "train" not in splits or any(_holds_images(folder) for folder in root.iterdir() if folder.is_dir()):
        return {}
    for files in splits.values():
        if len({path.suffix.lower() for path in files}) > 1:
            raise DataError(f"{root} holds both {files[0].name} and {files[-1].name}; give one of them by its own path")
    return splits


def _holds_images(folder: Path, depth: int = 2) -> bool:
    """Whether a folder, or one of its own, has a file with the name of an image."""
    if is_hidden(folder.name) or not os.access(folder, os.R_OK | os.X_OK):
        return False
    with os.scandir(folder) as entries:
        folders = []
        for entry in entries:
            if Path(entry.name).suffix.lower() in SUFFIXES and not is_hidden(entry.name):
                return True
            if entry.is_dir():
                folders.append(Path(entry.path))
    return depth > 1 and any(_holds_images(child, depth - 1) for child in folders)


def load_text_files(root: Path, options: ReadOptions) -> tuple[Texts, Texts]:
    """Read labelled texts.

    Args:
        root: a file, or a folder in which `find_texts` finds some.
        options: of `load`.

    Raises:
        ArgumentError: an option for images.
        DataError: no columns of texts and labels, a broken line, labels that fit no class.
    """
    check_text_options(options)
    files = find_texts(root) if root.is_dir() else {"train": [root]}
    splits = {name_of_files(paths, split) if root.is_dir() else split: paths for split, paths in files.items()}

    def is_labelled(train: str, split: str) -> bool:
        return _has_text_labels(splits[split], splits[train], options)

    choice = choose_splits(splits, str(root), is_labelled)
    unused = {name: tuple(map(str, splits[name])) for name in choice.unused}
    train_texts, layout, notes = _read_split(splits[choice.train], str(root), choice.train, options, None)
    notes = choice.notes + notes
    test_texts = None
    if choice.test:
        test_texts, _, new_notes = _read_split(splits[choice.test], str(root), choice.test, options, layout)
        notes += new_notes
    train_texts = replace(train_texts, origin=replace(train_texts.origin, unused=unused))
    return assemble_texts(train_texts, test_texts, short_name(root), options, notes)


def _has_text_labels(paths: Sequence[Path], train_paths: Sequence[Path], options: ReadOptions) -> bool:
    """Whether the top of a split holds labels in the column of the train split; secret ones are missing, or -1."""
    _, train_layout, _ = _open_records(train_paths[0], None, options)
    try:
        records, layout, _ = _open_records(paths[0], train_layout, options)
    except DataError:  # it lacks the column
        return False
    values = [
        cells.get(layout.label) for record, cells in itertools.islice(records, PREVIEW_RECORDS) if not record.wrong
    ]
    labels = [label_of(value)[0] for value in values]
    return not values or any(label not in ("", "-1", -1) for label in labels)


@dataclass(frozen=True)
class TextLayout:
    """Columns of a file.

    Attributes:
        text: name of the column of texts; its number in a file without a line of names.
        label: name or number of the column of labels.
        header: whether its first record names the columns.
    """

    text: str
    label: str
    header: bool


def _read_split(
    paths: Sequence[Path], root: str, split: str, options: ReadOptions, like: TextLayout | None
) -> tuple[RawTexts, TextLayout, tuple[str, ...]]:
    """The examples of a split, the layout of its files, and notes."""
    texts: list[str] = []
    labels: list[str | int] = []
    rows: list[int] = []
    lines: list[tuple[Path, int]] = []
    broken: list[tuple[str, str]] = []
    notes: tuple[str, ...] = ()
    layout, row = like, -1
    for path in paths:
        records, layout, new_notes = _open_records(path, layout, options)
        notes += new_notes
        for record, cells in records:
            row += 1
            text, fault = text_of(cells.get(layout.text)) if not record.wrong else ("", record.wrong)
            label, label_fault = label_of(cells.get(layout.label)) if not fault else ("", "")
            if fault or label_fault:
                broken.append((f"line {record.line} of {path}", fault or label_fault))
                continue
            texts.append(text)
            labels.append(label)
            rows.append(row)
            lines.append((path, record.line))
    assert layout is not None  # there is at least one file
    if row < 0:
        raise DataError(f"no texts: {paths[0]} has no lines")
    notes += broken_note(broken, len(texts), split, options)
    columns = {"text": layout.text, "label": layout.label, "header": "yes" if layout.header else ""}
    origin = Origin("text", root, tuple(map(str, paths)), row_tensor(rows), columns, split=split)
    ids = [f"{path.name}:{line}" for path, line in lines]

    def describe(i: int) -> str:
        return f"line {lines[i][1]} of {lines[i][0]}"

    return RawTexts(texts, label_array(labels), describe, origin, ids), layout, notes


def _open_records(
    path: Path, like: TextLayout | None, options: ReadOptions
) -> tuple[Iterator[tuple[Record, Mapping[str, Any]]], TextLayout, tuple[str, ...]]:
    """The records of a file with their cells by name, its layout, and a note if that is guessed.

    Args:
        path: the file.
        like: layout of the split's other files, whose columns it must have; None for the first.
        options: of `load`.
    """
    source = read_records(path)
    # chained before the rest below: a file is read once
    top = list(itertools.islice(source, PREVIEW_RECORDS))
    columns_by_user = (options.text, options.label) if like is None else (like.text, like.label)
    good = [record for record in top if not record.wrong]
    if path.suffix.lower() == ".jsonl":
        columns: dict[str, list[Any]] = {}
        for record in good:
            assert isinstance(record.cells, dict)  # of JSON lines that are whole
            for name, value in record.cells.items():
                columns.setdefault(name, []).append(value)
        records = ((r, r.cells if isinstance(r.cells, dict) else {}) for r in itertools.chain(top, source))
        return records, *_choose_layout(columns, path, columns_by_user, header=True, good=bool(good))
    cells = [list(record.cells) for record in good]
    # only the very first record can name the columns, so not one after a broken line
    header = bool(good) and top[0] is good[0] and _has_header(cells, columns_by_user, like)
    width = usual_width(cells) if cells else 0
    names = [cell.strip() for cell in cells[0]] if header else [str(i) for i in range(width)]
    if header:
        top, cells = top[1:], cells[1:]
    # rows of another width are reported later
    columns = {name: [row[i] for row in cells if len(row) == len(names)] for i, name in enumerate(names)}
    layout, notes = _choose_layout(columns, path, columns_by_user, header=header, good=bool(good))
    return _cells_by_name(itertools.chain(top, source), names), layout, notes


def _has_header(cells: Sequence[Sequence[str]], columns_by_user: Sequence[str | None], like: TextLayout | None) -> bool:
    if like is not None:  # the other files' names, or none
        return like.header and {like.text, like.label} <= {cell.strip() for cell in cells[0]}
    return has_header(cells[0], cells[1:], columns_by_user)


def _choose_layout(
    columns: Mapping[str, Sequence[Any]], path: Path, columns_by_user: Sequence[str | None], *, header: bool, good: bool
) -> tuple[TextLayout, tuple[str, ...]]:
    if not good:  # only broken lines, which are reported with their numbers
        return TextLayout("", "", header), ()
    if len(columns) < 2:
        raise DataError(
            f"{path} has one column; a text and its label are needed, between them a comma in .csv and a tab in .tsv"
        )
    text, label = choose_text_columns(columns, str(path), *columns_by_user)
    notes: tuple[str, ...] = ()
    if not header and None in columns_by_user:
        notes = (f"{path.name} has no line of names: texts are in column {text}, labels in column {label}",)
    elif None in columns_by_user and len(columns) > 2:
        notes = (f"texts are in column {text!r} of {path.name}, labels in column {label!r}",)
    return TextLayout(text, label, header), notes


def _cells_by_name(records: Iterator[Record], names: Sequence[str]) -> Iterator[tuple[Record, Mapping[str, Any]]]:
    for record in records:
        if not record.wrong and len(record.cells) != len(names):
            count = f"{len(record.cells)} column{'' if len(record.cells) == 1 else 's'}"
            record = Record(record.line, record.raw, [], f"it has {count} where there should be {len(names)}")
        yield record, dict(zip(names, record.cells, strict=True)) if not record.wrong else {}
