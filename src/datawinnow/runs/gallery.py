"""``gallery.parquet``: images or texts of the kept, the dropped, the hardest and the most doubtful, with reasons."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from datawinnow.core.artifacts import write_table
from datawinnow.core.reason import Reason
from datawinnow.core.rng import forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.batches import batches_of
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.originals import Originals
from datawinnow.runs.evidence import groups, moments
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import network_of_run
from datawinnow.train.build import Model
from datawinnow.train.checkpoint import load_checkpoint, read_metadata

EACH = 24
"""Images of a group."""
SIDE = 128
"""Pixels of the longer side of an image in the gallery, at most: about what the page shows."""
NETWORK_FILE = "model.safetensors"
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
    lines: list[str],
    seed: int,
    *,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    log: Callable[[str], None] | None = None,
) -> None:
    """Choose the examples to show, predict their classes with the recorded network, and write the file.

    Args:
        folder: a recorded run.
        info: of its dataset.
        selection: the kept examples.
        arrays: recorded arrays.
        p_mean: (n,) mean of ``p_label``.
        lines: (n,) one sentence an example.
        seed: of the draws among the kept and the dropped.
        model: the function that made the network, or its ``"module:function"``, where the run recorded with one;
            without it the gallery has no predictions.
        model_options: options of that function.
        log: called where there are no predictions.

    Raises:
        RunError: the recorded network is damaged, or of another dataset.
    """
    margin = moments(arrays["margin"])[0] if "margin" in arrays else p_mean
    learned = arrays["correct"][-1] == 1 if "correct" in arrays else torch.ones(folder.n, dtype=torch.bool)
    shown = groups(selection, p_mean, learned, margin, each=EACH, generator=stream(seed, "gallery"))
    # an example may be in several groups; its class is predicted once
    ids = torch.unique(torch.cat(list(shown.values())))
    guesses = dict(zip(ids.tolist(), _guesses(folder, info, ids, model, model_options), strict=True))
    if log is not None and ids.numel() and guesses[int(ids[0])] is None and (folder.path / NETWORK_FILE).exists():
        log("gallery: without the network's predictions, since the function that made it is not given (`model=`)")
    train, names, classes = info.data, info.ids, folder.dataset.classes
    texts, originals = getattr(train, "texts", None), Originals(train)
    if texts is None and info.vocabulary is not None:
        return  # token ids without their texts
    rows: list[dict[str, Any]] = []
    for group, members in shown.items():
        for i in members.tolist():
            x, y = train[i]
            guess = guesses[i]
            rows.append(
                {
                    "group": group,
                    "id": names[i],
                    "label_name": classes[int(y)],
                    # a prediction that equals the label would only repeat it
                    "guess": "" if guess is None or guess == int(y) else classes[guess],
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


@torch.no_grad()
def _guesses(
    folder: RunFolder, info: DatasetInfo, ids: Tensor, model: Model, options: Mapping[str, Any] | None
) -> list[int | None]:
    """The class that the recorded network prefers; None where the network cannot be built again from its name.

    Raises:
        RunError: the network in the run folder is damaged, or was trained on another dataset.
    """
    unknown: list[int | None] = [None] * len(ids)
    path = folder.path / NETWORK_FILE
    if not info.classes or not path.exists():  # a method that needs no recording
        return unknown
    folder.check_made(read_metadata(path), path)
    try:
        with forked(0, "weights"):  # which are replaced
            network = network_of_run(folder, model, options)
        load_checkpoint(path, network, None)
    except Exception:  # a function that is not given again: a guess must not stop a selection
        return unknown
    network.eval()
    train = info.data
    subset = train.subset(ids) if hasattr(train, "subset") else Subset(train, ids.tolist())
    guesses: list[int | None] = []
    for _, x, _ in batches_of(subset, torch.device("cpu"), workers=0).test(256):
        guesses += network(x).argmax(1).tolist()
    return guesses


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
