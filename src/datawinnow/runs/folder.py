"""The run folder: one self-describing artefact that every verb reads and writes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.arrays import RECORDED, LazyArrays, first_epochs
from datawinnow.core.artifact_schemas import RunFile
from datawinnow.core.artifacts import (
    check_content,
    check_file_checksum,
    read_json,
    read_table,
    write_json,
    write_table,
)
from datawinnow.core.cost import Cost
from datawinnow.core.errors import RunError
from datawinnow.core.files import remove_abandoned
from datawinnow.core.lock import LOCK
from datawinnow.core.provenance import commit, now, versions
from datawinnow.core.row_checks import ROW, in_dataset_order, with_row_checks
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.source_positions import source_rows
from datawinnow.record import mark_unseen, read_column
from datawinnow.record.files import SOURCE_ROWS_FILE, read_source_rows
from datawinnow.runs.selection_file import read_selection, write_selection

COLUMNS = (*RECORDED, "kl_step", "seen")
STAGES = ("record", "train", "probe", "subsets", "score", "select", "check", "audit")
"""Stages that a run is charged for, in order."""
AUDIT_FILES = (
    "issues.parquet",
    "issue_examples.parquet",
    "learning.parquet",
    "issues.csv",
    "decisions.csv",
    "audit.json",
    "audit.html",
)
"""What an audit writes into a run folder."""


class RunFolder:
    """``runs/<name>/``; every file in it is written whole and renamed.

    Attributes:
        path: the folder.
        metadata: what ``run.json`` says.
    """

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        self.path = path
        self.metadata = metadata

    @classmethod
    def create(cls, path: Path, *, dataset: DatasetInfo, seed: int, model: Mapping[str, Any]) -> RunFolder:
        """A new run folder, or the one that is there if it is about the same dataset.

        Raises:
            RunError: the folder holds a run of another dataset, or something else.
        """
        ours = (path / "run.json").exists()
        # left by a kill in the middle of a write; in a folder that may not be ours only the one that can be
        remove_abandoned(
            [f for where in ("", "*/") for f in path.glob(f"{where}.*.part" if ours else ".run.json.*.part")]
        )
        if ours:
            folder = cls.open(path)
            if not folder.is_empty:
                folder.check_dataset(dataset)
                return folder
            if folder.metadata["dataset"]["fingerprint"] == dataset.fingerprint:
                return folder
            # begun on other data and left before anything was made of them
            folder.forget("vocabulary.json")
            shutil.rmtree(folder.signals, ignore_errors=True)
        elif path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file, not a folder; give another `run=` folder")
        # what `remove_abandoned` cannot remove on a file system without locks is no reason to refuse
        elif path.exists() and any(file.name != LOCK and not file.match(".run.json.*.part") for file in path.iterdir()):
            raise RunError(f"{path} is not empty and holds no run; give another `run=` folder")
        metadata = {
            "kind": "run",
            "name": path.name,
            "created": now(),
            "status": {},
            "dataset": dataset.as_dict(),
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
        write_json(path / "run.json", metadata)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """The run in ``path``.

        Raises:
            RunError: no run there, truncated, or written by a newer version.
        """
        path = Path(path)
        if not (path / "run.json").exists():
            raise RunError(
                f"{path} is not a run folder (it has no run.json); make one with "
                f"`dw.api.record(data, run={str(path)!r})`"
            )
        remedy = "give another `run=` folder to make it again"
        metadata = read_json(path / "run.json", remedy=remedy)
        missing = [key for key in ("dataset", "status", "cost", "options", "model") if key not in metadata]
        if not missing and isinstance(metadata["dataset"], dict):
            missing = [f"dataset.{key}" for key in ("name", "fingerprint", "n") if key not in metadata["dataset"]]
        if missing:
            raise RunError(f"{path / 'run.json'} lacks {', '.join(missing)}: it was not written by datawinnow record")
        return cls(path, check_content(metadata, RunFile, path / "run.json", remedy=remedy))

    def reload(self) -> None:
        """Read ``run.json`` again.

        Raises:
            RunError: as of `open`.
        """
        self.metadata = RunFolder.open(self.path).metadata

    @property
    def dataset(self) -> DatasetInfo:
        """Description of the run's dataset, as ``run.json`` has it."""
        return DatasetInfo.from_dict(self.metadata["dataset"])

    def check_dataset(self, info: DatasetInfo) -> None:
        """Refuse another dataset by name.

        Raises:
            RunError: the fingerprints differ.
        """
        name, n, fingerprint = (self.metadata["dataset"][key] for key in ("name", "n", "fingerprint"))
        if fingerprint != info.fingerprint:
            if name == info.name:
                advice = "the data, or how they are read, changed since: restore that, or begin a new `run=` folder"
            else:
                advice = "give another `run=` folder, or the dataset that it was made with"
            raise RunError(
                f"{self.path} belongs to the dataset {name!r} ({n:,} examples, fingerprint {fingerprint}), not "
                f"{info.name!r} ({info.n:,} examples, fingerprint {info.fingerprint}): {advice}"
            )

    def update(self, **metadata: Any) -> None:
        """Change metadata and write ``run.json``; a dict is merged into the existing one."""
        for key, value in metadata.items():
            if isinstance(value, dict) and isinstance(self.metadata.get(key), dict):
                # one level deep: an entry of a stage is replaced as a whole
                self.metadata[key] = {**self.metadata[key], **value}
            else:
                self.metadata[key] = value
        write_json(self.path / "run.json", self.metadata)

    def forget(self, *names: str) -> None:
        """Remove files that are about an earlier state of the run."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def forget_results(self) -> bool:
        """Remove what was made of the recording, which is about to change: probes, networks trained on subsets for as
        many epochs, scores, the selection and its check.

        Returns:
            Whether there was anything.
        """
        results, folders = ("probe", "subsets", "score", "select", "check", "audit"), ("probe", "subsets")
        files = ("scores.parquet", "selection.parquet", "check.json", "gallery.parquet", *AUDIT_FILES)
        is_present = any((self.path / name).exists() for name in (*files, *folders))
        # run.json first: after a kill in between, the files are about the recording that is still there
        for key in ("status", "cost", "options"):
            self.metadata[key] = {name: value for name, value in self.metadata[key].items() if name not in results}
        write_json(self.path / "run.json", self.metadata)
        self.forget(*files)
        for name in folders:
            shutil.rmtree(self.path / name, ignore_errors=True)
        return is_present

    def charge(self, stage: str, cost: Cost) -> None:
        """Write the cost of a stage into ``run.json``."""
        self.update(cost={stage: cost.as_dict()})

    def made_by(self, stage: str, cost: Cost | None = None) -> dict[str, Any]:
        """Metadata of every artefact: the dataset's fingerprint, and the costs up to ``stage``.

        Args:
            stage: of `STAGES`; costs of later stages are left out.
            cost: of ``stage`` itself; by default as ``run.json`` has it.

        Returns:
            ``fingerprint``; ``cost``, a stage's ``seconds``, ``forward``, ``backward`` and ``flops`` by its name.
        """
        spent = {**self.metadata["cost"], **({stage: cost.as_dict()} if cost is not None else {})}
        so_far = [name for name in STAGES[: STAGES.index(stage) + 1] if name in spent]
        return {"fingerprint": self.metadata["dataset"]["fingerprint"], "cost": {name: spent[name] for name in so_far}}

    @property
    def signals(self) -> Path:
        """Folder of the recorded columns."""
        return self.path / "signals"

    @property
    def n(self) -> int:
        """Number of examples."""
        return int(self.metadata["dataset"]["n"])

    def recorded(self) -> None:
        """Check that recording is done.

        Raises:
            RunError: it is not; the error says how to go on.
        """
        status = self.metadata["status"].get("record")
        if status != "done":
            raise RunError(
                f"{self.path} is not recorded to the end (record: {status or 'not begun'}); run the same "
                "datawinnow record (or prune) command again: it goes on where it stopped"
            )

    def arrays(self, epochs: int | None = None) -> Mapping[str, Tensor]:
        """The recorded arrays by name, each memory-mapped when it is read.

        Args:
            epochs: only the first so many recorded epochs; None for all.

        Raises:
            RunError: not recorded to the end.
            ArgumentError: more epochs than were recorded, or fewer than 1.
        """
        self.recorded()
        if epochs is not None:
            check.number("epochs", epochs, 1, self.epochs, integer=True)
        names = tuple(name for name in COLUMNS if (self.signals / f"{name}.npy").exists())
        return first_epochs(LazyArrays({name: partial(self._column, name) for name in names}), epochs)

    @property
    def rows(self) -> Tensor:
        """(n,) int64 place in the source of each example, by which a dataset of your own is indexed.

        Columns of `arrays` count in the dataset as it was loaded, without what was held out or left out.

        Raises:
            MissingArrayError: an earlier version recorded, or nothing is recorded.
            RunError: not recorded to the end, or the file is damaged or of another recording.
        """
        self.recorded()
        rows = read_source_rows(self.signals, self.n)
        self.check_file(self.signals / SOURCE_ROWS_FILE)
        return rows

    @property
    def is_empty(self) -> bool:
        """Whether the run was begun and left before anything was made: then another dataset and all options do."""
        if any(status != "begun" for status in self.metadata["status"].values()):
            return False
        early_files = {"run.json", "signals", "vocabulary.json", LOCK}  # columns without a checkpoint are of no use
        return all(file.name in early_files or file.suffix == ".part" for file in self.path.iterdir())

    @property
    def epochs(self) -> int:
        """Number of epochs that are (to be) recorded; 0 where nothing is to be recorded."""
        if "recorded" in self.metadata:  # ended before what was asked for
            return int(self.metadata["recorded"]["epochs"])
        return int(self.metadata["options"].get("record", {}).get("epochs", 0))

    def _column(self, name: str) -> Tensor:
        values = read_column(self.signals, name, self.metadata["dataset"]["fingerprint"])
        # a change needs two epochs, so `kl_step` has one row less
        expected = (self.epochs - (name == "kl_step"), self.n)
        if tuple(values.shape) != expected:
            raise RunError(
                f"{self.signals / name}.npy has shape {tuple(values.shape)}, but the run recorded (epochs, examples) = "
                f"{expected}: it belongs to a different dataset, or is damaged; record again into another `run=` folder"
            )
        self.check_file(self.signals / f"{name}.npy")
        return mark_unseen(values, self._column("seen")) if name == "correct" else values

    # --- tables -----------------------------------------------------------------------------------------------------

    def write_history(self, rows: list[dict[str, float]], stage: str, cost: Cost) -> None:
        """``history.parquet``, a row an epoch of ``stage``, which cost ``cost`` so far."""
        write_table(self.path / "history.parquet", pa.Table.from_pylist(rows), self.made_by(stage, cost))

    def history(self) -> pa.Table:
        """``history.parquet``, a row an epoch of the training.

        Raises:
            RunError: not there, truncated, of another dataset.
        """
        path = self.path / "history.parquet"
        table, meta = read_table(path, "datawinnow train DATA, or datawinnow record DATA")
        self.check_made(meta, path)
        return table

    def write_scores(
        self,
        info: DatasetInfo,
        scores: Mapping[str, Tensor],
        descriptions: Mapping[str, Mapping[str, Any]],
        cost: Cost | None = None,
    ) -> None:
        """``scores.parquet``: id, label, a float32 column a score with how it was made, and ``row``.

        Earlier scores stay. ``row`` is the place in the source, ``position`` the one in the dataset as it was loaded.

        Args:
            info: of the dataset: its ids and labels.
            scores: name -> (n,).
            descriptions: name -> how it was made.
            cost: of computing them.
        """
        old = self.scores() if (self.path / "scores.parquet").exists() else None
        fields = [pa.field("id", pa.string()), pa.field("label", pa.int64())]
        columns: list[Any] = [pa.array(info.ids), pa.array(info.labels.numpy())]
        if old is not None:
            # id and label come first, and are written again
            for field in list(old.schema)[2:]:
                if field.name not in scores:
                    fields.append(field)
                    columns.append(old.column(field.name))
        for name, score in scores.items():
            metadata = {
                key: json.dumps(value) if isinstance(value, (dict, list)) else str(value)
                for key, value in descriptions[name].items()
            }
            fields.append(pa.field(name, pa.float32(), metadata=metadata))
            columns.append(pa.array(score.to(torch.float32).numpy()))
        fields.append(pa.field(ROW, pa.int64()))
        columns.append(pa.array(source_rows(info.data).numpy()))
        table = with_row_checks(pa.table(columns, schema=pa.schema(fields)), [field.name for field in fields])
        write_table(self.path / "scores.parquet", table, self.made_by("score", cost))

    def scores(self) -> pa.Table:
        """``scores.parquet``, in the order of the dataset, whatever the order of its rows.

        Raises:
            RunError: not there, truncated, changed, of another dataset, or without some examples.
        """
        path = self.path / "scores.parquet"
        table, meta = read_table(path, "`dw.api.score(run, scores='dual')`")
        self.check_made(meta, path)
        if table.column_names[:2] != ["id", "label"] or table.num_rows != self.n:
            raise RunError(
                f"{path} has {table.num_rows} rows and begins with the columns {table.column_names[:2]}, where there "
                f"should be {self.n} rows of id and label; remove it and score again"
            )
        return in_dataset_order(table, path, self.n, "remove it and score again")

    def check_made(self, meta: Mapping[str, Any], path: Path) -> None:
        """Refuse an artefact of another dataset by name, and another file than the run wrote.

        Args:
            meta: metadata of the artefact.
            path: its file.

        Raises:
            RunError: its fingerprint is another, or it has none; or as of `check_file`.
        """
        if meta.get("fingerprint") != self.metadata["dataset"]["fingerprint"]:
            raise RunError(
                f"{path} belongs to a different dataset (fingerprint {meta.get('fingerprint')}) than this run "
                f"({self.metadata['dataset']['name']}, {self.metadata['dataset']['fingerprint']}); remove it and "
                "make it again"
            )
        self.check_file(path)

    def check_file(self, path: Path) -> None:
        """Refuse another file than the one whose checksum ``run.json`` has; a file that it does not name is accepted.

        Raises:
            RunError: a column or network of another recording stands in its place.
        """
        checksum = self.metadata.get("files", {}).get(path.relative_to(self.path).as_posix())
        check_file_checksum(path, checksum, remedy="put that back, or record again into another `run=` folder")

    def check_files(self) -> None:
        """`check_file` of all files that ``run.json`` names and that are there.

        Raises:
            RunError: as of `check_file`.
        """
        for name in self.metadata.get("files", {}):
            if (self.path / name).exists():
                self.check_file(self.path / name)


__all__ = ["RunFolder", "read_selection", "read_table", "write_selection", "write_table"]
