"""``.npz``: arrays of images or numbers, and of labels."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import ReadOptions, check_classes, hold_out, limited, usual_augment
from datawinnow.data.digits import train_and_test
from datawinnow.data.examples import Augment, Examples, Origin, short_name
from datawinnow.data.labels import Classes

SPLIT_KEYS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)
WHOLE_KEYS = (("images", "labels"), ("x", "y"), ("X", "y"), ("data", "target"))
CHANNELS = (1, 3, 4)

Arrays = dict[str, NDArray[Any]]


def load_npz(path: Path, options: ReadOptions) -> tuple[Examples, Examples]:
    """Read arrays under ``x_train, y_train, x_test, y_test``, or ``images, labels``, or ``x, y``.

    An optional array ``classes`` of texts names the classes.

    Args:
        path: the file, or a folder with ``train.npz`` and perhaps ``test.npz``.
        options: of `load`; ``image`` and ``label`` name the arrays.

    Raises:
        DataError: damaged or pickled arrays, missing ones, different lengths, labels that are no integers, images
            whose channels cannot be told.
    """
    test_path = None
    if path.is_dir():
        test_path = path / "test.npz" if (path / "test.npz").is_file() else None
        path = path / "train.npz"
    arrays = read_npz(path)
    x_key, y_key, *rest = _keys(arrays, path, options)
    test_keys = tuple(rest)
    labels = _label_array(arrays[y_key], y_key, path)
    x, notes = _examples(arrays[x_key], x_key, path)
    _same_length(x, x_key, labels, y_key, path)
    tests, test_where = arrays, path
    if test_path is not None:
        tests, test_where = read_npz(test_path), test_path
        test_keys = _keys(tests, test_path, options)[:2]

    def where(row: int) -> str:
        return f"row {row} of {y_key!r} in {path}"

    names = tuple(map(str, arrays["classes"].tolist())) if "classes" in arrays else None
    classes = Classes.of(labels, names, where)
    ids = classes.ids(labels, where)
    notes += classes.notes
    name = short_name(path)
    notes += check_classes(ids, classes.names, name)
    origin = Origin("npz", str(path), (str(path),), None, {"image": x_key, "label": y_key})
    every = Examples(x, ids, classes.names, name, augment=_augment_of(x), origin=origin, notes=notes)
    if not test_keys:
        first, second, note = hold_out(ids, options.holdout, options.seed)
        return train_and_test(replace(every, notes=(*notes, note)), first, second, options)
    test = _test_split(every, tests, test_keys, test_where, classes)
    train = limited(every, options)
    assert isinstance(train, Examples)  # what goes in comes out
    return train, test


def read_npz(path: Path) -> Arrays:
    """Every array of an ``.npz``; never unpickles.

    Raises:
        DataError: not a complete zip file, or an array that needs pickle (named).
    """
    arrays: Arrays = {}
    # the array that is read at the moment, for the errors
    key = ""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path} holds one array; an .npz with images and labels is needed (numpy.savez)")
        with file:
            for key in file.files:
                arrays[key] = file[key]
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except ValueError as error:
        # DataError is a ValueError too
        if isinstance(error, DataError):
            raise
        if "pickle" in str(error):
            place = f"array {key!r} of {path}" if key else str(path)
            raise DataError(
                f"{place} is pickled (an array of Python objects, or no .npz at all); unpickling runs code, so it is "
                "refused. Save numbers: numpy.savez(file, x=x.astype('uint8'), y=y.astype('int64'))"
            ) from None
        raise DataError(
            f"{path} is not a complete .npz file ({error}); it may be truncated: save or fetch it again"
        ) from error
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        raise DataError(
            f"{path} is not a complete .npz file ({error}); it may be truncated: save or fetch it again"
        ) from error
    except MemoryError as error:
        raise DataError(f"array {key!r} of {path} does not fit in memory; save images as files or Parquet") from error
    return arrays


def _keys(arrays: Arrays, path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Names of images and labels, and of the test split's where there is one."""
    for keys in SPLIT_KEYS:
        if options.image is None and options.label is None and all(k in arrays for k in keys[:2]):
            return keys if all(k in arrays for k in keys[2:]) else keys[:2]
    guess = next((k for k in WHOLE_KEYS if all(name in arrays for name in k)), (None, None))
    x_key, y_key = options.image or guess[0], options.label or guess[1]
    if x_key in arrays and y_key in arrays:
        return str(x_key), str(y_key)
    raise DataError(
        f"{path} has the arrays {', '.join(arrays) or 'none'}; needed are x_train and y_train (with x_test and "
        "y_test), or images and labels, or x and y. Name others with image= and label= (--image, --label)"
    )


def _test_split(every: Examples, arrays: Arrays, keys: Any, path: Path, classes: Classes) -> Examples:
    x_key, y_key = keys
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

    ids = classes.ids(labels, where)
    origin = Origin("npz", str(path), (str(path),), None, {"image": x_key, "label": y_key})
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
                f"{key!r} of {path} is not finite in row {int(bad.float().argmax())} ({int(bad.sum())} such)"
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
        if array.dtype.kind not in "iu" or not array.size or array.min() < 0 or array.max() > 255:
            raise DataError(
                f"{key!r} of {path} must be uint8 images (0 to 255) or floating-point vectors, got {array.dtype}"
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
