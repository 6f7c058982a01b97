"""The run folder: one self-describing artefact that every verb reads and writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from datawinnow.core.arrays import RECORDED
from datawinnow.core.cost import Cost
from datawinnow.core.errors import MissingArrayError, RunError
from datawinnow.core.files import FORMAT_VERSION, check_format, read_json, write_json, written_whole
from datawinnow.core.provenance import commit, now, versions
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.pipeline.methods import Arrays
from datawinnow.record import column

META = b"datawinnow"


class RunFolder:
    """``runs/<name>/``; every file in it is written whole and renamed.

    Attributes:
        path: the folder.
        facts: what ``run.json`` says.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self.facts = facts

    @classmethod
    def create(cls, path: Path, *, dataset: Mapping[str, Any], seed: int, model: Mapping[str, Any]) -> RunFolder:
        """A new run folder, or the one that is there if it is about the same dataset.

        Raises:
            RunError: the folder holds a run of another dataset, or something else.
        """
        if (path / "run.json").exists():
            found = cls.open(path)
            found.check_dataset(str(dataset["fingerprint"]), str(dataset["name"]))
            return found
        if path.exists() and any(path.iterdir()):
            raise RunError(f"{path} is not empty and holds no run; give another folder with --run")
        facts = {
            "kind": "run",
            "name": path.name,
            "created": now(),
            "status": {},
            "dataset": dict(dataset),
            "options": {},
            "seed": seed,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
            "model": dict(model),
            "version": versions()["datawinnow"],
            "versions": versions(),
            "commit": commit(),
            "cost": {},
        }
        write_json(path / "run.json", facts)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run in ``path``.

        Raises:
            RunError: no run there, truncated, or written by a newer version.
        """
        if not (path / "run.json").exists():
            raise RunError(
                f"{path} is not a run folder (it has no run.json); make one with: datawinnow record DATA --run {path}"
            )
        facts = read_json(path / "run.json")
        missing = [key for key in ("dataset", "status", "cost", "options", "model") if key not in facts]
        if missing:
            raise RunError(f"{path / 'run.json'} lacks {', '.join(missing)}: it was not written by datawinnow record")
        return cls(path, facts)

    def check_dataset(self, fingerprint: str, name: str) -> None:
        """Refuse another dataset by name.

        Raises:
            RunError: the fingerprints differ.
        """
        own = self.facts["dataset"]
        if own["fingerprint"] != fingerprint:
            raise RunError(
                f"{self.path} is about the dataset {own['name']!r} ({own['n']:,} examples, fingerprint "
                f"{own['fingerprint']}), not {name!r} (fingerprint {fingerprint}): give another --run folder, "
                "or the dataset that it was made with"
            )

    def update(self, **facts: Any) -> None:
        """Change facts and write ``run.json``; a dict is merged into the one that is there."""
        for key, value in facts.items():
            if isinstance(value, dict) and isinstance(self.facts.get(key), dict):
                self.facts[key] = {**self.facts[key], **value}
            else:
                self.facts[key] = value
        write_json(self.path / "run.json", self.facts)

    def charge(self, stage: str, cost: Cost) -> None:
        """Write down what a stage cost."""
        self.update(cost={stage: cost.as_dict()})

    @property
    def signals(self) -> Path:
        """Folder of the recorded columns."""
        return self.path / "signals"

    @property
    def n(self) -> int:
        """Number of examples."""
        return int(self.facts["dataset"]["n"])

    def recorded(self) -> None:
        """Check that recording is done.

        Raises:
            RunError: it is not; the error says how to go on.
        """
        status = self.facts["status"].get("record")
        if status != "done":
            raise RunError(
                f"{self.path} is not recorded to the end (record: {status or 'not begun'}); run the same "
                "datawinnow record (or prune) command again: it goes on where it stopped"
            )

    def arrays(self, epochs: int | None = None) -> Arrays:
        """The recorded arrays by name, memory-mapped.

        Raises:
            RunError: not recorded to the end.
        """
        self.recorded()
        names = tuple(name for name in (*RECORDED, "kl_step", "seen") if (self.signals / f"{name}.npy").exists())
        return Arrays(self._column, names, epochs)

    def _column(self, name: str) -> Tensor:
        found = column(self.signals, name)
        if found.ndim != 2 or found.shape[1] != self.n:
            raise RunError(
                f"{self.signals / name}.npy is about {tuple(found.shape)} examples, but the run is about "
                f"{self.n}: it is of another dataset, or damaged; record again into another --run folder"
            )
        return found

    # --- tables -----------------------------------------------------------------------------------------------------

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """``history.parquet``, a row an epoch."""
        table = pa.Table.from_pylist(rows)
        write_table(self.path / "history.parquet", table, {})

    def write_scores(
        self, ids: list[str], labels: Tensor, scores: Mapping[str, Tensor], about: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """``scores.parquet``: id, label and a float32 column a score with how it was made; earlier scores stay."""
        old = self.scores() if (self.path / "scores.parquet").exists() else None
        fields = [pa.field("id", pa.string()), pa.field("label", pa.int64())]
        columns: list[Any] = [pa.array(ids), pa.array(labels.numpy())]
        if old is not None:
            for field in list(old.schema)[2:]:
                if field.name not in scores:
                    fields.append(field)
                    columns.append(old.column(field.name))
        for name, score in scores.items():
            facts = {
                key: json.dumps(value) if isinstance(value, (dict, list)) else str(value)
                for key, value in about[name].items()
            }
            fields.append(pa.field(name, pa.float32(), metadata=facts))
            columns.append(pa.array(score.to(torch.float32).numpy()))
        table = pa.table(columns, schema=pa.schema(fields))
        write_table(self.path / "scores.parquet", table, {"fingerprint": self.facts["dataset"]["fingerprint"]})

    def scores(self) -> pa.Table:
        """``scores.parquet``.

        Raises:
            RunError: not there, truncated, of another dataset.
        """
        table, meta = read_table(self.path / "scores.parquet", "datawinnow score")
        self._same(meta, self.path / "scores.parquet")
        return table

    def _same(self, meta: Mapping[str, Any], path: Path) -> None:
        if meta.get("fingerprint") != self.facts["dataset"]["fingerprint"]:
            raise RunError(
                f"{path} is of another dataset (fingerprint {meta.get('fingerprint')}) than this run "
                f"({self.facts['dataset']['name']}, {self.facts['dataset']['fingerprint']}); remove it and "
                "make it again"
            )


def write_table(path: Path, table: pa.Table, meta: Mapping[str, Any]) -> None:
    """Write a Parquet file whole, with ``meta`` and the format's version in its schema."""
    text = json.dumps({"format": FORMAT_VERSION, **meta})
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), META: text.encode()})
    with written_whole(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_table(path: Path, verb: str) -> tuple[pa.Table, dict[str, Any]]:
    """A Parquet file of datawinnow and its ``meta``.

    Raises:
        RunError: not there, truncated, not of datawinnow, or newer.
    """
    if not path.exists():
        raise RunError(f"no such file: {path}; make it with: {verb}")
    try:
        table = pq.read_table(path)
        meta = json.loads((table.schema.metadata or {}).get(META, b"{}"))
    except (pa.ArrowInvalid, OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path} is truncated or damaged ({error}); make it again with: {verb}") from None
    check_format(meta.get("format"), path)
    return table, meta


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
        selection: what was chosen.
        ids: (n,) names of the examples.
        labels: (n,) int64.
        meta: method, options, keep, seed, fingerprint and so on.
        notes: (n,) one sentence an example.
        p_mean: (n,) mean of ``p_label`` over epochs.
        p_std: (n,) its standard deviation.
    """
    n = len(ids)
    order = np.full(n, -1, dtype=np.int64)
    order[selection.index.numpy()] = np.arange(len(selection))
    weight = np.zeros(n, dtype=np.float32)
    weight[selection.index.numpy()] = selection.weight.numpy()
    codes = selection.reason if selection.reason is not None else Selection.of(selection.index, n).reason
    assert codes is not None
    words = np.array([r.word for r in Reason])
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
            "reason": pa.array(words[lookup[codes.numpy()]].tolist()).dictionary_encode().cast(pa.string()),
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
        RunError: not there, truncated, not a selection, of another dataset.
    """
    path = path / "selection.parquet" if path.is_dir() else path
    table, meta = read_table(path, "datawinnow select RUN --keep 0.3")
    missing = [c for c in ("id", "kept", "order", "weight", "reason") if c not in table.column_names]
    if missing:
        raise RunError(f"{path} is no selection: it lacks the columns {', '.join(missing)}")
    if fingerprint is not None and meta.get("fingerprint") != fingerprint:
        raise RunError(
            f"{path} was selected from the dataset {meta.get('dataset')!r} (fingerprint "
            f"{meta.get('fingerprint')}), not from {name!r} (fingerprint {fingerprint})"
        )
    order = table.column("order").to_numpy()
    kept = np.flatnonzero(order >= 0)
    index = kept[np.argsort(order[kept], kind="stable")]
    weight = table.column("weight").to_numpy()[index].astype(np.float32)
    codes = {r.word: int(r) for r in Reason}
    try:
        reason = torch.tensor([codes[w] for w in table.column("reason").to_pylist()], dtype=torch.int8)
    except KeyError as error:
        raise RunError(f"{path} has the unknown reason {error}") from None
    return Selection(torch.from_numpy(index.astype(np.int64)), torch.from_numpy(weight), reason), meta


__all__ = ["MissingArrayError", "RunFolder", "read_selection", "read_table", "write_selection", "write_table"]
