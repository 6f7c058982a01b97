"""Records of separated files (``.csv``, ``.tsv``) and of JSON lines, each with its line and its text as it stands.

What people call CSV differs in its delimiter, in whether quotes mean anything, and in the lines above the table; files
are read in time that grows with their size, whatever their quotes do.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datawinnow.core.errors import DataError
from datawinnow.core.files import conversion_command, wide_encoding

MAX_CELL_LENGTH = 1 << 30
"""Characters in a cell; Python's own limit of 131,072 is below the length of a book."""
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""Marks between cells that are tried, with their names."""
PREVIEW_LINES = 200
"""Lines at the top of a file from which its delimiter is guessed."""
MAX_RECORD_LINES = 100_000
"""Lines that a cell in quotes may go over."""
REREAD_LINES, REREAD_SHARE = 20_000, 10
"""Lines that may be read again after quotes that are not closed: so many, and so many for each line of the file."""
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""First line by which Excel names the delimiter."""
NOT_UTF8 = "it is not UTF-8"
NUL = "it holds NUL characters, as binary files and UTF-16 do"


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


@dataclass(frozen=True)
class Dialect:
    """How a separated file is written.

    Attributes:
        delimiter: mark between cells.
        width: cells that most of its records have.
        quoting: whether a quote that opens a cell always opens one: not in ``.tsv``, which many tools write without.
    """

    delimiter: str
    width: int
    quoting: bool


def read_records(path: Path, dialect: Dialect | None = None) -> Iterator[Record]:
    """The records of a file in order, those above the first example among them; empty lines are passed over.

    Bytes that are no UTF-8 are kept in ``raw`` (as surrogates), for writing the file again.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.jsonl`` file.
        dialect: of a separated file; None to guess it.

    Raises:
        DataError: no such file, it may not be read, or it is UTF-16 or UTF-32.
    """
    check_encoding(path)
    try:
        # utf-8-sig drops the mark that Excel puts at the start; newline="": line ends stay, and lone \r ends lines too
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if path.suffix.lower() == ".jsonl":
                yield from _json_records(file)
            else:
                yield from _separated_records(file, dialect or guess_dialect(path))
    except OSError as error:
        raise _cannot_open(path, error) from None


def check_encoding(path: Path) -> None:
    """Refuse a file in UTF-16 or UTF-32, by its first bytes.

    Raises:
        DataError: naming the encoding and how to convert the file; or no such file.
    """
    try:
        with path.open("rb") as file:
            first = file.read(4)
    except OSError as error:
        raise _cannot_open(path, error) from None
    if encoding := wide_encoding(first):
        raise DataError(f"{path} is {encoding}, and texts must be UTF-8; {conversion_command(path, encoding)}")


def _cannot_open(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"no such file: {path}")
    if isinstance(error, PermissionError):
        return DataError(f"the file {path} may not be read; change its permissions")
    return DataError(f"the file {path} cannot be read ({error.strerror or error})")


def latin1_advice(path: Path) -> str:
    """What to do about a file with bytes that are no UTF-8."""
    return f"it is probably Latin-1 or Windows-1252; {conversion_command(path, 'WINDOWS-1252')}"


def _fault_of(raw: str) -> str:
    """Why the text of a record is no text; ``""`` if it is."""
    if "\0" in raw:
        return NUL
    # surrogateescape stands for a byte 0x80 to 0xFF as U+DC80 to U+DCFF
    return NOT_UTF8 if not raw.isascii() and any("\udc80" <= letter <= "\udcff" for letter in raw) else ""


def guess_dialect(path: Path) -> Dialect:
    """The delimiter of a separated file, and how many cells its records have, from its first lines.

    The delimiter is the one that Excel's first line ``sep=;`` names, else the one by which most records have the same
    number of cells, at least 2; where several do, a tab for ``.tsv`` and a comma for ``.csv``.

    Raises:
        DataError: the file may not be read.
    """
    quoting = path.suffix.lower() != ".tsv"
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = [line for line, _ in zip(file, range(PREVIEW_LINES), strict=False) if line.strip()]
    except OSError as error:
        raise _cannot_open(path, error) from None
    named = SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    preferred = "," if quoting else "\t"
    candidates = [named[1]] if named else sorted(DELIMITERS, key=lambda mark: mark != preferred)
    best, best_share, best_width = preferred, 0.0, 1
    for mark in candidates:
        if named is None and not any(mark in line for line in lines):
            continue
        counts = Counter(
            len(record.cells) for record in _separated_records(lines, Dialect(mark, 0, quoting)) if not record.wrong
        )
        if not counts:
            continue
        # of widths that are equally frequent the first
        width, count = max(counts.items(), key=lambda item: item[1])
        share = count / sum(counts.values()) if width > 1 else 0.0
        if share > best_share or named:
            best, best_share, best_width = mark, share, width
    return Dialect(best, best_width, quoting)


def _separated_records(file: Iterable[str], dialect: Dialect) -> Iterator[Record]:
    """Records of a separated file; a cell in quotes may go over several lines.

    Where a quote is never closed, only the line with it is broken: the lines that it swallowed are read again.
    """
    source = iter(file)
    # lines to be read again before the file goes on
    waiting: deque[str] = deque()
    delimiter, width = dialect.delimiter, dialect.width
    number, num_read, num_reread = 1, 0, 0

    def next_line() -> str:
        return waiting.popleft() if waiting else next(source, "")

    while line := next_line():
        num_read += 1
        if '"' not in line:
            # the usual line, for which csv would be slow
            if line.strip():
                cells = line.rstrip("\r\n").split(delimiter)
                yield Record(number, line, cells, _fault_of(line))
            number += 1
            continue
        taken = [line]
        if dialect.quoting:
            cells_or_none = _parse(line, delimiter)
        else:
            following = next_line()
            if following:
                waiting.appendleft(following)
            cells_or_none = _parse_tabs(line, following, dialect)
        wrong = ""
        if cells_or_none is None:
            # a quote is open at the end of the line
            if num_reread <= REREAD_LINES + REREAD_SHARE * num_read:
                cells_or_none = _parse_lines(taken, next_line, delimiter)
                if cells_or_none is not None and len(taken) > 1 and width > 1 and len(cells_or_none) != width:
                    cells_or_none = None
            if cells_or_none is None:
                num_reread += len(taken) - 1
                # extendleft reverses, so the lines are given to it reversed
                waiting.extendleft(reversed(taken[1:]))
                del taken[1:]
                literal = line.rstrip("\r\n").split(delimiter)
                if not dialect.quoting and len(literal) == width:
                    cells_or_none = [_strip_quotes(cell) for cell in literal]
                else:
                    wrong = "a quote that opens in it is not closed"
        elif isinstance(cells_or_none, str):
            wrong, cells_or_none = cells_or_none, None
        raw = "".join(taken)
        yield Record(number, raw, cells_or_none or [], _fault_of(raw) or wrong)
        number += len(taken)


def _parse(line: str, delimiter: str) -> list[str] | str | None:
    """Cells of a line with quotes; None where one is open at its end, a text where it is no CSV."""
    try:
        with _long_csv_cells():
            return next(csv.reader((line,), delimiter=delimiter, strict=True))
    except csv.Error as error:
        return None if "unexpected end" in str(error) else f"it is no CSV ({error})"


def _parse_tabs(line: str, following: str, dialect: Dialect) -> list[str] | None:
    """Cells of a line of a ``.tsv``, where a quote may be a text's own; None where it seems to open a longer cell."""
    cells = _parse(line, dialect.delimiter)
    literal = line.rstrip("\r\n").split(dialect.delimiter)
    is_row = len(literal) == dialect.width
    if isinstance(cells, list):
        # a delimiter within quotes, or quotes around cells
        return cells if len(cells) == dialect.width != len(literal) else [_strip_quotes(cell) for cell in literal]
    # a row by itself, before another row: the quote is the text's own
    before_row = not following or following.count(dialect.delimiter) + 1 == dialect.width
    if isinstance(cells, str) or (is_row and before_row):
        return [_strip_quotes(cell) for cell in literal]
    return None


def _parse_lines(taken: list[str], next_line: Any, delimiter: str) -> list[str] | None:
    """Cells of a record that begins with the line in ``taken``, to which those that it goes over are added."""

    def lines() -> Iterator[str]:
        yield taken[0]
        while len(taken) <= MAX_RECORD_LINES and (line := next_line()):
            taken.append(line)
            yield line

    try:
        with _long_csv_cells():
            return next(csv.reader(lines(), delimiter=delimiter, strict=True))
    except csv.Error:
        return None


@contextmanager
def _long_csv_cells() -> Iterator[None]:
    """Lift the limit on a cell's length, which is one for the whole process, for the while."""
    before = csv.field_size_limit(MAX_CELL_LENGTH)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _strip_quotes(cell: str) -> str:
    """A cell without quotes around it, if they are such as a writer of tables puts there; a text may have its own."""
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _json_records(file: Iterable[str]) -> Iterator[Record]:
    for number, raw in enumerate(file, start=1):
        line = raw.strip()
        if not line:
            continue
        fault = _fault_of(raw)
        if fault:
            yield Record(number, raw, {}, fault)
            continue
        try:
            value = json.loads(line)
        except RecursionError:
            yield Record(number, raw, {}, "its JSON is nested too deep")
        except ValueError as error:  # of JSON, or a number of more digits than Python reads
            yield Record(number, raw, {}, f"it is not JSON ({str(error).split(': line')[0].split(';')[0]})")
        else:
            if isinstance(value, dict):
                yield Record(number, raw, value)
            else:
                yield Record(number, raw, {}, f"it holds {type(value).__name__}, not an object with fields")


MAX_TITLES = 10
"""Records above the header at most, such as the title of an export."""


def is_title(row: Sequence[str], width: int) -> bool:
    """Whether a record can stand above a header: a title, a comment, or an empty line of a spreadsheet."""
    return len(row) != width or row[0].startswith("#") or any(not cell.strip() for cell in row)


def clean_name(cell: str) -> str:
    """The name of a column in a cell of a header, without the mark that a second file may begin with."""
    return cell.strip().removeprefix("\ufeff")


def column_by_number(column: str | None, names: Sequence[str]) -> str | None:
    """The name of a column that the user gives by its number, from 0."""
    if column is None or column in names or not column.isdecimal() or int(column) >= len(names):
        return column
    return names[int(column)]


def width_fault(num_cells: int, width: int) -> str:
    """Why a record with another number of cells than the table cannot be read."""
    return f"it has {num_cells} column{'' if num_cells == 1 else 's'} where there should be {width}"


def table_notes(path: Path, delimiter: str, titles: Sequence[Record]) -> tuple[str, ...]:
    """Notes on the delimiter of a separated file, where it is not the usual one, and on the lines above its table."""
    notes: tuple[str, ...] = ()
    preferred = "\t" if path.suffix.lower() == ".tsv" else ","
    if delimiter not in ("", preferred):
        notes += (f"the columns of {path.name} are separated by {DELIMITERS.get(delimiter, repr(delimiter))}",)
    if titles:
        shown = ", ".join(f"{record.raw.strip()[:40]!r}" for record in titles[:3])
        notes += (f"{len(titles)} line{'s' * (len(titles) > 1)} above the table of {path.name} passed over: {shown}",)
    return notes


def repeated_key(raw: str, names: Sequence[str]) -> str:
    """The first of ``names`` that a JSON object has twice, of which `json` keeps the last; ``""`` if there is none."""
    # the count is fast; only where it speaks of two is the line parsed again
    if not any(raw.count(f'"{name}"') > 1 for name in names):
        return ""
    pairs: list[tuple[str, Any]] = []

    def keep_pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        # called for the outermost object last
        pairs[:] = items
        return dict(items)

    json.loads(raw, object_pairs_hook=keep_pairs)
    counts = Counter(key for key, _ in pairs)
    return next((name for name in names if counts[name] > 1), "")
