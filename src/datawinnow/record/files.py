"""The files of a recording: one ``.npz`` an epoch while it lasts, one memory-mapped ``.npy`` a signal at the end."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.arrays import TABLE
from datawinnow.core.artifacts import read_json, write_json
from datawinnow.core.errors import MissingArrayError, RunError
from datawinnow.core.files import atomic_write, remove_partial_files, require_space

LABELS_KEY = "_labels"
"""Entry of an epoch's file: (n,) int64 labels as trained on, -1 for examples not seen yet."""
METADATA_FILE = "about.json"
"""Beside the columns: the dataset, the sizes and the names of the columns."""
# what numpy and zipfile raise for files that are truncated, overwritten or something else
_READ_ERRORS = (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


def read_column(folder: Path, name: str, fingerprint: str | None = None) -> Tensor:
    """A consolidated column, memory-mapped: (epochs, n).

    Args:
        folder: that of the columns.
        name: of a recorded array (`datawinnow.core.arrays`).
        fingerprint: of the dataset that must have been recorded; not checked if None, or if the recording has none.

    Raises:
        MissingArrayError: the array is not recorded.
        RunError: the file is truncated, or another dataset was recorded.
    """
    if fingerprint is not None:
        recorded_fingerprint(folder, fingerprint)
    file = folder / f"{name}.npy"
    if not file.exists():
        have = ", ".join(sorted(f.stem for f in folder.glob("*.npy"))) or "none"
        hint = " Record it with: datawinnow record DATA --signals kl_step" if name == "kl_step" else ""
        raise MissingArrayError(f"the array {name!r} is not in {folder} (it holds: {have}).{hint}")
    try:
        # copy-on-write: torch warns of read-only arrays, and writes must not reach the file
        return torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise RunError(f"{file} is truncated or damaged ({error}); record again") from None


def recorded_fingerprint(folder: Path, fingerprint: str | None = None) -> str | None:
    """Fingerprint of the dataset of the recording in ``folder``; None if the recording has none.

    Args:
        folder: that of the columns.
        fingerprint: of the dataset that must have been recorded; None to accept any.

    Raises:
        RunError: another dataset was recorded, or ``about.json`` is damaged or not of a recording.
    """
    file = folder / METADATA_FILE
    if not file.exists():
        return None
    metadata = read_json(file)
    recorded = metadata.get("fingerprint")
    if metadata.get("kind") != "signals" or not (recorded is None or isinstance(recorded, str)):
        raise RunError(f"{file} does not describe recorded signals, or is damaged; give another folder, or remove it")
    if recorded is not None and fingerprint is not None and recorded != fingerprint:
        raise RunError(
            f"{folder} was recorded on another dataset (fingerprint {recorded}), not on this one (fingerprint "
            f"{fingerprint}): give another --run folder, or the dataset of the recording"
        )
    return recorded


def planned_epochs(folder: Path) -> int | None:
    """Number of epochs planned for a recording in ``folder`` that ended early; None for any other."""
    file = folder / METADATA_FILE
    planned = read_json(file).get("planned") if file.exists() else None
    return planned if isinstance(planned, int) else None


def write_metadata(folder: Path, fingerprint: str | None, metadata: Mapping[str, object]) -> None:
    """Write ``about.json``, unless it has the same content already.

    Raises:
        RunError: the disk is full.
    """
    metadata = {"kind": "signals", "fingerprint": fingerprint, **metadata}
    file = folder / METADATA_FILE
    # a subset: the file has the format version besides
    if not (file.exists() and metadata.items() <= read_json(file).items()):
        write_json(file, metadata)


def dtype_of(name: str) -> np.dtype[np.generic]:
    """Dtype of a column on disk: bool or float32."""
    return np.dtype(bool) if TABLE[name].kind == "bool" else np.dtype(np.float32)


def epoch_file(folder: Path, epoch: int) -> Path:
    """File of an epoch's rows, until the columns are written."""
    return folder / f"epoch-{epoch:04d}.npz"


def softmax_file(folder: Path, epoch: int) -> Path:
    """File of the class probabilities after an epoch, from which `kl_step` continues."""
    return folder / f"softmax-{epoch:04d}.npy"


def write_epoch(folder: Path, epoch: int, rows: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
    """Write an epoch's rows, one (n,) array a column; the file appears when it is complete.

    Raises:
        RunError: the disk is full.
    """
    # an open file: given a path, savez would add .npz to the temporary name
    with atomic_write(epoch_file(folder, epoch)) as partial, partial.open("wb") as file:
        np.savez(file, **rows, **{LABELS_KEY: labels})  # type: ignore[arg-type]


def read_epoch(folder: Path, epoch: int, name: str, n: int) -> np.ndarray:
    """(n,) row of one column in one epoch.

    Raises:
        RunError: the file is truncated or of another recording.
    """
    file = epoch_file(folder, epoch)
    try:
        # an .npz is read member by member: only this row is loaded
        with np.load(file, allow_pickle=False) as stored:
            row: np.ndarray = stored[name]
    except _READ_ERRORS as error:
        raise RunError(
            f"{file} is truncated, damaged or of another recording ({error}); remove it, and the checkpoint if there "
            "is one, and record again"
        ) from None
    if row.shape != (n,):
        raise RunError(
            f"{file} holds {len(row)} examples, but this recording has n={n}: it is of another dataset. Give "
            "another --run folder"
        )
    return row


def check_epoch(folder: Path, epoch: int, columns: tuple[str, ...], n: int) -> np.ndarray:
    """Labels of an epoch's file, after checking that it is complete, with these columns and ``n`` examples.

    Raises:
        RunError: it is not.
    """
    file = epoch_file(folder, epoch)
    labels = read_epoch(folder, epoch, LABELS_KEY, n)
    with zipfile.ZipFile(file) as stored:  # a zip file's directory is at its end: a truncated file has none
        stored_names = {Path(member).stem for member in stored.namelist()}
    missing = [name for name in columns if name not in stored_names]
    if missing:
        raise RunError(
            f"{file} has no {missing[0]!r}: it is of a recording of other signals "
            f"({', '.join(sorted(stored_names - {LABELS_KEY}))}). Give another --run folder, or the same signals"
        )
    return labels


def remove_epochs(folder: Path, epochs: int) -> None:
    """Remove the files of the epochs; the columns are written."""
    for epoch in range(epochs):
        epoch_file(folder, epoch).unlink(missing_ok=True)
    for file in folder.glob("softmax-*.npy"):
        file.unlink(missing_ok=True)


def remove_leftovers(folder: Path, columns: tuple[str, ...]) -> None:
    """Remove partial files of writes that were killed."""
    for name in (METADATA_FILE, "epoch-*", "softmax-*", *(f"{name}.npy" for name in columns)):
        remove_partial_files(folder / name)


def read_softmax(folder: Path, epoch: int) -> Tensor:
    """(n, c) class probabilities after ``epoch``.

    Raises:
        RunError: missing or truncated.
    """
    file = softmax_file(folder, epoch)
    try:
        return torch.from_numpy(np.load(file, allow_pickle=False))
    except _READ_ERRORS as error:
        raise RunError(
            f"cannot continue kl_step after epoch {epoch}: {file} is missing or damaged ({error}). Remove "
            f"{folder} and record again"
        ) from None


def write_column(folder: Path, name: str, row: Callable[[int], np.ndarray], epochs: range, n: int) -> None:
    """Write one column, a row at a time: not through a memory map, where a full disk raises SIGBUS.

    Raises:
        RunError: the disk is full.
    """
    kind = dtype_of(name)
    require_space(folder, len(epochs) * n * kind.itemsize)
    with atomic_write(folder / f"{name}.npy") as partial, partial.open("wb") as file:
        # the header of np.save, then rows as they come: the column is never in memory
        np.lib.format.write_array_header_1_0(
            file, {"descr": kind.str, "fortran_order": False, "shape": (len(epochs), n)}
        )
        for epoch in epochs:
            file.write(np.ascontiguousarray(row(epoch), dtype=kind).tobytes())
