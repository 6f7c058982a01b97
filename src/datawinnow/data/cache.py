"""Cache of decoded images on disk, so that they load without decoding the second time.

The folder is ``$DATAWINNOW_CACHE`` (empty: no cache) or ``~/.cache/datawinnow``; it can be deleted at any time. It
holds up to ``$DATAWINNOW_CACHE_GB`` gigabytes (10 by default): beyond that, the least recently used files are removed,
but none that a process still reads. Only files that the cache wrote are ever removed.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datawinnow.core.artifacts import read_npz_arrays, write_npz
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.data.images import Decoded

try:
    import fcntl
except ImportError:  # no such locks there; a file that is open cannot be removed there either
    fcntl = None  # type: ignore[assignment]

WORTH_SECONDS = 1.0
"""Images that decode faster than this are not cached."""
GIGABYTES = 10.0
"""Size of the cache without ``$DATAWINNOW_CACHE_GB``."""
CACHE_FILE_NAME = re.compile(r"[0-9a-f]{24}(_\d+x\d+x\d+)?-[0-9a-f]{24}\.(npz|arrow)")
"""Names that `cached_file` makes: other files in the folder are never removed."""
open_files: dict[Path, BinaryIO] = {}
"""Files that this process reads until it ends, open and locked."""


def cache_folder() -> Path | None:
    """Folder of decoded images; None when the cache is off."""
    setting = os.environ.get("DATAWINNOW_CACHE")
    if setting is not None:
        return Path(setting).expanduser() if setting.strip() else None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "datawinnow"


def cached_file(key: tuple[str, str], suffix: str) -> Path | None:
    """The cache's file for a key: which images, and in what state their files are; in use from now on if it exists.

    Raises:
        ArgumentError: as in `max_bytes`, before anything is decoded.
    """
    folder = cache_folder()
    if folder is None:
        return None
    # a wrong setting is reported now, not after minutes of decoding
    max_bytes()
    path = folder / f"{key[0]}-{key[1]}{suffix}"
    _use(path)
    return path


def max_bytes() -> float:
    """Bytes that the cache may hold.

    Raises:
        ArgumentError: ``$DATAWINNOW_CACHE_GB`` is not a number of at least 0.
    """
    setting = os.environ.get("DATAWINNOW_CACHE_GB", "").strip()
    try:
        size = float(setting) if setting else GIGABYTES
    except ValueError:
        size = math.nan
    if not size >= 0:
        raise ArgumentError(f"DATAWINNOW_CACHE_GB must be a number of gigabytes, 0 or above, got {setting!r}")
    return size * 1e9


def is_cached(key: tuple[str, str]) -> bool:
    """Whether images are stored under ``key``."""
    path = cached_file(key, ".npz")
    return path is not None and path.is_file()


def read_decoded(key: tuple[str, str]) -> Decoded | None:
    """The images stored under ``key``; None if there are none or the file is damaged (zip checks every byte)."""
    path = cached_file(key, ".npz")
    if path is None or not path.is_file():
        return None
    try:
        stored = read_npz_arrays(path, ("x", "broken", "resized"))
        x, broken, resized = stored["x"], stored["broken"], stored["resized"]
        if x.dtype != np.uint8 or x.ndim != 4 or broken.dtype != np.int64 or broken.ndim != 1:
            return None
        return Decoded(x, broken, int(resized))
    except (RunError, TypeError, ValueError):
        return None


def write_decoded(key: tuple[str, str], decoded: Decoded) -> bool:
    """Store decoded images, and drop those of the same files in an older state.

    Returns:
        Whether it was stored: a folder that cannot be written, or too full a disk, only means no cache.
    """
    path = cached_file(key, ".npz")
    if path is None or decoded.x is None or not room_for(path, 2 * decoded.x.nbytes):
        return False
    try:
        write_npz(
            path, {"x": decoded.x, "broken": decoded.broken, "resized": np.asarray(decoded.resized, dtype=np.int64)}
        )
    except (OSError, RunError):
        return False
    drop_older(path)
    return True


def room_for(path: Path, size: int) -> bool:
    """Whether there is room for ``path`` of half of ``size`` bytes; its folder is made.

    Args:
        path: file of the cache.
        size: bytes that must be free on the disk: twice what is to be written.

    Raises:
        ArgumentError: as in `max_bytes`.
    """
    if size / 2 > max_bytes():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.access(path.parent, os.W_OK) and shutil.disk_usage(path.parent).free > size
    except OSError:
        return False


def drop_older(path: Path) -> None:
    """After ``path`` was written: remove its images in another state of their files, and what is over the limit."""
    _use(path)
    images_key = path.name.split("-")[0]
    for other_file in path.parent.glob(f"{images_key}-*{path.suffix}"):
        if other_file != path:
            _remove(other_file)
    trim(path)


def trim(last: Path) -> None:
    """Remove what was not used for longest until the cache is within its limit; ``last`` stays."""
    files = []
    with suppress(OSError):  # removed by another process meanwhile
        for file in last.parent.iterdir():
            if CACHE_FILE_NAME.fullmatch(file.name):
                status = file.stat()
                files.append((status.st_mtime_ns, status.st_size, file))
    over = sum(size for _, size, _ in files) - max_bytes()
    for _, size, file in sorted(files):
        if over <= 0:
            break
        if file != last and _remove(file):
            over -= size


def _use(path: Path) -> None:
    """Mark a file as used now; one that is read from for long (not an .npz, which is read whole) is held as well."""
    with suppress(OSError):
        # the modification time serves as the time of last use: many file systems do not keep access times
        os.utime(path)
        if path.suffix == ".npz":
            return
        file = path.open("rb")  # anew: another file may have taken its place
        if fcntl is not None:
            # shared: any number of readers; held until the process ends, since the file stays open
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        open_files[path] = file


def _remove(path: Path) -> bool:
    """Remove a file of the cache, unless a process holds it."""
    if path in open_files:
        return False
    with suppress(OSError):
        if fcntl is not None:
            with path.open("rb") as file:  # refused while another process has the file locked
                # the lock ends with the file; on Unix a reader that opens it now keeps its contents
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    return False
