"""Worker processes that run cells: each takes one at a time, none outlives its parent, and a crash names its cell.

Not `concurrent.futures`: a process that dies there (killed for want of memory) breaks the whole pool without saying
which cell it was at, and workers whose parent is killed outright live on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from datawinnow.bench.cell import datasets_of, run_cell
from datawinnow.bench.grid import Cell, Grid
from datawinnow.core.errors import DatawinnowError, RunError

WATCH = 1.0
"""Seconds between two looks at whether the parent is still there."""


class Workers:
    """Up to ``jobs`` processes, started when first needed.

    Args:
        jobs: how many.
        threads: of torch in each.
        grid: what the cells are of.
        out: folder of the results.
        fingerprint: that their dataset must have; None to take that of the first to load it.

    Attributes:
        fingerprint: of the dataset, once it is known.
    """

    def __init__(self, jobs: int, threads: int, grid: Grid, out: Path, fingerprint: str | None = None) -> None:
        self.jobs, self.threads, self.grid, self.out = jobs, threads, grid, out
        self.fingerprint = fingerprint
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[tuple[Any, Connection]] = []
        self._busy: dict[Cell, tuple[Any, Connection]] = {}
        self._failed: Exception | None = None

    @property
    def running(self) -> list[Cell]:
        """Cells under way."""
        return list(self._busy)

    @property
    def free(self) -> int:
        """How many cells could be begun now."""
        return self.jobs - len(self._busy)

    def begin(self, cell: Cell) -> None:
        """Begin a cell; its data must have the fingerprint, if that is known."""
        process, pipe = self._idle.pop() if self._idle else self._start()
        self._busy[cell] = (process, pipe)
        with suppress(OSError):  # it died while it was idle: the pipe is at its end, which `finished` finds
            pipe.send((cell.model_dump(), self.fingerprint))

    def finished(self, timeout: float | None) -> list[tuple[Cell, dict[str, Any]]]:
        """Wait until a cell is done, or for ``timeout`` seconds, and give the rows of those that are.

        None are given also when a worker has loaded the dataset, so that its fingerprint can be written down.

        Raises:
            RunError: a cell failed, or the process that ran it died; the cell is named.
        """
        if self._failed is not None:
            raise self._failed
        pipes = {pipe: cell for cell, (_, pipe) in self._busy.items()}
        rows = []
        for pipe in wait(list(pipes), timeout):
            cell = pipes[pipe]  # type: ignore[index]
            try:
                row = self._answer(cell)
            except (RunError, RuntimeError) as error:
                self._failed = error
            else:
                rows += [] if row is None else [(cell, row)]
        if self._failed is not None and not rows:
            raise self._failed
        return rows  # and the failure the next time: rows that came with it are kept

    def stop(self) -> None:
        """End all processes, at once: finished epochs of a recording are on disk, and rows are the parent's."""
        everyone = [*self._idle, *self._busy.values()]
        for process, _ in everyone:
            process.terminate()
        for process, pipe in everyone:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()
        self._idle, self._busy = [], {}

    def _start(self) -> tuple[Any, Connection]:
        here, there = self._context.Pipe()
        arguments = (there, self.grid.model_dump(), str(self.out), self.threads)
        process = self._context.Process(target=serve, args=arguments, name="datawinnow-bench")
        with _interrupts_held():
            process.start()
        there.close()  # so that the death of the process is the end of the pipe
        return process, here

    def _answer(self, cell: Cell) -> dict[str, Any] | None:
        """The row of a cell; None if its worker only told of the dataset and is still at it."""
        process, pipe = self._busy[cell]
        try:
            kind, answer = pipe.recv()
        except (EOFError, OSError):
            raise _died(cell, process) from None
        if kind == "dataset":
            if self.fingerprint not in (None, answer):  # two workers loaded while it changed
                raise RunError(
                    f"{cell.title}: the dataset {self.grid.data.source!r} changed while it was read (fingerprint "
                    f"{self.fingerprint}, then {answer}): run the same command again once it is whole"
                )
            self.fingerprint = answer
            return None
        if kind == "row":
            self._idle.append(self._busy.pop(cell))
            return answer  # type: ignore[no-any-return]
        if kind == "refused":
            raise RunError(f"{cell.title}: {answer}")
        raise RuntimeError(f"{cell.title} failed:\n{answer}")


def _died(cell: Cell, process: Any) -> RunError:
    process.join(5)
    code = process.exitcode
    how = f"was killed by signal {-code}" if isinstance(code, int) and code < 0 else f"ended with code {code}"
    memory = " (9 is what the system sends when memory runs out: try fewer --jobs)" if code == -signal.SIGKILL else ""
    return RunError(
        f"{cell.title}: the process that ran it {how}{memory}. The rows so far are kept; run the same command again "
        "to go on"
    )


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while a process starts: it inherits that, and so is not torn out of its imports by it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(pipe: Connection, grid: dict[str, Any], out: str, threads: int) -> None:
    """What a worker process does: cells as they come, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    whole = Grid.model_validate(grid)
    while True:
        try:
            cell, fingerprint = pipe.recv()
        except EOFError:
            return
        try:
            own = check_fingerprint(whole, fingerprint, Path(out))
            if fingerprint is None:
                pipe.send(("dataset", own))
            pipe.send(("row", run_cell(whole, Cell.model_validate(cell), Path(out))))
        except DatawinnowError as error:
            pipe.send(("refused", str(error)))
        except BaseException:
            pipe.send(("failed", traceback.format_exc()))  # as text: not every exception survives a pipe


def check_fingerprint(grid: Grid, fingerprint: str | None, out: Path) -> str:
    """Refuse to add rows about one dataset to those about another; the fingerprint of the grid's dataset.

    Raises:
        RunError: the grid's dataset is not the one that the results are about.
    """
    own = datasets_of(grid)[0]
    if fingerprint is not None and own.fingerprint != fingerprint:
        raise RunError(
            f"{out} holds results about another dataset (fingerprint {fingerprint}) than {own.name!r}, which the grid "
            f"names (fingerprint {own.fingerprint}): give another --out folder"
        )
    return str(own.fingerprint)


def _leave_with_parent() -> None:
    parent, number = multiprocessing.parent_process(), os.getppid()
    if parent is None:
        return
    while parent.is_alive() and os.getppid() == number:
        time.sleep(WATCH)
    os._exit(1)  # the parent was killed outright; a resumable recording is on disk up to its last epoch
