from __future__ import annotations

import pytest

from datawinnow.core.duration import duration


@pytest.mark.parametrize(
    ("seconds", "words", "rough"),
    [
        (0.1, "0.1 s", "under a second"),
        (0.996, "1.0 s", "under a second"),
        (1, "1.0 s", "1 s"),
        (9.94, "9.9 s", "10 s"),
        (9.96, "10 s", "10 s"),
        (59.4, "59 s", "59 s"),
        (59.6, "1 min", "1 min"),
        (60, "1 min", "1 min"),
        (61, "1 min 1 s", "1 min 1 s"),
        (3600, "1 h 0 min", "1 h 0 min"),
        (3725, "1 h 2 min", "1 h 2 min"),
    ],
)
def test_durations_are_said_for_people(seconds: float, words: str, rough: str) -> None:
    assert (duration(seconds), duration(seconds, rough=True)) == (words, rough)
