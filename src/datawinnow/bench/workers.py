"""Worker processes that run cells: each takes one at a time, none outlives its parent, and a crash names its cell.

Not `concurrent.futures`: a process that dies there (killed for want of memory) breaks the whole pool without saying
which cell it was at, and workers whose parent is killed outright live on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from datawinnow.bench.cell import GridData, datasets_of, run_cell
from datawinnow.bench.grid import Cell, Grid
from datawinnow.core.errors import DatawinnowError, RunError
from datawinnow.core.progress import Progress
from datawinnow.core.verdict import ResultRow
from datawinnow.data.fingerprint import fingerprint_of

DATASET, TEST_SPLIT = "dataset", "test split"
"""What results are about, as `check_fingerprint` names it."""
PARENT_CHECK_SECONDS = 1.0
"""How often a worker checks that its parent is alive."""


class InProcess:
    """Runs cells one at a time in this process, with the interface of `Workers`; for datasets and functions of Python.

    Args:
        grid: the grid of the cells.
        out: folder of the results.
        data: the data that the cells train on.
        fingerprint: that the dataset must have; None where there are no rows yet.
        test_fingerprint: that its test split must have; None where there are no rows yet.
        on_step: called with the cell, a stage, the steps done and their total after each training step.

    Raises:
        RunError: the results are about another dataset.
    """

    def __init__(
        self,
        grid: Grid,
        out: Path,
        data: GridData,
        fingerprint: str | None = None,
        test_fingerprint: str | None = None,
        on_step: Callable[[Cell, str, int, int], None] | None = None,
    ) -> None:
        self.grid, self.out, self.data, self.on_step = grid, out, data, on_step
        info, test = data.info, data.test_fingerprint
        self.fingerprint: str | None = check_fingerprint(
            info.fingerprint, fingerprint, out, split=DATASET, name=info.name
        )
        self.test_fingerprint: str | None = check_fingerprint(test, test_fingerprint, out, split=TEST_SPLIT)
        self.running: list[Cell] = []

    @property
    def free(self) -> int:
        """How many cells can be started now: one while none is running."""
        return 1 - len(self.running)

    def start(self, cell: Cell) -> None:
        """Make a cell the next one that `finished` runs."""
        self.running.append(cell)

    def finished(self, timeout: float | None) -> list[tuple[Cell, ResultRow]]:
        """Run the cell that was started; ``timeout`` is ignored, since a cell cannot be ended from its own process."""
        del timeout
        (cell,) = self.running
        row = run_cell(self.grid, cell, self.out, self._progress(cell), self.data)
        self.running = []
        return [(cell, row)]

    def stop(self) -> None:
        """Forget the cell that was started."""
        self.running = []

    def _progress(self, cell: Cell) -> Progress | None:
        on_step = self.on_step
        return None if on_step is None else lambda stage, done, total: on_step(cell, stage, done, total)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """While a process is started: the user's script is hidden, which it would run again from its first line.

    A worker needs nothing of it: networks of a script's own are trained in its process.
    """
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__
    }
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.pop("__spec__", None)
        main.__dict__.update(hidden)


class Workers:
    """Up to ``jobs`` processes, started when first needed.

    Args:
        jobs: number of processes.
        threads: of torch in each.
        grid: the grid of the cells.
        out: folder of the results.
        fingerprint: that the dataset must have; None to take that of the first worker that loads it.
        test_fingerprint: that its test split must have; None likewise.

    Attributes:
        fingerprint: of the dataset, once it is known.
        test_fingerprint: of its test split, once it is known.
    """

    def __init__(
        self,
        jobs: int,
        threads: int,
        grid: Grid,
        out: Path,
        fingerprint: str | None = None,
        test_fingerprint: str | None = None,
    ) -> None:
        self.jobs, self.threads, self.grid, self.out = jobs, threads, grid, out
        self.fingerprint, self.test_fingerprint = fingerprint, test_fingerprint
        # spawn: a forked copy of torch's threads or of a CUDA context does not work
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
        """How many cells can be started now."""
        return self.jobs - len(self._busy)

    def start(self, cell: Cell) -> None:
        """Start a cell; its dataset must have the fingerprints, if those are known."""
        process, pipe = self._idle.pop() if self._idle else self._start_process()
        self._busy[cell] = (process, pipe)
        with suppress(OSError):  # it died while it was idle: the pipe is at its end, which `finished` finds
            pipe.send((cell.model_dump(), self.fingerprint, self.test_fingerprint))

    def finished(self, timeout: float | None) -> list[tuple[Cell, ResultRow]]:
        """Wait until a cell is done, or for ``timeout`` seconds, and return the rows of those that are.

        Also returns, with no rows, when a worker has loaded the dataset, so that its fingerprint can be written.

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
                row = self._receive(cell)
            except (RunError, RuntimeError) as error:
                self._failed = error
            else:
                rows += [] if row is None else [(cell, row)]
        if self._failed is not None and not rows:
            raise self._failed
        return rows  # and the failure the next time: rows that came with it are kept

    def stop(self) -> None:
        """End all processes, at once: finished epochs of a recording are on disk, and rows are the parent's."""
        processes = [*self._idle, *self._busy.values()]
        # all are told to end before any is waited for
        for process, _ in processes:
            process.terminate()
        for process, pipe in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()
        self._idle, self._busy = [], {}

    def _start_process(self) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self.grid.model_dump(), str(self.out), self.threads)
        process = self._context.Process(target=serve, args=arguments, name="datawinnow-bench")
        with _interrupts_held(), _without_main_module():
            process.start()
        theirs.close()  # so that the pipe ends when the process dies
        return process, ours

    def _receive(self, cell: Cell) -> ResultRow | None:
        """The row of a cell; None if its worker has loaded the dataset and is still training."""
        process, pipe = self._busy[cell]
        try:
            kind, answer = pipe.recv()
        except (EOFError, OSError):
            raise _death_error(cell, process) from None
        if kind == "dataset":
            if self.fingerprint not in (None, answer):  # two workers loaded while it changed
                raise RunError(
                    f"{cell.title}: the dataset {self.grid.data.source!r} changed while it was read (fingerprint "
                    f"{self.fingerprint}, then {answer}): run the same command again once it is whole"
                )
            self.fingerprint = answer
            return None
        if kind == "test":
            self.test_fingerprint = check_fingerprint(answer, self.test_fingerprint, self.out, split=TEST_SPLIT)
            return None
        if kind == "row":
            self._idle.append(self._busy.pop(cell))
            return answer  # type: ignore[no-any-return]
        if kind == "refused":
            raise RunError(f"{cell.title}: {answer}")
        raise RuntimeError(f"{cell.title} failed:\n{answer}")


def _death_error(cell: Cell, process: Any) -> RunError:
    process.join(5)
    code = process.exitcode
    ending = f"was killed by signal {-code}" if isinstance(code, int) and code < 0 else f"ended with code {code}"
    memory = " (9 is what the system sends when memory runs out: try fewer `jobs=`)" if code == -signal.SIGKILL else ""
    return RunError(
        f"{cell.title}: the process that ran it {ending}{memory}. The rows so far are kept; run the same command again "
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
    """Main function of a worker process: runs cells as they arrive, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    model = Grid.model_validate(grid)
    while True:
        try:
            cell, fingerprint, test_fingerprint = pipe.recv()
        except EOFError:
            return
        try:
            train, test = datasets_of(model)
            check_fingerprint(train.fingerprint, fingerprint, Path(out), split=DATASET, name=train.name)
            check_fingerprint(fingerprint_of(test), test_fingerprint, Path(out), split=TEST_SPLIT)
            if test_fingerprint is None:
                pipe.send(("test", fingerprint_of(test)))
            if fingerprint is None:
                pipe.send(("dataset", train.fingerprint))
            pipe.send(("row", run_cell(model, Cell.model_validate(cell), Path(out))))
        except DatawinnowError as error:
            pipe.send(("refused", str(error)))
        # KeyboardInterrupt and SystemExit too: the parent has to hear which cell ended
        except BaseException:
            pipe.send(("failed", traceback.format_exc()))  # as text: not every exception survives a pipe


def check_fingerprint(fingerprint: str, expected: str | None, out: Path, *, split: str, name: str = "") -> str:
    """Refuse to add rows about one dataset to those about another.

    Args:
        fingerprint: of the split that is loaded.
        expected: of the split that the rows are about; None where there are none.
        out: folder of the rows.
        split: `DATASET` or `TEST_SPLIT`, for the error.
        name: of the dataset, for the error.

    Returns:
        ``fingerprint``.

    Raises:
        RunError: the fingerprints differ.
    """
    if expected is not None and fingerprint != expected:
        current = repr(name) if name else "the one in use"
        raise RunError(
            f"{out} holds results about another {split} (fingerprint {expected}) than {current} (fingerprint "
            f"{fingerprint}): give another `out=` folder, or the {split} as before"
        )
    return fingerprint


def _exit_with_parent() -> None:
    parent, number = multiprocessing.parent_process(), os.getppid()
    if parent is None:
        return
    # on Unix the child of a dead process gets another parent; is_alive covers Windows
    while parent.is_alive() and os.getppid() == number:
        time.sleep(PARENT_CHECK_SECONDS)
    # sys.exit in a thread would end the thread alone
    os._exit(1)  # a recording is on disk up to its last epoch, and is resumed from there
