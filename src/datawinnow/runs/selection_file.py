"""The Parquet files of a run folder: written whole, with their making in the schema; read strictly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from datawinnow.core.artifacts import read_table, write_table
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection

MAKE = "datawinnow select RUN --keep 0.3"


def selection_digest(selection: Selection) -> str:
    """16 hex digits of a hash over which examples are kept, in which order, with what weight."""
    return hashlib.sha256(selection.index.numpy().tobytes() + selection.weight.numpy().tobytes()).hexdigest()[:16]


def write_selection(
    path: Path,
    selection: Selection,
    *,
    ids: list[str],
    labels: Tensor,
    meta: Mapping[str, Any],
    notes: list[str] | None = None,
    p_mean: Tensor | None = None,
    p_std: Tensor | None = None,
) -> None:
    """``selection.parquet``: every id, kept or not, order, weight, reason and the evidence.

    Args:
        path: file.
        selection: the kept examples.
        ids: (n,) names of the examples.
        labels: (n,) int64.
        meta: method, options, keep, seed, fingerprint and so on.
        notes: (n,) one sentence an example.
        p_mean: (n,) mean of ``p_label`` over epochs.
        p_std: (n,) its standard deviation.
    """
    n = len(ids)
    # -1 for examples that are not kept
    order = np.full(n, -1, dtype=np.int64)
    order[selection.index.numpy()] = np.arange(len(selection))
    weight = np.zeros(n, dtype=np.float32)
    weight[selection.index.numpy()] = selection.weight.numpy()
    codes = selection.reason if selection.reason is not None else Selection.of(selection.index, n).reason
    assert codes is not None
    words = np.array([r.word for r in Reason])
    # code -> position in `words`; codes are int8, so below 128
    lookup = np.zeros(128, dtype=np.int64)
    for i, r in enumerate(Reason):
        lookup[int(r)] = i
    blank = np.full(n, np.nan, dtype=np.float32)
    table = pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "label": pa.array(labels.numpy()),
            "kept": pa.array(order >= 0),
            "order": pa.array(order),
            "weight": pa.array(weight),
            "reason": pa.array(words[lookup[codes.numpy()]].tolist(), pa.string()),
            "note": pa.array(notes if notes is not None else [""] * n, pa.string()),
            "p_mean": pa.array(blank if p_mean is None else p_mean.float().numpy()),
            "p_std": pa.array(blank if p_std is None else p_std.float().numpy()),
        }
    )
    write_table(path, table, meta)


def read_selection(path: Path, *, fingerprint: str | None = None, name: str = "") -> tuple[Selection, dict[str, Any]]:
    """The selection in a file (or in a run folder), in the order chosen.

    Args:
        path: ``selection.parquet``, or the run folder that holds it.
        fingerprint: of the dataset it is to be used on; a mismatch is refused.
        name: of that dataset.

    Raises:
        RunError: no such file, truncated, not a selection, or of another dataset.
    """
    path = path / "selection.parquet" if path.is_dir() else path
    table, meta = read_table(path, MAKE)
    missing = [c for c in ("id", "kept", "order", "weight", "reason") if c not in table.column_names]
    if missing:
        raise RunError(f"{path} is not a selection: it lacks the columns {', '.join(missing)}")
    if fingerprint is not None and meta.get("fingerprint") != fingerprint:
        raise RunError(
            f"{path} was selected from the dataset {meta.get('dataset')!r} (fingerprint "
            f"{meta.get('fingerprint')}), not from {name!r} (fingerprint {fingerprint})"
        )
    order = table.column("order").to_numpy()
    kept = np.flatnonzero(order >= 0)
    index = kept[np.argsort(order[kept], kind="stable")]
    # positions 0 to m - 1, each once
    consecutive = np.array_equal(order[index], np.arange(len(index)))
    if not consecutive or not np.array_equal(order >= 0, table.column("kept").to_numpy()):
        raise RunError(f"{path} is damaged: its columns kept and order do not agree; make it again with: {MAKE}")
    weight = table.column("weight").to_numpy()[index].astype(np.float32)
    codes = {r.word: int(r) for r in Reason}
    try:
        reason = torch.tensor([codes[w] for w in table.column("reason").to_pylist()], dtype=torch.int8)
        selection = Selection(torch.from_numpy(index.astype(np.int64)), torch.from_numpy(weight), reason)
    except KeyError as error:
        raise RunError(f"{path} has the unknown reason {error}; make it again with: {MAKE}") from None
    except ArgumentError as error:
        raise RunError(f"{path} is damaged: {error}; make it again with: {MAKE}") from None
    return selection, meta
