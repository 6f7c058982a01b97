"""`DatasetInfo`: what is read off a dataset once and passed along, whatever its type."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.chance import Baseline
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.normalisation import Normalisation
from datawinnow.core.rng import forked
from datawinnow.data.fingerprint import fingerprint_of, labels_of
from datawinnow.data.kept import Kept
from datawinnow.data.objects import TargetDataset, as_dataset


@dataclass(frozen=True)
class DatasetInfo:
    """Description of a map-style dataset of ``(x, y)``, made by `dataset_info`.

    Attributes:
        name: the dataset's ``name``, or the name of its type.
        fingerprint: 16 hex digits that tell it from other datasets.
        n: number of examples.
        shape: of one example.
        classes: their names; ``"0"``, ``"1"``, ... where the dataset has none.
        notes: what was decided while it was loaded.
        source: where it was loaded from; ``""`` if unknown.
        vocabulary: for texts: token ids are below it; None otherwise.
        tokenizer: for texts: the model whose token ids they are; ``""`` for the words of the training texts.
        data: the dataset; None in a description that was read from ``run.json``.
    """

    name: str
    fingerprint: str
    n: int
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    source: str = ""
    vocabulary: int | None = None
    tokenizer: str = ""
    data: Any = field(default=None, repr=False, compare=False)

    @cached_property
    def labels(self) -> Tensor:
        """(n,) int64 class ids; read item by item where the dataset has no ``labels`` or ``targets``.

        Raises:
            DataError: a label is not an integer of 0 or above; the example is named.
        """
        return read_class_ids(self.data)

    @cached_property
    def ids(self) -> list[str]:
        """(n,) a name for each example: the dataset's ``ids``, or its row numbers."""
        return example_ids(self.data)

    @cached_property
    def baseline(self) -> Baseline:
        """Accuracy of always predicting the largest class."""
        return Baseline.of(self.labels.tolist())

    @property
    def kind(self) -> str:
        """``"images"`` of (channels, height, width), ``"texts"``, or ``"vectors"`` of any other shape."""
        if self.vocabulary is not None:
            return "texts"
        return "images" if len(self.shape) == 3 else "vectors"

    @property
    def channels(self) -> int | None:
        """Channels of images; None of others."""
        return self.shape[0] if self.kind == "images" else None

    @property
    def size(self) -> float | None:
        """Side of images in pixels (of others than squares the root of the area), length of vectors; None of texts."""
        if self.kind == "images":
            return math.sqrt(self.shape[1] * self.shape[2])
        return float(math.prod(self.shape)) if self.kind == "vectors" else None

    @property
    def normalisation(self) -> Normalisation | None:
        """How `datawinnow.data.batches` normalises uint8 images; None of others, which are used as they are."""
        if self.kind != "images" or self.data is None:
            return None
        x = getattr(self.data, "x", None)
        if not isinstance(x, Tensor):
            with forked(0, "flops"):  # reading an item may draw at random
                x = self.data[0][0]
        if getattr(x, "dtype", None) is not torch.uint8:
            return None
        mean = tuple(getattr(self.data, "mean", ()))
        return Normalisation(mean, tuple(self.data.std)) if mean else Normalisation((0.0,), (1.0,))

    def as_dict(self) -> dict[str, Any]:
        """The description for ``run.json``, without labels and ids."""
        texts = {} if self.vocabulary is None else {"vocabulary": self.vocabulary, "tokenizer": self.tokenizer}
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "n": self.n,
            "shape": list(self.shape),
            "classes": list(self.classes),
            "notes": list(self.notes),
            "source": self.source,
            **texts,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DatasetInfo:
        """The description in ``run.json``, as `as_dict` gives it, without the dataset."""
        return cls(
            name=str(values["name"]),
            fingerprint=str(values["fingerprint"]),
            n=int(values["n"]),
            shape=tuple(values["shape"]),
            classes=tuple(values["classes"]),
            notes=tuple(values.get("notes", ())),
            source=str(values.get("source", "")),
            vocabulary=values.get("vocabulary"),
            tokenizer=str(values.get("tokenizer", "")),
        )


def dataset_info(data: Any, source: str = "") -> DatasetInfo:
    """The description of a dataset.

    Args:
        data: `Examples`, any map-style dataset of ``(x, y)``, or what `as_dataset` makes one of; ``data`` of the
            description is then what it made. A `DatasetInfo` is returned as it is, so that a
            function can take either and nothing is read twice.
        source: where it was loaded from.

    Raises:
        ArgumentError: not map-style, or a selection of a dataset (`Kept`).
        DataError: no examples, or items that are not ``(x, y)`` with a tensor and an integer.
    """
    if isinstance(data, DatasetInfo):
        return data
    if isinstance(data, Kept):
        raise ArgumentError(
            "the dataset is a selection already (Kept): give the whole, its .dataset, or a dataset of its own such as "
            ".dataset.subset(.selection.index)"
        )
    data = as_dataset(data)
    name = getattr(data, "name", type(data).__name__)
    if len(data) == 0:
        raise DataError(f"the dataset {name!r} holds no examples")
    shape, classes = getattr(data, "shape", None), getattr(data, "classes", None)
    labels = None
    if shape is None:
        shape = _item_shape(data)
    if classes is None:
        labels = read_class_ids(data)
        classes = range(int(labels.max()) + 1)
    vocabulary = getattr(data, "vocabulary_size", None)
    info = DatasetInfo(
        name=name,
        fingerprint=fingerprint_of(data),
        n=len(data),
        shape=tuple(int(side) for side in shape),
        classes=tuple(str(c) for c in classes),
        notes=tuple(getattr(data, "notes", ())),
        source=source,
        vocabulary=None if vocabulary is None else int(vocabulary),
        tokenizer="" if vocabulary is None else str(getattr(data, "tokenizer", "")),
        data=data,
    )
    if labels is not None:
        info.__dict__["labels"] = labels  # already read: fills the cached property
    return info


def _item_shape(data: Any) -> tuple[int, ...]:
    item = data[0]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(
            f"an item of the dataset must be (x, y), got {type(item).__name__}"
            + (f" of length {len(item)}" if hasattr(item, "__len__") else "")
            + "; wrap it in a dataset that returns the two"
        )
    # a plain number has shape ()
    shape = getattr(item[0], "shape", () if isinstance(item[0], (int, float)) else None)
    if shape is None:
        raise DataError(
            f"x must be a tensor (or an array), got {type(item[0]).__name__}; add a transform such as ToTensor"
        )
    return tuple(shape)


def example_ids(data: Any) -> list[str]:
    """(n,) a name for each example of a dataset: its ``ids``, or its row numbers."""
    ids = getattr(data, "ids", None)
    return [str(i) for i in (range(len(data)) if ids is None else ids)]


def read_class_ids(data: Any) -> Tensor:
    """(n,) int64 class ids of a dataset; read item by item where it has no ``labels`` or ``targets``.

    All are -1 for targets that are no classes.

    Raises:
        DataError: a label is not an integer of 0 or above; the example is named.
    """
    if isinstance(data, TargetDataset):
        return torch.full((len(data),), -1)  # no class
    labels = labels_of(data)
    if labels is not None:
        return labels
    return torch.tensor([_item_label(data, i) for i in range(len(data))], dtype=torch.int64)


def _item_label(data: Any, i: int) -> int:
    y = data[i][1]
    try:
        label = operator.index(y)  # refuses 1.5, which int() would cut to 1
    except TypeError:
        raise DataError(f"labels must be integer class ids, got {y!r} at example {i}") from None
    if not 0 <= label < check.MAX_CLASSES:
        raise DataError(
            f"labels must be class ids from 0 to {check.MAX_CLASSES - 1:,}, got {label} at example {i}: number the "
            "classes from 0"
        )
    return label
