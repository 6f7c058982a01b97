"""How text that ends up in a file spells options: as Python does, or for who reads it after a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SPELLING: ContextVar[Callable[[str], str] | None] = ContextVar("option_spelling", default=None)


def spelled(text: str) -> str:
    """A text with the options in backticks as `options_spelled_by` has them; unchanged outside of it."""
    spelling = _SPELLING.get()
    return text if spelling is None else spelling(text)


@contextmanager
def options_spelled_by(spelling: Callable[[str], str]) -> Iterator[None]:
    """Spell options in files by ``spelling``, which the command line sets around each verb.

    >>> with options_spelled_by(str.upper):
    ...     spelled("give `keep=`")
    'GIVE `KEEP=`'
    """
    token = _SPELLING.set(spelling)
    try:
        yield
    finally:
        _SPELLING.reset(token)
