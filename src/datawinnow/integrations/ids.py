"""Ids that travel with the batch, for datasets whose items are dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.data.indexed import Indexed, indexed

INDEX = "index"
"""The key under which a dictionary carries its id."""


class WithIndex:
    """A map-style dataset of dictionaries, each with its id under ``"index"``; picklable, for worker processes.

    It passes on no attribute of what it wraps: delegating unknown names breaks pickling, and with ``__getitems__``
    loses the ids. Its own ``__getitems__`` uses that of a Hugging Face dataset or a `Subset`.

    Args:
        dataset: has ``__len__`` and ``__getitem__``; an item is a mapping.

    Raises:
        ArgumentError: on access, an item that is no mapping or has the key already.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return _numbered(self.dataset[int(i)], i)

    def __getitems__(self, many: Sequence[int]) -> list[dict[str, Any]]:
        """The items of a batch, fetched together where the dataset can."""
        fetch = getattr(self.dataset, "__getitems__", None)
        items = fetch(list(many)) if fetch is not None else [self.dataset[int(i)] for i in many]
        return [_numbered(item, i) for item, i in zip(items, many, strict=True)]


def _numbered(item: Any, i: int) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise ArgumentError(f"an item of the dataset must be a mapping here, got {type(item).__name__}")
    if INDEX in item:
        raise ArgumentError(f"the dataset has a column {INDEX!r} already: rename it, the ids of examples travel there")
    return {**item, INDEX: int(i)}


def with_index(dataset: Any) -> WithIndex | Indexed:
    """``dataset`` with each example's id: under ``"index"`` of a dictionary, or in front: ``(index, x, y)``.

    Args:
        dataset: map-style; its first item tells which.

    Raises:
        ArgumentError: no map-style dataset, or an empty one.

    >>> with_index([{"x": 1.0}, {"x": 2.0}])[1]
    {'x': 2.0, 'index': 1}
    >>> with_index([("a", 0), ("b", 1)])[1]
    (1, 'b', 1)
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or not len(dataset):
        raise ArgumentError(f"with_index() needs a map-style dataset that is not empty, got {type(dataset).__name__}")
    return WithIndex(dataset) if isinstance(dataset[0], Mapping) else indexed(dataset)


class IndexCollator:
    """A collate function that never sees the ids: they go round it, and into the batch as int64 (b,).

    Args:
        collate: what makes a batch, a mapping, of a list of items.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[dict[str, Any]]) -> Any:
        """The batch of ``items``, with their ids under ``"index"``."""
        ids = torch.tensor([item[INDEX] for item in items], dtype=torch.int64)
        batch = self.collate([{key: value for key, value in item.items() if key != INDEX} for item in items])
        batch[INDEX] = ids
        return batch
