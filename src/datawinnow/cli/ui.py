"""Results on stdout; progress on stderr, as bars in a terminal and as lines in a log."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from datawinnow.cli.spelling import as_flags
from datawinnow.core.duration import duration

EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""
REFRESH = 0.1
"""Seconds between two updates of a bar, since a step may take less than a millisecond."""


class Screen:
    """The two streams of a verb.

    Args:
        quiet: show results and errors only.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def print(self, text: str = "") -> None:
        """A line of the result, on stdout; options in backticks as flags."""
        print(as_flags(text), flush=True)

    def table(self, head: Sequence[str], lines: Sequence[Sequence[str]], *, optional: str = "") -> None:
        """A table of the result, no wider than the terminal; ``optional`` is left out of one that is too narrow."""
        self.print(columns(head, lines, width=terminal_width(), optional=optional))

    def rows(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Lines of the result, each with a name in front."""
        width = max(len(word) for word, _ in pairs)
        for word, text in pairs:
            self.print(f"  {word.ljust(width)}  {text}")

    def note(self, text: str) -> None:
        """A note on stderr; nothing if quiet."""
        if not self.quiet:
            self.console.print(as_flags(text), markup=False)

    def next(self, *words: str) -> None:
        """The next command, ready to be pasted."""
        self.note(f"next: datawinnow {shlex.join(words)}")

    @contextmanager
    def stage(self, name: str = "") -> Iterator[ProgressDisplay]:
        """A stage: ``stage(label, done, total)`` moves a bar, or prints a line every `EVERY` seconds.

        Args:
            name: shown instead of the label of each call.
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
        self.start_time = self.print_time = 0.0
        self.first = 0

    def __call__(self, label: str, done: int, total: int) -> None:
        """Print a line if the last one is `EVERY` seconds old."""
        label = self.name or label
        now = time.monotonic()
        if label != self.label or done < self.done:
            self.close()
            self.label, self.start_time, self.print_time, self.first = label, now, now, done
        self.done, self.total = done, total
        if now - self.print_time >= EVERY and done < total:
            self.print_time = now
            spent = now - self.start_time
            moved = done - self.first
            left = f", about {duration(spent / moved * (total - done))} left" if moved > 0 else ""
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
            word = "done" if self.done >= self.total else f"{self.done:,} of {self.total:,} done"
            self._print(f"{self.label}: {word} in {duration(time.monotonic() - self.start_time)}")
            self.label = ""

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def terminal_width() -> int | None:
    """The width of the terminal that stdout is (COLUMNS, where it is set); None for a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def columns(
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    markdown: bool = False,
    width: int | None = None,
    optional: str = "",
) -> str:
    """A table as text or as Markdown.

    Args:
        head: names of the columns.
        lines: their fields.
        markdown: GitHub's Markdown instead of aligned columns.
        width: the widest columns but the first are wrapped between words, so that no line is longer. Default: no limit.
        optional: the column to leave out where the longest words of all columns do not fit beside each other.
    """
    if markdown:
        body = ["| " + " | ".join(field.replace("|", "\\|") for field in line) + " |" for line in [head, *lines]]
        return "\n".join([body[0], "|" + " --- |" * len(head), *body[1:]])
    table = [list(line) for line in [head, *lines]]
    smallest = [max(len(word) for line in table for word in [*line[i].split(), ""]) for i in range(len(head))]
    smallest[0] = max(len(line[0]) for line in table)
    if width is not None and optional in head and sum(smallest) + 2 * (len(head) - 1) > width:
        i = list(head).index(optional)
        return columns(*_without(i, table), width=width)
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    while width is not None and sum(widths) + 2 * (len(head) - 1) > width:
        wrappable = [i for i in range(1, len(head)) if widths[i] > smallest[i]]
        if not wrappable:
            break
        widths[max(wrappable, key=lambda i: widths[i])] -= 1
    rows = [_wrapped(line, widths) for line in table]
    return "\n".join([*rows[0], "  ".join("-" * size for size in widths), *(text for row in rows[1:] for text in row)])


def _without(i: int, table: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Head and lines of a table without column ``i``."""
    head, *lines = ([*line[:i], *line[i + 1 :]] for line in table)
    return head, lines


def _wrapped(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """A line of a table as the lines that its fields take, each wrapped to the width of its column."""
    fields = [
        textwrap.wrap(field, size, break_long_words=False, break_on_hyphens=False) if len(field) > size else [field]
        for field, size in zip(line, widths, strict=True)
    ]
    return [
        "  ".join(field.ljust(size) for field, size in zip(texts, widths, strict=True)).rstrip()
        for texts in zip_longest(*fields, fillvalue="")
    ]
