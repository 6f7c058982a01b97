"""What `datawinnow.api.prune` returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datawinnow.data.kept import Kept
from datawinnow.runs.folder import RunFolder


@dataclass(frozen=True, eq=False)
class Pruned(Kept):
    """The kept examples, with what led to them.

    Attributes:
        run: the run folder; None where a temporary one was used, or none.
        test: the test split; None without one.
        check: rows and sentence of the check (`datawinnow.bench.check.check`); None without one.
        report: the HTML page; None without one.
        train_epochs: epochs that the training on the kept examples is planned for.
    """

    run: RunFolder | None = None
    test: Any = None
    check: dict[str, Any] | None = None
    report: Path | None = None
    train_epochs: int | None = None

    @property
    def verdict(self) -> str | None:
        """The verdict of the check in a line; None without a check."""
        return None if self.check is None else str(self.check["verdict"])

    def __repr__(self) -> str:
        return super().__repr__() if self.verdict is None else f"{super().__repr__()}\n{self.verdict}"
