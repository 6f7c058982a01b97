"""``gallery.parquet``: images or texts of the kept, the dropped, the hardest and the most doubtful, with reasons."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from datawinnow.core.artifacts import write_table
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.originals import Originals
from datawinnow.runs.evidence import groups, moments
from datawinnow.runs.folder import RunFolder

EACH = 24
"""Images of a group."""
SIDE = 128
"""Pixels of the longer side of an image in the gallery, at most: about what the page shows."""
LETTERS = 280
"""Letters of a text in the gallery, at most."""


def is_shown(info: DatasetInfo) -> bool:
    """Whether the examples of the dataset are images (channels, height, width) or texts."""
    return (len(info.shape) == 3 and min(info.shape) > 0) or info.vocabulary is not None


def write_gallery(
    folder: RunFolder,
    info: DatasetInfo,
    selection: Selection,
    arrays: Mapping[str, Tensor],
    p_mean: Tensor,
    guess: Tensor,
    lines: list[str],
    seed: int,
) -> None:
    """Choose the examples to show, and write the file.

    Args:
        folder: a recorded run.
        info: of its dataset.
        selection: the kept examples.
        arrays: recorded arrays.
        p_mean: (n,) mean of ``p_label``.
        guess: (n,) int64, the class that the recorded network prefers; -1 for unknown.
        lines: (n,) one sentence an example.
        seed: of the draws among the kept and the dropped.
    """
    margin = moments(arrays["margin"])[0] if "margin" in arrays else p_mean
    learned = arrays["correct"][-1] == 1 if "correct" in arrays else torch.ones(folder.n, dtype=torch.bool)
    shown = groups(selection, p_mean, learned, margin, each=EACH, generator=stream(seed, "gallery"))
    train, names, classes = info.data, info.ids, folder.dataset.classes
    texts, originals = getattr(train, "texts", None), Originals(train)
    if texts is None and info.vocabulary is not None:
        return  # token ids without their texts
    rows: list[dict[str, Any]] = []
    for group, members in shown.items():
        for i in members.tolist():
            x, y = train[i]
            predicted = int(guess[i])
            rows.append(
                {
                    "group": group,
                    "id": names[i],
                    "label_name": classes[int(y)],
                    # a prediction that equals the label would only repeat it
                    "guess": "" if predicted < 0 or predicted == int(y) else classes[predicted],
                    "reason": "" if selection.reason is None else Reason(int(selection.reason[i])).word,
                    "note": lines[i],
                    "png": thumbnail(originals, i, torch.as_tensor(x)) if texts is None else None,
                    "text": None if texts is None else shortened(texts[i]),
                }
            )
    fields = [(k, pa.string()) for k in ("group", "id", "label_name", "guess", "reason", "note")]
    shown_as = ("png", pa.binary()) if texts is None else ("text", pa.string())
    table = pa.Table.from_pylist(rows, schema=pa.schema([*fields, shown_as]))
    write_table(folder.path / "gallery.parquet", table, folder.made_by("select"))


def shortened(text: str, length: int = LETTERS) -> str:
    """The beginning of a text on one line, cut between two words where it is long.

    >>> shortened("one  two\\nthree", 9)
    'one two…'
    """
    # lone surrogates (bytes that were not UTF-8) cannot be written to Parquet
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    if len(line) <= length:
        return line
    start = line[: length - 1]
    return (start.rsplit(" ", 1)[0] if " " in start[length // 2 :] else start).rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def thumbnail(originals: Originals, i: int, x: Tensor) -> bytes:
    """Example ``i`` as the bytes of a small PNG: its image in the source, else ``x`` as the network has it."""
    image = originals.thumbnail(i, SIDE)
    return png(x) if image is None else _png_bytes(image)


def png(x: Tensor) -> bytes:
    """An image (channels, height, width) as the bytes of a small PNG; numbers are stretched to the full range."""
    if x.dtype is not torch.uint8:
        x = x.float().nan_to_num()
        low, high = float(x.min()), float(x.max())
        x = ((x - low) / max(high - low, 1e-9) * 255).byte()
    x = x[:3] if len(x) >= 3 else x[:1]  # alpha and further channels are not shown, nor the second of two
    array = x.permute(1, 2, 0).numpy()
    image = Image.fromarray(np.ascontiguousarray(array[..., 0] if len(x) == 1 else array))
    # keeps the aspect ratio, and never enlarges
    image.thumbnail((SIDE, SIDE))
    return _png_bytes(image)


def _png_bytes(image: Image.Image) -> bytes:
    packed = io.BytesIO()
    image.save(packed, format="PNG", optimize=True)
    return packed.getvalue()
