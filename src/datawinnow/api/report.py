"""`report`: the HTML page of a run, of a bench, or of a race."""

from __future__ import annotations

from pathlib import Path


def report(path: Path | str, *, out: Path | str | None = None) -> Path:
    """Write the HTML page of a run or of a bench: one file without external resources.

    Args:
        path: a run folder, or the results of a bench or race.
        out: the page. Default: ``report.html`` in that folder.

    Returns:
        The page.

    Raises:
        RunError: neither a run nor results, or a file in it is truncated, newer, or of another dataset.
    """
    from datawinnow.report import write

    return write(path, out)
