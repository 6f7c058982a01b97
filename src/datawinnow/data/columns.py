"""Columns of a table: which hold images and labels, what they are called, and what is wrong with them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datawinnow.core.errors import DataError, DatawinnowError

IMAGE_NAMES = ("img", "image", "images", "image", "pixel_values")
LABEL_NAMES = ("label", "labels", "fine_label", "target", "class", "cls")
TESTS = ("test", "validation", "valid", "val", "dev")
"""Names of a test split, in the order of preference."""


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what Arrow raises about a damaged file into a `DataError` that names it."""
    try:
        yield
    except DatawinnowError:
        raise
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"no such file: {path}") from None
        first = str(error).strip().split("\n")[0][:200]
        raise DataError(f"{path} is no whole {_kind(path)} file ({first}); is it cut short? Fetch it again") from error


def _kind(path: str | Path) -> str:
    return "Parquet" if str(path).endswith(".parquet") else "Arrow"


def choose_columns(schema: Any, where: str, image: str | None, label: str | None) -> tuple[str, str]:
    """Names of the columns of images and labels, guessed unless told.

    Args:
        schema: Arrow's.
        where: the file, for errors.
        image: the column told by the user, or None.
        label: likewise.

    Raises:
        DataError: not there; the error lists the columns that are.
    """
    have = list(schema.names)
    images = [n for n in have if holds_images(schema.field(n).type)]
    found_image = image or next((n for n in IMAGE_NAMES if n in images), images[0] if len(images) == 1 else None)
    found_label = label or next((n for n in LABEL_NAMES if n in have), None)
    for what, found, option in (("images", found_image, "image"), ("labels", found_label, "label")):
        if found is None or found not in have:
            missing = f"no column {found!r}" if found else f"no column of {what}"
            raise DataError(
                f"{where} has {missing}; its columns are {', '.join(have) or 'none'}. Name the column of {what} with "
                f"{option}= (--{option})"
            )
    assert found_image is not None  # checked above, as is the label
    assert found_label is not None
    if not holds_images(schema.field(found_image).type):
        raise DataError(
            f"column {found_image!r} of {where} holds {schema.field(found_image).type}, not encoded images (binary, "
            "or a struct with bytes); name another with image= (--image)"
        )
    return found_image, found_label


def holds_images(kind: Any) -> bool:
    """Whether a column of this type may hold encoded images."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name in ("bytes", "path") for i in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Names of a ``ClassLabel`` column from the ``huggingface`` metadata, where there are any."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def label_values(column: Any, name: str, where: Callable[[int], str]) -> NDArray[np.int64] | list[str]:
    """A column of labels as integers, or as texts.

    Args:
        column: Arrow's chunked array.
        name: of the column.
        where: a row number in words.

    Raises:
        DataError: a missing label, or neither integers nor texts; the row is named.
    """
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(
            f"the label of {where(row)} is missing ({column.null_count:,} such in column {name!r}); remove those rows"
        )
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return np.asarray(column.to_numpy()).astype(np.int64)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return [str(v) for v in column.to_pylist()]
    raise DataError(
        f"labels must be integers or names of classes, but column {name!r} holds {kind} ({column[0].as_py()!r} in "
        f"{where(0)}); convert it, or name another with label= (--label)"
    )


def row_in_words(row: int, paths: Sequence[str], starts: Sequence[int]) -> str:
    """``row`` of the concatenated files as "row 3 of FILE"."""
    file = bisect_right(starts, row) - 1
    return f"row {row - starts[file]} of {paths[file]}"


def open_arrow(path: str) -> Any:
    """A memory-mapped table from an Arrow stream file.

    Raises:
        DataError: no such file, or damaged.
    """
    with reading(path):
        return pa.ipc.open_stream(pa.memory_map(path)).read_all()
