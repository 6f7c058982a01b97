"""``(index, x, y)`` from any map-style dataset."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from datawinnow.core.errors import ArgumentError


class Indexed(Dataset[tuple[int, Any, Any]]):
    """A map-style dataset that yields ``(index, x, y)``; picklable, so it serves worker processes.

    Args:
        dataset: has ``__len__`` and ``__getitem__``; an item is ``(x, y)``.

    Raises:
        ArgumentError: no map-style dataset; on access, an item that is not ``(x, y)``.
    """

    def __init__(self, dataset: Any) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise ArgumentError(
                f"indexed() needs a map-style dataset with __len__ and __getitem__, got {type(dataset).__name__}"
            )
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[int, Any, Any]:
        item = self.dataset[i]
        if isinstance(item, (tuple, list)) and len(item) == 2:
            return int(i), item[0], item[1]
        raise ArgumentError(
            f"an item of the dataset must be (x, y), got {type(item).__name__}"
            + (f" of length {len(item)}" if hasattr(item, "__len__") else "")
            + "; wrap it in a dataset that returns the two"
        )


def indexed(dataset: Any) -> Indexed:
    """``dataset`` with the id of each example in front: ``DataLoader(indexed(d))`` gives ``(index, x, y)``.

    >>> from datawinnow.data.indexed import indexed
    >>> indexed([("a", 0), ("b", 1)])[1]
    (1, 'b', 1)
    """
    return Indexed(dataset)
