"""`Recorder`: signals written at ``index`` into (epochs, n) columns, in memory or on disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.arrays import RECORDED, TABLE
from datawinnow.core.errors import ArgumentError, MissingArrayError, RunError
from datawinnow.core.files import need_space, write_bytes, written_whole
from datawinnow.record.signals import kl_step, signals


class Recorder:
    """Per-example signals of a training run.

    The epoch being written lives on the device of the logits as one (signals, n) buffer, so a step costs a scatter and no
    wait for the device; it moves to the columns once, when the next epoch starts or `flush` is called.

    Args:
        n: number of examples; ids are 0 to n - 1.
        epochs: number of epochs.
        which: signals to keep; add ``"kl_step"`` for TDDS (it keeps a row of class probabilities an example).
        path: folder for the columns (``signals/`` of a run folder); in memory when None. Each epoch is written there
            whole and renamed, so that a killed run goes on from the last whole one.

    Raises:
        ArgumentError: sizes below 1 or an unknown signal.
        RunError: the folder has another recording in it, or too little space.
    """

    def __init__(
        self, n: int, epochs: int, *, which: tuple[str, ...] = RECORDED, path: Path | str | None = None
    ) -> None:
        self.n = int(check.number("n", n, 1, 1 << 40, integer=True))
        self.epochs = int(check.number("epochs", epochs, 1, 1 << 20, integer=True))
        for name in which:
            if name not in (*RECORDED, "kl_step", "seen"):
                raise ArgumentError(f"no signal is called {name!r}; there are: {', '.join((*RECORDED, 'kl_step'))}")
        self.which = tuple(name for name in which if name not in ("seen", "kl_step"))
        self.kl = "kl_step" in which
        self.path = None if path is None else Path(path)
        self.labels = torch.full((self.n,), -1, dtype=torch.int64)
        self._open: int | None = None
        self._buffer = torch.empty(0)
        self._seen_labels = torch.empty(0, dtype=torch.int64)
        self._softmax: Tensor | None = None  # (n, c), the last visit of each example
        self._rows: dict[int, dict[str, np.ndarray]] = {}
        if self.path is not None:
            need_space(self.path, 2 * 4 * self.epochs * self.n * len(self.columns))
            self._read_back()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: the signals and ``seen``."""
        return (*self.which, *(("kl_step",) if self.kl else ()), "seen")

    @property
    def finished(self) -> int:
        """Number of whole epochs from the start."""
        done = 0
        while done in self._rows:
            done += 1
        return done

    def write(self, epoch: int, index: Tensor, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Record one batch.

        Args:
            epoch: 0 to epochs - 1; a new one closes the one before.
            index: (b,) int64 ids of the examples.
            logits: (b, c).
            labels: (b,) int64, as trained on.

        Returns:
            The batch's signals, name -> (b,), on the device of the logits.

        Raises:
            ArgumentError: an epoch or shapes out of range, ids that are not int64 (half precision would merge them).
        """
        if not 0 <= epoch < self.epochs:
            raise ArgumentError(f"epoch must be in [0, {self.epochs}), got {epoch}")
        if index.dtype != torch.int64 or index.shape != labels.shape:
            raise ArgumentError(
                f"index must be int64 of shape {tuple(labels.shape)}, got {index.dtype} of shape {tuple(index.shape)}"
            )
        if not index.is_cuda and index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.n:
            raise ArgumentError(f"index must hold ids in [0, {self.n}), got {int(index.min())} to {int(index.max())}")
        if epoch != self._open:
            self.flush()
            self._start(epoch, logits.device)
        values = signals(logits, labels, which=self.which)
        index = index.to(logits.device)
        stacked = torch.stack([v.float() for v in values.values()]) if values else logits.new_empty((0, len(labels)))
        self._buffer[: len(self.which), index] = stacked
        self._buffer[-1, index] = 1.0
        self._seen_labels[index] = labels
        if self.kl:
            self._write_kl(epoch, index, logits)
        return values

    def flush(self) -> None:
        """Move the open epoch to the columns (and to disk, whole); nothing is open afterwards."""
        if self._open is None:
            return
        rows = self._buffer.cpu().numpy()
        self.labels = torch.where(self._seen_labels.cpu() >= 0, self._seen_labels.cpu(), self.labels)
        row = {name: rows[i].copy() for i, name in enumerate(self.columns)}
        for name in self.columns:
            if TABLE[name].kind == "bool":
                row[name] = np.nan_to_num(row[name]).astype(bool)
        epoch, self._open = self._open, None
        if self.path is not None:
            self._save(epoch, row)
        self._rows[epoch] = row

    def __getitem__(self, name: str) -> Tensor:
        """The column ``name``: (epochs, n) float32, NaN where an example was not seen; ``kl_step`` has a row less.

        Raises:
            MissingArrayError: not recorded.
        """
        if name not in self.columns:
            raise MissingArrayError(
                f"{name!r} is not recorded; this recorder has: {', '.join(self.columns)}"
                + (" (ask for which=(..., 'kl_step'))" if name == "kl_step" else "")
            )
        self.flush()
        bool_ = TABLE[name].kind == "bool"
        blank = np.zeros(self.n, dtype=bool) if bool_ else np.full(self.n, np.nan, dtype=np.float32)
        stacked = np.stack([self._rows[e][name] if e in self._rows else blank for e in range(self.epochs)])
        return torch.from_numpy(stacked[1:] if name == "kl_step" else stacked)

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
        if self.finished < self.epochs:
            raise RunError(f"only {self.finished} of {self.epochs} epochs are recorded in {self.path}")
        for name in self.columns:
            rows = range(1 if name == "kl_step" else 0, self.epochs)
            kind = np.dtype(bool) if TABLE[name].kind == "bool" else np.dtype(np.float32)
            need_space(self.path, len(rows) * self.n * kind.itemsize)
            with written_whole(self.path / f"{name}.npy") as part, part.open("wb") as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": kind.str, "fortran_order": False, "shape": (len(rows), self.n)}
                )
                for epoch in rows:  # a row at a time, not through a memory map: a full disk is an error, not a SIGBUS
                    file.write(np.ascontiguousarray(self._rows[epoch][name], dtype=kind).tobytes())
        for epoch in range(self.epochs):
            _epoch_file(self.path, epoch).unlink(missing_ok=True)
        for file in self.path.glob("softmax-*.npy"):
            file.unlink()

    def _start(self, epoch: int, device: torch.device) -> None:
        self._open = epoch
        self._buffer = torch.full((len(self.columns), self.n), torch.nan, device=device)
        self._buffer[-1] = 0.0
        self._seen_labels = torch.full((self.n,), -1, dtype=torch.int64, device=device)

    def _write_kl(self, epoch: int, index: Tensor, logits: Tensor) -> None:
        p = logits.detach().float().softmax(dim=1)
        if self._softmax is None:
            self._softmax = torch.full((self.n, p.shape[1]), torch.nan, device=p.device)
        self._softmax = self._softmax.to(p.device)
        if epoch:
            self._buffer[len(self.which), index] = kl_step(self._softmax[index], p)
        self._softmax[index] = p

    def _save(self, epoch: int, row: dict[str, np.ndarray]) -> None:
        assert self.path is not None
        if self._softmax is not None:  # before the epoch's file: a kill between the two repeats the epoch
            write_bytes(self.path / f"softmax-{epoch:04d}.npy", _npy(self._softmax.cpu().numpy()))
            (self.path / f"softmax-{epoch - 2:04d}.npy").unlink(missing_ok=True)
        packed = io.BytesIO()
        np.savez(packed, **row, _labels=self.labels.numpy())  # type: ignore[arg-type]
        write_bytes(_epoch_file(self.path, epoch), packed.getvalue())

    def _read_back(self) -> None:
        assert self.path is not None
        for epoch in range(self.epochs):
            file = _epoch_file(self.path, epoch)
            if not file.exists():
                break
            try:
                with np.load(file, allow_pickle=False) as stored:
                    row = {name: stored[name] for name in self.columns}
                    labels = stored["_labels"]
            except (ValueError, KeyError, OSError, EOFError) as error:
                raise RunError(
                    f"{file} is truncated or of another recording ({error}); remove it and record again "
                    "to resume from the epoch before it"
                ) from None
            except Exception as error:  # zipfile.BadZipFile, zlib.error
                raise RunError(f"{file} is damaged ({error}); remove it to resume from the epoch before it") from None
            if any(column.shape != (self.n,) for column in row.values()):
                raise RunError(
                    f"{file} is about {len(row['seen'])} examples, but this recording has n={self.n}: it is "
                    "of another dataset. Give another --run folder"
                )
            self._rows[epoch] = row
            self.labels = torch.from_numpy(labels.copy())

    def resume(self, epoch: int) -> None:
        """Forget everything from ``epoch`` on, to record it again.

        Raises:
            RunError: an epoch before it is missing.
        """
        if self.finished < epoch:
            raise RunError(f"cannot resume at epoch {epoch}: only {self.finished} epochs are recorded in {self.path}")
        self._open = None
        for later in [e for e in self._rows if e >= epoch]:
            del self._rows[later]
            if self.path is not None:
                _epoch_file(self.path, later).unlink(missing_ok=True)
        if self.kl and epoch and self.path is not None:
            file = self.path / f"softmax-{epoch - 1:04d}.npy"
            self._softmax = torch.from_numpy(np.load(file, allow_pickle=False))


def column(folder: Path, name: str) -> Tensor:
    """A consolidated column, memory-mapped: (epochs, n).

    Raises:
        MissingArrayError: not recorded.
        RunError: truncated.
    """
    file = folder / f"{name}.npy"
    if not file.exists():
        have = ", ".join(sorted(f.stem for f in folder.glob("*.npy"))) or "none"
        hint = " Record it with: datawinnow record DATA --signals kl_step" if name == "kl_step" else ""
        raise MissingArrayError(f"the array {name!r} is not in {folder} (there are: {have}).{hint}")
    try:
        # copy-on-write: torch can take it without a warning, and nothing written to it reaches the file
        return torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise RunError(f"{file} is truncated or damaged ({error}); record again") from None


def _epoch_file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:04d}.npz"


def _npy(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array, allow_pickle=False)
    return packed.getvalue()


def describe(recorder: Recorder) -> dict[str, Any]:
    """What goes into ``run.json`` about a recording."""
    return {"signals": list(recorder.columns), "epochs": recorder.epochs}
