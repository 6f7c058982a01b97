"""Positions of examples in the dataset as the user has it, before some of it was held out or left out."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.counts import a_type
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import forked
from datawinnow.data.examples import Origin
from datawinnow.data.labels import Y_KEYS

NUM_ITEMS_READ = 64
"""Items that are read for their labels, of a dataset that has no list of them."""


@dataclass(frozen=True, eq=False)
class SourceRows:
    """Examples by their places in the source that they were loaded from.

    Attributes:
        ids: (m,) their names.
        rows: (m,) int64 places in the source: the index in the dataset object or array, the row in the files one after
            the other (a line of names is no row), the place in the sorted list of a folder's files.
        labels: (m,) int64 class ids.
        classes: names of the classes.
        num_rows: number of examples of the source; None if unknown.
        is_folder: whether they are files of a folder, which are known by their names.
    """

    ids: Sequence[str]
    rows: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    num_rows: int | None
    is_folder: bool

    def positions_in(self, dataset: Any) -> Tensor:
        """(m,) int64 positions of the examples in a dataset: the source as the user has it, or a part of it by names.

        Files are found by their names, examples of datasets that `datawinnow.load` read by their ids, all others by
        their rows; what labels the dataset has are compared.

        Args:
            dataset: a map-style dataset, a pair ``(x, y)`` of arrays, a dict of arrays or a DataFrame; for files of a
                folder a list of paths, or a dataset with ``samples`` as torchvision's ``ImageFolder`` has.

        Raises:
            ArgumentError: the dataset has another number of examples or other labels than the source, or lacks a file.
        """
        # an attribute of a DataFrame may be one of its columns
        ids, paths = None if is_frame(dataset) else getattr(dataset, "ids", None), _paths_of(dataset)
        if ids is not None:
            positions = self._by_name([str(name) for name in ids], "ids")
        elif paths is not None and self.is_folder:
            positions = self._by_file(paths)
        elif self.is_folder:
            raise ArgumentError(
                f"the examples are files, whose order in {a_type(dataset)} is not known: give the list of its "
                f"paths in its order, or index by name ({self.ids[0]!r} ...)"
            )
        else:
            positions = self._by_row(dataset)
        self._check_labels(dataset, positions)
        return positions

    def _by_row(self, dataset: Any) -> Tensor:
        n = _length(dataset)
        if self.num_rows is not None and n != self.num_rows:
            raise ArgumentError(
                f"the dataset has {n:,} examples, but these were chosen from a source of {self.num_rows:,}: give the "
                "complete dataset that was loaded, before any were held out or left out"
            )
        if len(self.rows) and int(self.rows.max()) >= n:
            raise ArgumentError(f"the dataset has {n:,} examples, but row {int(self.rows.max())} of its source is kept")
        return self.rows.clone()

    def _by_name(self, names: Sequence[str], kind: str) -> Tensor:
        position = {name: i for i, name in enumerate(names)}
        if len(position) != len(names):
            raise ArgumentError(f"the dataset has {len(names) - len(position):,} {kind} more than once")
        missing = [name for name in self.ids if name not in position]
        if missing:
            raise ArgumentError(
                f"the dataset lacks {len(missing):,} of the {len(self.ids):,} examples, the first {missing[0]!r}: they "
                "are of another dataset"
            )
        return torch.tensor([position[name] for name in self.ids], dtype=torch.int64)

    def _by_file(self, paths: Sequence[str]) -> Tensor:
        by_file_name = defaultdict(list)
        for i, path in enumerate(paths):
            components = PurePath(path).parts
            by_file_name[components[-1] if components else path].append((components, i))
        positions = []
        for name in self.ids:
            components = PurePath(name).parts
            # the list may be relative to the folder, to one above it or to the split's
            fits = [
                i
                for other, i in by_file_name[components[-1]]
                if _is_suffix(components, other) or _is_suffix(other, components)
            ]
            if len(fits) != 1:
                raise ArgumentError(
                    f"{name!r} is {'not' if not fits else f'{len(fits)} times'} among the {len(paths):,} files of the "
                    "dataset: give paths that end as the kept files' do"
                )
            positions.append(fits[0])
        if len(set(positions)) != len(positions):
            raise ArgumentError("two of the kept files are one in the dataset: give paths with their folders")
        return torch.tensor(positions, dtype=torch.int64)

    def _check_labels(self, dataset: Any, positions: Tensor) -> None:
        """Compare labels, where the dataset has some.

        Raises:
            ArgumentError: they are neither the class ids nor the classes' names, nor stand for them one to one.
        """
        if self._is_in_a_column(dataset, positions):
            return
        values = _labels_of(dataset)
        places = np.arange(len(positions))
        if values is not None and len(values) == _length(dataset):
            labels = [_int_or_text(values[i]) for i in positions.tolist()]
        elif is_frame(dataset):
            return
        else:
            places = np.unique(np.linspace(0, len(positions) - 1, min(len(positions), NUM_ITEMS_READ)).astype(np.int64))
            with forked(0, "labels"):  # a random transform draws
                items = [_label_of_item(dataset, int(positions[k])) for k in places]
            if any(label is None for label in items):
                return
            labels = items
        ids = self.labels[torch.from_numpy(places)].tolist()
        names = [self.classes[i] for i in ids]
        for expected in (ids, names):
            if all(str(a) == str(b) for a, b in zip(labels, expected, strict=True)):
                return
        pairs = set(zip(ids, map(str, labels), strict=True))
        one_to_one = len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        spellings = {str(label) for label in labels}
        # class ids or names that are there but belong to other examples show another order
        is_reordered = spellings <= set(self.classes) or spellings <= set(map(str, range(len(self.classes))))
        if not one_to_one or is_reordered:
            k = next(k for k, (a, b) in enumerate(zip(labels, names, strict=True)) if str(a) != b)
            raise ArgumentError(
                f"example {int(positions[int(places[k])])} of the dataset has the label {labels[k]!r}, but example "
                f"{self.ids[int(places[k])]!r} was loaded with {names[k]!r}: the dataset is another one, or in another "
                "order"
            )

    def _is_in_a_column(self, dataset: Any, positions: Tensor) -> bool:
        """Whether a column of a table holds the labels, whatever the others (a feature ``targets``) are called."""
        if not is_frame(dataset) and not isinstance(dataset, Mapping):
            return False
        ids = self.labels.tolist()
        expected = ([str(i) for i in ids], [self.classes[i] for i in ids])
        for name in dataset.columns if is_frame(dataset) else dataset:
            values = dataset[name]
            if np.ndim(values) != 1 or len(values) != _length(dataset):
                continue
            column = _array(values)[positions.numpy()]
            if [str(_int_or_text(value)) for value in column] in expected:
                return True
        return False


def source_rows(dataset: Any) -> Tensor:
    """(n,) int64 place of each example of a dataset in the source that it was loaded from (`SourceRows.rows`).

    >>> from datawinnow.data.load import load
    >>> train, test = load("digits")
    >>> len(train), source_rows(train)[-3:].tolist()
    (1438, [1794, 1795, 1796])
    """
    origin = _origin(dataset)
    rows = getattr(dataset, "source_rows", None) if origin is None else origin.rows
    return rows if isinstance(rows, Tensor) else torch.arange(len(dataset))


def num_source_rows(dataset: Any) -> int | None:
    """Number of examples of the source of a dataset; None if unknown."""
    origin = _origin(dataset)
    return origin.num_rows if origin is not None else int(getattr(dataset, "num_source_rows", len(dataset)))


def is_of_folder(dataset: Any) -> bool:
    """Whether a dataset was loaded from a folder of images."""
    origin = _origin(dataset)
    return origin is not None and origin.layout == "folder"


def _origin(dataset: Any) -> Origin | None:
    origin = getattr(dataset, "origin", None)
    return origin if isinstance(origin, Origin) else None


def _is_suffix(end: Sequence[str], path: Sequence[str]) -> bool:
    return len(end) <= len(path) and tuple(path[len(path) - len(end) :]) == tuple(end)


def is_frame(dataset: Any) -> bool:
    """Whether a dataset is a DataFrame of pandas or polars: its rows are not its items."""
    return hasattr(dataset, "columns") and hasattr(dataset, "to_numpy")


def _paths_of(dataset: Any) -> list[str] | None:
    """The files of a list of paths, or of a dataset with ``samples`` or ``imgs`` of paths and labels."""
    for name in ("samples", "imgs"):
        samples = getattr(dataset, name, None)
        first = samples[0] if isinstance(samples, Sequence) and samples else None
        if samples is not None and isinstance(first, (tuple, list)) and isinstance(first[0], (str, os.PathLike)):
            return [os.fspath(sample[0]) for sample in samples]
    if isinstance(dataset, np.ndarray) and dataset.dtype.kind == "U":
        return [str(path) for path in dataset.tolist()]
    if isinstance(dataset, (list, tuple)) and dataset and all(isinstance(p, (str, os.PathLike)) for p in dataset):
        return [os.fspath(path) for path in dataset]
    return None


def _length(dataset: Any) -> int:
    values = _labels_of(dataset)
    if isinstance(dataset, (tuple, Mapping)) and values is not None:
        return len(values)
    try:
        return len(dataset)
    except TypeError:
        raise ArgumentError(f"a dataset needs a length, got {type(dataset).__name__}") from None


def _labels_of(dataset: Any) -> Any:
    """Labels of all examples, as the dataset has them; None where it has no list of them."""
    columns = dataset.columns if is_frame(dataset) else None
    columns = getattr(dataset, "column_names", None) if columns is None else columns
    if columns is None and isinstance(dataset, Mapping):
        columns = list(dataset)
    if columns is not None:
        key = next((key for key in Y_KEYS if key in list(columns)), None)
        return None if key is None else _array(dataset[key])
    is_pair = isinstance(dataset, tuple) and len(dataset) == 2 and hasattr(dataset[1], "__len__")
    if is_pair and isinstance(dataset[0], (np.ndarray, Tensor)):
        return _array(dataset[1])
    for name in ("labels", "targets"):
        labels = getattr(dataset, name, None)
        if labels is not None and hasattr(labels, "__len__") and len(labels) == len(dataset):
            return _array(labels)
    return None


def _array(values: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    if array.ndim == 2:  # a column, or one-hot rows
        array = array[:, 0] if array.shape[1] == 1 else array.argmax(axis=1)
    return array


def _label_of_item(dataset: Any, i: int) -> Any:
    """The label of one item; None where it has none that is known."""
    item = dataset[i]
    if isinstance(item, Mapping):
        value = next((item[key] for key in Y_KEYS if key in item), None)
    else:
        value = item[1] if isinstance(item, (tuple, list)) and len(item) == 2 else None
    return None if value is None else _int_or_text(_array([value])[0] if isinstance(value, Tensor) else value)


def _int_or_text(value: Any) -> Any:
    """A label as an int or a text."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    # isfinite: of NaN and infinity there is no int
    if isinstance(value, (bool, np.bool_, float, np.floating)) and np.isfinite(value) and value == int(value):
        return int(value)
    return value.item() if isinstance(value, np.generic) else value
