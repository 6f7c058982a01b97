"""Labelled texts in ``.csv``, ``.tsv`` and ``.jsonl`` files: one, or a folder with a file for each split."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datawinnow.core.counts import many
from datawinnow.core.errors import DataError
from datawinnow.data.assemble import ReadOptions
from datawinnow.data.examples import Origin, short_name
from datawinnow.data.image_tables import ImageNames, names_images
from datawinnow.data.images import SUFFIXES
from datawinnow.data.labels import LabelColumn, label_of
from datawinnow.data.separated import (
    MAX_TITLES,
    SEPARATOR_LINE,
    Dialect,
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
from datawinnow.data.splits import (
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
    TEXT_LABEL_NAMES,
    TEXT_NAMES,
    RawTexts,
    Texts,
    assemble_texts,
    broken_note,
    check_text_options,
    choose_text_columns,
    has_header,
    row_tensor,
    text_of,
    usual_width,
)

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl")
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
    if (
        "train" not in splits
        or _name_images_beside(root, splits["train"])
        or any(_holds_images(folder) for folder in root.iterdir() if folder.is_dir())
    ):
        return {}
    for files in splits.values():
        if len({path.suffix.lower() for path in files}) > 1:
            raise DataError(f"{root} holds both {files[0].name} and {files[-1].name}; give one of them by its own path")
    return splits


def _name_images_beside(root: Path, tables: Sequence[Path]) -> bool:
    """Whether a table has the names of images that lie beside it."""
    images = [path.name for path in root.iterdir() if path.suffix.lower() in SUFFIXES and not is_hidden(path.name)]
    return bool(images) and names_images(tables[0], ImageNames(images))


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

    choice = choose_splits(splits, str(root), is_labelled, only=options.only)
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
    opened = _open_records(train_paths[0], None, options)
    if opened is None:
        return True
    try:
        records_and_layout = _open_records(paths[0], opened[1], options)
    except OtherHeaderError as error:
        return error.has_label  # then refused when it is read
    except DataError:  # it lacks the column
        return False
    if records_and_layout is None:
        return True
    records, layout, _ = records_and_layout
    values = [
        cells.get(layout.label) for record, cells in itertools.islice(records, PREVIEW_RECORDS) if not record.wrong
    ]
    labels = [label_of(value)[0] for value in values]
    return not values or any(label not in ("", "-1", -1) for label in labels)


@dataclass(frozen=True)
class TextLayout:
    """Columns of a file.

    Attributes:
        text: name of the column of texts; its number in a file without a header.
        label: name or number of the column of labels.
        names: of all columns; empty for JSON lines.
        header: whether a record names the columns.
        num_leading: records before the first example: titles, and the header.
        delimiter: mark between cells.
        header_line: the header as it stands in the file.
        splits: columns that are called like one of splits.
    """

    text: str
    label: str
    names: tuple[str, ...] = ()
    header: bool = True
    num_leading: int = 0
    delimiter: str = ""
    header_line: str = ""
    splits: tuple[str, ...] = ()


def _read_split(
    paths: Sequence[Path], root: str, split: str, options: ReadOptions, like: TextLayout | None
) -> tuple[RawTexts, TextLayout, tuple[str, ...]]:
    """The examples of a split, the layout of its files, and notes."""
    texts: list[str] = []
    labels: list[Any] = []
    rows: list[int] = []
    lines: list[tuple[Path, int]] = []
    broken: list[tuple[str, str]] = []
    long_cells: list[tuple[int, Record, TextLayout]] = []
    notes: tuple[str, ...] = ()
    faults: dict[str, str] = {}
    split_cells: dict[str, set[str]] = {}
    layout, row, leading, num_headers = like, -1, list[int](), 0
    for path in paths:
        opened = _open_records(path, layout, options)
        if opened is None:
            leading.append(0)
            notes += (f"{path.name} is empty",) if len(paths) > 1 else ()
            continue
        records, layout, new_notes = opened
        notes += new_notes
        leading.append(layout.num_leading)
        text_name, label_name, is_json = layout.text, layout.label, not layout.names
        split_cells |= {name: set() for name in layout.splits if name not in split_cells}
        for record, cells in records:
            row += 1
            label_cell = cells.get(label_name)
            fault = record.wrong
            if not fault:
                fault = text_of(cells.get(text_name))[1]
            elif fault == REPEATED_HEADER:
                num_headers += 1
                continue
            if not fault:
                if type(label_cell) is str:
                    # labels repeat
                    cached = faults.get(label_cell)
                    fault = faults.setdefault(label_cell, label_of(label_cell)[1]) if cached is None else cached
                else:
                    fault = label_of(label_cell)[1]
            if not fault and is_json and (key := repeated_key(record.raw, (text_name, label_name))):
                fault = f"it has {key!r} twice"
            if fault:
                broken.append((f"line {record.line} of {path}", fault))
                continue
            if record.raw.count("\n") > 2:
                long_cells.append((len(texts), record, layout))
            texts.append(cells[text_name])
            labels.append(label_cell)
            rows.append(row)
            lines.append((path, record.line))
            for name in layout.splits:
                split_cells[name].add(str(cells.get(name, "")))
    if layout is None or row < 0:
        raise DataError(f"no texts: {paths[0]} has no lines")
    refuse_split_column(split_cells, shortened_list(list(map(str, paths)), 3), file_a_split(paths[0].suffix))
    swallowed = _swallowed_rows(long_cells, set(map(str, labels)))
    for i, num_rows in reversed(swallowed):
        # in reverse: positions before it stay
        path, line = lines[i]
        fault = (
            f"a cell in quotes that opens in it holds {num_rows} lines that look like rows: a quote seems to be missing"
        )
        broken.insert(0, (f"line {line} of {path}", fault))
        del texts[i], labels[i], rows[i], lines[i]
    if num_headers:
        repeats = many(num_headers, "time")
        notes += (f"the header stands {repeats} more between the {split} rows, where it is passed over",)
    notes += broken_note(broken, len(texts), split, options)
    columns = {
        "text": layout.text,
        "label": layout.label,
        "header": "yes" if layout.header else "",
        "leading": ",".join(map(str, leading)),
    }
    origin = Origin("text", root, tuple(map(str, paths)), row_tensor(rows), columns, split=split, num_rows=row + 1)
    ids = [f"{path.name}:{line}" for path, line in lines]

    def describe(i: int) -> str:
        return f"line {lines[i][1]} of {lines[i][0]}"

    return RawTexts(texts, LabelColumn(labels, describe), origin, ids), layout, notes


def _swallowed_rows(long_cells: Sequence[tuple[int, Record, TextLayout]], labels: set[str]) -> list[tuple[int, int]]:
    """Of examples over several lines, those whose inner lines all look like rows, and how many."""
    swallowed = []
    for i, record, layout in long_cells:
        inner = record.raw.splitlines()[1:-1]
        column = layout.names.index(layout.label) if layout.label in layout.names else None
        widths = [line.split(layout.delimiter) for line in inner]
        if column is not None and all(len(cells) == len(layout.names) and cells[column] in labels for cells in widths):
            swallowed.append((i, len(inner)))
    return swallowed


def _open_records(
    path: Path, like: TextLayout | None, options: ReadOptions
) -> tuple[Iterator[tuple[Record, Mapping[str, Any]]], TextLayout, tuple[str, ...]] | None:
    """The examples of a file with their cells by name, its layout, and notes; None for a file without records.

    Args:
        path: the file.
        like: layout of the split's other files, whose columns it must have; None for the first.
        options: of `load`.
    """
    is_json = path.suffix.lower() == ".jsonl"
    dialect = None if is_json else guess_dialect(path)
    source = read_records(path, dialect)
    # chained before the rest below: a file is read once
    top = list(itertools.islice(source, PREVIEW_RECORDS))
    if not top:
        return None
    columns_by_user = (options.text, options.label) if like is None else (like.text, like.label)
    good = [record for record in top if not record.wrong]
    if not good:  # only broken lines, which are reported with their numbers
        return ((r, {}) for r in itertools.chain(top, source)), like or TextLayout("", ""), ()
    if dialect is None:
        columns: dict[str, list[Any]] = {}
        for record in good:
            assert isinstance(record.cells, dict)  # of JSON lines that are whole
            for name, value in record.cells.items():
                columns.setdefault(name, []).append(value)
        text, label = choose_text_columns(columns, str(path), *columns_by_user)
        layout = TextLayout(text, label, splits=tuple(split_columns(columns, text, label)))
        records = ((r, r.cells if isinstance(r.cells, dict) else {}) for r in itertools.chain(top, source))
        return records, layout, _layout_notes(path, layout, "", ()) if like is None else ()
    layout, notes = _table_layout(path, dialect, top, like, options)
    rest = itertools.chain(top[layout.num_leading :], source)
    return _cells_by_name(rest, layout), layout, notes


class OtherHeaderError(DataError):
    """A file has a header without the columns of the files before it.

    Attributes:
        has_label: whether one of its columns is called like one of labels, or all have other names.
    """

    def __init__(self, message: str, *, has_label: bool) -> None:
        super().__init__(message)
        self.has_label = has_label


def _table_layout(
    path: Path, dialect: Dialect, top: Sequence[Record], like: TextLayout | None, options: ReadOptions
) -> tuple[TextLayout, tuple[str, ...]]:
    """Columns of a separated file, and notes on what was guessed."""
    cells = [list(record.cells) for record in top]
    columns_by_user = (options.text, options.label) if like is None else (like.text, like.label)
    num_titles = header_at = i = 0
    header = False
    for i, row in enumerate(cells[: MAX_TITLES + 1]):
        if not top[i].wrong and _is_header(row, cells[i + 1 :], columns_by_user, like, options):
            header, header_at = True, i
            break
        if not is_title(row, dialect.width) or top[i].wrong:
            break
        # Excel's line is no example, header or not
        num_titles = i + 1 if SEPARATOR_LINE.fullmatch(top[i].raw) else num_titles
    num_leading = header_at + 1 if header else num_titles
    body = [row for row, record in zip(cells[num_leading:], top[num_leading:], strict=True) if not record.wrong]
    names: list[str]
    notes: tuple[str, ...] = ()
    if header:
        names = [clean_name(cell) for cell in cells[header_at]]
    elif like is not None and like.header:
        if options.header is None:
            _refuse_other_header(path, cells[i], cells[i + 1 :], like)
        if usual_width(body or cells) != len(like.names):
            raise DataError(
                f"{path} has no header with the columns {like.text!r} and {like.label!r} of the files before it, and "
                f"{usual_width(body or cells)} columns where those have {len(like.names)}; "
                "give every file the same header"
            )
        names = list(like.names)
        notes = (f"{path.name} has no header: its columns are taken to be those of the files before it",)
    else:
        names = [str(i) for i in range(usual_width(body or cells))]
    if len(names) < 2:
        raise DataError(
            f"{path} has one column; a text and its label are needed, between them a comma in .csv and a tab in .tsv "
            f"(the first line: {top[0].raw.strip()[:80]!r})"
        )
    # rows of another width are reported later
    columns = {name: [row[i] for row in body if len(row) == len(names)] for i, name in enumerate(names)}
    by_number = [column_by_number(column, names) for column in columns_by_user]
    if header:
        # columns without a name and without a value are none; spreadsheets leave them
        columns = {name: values for name, values in columns.items() if name or any(v.strip() for v in values)}
    text, label = choose_text_columns(columns, str(path), *by_number)
    for name in (text, label):
        if names.count(name) > 1:
            raise DataError(
                f"{path} has {names.count(name)} columns called {name!r}; rename one, or take the others out, so that "
                "it is clear which is meant"
            )
    header_line = top[header_at].raw.strip().removeprefix("\ufeff") if header else ""
    has_names = header or (like is not None and like.header)
    splits = tuple(split_columns(names, text, label))
    layout = TextLayout(text, label, tuple(names), has_names, num_leading, dialect.delimiter, header_line, splits)
    if like is None:
        notes += _layout_notes(path, layout, dialect.delimiter, top[: header_at if header else num_titles])
    return layout, notes


def _is_header(
    row: Sequence[str],
    rest: Sequence[Sequence[str]],
    columns_by_user: Sequence[str | None],
    like: TextLayout | None,
    options: ReadOptions,
) -> bool:
    """Whether a record names the columns: as the user says, else as it looks."""
    if options.header is not None:
        return options.header and len(row) > 1
    if like is not None and like.header:  # the other files' names, or none
        return {like.text, like.label} <= {clean_name(cell) for cell in row}
    is_header = has_header(row, rest, columns_by_user)
    if is_header and like is not None:
        raise DataError(
            f"a file has the header {', '.join(row)!r}, but those before it have none: give every file the same "
            "header, or say with `header=False` that none has one"
        )
    return is_header


def _refuse_other_header(path: Path, row: Sequence[str], rest: Sequence[Sequence[str]], like: TextLayout) -> None:
    """Refuse a record that names columns, but not those of the files before it: it would be read as an example."""
    names = [clean_name(cell) for cell in row]
    usual = {name.casefold() for name in (*like.names, *TEXT_NAMES, *TEXT_LABEL_NAMES) if name}
    values = [{other[i].strip() for other in rest if len(other) == len(row)} for i in range(len(row))]
    is_usual = any(name.casefold() in usual and name not in values[i] for i, name in enumerate(names))
    if is_usual or _looks_like_names(names, rest, like):
        labels = {like.label.casefold(), *TEXT_LABEL_NAMES}
        raise OtherHeaderError(
            f"{path} begins with the names {', '.join(names)!r}, but the files before it have the columns "
            f"{like.text!r} and {like.label!r}: give every file the same header",
            has_label=not is_usual or any(name.casefold() in labels for name in names),
        )


def _looks_like_names(row: Sequence[str], rest: Sequence[Sequence[str]], like: TextLayout) -> bool:
    """Whether a record has no label of the others, and one word for a text or fewer letters than all others have."""
    places = [like.names.index(column) for column in (like.text, like.label)]
    if len(row) != len(like.names):
        return False
    lengths = [len(other[places[0]].strip()) for other in rest if len(other) == len(row)]
    if len(row[places[0]].split()) != 1 and len(row[places[0]].strip()) >= min(lengths, default=0):
        return False
    return has_header(row, rest, [str(place) for place in places])


def _layout_notes(path: Path, layout: TextLayout, delimiter: str, titles: Sequence[Record]) -> tuple[str, ...]:
    """What was guessed about a file."""
    notes = table_notes(path, delimiter, titles)
    if layout.header:
        return (*notes, f"texts are in column {layout.text!r} of {path.name}, labels in column {layout.label!r}")
    return (
        *notes,
        f"{path.name} has no line of names: texts are in column {layout.text}, labels in column {layout.label}; if its "
        "first line names the columns, give `header=True`",
    )


REPEATED_HEADER = "it is the header again"
"""Of a record that two files put together have between them; it is passed over."""


def _cells_by_name(records: Iterator[Record], layout: TextLayout) -> Iterator[tuple[Record, Mapping[str, Any]]]:
    names, width = layout.names, len(layout.names)
    # the second file may have begun with the mark of its encoding
    starts = (layout.header_line, f"\ufeff{layout.header_line}") if layout.header_line else ()
    for record in records:
        if record.raw.startswith(starts) and record.raw.strip().removeprefix("\ufeff") == layout.header_line:
            record = Record(record.line, record.raw, [], REPEATED_HEADER)
        cells = record.cells
        if record.wrong:
            yield record, {}
        elif len(cells) == width:
            yield record, dict(zip(names, cells, strict=True))
        else:
            yield Record(record.line, record.raw, [], width_fault(len(cells), width)), {}
