"""One writer at a time: two benches on one folder would write each other's rows away."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from datawinnow.core.errors import RunError

LOCK = ".lock"
"""The file that is locked; it stays, since removing it would race with another process that opens it."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder of results for this process; the system releases it however the process ends.

    Args:
        folder: created if it does not exist.

    Raises:
        RunError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # a+ creates the file without emptying it: the number of the process that holds it stays readable
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            raise RunError(
                f"{folder} is busy: {_holder(file)} is writing results there. Wait until it is done, or stop it, and "
                "run the same command again; or give another `out=` folder"
            ) from None
        except OSError:
            pass  # a file system without locks, as some of networks: better no guard than no bench
        # only after locking: the number in the file is that of the holder
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _holder(file: TextIOWrapper) -> str:
    """Who holds the lock, for people; only Windows keeps others from reading a locked file."""
    try:
        file.seek(0)
        number = file.read(20)
    except OSError:
        number = ""
    return f"another bench (process {number})" if number.isdigit() else "another bench"


def _lock(file: TextIOWrapper) -> None:
    """Lock a file for this process without waiting; nothing where the system offers no locks."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        try:
            import fcntl
        except ImportError:  # a Python built for the browser
            return
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
