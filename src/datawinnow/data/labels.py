"""Labels in files -> class ids and class names."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.errors import DataError

LabelArray = NDArray[np.int64] | list[str]
"""(n,) labels of a split as integers, or as texts."""
DescribeRow = Callable[[int], str]
"""A row in words, for errors, such as "row 3 of FILE"."""
Y_KEYS = ("label", "labels", "fine_label", "target", "targets", "y", "class", "cls")
"""Names that are guessed for the labels in dataset objects, in this order."""

INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.0+)?")
"""An integer as a program writes it; 007 and 1e3 are names, as are longer digits (of products, say)."""


def label_of(value: Any) -> tuple[str | int, str]:
    """The label in a cell, a name or an integer, and its fault; ``""`` for none."""
    if isinstance(value, str):
        return (value.strip(), "") if value.strip() else ("", "its label is empty")
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return int(value), ""
    if isinstance(value, float) and value.is_integer():
        return int(value), ""
    # NaN, by which tables mark a missing number, is not equal to itself
    if value is None or (isinstance(value, float) and value != value):
        return "", "its label is missing"
    return "", f"its label is {value!r:.40}: a name or a whole number is needed"


def read_labels(cells: Sequence[Any], classes: Sequence[str] = ()) -> tuple[LabelArray, tuple[str, ...]]:
    """Labels of a split as integers where all are, else as texts, and a note on their spellings.

    Integers are those that a program writes: 1, "1", 1.0 and "1.0" are one label, and so are true and "True", while
    "007" is a text. Spaces around a label do not count. A note names the spellings that are taken for one label.

    Args:
        cells: (n,) values in which `label_of` finds no fault.
        classes: names of classes that the labels are among, as those of the train split are for the test split's:
            where they are texts, so are the labels.

    Returns:
        The labels and the notes.

    >>> read_labels(["0", "1.0", 1])[0].tolist()
    [0, 1, 1]
    >>> read_labels(["007", "7", 7])[0]
    ['007', '7', '7']
    """
    # True equals 1, so the kind is part of the key where there are truth values
    has_bools = bool in set(map(type, cells))
    keys: list[Any] = [(type(v), v) for v in cells] if has_bools else list(cells)
    counts = Counter(keys)
    values = [key[1] if has_bools else key for key in counts]
    labels = [value if isinstance(value, bool) else label_of(value)[0] for value in values]
    texts = [label for label in labels if isinstance(label, str)]
    if all(INTEGER.fullmatch(text) for text in (*texts, *classes)) and all(
        abs(int(v)) < 1 << 62 for v in labels if not isinstance(v, str)
    ):
        labels = [int(v.split(".")[0]) if isinstance(v, str) else int(v) for v in labels]
    else:
        written = set(texts) | set(classes) | {str(v) for v in labels if not isinstance(v, (str, bool))}
        labels = [_as_text(v, written, classes) for v in labels]
    label_of_key = dict(zip(counts, labels, strict=True))
    spellings: defaultdict[str | int, Counter[str]] = defaultdict(Counter)
    for (_, count), value, label in zip(counts.items(), values, labels, strict=True):
        spellings[label][value if isinstance(value, str) else str(value)] += count
    read = [label_of_key[key] for key in keys]
    is_integer = not any(isinstance(label, str) for label in labels)
    return (np.asarray(read, dtype=np.int64) if is_integer else [str(v) for v in read]), _spelling_notes(spellings)


def _as_text(label: str | int, written: set[str], classes: Sequence[str]) -> str:
    """A label among texts; a truth value, or 1.0 beside 1, in the spelling that the others have."""
    if isinstance(label, bool):
        alike = [text for text in written if text.casefold() == str(label).casefold()]
        return alike[0] if len(alike) == 1 else str(label)
    if (
        isinstance(label, str)
        and label not in classes
        and "." in label
        and INTEGER.fullmatch(label)
        and label.split(".")[0] in written
    ):
        return label.split(".")[0]
    return str(label)


NUM_EXAMPLES = 5
"""Labels that a note names at most."""


def _spelling_notes(spellings: dict[str | int, Counter[str]]) -> tuple[str, ...]:
    merged = [
        f"{label} ({', '.join(f'{text!r} {count:,} times' for text, count in counts.most_common(NUM_EXAMPLES))})"
        for label, counts in spellings.items()
        if len(counts) > 1
    ]
    notes: tuple[str, ...] = ()
    if merged:
        notes += (f"labels in several spellings are taken for one class: {_first(merged)}",)
    return notes


def similar_classes(classes: Sequence[str], counts: Sequence[int]) -> tuple[str, ...]:
    """A note about classes whose names differ only in capitals, spaces or the encoding of accents.

    Args:
        classes: their names.
        counts: training examples of each.
    """
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name, count in zip(classes, counts, strict=True):
        folded = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        alike[folded].append(f"{name!r} ({count:,})")
    similar = [" and ".join(names) for names in alike.values() if len(names) > 1]
    if not similar:
        return ()
    return (
        "classes whose names differ only in capitals or spaces stay apart; mend the data if they are one: "
        f"{_first(similar)}",
    )


def _first(texts: Sequence[str]) -> str:
    return "; ".join(texts[:NUM_EXAMPLES]) + (
        f"; and {len(texts) - NUM_EXAMPLES} more" if len(texts) > NUM_EXAMPLES else ""
    )


@dataclass(frozen=True)
class Classes:
    """The classes of a train split.

    Attributes:
        names: of the classes, by id.
        values: the labels of the classes by id, sorted; None if labels are ids, for which the file has a list of names.
    """

    names: tuple[str, ...]
    values: list[int] | list[str] | None

    @classmethod
    def of(
        cls, labels: LabelArray, names: Sequence[str] | None, describe: DescribeRow, kept: Sequence[str] = ()
    ) -> Classes:
        """The classes of a train split: those in the file's list of names, else the distinct labels.

        Args:
            labels: of the train split.
            names: the list of names in the file; None or empty if there is none. Not used where labels are texts.
            describe: a row in words, for errors.
            kept: classes of the dataset that the examples are kept of, of which some may have none left
                (`datawinnow.data.output_mark`); not used where a label is none of them.

        Raises:
            DataError: a negative label, which marks unknown ones, or labels that differ in most rows.
        """
        if names and not isinstance(labels, list):
            return cls(tuple(names), None)
        values = _kept_labels(labels, kept) or _distinct_labels(labels, describe)
        return cls(tuple(map(str, values)), values)

    def ids(self, labels: LabelArray, describe: DescribeRow) -> Tensor:
        """(n,) int64 class ids of labels, of the train split or another.

        Raises:
            DataError: a label that is no class, naming its row.
        """
        if self.values is None and not isinstance(labels, list):
            return _checked_ids(labels, self.names, describe)
        classes = list(self.names) if self.values is None or isinstance(labels, list) else self.values
        return _label_positions(labels, classes, describe)

    @property
    def notes(self) -> tuple[str, ...]:
        """A note for the user if class ids are not the labels as they stand in the file."""
        if self.values is None:
            return ()
        if isinstance(self.values[0], str):
            return (f"labels are texts; class ids are their places in sorted order ({len(self.values)} classes)",)
        if self.values[0] < 0:
            return (
                f"labels below 0 are taken for classes, since they are as far below 0 as others above "
                f"({', '.join(self.names[:10])}); where {self.names[0]} means unknown, remove those examples",
            )
        if self.values != list(range(len(self.values))):
            return (f"labels are not 0 to {len(self.values) - 1}; class ids are their places in sorted order",)
        return ()


class ClassNames:
    """Names of the classes that cells stand for; each spelling is looked up once.

    Args:
        classes: names of all classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = classes
        self._name_of_cell: dict[tuple[type, Any], str] = {}

    def name_of(self, cell: Any) -> str:
        """The class of a cell; its text where it has no label, or one of no class."""
        if label_of(cell)[1]:
            return str(cell)
        key = (type(cell), cell)
        if key not in self._name_of_cell:
            self._name_of_cell[key] = str(read_labels([cell], self._classes)[0][0])
        return self._name_of_cell[key]


@dataclass(frozen=True)
class LabelColumn:
    """Labels of a split as they stand in its files.

    Attributes:
        cells: (n,) values in which `label_of` finds no fault.
        describe: a row in words, for errors.
    """

    cells: Sequence[Any]
    describe: DescribeRow


def label_splits(
    train: LabelColumn, test: LabelColumn | None, names: Sequence[str] | None, kept: Sequence[str] = ()
) -> tuple[Classes, Tensor, Tensor | None, tuple[str, ...]]:
    """Classes of a dataset, the class ids of both splits, and notes on spellings.

    Args:
        train: labels to train on.
        test: labels to test on; None for none.
        names: list of the classes' names in the files; None if there is none.
        kept: as of `Classes.of`.

    Raises:
        DataError: as `Classes.of` and `Classes.ids`.
    """
    values, notes = read_labels(train.cells, () if names else kept)
    classes = Classes.of(values, names, train.describe, kept)
    train_ids = classes.ids(values, train.describe)
    if test is None:
        return classes, train_ids, None, notes
    test_values, test_notes = read_labels(test.cells, () if classes.values is None else classes.names)
    notes += tuple(note for note in test_notes if note not in notes)
    return classes, train_ids, classes.ids(test_values, test.describe), notes


def _kept_labels(labels: LabelArray, kept: Sequence[str]) -> list[int] | list[str]:
    """The labels that the classes ``kept`` stand for; none if a label is not among them."""
    if isinstance(labels, list):
        return list(kept) if set(labels) <= set(kept) else []
    if not all(INTEGER.fullmatch(name) for name in kept):
        return []
    values = [int(name) for name in kept]
    return values if set(labels.tolist()) <= set(values) else []


def _checked_ids(values: NDArray[np.int64], names: Sequence[str], describe: DescribeRow) -> Tensor:
    _refuse_negative(values, describe)
    above = np.flatnonzero(values >= len(names))
    if len(above):
        row = int(above[0])
        raise DataError(
            f"label {values[row]} of {describe(row)} has no name: there are {len(names)} class names, for labels 0 to "
            f"{len(names) - 1}"
        )
    return torch.from_numpy(values.astype(np.int64))


def _refuse_negative(values: NDArray[np.int64], describe: DescribeRow) -> None:
    below = np.flatnonzero(values < 0)
    if len(below):
        row = int(below[0])
        raise DataError(
            f"label {values[row]} of {describe(row)} is below 0 ({len(below):,} such); such labels usually mean "
            "unknown: remove those examples, or give the split that has labels"
        )


FEW_CLASSES = 20
"""Distinct integers that are classes however few examples there are."""


def _distinct_labels(values: LabelArray, describe: DescribeRow) -> list[int] | list[str]:
    is_text = isinstance(values, list)
    distinct = sorted(set(values if isinstance(values, list) else values.tolist()))
    # a column of names, ids or texts has mostly distinct values
    if len(distinct) > max(2 if is_text else FEW_CLASSES, len(values) // 2):
        raise DataError(
            f"the labels are {len(distinct):,} different {'texts' if is_text else 'numbers'} in {len(values):,} rows, "
            f"so they are no classes (the first: {str(values[0])[:60]!r}); name the column of classes with `label=`"
        )
    if is_text or distinct[0] >= 0:
        return distinct
    # -1, 0, 1 are sentiments; -1 beside 0 to 9 is a mark for the unknown
    if distinct[0] != -distinct[-1]:
        _refuse_negative(np.asarray(values), describe)
    return distinct


def _label_positions(values: LabelArray, classes: list[int] | list[str], describe: DescribeRow) -> Tensor:
    position = {c: i for i, c in enumerate(classes)}
    listed = values if isinstance(values, list) else values.tolist()
    try:
        return torch.tensor([position[v] for v in listed], dtype=torch.int64)
    except KeyError as error:
        row = list(listed).index(error.args[0])
        raise DataError(
            f"label {error.args[0]!r} of {describe(row)} is none of the train split's classes "
            f"({', '.join(map(str, classes[:10]))})"
        ) from None
