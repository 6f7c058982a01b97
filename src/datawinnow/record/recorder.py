"""`Recorder`: signals written at ``index`` into (epochs, n) columns, in memory or on disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.arrays import RECORDED
from datawinnow.core.errors import ArgumentError, MissingArrayError, RunError
from datawinnow.core.files import need_space, written_whole
from datawinnow.record import columns as files
from datawinnow.record.open_epoch import OpenEpoch
from datawinnow.record.signals import check_batch, outside


class Recorder:
    """Per-example signals of a training run.

    The epoch being written lives on the device of the logits as one (signals, n) buffer, so a step costs a copy of its
    logits and no wait for the device; it moves to the columns once, when the next epoch starts or `flush` is called.

    Args:
        n: number of examples; ids are 0 to n - 1.
        epochs: number of epochs.
        which: signals to keep; add ``"kl_step"`` for TDDS (it keeps a row of class probabilities an example).
        path: folder for the columns (``signals/`` of a run folder); in memory when None. Each epoch is written there
            whole and renamed, so that a killed run goes on from the last whole one, and is read from there when asked
            for, so that memory holds one epoch and not all. ``about.json`` there says what the columns are about.
        fingerprint: of the dataset (`datawinnow.data`), written beside the columns; None when not known.

    Raises:
        ArgumentError: sizes below 1 or an unknown signal.
        RunError: the folder has another recording in it or one of another dataset, or too little space.
    """

    def __init__(
        self,
        n: int,
        epochs: int,
        *,
        which: tuple[str, ...] = RECORDED,
        path: Path | str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.n = int(check.number("n", n, 1, 1 << 40, integer=True))
        self.epochs = int(check.number("epochs", epochs, 1, 1 << 20, integer=True))
        for name in which:
            if name not in (*RECORDED, "kl_step", "seen"):
                raise ArgumentError(f"no signal is called {name!r}; there are: {', '.join((*RECORDED, 'kl_step'))}")
        self.which = tuple(name for name in which if name not in ("seen", "kl_step"))
        self.kl = "kl_step" in which
        self.path = None if path is None else Path(path)
        self._labels = torch.full((self.n,), -1, dtype=torch.int64)
        self._open: OpenEpoch | None = None
        self._softmax: Tensor | None = None  # (n, c), the last visit of each example; the open epoch has it meanwhile
        self._softmax_after = -1  # the epoch whose end it stands at
        self._done: set[int] = set()
        self._rows: dict[int, dict[str, np.ndarray]] = {}  # of the epochs done, when in memory
        self._consolidated = False
        self._fingerprint = fingerprint
        if self.path is not None:
            self._fingerprint = files.recorded_about(self.path, fingerprint) or fingerprint
            self._read_back(self.path)
            if not self._consolidated:  # what is finished is left as it is
                self._write_about(self.path)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: the signals and ``seen``."""
        return (*self.which, *(("kl_step",) if self.kl else ()), "seen")

    @property
    def labels(self) -> Tensor:
        """(n,) int64 labels as trained on; -1 where not seen yet, and everywhere in a recording opened consolidated."""
        return self._labels if self._open is None else self._open.labels(self._labels)

    @property
    def finished(self) -> int:
        """Number of whole epochs from the start."""
        done = 0
        while done in self._done:
            done += 1
        return done

    @property
    def consolidated(self) -> bool:
        """Whether the columns stand on disk whole; nothing more can be written then."""
        return self._consolidated

    def write(self, epoch: int, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Record one batch; its logits are copied, and the signals of many batches are worked out at once later.

        Args:
            epoch: 0 to epochs - 1; a new one closes the one before. Writing to a closed epoch records it anew.
            index: (b,) int64 ids of the examples.
            logits: (b, c).
            labels: (b,) int64, as trained on.

        Raises:
            ArgumentError: an epoch, shapes or labels out of range, ids that are not int64 (half precision merges them).
            RunError: the recording is consolidated, or the disk is full.
        """
        if not 0 <= epoch < self.epochs:
            raise ArgumentError(f"epoch must be in [0, {self.epochs}), got {epoch}")
        if index.dtype != torch.int64 or index.shape != labels.shape:
            raise ArgumentError(
                f"index must be int64 of shape {tuple(labels.shape)}, got {index.dtype} of shape {tuple(index.shape)}"
            )
        if bad := outside(index, self.n):
            raise ArgumentError(f"index must hold ids in [0, {self.n}), got {bad[0]} to {bad[1]}")
        check_batch(logits, labels)
        if self._open is None or epoch != self._open.number:
            self.flush()
            self._open = self._opened(epoch, logits.device)
        self._open.write(index, logits, labels)

    def flush(self) -> None:
        """Move the open epoch to the columns (and to disk, whole); nothing is open afterwards.

        Raises:
            RunError: the disk is full; the epoch stays open, so that this can be tried again.
        """
        done = self._open
        if done is None:
            return
        labels = self.labels
        rows = {name: done.row(name) for name in self.columns}
        if self.path is None:
            self._rows[done.number] = rows
        else:
            if done.softmax is not None:  # before the epoch's file: a kill between the two repeats the epoch
                with written_whole(files.softmax_file(self.path, done.number)) as part, part.open("wb") as file:
                    np.save(file, done.softmax.cpu().numpy(), allow_pickle=False)
                # the one before stays: until its checkpoint is written, this epoch may have to be repeated
                files.softmax_file(self.path, done.number - 2).unlink(missing_ok=True)
            files.write_epoch(self.path, done.number, rows, labels.numpy())
        self._labels, self._open = labels, None
        self._softmax, self._softmax_after = done.softmax, done.number
        self._done.add(done.number)

    def discard(self) -> None:
        """Drop the open epoch, which is then as if never written; the epochs closed before it stay."""
        self._open = None

    def __getitem__(self, name: str) -> Tensor:
        """The column ``name``: (epochs, n) float32, NaN where an example was not seen; ``kl_step`` has a row less.

        The open epoch is in it as far as it was written, and stays open. Once consolidated, the column is
        memory-mapped.

        Raises:
            MissingArrayError: not recorded.
        """
        if name not in self.columns:
            raise MissingArrayError(
                f"{name!r} is not recorded; this recorder has: {', '.join(self.columns)}"
                + (" (ask for which=(..., 'kl_step'))" if name == "kl_step" else "")
            )
        if self._consolidated and self.path is not None:
            return files.column(self.path, name)
        kind = files.dtype_of(name)
        rows = np.full((self.epochs, self.n), False if kind.kind == "b" else np.nan, dtype=kind)
        for epoch in self._done:
            rows[epoch] = self._row(epoch, name)
        if self._open is not None:
            rows[self._open.number] = self._open.row(name)
        return torch.from_numpy(rows[1:] if name == "kl_step" else rows)

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Epochs ``first`` to ``last - 1`` of a column, (last - first, n), reading no others; all of them closed.

        Raises:
            MissingArrayError: not recorded.
            RunError: one of the epochs is not closed yet.
        """
        if name not in self.columns or name == "kl_step":
            raise MissingArrayError(f"no rows of {name!r} by epoch; there are: {', '.join(self.columns)}")
        if not set(range(first, last)) <= self._done:
            raise RunError(f"epochs {first} to {last - 1} are not all recorded in {self.path or 'memory'}")
        if self._consolidated and self.path is not None:
            return files.column(self.path, name)[first:last]
        return torch.from_numpy(np.stack([self._row(epoch, name) for epoch in range(first, last)]))

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def arrays(self) -> dict[str, Tensor]:
        """Every column by name."""
        return {name: self[name] for name in self.columns}

    def consolidate(self) -> None:
        """Write one ``<signal>.npy`` a column beside the epochs' files, then remove those.

        Raises:
            RunError: in memory only, epochs missing, or the disk is full.
        """
        if self.path is None:
            raise RunError("a recorder without a path has nothing to consolidate; give path= when making it")
        self.flush()
        if self._consolidated:
            return
        if self.finished < self.epochs:
            raise RunError(f"only {self.finished} of {self.epochs} epochs are recorded in {self.path}")
        for name in self.columns:
            epochs = range(1 if name == "kl_step" else 0, self.epochs)
            files.write_column(self.path, name, partial(self._row, name=name), epochs, self.n)
        self._consolidated = True
        files.remove_epochs(self.path, self.epochs)

    def cut(self) -> None:
        """No more epochs come: those closed so far are all, and ``epochs`` says so; an open one is dropped.

        A recorder made again for as many epochs as this one was takes what it finds then as finished.

        Raises:
            RunError: nothing is recorded yet, or not without a gap.
        """
        self.discard()
        if not self.finished or len(self._done) > self.finished:
            have = f"epochs {sorted(self._done)} are" if self._done else "nothing is"
            raise RunError(f"{have} recorded in {self.path or 'memory'}: there is no end to cut the recording at")
        planned, self.epochs = self.epochs, self.finished
        if self.path is not None and self.epochs < planned:
            self._write_about(self.path, planned)

    def resume(self, epoch: int) -> None:
        """Forget everything from ``epoch`` on, to record it again.

        Raises:
            RunError: an epoch before it is missing, or what `kl_step` goes on from is.
        """
        self.discard()
        if self._consolidated and epoch >= self.epochs:
            return
        if self.finished < epoch or (self._consolidated and epoch):
            have = "it is consolidated" if self._consolidated else f"only {self.finished} epochs are recorded"
            raise RunError(
                f"cannot resume at epoch {epoch}: {have} in {self.path or 'memory'}. Remove the checkpoint to begin "
                "again, or give another --run folder"
            )
        if self.kl and epoch and self.path is None:
            raise RunError("kl_step cannot be resumed in memory: give the recorder a path")
        self._softmax = files.read_softmax(self.path, epoch - 1) if self.kl and epoch and self.path else None
        self._softmax_after = epoch - 1
        for later in sorted((e for e in self._done if e >= epoch), reverse=True):  # a kill here leaves no gap
            self._rows.pop(later, None)
            self._done.discard(later)
            if self.path is not None:
                files.epoch_file(self.path, later).unlink(missing_ok=True)
        if self._consolidated and self.path is not None:
            for name in self.columns:
                (self.path / f"{name}.npy").unlink(missing_ok=True)
            self._write_about(self.path)  # of fewer signals, perhaps
        self._consolidated = False

    def _opened(self, epoch: int, device: torch.device) -> OpenEpoch:
        if self._consolidated:
            raise RunError(f"the recording in {self.path} is finished: give another path, or resume(0) to record anew")
        if self.kl and (self._softmax is None or self._softmax_after >= epoch):
            known = epoch and self.path is not None and files.softmax_file(self.path, epoch - 1).exists()
            self._softmax = files.read_softmax(self.path, epoch - 1) if known and self.path else None
        softmax, self._softmax = self._softmax, None  # with the visits of the open epoch it is of no use to another
        return OpenEpoch(epoch, self.n, self.columns, device, softmax)

    def _row(self, epoch: int, name: str) -> np.ndarray:
        return self._rows[epoch][name] if self.path is None else files.read_epoch(self.path, epoch, name, self.n)

    def _read_back(self, path: Path) -> None:
        files.remove_parts(path, self.columns)
        while len(self._done) < self.epochs and files.epoch_file(path, len(self._done)).exists():
            self._labels = torch.from_numpy(files.check_epoch(path, len(self._done), self.columns, self.n))
            self._done.add(len(self._done))
        if not self._done and all((path / f"{name}.npy").exists() for name in self.columns):
            shape = tuple(files.column(path, "seen").shape)
            if shape[0] < self.epochs == files.planned_epochs(path):
                self.epochs = shape[0]
            if shape != (self.epochs, self.n):
                raise RunError(
                    f"{path} holds a finished recording of {shape[0]} epochs and {shape[1]} examples, not of "
                    f"{self.epochs} and {self.n}: give another --run folder"
                )
            self._consolidated, self._done = True, set(range(self.epochs))
            files.remove_epochs(path, self.epochs)  # those that a kill left over
            return
        # the epochs to come, and all again when the columns are written beside them
        need_space(path, 4 * self.n * len(self.columns) * (2 * self.epochs - len(self._done)))

    def _write_about(self, path: Path, planned: int | None = None) -> None:
        metadata = {"n": self.n, "epochs": self.epochs, "columns": list(self.columns)}
        metadata |= {} if planned is None else {"planned": planned}
        files.write_about(path, self._fingerprint, metadata)
