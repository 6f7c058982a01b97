"""Results on stdout; progress on stderr, as bars in a terminal and as lines in a log."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

from rich.console import Console

from datawinnow.cli.spelling import as_flags
from datawinnow.core.bars import ProgressDisplay, progress_display


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
        """A stage: ``stage(label, done, total)`` moves a bar, or prints a line every so often.

        Args:
            name: shown instead of the label of each call.
        """
        if self.quiet:
            yield ProgressDisplay(name)
        else:
            with progress_display(name, self.console) as display:
                yield display


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
