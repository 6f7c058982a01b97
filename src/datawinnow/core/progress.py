"""The callback by which long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``, from the calling thread; ``total`` is 0 where it is unknown."""

ProgressOption = Progress | Any
"""True, False, None or a `Progress`, for `with_progress` of `core.bars`: it hands a `Progress` or None on."""


def named_progress(progress: Progress | None, stage: str) -> Progress | None:
    """``progress`` with all that is reported under the name ``stage``."""
    return None if progress is None else lambda _, done, total: progress(stage, done, total)
