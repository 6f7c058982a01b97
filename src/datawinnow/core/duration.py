"""Durations as text, and from it."""

from __future__ import annotations

import re

from datawinnow.core.errors import ArgumentError

TIME_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds_of(text: str, option: str = "time_limit") -> float:
    """``"90m"``, ``"1.5h"``, ``"45s"`` or ``"3600"`` in seconds; ``option`` is named in the error.

    Raises:
        ArgumentError: something else.

    >>> seconds_of("90m"), seconds_of("1.5h"), seconds_of("30")
    (5400.0, 5400.0, 30.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in TIME_UNITS:
        raise ArgumentError(f"`{option}=` must be a time such as 90m, 1.5h, 45s or 3600 (seconds), got {text!r}")
    return float(match[1]) * TIME_UNITS[match[2]]


def duration(seconds: float, *, rough: bool = False) -> str:
    """Seconds as a phrase.

    Args:
        seconds: at least 0.
        rough: for an estimate: no tenths, and "under a second" below 1.

    >>> duration(0.4), duration(75), duration(7300), duration(0.004)
    ('0.4 s', '1 min 15 s', '2 h 1 min', 'under 0.1 s')
    >>> duration(0.4, rough=True), duration(7.4, rough=True)
    ('under a second', '7 s')
    """
    if rough and seconds < 1:
        return "under a second"
    if 0 < seconds < 0.05:  # would round to none at all
        return "under 0.1 s"
    # 9.95 would round to 10.0, which is shown without tenths
    if not rough and seconds < 9.95:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s" if total % 60 else f"{total // 60} min"
    return f"{total // 3600} h {total % 3600 // 60} min"


def estimated_duration(seconds: float) -> str:
    """An estimate of seconds as a phrase.

    >>> estimated_duration(0.4), estimated_duration(7.4)
    ('under a second', 'about 7 s')
    """
    text = duration(seconds, rough=True)
    return text if seconds < 1 else f"about {text}"
