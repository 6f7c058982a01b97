"""Lines of ``.csv``, ``.tsv`` and ``.jsonl`` files, each with its number, and what is wrong with a broken one."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datawinnow.core.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl")
_MOST = 1 << 30
"""Characters in a cell of a ``.csv``; Python's own limit of 131,072 is below the length of a book."""


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        line: on which it begins, from 1.
        raw: as it stands in the file, with the end of its line.
        cells: its values: texts by place, or what a JSON object holds by name.
        wrong: why there are none; ``""`` where there are.
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
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
            yield from _csv(file) if kind == ".csv" else _lines(file, _json if kind == ".jsonl" else _tabs)
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except PermissionError:
        raise DataError(f"the file {path} may not be read; change its permissions") from None


def _lines(file: Any, read: Any) -> Iterator[Record]:
    for number, raw in enumerate(file, start=1):
        line = raw.rstrip("\r\n")
        if not line.strip():
            continue
        yield Record(number, raw, [], NOT_UTF8) if _damaged(raw) else read(number, raw, line)


NOT_UTF8 = "it is not UTF-8"


def _damaged(raw: str) -> bool:
    """Whether bytes were met that are no UTF-8."""
    return not raw.isascii() and any("\udc80" <= letter <= "\udcff" for letter in raw)


def _tabs(number: int, raw: str, line: str) -> Record:
    return Record(number, raw, [_unquoted(cell) for cell in line.split("\t")])


def _unquoted(cell: str) -> str:
    """A cell without quotes around it, if they are such as a writer of tables puts there; a text may have its own."""
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


def _json(number: int, raw: str, line: str) -> Record:
    try:
        found = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        return Record(number, raw, {}, f"it is not JSON ({str(error).split(': line')[0]})")
    if not isinstance(found, dict):
        return Record(number, raw, {}, f"it holds {type(found).__name__}, not an object with fields")
    return Record(number, raw, found)


def _csv(file: Any) -> Iterator[Record]:
    """Records of a ``.csv``; a cell in quotes may go over several lines.

    Where a quote is never closed only the line with it is broken: the lines that it swallowed are read again.
    """
    waiting: deque[str] = deque([file.readline()])
    taken: list[str] = []

    def lines() -> Iterator[str]:
        while raw := waiting.popleft() if waiting else file.readline():
            taken.append(raw)
            yield raw

    delimiter = _delimiter(waiting[0])
    number, reader = 1, csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        wrong: str = ""
        cells: list[str] = []
        try:
            with _long_cells():
                cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            wrong = f"it is no CSV ({error})"
            waiting.extendleft(reversed(taken[1:]))
            del taken[1:]
            reader = csv.reader(lines(), delimiter=delimiter, strict=True)
        raw = "".join(taken)
        if raw.strip():
            yield Record(number, raw, cells, NOT_UTF8 if _damaged(raw) else wrong)
        number += len(taken)
        taken.clear()


def _delimiter(line: str) -> str:
    """The mark between the cells: a comma, or where there is none a semicolon or a tab."""
    return next((mark for mark in ",;\t" if mark in line), ",")


@contextmanager
def _long_cells() -> Iterator[None]:
    """Lift the limit on a cell's length, which is one for the whole process, for the while."""
    before = csv.field_size_limit(_MOST)
    try:
        yield
    finally:
        csv.field_size_limit(before)
