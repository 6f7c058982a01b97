"""What is shown: results on stdout; bars, or plain lines where nobody watches, on stderr."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as RemainingColumn

from datawinnow.core.duration import duration

EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""
REFRESH = 0.1
"""Seconds between two updates of a bar: a step may take less than a millisecond."""


class Screen:
    """The two streams of a verb.

    Args:
        quiet: show results and errors only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def print(self, text: str = "") -> None:
        """A line of the result, on stdout, as it is."""
        print(text, flush=True)

    def rows(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Lines of the result with a word in front of each."""
        width = max(len(word) for word, _ in pairs)
        for word, text in pairs:
            self.print(f"  {word.ljust(width)}  {text}")

    def note(self, text: str) -> None:
        """A line about what is being done or was chosen, on stderr; none if quiet."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def next(self, *words: str) -> None:
        """The command to go on with, ready to be pasted."""
        self.note(f"next: datawinnow {shlex.join(words)}")

    @contextmanager
    def stage(self, name: str = "") -> Iterator[ProgressDisplay]:
        """A stage whose ``stage(what, done, total)`` moves a bar, or prints a line now and then.

        Args:
            name: shown in place of what the callee calls its work.
        """
        if self.quiet:
            yield ProgressDisplay(name)
        elif self.console.is_terminal:
            with Bars(name, self.console) as bars:
                yield bars
        else:
            lines = Lines(name)
            yield lines
            lines.close()


class ProgressDisplay:
    """Takes progress and shows none of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, what: str, done: int, total: int) -> None:
        """Progress of ``what``: ``done`` of ``total``."""

    def detail(self, text: str) -> None:
        """What was finished last."""


class Bars(ProgressDisplay):
    """A bar for each thing that goes on, with the time it took and the time left."""

    def __init__(self, name: str, console: Console) -> None:
        super().__init__(name)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            RemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            refresh_per_second=5,
        )
        self.task: TaskID | None = None
        self.what, self.done, self.shown, self.last = "", 0, 0.0, ""

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Move the bar; a new one for new work."""
        what = self.name or what
        if self.task is None or what != self.what or done < self.done:
            self.task = self.progress.add_task(what, total=total, completed=done, detail="")
            self.shown = 0.0
        self.what, self.done = what, done
        now = time.monotonic()
        if now - self.shown >= REFRESH or done >= total:
            self.shown = now
            self.progress.update(self.task, completed=done, total=total, detail=self.last)

    def detail(self, text: str) -> None:
        """Shown behind the bar."""
        self.last = text


class Lines(ProgressDisplay):
    """A line when work begins to take long, then one every `EVERY` seconds, and one at its end: for logs."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.what, self.done, self.total, self.last = "", 0, 0, ""
        self.begun = self.told = 0.0
        self.first = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Print a line if it is time for one."""
        what = self.name or what
        now = time.monotonic()
        if what != self.what or done < self.done:
            self.close()
            self.what, self.begun, self.told, self.first = what, now, now, done
        self.done, self.total = done, total
        if now - self.told >= EVERY and done < total:
            self.told = now
            spent = now - self.begun
            moved = done - self.first
            left = f", about {duration(spent / moved * (total - done))} left" if moved > 0 else ""
            tail = f"; {self.last}" if self.last else ""
            self._print(
                f"{what}: {100 * done // max(1, total)}% ({done:,} of {total:,}) in {duration(spent)}{left}{tail}"
            )

    def detail(self, text: str) -> None:
        """Shown in the next line."""
        self.last = text

    def close(self) -> None:
        """The last line of what goes on."""
        if self.what:
            word = "done" if self.done >= self.total else f"{self.done:,} of {self.total:,} done"
            self._print(f"{self.what}: {word} in {duration(time.monotonic() - self.begun)}")
            self.what = ""

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def columns(head: Sequence[str], lines: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """A table as text or as Markdown.

    Args:
        head: names of the columns.
        lines: their fields.
        markdown: GitHub's Markdown instead of aligned columns.
    """
    if markdown:
        body = ["| " + " | ".join(field.replace("|", "\\|") for field in line) + " |" for line in [head, *lines]]
        return "\n".join([body[0], "|" + " --- |" * len(head), *body[1:]])
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    text = ["  ".join(field.ljust(width) for field, width in zip(line, widths, strict=True)) for line in [head, *lines]]
    return "\n".join(line.rstrip() for line in [text[0], "  ".join("-" * width for width in widths), *text[1:]])
