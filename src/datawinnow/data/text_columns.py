"""Which column holds the texts and which the labels, whether the first line names them, and what a cell may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datawinnow.core.errors import DataError
from datawinnow.data.columns import LABEL_NAMES

TEXT_NAMES = ("text", "sentence", "review", "content", "document", "body", "comment", "tweet", "message", "utterance")
TEXT_LABEL_NAMES = (*LABEL_NAMES, "sentiment", "category", "rating", "stars", "intent", "polarity")
_LOOKED_AT = 1000
"""Records at the top of a file from which its columns are guessed."""


def named_by(first: Sequence[str], rest: Sequence[Sequence[str]], told: Sequence[str | None]) -> bool:
    """Whether the first record of a table names the columns.

    It does where it has a name that the user told or that is usual, or a label that no other record has.

    Args:
        first: its cells.
        rest: those of other records.
        told: names that the user gave.
    """
    cells = [cell.strip() for cell in first]
    if any(name in cells for name in told if name is not None):
        return True
    if any(name is not None for name in told):
        return False  # told by their numbers
    if any(cell.casefold() in (*TEXT_NAMES, *TEXT_LABEL_NAMES) for cell in cells):
        return True
    if len(cells) != 2 or len(rest) < 3:
        return False
    label = _shorter([list(column) for column in zip(*(row for row in rest if len(row) == 2), strict=True)])
    values = {row[label].strip() for row in rest if len(row) == 2}
    return cells[label] not in values and len(values) < len(rest)


def choose_text_columns(
    columns: Mapping[str, Sequence[Any]], where: str, text: str | None, label: str | None
) -> tuple[str, str]:
    """Names of the columns of texts and labels, guessed unless told.

    By their usual names; else the one that is left; else, of two, the one whose values are longer holds the texts.

    Args:
        columns: the values of a few records, by the column's name.
        where: the file, for errors.
        text: the column told by the user, or None.
        label: likewise.

    Raises:
        DataError: not there, or it cannot be told which; the error lists the columns that are.
    """
    have = list(columns)
    texts = text or _usual(have, TEXT_NAMES, without=label)
    labels = label or _usual(have, TEXT_LABEL_NAMES, without=texts)
    if texts is None and labels is not None:
        rest = [name for name in have if name != labels and _textual(columns[name])]
        texts = rest[0] if len(rest) == 1 else None
    elif labels is None and texts is not None:
        rest = [name for name in have if name != texts]
        labels = rest[0] if len(rest) == 1 else None
    elif texts is None and len(have) == 2:
        shorter = _shorter([columns[name] for name in have])
        texts, labels = have[1 - shorter], have[shorter]
    for what, found, option in (("texts", texts, "text"), ("labels", labels, "label")):
        if found is None or found not in have:
            missing = f"no column {found!r}" if found else f"no column that is known to hold {what}"
            raise DataError(
                f"{where} has {missing}; its columns are {', '.join(have) or 'none'}. Name the column of {what} with "
                f"{option}= (--{option})"
            )
    if texts == labels:
        raise DataError(f"{where}: text={texts!r} and label={labels!r} name the same column; a text is no class")
    assert texts is not None  # both were checked above
    assert labels is not None
    return texts, labels


def _usual(have: Sequence[str], names: Sequence[str], without: str | None) -> str | None:
    folded = {name.strip().casefold(): name for name in reversed(have) if name != without}
    return next((folded[name] for name in names if name in folded), None)


def _textual(values: Sequence[Any]) -> bool:
    return any(isinstance(value, str) for value in values)


def _shorter(columns: Sequence[Sequence[Any]]) -> int:
    """Of two columns the one whose values are shorter."""
    lengths = [fmean(len(str(value)) for value in column) if len(column) else 0.0 for column in columns]
    return int(np.argmin(lengths))


def text_of(value: Any) -> tuple[str, str]:
    """A cell as a text; and what is wrong with it, or ``""``."""
    if value is None:
        return "", "its text is missing"
    if not isinstance(value, str):
        return "", f"its text is {_shown(value)}, which is no text"
    return (value, "") if value.strip() else ("", "its text is empty")


def label_of(value: Any) -> tuple[str | int, str]:
    """A cell as a label, a name or an id; and what is wrong with it, or ``""``."""
    if isinstance(value, str):
        return (value.strip(), "") if value.strip() else ("", "its label is empty")
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return int(value), ""
    if isinstance(value, float) and value.is_integer():
        return int(value), ""
    if value is None or (isinstance(value, float) and value != value):
        return "", "its label is missing"
    return "", f"its label is {_shown(value)}: a name or a whole number is needed"


def _shown(value: Any) -> str:
    return f"{value!r:.40}"


def values_of(labels: Sequence[str | int]) -> NDArray[np.int64] | list[str]:
    """Labels of a split as integers where all are, else as texts."""
    if all(isinstance(v, int) or (v.lstrip("-").isascii() and v.lstrip("-").isdigit()) for v in set(labels)):
        numbers = [int(v) for v in labels]
        if all(abs(v) < 1 << 62 for v in numbers):
            return np.asarray(numbers, dtype=np.int64)
    return [str(v) for v in labels]


def usual_width(rows: Sequence[Sequence[str]]) -> int:
    """How many cells a record of a table has; most have as many."""
    return Counter(len(row) for row in rows).most_common(1)[0][0]
