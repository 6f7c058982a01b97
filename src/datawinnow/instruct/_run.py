"""The run folder of ``datawinnow instruct``: what was chosen and why, what the labels know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from datawinnow.core.artifacts import read_json, write_json, write_table
from datawinnow.core.errors import RunError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.instruct.choose import Clustered
from datawinnow.instruct.leave_one_out import LeftOut
from datawinnow.instruct.pairs import Pairs
from datawinnow.instruct.scoring import Pool, Scored

FACTS, SELECTION, KNOWN = "instruct.json", "selection.parquet", "known.json"
SHOWN, LETTERS = 12, 700
"""Texts of a kind on the page, and letters of each."""


def notes_of(score: Tensor, clustered: Clustered, selection: Selection) -> list[str]:
    """For every pair its place in its cluster (or among all), and how many of it were kept: the evidence."""
    values = score.double().numpy()
    n = len(values)
    label = np.zeros(n, dtype=np.int64) if clustered.label is None else clustered.label.numpy()
    kept = selection.mask(n).numpy()
    notes = [""] * n
    for group in np.unique(label):
        members = np.flatnonzero((label == group) & ~np.isnan(values))
        order = members[np.argsort(-values[members], kind="stable")]
        where = "" if clustered.label is None else f" of cluster {group}"
        taken = int(kept[order].sum())
        for rank, i in enumerate(order.tolist()):
            notes[i] = f"score {values[i]:.4g}, {rank + 1:,}. of {len(order):,}{where}, {taken:,} of them kept"
    return notes


def write_selection(
    path: Path, pairs: Pairs, scored: Scored, clustered: Clustered, selection: Selection, meta: Mapping[str, Any]
) -> list[str]:
    """``selection.parquet``: every pair, kept or not, order, weight, reason, score and evidence.

    Returns:
        The note of every pair.
    """
    n = len(pairs)
    order = np.full(n, -1, dtype=np.int64)
    order[selection.index.numpy()] = np.arange(len(selection))
    weight = np.zeros(n, dtype=np.float32)
    weight[selection.index.numpy()] = selection.weight.numpy()
    assert selection.reason is not None
    notes = notes_of(scored.score, clustered, selection)
    for i in np.flatnonzero(selection.reason.numpy() == int(Reason.UNSCORED)).tolist():
        notes[i] = "lacks something that the choice needs"
    columns = {
        "id": pa.array([_whole(name) for name in pairs.ids], pa.string()),
        "place": pa.array(pairs.place),
        "kept": pa.array(order >= 0),
        "order": pa.array(order),
        "weight": pa.array(weight),
        "reason": pa.array([Reason(code).word for code in selection.reason.tolist()], pa.string()),
        "note": pa.array(notes, pa.string()),
        "score": pa.array(scored.score.numpy()),
    }
    if clustered.label is not None:
        columns["cluster"] = pa.array(clustered.label.numpy())
    write_table(path, pa.table(columns), meta)
    return notes


def means_of(pool: Pool, selection: Selection) -> list[dict[str, Any]]:
    """Mean of every indicator over the chosen and over the pool, and the gap in spreads of the pool."""
    kept = selection.mask(len(pool.pairs)).numpy()
    rows = []
    for name in pool.layout.indicators:
        values = pool.pairs.numbers[name]
        there = ~np.isnan(values)
        if not (there & kept).any():
            continue  # of an indicator that none of them has there is no mean
        spread, whole = float(values[there].std()), float(values[there].mean())
        own = float(values[there & kept].mean())
        gap = (own - whole) / spread if spread > 0 else 0.0
        rows.append({"name": name, "chosen": own, "pool": whole, "spread": spread, "gap": gap})
    return rows


def gallery_of(pairs: Pairs, scored: Scored, selection: Selection, notes: list[str]) -> dict[str, list[dict[str, str]]]:
    """Texts for the page: the first kept, the last kept, those that just missed it, and the lowest scores."""
    assert selection.reason is not None
    values = scored.score.double().numpy()
    out = np.flatnonzero((selection.reason.numpy() >= 10) & ~np.isnan(values))
    falling = out[np.argsort(-values[out], kind="stable")].tolist()
    index = selection.index.tolist()
    parts = {
        "first": index[:SHOWN],
        "last": index[max(SHOWN, len(index) - SHOWN) :],
        "missed": falling[:SHOWN],
        "lowest": falling[max(SHOWN, len(falling) - SHOWN) :],
    }

    def shown(i: int) -> dict[str, str]:
        assert selection.reason is not None
        return {
            "id": _whole(pairs.ids[i]),
            "where": pairs.name(int(pairs.place[i])),
            "instruction": _cut(pairs.instruction[i]),
            "answer": _cut(pairs.answer[i]),
            "reason": Reason(int(selection.reason[i])).word,
            "note": notes[i],
        }

    return {name: [shown(i) for i in ids] for name, ids in parts.items()}


def _whole(text: str) -> str:
    """Without halves of letters (lone surrogates), which JSON may spell and no file of text can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _cut(text: str) -> str:
    text = _whole(text)
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"


def known_before(folder: Path, key: str) -> list[dict[str, Any]] | None:
    """What an earlier call found by leaving subsets out; None where it was of other data, or there was none."""
    path = folder / KNOWN
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except RunError:
        return None  # worked out again, since it can be
    ways = found.get("ways")
    return ways if found.get("key") == key and isinstance(ways, list) else None


def keep_known(folder: Path, key: str, ways: list[LeftOut]) -> list[dict[str, Any]]:
    """Write it down, as JSON has it."""
    plain: list[dict[str, Any]] = json.loads(json.dumps([way.as_dict() for way in ways]))
    write_json(folder / KNOWN, {"key": key, "ways": plain})
    return plain
