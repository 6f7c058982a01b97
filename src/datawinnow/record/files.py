"""The files of a recording: one ``.npz`` an epoch while it lasts, one memory-mapped ``.npy`` a signal at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.arrays import TABLE
from datawinnow.core.artifact_schemas import SignalsFile
from datawinnow.core.artifacts import (
    npz_names,
    open_npy,
    read_json,
    read_npy,
    read_npz_arrays,
    write_json,
    write_npy,
    write_npz,
)
from datawinnow.core.errors import MissingArrayError, RunError
from datawinnow.core.files import remove_abandoned, require_space

IDENTITY_KEY = "_identity"
"""Entry of an epoch's file: the training and the epoch that it is of."""
LABELS_KEY = "_labels"
"""Entry of an epoch's file: (n,) int64 labels as trained on, -1 for examples not seen yet."""
METADATA_FILE = "about.json"
"""Beside the columns: the dataset, the sizes and the names of the columns."""
SOURCE_ROWS_FILE = "row.npy"
"""Beside the columns: (n,) int64 place of each example in the source that its dataset was loaded from."""
REMOVE_EPOCH = "remove it, and the checkpoint if there is one, and record again"
"""What to do about an epoch's file that is damaged or of another recording."""


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
        hint = " Record it with `dw.api.record(data, signals='kl_step')`" if name == "kl_step" else ""
        raise MissingArrayError(f"the array {name!r} is not in {folder} (it holds: {have}).{hint}")
    return torch.from_numpy(read_npy(file, mapped=True, remedy="record again"))


def mark_unseen(correct: Tensor, seen: Tensor) -> Tensor:
    """``correct`` as it is if all entries were seen, else as float32 with NaN where not, as other signals have it.

    On disk a bool column cannot hold NaN: there it is False, which as a value would mean wrong (and be forgotten).

    Args:
        correct: (epochs, n) bool.
        seen: (epochs, n) bool.
    """
    if bool(seen.all()):
        return correct
    return torch.where(seen.bool(), correct.float(), torch.nan)


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
    metadata = read_json(file, schema=SignalsFile)
    recorded = metadata.get("fingerprint")
    if metadata.get("kind") != "signals" or not (recorded is None or isinstance(recorded, str)):
        raise RunError(f"{file} does not describe recorded signals, or is damaged; give another folder, or remove it")
    if recorded is not None and fingerprint is not None and recorded != fingerprint:
        raise RunError(
            f"{folder} was recorded on another dataset (fingerprint {recorded}), not on this one (fingerprint "
            f"{fingerprint}): give another `run=` folder, or the dataset of the recording"
        )
    return recorded


def planned_epochs(folder: Path) -> int | None:
    """Number of epochs planned for a recording in ``folder`` that ended early; None for any other."""
    file = folder / METADATA_FILE
    planned = read_json(file, schema=SignalsFile).get("planned") if file.exists() else None
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


def write_source_rows(folder: Path, rows: Tensor) -> None:
    """Write ``row.npy``, unless it has the same content already.

    Raises:
        RunError: the disk is full.
    """
    file = folder / SOURCE_ROWS_FILE
    if not (file.exists() and np.array_equal(read_npy(file, remedy="remove it"), rows.numpy())):
        write_npy(file, rows.numpy())


def read_source_rows(folder: Path, n: int) -> Tensor:
    """(n,) int64 places in the source of the examples that the columns are of.

    Args:
        folder: that of the columns.
        n: number of examples of the recording.

    Raises:
        MissingArrayError: the recording does not know them.
        RunError: the file is damaged, or no list of ``n`` places.
    """
    file = folder / SOURCE_ROWS_FILE
    if not file.exists():
        raise MissingArrayError(
            f"the recording in {folder} does not know the rows of its examples in their source: give them to the "
            "recorder (`rows=`), or record with `dw.api.record`"
        )
    rows = read_npy(file, remedy="record again")
    if rows.dtype != np.int64 or rows.shape != (n,) or rows.min() < 0:
        raise RunError(f"{file} holds no places of {n:,} examples in a source; record again")
    return torch.from_numpy(rows)


def dtype_of(name: str) -> np.dtype[np.generic]:
    """Dtype of a column on disk: bool or float32."""
    return np.dtype(bool) if TABLE[name].kind == "bool" else np.dtype(np.float32)


def epoch_file(folder: Path, epoch: int) -> Path:
    """File of an epoch's rows, until the columns are written."""
    return folder / f"epoch-{epoch:04d}.npz"


def softmax_file(folder: Path, epoch: int) -> Path:
    """File of the class probabilities after an epoch, from which `kl_step` continues."""
    return folder / f"softmax-{epoch:04d}.npy"


def write_epoch(
    folder: Path, epoch: int, rows: Mapping[str, np.ndarray], labels: np.ndarray, training: str | None = None
) -> None:
    """Write an epoch's rows, one (n,) array a column; the file appears when it is complete.

    Args:
        folder: that of the columns.
        epoch: its number.
        rows: by column.
        labels: (n,) int64.
        training: text by which `check_epoch` tells the training from others; None for none.

    Raises:
        RunError: the disk is full.
    """
    write_npz(epoch_file(folder, epoch), {**rows, LABELS_KEY: labels, IDENTITY_KEY: _identity(training, epoch)})


def _identity(training: str | None, epoch: int) -> np.ndarray:
    return np.frombuffer(f"{epoch} {training or ''}".encode(), np.uint8)


def read_epoch(folder: Path, epoch: int, name: str, n: int) -> np.ndarray:
    """(n,) row of one column in one epoch.

    Raises:
        RunError: the file is truncated or of another recording.
    """
    file = epoch_file(folder, epoch)
    row = read_npz_arrays(file, (name,), remedy=REMOVE_EPOCH)[name]
    if row.shape != (n,):
        raise RunError(
            f"{file} holds {len(row)} examples, but this recording has n={n}: it belongs to a different dataset. Give "
            "another `run=` folder"
        )
    return row


def check_epoch(folder: Path, epoch: int, columns: tuple[str, ...], n: int, training: str | None = None) -> np.ndarray:
    """Labels of an epoch's file, after checking that it is complete, with these columns and ``n`` examples.

    Raises:
        RunError: it is not, or it is of another training or another epoch.
    """
    file = epoch_file(folder, epoch)
    labels = read_epoch(folder, epoch, LABELS_KEY, n)
    stored_names = npz_names(file, remedy=REMOVE_EPOCH)
    # an earlier version wrote none
    if IDENTITY_KEY in stored_names:
        stored = read_npz_arrays(file, (IDENTITY_KEY,), remedy=REMOVE_EPOCH)[IDENTITY_KEY]
        expected = _identity(training, epoch)
        # who only reads knows no training
        if not np.array_equal(stored if training is not None else stored[: len(expected)], expected):
            raise RunError(
                f"{file} is of another training than this one, or of another epoch: put back the file that was there, "
                f"or {REMOVE_EPOCH}"
            )
    missing = [name for name in columns if name not in stored_names]
    if missing:
        raise RunError(
            f"{file} has no {missing[0]!r}: it is of a recording of other signals "
            f"({', '.join(sorted(stored_names - {LABELS_KEY, IDENTITY_KEY}))}). Give another `run=` folder, or the "
            "same signals"
        )
    return labels


def remove_epochs(folder: Path, epochs: int) -> None:
    """Remove the files of the epochs; the columns are written."""
    for epoch in range(epochs):
        epoch_file(folder, epoch).unlink(missing_ok=True)
    for file in folder.glob("softmax-*.npy"):
        file.unlink(missing_ok=True)


def split_into_epochs(folder: Path, epochs: int, labels: Tensor, training: str | None = None) -> None:
    """Make a finished recording one of files by epoch again, for a recorder of more epochs to go on.

    Nothing is done where the columns have ``epochs`` rows, or are not there. A kill at any moment loses nothing: the
    columns stay until the files of all epochs are written.

    Args:
        folder: that of the columns.
        epochs: of the longer recording.
        labels: (n,) int64 labels as trained on.
        training: as of `write_epoch`.

    Raises:
        RunError: the disk is full, or a file is damaged.
    """
    about = folder / METADATA_FILE
    names = read_json(about, schema=SignalsFile).get("columns", []) if about.exists() else []
    if not names or not all((folder / f"{name}.npy").exists() for name in names):
        return
    columns = {name: read_column(folder, name).numpy() for name in names}
    recorded = min(len(column) for column in columns.values())
    if recorded >= epochs:
        return
    # the first one last: a recorder takes the epochs for the recording where it is there, the columns where it is not
    for epoch in reversed(range(recorded)):
        rows = {name: column[epoch] for name, column in columns.items()}
        write_epoch(folder, epoch, rows, labels.numpy(), training)
    for name in names:
        (folder / f"{name}.npy").unlink()


def remove_leftovers(folder: Path, columns: tuple[str, ...]) -> None:
    """Remove partial files of writes that were killed."""
    for name in (METADATA_FILE, "epoch-*", "softmax-*", *(f"{name}.npy" for name in columns)):
        remove_abandoned(folder.glob(f".{name}.*.part"))


def read_softmax(folder: Path, epoch: int) -> Tensor:
    """(n, c) class probabilities after ``epoch``.

    Raises:
        RunError: missing or truncated.
    """
    remedy = f"kl_step cannot continue after epoch {epoch} without it: remove {folder} and record again"
    return torch.from_numpy(read_npy(softmax_file(folder, epoch), remedy=remedy))


def write_softmax(folder: Path, epoch: int, softmax: Tensor) -> None:
    """Write the (n, c) class probabilities after ``epoch``.

    Raises:
        RunError: the disk is full.
    """
    write_npy(softmax_file(folder, epoch), softmax.cpu().numpy())


def write_column(folder: Path, name: str, row: Callable[[int], np.ndarray], epochs: range, n: int) -> None:
    """Write one column, a row at a time: not through a memory map, where a full disk raises SIGBUS.

    Raises:
        RunError: the disk is full.
    """
    kind = dtype_of(name)
    require_space(folder, len(epochs) * n * kind.itemsize)
    # rows as they come: the column is never in memory
    with open_npy(folder / f"{name}.npy", (len(epochs), n), kind) as file:
        for epoch in epochs:
            file.write(np.ascontiguousarray(row(epoch), dtype=kind).tobytes())
