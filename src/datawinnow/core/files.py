"""Files are written beside their place and then renamed, so a kill or a full disk never leaves half a file.

This module imports neither torch nor numpy: the report uses it.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datawinnow.core.errors import RunError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and renamed, on failure removed.

    Raises:
        RunError: the disk is full; an older file at ``path`` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside the target: a rename is atomic only within one file system
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    partial_path = Path(name)
    try:
        yield partial_path
        with partial_path.open("rb+") as file:
            # before the rename: a power cut could otherwise leave the new name with nothing behind it
            os.fsync(file.fileno())
        partial_path.chmod(0o644)  # mkstemp makes files private; artefacts are meant to be shared
        partial_path.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        # after the rename there is nothing left to remove
        partial_path.unlink(missing_ok=True)


def remove_partial_files(path: Path) -> None:
    """Remove the temporary files of `atomic_write` to ``path`` in processes that were killed.

    Only for a file that one process writes: another process writing it at the same time would lose its file.
    """
    for stale in path.parent.glob(f".{path.name}.*.part"):
        stale.unlink(missing_ok=True)


def disk_error(error: OSError, path: Path) -> Exception:
    """``error`` as a `RunError` that names the path when the disk is full; ``error`` itself otherwise."""
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return RunError(
            f"the disk is full: could not write {path}. What was finished before is kept: free some space and run "
            "the same command again to resume"
        )
    return error


def require_space(path: Path, size: int) -> None:
    """Refuse a write of ``size`` bytes below the folder ``path`` that cannot fit.

    A memory map on a full disk dies of SIGBUS instead.

    Raises:
        RunError: naming the bytes needed and free.
    """
    path.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path).free
    if free < size:
        raise RunError(
            f"the disk is full: {path} needs {size / 1e6:.1f} MB and has {free / 1e6:.1f} MB. "
            "Free some space or use another `run=` folder, then run the same command again to resume"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_write(path) as partial_path:
        partial_path.write_bytes(data)


def finite_or_none(value: float | None) -> float | None:
    """``value``, or None where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None
