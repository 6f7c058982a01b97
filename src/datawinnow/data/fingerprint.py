"""Fingerprint and labels of any map-style dataset."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import derive, forked

LABELS, SAMPLE = 256, 64
"""Items read for labels without a ``labels`` attribute, and items whose x is read."""


def fingerprint_of(dataset: Any) -> str:
    """The ``fingerprint`` of a dataset, or a hash of its type, length, labels and a sample of its x.

    Without an attribute ``labels`` or ``targets``, labels are read from up to 256 items. Of up to 64 evenly spaced x,
    the hash covers types and shapes, and also their content if reading an item twice gives the same: what is drawn
    anew at each access does not identify a dataset.

    Args:
        dataset: map-style, of ``(x, y)``.

    Returns:
        16 hex digits.

    Raises:
        ArgumentError: it has no length.
    """
    fingerprint = getattr(dataset, "fingerprint", None)
    if isinstance(fingerprint, str):
        return fingerprint
    check_map_style(dataset)
    n = len(dataset)
    digest = hashlib.sha256(f"{type(dataset).__name__} {n}".encode())
    labels = labels_of(dataset)
    if labels is not None:
        digest.update(labels.numpy().tobytes())
    with _drawing_alike():
        if labels is None:
            digest.update(str([int(dataset[i][1]) for i in range(0, n, max(1, n // LABELS))]).encode())
        # a set: of fewer than 64 items each is taken once
        sample = sorted({k * n // SAMPLE for k in range(SAMPLE)}) if n else []
        # read twice in a row, from a state that goes on: a random transform gives two different items
        twice = [(_form_and_content(dataset[i]), _form_and_content(dataset[i])) for i in sample]
    # a shape that differs between two reads of an item does not identify the dataset
    forms = [one[0] if one[0] == other[0] else "" for one, other in twice]
    contents = [one[1] for one, _ in twice] if all(one == other for one, other in twice) else []
    digest.update(str((forms, contents)).encode())
    return digest.hexdigest()[:16]


@contextmanager
def _drawing_alike() -> Iterator[None]:
    """Whatever draws from a global generator (a transform) draws the same every time; their states are put back."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # the state that others draw from
    seed = derive(0, "fingerprint")
    try:
        with forked(0, "fingerprint"):
            random.seed(seed)
            # numpy takes 32 bits
            np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _form_and_content(item: Any) -> tuple[str, str]:
    """Type and shape of an item's x, and a hash of its content; ``""`` where that is of no known kind."""
    x = item[0] if isinstance(item, (tuple, list)) and item else item
    form = f"{type(x).__name__} {getattr(x, 'dtype', '')} {tuple(getattr(x, 'shape', ()))}"
    content = b""
    if isinstance(x, Tensor):
        if x.layout is torch.strided:
            # as bytes: numpy has no bfloat16
            content = x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(x, (str, int, float)):
        content = str(x).encode()
    elif callable(getattr(x, "tobytes", None)) and not getattr(getattr(x, "dtype", None), "hasobject", False):
        content = x.tobytes()  # an array (of objects it would be their addresses), or an image of Pillow
    return form, hashlib.sha256(content).hexdigest() if content else ""


def labels_of(dataset: Any) -> Tensor | None:
    """(n,) int64 labels from the attribute ``labels`` or ``targets``; None without one of the dataset's length."""
    for name in ("labels", "targets"):
        labels = getattr(dataset, name, None)
        if labels is not None and hasattr(labels, "__len__") and len(labels) == len(dataset):
            return check.labels(name, labels)
    return None


def check_map_style(dataset: Any) -> None:
    """Refuse a dataset without length or without items by number.

    Raises:
        ArgumentError: naming the type.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise ArgumentError(
            f"a dataset must be map-style (__len__ and __getitem__), got {type(dataset).__name__}; "
            "a stream cannot be indexed"
        )
