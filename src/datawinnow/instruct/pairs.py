"""Pairs of an instruction and its answer, from the layouts in use; what is wrong with a row is named and counted."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.instruct._source import Source, open_source

ANSWER = ("output", "response", "answer", "completion", "caption", "target")
INSTRUCTION = ("instruction", "prompt", "question", "query")
INPUT = ("input", "context")
IMAGE = ("image", "image_path", "image_file", "file_name")
IDS = ("id", "image_id", "pair_id", "uid")
TURNS = ("messages", "conversations", "conversation")
"""Fields that are looked for, in this order (Alpaca, Dolly, MiniGPT-4, LLaVA and ShareGPT, OpenAI's messages)."""
ANSWERING = ("assistant", "gpt", "model", "bot", "chatgpt")
SHOWN = 5
"""Problems of a kind that are told one by one."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one row.

    Attributes:
        place: the row in the source, from 0.
        kind: a few words, the same for the same fault.
        detail: what exactly.
    """

    place: int
    kind: str
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Pairs:
    """The rows that can be read, in the order of the source, and what was wrong with the others.

    Attributes:
        source: where they came from.
        place: (n,) int64, the row in the source of each pair.
        ids: names for people.
        instruction: texts; empty where a pair has none.
        answer: texts, never empty.
        image: paths as the source has them, or None.
        numbers: name -> (n,) float64, NaN where a pair lacks it: every field with a number.
        vectors: name -> (n, d) float64, NaN likewise: every field with a list of numbers.
        problems: of rows left out, and of pairs that lack something.
        fingerprint: hash over all that was read.
    """

    source: Source
    place: np.ndarray
    ids: list[str]
    instruction: list[str]
    answer: list[str]
    image: list[str | None]
    numbers: dict[str, np.ndarray]
    vectors: dict[str, np.ndarray]
    problems: list[Problem]
    fingerprint: str

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.ids)

    def name(self, place: int) -> str:
        """``line 7``, as a person counts."""
        return f"{self.source.word} {place + 1}"


@dataclass(frozen=True)
class Fields:
    """Names of fields where they are not to be guessed; None guesses."""

    answer: str | None = None
    instruction: str | None = None
    image: str | None = None
    id: str | None = None


@dataclass
class _Columns:
    """What is gathered row by row."""

    rows: list[tuple[int, str, str, str, str | None]] = field(default_factory=list)
    numbers: dict[str, dict[int, float]] = field(default_factory=dict)
    vectors: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_pairs(
    path: Path | str,
    *,
    fields: Fields = Fields(),
    instruction: str = "",
    progress: Callable[[str, int, int], None] | None = None,
) -> Pairs:
    """Read instruction data.

    A row that cannot be used (broken JSON, no answer, an empty one, text that is none) is left out and told; the others
    are read. Every further field that holds a number or a list of numbers is read too: an indicator or a cluster.

    Args:
        path: ``.jsonl``, ``.json`` (a list, or an object that holds one), ``.parquet``, a folder of Parquet, or one
            that ``save_to_disk`` of Hugging Face's datasets wrote.
        fields: names of fields where they are not to be guessed.
        instruction: text that stands for the instruction where a pair has none.
        progress: called with what is done, how far, and of how many (0: unknown).

    Returns:
        `Pairs`.

    Raises:
        DataError: no such file, another layout, or not a single usable pair (naming what is wrong with the first).
    """
    source = open_source(Path(path))
    columns, digest = _Columns(), hashlib.sha256()
    for place, row, broken in source.rows():
        _take(columns, place, row, broken, fields, instruction)
        if progress is not None and place % 1024 == 0:
            progress("reading", place, place + 1)
    if not columns.rows:
        told = "; ".join(lines_of(source.word, columns.problems)) or "it is empty"
        raise DataError(f"{path} holds no usable pair: {told}")
    n = len(columns.rows)
    if progress is not None:
        progress("reading", n, n)
    for _, name, asked, answer, image in columns.rows:
        digest.update("\x1f".join((name, asked, answer, image or "")).encode("utf-8", "surrogatepass") + b"\x1e")
    numbers = {name: _filled(found, n) for name, found in columns.numbers.items()}
    vectors = _vectors(columns, n)
    for name, array in sorted({**numbers, **vectors}.items()):
        digest.update(name.encode() + array.tobytes())
    return Pairs(
        source=source,
        place=np.array([row[0] for row in columns.rows], dtype=np.int64),
        ids=[row[1] for row in columns.rows],
        instruction=[row[2] for row in columns.rows],
        answer=[row[3] for row in columns.rows],
        image=[row[4] for row in columns.rows],
        numbers=numbers,
        vectors=vectors,
        problems=columns.problems,
        fingerprint=digest.hexdigest()[:16],
    )


def _take(columns: _Columns, place: int, row: Any, broken: str, fields: Fields, instruction: str) -> None:
    if broken:
        kind, _, detail = broken.partition(" (")
        columns.problems.append(Problem(place, kind, detail.rstrip(")")))
        return
    try:
        asked, answer = texts_of(row, fields)
    except DataError as error:
        kind, _, detail = str(error).partition(": ")
        columns.problems.append(Problem(place, kind, detail))
        return
    i = len(columns.rows)
    image = next((row[k] for k in ((fields.image,) if fields.image else IMAGE) if isinstance(row.get(k), str)), None)
    name = next((row[k] for k in ((fields.id,) if fields.id else IDS) if isinstance(row.get(k), str | int)), place + 1)
    columns.rows.append((place, str(name), asked or instruction, answer, image))
    for key, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            columns.numbers.setdefault(key, {})[i] = _finite(value)
        elif isinstance(value, list) and value and all(type(v) in (int, float) for v in value):
            columns.vectors.setdefault(key, {})[i] = [_finite(v) for v in value]


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def texts_of(row: Any, fields: Fields) -> tuple[str, str]:
    """Instruction (empty where there is none) and answer of a row.

    Raises:
        DataError: ``"kind: detail"``.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"not an object: {type(row).__name__}")
    if fields.answer is None:
        for key in TURNS:
            if isinstance(row.get(key), list):
                return _of_turns(row[key], key)
    keys = (fields.answer,) if fields.answer else ANSWER
    found = next((key for key in keys if row.get(key) is not None), None)
    if found is None:
        raise DataError(f"no answer: none of the fields {', '.join(keys)}; there are {', '.join(map(str, row)) or '-'}")
    answer = _text(row[found], found)
    if not answer.strip():
        raise DataError(f"empty answer: the field {found}")
    asking = (fields.instruction,) if fields.instruction else INSTRUCTION
    asked = next((_text(row[key], key) for key in asking if row.get(key) is not None), "")
    if fields.instruction and row.get(fields.instruction) is None:
        raise DataError(f"no instruction: the field {fields.instruction}")
    more = next((_text(row[key], key) for key in INPUT if row.get(key) is not None), "") if not fields.answer else ""
    return "\n".join(part for part in (asked, more) if part.strip()), answer


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"not text: the field {key} is {type(value).__name__}")
    return value


def _of_turns(turns: list[Any], key: str) -> tuple[str, str]:
    """The last turn that answers, and all before it as its instruction."""
    said: list[tuple[bool, str]] = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise DataError(f"not an object: a turn in {key} is {type(turn).__name__}")
        who = turn.get("role", turn.get("from"))
        what = turn.get("content", turn.get("value"))
        if isinstance(what, list):  # parts: text among images
            what = "\n".join(str(p["text"]) for p in what if isinstance(p, Mapping) and isinstance(p.get("text"), str))
        if not isinstance(what, str):
            raise DataError(f"not text: a turn in {key}")
        said.append((str(who).lower() in ANSWERING, what))
    last = next((i for i in reversed(range(len(said))) if said[i][0]), None)
    if last is None:
        raise DataError(f"no answer: no turn of {' or '.join(ANSWERING[:2])} in {key}")
    if not said[last][1].strip():
        raise DataError(f"empty answer: the last turn in {key}")
    return "\n".join(what for _, what in said[:last] if what.strip()), said[last][1]


def _filled(found: Mapping[int, float], n: int) -> np.ndarray:
    out = np.full(n, np.nan)
    out[list(found)] = list(found.values())
    return out


def _vectors(columns: _Columns, n: int) -> dict[str, np.ndarray]:
    made = {}
    for name, found in columns.vectors.items():
        (width, _), *_ = Counter(len(v) for v in found.values()).most_common(1)
        out = np.full((n, width), np.nan)
        for i, vector in found.items():
            if len(vector) == width:
                out[i] = vector
            else:
                place, detail = columns.rows[i][0], f"{name} has {len(vector)} numbers where most have {width}"
                columns.problems.append(Problem(place, "a list of another length", detail))
        made[name] = out
    return made


def lines_of(word: str, problems: list[Problem]) -> list[str]:
    """One line for each kind of problem: how many, where the first few are, and what the first one is."""
    lines = []
    for kind, count in Counter(problem.kind for problem in problems).most_common():
        some = [problem for problem in problems if problem.kind == kind][:SHOWN]
        where = ", ".join(str(problem.place + 1) for problem in some) + (", ..." if count > SHOWN else "")
        detail = f" (first: {some[0].detail})" if some[0].detail else ""
        lines.append(f"{count:,} with {kind}: {word}{'s' if count > 1 else ''} {where}{detail}")
    return lines


def told(pairs: Pairs) -> list[str]:
    """One line for each kind of problem: how many, where the first few are, and what the first one is."""
    return lines_of(pairs.source.word, pairs.problems)


def column(pairs: Pairs, name: str) -> np.ndarray:
    """(n,) float64 of a field with numbers.

    Raises:
        ArgumentError: no pair has such a field.
    """
    if name not in pairs.numbers:
        have = ", ".join(sorted(pairs.numbers)) or "none"
        raise ArgumentError(f"no pair of {pairs.source.path.name} has a number called {name!r}; there are: {have}")
    return pairs.numbers[name]
