"""A dataset and a selection of its examples; ids stay those of the whole dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection


@dataclass(frozen=True, eq=False)
class Kept:
    """What `prune` returns and `fit` takes; also a map-style dataset of the kept examples, in the order chosen.

    Attributes:
        dataset: the whole dataset.
        selection: ids of the kept examples, with their weights.

    Raises:
        ArgumentError: the selection has ids beyond the dataset, or the dataset is a selection already.
    """

    dataset: Any
    selection: Selection

    def __post_init__(self) -> None:
        if isinstance(self.dataset, Kept):
            raise ArgumentError("the dataset is a selection already (Kept): select from the whole, its .dataset")
        if len(self.selection) and int(self.selection.index.max()) >= len(self.dataset):
            raise ArgumentError(
                f"the selection has id {int(self.selection.index.max())}, but the dataset only "
                f"{len(self.dataset)} examples: it was made for another dataset"
            )

    def __repr__(self) -> str:
        name = getattr(self.dataset, "name", None) or type(self.dataset).__name__
        return f"{type(self).__name__}({len(self.selection):,} of {len(self.dataset):,} examples of {name})"

    def __len__(self) -> int:
        return len(self.selection)

    def __getitem__(self, i: int) -> Any:
        return self.dataset[int(self.selection.index[i])]

    def alone(self) -> Any:
        """The kept examples as a dataset of their own kind, with ids from 0, where the dataset can give one."""
        return self.dataset.subset(self.selection.index) if hasattr(self.dataset, "subset") else self
