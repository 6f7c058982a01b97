"""Datasets as Python objects have them -> datasets of ``(x, class id)``.

Arrays ``(x, y)``, DataFrames and columns by name become `Examples`; items that are dicts, or whose labels are texts,
one-hot rows, floats or tensors of shape (1,), are read through `ItemDataset`. What `fit` and the verbs can take as it
is stays the same object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.rng import forked, stream
from datawinnow.data.assemble import DEFAULT_HOLDOUT, hold_out, limit_note, usual_augment
from datawinnow.data.examples import Examples, LazyExamples, stratified
from datawinnow.data.fingerprint import labels_of
from datawinnow.data.images import read_image
from datawinnow.data.kept import Kept
from datawinnow.data.labels import Y_KEYS, Classes, LabelArray
from datawinnow.data.source_positions import is_frame
from datawinnow.data.splits import choose_splits, refuse_split_column, split_columns
from datawinnow.data.texts import Texts

X_KEYS = ("image", "images", "img", "pixel_values", "x", "X", "features", "inputs", "data")
"""Names that are guessed for the examples, in this order."""
REGRESSION_HINT = "for a regression or several labels an example, train with a loss of your own (fit(..., loss=))"


@dataclass(frozen=True, eq=False)
class ItemDataset:
    """Another dataset, whose items are read as ``(x, class id)``; a map-style dataset.

    Attributes:
        items: the user's dataset.
        image: key of x in an item; None where items are pairs.
        labels: (n,) int64 class ids.
        classes: their names.
        name: of the dataset.
        index: (n,) places in ``items``; None for all in order.
        notes: what was guessed and converted.
    """

    items: Any
    image: str | None
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    index: Tensor | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        item = self.items[int(i) if self.index is None else int(self.index[i])]
        x = item[0] if self.image is None else item[self.image]
        return _as_input(x, self.image), int(self.labels[i])

    @property
    def ids(self) -> list[str]:
        """(n,) the place of each example in ``items``."""
        return [str(i) for i in (range(len(self)) if self.index is None else self.index.tolist())]

    @property
    def source_rows(self) -> Tensor:
        """(n,) int64 place of each example in ``items``."""
        return torch.arange(len(self)) if self.index is None else self.index

    @property
    def num_source_rows(self) -> int:
        """Number of examples of ``items``."""
        return len(self.items)

    def subset(self, index: Tensor, *, name: str | None = None) -> ItemDataset:
        """The examples at ``index`` (m,) as a dataset of its own."""
        places = index if self.index is None else self.index[index]
        return replace(self, labels=self.labels[index], index=places, name=name or self.name)


@dataclass(frozen=True, eq=False)
class TargetDataset:
    """A dataset of ``(x, y)`` with y as it is: numbers, vectors, masks; for a loss of the user's.

    It has no classes and no labels.

    Attributes:
        items: the user's dataset, or the pair of arrays.
        image: key of x in an item; None where items are pairs.
        label: key of y.
        name: of the dataset.
        index: (n,) places in ``items``; None for all in order.
    """

    items: Any
    image: str | None = None
    label: Any = 1
    name: str = "data"
    index: Tensor | None = None
    classes: ClassVar[tuple[str, ...]] = ()

    def __len__(self) -> int:
        if self.index is not None:
            return len(self.index)
        return len(self.items[0]) if isinstance(self.items, tuple) else len(self.items)

    def __getitem__(self, i: int) -> tuple[Any, Tensor]:
        place = int(i) if self.index is None else int(self.index[i])
        if isinstance(self.items, tuple):
            x, y = self.items[0][place], self.items[1][place]
        else:
            item = self.items[place]
            x, y = item[0 if self.image is None else self.image], item[self.label]
        target = torch.as_tensor(y)
        # floats alike, whatever Python or numpy call them: losses want the dtype of the outputs
        return _as_input(x, self.image), target.float() if target.is_floating_point() else target

    @property
    def ids(self) -> list[str]:
        """(n,) the place of each example in ``items``."""
        return [str(i) for i in (range(len(self)) if self.index is None else self.index.tolist())]

    def subset(self, index: Tensor, *, name: str | None = None) -> TargetDataset:
        """The examples at ``index`` (m,) as a dataset of its own."""
        return replace(self, index=index if self.index is None else self.index[index], name=name or self.name)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a hash over x and y of up to 64 evenly spaced examples."""
        digest = hashlib.sha256(f"targets {len(self)}".encode())
        for i in sorted({k * len(self) // 64 for k in range(64)}):
            for values in self[i]:
                digest.update(np.ascontiguousarray(torch.as_tensor(values).numpy()).tobytes())
        return digest.hexdigest()[:16]


def with_targets(data: Any) -> Any:
    """A dataset for a loss of the user's: as `with_class_ids` where labels are class ids, else with y as it is.

    Raises:
        ArgumentError: no dataset.
        DataError: no such key.
    """
    if isinstance(data, Kept):
        dataset = with_targets(data.dataset)
        return data if dataset is data.dataset else replace(data, dataset=dataset)
    if isinstance(data, (Examples, LazyExamples, Texts, ItemDataset, TargetDataset)):
        return data
    _refuse_what_is_no_dataset(data)
    if is_frame(data):
        return as_dataset(data)
    if isinstance(data, tuple) and len(data) == 2 and all(map(_is_array, data)):
        x, y = _to_numpy(data[0]), _to_numpy(data[1])
        if y.ndim == 1 and y.dtype.kind in "biuSU":
            return as_dataset(data)
        if len(x) != len(y):
            raise DataError(f"x has {len(x):,} examples, but y has {len(y):,} labels; they must agree")
        if x.dtype.kind == "f":
            x = x.astype(np.float32)
        return TargetDataset((torch.from_numpy(x), torch.from_numpy(y)), name="arrays")
    if isinstance(data, Mapping):
        x_key, y_key, _ = _choose_keys(list(data), None, None, "the dict")
        return with_targets((data[x_key], data[y_key]))
    with forked(0, "items"):
        item = data[0]
    if isinstance(item, Mapping):
        x_key, y_key, _ = _choose_keys(list(item), None, None, "an item of the dataset", _features(data))
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        x_key, y_key = None, 1
    else:
        return data  # `dataset_info` says what is wrong with it
    if isinstance(item[y_key], str) or _is_class_id(item[y_key]):
        return as_dataset(data)
    return TargetDataset(data, x_key, y_key, _name_of(data))


def as_dataset(
    data: Any, *, image: str | None = None, label: str | None = None, classes: Sequence[str] | None = None
) -> Any:
    """A dataset of ``(x, class id)`` from what users have.

    Args:
        data: a map-style dataset of ``(x, y)`` or of dicts (torch, Hugging Face, a list), a pair ``(x, y)`` of arrays
            or tensors, a DataFrame, or a dict of arrays.
        image: key or column of x; None guesses. Of a DataFrame by default all columns but the label.
        label: key or column of the labels; None guesses.
        classes: names of the classes of the train split, for a test split; None takes them from the labels.

    Returns:
        ``data`` itself where its items are ``(x, class id)``; `Examples` for arrays; an `ItemDataset` otherwise.

    Raises:
        ArgumentError: a stream, a DataLoader, an array without labels, or another object that is no dataset.
        DataError: labels that are no classes, or no such key.
    """
    if isinstance(data, (Examples, LazyExamples, Texts, Kept, ItemDataset, TargetDataset)):
        return data
    _refuse_what_is_no_dataset(data)
    if is_frame(data):
        return _from_frame(data, image, label, classes)
    if isinstance(data, Mapping):
        x_key, y_key, notes = _choose_keys(list(data), image, label, "the dict")
        _refuse_splits(data, (x_key, y_key), lambda name: _to_numpy(data[name]), "the dict")
        return _from_arrays(data[x_key], data[y_key], "arrays", classes, notes)
    if _is_pair_of_columns(data):
        return _from_arrays(data[0], data[1], "arrays", classes, ())
    return _from_items(data, image, label, classes)


def with_class_ids(data: Any, *, classes: Sequence[str] | None = None) -> Any:
    """`as_dataset` of a dataset, or of that of a selection (`Kept`), with the class ids of the train split.

    Args:
        data: as of `as_dataset`, or a selection of one.
        classes: names of the classes of the train split. A dataset that names its own classes in another order, or
            only some of them, gets the ids that the train split has for these names. Names "0", "1", ... are the ids.

    Raises:
        DataError: as `as_dataset`, or a label of a class that the train split does not have.
    """
    if isinstance(data, Kept):
        dataset = with_class_ids(data.dataset, classes=classes)
        return data if dataset is data.dataset else replace(data, dataset=dataset)
    dataset = as_dataset(data, classes=classes)
    return dataset if classes is None else _with_ids_by_name(dataset, tuple(map(str, classes)))


def _with_ids_by_name(dataset: Any, classes: tuple[str, ...]) -> Any:
    """``dataset`` with the ids that its classes' names have in ``classes``; itself where these are its ids."""
    names, labels = _names_of_ids(dataset), labels_of(dataset)
    if names is None or labels is None:
        return dataset
    # one of the two has numbers for names, which are its ids
    is_numbered = _are_only_ids(names, classes) or _are_only_ids(classes, names)
    if names == classes[: len(names)] or (is_numbered and len(names) <= len(classes)):
        return dataset
    labels = check.labels("labels", labels)
    place = {name: i for i, name in enumerate(classes)}
    used = [names[c] for c in sorted(set(labels.tolist())) if c < len(names)]
    unknown = [name for name in used if name not in place]
    if unknown:
        raise DataError(
            f"the class {unknown[0]!r} of {getattr(dataset, 'name', type(dataset).__name__)} is none of the training "
            f"data's classes ({', '.join(map(repr, classes[:10]))}{', ...' if len(classes) > 10 else ''}): leave its "
            "examples out, or name the class as the training data do"
        )
    ids = torch.tensor([place.get(name, -1) for name in names], dtype=torch.int64)[labels]
    if isinstance(dataset, (Examples, LazyExamples, ItemDataset)):
        return replace(dataset, labels=ids, classes=classes)
    return ItemDataset(dataset, None, ids, classes, getattr(dataset, "name", type(dataset).__name__))


def _are_only_ids(names: tuple[str, ...], compared: tuple[str, ...]) -> bool:
    """Whether ``names`` are those of classes without a name, and those that are compared with them are not."""
    return names == tuple(map(str, range(len(names)))) and not any(name.isdigit() for name in compared)


def _names_of_ids(dataset: Any) -> tuple[str, ...] | None:
    """The names that a dataset has for its class ids, as torchvision's have; None for none."""
    names = getattr(dataset, "classes", None)
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def load_object(
    data: Any,
    *,
    image: str | None = None,
    label: str | None = None,
    holdout: float = DEFAULT_HOLDOUT,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[Any, Any]:
    """The train and the test split of a dataset object; arguments as of `load`.

    A dict of splits (a Hugging Face ``DatasetDict``) brings both; of anything else a test split is held out.

    Raises:
        ArgumentError: as `as_dataset`.
        DataError: as `as_dataset`, or too few examples to hold any out.
    """
    if _is_split_dict(data):

        def is_labelled(_: str, name: str) -> bool:
            keys = (
                (label,)
                if label is not None
                else (*Y_KEYS, _only_of_type(None, "ClassLabel", _features(data[name]))[0])
            )
            values = next((values for key in keys if (values := _column(data[name], key)) is not None), None)
            return values is None or any(value is not None and value != -1 for value in values)

        choice = choose_splits(map(str, data), type(data).__name__, is_labelled)
        train = as_dataset(data[choice.train], image=image, label=label)
        if choice.test:
            test = as_dataset(data[choice.test], image=image, label=label, classes=train.classes)
            return _limited(_with_notes(train, choice.notes), limit, seed), test
        data = _with_notes(train, choice.notes)
    dataset = with_subsets(as_dataset(data, image=image, label=label))
    first, second, note = hold_out(dataset.labels, holdout, seed)
    train = replace(dataset, notes=(*dataset.notes, note)).subset(first)
    return _limited(train, limit, seed), dataset.subset(second)


def with_subsets(dataset: Any) -> Any:
    """The dataset itself where it has ``labels`` and ``subset``, else wrapped into one that has.

    Raises:
        DataError: a label is not an integer.
    """
    if hasattr(dataset, "subset"):
        return dataset
    try:
        labels = check.labels("labels", torch.tensor([int(dataset[i][1]) for i in range(len(dataset))]))
    except TypeError as error:
        raise DataError(f"a label is no class id ({error}): every item must be (x, y) with an integer y") from None
    names = tuple(str(c) for c in range(int(labels.max()) + 1))
    return ItemDataset(dataset, None, labels, names, _name_of(dataset))


def _with_notes(dataset: Any, notes: tuple[str, ...]) -> Any:
    """The dataset with more notes, where it is of a kind that holds some."""
    return replace(dataset, notes=(*dataset.notes, *notes)) if notes and hasattr(dataset, "notes") else dataset


def _limited(train: Any, limit: int | None, seed: int) -> Any:
    if limit is None or limit >= len(train):
        return train
    subset = train.subset(stratified(train.labels, limit, stream(seed, "data", "limit")))
    return replace(subset, notes=(*subset.notes, limit_note(limit, len(train))))


def _is_split_dict(data: Any) -> bool:
    return isinstance(data, Mapping) and "train" in data and not _is_array(data["train"])


def _is_pair_of_columns(data: Any) -> bool:
    """Whether a tuple is ``(x, y)`` of all examples, in arrays or lists, and not a dataset of two items."""
    if not isinstance(data, tuple) or len(data) != 2:
        return False
    x, y = data
    if (_is_array(x) or hasattr(x, "toarray")) and _is_array(y):
        return True
    is_column = isinstance(y, list) and len(y) > 0 and all(isinstance(v, (str, int, float, np.number)) for v in y)
    return is_column and (_is_array(x) or isinstance(x, list)) and len(x) == len(y)


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) or is_frame(value) or (hasattr(value, "to_numpy"))


def _name_of(data: Any) -> str:
    return str(getattr(data, "name", None) or type(data).__name__)


def _refuse_what_is_no_dataset(data: Any) -> None:
    kind = type(data).__name__
    if isinstance(data, DataLoader):
        raise ArgumentError(
            "this is a DataLoader, which gives batches: give its dataset (loader.dataset); the batch size is set by "
            "Recipe(batch=...) and the order by datawinnow"
        )
    if isinstance(data, IterableDataset) or (not hasattr(data, "__getitem__") and hasattr(data, "__iter__")):
        raise ArgumentError(
            f"a dataset must be map-style (__len__ and __getitem__), got {kind}; a stream cannot be indexed: read it "
            "into a list first (list(dataset)) if it fits in memory, or write it to Parquet and load that"
        )
    if _is_split_dict(data):
        raise ArgumentError(
            f"this {kind} holds the splits {', '.join(map(str, data))}: give one of them, as data['train'] with "
            "test=data['test'], or take both from dw.load(data)"
        )
    if isinstance(data, (np.ndarray, Tensor)):
        raise ArgumentError(
            f"an array of shape {tuple(data.shape)} brings no labels: give the pair (x, y), with y of shape "
            f"({len(data) if data.ndim else 0},)"
        )
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise ArgumentError(f"a dataset must be map-style (__len__ and __getitem__), got {kind}")


def _choose_keys(
    keys: list[Any], image: str | None, label: str | None, place: str, features: Any = None
) -> tuple[Any, Any, tuple[str, ...]]:
    """The keys of x and of the label, and a note on what was guessed.

    A name decides where there is one, else the type in the ``features`` of a Hugging Face dataset.
    """
    y_key = label if label is not None else next((key for key in Y_KEYS if key in keys), None)
    x_key = image if image is not None else next((key for key in X_KEYS if key in keys), None)
    y_key, y_type = _only_of_type(y_key, "ClassLabel", features)
    x_key, x_type = _only_of_type(x_key, "Image", features)
    if x_key is None and len(keys) == 2 and y_key in keys:
        x_key = next(key for key in keys if key != y_key)
    for key, option in ((x_key, "image"), (y_key, "label")):
        if key is None or key not in keys:
            missing = f"no key {key!r}" if key is not None else f"no key that is known for the {option}"
            raise DataError(
                f"{place} has {missing}; its keys are {', '.join(map(str, keys))}. Name it with {option}=, as "
                f"dw.load(data, {option}=...)"
            )
    guessed = [f"x is {x_key!r}{x_type}"] if image is None else []
    guessed += [f"the label is {y_key!r}{y_type}"] if label is None else []
    return x_key, y_key, ((f"of {place}, {' and '.join(guessed)}",) if guessed else ())


def _only_of_type(key: Any, kind: str, features: Any) -> tuple[Any, str]:
    """``key``, or where it is None the only feature of a type of Hugging Face's, and that in words for a note."""
    if key is not None or not isinstance(features, Mapping):
        return key, ""
    of_splits = split_columns(features)
    names = [name for name, feature in features.items() if type(feature).__name__ == kind and name not in of_splits]
    return (names[0], f" (the only {kind})") if len(names) == 1 else (None, "")


def _from_frame(frame: Any, image: str | None, label: str | None, classes: Sequence[str] | None) -> Any:
    columns = list(frame.columns)
    y_key = label if label is not None else next((key for key in Y_KEYS if key in columns), None)
    if columns.count(y_key) > 1:
        raise DataError(
            f"the DataFrame has {columns.count(y_key)} columns called {y_key!r}; rename one, or take the others out, "
            "so that it is clear which is meant"
        )
    if y_key not in columns:
        missing = f"no column {y_key!r}" if y_key is not None else "no column that is known for the label"
        raise DataError(
            f"the DataFrame has {missing}; its columns are {', '.join(map(str, columns))}. Name it with label=, as "
            "dw.load(data, label=...)"
        )
    notes = () if label is not None else (f"of the DataFrame, the label is {y_key!r}",)
    _refuse_splits(columns, (image, y_key), lambda name: frame[name].to_numpy(), "the DataFrame")
    if image is not None:
        x = np.stack([np.asarray(value) for value in frame[image].to_numpy()])
        return _from_arrays(x, frame[y_key].to_numpy(), "frame", classes, notes)
    features = [column for column in columns if column != y_key]
    texts = [column for column in features if frame[column].to_numpy().dtype.kind not in "biuf"]
    if texts or not features:
        raise DataError(
            f"the columns {', '.join(map(str, texts)) or 'beside the label'} of the DataFrame hold no numbers: encode "
            "them (pandas.get_dummies), drop them, or write texts to a .csv file and load that"
        )
    x = np.stack([frame[column].to_numpy().astype(np.float32) for column in features], axis=1)
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"column {features[column]!r} of the DataFrame is not finite in row {row} ({len(bad):,} such values): fill "
            "them (frame.fillna), or drop those rows (frame.dropna)"
        )
    return _from_arrays(x, frame[y_key].to_numpy(), "frame", classes, notes)


def _from_arrays(x: Any, y: Any, name: str, classes: Sequence[str] | None, notes: tuple[str, ...]) -> Examples:
    """Arrays of all examples and labels in memory."""
    x, y = _to_numpy(x), _to_numpy(y)
    if len(x) != len(y):
        raise DataError(f"x has {len(x):,} examples, but y has {len(y):,} labels; they must agree")
    if not len(x):
        raise DataError("the dataset 'arrays' holds no examples")
    values, label_notes = _label_values(y)
    ids, names, class_notes = _class_ids(values, None, classes)
    images, image_notes = _images_or_vectors(x)
    augment = usual_augment(tuple(images.shape[1:])) if images.dtype is torch.uint8 else None
    notes = (*notes, *label_notes, *class_notes, *image_notes)
    return Examples(images, ids, names, name, augment=augment, notes=notes)


def _to_numpy(values: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        from_tensor: NDArray[Any] = (values.float() if values.dtype is torch.bfloat16 else values).numpy()
        return from_tensor
    if hasattr(values, "toarray"):
        raise ArgumentError("x is a sparse matrix: give it dense, as x.toarray()")
    if isinstance(values, list) and values and isinstance(values[0], Tensor):
        values = [value.detach().cpu().numpy() for value in values]
    try:
        array: NDArray[Any] = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
    except ValueError:
        raise DataError("examples differ in shape: bring them to one, or give a list of (x, y)") from None
    return array


def _images_or_vectors(x: NDArray[Any]) -> tuple[Tensor, tuple[str, ...]]:
    from datawinnow.data.npz import images_or_vectors

    if x.ndim == 1:
        x = x[:, None]
    if x.ndim == 2 and x.dtype.kind in "biu":
        x = x.astype(np.float32)  # whole numbers in columns are features, not images
    return images_or_vectors(x, "x", "the arrays")


def _from_items(data: Any, image: str | None, label: str | None, classes: Sequence[str] | None) -> Any:
    """A map-style dataset, as it is if its items are ``(x, class id)`` already."""
    if not len(data):
        raise DataError(f"the dataset {_name_of(data)!r} holds no examples")
    with forked(0, "items"):  # a random transform draws
        item = data[0]
    notes: tuple[str, ...] = ()
    if isinstance(item, Mapping):
        x_key, y_key, notes = _choose_keys(list(item), image, label, "an item of the dataset", _features(data))
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        x_key, y_key = None, 1
        if image is not None or label is not None:
            raise ArgumentError(
                "image= and label= name keys, but an item of the dataset is a pair (x, y): leave them out"
            )
        is_ready = _is_class_id(item[1]) and isinstance(item[0], (Tensor, np.ndarray, int, float))
        is_ready = is_ready and not _has_channels_last(item[0])
        is_numbered = classes is None or list(classes) == [str(c) for c in range(len(classes))]
        # or ids that its own names explain
        if is_ready and (is_numbered or _names_of_ids(data) is not None):
            return data
    else:
        length = f" of length {len(item)}" if hasattr(item, "__len__") else ""
        raise DataError(
            f"an item of the dataset must be (x, y), got {type(item).__name__}{length}; wrap it in a dataset that "
            "returns the two"
        )
    x = item[0] if x_key is None else item[x_key]
    if _has_channels_last(x):
        notes += (f"images are read as (height, width, channels): the first has shape {tuple(x.shape)}",)
    if x_key is not None:
        _refuse_splits(item, (x_key, y_key), lambda name: _values(data, name), _name_of(data))
    values = _values(data, y_key)
    missing = next((i for i, value in enumerate(values) if value is None), None)
    if missing is not None:
        raise DataError(f"the label of example {missing} is missing (None): remove such examples, or fill it in")
    labels, label_notes = _label_values(_stacked(values))
    id_names = _feature_names(data, y_key) or (_names_of_ids(data) if y_key == 1 else None)
    ids, names, class_notes = _class_ids(labels, id_names, classes)
    _as_input(x, x_key)  # refuses texts before anything is trained
    return ItemDataset(data, x_key, ids, names, _name_of(data), notes=(*notes, *label_notes, *class_notes))


def _is_class_id(y: Any) -> bool:
    """Whether a label can be used as it is: an integer of 0 or above without axes."""
    if isinstance(y, (bool, np.bool_)):
        return False
    if isinstance(y, (int, np.integer)):
        return True
    return isinstance(y, (Tensor, np.ndarray)) and y.ndim == 0 and "int" in str(y.dtype)


def _column(data: Any, key: Any) -> Any:
    """The labels of a Hugging Face dataset without decoding its images; None for another."""
    if isinstance(key, str) and key in (getattr(data, "column_names", None) or ()):
        return list(data[key])
    return None


def _values(data: Any, key: Any) -> Any:
    """The value of ``key`` in every item."""
    values = _column(data, key)
    if values is None:
        with forked(0, "items"):
            values = [data[i][key] for i in range(len(data))]
    return values


def _refuse_splits(names: Iterable[Any], used: tuple[Any, ...], values: Callable[[Any], Any], source: str) -> None:
    """Refuse data that say themselves that some of their examples are to train on and the rest are not."""
    cells = {name: values(name) for name in split_columns(names, *used)}
    refuse_split_column(
        {name: column for name, column in cells.items() if np.ndim(column) == 1},
        source,
        "give the rows of each split by themselves, those to test on as test=",
    )


def _features(data: Any) -> Mapping[str, Any]:
    """The types of the columns of a Hugging Face dataset; of another, none."""
    features = getattr(data, "features", None)
    return features if isinstance(features, Mapping) else {}


def _feature_names(data: Any, key: Any) -> tuple[str, ...] | None:
    names = getattr(_features(data).get(key), "names", None)
    return tuple(map(str, names)) if names else None


def _stacked(values: Sequence[Any]) -> NDArray[Any]:
    """Labels of single items as one array."""
    if isinstance(values[0], Tensor):
        values = [value.detach().cpu().numpy() for value in values]
    try:
        return np.asarray(values)
    except ValueError:
        raise DataError(f"labels differ in shape: {values[0]!r} first; give one class an example") from None


def _label_values(y: NDArray[Any]) -> tuple[LabelArray, tuple[str, ...]]:
    """(n,) integers or texts from labels of shape (n,), (n, 1) or one-hot (n, classes), and notes.

    Raises:
        DataError: labels that are no classes.
    """
    notes: tuple[str, ...] = ()
    shape = y.shape
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        one_hot = y.dtype.kind in "biuf" and bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())
        if not one_hot:
            raise DataError(f"labels of shape {shape} are not one class an example; {REGRESSION_HINT}")
        y, notes = y.argmax(axis=1), (f"labels are one-hot rows of {shape[1]}; class ids are their places",)
    if y.ndim != 1:
        raise DataError(f"labels must be one class an example, got shape {shape}; {REGRESSION_HINT}")
    if y.dtype.kind == "f":
        whole_numbers = np.isfinite(y) & (y == np.round(y))
        if not whole_numbers.all():
            i = int(np.argmin(whole_numbers))
            raise DataError(f"labels must be integer class ids, got {y[i]} at example {i}; {REGRESSION_HINT}")
        return y.astype(np.int64), (*notes, "labels are floating-point whole numbers, read as integers")
    if y.dtype.kind in "biu":
        return y.astype(np.int64), notes
    texts = [value.decode() if isinstance(value, bytes) else value for value in y.tolist()]
    for i, value in enumerate(texts):
        if not isinstance(value, str):
            raise DataError(f"labels must be integers or names of classes, got {value!r} at example {i}")
    return texts, notes


def _class_ids(
    values: LabelArray, names: tuple[str, ...] | None, classes: Sequence[str] | None
) -> tuple[Tensor, tuple[str, ...], tuple[str, ...]]:
    """(n,) class ids, the names of the classes, and notes."""

    def describe(row: int) -> str:
        return f"example {row}"

    if classes is not None:  # of the train split
        if names is not None and not isinstance(values, list):
            texts = [names[int(value)] for value in Classes(names, None).ids(values, describe)]
        else:
            texts = values if isinstance(values, list) else [str(value) for value in values.tolist()]
        return Classes(tuple(classes), list(classes)).ids(texts, describe), tuple(classes), ()
    train_classes = Classes.of(values, names, describe)
    return train_classes.ids(values, describe), train_classes.names, train_classes.notes


def _has_channels_last(x: Any) -> bool:
    """Whether x is an image of (height, width, channels), and cannot be one of (channels, height, width)."""
    if not isinstance(x, (Tensor, np.ndarray)) or x.ndim != 3:
        return False
    return x.shape[2] in (1, 3, 4) and x.shape[0] not in (1, 3, 4) and min(x.shape[:2]) > 4


def _as_input(x: Any, key: str | None) -> Any:
    """The input as a DataLoader can put it into a batch: a tensor, an array or a number."""
    if isinstance(x, (Tensor, np.ndarray)):
        if not _has_channels_last(x):
            return x
        return x.permute(2, 0, 1) if isinstance(x, Tensor) else np.ascontiguousarray(x.transpose(2, 0, 1))
    if isinstance(x, (int, float)):
        return x
    # an image of Hugging Face that is not decoded
    encoded = x.get("bytes") or x.get("path") if isinstance(x, Mapping) else x
    if isinstance(encoded, bytes) or (isinstance(x, Mapping) and isinstance(encoded, str)):
        return torch.from_numpy(read_image(encoded if isinstance(encoded, bytes) else Path(encoded)))
    if isinstance(x, (list, tuple)) and x and isinstance(x[0], (int, float, list)):
        return torch.tensor(x, dtype=torch.float32)
    if hasattr(x, "getbands") and hasattr(x, "convert"):  # an image of Pillow
        pixels = np.array(x if x.mode in ("L", "RGB") else x.convert("RGB"))
        return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())
    place = f"of {key!r} " if key is not None else ""
    hint = (
        "write texts to a .csv or .jsonl file, or a dataset of Hugging Face with save_to_disk, and load that"
        if isinstance(x, str)
        else "add a transform such as ToTensor"
    )
    raise DataError(f"x {place}must be a tensor (or an array), got {type(x).__name__}; {hint}")
