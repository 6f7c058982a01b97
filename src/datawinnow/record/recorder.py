"""`Recorder`: signals written at ``index`` into (epochs, n) columns, in memory or on disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.arrays import RECORDED
from datawinnow.core.card import unknown_name
from datawinnow.core.counts import many
from datawinnow.core.errors import ArgumentError, MissingArrayError, RunError
from datawinnow.core.files import require_space
from datawinnow.record import files
from datawinnow.record.open_epoch import OpenEpoch
from datawinnow.record.signals import check_batch, ids_out_of_range


class Recorder:
    """Per-example signals of a training run.

    The epoch being recorded is one (signals, n) buffer on the device of the logits, so a step costs a copy of its
    logits and no wait for the device. It is moved to the columns once, when the next epoch starts or `flush` is called.

    Args:
        n: number of examples; ids are 0 to n - 1.
        epochs: number of epochs.
        signals: names of the signals to record; add ``"kl_step"`` for TDDS (which keeps the class probabilities of
            every example).
        path: folder for the columns (``signals/`` of a run folder); None for memory. Each epoch is written to a file
            and renamed when complete, so that a killed run resumes after the last complete one. Epochs are read back
            from there, so that memory holds only one. ``about.json`` there describes the columns.
        fingerprint: of the dataset (`datawinnow.data`), written beside the columns; None if unknown.
        rows: (n,) int64 place of each example in the source that it was loaded from, written beside the columns as
            ``row.npy``; None if unknown.
        training: text that tells this training from others on the same data; the files of epochs hold it, and those of
            another are refused. None takes those of any.

    Raises:
        ArgumentError: sizes below 1, an unknown signal, or rows of another shape or type, or below 0.
        RunError: the folder holds another recording or one of another dataset, or the disk has too little space.
    """

    def __init__(
        self,
        n: int,
        epochs: int,
        *,
        signals: tuple[str, ...] = RECORDED,
        path: Path | str | None = None,
        fingerprint: str | None = None,
        rows: Tensor | None = None,
        training: str | None = None,
    ) -> None:
        self.n = int(check.number("n", n, 1, 1 << 40, integer=True))
        self.epochs = int(check.number("epochs", epochs, 1, 1 << 20, integer=True))
        for name in signals:
            if name not in (*RECORDED, "kl_step", "seen"):
                raise unknown_name("signal", name, (*RECORDED, "kl_step"))
        if rows is not None and (rows.dtype != torch.int64 or rows.shape != (self.n,) or int(rows.min()) < 0):
            raise ArgumentError(f"rows must be ({self.n},) int64 of at least 0, got {rows.dtype} {tuple(rows.shape)}")
        # `OpenEpoch` writes by position: signals first, then kl_step, then seen
        self.columns = (
            *(name for name in signals if name not in ("seen", "kl_step")),
            *(("kl_step",) if "kl_step" in signals else ()),
            "seen",
        )
        self.path = None if path is None else Path(path)
        self.training = training
        self._labels = torch.full((self.n,), -1, dtype=torch.int64)
        self._open: OpenEpoch | None = None
        # (n, c) class probabilities at each example's last visit; while an epoch is open they are part of it
        self._softmax: Tensor | None = None
        self._softmax_epoch = -1  # the epoch at whose end they are
        self._closed: set[int] = set()  # epochs that are recorded
        self._rows: dict[int, dict[str, np.ndarray]] = {}  # of the closed epochs, without a path
        self._consolidated = False
        self._fingerprint = fingerprint
        if self.path is not None:
            self._fingerprint = files.recorded_fingerprint(self.path, fingerprint) or fingerprint
            self._read_back(self.path)
            if not self._consolidated:  # a finished recording is not changed
                self._write_metadata(self.path)
                if rows is not None:
                    files.write_source_rows(self.path, rows)

    @property
    def labels(self) -> Tensor:
        """(n,) int64 labels as trained on; -1 if not seen yet, and in a recording that was opened consolidated."""
        return self._labels if self._open is None else self._open.labels(self._labels)

    @property
    def finished(self) -> int:
        """Number of recorded epochs, from the first to the first one missing."""
        count = 0
        while count in self._closed:
            count += 1
        return count

    @property
    def consolidated(self) -> bool:
        """Whether the columns are written; then no epoch can be added."""
        return self._consolidated

    def write(self, epoch: int, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Record one batch: its logits are copied, and the signals of many batches are computed at once later.

        Args:
            epoch: 0 to epochs - 1; a new one closes the previous one. Writing to a closed epoch records it anew.
            index: (b,) int64 ids of the examples.
            logits: (b, c).
            labels: (b,) int64, as trained on.

        Raises:
            ArgumentError: an epoch, shapes or labels out of range, ids that are not int64 (in half precision
                ids would merge).
            RunError: the recording is consolidated, or the disk is full.
        """
        self._check_batch_ids(epoch, index, labels.shape)
        check_batch(logits, labels)
        if self._open is None or epoch != self._open.number:
            self.flush()
            self._open = self._open_epoch(epoch, logits.device)
        self._open.write(index, logits, labels)

    def _check_batch_ids(self, epoch: int, index: Tensor, shape: torch.Size) -> None:
        if not 0 <= epoch < self.epochs:
            raise ArgumentError(f"epoch must be in [0, {self.epochs}), got {epoch}")
        if index.dtype != torch.int64 or index.shape != shape:
            raise ArgumentError(
                f"index must be int64 of shape {tuple(shape)}, got {index.dtype} of shape {tuple(index.shape)}"
            )
        if bad := ids_out_of_range(index, self.n):
            raise ArgumentError(f"index must hold ids in [0, {self.n}), got {bad[0]} to {bad[1]}")

    def write_loss(self, epoch: int, index: Tensor, losses: Tensor) -> None:
        """Record the losses of one batch, of a training without classes.

        Args:
            epoch: as of `write`.
            index: (b,) int64 ids of the examples.
            losses: (b,).

        Raises:
            ArgumentError: signals that need classes are to be recorded, or as of `write`.
            RunError: as of `write`.
        """
        self._check_batch_ids(epoch, index, losses.shape)
        if needing := [name for name in self.columns if name not in ("loss", "seen")]:
            raise ArgumentError(
                f"{', '.join(needing)} need classes, but this loss is not of classes: record with signals=('loss',)"
            )
        if self._open is None or epoch != self._open.number:
            self.flush()
            self._open = self._open_epoch(epoch, losses.device)
        self._open.write_loss(index, losses)

    def flush(self) -> None:
        """Close the open epoch: move it to the columns, and to disk.

        Raises:
            RunError: the disk is full; the epoch stays open, so that `flush` can be called again.
        """
        epoch = self._open
        if epoch is None:
            return
        labels = self.labels
        rows = {name: epoch.row(name) for name in self.columns}
        if self.path is None:
            self._rows[epoch.number] = rows
        else:
            # written before the epoch's file: a kill between the two repeats the epoch
            if epoch.softmax is not None:
                files.write_softmax(self.path, epoch.number, epoch.softmax)
                # the previous one stays: until the checkpoint is written, this epoch may have to be repeated
                files.softmax_file(self.path, epoch.number - 2).unlink(missing_ok=True)
            files.write_epoch(self.path, epoch.number, rows, labels.numpy(), self.training)
        # only now: after an error above the epoch is still open, and `flush` can be repeated
        self._labels, self._open = labels, None
        self._softmax, self._softmax_epoch = epoch.softmax, epoch.number
        self._closed.add(epoch.number)

    def discard(self) -> None:
        """Drop the open epoch; closed epochs stay."""
        self._open = None

    def __getitem__(self, name: str) -> Tensor:
        """The column ``name``: (epochs, n) float32 with NaN where an example was not seen, or bool.

        ``seen`` is bool, and ``correct`` if all were seen in all epochs. ``kl_step`` has one row less. The open
        epoch is included as far as it is written, and stays open. After `consolidate` the column is memory-mapped.

        Raises:
            MissingArrayError: the signal is not recorded.
        """
        if name not in self.columns:
            raise MissingArrayError(
                f"{name!r} is not recorded; this recorder records: {', '.join(self.columns)}"
                + (" (make it with signals=(..., 'kl_step'))" if name == "kl_step" else "")
            )
        column = self._column(name)
        return files.mark_unseen(column, self._column("seen")) if name == "correct" else column

    def _column(self, name: str) -> Tensor:
        if self._consolidated and self.path is not None:
            return files.read_column(self.path, name)
        kind = files.dtype_of(name)
        # epochs that are not recorded stay "not seen"
        rows = np.full((self.epochs, self.n), False if kind.kind == "b" else np.nan, dtype=kind)
        for epoch in self._closed:
            rows[epoch] = self._row(epoch, name)
        if self._open is not None:
            rows[self._open.number] = self._open.row(name)
        # a step needs two epochs, so there is none for the first
        return torch.from_numpy(rows[1:] if name == "kl_step" else rows)

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Epochs ``first`` to ``last - 1`` of a column, (last - first, n), without reading the others.

        Raises:
            MissingArrayError: the signal is not recorded.
            RunError: one of the epochs is not closed.
        """
        if name not in self.columns or name == "kl_step":
            raise MissingArrayError(f"no rows of {name!r} by epoch; this recorder has: {', '.join(self.columns)}")
        if not set(range(first, last)) <= self._closed:
            raise RunError(f"epochs {first} to {last - 1} are not all recorded in {self.path or 'memory'}")
        if self._consolidated and self.path is not None:
            return files.read_column(self.path, name)[first:last]
        return torch.from_numpy(np.stack([self._row(epoch, name) for epoch in range(first, last)]))

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def arrays(self) -> dict[str, Tensor]:
        """All columns by name."""
        return {name: self[name] for name in self.columns}

    def consolidate(self) -> None:
        """Write each column to ``<signal>.npy``, then remove the epochs' files.

        Raises:
            RunError: the recorder has no path, epochs are missing, or the disk is full.
        """
        if self.path is None:
            raise RunError("a recorder without a path has nothing to consolidate; give path= when making it")
        self.flush()
        if self._consolidated:
            return
        if self.finished < self.epochs:
            raise RunError(f"only {self.finished} of {many(self.epochs, 'epoch')} recorded in {self.path}")
        for name in self.columns:
            epochs = range(1 if name == "kl_step" else 0, self.epochs)
            files.write_column(self.path, name, partial(self._row, name=name), epochs, self.n)
        # every column is complete: a kill from here on costs at most a second `consolidate`
        self._consolidated = True
        files.remove_epochs(self.path, self.epochs)

    def cut(self) -> None:
        """End the recording early, after the closed epochs: sets ``epochs`` to their number and drops an open one.

        A new recorder of the same folder and the original number of epochs accepts the recording as complete.

        Raises:
            RunError: no epoch is recorded, or there is a gap between them.
        """
        self.discard()
        if not self.finished or len(self._closed) > self.finished:
            recorded = f"epochs {sorted(self._closed)} are" if self._closed else "nothing is"
            raise RunError(f"{recorded} recorded in {self.path or 'memory'}: the recording cannot end early")
        planned, self.epochs = self.epochs, self.finished
        if self.path is not None and self.epochs < planned:
            self._write_metadata(self.path, planned)

    def resume(self, epoch: int) -> None:
        """Drop all epochs from ``epoch`` on, to record them again.

        Raises:
            RunError: an epoch before is missing, or the class probabilities that `kl_step` continues from.
        """
        self.discard()
        if self._consolidated and epoch >= self.epochs:
            return
        if self.finished < epoch or (self._consolidated and epoch):
            state = "it is consolidated" if self._consolidated else f"only {self.finished} epochs are recorded"
            raise RunError(
                f"cannot resume at epoch {epoch}: {state} in {self.path or 'memory'}. Remove the checkpoint to start "
                "again, or give another `run=` folder"
            )
        if "kl_step" in self.columns and epoch and self.path is None:
            raise RunError("kl_step cannot be resumed in memory: give the recorder a path")
        self._softmax = (
            files.read_softmax(self.path, epoch - 1) if "kl_step" in self.columns and epoch and self.path else None
        )
        self._softmax_epoch = epoch - 1
        # last first: a kill in between leaves no gap
        for later in sorted((e for e in self._closed if e >= epoch), reverse=True):
            self._rows.pop(later, None)
            self._closed.discard(later)
            if self.path is not None:
                files.epoch_file(self.path, later).unlink(missing_ok=True)
        if self._consolidated and self.path is not None:
            for name in self.columns:
                (self.path / f"{name}.npy").unlink(missing_ok=True)
            self._write_metadata(self.path)  # the new recording may be of fewer signals
        self._consolidated = False

    def _open_epoch(self, epoch: int, device: torch.device) -> OpenEpoch:
        if self._consolidated:
            raise RunError(f"the recording in {self.path} is finished: give another path, or resume(0) to record anew")
        if "kl_step" in self.columns and (self._softmax is None or self._softmax_epoch >= epoch):
            # an epoch is recorded anew: continue from the end of the one before it, if that is on disk
            self._softmax = None
            if epoch and self.path is not None and files.softmax_file(self.path, epoch - 1).exists():
                self._softmax = files.read_softmax(self.path, epoch - 1)
        softmax, self._softmax = self._softmax, None  # the open epoch modifies it: no other epoch can start from it
        return OpenEpoch(epoch, self.n, self.columns, device, softmax)

    def _row(self, epoch: int, name: str) -> np.ndarray:
        return self._rows[epoch][name] if self.path is None else files.read_epoch(self.path, epoch, name, self.n)

    def _read_back(self, path: Path) -> None:
        files.remove_leftovers(path, self.columns)
        while len(self._closed) < self.epochs and files.epoch_file(path, len(self._closed)).exists():
            # each epoch's file has the labels of all examples seen so far, so the last one has the most
            labels = files.check_epoch(path, len(self._closed), self.columns, self.n, self.training)
            self._labels = torch.from_numpy(labels)
            self._closed.add(len(self._closed))
        # epoch files are removed after the columns are complete: with any left, the columns may be partial
        if not self._closed and all((path / f"{name}.npy").exists() for name in self.columns):
            shape = tuple(files.read_column(path, "seen").shape)
            # the recording was cut, and this recorder is for the epochs that were planned
            if shape[0] < self.epochs == files.planned_epochs(path):
                self.epochs = shape[0]
            if shape != (self.epochs, self.n):
                raise RunError(
                    f"{path} holds a finished recording of {shape[0]} epochs and {shape[1]} examples, not of "
                    f"{self.epochs} and {self.n}: give another `run=` folder"
                )
            self._consolidated, self._closed = True, set(range(self.epochs))
            files.remove_epochs(path, self.epochs)  # left over by a kill
            return
        # space for the remaining epochs, and for all of them again when the columns are written beside them
        # 4 bytes an entry, an upper limit: bool columns take one
        require_space(path, 4 * self.n * len(self.columns) * (2 * self.epochs - len(self._closed)))

    def _write_metadata(self, path: Path, planned: int | None = None) -> None:
        metadata = {"n": self.n, "epochs": self.epochs, "columns": list(self.columns)}
        metadata |= {} if planned is None else {"planned": planned}
        files.write_metadata(path, self._fingerprint, metadata)
