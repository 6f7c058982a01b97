"""Labels as users have them -> class ids and class names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.errors import DataError

Where = Callable[[int], str]


def named(values: NDArray[np.int64], names: Sequence[str], where: Where) -> Tensor:
    """Labels that index a list of names.

    Args:
        values: (n,) integers.
        names: the classes' names.
        where: a row in words, for errors.

    Returns:
        (n,) int64.

    Raises:
        DataError: a label below 0 or without a name.
    """
    refuse_negative(values, where)
    above = np.flatnonzero(values >= len(names))
    if len(above):
        row = int(above[0])
        raise DataError(
            f"label {values[row]} of {where(row)} has no name: there are {len(names)} class names, for labels 0 to "
            f"{len(names) - 1}"
        )
    return torch.from_numpy(values.astype(np.int64))


def refuse_negative(values: NDArray[np.int64], where: Where) -> None:
    """Raise a `DataError` for a label below 0, naming its row."""
    below = np.flatnonzero(values < 0)
    if len(below):
        row = int(below[0])
        raise DataError(
            f"label {values[row]} of {where(row)} is below 0 ({len(below):,} such); such labels usually mean unknown: "
            "remove those examples, or give the split that has labels"
        )


def class_values(values: NDArray[np.int64] | list[str], where: Where) -> list[int] | list[str]:
    """The distinct labels of a train split without a list of names, sorted: each is a class.

    Raises:
        DataError: a negative label, or text that is different in most rows (so no class).
    """
    if isinstance(values, list):
        texts = sorted(set(values))
        if len(texts) > max(2, len(values) // 2):
            raise DataError(
                f"the labels are texts, {len(texts):,} different ones in {len(values):,} rows, so they are no classes "
                f"(the first: {values[0][:60]!r}); name the column of classes with label= (--label)"
            )
        return texts
    refuse_negative(values, where)
    return [int(v) for v in np.unique(values)]


def numbered(values: NDArray[np.int64] | list[str], classes: list[int] | list[str], where: Where) -> Tensor:
    """Each label's place among ``classes``, (n,) int64.

    Raises:
        DataError: a label that is none of them (in a test split), naming the row.
    """
    place = {c: i for i, c in enumerate(classes)}
    listed = values if isinstance(values, list) else values.tolist()
    try:
        return torch.tensor([place[v] for v in listed], dtype=torch.int64)
    except KeyError as error:
        row = list(listed).index(error.args[0])
        raise DataError(
            f"label {error.args[0]!r} of {where(row)} is none of the train split's classes "
            f"({', '.join(map(str, classes[:10]))})"
        ) from None


def renumbering_note(classes: list[int] | list[str]) -> tuple[str, ...]:
    """What to tell the user when class ids are not the labels as they stand in the file."""
    if not classes or isinstance(classes[0], str):
        return (f"labels are texts; class ids are their places in sorted order ({len(classes)} classes)",)
    if classes != list(range(len(classes))):
        return (f"labels are not 0 to {len(classes) - 1}; class ids are their places in sorted order",)
    return ()
