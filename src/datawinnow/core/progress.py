"""The callback by which long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``, from the calling thread; ``total`` is 0 where it is unknown."""


def named_progress(progress: Progress | None, stage: str) -> Progress | None:
    """``progress`` with all that is reported under the name ``stage``."""
    return None if progress is None else lambda _, done, total: progress(stage, done, total)
