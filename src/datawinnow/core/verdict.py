"""Which of two runs is better, from paired seeds: one comparison and one wording for check, race, bench and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from datawinnow.core.interval import Interval, interval

ResultRow = dict[str, Any]
"""A row of ``rows.jsonl``; `datawinnow.report.results` says what it must have."""
Outcome = Literal["wins", "loses", "ties"]
CLAIM_SEEDS = 5
"""Paired seeds from which a difference is a result; with fewer it is an indication."""
OUTCOME_WORDS: dict[Outcome, str] = {"wins": "better", "loses": "LOSES", "ties": "within noise"}
"""Outcomes as they stand in tables. Losing is in capitals because a reader must not miss it."""


@dataclass(frozen=True)
class Comparison:
    """A run against a reference over the seeds that both have.

    Attributes:
        ours: mean accuracy of the run.
        reference: mean accuracy of the reference.
        difference: mean over seeds of ours minus the reference's.
        half: half the width of the 95% Student interval of ``difference``; None with one seed, which has no interval.
        num_seeds: number of paired seeds.
        outcome: ``"wins"`` or ``"loses"`` where the interval excludes 0, else ``"ties"``. One seed always ties.
    """

    ours: float
    reference: float
    difference: float
    half: float | None
    num_seeds: int
    outcome: Outcome

    @property
    def is_indication(self) -> bool:
        """Whether there are fewer than `CLAIM_SEEDS` seeds."""
        return self.num_seeds < CLAIM_SEEDS

    @property
    def interval(self) -> Interval:
        """``difference`` with its interval."""
        return Interval(self.difference, self.half, self.num_seeds)


def compare(ours: Mapping[int, float], reference: Mapping[int, float]) -> Comparison | None:
    """Compare two runs by the seeds that both have.

    Args:
        ours: seed -> accuracy of the run.
        reference: seed -> accuracy of the reference, in the same unit.

    Returns:
        The comparison, in the unit of the arguments; None when no seed is in both.

    >>> compare({0: 0.9, 1: 0.92, 2: 0.91}, {0: 0.8, 1: 0.82, 2: 0.81}).outcome
    'wins'
    >>> compare({0: 0.9}, {0: 0.8}).outcome  # one seed decides nothing
    'ties'
    """
    seeds = sorted(ours.keys() & reference.keys())
    if not seeds:
        return None
    difference = interval([ours[seed] - reference[seed] for seed in seeds])
    outcome: Outcome = "ties"
    if difference.half is not None:
        # an end of the interval that is exactly 0 is a tie
        outcome = "wins" if difference.low > 0 else "loses" if difference.high < 0 else "ties"
    means = [interval([run[seed] for seed in seeds]).mean for run in (ours, reference)]
    return Comparison(means[0], means[1], difference.mean, difference.half, len(seeds), outcome)


def count_seeds(num: int) -> str:
    """``1 seed`` or ``5 seeds``."""
    return f"{num} seed{'' if num == 1 else 's'}"


def outcome_words(comparison: Comparison | None) -> str:
    """The outcome as it stands in a table beside the number of seeds; `indication_note` goes below the table.

    >>> outcome_words(compare({0: 0.9, 1: 0.92, 2: 0.91}, {0: 0.8, 1: 0.81, 2: 0.79}))
    'better'
    >>> outcome_words(compare({0: 0.9}, {0: 0.8}))
    'ahead, 1 seed'
    """
    if comparison is None:
        return ""
    words = OUTCOME_WORDS[comparison.outcome]
    if comparison.num_seeds == 1:
        difference = comparison.difference
        words = f"{'ahead' if difference > 0 else 'behind' if difference < 0 else 'equal'}, 1 seed"
    return words


def points(comparison: Comparison | None) -> str:
    """The difference of two fractions in percentage points, as ``+0.8 ± 0.5``; ``-`` where there is none.

    Two digits are shown where one would show a zero that is not zero.
    """
    if comparison is None:
        return "-"
    half = comparison.half
    sizes = [100 * abs(comparison.difference)] + ([] if half is None else [100 * half])
    # below 0.05 one digit would show 0.0
    digits = 2 if any(0 < size < 0.05 for size in sizes) else 1
    return f"{100 * comparison.difference:+.{digits}f}" + ("" if half is None else f" ± {100 * half:.{digits}f}")


def clause(comparison: Comparison, reference: str) -> str:
    """A comparison of two fractions in words, without its subject.

    Args:
        comparison: of a run with the reference.
        reference: the reference in words, as ``"as many random examples"``.

    >>> clause(compare({0: 0.9, 1: 0.92, 2: 0.91}, {0: 0.8, 1: 0.81, 2: 0.79}), "random")
    'beats random by 11.00 ± 2.48 points (91.00 against 80.00)'
    >>> clause(compare({0: 0.9}, {0: 0.8}), "random")
    'is ahead of random by 10.00 points (90.00 against 80.00)'
    """
    difference, half = 100 * comparison.difference, comparison.half
    means = f"{100 * comparison.ours:.2f} against {100 * comparison.reference:.2f}"
    size = f"{abs(difference):.2f}" + ("" if half is None else f" ± {100 * half:.2f}")
    if comparison.outcome != "ties":
        verb = "beats" if comparison.outcome == "wins" else "loses to"
        return f"{verb} {reference} by {size} points ({means})"
    # a difference that is shown as 0.00 is called level
    if half is None and round(difference, 2):
        verb = "is ahead of" if difference > 0 else "is behind"
        return f"{verb} {reference} by {size} points ({means})"
    if half is None:
        return f"is level with {reference} ({means})"
    return f"ties with {reference} ({difference:+.2f} ± {100 * half:.2f} points, {means})"


def indication_note(num_seeds: int) -> str:
    """The sentence that stands below a comparison of fewer than five seeds; empty with enough of them."""
    if num_seeds >= CLAIM_SEEDS:
        return ""
    return f"This is an indication ({count_seeds(num_seeds)}): a result needs {CLAIM_SEEDS} paired seeds."
