"""Decoded pictures are kept between runs, so that 50,000 of them load in a blink the second time.

The folder is ``$DATAWINNOW_CACHE`` (empty: no cache) or ``~/.cache/datawinnow``; it can be deleted at any time.
"""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from datawinnow.core.errors import RunError
from datawinnow.core.files import written_whole
from datawinnow.data.pictures import Decoded

WORTH_SECONDS = 1.0
"""What decodes faster than this is decoded each time."""


def cache_folder() -> Path | None:
    """Where decoded pictures are kept; None when switched off."""
    told = os.environ.get("DATAWINNOW_CACHE")
    if told is not None:
        return Path(told).expanduser() if told.strip() else None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "datawinnow"


def cached_file(key: tuple[str, str], suffix: str) -> Path | None:
    """The cache's file for a key: which pictures, and in what state their files are."""
    folder = cache_folder()
    return folder / f"{key[0]}-{key[1]}{suffix}" if folder else None


def read(key: tuple[str, str]) -> Decoded | None:
    """What was stored under ``key``, or None when there is nothing or it is damaged (zip checks every byte)."""
    path = cached_file(key, ".npz")
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            x, broken, resized = stored["x"], stored["broken"], stored["resized"]
        if x.dtype != np.uint8 or x.ndim != 4 or broken.dtype != np.int64 or broken.ndim != 1:
            return None
        return Decoded(x, broken, int(resized))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError):
        return None


def write(key: tuple[str, str], decoded: Decoded) -> bool:
    """Store decoded pictures, and drop what was stored for the same files in an older state.

    Returns:
        Whether it was stored: a folder that cannot be written, or too full a disk, only means no cache.
    """
    path = cached_file(key, ".npz")
    if path is None or decoded.x is None or not room_for(path, 2 * decoded.x.nbytes):
        return False
    try:
        with written_whole(path) as part, part.open("wb") as file:
            np.savez(file, x=decoded.x, broken=decoded.broken, resized=np.int64(decoded.resized))
    except (OSError, RunError):
        return False
    drop_older(path)
    return True


def room_for(path: Path, size: int) -> bool:
    """Whether ``size`` bytes can be written to ``path``'s folder, which is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.access(path.parent, os.W_OK) and shutil.disk_usage(path.parent).free > size
    except OSError:
        return False


def drop_older(path: Path) -> None:
    """Remove the cache's files for the same pictures in another state of their files."""
    which = path.name.split("-")[0]
    for other in path.parent.glob(f"{which}-*{path.suffix}"):
        if other != path:
            with suppress(OSError):
                other.unlink()
