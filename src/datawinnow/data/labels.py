"""Labels in files -> class ids and class names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.errors import DataError

LabelArray = NDArray[np.int64] | list[str]
"""(n,) labels of a split as integers, or as texts."""
DescribeRow = Callable[[int], str]
"""A row in words, for errors, such as "row 3 of FILE"."""


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
    def of(cls, labels: LabelArray, names: Sequence[str] | None, describe: DescribeRow) -> Classes:
        """The classes of a train split: those in the file's list of names, else the distinct labels.

        Args:
            labels: of the train split.
            names: the list of names in the file; None or empty if there is none. Not used where labels are texts.
            describe: a row in words, for errors.

        Raises:
            DataError: a negative label, or texts that differ in most rows, which are no classes.
        """
        if names and not isinstance(labels, list):
            return cls(tuple(names), None)
        values = _distinct_labels(labels, describe)
        return cls(tuple(map(str, values)), values)

    def ids(self, labels: LabelArray, describe: DescribeRow) -> Tensor:
        """(n,) int64 class ids of labels, of the train split or another.

        Raises:
            DataError: a label that is no class, naming its row.
        """
        if self.values is None and not isinstance(labels, list):
            return _checked_ids(labels, self.names, describe)
        return _label_positions(labels, self.values or list(self.names), describe)

    @property
    def notes(self) -> tuple[str, ...]:
        """A note for the user if class ids are not the labels as they stand in the file."""
        if self.values is None:
            return ()
        if isinstance(self.values[0], str):
            return (f"labels are texts; class ids are their places in sorted order ({len(self.values)} classes)",)
        if self.values != list(range(len(self.values))):
            return (f"labels are not 0 to {len(self.values) - 1}; class ids are their places in sorted order",)
        return ()


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


def _distinct_labels(values: LabelArray, describe: DescribeRow) -> list[int] | list[str]:
    if isinstance(values, list):
        texts = sorted(set(values))
        # a column of names, ids or texts has mostly distinct values
        if len(texts) > max(2, len(values) // 2):
            raise DataError(
                f"the labels are texts, {len(texts):,} different ones in {len(values):,} rows, so they are no classes "
                f"(the first: {values[0][:60]!r}); name the column of classes with label= (--label)"
            )
        return texts
    _refuse_negative(values, describe)
    return [int(v) for v in np.unique(values)]


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
