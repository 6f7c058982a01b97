"""Labelled texts in ``.csv``, ``.tsv`` and ``.jsonl`` files: one, or a folder with a file for each split."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import Options
from datawinnow.data.columns import TESTS
from datawinnow.data.examples import Origin, short_name
from datawinnow.data.records import SUFFIXES, Record, read_records
from datawinnow.data.text_assemble import RawTexts, assemble_texts, check_text_options, rows_of, without_broken
from datawinnow.data.text_columns import (
    choose_text_columns,
    label_of,
    named_by,
    text_of,
    usual_width,
    values_of,
)
from datawinnow.data.texts import Texts

LOOKED_AT = 1000
"""Records at the top of a file from which its columns are guessed."""
_SPLIT = re.compile(r"(train|test|validation|valid|val|dev)([-_.]?\d[\w-]*)?", re.IGNORECASE)


def find_texts(root: Path) -> dict[str, list[Path]]:
    """Files of texts by split: ``train.tsv``, ``dev.tsv``, ``test.tsv``, or shards such as ``train-0.jsonl``.

    Returns:
        Sorted files under each split's name; empty without a train split, and where ``train`` is a folder: of images
        by class, which a table may lie beside.

    Raises:
        DataError: a split in files of several kinds.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()):
        match = _SPLIT.fullmatch(path.stem)
        if match:
            found.setdefault(match.group(1).lower(), []).append(path)
    if "train" not in found or (root / "train").is_dir():
        return {}
    for files in found.values():
        if len({path.suffix.lower() for path in files}) > 1:
            raise DataError(f"{root} holds both {files[0].name} and {files[-1].name}; give one of them by its own path")
    return found


def load_text_files(root: Path, files: Mapping[str, Sequence[Path]], options: Options) -> tuple[Texts, Texts]:
    """Read labelled texts.

    Args:
        root: the file or folder that the user gave.
        files: by split, from `find_texts`; a single file is under ``""``.
        options: the user's.

    Raises:
        ArgumentError: an option for images.
        DataError: no columns of texts and labels, a broken line, labels that fit no class.
    """
    check_text_options(options)
    tests = [t for t in TESTS if t in files]
    notes: tuple[str, ...] = tuple(f"not used: {', '.join(p.name for p in files[t][:3])}" for t in tests[1:])
    if tests and tests[0] != "test":
        notes = (f"the {tests[0]} split is used as the test split", *notes)
    train = files.get("train") or files[""]
    first, layout, more = _read(train, str(root), "train", options, None)
    notes += more
    second = None
    if tests:
        second, _, more = _read(files[tests[0]], str(root), tests[0], options, layout)
        notes += more
    return assemble_texts(first, second, short_name(root), options, notes)


@dataclass(frozen=True)
class Layout:
    """How a file is read.

    Attributes:
        text: the column of texts, by its name or (without a line of names) its number.
        label: likewise of labels.
        header: whether its first record names the columns.
    """

    text: str
    label: str
    header: bool


def _read(
    paths: Sequence[Path], root: str, which: str, options: Options, like: Layout | None
) -> tuple[RawTexts, Layout, tuple[str, ...]]:
    """The examples of a split, how its files are laid out, and what was noticed."""
    texts: list[str] = []
    labels: list[str | int] = []
    rows: list[int] = []
    lines: list[tuple[Path, int]] = []
    broken: list[tuple[str, str]] = []
    notes: tuple[str, ...] = ()
    layout, row = like, -1
    for path in paths:
        records, layout, more = _laid_out(path, layout, options)
        notes += more
        for record, cells in records:
            row += 1
            text, fault = text_of(cells.get(layout.text)) if not record.wrong else ("", record.wrong)
            label, second = label_of(cells.get(layout.label)) if not fault else ("", "")
            if fault or second:
                broken.append((f"line {record.line} of {path}", fault or second))
                continue
            texts.append(text)
            labels.append(label)
            rows.append(row)
            lines.append((path, record.line))
    assert layout is not None  # there is at least one file
    if row < 0:
        raise DataError(f"no texts: {paths[0]} has no lines")
    notes += without_broken(broken, len(texts), which, options)
    columns = {"text": layout.text, "label": layout.label, "header": "yes" if layout.header else ""}
    origin = Origin("text", root, tuple(map(str, paths)), rows_of(rows), columns)
    ids = [f"{path.name}:{line}" for path, line in lines]

    def where(i: int) -> str:
        return f"line {lines[i][1]} of {lines[i][0]}"

    return RawTexts(texts, values_of(labels), where, origin, ids), layout, notes


def _laid_out(
    path: Path, like: Layout | None, options: Options
) -> tuple[Iterator[tuple[Record, Mapping[str, Any]]], Layout, tuple[str, ...]]:
    """The records of a file with their cells by name, its layout, and a note where that was guessed.

    Args:
        path: the file.
        like: layout of the files before, whose columns it must have.
        options: the user's.
    """
    source = read_records(path)
    top = list(itertools.islice(source, LOOKED_AT))
    told = (options.text, options.label) if like is None else (like.text, like.label)
    good = [record for record in top if not record.wrong]
    if path.suffix.lower() == ".jsonl":
        columns: dict[str, list[Any]] = {}
        for record in good:
            assert isinstance(record.cells, dict)  # of JSON lines that are whole
            for name, value in record.cells.items():
                columns.setdefault(name, []).append(value)
        records = ((r, r.cells if isinstance(r.cells, dict) else {}) for r in itertools.chain(top, source))
        return records, *_layout(columns, path, told, header=True, good=bool(good))
    cells = [list(record.cells) for record in good]
    header = bool(good) and top[0] is good[0] and _header(cells, told, like)
    width = usual_width(cells) if cells else 0
    names = [cell.strip() for cell in cells[0]] if header else [str(i) for i in range(width)]
    if header:
        top, cells = top[1:], cells[1:]
    columns = {name: [row[i] for row in cells if len(row) == len(names)] for i, name in enumerate(names)}
    layout, notes = _layout(columns, path, told, header=header, good=bool(good))
    return _by_name(itertools.chain(top, source), names), layout, notes


def _header(cells: Sequence[Sequence[str]], told: Sequence[str | None], like: Layout | None) -> bool:
    if like is not None:  # the other files' names, or none
        return like.header and {like.text, like.label} <= {cell.strip() for cell in cells[0]}
    return named_by(cells[0], cells[1:], told)


def _layout(
    columns: Mapping[str, Sequence[Any]], path: Path, told: Sequence[str | None], *, header: bool, good: bool
) -> tuple[Layout, tuple[str, ...]]:
    if not good:  # nothing but broken lines, which are told with their numbers
        return Layout("", "", header), ()
    if len(columns) < 2:
        raise DataError(
            f"{path} has one column; a text and its label are needed, between them a comma in .csv and a tab in .tsv"
        )
    text, label = choose_text_columns(columns, str(path), *told)
    notes: tuple[str, ...] = ()
    if not header and None in told:
        notes = (f"{path.name} has no line of names: texts are in column {text}, labels in column {label}",)
    elif None in told and len(columns) > 2:
        notes = (f"texts are in column {text!r} of {path.name}, labels in column {label!r}",)
    return Layout(text, label, header), notes


def _by_name(records: Iterator[Record], names: Sequence[str]) -> Iterator[tuple[Record, Mapping[str, Any]]]:
    for record in records:
        if not record.wrong and len(record.cells) != len(names):
            count = f"{len(record.cells)} column{'' if len(record.cells) == 1 else 's'}"
            record = Record(record.line, record.raw, [], f"it has {count} where there should be {len(names)}")
        yield record, dict(zip(names, record.cells, strict=True)) if not record.wrong else {}
