"""Ids of the examples in each batch, for datasets whose items are dictionaries."""

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

    Attributes of the dataset are not delegated: delegating unknown names breaks pickling, and with ``__getitems__``
    loses the ids. ``__getitems__`` uses that of a Hugging Face dataset or a `Subset`.

    Args:
        dataset: has ``__len__`` and ``__getitem__``; an item is a mapping.

    Raises:
        ArgumentError: on access, an item that is not a mapping or already has the key.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> dict[str, Any]:
        # int(): some datasets refuse the integers of numpy or torch that a sampler may yield.
        return _with_id(self.dataset[int(i)], i)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The items of a batch, fetched together where the dataset can."""
        fetch = getattr(self.dataset, "__getitems__", None)
        items = fetch(list(indices)) if fetch is not None else [self.dataset[int(i)] for i in indices]
        return [_with_id(item, i) for item, i in zip(items, indices, strict=True)]


def _with_id(item: Any, i: int) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise ArgumentError(f"items of the dataset must be mappings, got {type(item).__name__}")
    if INDEX in item:
        raise ArgumentError(f"the dataset already has a column {INDEX!r}: rename it, the ids are stored there")
    return {**item, INDEX: int(i)}


def with_index(dataset: Any) -> WithIndex | Indexed:
    """``dataset`` with the id of each example: under ``"index"`` of a dictionary, or as the first of ``(index, x, y)``.

    Args:
        dataset: map-style; its first item decides which of the two.

    Raises:
        ArgumentError: not a map-style dataset, or an empty one.

    >>> with_index([{"x": 1.0}, {"x": 2.0}])[1]
    {'x': 2.0, 'index': 1}
    >>> with_index([("a", 0), ("b", 1)])[1]
    (1, 'b', 1)
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or not len(dataset):
        raise ArgumentError(f"with_index() needs a map-style dataset that is not empty, got {type(dataset).__name__}")
    return WithIndex(dataset) if isinstance(dataset[0], Mapping) else indexed(dataset)


class IndexCollator:
    """A collate function around another that does not get the ids; they are added to the batch as int64 (b,).

    Args:
        collate: function from a list of items to a batch, which is a mapping.
    """

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[dict[str, Any]]) -> Any:
        """The batch of ``items``, with their ids under ``"index"``."""
        ids = torch.tensor([item[INDEX] for item in items], dtype=torch.int64)
        # Collators of transformers pad every key that they find, ids too.
        batch = self.collate([{key: value for key, value in item.items() if key != INDEX} for item in items])
        batch[INDEX] = ids
        return batch
