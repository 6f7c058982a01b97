"""The files of a recording: one ``.npz`` an epoch while it lasts, one memory-mapped ``.npy`` a signal at its end."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import files
from datawinnow.core.arrays import TABLE
from datawinnow.core.errors import MissingArrayError, RunError
from datawinnow.core.files import need_space, read_json, write_json, written_whole

LABELS = "_labels"
"""Member of an epoch's file: (n,) int64 labels as trained on, -1 where not known yet."""
ABOUT = "about.json"
"""Beside the columns: what they are about."""
_DAMAGE = (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


def column(folder: Path, name: str, fingerprint: str | None = None) -> Tensor:
    """A consolidated column, memory-mapped: (epochs, n).

    Args:
        folder: where the columns lie.
        name: of the table of arrays.
        fingerprint: of the dataset that it has to be about; not checked when None, or when the recording does not say.

    Raises:
        MissingArrayError: not recorded.
        RunError: truncated, or recorded on another dataset.
    """
    if fingerprint is not None:
        recorded_about(folder, fingerprint)
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


def recorded_about(folder: Path, fingerprint: str | None = None) -> str | None:
    """Fingerprint of the dataset that the recording in ``folder`` is about; None when it does not say.

    Args:
        folder: where the columns lie.
        fingerprint: of the dataset that it should be about, where that is known.

    Raises:
        RunError: it is about another one, or its ``about.json`` is damaged or about something else.
    """
    file = folder / ABOUT
    if not file.exists():
        return None
    metadata = read_json(file)
    known = metadata.get("fingerprint")
    if metadata.get("kind") != "signals" or not (known is None or isinstance(known, str)):
        raise RunError(f"{file} is not about recorded signals, or damaged; give another folder, or remove it")
    if known is not None and fingerprint is not None and known != fingerprint:
        raise RunError(
            f"{folder} was recorded on another dataset (fingerprint {known}), not on this one (fingerprint "
            f"{fingerprint}): give another --run folder, or the dataset that it was begun with"
        )
    return known


def planned_epochs(folder: Path) -> int | None:
    """Epochs that a recording in ``folder`` was to have that was ended before; None of one that was not."""
    file = folder / ABOUT
    planned = read_json(file).get("planned") if file.exists() else None
    return planned if isinstance(planned, int) else None


def write_about(folder: Path, fingerprint: str | None, metadata: Mapping[str, object]) -> None:
    """Write what the columns are about, unless it stands there already.

    Raises:
        RunError: the disk is full.
    """
    metadata = {"kind": "signals", "fingerprint": fingerprint, **metadata}
    file = folder / ABOUT
    if not (file.exists() and metadata.items() <= read_json(file).items()):
        write_json(file, metadata)


def dtype_of(name: str) -> np.dtype[np.generic]:
    """How a column is stored: bool or float32."""
    return np.dtype(bool) if TABLE[name].kind == "bool" else np.dtype(np.float32)


def epoch_file(folder: Path, epoch: int) -> Path:
    """Where an epoch's rows lie until the columns are written."""
    return folder / f"epoch-{epoch:04d}.npz"


def softmax_file(folder: Path, epoch: int) -> Path:
    """Where the class probabilities after an epoch lie: what `kl_step` goes on from."""
    return folder / f"softmax-{epoch:04d}.npy"


def write_epoch(folder: Path, epoch: int, rows: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
    """Write an epoch's rows, one (n,) array a column, whole.

    Raises:
        RunError: the disk is full.
    """
    with written_whole(epoch_file(folder, epoch)) as part, part.open("wb") as file:
        np.savez(file, **rows, **{LABELS: labels})  # type: ignore[arg-type]


def read_epoch(folder: Path, epoch: int, name: str, n: int) -> np.ndarray:
    """(n,) row of one column in one epoch.

    Raises:
        RunError: the file is truncated, or of another recording.
    """
    file = epoch_file(folder, epoch)
    try:
        with np.load(file, allow_pickle=False) as stored:
            row: np.ndarray = stored[name]
    except _DAMAGE as error:
        raise RunError(
            f"{file} is truncated, damaged or of another recording ({error}); remove it, and the checkpoint if there "
            "is one, and record again"
        ) from None
    if row.shape != (n,):
        raise RunError(
            f"{file} is about {len(row)} examples, but this recording has n={n}: it is of another dataset. Give "
            "another --run folder"
        )
    return row


def check_epoch(folder: Path, epoch: int, columns: tuple[str, ...], n: int) -> np.ndarray:
    """Labels of an epoch's file, if it is whole, has these columns and is about ``n`` examples.

    Raises:
        RunError: it is not.
    """
    file = epoch_file(folder, epoch)
    labels = read_epoch(folder, epoch, LABELS, n)
    with zipfile.ZipFile(file) as stored:  # its directory stands at the end: a truncated file has none
        there = {Path(member).stem for member in stored.namelist()}
    missing = [name for name in columns if name not in there]
    if missing:
        raise RunError(
            f"{file} has no {missing[0]!r}: it is of a recording of other signals "
            f"({', '.join(sorted(there - {LABELS}))}). Give another --run folder, or ask for the same signals"
        )
    return labels


def remove_epochs(folder: Path, epochs: int) -> None:
    """Remove the files of the epochs, once the columns are written."""
    for epoch in range(epochs):
        epoch_file(folder, epoch).unlink(missing_ok=True)
    for file in folder.glob("softmax-*.npy"):
        file.unlink(missing_ok=True)


def remove_parts(folder: Path, columns: tuple[str, ...]) -> None:
    """Remove what a kill in the middle of a write has left."""
    for name in (ABOUT, "epoch-*", "softmax-*", *(f"{name}.npy" for name in columns)):
        files.remove_parts(folder / name)


def read_softmax(folder: Path, epoch: int) -> Tensor:
    """(n, c) class probabilities after ``epoch``.

    Raises:
        RunError: missing or truncated.
    """
    file = softmax_file(folder, epoch)
    try:
        return torch.from_numpy(np.load(file, allow_pickle=False))
    except _DAMAGE as error:
        raise RunError(
            f"cannot go on with kl_step after epoch {epoch}: {file} is missing or damaged ({error}). Remove "
            f"{folder} and record again"
        ) from None


def write_column(folder: Path, name: str, row: Callable[[int], np.ndarray], epochs: range, n: int) -> None:
    """Write one column whole, a row at a time: not through a memory map, where a full disk is a SIGBUS.

    Raises:
        RunError: the disk is full.
    """
    kind = dtype_of(name)
    need_space(folder, len(epochs) * n * kind.itemsize)
    with written_whole(folder / f"{name}.npy") as part, part.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": kind.str, "fortran_order": False, "shape": (len(epochs), n)}
        )
        for epoch in epochs:
            file.write(np.ascontiguousarray(row(epoch), dtype=kind).tobytes())
