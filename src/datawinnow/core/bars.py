"""Progress on stderr, as bars in a terminal and as lines in a log."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from datawinnow.core.duration import duration, estimated_duration
from datawinnow.core.errors import ArgumentError
from datawinnow.core.keywords import check_keywords

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""
REFRESH = 0.1
"""Seconds between two updates of a bar, since a step may take less than a millisecond."""


def with_progress(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Let ``progress=True`` of a public function be a bar or lines on stderr, closed when it returns or raises.

    The function itself gets a `Progress` or None. Keywords that it does not have are refused by `check_keywords`.
    """

    @functools.wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        check_keywords(function, kwargs)
        progress = kwargs.get("progress")
        if progress is True:
            with progress_display() as display:
                kwargs["progress"] = display
                return function(*args, **kwargs)
        if progress is False:
            kwargs["progress"] = None
        elif progress is not None and not callable(progress):
            raise ArgumentError(
                f"progress must be True, False, None or a function of (stage, done, total), got {progress!r}"
            )
        return function(*args, **kwargs)

    return run


@contextmanager
def progress_display(name: str = "", console: Console | None = None) -> Iterator[ProgressDisplay]:
    """A bar where stderr is a terminal, else a line every `EVERY` seconds.

    Args:
        name: shown instead of the label of each call.
        console: of stderr. Default: a new one.
    """
    if console is None:
        from rich.console import Console as RichConsole

        console = RichConsole(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with Bars(name, console) as bars:
            yield bars
        return
    lines = Lines(name)
    try:
        yield lines
    finally:
        lines.close()


class ProgressDisplay:
    """Progress that is not shown; base class of `Bars` and `Lines`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, label: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps of ``label``."""

    def detail(self, text: str) -> None:
        """A text on the last finished step."""


class Bars(ProgressDisplay):
    """A bar for each label, with elapsed and remaining time."""

    def __init__(self, name: str, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        super().__init__(name)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            refresh_per_second=5,
        )
        self.task: TaskID | None = None
        self.label, self.done, self.shown, self.last = "", 0, 0.0, ""

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, label: str, done: int, total: int) -> None:
        """Move the bar; a new label, or fewer steps than before, starts a new bar."""
        label = self.name or label
        if self.task is None or label != self.label or done < self.done:
            self.task = self.progress.add_task(label, total=total, completed=done, detail="")
            self.shown = 0.0
        self.label, self.done = label, done
        now = time.monotonic()
        if now - self.shown >= REFRESH or done >= total:
            self.shown = now
            self.progress.update(self.task, completed=done, total=total, detail=self.last)

    def detail(self, text: str) -> None:
        """Shown behind the bar."""
        self.last = text


class Lines(ProgressDisplay):
    """A line every `EVERY` seconds and one at the end, for logs."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.label, self.done, self.total, self.last = "", 0, 0, ""
        self.start_time = self.print_time = self.step_time = 0.0
        self.first = 0

    def __call__(self, label: str, done: int, total: int) -> None:
        """Print a line if the last one is `EVERY` seconds old."""
        label = self.name or label
        now = time.monotonic()
        if label != self.label or done < self.done:
            self.close()
            self.label, self.start_time, self.print_time, self.first = label, now, now, done
        self.done, self.total, self.step_time = done, total, now
        if now - self.print_time >= EVERY and done < total:
            self.print_time = now
            spent = now - self.start_time
            moved = done - self.first
            left = f", {estimated_duration(spent / moved * (total - done))} left" if moved > 0 else ""
            tail = f"; {self.last}" if self.last else ""
            self._print(
                f"{label}: {100 * done // max(1, total)}% ({done:,} of {total:,}) in {duration(spent)}{left}{tail}"
            )

    def detail(self, text: str) -> None:
        """Shown in the next line."""
        self.last = text

    def close(self) -> None:
        """Print the last line of the current label."""
        if self.label:
            is_done = self.done >= self.total
            word = "done" if is_done else f"{self.done:,} of {self.total:,} done"
            # what follows the last step is other work, without a bar of its own
            end = self.step_time if is_done else time.monotonic()
            self._print(f"{self.label}: {word} in {duration(end - self.start_time)}")
            self.label = ""

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
