"""``issue_examples.parquet`` and ``learning.parquet``: what the page of an audit shows beside ``issues.parquet``."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from datawinnow.core.artifacts import write_table
from datawinnow.core.issues import ISSUE_EXAMPLES_FILE, LEARNING_FILE, IssueTable
from datawinnow.data.originals import Originals
from datawinnow.runs.evidence import moments
from datawinnow.runs.gallery import png, shortened

THUMBNAIL_SIDE = 64
"""Pixels of the longer side of an image, at most."""
IMAGE_BYTES = 13_000_000
"""Bytes of all images, which text makes a third more of; a page holds 20 MB."""
MAX_IMAGES = 20_000
TEXT_LETTERS = 300


def write_issue_examples(folder: Path, table: IssueTable, splits: Mapping[str, Any], fingerprint: str) -> Path:
    """Write the images or texts of the examples with issues, the worst of each kind first, as many as a page holds.

    Args:
        folder: where ``issues.parquet`` is.
        table: the issues.
        splits: ``"train"`` and ``"test"`` -> the dataset, as it was loaded.
        fingerprint: of the train split, as in the metadata of ``issues.parquet``.

    Returns:
        The file.
    """
    rows: list[dict[str, Any]] = []
    used = 0
    originals = {name: Originals(split) for name, split in splits.items()}
    for name, i in _places_by_turns(table):
        split = splits.get(name)
        if split is None:
            continue
        row: dict[str, Any] = {"split": name, "example": i, "image": None, "text": None, "side": None}
        if getattr(split, "texts", None):
            row["text"] = shortened(split.texts[i], TEXT_LETTERS)
        elif len(getattr(split, "shape", ())) == 3 and used < IMAGE_BYTES and len(rows) < MAX_IMAGES:
            row["image"], row["side"] = _webp(split, originals[name], i)
            used += len(row["image"] or b"")
        if row["text"] or row["image"]:
            rows.append(row)
    kinds = {"split": pa.string(), "example": pa.int64(), "image": pa.binary(), "text": pa.string(), "side": pa.int64()}
    path = folder / ISSUE_EXAMPLES_FILE
    write_table(path, pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items()))), {"fingerprint": fingerprint})
    return path


def write_learning(
    folder: Path, p_label: Tensor, fingerprint: str, labels: Mapping[str, Sequence[Any] | np.ndarray] | None = None
) -> Path:
    """Write what is known of every training example, a row each, in order; the data map shows it.

    Args:
        folder: to write into.
        p_label: (epochs, n) as recorded: its mean and its standard deviation over the epochs are written.
        fingerprint: of the dataset.
        labels: further columns by name, (n,) each, such as the probability that the label is wrong.

    Returns:
        The file.
    """
    mean, std = moments(p_label)
    columns = {**(labels or {}), "p_mean": mean.float().numpy(), "p_std": std.float().numpy()}
    write_table(folder / LEARNING_FILE, pa.table(columns), {"fingerprint": fingerprint})
    return folder / LEARNING_FILE


def _places_by_turns(table: IssueTable) -> list[tuple[str, int]]:
    """(split, position) of each example with issues once, of each kind by turns, the worst first."""
    turns: dict[str, int] = {}
    places: list[tuple[int, int, tuple[str, int]]] = []
    for issue in table:
        if issue.example >= 0:
            turn = turns.get(issue.issue, 0)
            turns[issue.issue] = turn + 1
            places.append((turn, len(places), (issue.split, issue.example)))
    return list(dict.fromkeys(place for _, _, place in sorted(places)))


def _webp(split: Any, originals: Originals, i: int) -> tuple[bytes | None, int | None]:
    """A thumbnail as bytes of WebP and its longer side; None where the example cannot be read."""
    image = originals.thumbnail(i, THUMBNAIL_SIDE)
    if image is None:
        try:
            image = Image.open(io.BytesIO(png(torch.as_tensor(np.asarray(split[i][0])))))
        except Exception:  # an image that cannot be decoded; decoders raise anything
            return None, None
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    packed = io.BytesIO()
    image.convert("RGB").save(packed, format="WEBP", quality=85)
    return packed.getvalue(), max(image.size)
