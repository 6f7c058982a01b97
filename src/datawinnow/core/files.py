"""Files are written whole and then renamed, so a kill or a full disk never leaves half a file under its real name.

This module imports neither torch nor numpy: the report reads with it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datawinnow.core.errors import RunError

FORMAT_VERSION = 1
"""Version of every file layout that datawinnow writes; a file with a higher one is refused."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and renamed, on failure removed.

    Raises:
        RunError: the disk is full (what stood under ``path`` before is untouched).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)  # mkstemp makes files private; artefacts are meant to be shared
        part.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        part.unlink(missing_ok=True)


def remove_parts(path: Path) -> None:
    """Remove what a kill in the middle of a `written_whole` of ``path`` left beside it.

    For the one process that writes ``path``: another one that is writing it at this moment would lose its file.
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


def need_space(path: Path, size: int) -> None:
    """Raise before a write of ``size`` bytes that cannot fit (a memory map on a full disk dies of SIGBUS instead)."""
    path.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path).free
    if free < size:
        raise RunError(
            f"the disk is full: {path} needs {size / 1e6:.1f} MB and has {free / 1e6:.1f} MB. "
            "Free some space or give another folder with --run, then run the same command again to resume"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` whole."""
    with written_whole(path) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole, with the format version in it."""
    text = json.dumps({"format": FORMAT_VERSION, **value}, indent=1, allow_nan=False, default=str)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object written by `write_json`.

    Raises:
        RunError: no such file, not JSON (truncated), or written by a newer version.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"no such file: {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is truncated or not JSON ({error}); remove it and run its stage again") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} is not what datawinnow writes (a JSON object); remove it and run its stage again")
    check_format(value.get("format"), path)
    return value


def check_format(version: object, path: Path) -> None:
    """Refuse a file of a newer layout by name."""
    if not isinstance(version, int) or version < 1:
        raise RunError(f"{path} has no format version: it was not written by datawinnow, or is damaged")
    if version > FORMAT_VERSION:
        raise RunError(
            f"{path} was written by a newer datawinnow (format {version}, this one reads up to {FORMAT_VERSION}); "
            "upgrade with: pip install -U datawinnow"
        )


def finite_or_none(value: float | None) -> float | None:
    """``value``, or None where it is NaN or infinite."""
    return value if value is not None and math.isfinite(value) else None
