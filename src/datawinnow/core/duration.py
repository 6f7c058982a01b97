"""Spans of time in words."""

from __future__ import annotations


def duration(seconds: float, *, rough: bool = False) -> str:
    """Seconds for people.

    Args:
        seconds: at least 0.
        rough: of an estimate: no tenths, and "under a second" for what is less than one.

    >>> duration(0.4), duration(75), duration(7300)
    ('0.4 s', '1 min 15 s', '2 h 1 min')
    >>> duration(0.4, rough=True), duration(7.4, rough=True)
    ('under a second', '7 s')
    """
    if rough and seconds < 1:
        return "under a second"
    if not rough and seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
