"""A dataset and a selection of its examples, with their places in the dataset and in its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection
from datawinnow.data.decisions import labels_in_source
from datawinnow.data.examples import Origin
from datawinnow.data.fingerprint import labels_of
from datawinnow.data.source_positions import SourceRows, is_of_folder, num_source_rows, source_rows


@dataclass(frozen=True, eq=False)
class Kept:
    """What `prune` returns and `fit` takes; also a map-style dataset of the kept examples, in the order chosen.

    ``selection.index`` counts in ``dataset``, which is the train split as it was loaded: without the examples that were
    held out for testing or left out. To index a dataset of your own use `indices_in`, or the names in ``ids``.

    Attributes:
        dataset: the dataset that was selected from.
        selection: the kept examples by their positions in ``dataset``, with their weights.

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

    @property
    def ids(self) -> list[str]:
        """(m,) names of the kept examples in the order chosen: their files, or their rows in the source."""
        ids = getattr(self.dataset, "ids", None)
        return [str(i if ids is None else ids[i]) for i in self.selection.index.tolist()]

    @property
    def rows(self) -> Tensor:
        """(m,) int64 places of the kept examples in the source as it was loaded, in the order chosen.

        That is the index in the dataset object or array that was given, the row in a table's files one after the other
        (a line of names is no row), or the place in the sorted list of a folder's files.
        """
        return source_rows(self.dataset)[self.selection.index]

    def indices_in(self, dataset: Any) -> Tensor:
        """(m,) int64 positions of the kept examples in your own dataset, in the order chosen.

        Args:
            dataset: the dataset that was loaded or given, whole: map-style, a pair ``(x, y)`` of arrays, a dict of
                arrays or a DataFrame. For a folder of images a list of paths, or a dataset with ``samples`` as
                torchvision's ``ImageFolder`` has; files are found by their names.

        Raises:
            ArgumentError: it has another number of examples or other labels than what was loaded, or lacks a file.

        >>> import datawinnow as dw
        >>> from sklearn.datasets import load_digits
        >>> train, test = dw.load("digits")
        >>> kept = dw.Kept(train, dw.Selection.everything(len(train)))
        >>> x, y = load_digits(return_X_y=True)
        >>> len(train), len(y), bool((y[kept.indices_in((x, y))] == train.labels.numpy()).all())
        (1438, 1797, True)
        """
        if dataset is self.dataset:
            return self.selection.index
        return self._source_rows().positions_in(dataset)

    def _source_rows(self) -> SourceRows:
        origin = getattr(self.dataset, "origin", None)
        # those of before decisions, as the user's own dataset has them
        has_decisions = isinstance(origin, Origin) and origin.labels is not None
        labels = labels_in_source(self.dataset) if has_decisions else labels_of(self.dataset)
        index = self.selection.index
        if labels is None:
            read = [int(self.dataset[i][1]) for i in index.tolist()]
            labels = check.labels("labels", torch.tensor(read, dtype=torch.int64))
        else:
            labels = labels[index]
        classes = getattr(self.dataset, "classes", None)
        if classes is None:
            classes = range(int(labels.max()) + 1 if len(labels) else 0)
        return SourceRows(
            self.ids,
            self.rows,
            labels,
            tuple(map(str, classes)),
            num_source_rows(self.dataset),
            is_of_folder(self.dataset),
        )

    def alone(self) -> Any:
        """The kept examples as a dataset of their own kind, with ids from 0, where the dataset can give one."""
        return self.dataset.subset(self.selection.index) if hasattr(self.dataset, "subset") else self
