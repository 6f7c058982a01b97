"""One writer a folder at a time: two runs or benches in one folder would overwrite each other's files.

The lock is the operating system's (``flock``), so it ends with the process that holds it, however that ends: the file
that a dead process left means nothing. On network file systems that pass locks on (NFS since Linux 2.6.12, Lustre and
others unless mounted without) it holds between machines; where there are no locks, nothing is guarded.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from datawinnow.core.errors import RunError
from datawinnow.core.files import require_file

LOCK = ".lock"
"""The file that is locked, and removed by its holder."""
SHORT_STAGE_WAIT = 300.0
"""Seconds that a stage of seconds waits for another writer."""
POLL_SECONDS = 0.2


@contextmanager
def only_writer(
    folder: Path,
    *,
    option: str = "out",
    who: str = "another bench",
    wait: float = 0.0,
    log: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold a folder for this process; the system releases it however the process ends.

    Args:
        folder: created if it does not exist; removed again if nothing is written to it. A file is left to the caller.
        option: that names the folder, for the error.
        who: else writes such folders, for the error.
        wait: seconds to wait for another process.
        log: called once, before waiting.

    Raises:
        RunError: another process holds it, or this one does; or its ``.lock`` is no file.
    """
    if folder.exists() and not folder.is_dir():
        yield
        return
    is_new, deadline, logged = not folder.exists(), time.monotonic() + wait, False
    while True:
        file = _open(folder)
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            holder = f"{who}{_process_of(file)}"
            file.close()
            if time.monotonic() >= deadline:
                raise RunError(
                    f"{folder} is busy: {holder} is writing there. Wait until it is done, or stop it, and "
                    f"run the same command again; or give another `{option}=` folder"
                ) from None
            if log is not None and not logged:
                log(f"{folder} is busy: waiting up to {wait:g} s for {holder}")
                logged = True
            time.sleep(POLL_SECONDS)
            continue
        except OSError:
            pass  # a file system without locks, as some of networks: better no guard than no run
        if _is_current(file, folder / LOCK):
            break
        file.close()  # the holder before removed it: others lock the new one
    try:
        # only after locking: the number in the file is that of the holder
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
    finally:
        with suppress(OSError):
            os.unlink(folder / LOCK)  # noqa: PTH108 - while it is held: whoever waits for it sees that it is gone
        file.close()
        if is_new:
            with suppress(OSError):
                folder.rmdir()  # fails if something was written


def _open(folder: Path) -> TextIOWrapper:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        require_file(folder / LOCK)  # a FIFO cannot be emptied, and no process that holds one is known
        try:
            # a+ creates the file without emptying it: the number of the process that holds it stays readable
            return (folder / LOCK).open("a+", encoding="utf-8")
        except FileNotFoundError:  # another process has just removed the folder that it left empty
            continue


def _is_current(file: TextIOWrapper, path: Path) -> bool:
    """Whether a path is still that of an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _process_of(file: TextIOWrapper) -> str:
    """The process that holds the lock, for people; only Windows keeps others from reading a locked file."""
    try:
        file.seek(0)
        number = file.read(20)
    except OSError:
        number = ""
    return f" (process {number})" if number.isdigit() else ""


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
