"""A keep as a function of progress: its shapes, its text, and what is refused."""

import math

import pytest

from datawinnow.core.changing_keep import ChangingKeep, constant_or_changing
from datawinnow.core.errors import ArgumentError


def test_steps_hold_equally_long_and_meet_both_ends():
    schedule = ChangingKeep(0.3, 0.9, "step", 4)
    levels = [round(schedule.at(i / 99), 9) for i in range(100)]
    assert levels == [0.3] * 25 + [0.5] * 25 + [0.7] * 25 + [0.9] * 25
    assert [ChangingKeep(1.0, 0.5, "step").at(t) for t in (0, 0.4, 0.7, 1)] == [1.0, 0.75, 0.5, 0.5]
    # a boundary that is whole on paper: 15 / 22 * 22 is 14.999999999999998, and begins the level 15 of 0 to 21
    assert ChangingKeep(0.1, 0.31, "step", 22).at(15 / 22) == pytest.approx(0.25)


@pytest.mark.parametrize("count", [1, 3, None])
def test_oscillations_go_to_the_end_and_back(count):
    schedule, cycles = ChangingKeep(0.8, 0.2, "oscillating", count), count or 4
    for i in range(41):
        t = i / 40
        assert schedule.at(t) == pytest.approx(0.5 + 0.3 * math.cos(2 * math.pi * cycles * t))
    for cycle in range(cycles):
        assert schedule.at(cycle / cycles) == pytest.approx(0.8)
        assert schedule.at((cycle + 0.5) / cycles) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0.3..1.0", ChangingKeep(0.3, 1.0)),
        ("100%..40%", ChangingKeep(1.0, 0.4)),
        (" .3..1:cosine ", ChangingKeep(0.3, 1.0, "cosine")),
        ("1..0.5:step:7", ChangingKeep(1.0, 0.5, "step", 7)),
        ("0.9..0.4:oscillating:2", ChangingKeep(0.9, 0.4, "oscillating", 2)),
    ],
)
def test_texts(text, schedule):
    assert ChangingKeep.from_text(text) == schedule
    assert ChangingKeep.from_text(constant_or_changing(text)) == schedule


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("0.3..", "a fraction is a number"),
        ("0.3..x", "a fraction is a number"),
        ("0.3..1.2", r"end must be in \(0, 1\], got 1.2"),
        ("0..1", r"start must be in \(0, 1\], got 0.0"),
        ("0.3..1:jump", "shape must be one of"),
        ("0.3..1:step:1", "count must be a whole number of at least 2, got 1"),
        ("0.3..1:step:x", "a keep that changes is START..END"),
        ("0.3..1:oscillating:0", "count must be a whole number of at least 1, got 0"),
        ("0.3..1:linear:4", "counts nothing: leave out 4"),
    ],
)
def test_what_is_no_schedule_is_refused(text, match):
    with pytest.raises(ArgumentError, match=match):
        constant_or_changing(text)
