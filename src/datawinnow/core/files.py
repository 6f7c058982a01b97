"""Files are written beside their place and then renamed, so a kill or a full disk never leaves half a file.

This module imports neither torch nor numpy: the report uses it.
"""

from __future__ import annotations

import glob
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datawinnow.core.errors import ArgumentError, RunError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and renamed, on failure removed.

    Raises:
        RunError: the disk is full; an older file at ``path`` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_partial_files(path)
    # beside the target: a rename is atomic only within one file system
    handle, name = _locked(lambda: tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
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
        try:
            # after the rename there is nothing left to remove
            partial_path.unlink(missing_ok=True)
        finally:
            os.close(handle)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it is renamed, on failure removed.

    Raises:
        RunError: the disk is full.
    """

    def create() -> tuple[int, str]:
        name = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        return os.open(name, os.O_RDONLY) if fcntl is not None else -1, name

    handle, partial_path = -1, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partial_files(path)
        handle, name = _locked(create)
        partial_path = Path(name)
        yield partial_path
        partial_path.chmod(0o755)  # mkdtemp makes folders private
        partial_path.replace(path)  # over an empty folder too
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        if partial_path is not None:
            shutil.rmtree(partial_path, ignore_errors=True)
        if handle >= 0:
            os.close(handle)


def _locked(create: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """A temporary file or folder and its handle, locked until it is closed: by that others see that it is in use."""
    while True:
        handle, name = create()
        if fcntl is None or handle < 0:
            return handle, name
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process is about to remove it
            os.close(handle)
            continue
        except OSError:  # a file system without locks, where nobody removes it
            return handle, name
        if Path(name).exists():
            return handle, name
        os.close(handle)  # removed before it was locked


def remove_partial_files(path: Path) -> None:
    """Remove what `atomic_write` and `atomic_folder` to ``path`` left in processes that were killed."""
    remove_abandoned(path.parent.glob(f".{glob.escape(path.name)}.*.part"))


def remove_abandoned(partial_paths: Iterable[Path]) -> None:
    """Remove those temporary files and folders that no running process writes, on whatever machine it runs.

    Where the file system has no locks, none is removed.
    """
    for partial_path in partial_paths if fcntl is not None else ():
        try:
            handle = os.open(
                partial_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            )  # a FIFO of that name would wait
        except OSError:  # gone meanwhile, or not ours
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if partial_path.is_dir():
                shutil.rmtree(partial_path, ignore_errors=True)
            else:
                partial_path.unlink(missing_ok=True)
        except OSError:  # in use
            pass
        finally:
            os.close(handle)


def require_file(path: Path, error: type[Exception] = RunError) -> None:
    """Refuse a folder, FIFO, socket or device in place of a file: reading it would fail, or wait forever.

    A path that does not exist is left to who reads it.

    Raises:
        RunError, or ``error``: naming the path.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode):
        kind = next((noun for noun, is_kind in _KINDS.items() if is_kind(mode)), "something else")
        advice = "give a file" if stat.S_ISDIR(mode) else "copy the content into a file, and give that"
        raise error(f"{path} is {kind}, not a file: {advice}")


_KINDS: dict[str, Callable[[int], bool]] = {
    "a folder": stat.S_ISDIR,
    "a FIFO": stat.S_ISFIFO,
    "a socket": stat.S_ISSOCK,
    "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
}


ENCODINGS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""Marks at the start of files that are no UTF-8; the longer ones first."""


def require_folder(path: Path) -> None:
    """Refuse a folder of results, which need not exist, that is a file or would lie below one.

    Raises:
        ArgumentError: naming the file.
    """
    nearest = next((place for place in (path, *path.parents) if place.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise ArgumentError(f"{nearest} is a file, not a folder; give another `out=` folder")


def wide_encoding(first: bytes) -> str:
    """UTF-16 or UTF-32 by the first four bytes of a file of texts; ``""`` for another encoding."""
    encoding = next((name for mark, name in ENCODINGS.items() if first.startswith(mark)), "")
    if not encoding and len(first) == 4 and first.count(0) == 2 and first[:2].count(0) == 1:
        encoding = "UTF-16LE" if first[1] == 0 else "UTF-16BE"
    return encoding


def conversion_command(path: Path, encoding: str) -> str:
    """What to do about a file in another encoding than UTF-8."""
    return f"convert it, for example with: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"


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
