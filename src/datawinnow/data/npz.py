"""``.npz``: arrays of images or numbers, and of labels."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import ReadOptions, check_classes, hold_out, limited, one_split, usual_augment
from datawinnow.data.digits import train_and_test
from datawinnow.data.examples import Augment, Examples, Origin, short_name
from datawinnow.data.labels import Classes, read_labels
from datawinnow.data.memory import available_memory
from datawinnow.data.splits import (
    choose_splits,
    is_hidden,
    refuse_split_column,
    split_and_rest,
    split_columns,
    split_of,
)

PAIRS = (("images", "labels"), ("x", "y"), ("data", "target"), ("data", "labels"), ("inputs", "targets"))
"""Names of the arrays of examples and of labels; in a name of a split, the word for the split is left out."""
CHANNELS = (1, 3, 4)

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ArraysOfSplit:
    """Where the arrays of a split are.

    Attributes:
        path: the file.
        image: name of the array of examples.
        label: name of the array of labels; ``""`` for a split without labels.
    """

    path: Path
    image: str
    label: str


def load_npz(path: Path, options: ReadOptions) -> tuple[Examples, Examples]:
    """Read arrays such as ``x_train, y_train, x_test, y_test``, ``train_images, train_labels``, or ``x, y``.

    An optional array ``classes`` of texts names the classes. Other arrays are not read.

    Args:
        path: the file, or a folder with one for each split: ``train.npz`` and perhaps ``test.npz``.
        options: of `load`; ``image`` and ``label`` name the arrays.

    Raises:
        DataError: damaged or pickled arrays, missing ones, different lengths, labels that are no integers, images
            whose channels cannot be told, arrays that do not fit in memory.
    """
    source = path
    splits = _splits_of_folder(path, options) if path.is_dir() else _splits_of_file(path, options)

    def is_labelled(_: str, name: str) -> bool:
        arrays = splits[name]
        if not arrays.label:
            return False
        y = read_npz(arrays.path, [arrays.label]).get(arrays.label)
        return y is not None and not (y.dtype.kind == "i" and bool((y < 0).all()))

    choice = choose_splits(splits, str(source), is_labelled, only=options.only)
    train = splits[choice.train]
    path, x_key, y_key = train.path, train.image, train.label
    arrays = read_npz(path, [x_key, y_key, "classes"])
    labels = _label_array(arrays[y_key], y_key, path)
    x, notes = _examples(arrays[x_key], x_key, path)
    notes = choice.notes + notes
    _same_length(x, x_key, labels, y_key, path)

    def where(row: int) -> str:
        return f"row {row} of {y_key!r} in {path}"

    split_names = split_columns(array_names(path), x_key, y_key)
    refuse_split_column(
        {name: array.tolist() for name, array in read_npz(path, split_names).items() if array.shape == (len(x),)},
        str(path),
        "save the rows of each split as arrays of their own: x_train, y_train, x_test, y_test",
    )
    names = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else None
    if isinstance(labels, list):
        labels, label_notes = read_labels(labels, () if names else options.kept_classes)
        notes += label_notes
    classes = Classes.of(labels, names, where, options.kept_classes)
    ids = classes.ids(labels, where)
    notes += classes.notes
    name = short_name(source)
    if options.only != "test":
        notes += check_classes(ids, classes.names, name)
    # file, array of examples and array of labels of each
    unused = {k: (str(splits[k].path), splits[k].image, splits[k].label) for k in choice.unused}
    columns = {"image": x_key, "label": y_key}
    origin = Origin("npz", str(path), (str(path),), None, columns, split=choice.train, unused=unused, num_rows=len(x))
    every = Examples(x, ids, classes.names, name, augment=_augment_of(x), origin=origin, notes=notes)
    if options.only:
        return one_split(every, options)
    if not choice.test:
        first, second, note = hold_out(ids, options.holdout, options.seed)
        return train_and_test(replace(every, notes=(*notes, note)), first, second, options)
    test = _test_split(every, splits[choice.test], choice.test, classes)
    limited_train = limited(every, options)
    assert isinstance(limited_train, Examples)  # what goes in comes out
    return limited_train, test


def find_npz(folder: Path) -> dict[str, Path]:
    """The ``.npz`` files of a folder whose names mean a split, by name; empty if none means train."""
    if not folder.is_dir():
        return {}
    files = {
        path.stem: path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == ".npz" and not is_hidden(path.name) and split_of(path.stem) and path.is_file()
    }
    return files if any(split_of(name) == "train" for name in files) else {}


def _splits_of_folder(folder: Path, options: ReadOptions) -> dict[str, ArraysOfSplit]:
    splits = {}
    for name, path in find_npz(folder).items():
        arrays = _splits_of_file(path, options, may_lack_labels=split_of(name) != "train")
        # a file may name its arrays after its split as well
        splits[name] = arrays.get("") or next(iter(arrays.values()))
    return splits


def _splits_of_file(path: Path, options: ReadOptions, *, may_lack_labels: bool = False) -> dict[str, ArraysOfSplit]:
    """The splits whose arrays are in a file, by the word in the arrays' names; ``""`` for names without one.

    Args:
        path: the file.
        options: of `load`.
        may_lack_labels: whether the file may be a split without labels, whose arrays have no word for a split.
    """
    names = array_names(path)
    if options.image is not None or options.label is not None:
        guess = _pair_in({name.casefold(): name for name in names}, options)
        pair = guess or (options.image or "", options.label or "")
        if pair[0] in names and pair[1] in names:
            return {"": ArraysOfSplit(path, *pair)}
    else:
        by_split: dict[str, dict[str, str]] = {}
        for name in names:
            split, rest = split_and_rest(name)
            # of X and x, the first counts
            by_split.setdefault(split, {}).setdefault(rest.casefold(), name)
        pairs = {split: arrays for split, keys in by_split.items() if (arrays := _pair_in(keys, options)) is not None}
        has_train = any(split_of(split) == "train" for split in pairs)
        splits = {split: ArraysOfSplit(path, *pair) for split, pair in pairs.items() if split or not has_train}
        unlabelled = {
            split: ArraysOfSplit(path, x, "")
            for split, keys in by_split.items()
            if split not in pairs and (split_of(split) != "train" if split else may_lack_labels)
            if (x := next((keys[name] for name, _ in PAIRS if name in keys), None)) is not None
        }
        if has_train or "" in splits or (may_lack_labels and unlabelled) or (options.only == "test" and splits):
            return {**splits, **unlabelled}
    raise DataError(
        f"{path} has the arrays {', '.join(names) or 'none'}; needed are x_train and y_train (with x_test and "
        "y_test), or images and labels, or x and y. Name others with `image=` and `label=`"
    )


def _pair_in(keys: Mapping[str, str], options: ReadOptions) -> tuple[str, str] | None:
    """The arrays of examples and labels, of names by what is left without the word for a split."""
    for x, y in PAIRS:
        pair = options.image or keys.get(x), options.label or keys.get(y)
        if pair[0] is not None and pair[1] is not None:
            return pair[0], pair[1]
    return None


def _zip_member(name: str) -> str:
    return f"{name}.npy"


@contextmanager
def _npz_errors(path: Path) -> Iterator[None]:
    """Convert the errors of a damaged file to a `DataError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except DataError:  # a ValueError too
        raise
    except (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        raise DataError(
            f"{path} is not a complete .npz file ({error}); it may be truncated: save or fetch it again"
        ) from error


def array_names(path: Path) -> list[str]:
    """Names of the arrays in an ``.npz``, in their order; nothing is unpacked.

    Raises:
        DataError: no such file, another kind of file, or a truncated one.
    """
    with _npz_errors(path):
        with path.open("rb") as file:
            start = file.read(6)
        if start == b"\x93NUMPY":
            raise DataError(f"{path} holds one array; an .npz with images and labels is needed (numpy.savez)")
        if start[:1] == b"\x80":
            raise DataError(
                f"{path} is pickled (no .npz at all); unpickling runs code, so it is refused. {SAVE_NUMBERS}"
            )
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist() if name.endswith(".npy")]


SAVE_NUMBERS = "Save numbers: numpy.savez(file, x=x.astype('uint8'), y=y.astype('int64'))"


def read_npz(path: Path, names: Sequence[str] | None = None) -> Arrays:
    """Arrays of an ``.npz``; never unpickles.

    The size of each is checked before it is unpacked, so that a small file cannot fill the memory.

    Args:
        path: the file.
        names: of the arrays that are read, where they are present; None for all.

    Raises:
        DataError: not a complete zip file, an array that needs pickle (named), or one that does not fit in memory.
    """
    present = array_names(path)
    arrays: Arrays = {}
    with _npz_errors(path), zipfile.ZipFile(path) as file:
        for name in [name for name in dict.fromkeys(present) if names is None or name in names]:
            info = file.getinfo(_zip_member(name))
            with file.open(info) as member:
                size, is_pickled = _array_size(member)
            if is_pickled:
                raise DataError(
                    f"array {name!r} of {path} is pickled (an array of Python objects); unpickling runs code, so it is "
                    f"refused. {SAVE_NUMBERS}"
                )
            if size > info.file_size:
                raise DataError(f"array {name!r} of {path} is truncated: {info.file_size:,} of {size:,} bytes")
            free = available_memory()
            if size > free:
                raise DataError(
                    f"array {name!r} of {path} takes {size / 1e9:.3g} GB, and {free / 1e9:.3g} GB of memory are free; "
                    "save images as files or Parquet"
                )
            try:
                with file.open(info) as member:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
            except MemoryError as error:
                raise DataError(
                    f"array {name!r} of {path} does not fit in memory; save images as files or Parquet"
                ) from error
    return arrays


def _array_size(member: Any) -> tuple[int, bool]:
    """Bytes of an array as its header says, and whether it is pickled.

    Raises:
        ValueError: no header of an array.
    """
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    return math.prod(shape) * dtype.itemsize, dtype.hasobject


def _test_split(every: Examples, split: ArraysOfSplit, name: str, classes: Classes) -> Examples:
    path, x_key, y_key = split.path, split.image, split.label
    arrays = read_npz(path, [x_key, y_key])
    labels = _label_array(arrays[y_key], y_key, path)
    x, _ = _examples(arrays[x_key], x_key, path)
    _same_length(x, x_key, labels, y_key, path)
    if x.shape[1:] != every.x.shape[1:] or x.dtype != every.x.dtype:
        raise DataError(
            f"{path}: examples of {x_key!r} are {x.dtype} of shape {tuple(x.shape[1:])}, but those to train on "
            f"{every.x.dtype} of shape {every.shape}; both must be alike"
        )

    def where(row: int) -> str:
        return f"row {row} of {y_key!r} in {path}"

    if isinstance(labels, list):
        labels = read_labels(labels, () if classes.values is None else classes.names)[0]
    ids = classes.ids(labels, where)
    origin = Origin("npz", str(path), (str(path),), None, {"image": x_key, "label": y_key}, split=name, num_rows=len(x))
    return replace(every, x=x, labels=ids, split="test", origin=origin)


def _label_array(array: NDArray[Any], key: str, path: Path) -> NDArray[np.int64] | list[str]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"labels {key!r} of {path} must have shape (n,), got {array.shape}; one-hot rows become ids with argmax(1)"
        )
    if not len(array):
        raise DataError(f"labels {key!r} of {path} are empty")
    if array.dtype.kind == "U":
        return [str(v) for v in array.tolist()]
    if array.dtype.kind == "S":
        try:
            return [v.decode() for v in array.tolist()]
        except UnicodeDecodeError as error:
            raise DataError(f"labels {key!r} of {path} are bytes that are not UTF-8 ({error.object!r:.60})") from None
    if array.dtype.kind == "f":
        broken = np.flatnonzero(~np.isfinite(array) | (array != np.floor(array)))
        if not len(broken):
            return array.astype(np.int64)
        row = int(broken[0])
        raise DataError(
            f"label {array[row]} in row {row} of {key!r} in {path} is not a whole number ({len(broken):,} such); "
            "labels are integers, or names of classes"
        )
    if array.dtype.kind not in "biu":
        raise DataError(
            f"labels {key!r} of {path} must be integers (or names of classes), got {array.dtype} ({array[0]!r} in row "
            "0); convert them: y.astype('int64')"
        )
    return array.astype(np.int64)


def _examples(array: NDArray[Any], key: str, path: Path) -> tuple[Tensor, tuple[str, ...]]:
    """uint8 images as (n, c, h, w), or float32 numbers; and what was decided."""
    if array.dtype.kind == "f":
        values = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        bad = ~torch.isfinite(values.flatten(1) if values.ndim > 1 else values[:, None]).all(dim=1)
        if bool(bad.any()):
            raise DataError(
                f"{key!r} of {path} is not finite in row {int(bad.float().argmax())} ({int(bad.sum())} such): fill "
                "such numbers, or write the file without those rows"
            )
        if values.ndim < 2:
            raise DataError(f"{key!r} of {path} must have shape (n, d), got {array.shape}")
        if values.ndim == 2:
            return values, ()
        images, notes = _channels_first(values, key, path)
        return images, (*notes, f"{key!r} holds numbers, not bytes: used as they are, without augmentation")
    notes = ()
    if array.dtype != np.uint8:
        # the minimum of an empty array would raise
        is_wide = array.dtype.kind in "iu" and array.size > 0 and array.min() >= 0 and array.max() > 255
        advice = f"; scale them: (x / {int(array.max())} * 255).astype('uint8')" if is_wide else ""
        if array.dtype.kind not in "iu" or not array.size or array.min() < 0 or array.max() > 255:
            raise DataError(
                f"{key!r} of {path} must be uint8 images (0 to 255) or floating-point vectors, got {array.dtype}"
                f"{advice}"
            )
        notes = (f"{key!r} is {array.dtype} with values of a byte; read as uint8",)
        array = array.astype(np.uint8)
    images, channel_notes = _channels_first(torch.from_numpy(np.ascontiguousarray(array)), key, path)
    return images, notes + channel_notes


def _channels_first(x: Tensor, key: str, path: Path) -> tuple[Tensor, tuple[str, ...]]:
    """(n, h, w), (n, h, w, c) or (n, c, h, w) as (n, c, h, w)."""
    if x.ndim == 3:
        return x[:, None], ()
    if x.ndim != 4:
        raise DataError(
            f"{key!r} of {path} must have shape (n, h, w), (n, h, w, c) or (n, c, h, w), got {tuple(x.shape)}; vectors "
            "must be floating-point"
        )
    first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
    # a shape such as (n, 3, 32, 3) fits both orders
    if first == last:
        why = "both the second and the last axis" if first else "neither the second nor the last axis"
        raise DataError(
            f"cannot tell the channels of {key!r} in {path}, shape {tuple(x.shape)}: {why} could be channels "
            "(1, 3 or 4)"
        )
    if first:
        return x, ()
    return x.permute(0, 3, 1, 2).contiguous(), (f"{key!r} is read as (n, height, width, channels)",)


def _same_length(x: Tensor, x_key: str, labels: Any, y_key: str, path: Path) -> None:
    if len(x) != len(labels):
        raise DataError(f"{path}: {x_key!r} has {len(x)} rows, but {y_key!r} has {len(labels)}; they must agree")


def _augment_of(x: Tensor) -> Augment | None:
    return usual_augment(tuple(x.shape[1:])) if x.dtype is torch.uint8 else None


def images_or_vectors(array: NDArray[Any], key: str, source: str) -> tuple[Tensor, tuple[str, ...]]:
    """An array of examples as `load_npz` reads it: uint8 images (n, c, h, w) or float32 numbers, and notes.

    Args:
        array: (n, ...) floating-point numbers or bytes.
        key: name of the array, for errors.
        source: where it is from, for errors.

    Raises:
        DataError: values that are not finite, or images whose channels cannot be told.
    """
    return _examples(array, key, Path(source))
