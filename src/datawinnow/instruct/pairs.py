"""Pairs of an instruction and its answer, from the layouts in use; rows with a fault are named and counted."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.progress import Progress
from datawinnow.instruct.options import PairFields
from datawinnow.instruct.pair_files import PairFile, open_pair_file
from datawinnow.text.encode import check_texts

# Fields of the layouts of Alpaca, Dolly, MiniGPT-4, LLaVA, ShareGPT and OpenAI's messages; the first present is taken.
ANSWER_FIELDS = ("output", "response", "answer", "completion", "caption", "target")
INSTRUCTION_FIELDS = ("instruction", "prompt", "question", "query")
INPUT_FIELDS = ("input", "context")
IMAGE_FIELDS = ("image", "image_path", "image_file", "file_name")
ID_FIELDS = ("id", "image_id", "pair_id", "uid")
CONVERSATION_FIELDS = ("messages", "conversations", "conversation")
ANSWERING_ROLES = ("assistant", "gpt", "model", "bot", "chatgpt")
MAX_PLACES = 5
"""Places of a kind of problem that are listed."""


@dataclass(frozen=True)
class Problem:
    """A fault of one row.

    Attributes:
        place: the row in the file, from 0.
        kind: a few words, the same for the same fault.
        detail: what exactly.
    """

    place: int
    kind: str
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Pairs:
    """The rows that can be read, in the order of the file, and the problems of the others.

    Attributes:
        file: where they come from.
        place: (n,) int64, the row of each pair in the file.
        ids: names for people.
        instruction: texts; empty where a pair has none.
        answer: texts, never empty.
        image: paths as they stand in the file, or None.
        numbers: name -> (n,) float64, NaN where a pair lacks it: every field with a number.
        vectors: name -> (n, d) float64, NaN likewise: every field with a list of numbers.
        problems: of rows left out, and of pairs that lack something.
        fingerprint: hash over all that was read.
    """

    file: PairFile
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

    def place_name(self, place: int) -> str:
        """The name of a row as a person counts, such as ``line 7``."""
        return f"{self.file.row_word} {place + 1}"

    def problem_lines(self) -> list[str]:
        """`problem_lines` of the problems."""
        return problem_lines(self.file.row_word, self.problems)


@dataclass
class _Columns:
    """The fields of the rows read so far."""

    rows: list[tuple[int, str, str, str, str | None]] = field(default_factory=list)
    numbers: dict[str, dict[int, float]] = field(default_factory=dict)
    vectors: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_pairs(path: Path | str, *, fields: PairFields | None = None, progress: Progress | None = None) -> Pairs:
    """Read instruction data.

    A row that cannot be used (broken JSON, no answer, an empty answer, not text) is left out and listed in
    ``problems``. Every other field that holds a number or a list of numbers is read too: an indicator or a cluster.

    Args:
        path: ``.jsonl``, ``.json`` (a list, or an object that holds one), ``.parquet``, a folder of Parquet, or one
            that ``save_to_disk`` of Hugging Face's datasets wrote.
        fields: names of fields; None looks for those of the layouts in use.
        progress: called as ``progress("reading", done, total)``.

    Returns:
        `Pairs`.

    Raises:
        DataError: no such file, another layout, or no usable pair (naming what is wrong with the rows).
    """
    fields = fields or PairFields()
    file = open_pair_file(Path(path))
    columns, digest = _Columns(), hashlib.sha256()
    for place, row, fault in file.rows():
        _add_row(columns, place, row, fault, fields)
        if progress is not None and place % 1024 == 0:
            progress("reading", place, place + 1)
    if not columns.rows:
        reasons = "; ".join(problem_lines(file.row_word, columns.problems)) or "it is empty"
        raise DataError(f"{path} holds no usable pair: {reasons}")
    n = len(columns.rows)
    if progress is not None:
        progress("reading", n, n)
    for _, name, instruction, answer, image in columns.rows:
        # Unit and record separators, so that text cannot move from one field to the next unnoticed.
        text = "\x1f".join((name, instruction, answer, image or "")) + "\x1e"
        digest.update(text.encode("utf-8", "surrogatepass"))
    numbers = {name: _dense_numbers(values, n) for name, values in columns.numbers.items()}
    vectors = _dense_vectors(columns, n)
    for name, array in sorted({**numbers, **vectors}.items()):
        digest.update(name.encode() + array.tobytes())
    return Pairs(
        file=file,
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


def _add_row(columns: _Columns, place: int, row: Any, fault: str, fields: PairFields) -> None:
    if fault:
        kind, _, detail = fault.partition(" (")
        columns.problems.append(Problem(place, kind, detail.rstrip(")")))
        return
    try:
        instruction, answer = read_texts(row, fields)
    except DataError as error:
        kind, _, detail = str(error).partition(": ")
        columns.problems.append(Problem(place, kind, detail))
        return
    i = len(columns.rows)
    image_keys, id_keys = (fields.image,) if fields.image else IMAGE_FIELDS, (fields.id,) if fields.id else ID_FIELDS
    image = next((row[key] for key in image_keys if isinstance(row.get(key), str)), None)
    # Counted from 1, as people count lines.
    name = next((row[key] for key in id_keys if isinstance(row.get(key), str | int)), place + 1)
    columns.rows.append((place, str(name), instruction or fields.default_instruction, answer, image))
    for key, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            columns.numbers.setdefault(key, {})[i] = _finite_or_nan(value)
        # type() and not isinstance(): a bool is an int, but no feature.
        elif isinstance(value, list) and value and all(type(v) in (int, float) for v in value):
            columns.vectors.setdefault(key, {})[i] = [_finite_or_nan(v) for v in value]


def _finite_or_nan(value: float) -> float:
    try:
        number = float(value)
    # JSON integers may have any number of digits.
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def read_texts(row: Any, fields: PairFields) -> tuple[str, str]:
    """Instruction (empty where there is none) and answer of a row.

    Raises:
        DataError: ``"kind: detail"``.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"not an object: {type(row).__name__}")
    if fields.answer is None:
        for key in CONVERSATION_FIELDS:
            if isinstance(row.get(key), list):
                return _read_conversation(row[key], key)
    answer_keys = (fields.answer,) if fields.answer else ANSWER_FIELDS
    answer_key = next((key for key in answer_keys if row.get(key) is not None), None)
    if answer_key is None:
        have = ", ".join(map(str, row)) or "-"
        raise DataError(f"no answer: none of the fields {', '.join(answer_keys)}; there are {have}")
    answer = _read_text(row, answer_key)
    if not answer.strip():
        raise DataError(f"empty answer: the field {answer_key}")
    if fields.instruction and row.get(fields.instruction) is None:
        raise DataError(f"no instruction: the field {fields.instruction}")
    instruction_keys = (fields.instruction,) if fields.instruction else INSTRUCTION_FIELDS
    texts = [
        next((_read_text(row, key) for key in keys if row.get(key) is not None), "")
        for keys in (instruction_keys, () if fields.answer else INPUT_FIELDS)
    ]
    return "\n".join(text for text in texts if text.strip()), answer


def _read_text(row: Mapping[str, Any], key: str) -> str:
    if not isinstance(row[key], str):
        raise DataError(f"not text: the field {key} is {type(row[key]).__name__}")
    return str(row[key])


def _read_conversation(turns: list[Any], key: str) -> tuple[str, str]:
    """The last turn that answers, and the turns before it as its instruction."""
    messages: list[tuple[bool, str]] = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise DataError(f"not an object: a turn in {key} is {type(turn).__name__}")
        role = turn.get("role", turn.get("from"))
        content = turn.get("content", turn.get("value"))
        if isinstance(content, list):  # blocks of text among images
            blocks = [b["text"] for b in content if isinstance(b, Mapping) and isinstance(b.get("text"), str)]
            content = "\n".join(blocks)
        if not isinstance(content, str):
            raise DataError(f"not text: a turn in {key}")
        messages.append((str(role).lower() in ANSWERING_ROLES, content))
    last = next((i for i in reversed(range(len(messages))) if messages[i][0]), None)
    if last is None:
        raise DataError(f"no answer: no turn of {' or '.join(ANSWERING_ROLES[:2])} in {key}")
    if not messages[last][1].strip():
        raise DataError(f"empty answer: the last turn in {key}")
    return "\n".join(text for _, text in messages[:last] if text.strip()), messages[last][1]


def _dense_numbers(values: Mapping[int, float], n: int) -> np.ndarray:
    column = np.full(n, np.nan)
    column[list(values)] = list(values.values())
    return column


def _dense_vectors(columns: _Columns, n: int) -> dict[str, np.ndarray]:
    arrays = {}
    for name, vectors in columns.vectors.items():
        # The most common length counts as the right one; rows of another are reported.
        (width, _), *_ = Counter(map(len, vectors.values())).most_common(1)
        array = np.full((n, width), np.nan)
        for i, vector in vectors.items():
            if len(vector) == width:
                array[i] = vector
            else:
                detail = f"{name} has {len(vector)} numbers where most have {width}"
                columns.problems.append(Problem(columns.rows[i][0], "a list of another length", detail))
        arrays[name] = array
    return arrays


def problem_lines(row_word: str, problems: Sequence[Problem]) -> list[str]:
    """One line for each kind of problem: how many, where the first few are, and the detail of the first."""
    lines = []
    for kind, count in Counter(problem.kind for problem in problems).most_common():
        shown = [problem for problem in problems if problem.kind == kind][:MAX_PLACES]
        places = ", ".join(str(problem.place + 1) for problem in shown) + (", ..." if count > MAX_PLACES else "")
        detail = f" (first: {shown[0].detail})" if shown[0].detail else ""
        lines.append(f"{count:,} with {kind}: {row_word}{'s' if count > 1 else ''} {places}{detail}")
    return lines


def check_pair_texts(instruction: Sequence[str], answer: Sequence[str]) -> tuple[list[str], list[str]]:
    """Instructions and answers as lists.

    Raises:
        ArgumentError: values that are not texts, or different numbers of both.
    """
    instructions, answers = check_texts("instruction", instruction), check_texts("answer", answer)
    if len(instructions) != len(answers):
        raise ArgumentError(f"there are {len(instructions)} instructions, but {len(answers)} answers")
    return instructions, answers
