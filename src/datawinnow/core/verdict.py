"""Which of two runs is better, from paired seeds: one comparison, verdict and wording for check, race, bench and "
"report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datawinnow.core.chance import rows_sentence
from datawinnow.core.cost import break_even
from datawinnow.core.counts import many
from datawinnow.core.duration import duration
from datawinnow.core.interval import Interval, interval

ResultRow = dict[str, Any]
"""A row of ``rows.jsonl``; `datawinnow.report.results` says what it must have."""
Outcome = Literal["wins", "loses", "ties"]
CLAIM_SEEDS = 5
"""Paired seeds from which a difference is a result; with fewer it is an indication."""
TELLING = 6
"""Test examples that one run must get right more than the other: fewer all on one side happen by chance in more than
1 of 20 cases (sign test: 2 / 2^6 < 0.05 < 2 / 2^5)."""
SMALL_TEST = 100
"""Test examples below which `TELLING` counts with several seeds too, which all use the same few."""
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
        outcome: ``"wins"`` or ``"loses"`` where the interval excludes 0 and the difference exceeds ``noise``, else
            ``"ties"``. One seed always ties.
        noise: the difference up to which so few test examples decide nothing (`noise_of_test`).
    """

    ours: float
    reference: float
    difference: float
    half: float | None
    num_seeds: int
    outcome: Outcome
    noise: float = 0.0

    @property
    def sign(self) -> int:
        """1 where the run is better, -1 where it is worse, 0 within noise; one seed counts as it is shown.

        >>> compare({0: 0.9}, {0: 0.8}).sign, compare({0: 0.9}, {0: 0.8}, test_n=30).sign
        (1, 0)
        """
        if self.num_seeds > 1:
            return {"wins": 1, "loses": -1, "ties": 0}[self.outcome]
        difference = round(100 * self.difference, 2)  # a difference of 0.00 is a tie
        return 0 if self.is_test_noise else (difference > 0) - (difference < 0)

    @property
    def is_test_noise(self) -> bool:
        """Whether the test examples are too few to tell a difference of this size."""
        return abs(self.difference) <= self.noise * (1 + 1e-9)

    @property
    def is_indication(self) -> bool:
        """Whether there are fewer than `CLAIM_SEEDS` seeds."""
        return self.num_seeds < CLAIM_SEEDS

    @property
    def interval(self) -> Interval:
        """``difference`` with its interval."""
        return Interval(self.difference, self.half, self.num_seeds)


def noise_of_test(ours: float, reference: float, test_n: int | None, num_seeds: int) -> float:
    """The difference of two accuracies up to which a test split decides nothing.

    Fewer than `TELLING` examples decide nothing. With one seed, whose difference has no interval, neither does what is
    within the 95% binomial interval of the difference. Several seeds have an interval, but use the same test examples:
    of fewer than `SMALL_TEST`, `TELLING` must still differ.

    Args:
        ours: accuracy in [0, 1].
        reference: accuracy in [0, 1].
        test_n: test examples; None if unknown, which gives 0.
        num_seeds: paired seeds.
    """
    if test_n is None or (num_seeds > 1 and test_n >= SMALL_TEST):
        return 0.0
    binomial = 1.96 * math.sqrt((ours * (1 - ours) + reference * (1 - reference)) / test_n) if num_seeds == 1 else 0.0
    return max(binomial, (TELLING - 1) / test_n)


def num_test(rows: Sequence[ResultRow]) -> int | None:
    """Number of test examples behind result rows; None in rows that do not say it."""
    sizes = [row.get("test_n") for row in rows]
    stated = [size for size in sizes if isinstance(size, int) and size > 0]
    return min(stated) if stated else None


def compare(
    ours: Mapping[int, float], reference: Mapping[int, float], *, test_n: int | None = None
) -> Comparison | None:
    """Compare two runs by the seeds that both have.

    Args:
        ours: seed -> accuracy of the run.
        reference: seed -> accuracy of the reference, in the same unit.
        test_n: number of test examples behind accuracies in [0, 1]; None for other quantities.

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
    means = [interval([run[seed] for seed in seeds]).mean for run in (ours, reference)]
    noise = noise_of_test(means[0], means[1], test_n, len(seeds))
    outcome: Outcome = "ties"
    if difference.half is not None and abs(difference.mean) > noise * (1 + 1e-9):
        # an end of the interval that is exactly 0 is a tie
        outcome = "wins" if difference.low > 0 else "loses" if difference.high < 0 else "ties"
    return Comparison(means[0], means[1], difference.mean, difference.half, len(seeds), outcome, noise)


def count_seeds(num: int) -> str:
    """``1 seed`` or ``5 seeds``."""
    return many(num, "seed")


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
    if comparison.num_seeds == 1 and comparison.noise and comparison.is_test_noise:
        words = "within noise, 1 seed"
    elif comparison.num_seeds == 1:
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
    if half is None and comparison.noise and comparison.is_test_noise:
        return f"is within the noise of the test split of {reference} ({difference:+.2f} points, {means})"
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


FULL, RANDOM, SHORTER = "full", "random", "shorter_full"
EQUAL_COST = {RANDOM: "as many random examples", SHORTER: "all the data for fewer epochs"}
"""References that pass as many examples in training as the run, by their key in result rows."""
ADVICE_AHEAD = {
    RANDOM: "Random examples do better here, without scoring.",
    SHORTER: "Training on all the data for fewer epochs does better here, without scoring.",
}
ADVICE_LEVEL = {
    RANDOM: "Random examples do as well here, without scoring; more seeds may show a difference.",
    SHORTER: "Training on all the data for fewer epochs does as well here, without scoring; more seeds may show a "
    "difference.",
}


@dataclass(frozen=True)
class Verdict:
    """Is it worth it? ``str()`` has the line and the details.

    Attributes:
        word: ``"wins"`` where the run beats every reference of equal training cost, ``"loses"`` where it loses to one,
            else ``"ties"``; with one seed, which decides nothing, ``"ahead"``, ``"behind"`` or ``"level"``.
        line: the accuracies, the loss against full training, the total cost and the word.
        details: the comparisons with their intervals, what to do, and how far to trust it.
        comparisons: with each reference that was run, by its key.
    """

    word: str
    line: str
    details: str
    comparisons: dict[str, Comparison]

    def __str__(self) -> str:
        return f"{self.line} {self.details}"


def verdict(rows: Sequence[ResultRow], method: str) -> Verdict:
    """The verdict on a method from its result rows and those of its references, at one keep.

    With several seeds a difference counts only where its 95% interval over seeds excludes 0.

    Args:
        rows: of the method, and of as many of ``"full"``, ``"random"`` and ``"shorter_full"`` as were run.
        method: key of the method in the rows.
    """
    reached: dict[str, list[ResultRow]] = {}
    for row in rows:
        if row["accuracy"] is not None:
            reached.setdefault(row["method"], []).append(row)
    accuracies = {key: {row["seed"]: row["accuracy"] for row in group} for key, group in reached.items()}
    ours = accuracies.get(method, {})
    label = next((row["label"] for row in rows if row["method"] == method), method)
    test_n = num_test(rows)
    pairs = {key: compare(ours, accuracies.get(key, {}), test_n=test_n) for key in (FULL, *EQUAL_COST) if key != method}
    comparisons = {key: comparison for key, comparison in pairs.items() if comparison is not None}
    equal = {key: comparison for key, comparison in comparisons.items() if key in EQUAL_COST}
    failed = [f"{row['label']}, seed {row['seed']}" for row in rows if row["accuracy"] is None]
    diverged = f"Training diverged and is left out of the means: {'; '.join(failed)}." if failed else ""
    if not equal:
        text = "Verdict: none, there is nothing to compare."
        return Verdict("none", text, diverged, comparisons)
    num_seeds = min(comparison.num_seeds for comparison in comparisons.values())
    word = _verdict_word(list(equal.values()))
    noise = _test_noise(list(equal.values()), test_n)
    line = (
        f"Accuracy {_accuracies(reached, accuracies, method, label, comparisons)}. "
        f"{_total_cost(reached, method)} Verdict at equal training cost: {word}{noise}."
    )
    clauses = ", and ".join(clause(comparison, EQUAL_COST[key]) for key, comparison in equal.items())
    details = [f"{label} {clauses}.", _advice(equal, label)]
    if SHORTER in equal and reached[SHORTER][-1]["keep"] == 1:  # a race, whose reference is the full training
        details = [sentence.replace(" for fewer epochs", "") for sentence in details]
    details.append(diverged)
    if num_seeds > 1:
        details.append(f"Means over {num_seeds} seeds, with 95% intervals of the differences paired by seed.")
    return Verdict(
        word, line, " ".join(filter(None, [rows_sentence(rows), *details, indication_note(num_seeds)])), comparisons
    )


def _test_noise(comparisons: Sequence[Comparison], test_n: int | None) -> str:
    """In brackets, that the test split is too small for a difference that seeds alone would count; else nothing."""
    noisy = [
        comparison
        for comparison in comparisons
        if comparison.noise
        and comparison.is_test_noise
        and (comparison.half is None or abs(comparison.difference) > comparison.half)
    ]
    if not noisy or not any(round(comparison.difference, 4) for comparison in noisy):
        return ""
    size = f"{many(test_n or 0, 'test example')}"
    limit = max(comparison.noise for comparison in noisy)
    if limit >= 1:
        return f", since {size} cannot tell"
    return f", since {size} cannot tell differences of up to {100 * limit:.1f} points"


def _verdict_word(comparisons: Sequence[Comparison]) -> str:
    lowest = min(comparison.sign for comparison in comparisons)
    if any(comparison.num_seeds == 1 for comparison in comparisons):
        return {1: "ahead", 0: "level", -1: "behind"}[lowest]
    return {1: "wins", 0: "ties", -1: "loses"}[lowest]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _accuracies(
    reached: Mapping[str, Sequence[ResultRow]],
    accuracies: Mapping[str, Mapping[int, float]],
    method: str,
    label: str,
    comparisons: Mapping[str, Comparison],
) -> str:
    """``95.0% on ..., 97.1% on ...``: the run first, then all the data, random, and the shorter full run."""

    def shown(key: str) -> str:
        return f"{100 * _mean(list(accuracies[key].values())):.1f}%"

    row = reached[method][-1]
    kept = row.get("kept", round(row["keep"] * row["n"]))
    subset = f" on {kept:,} of {row['n']:,} examples" if row["keep"] < 1 else ""
    phrases = [f"{shown(method)} with {label}{subset}"]
    if FULL in comparisons:
        phrases.append(f"{shown(FULL)} on all the data ({points(comparisons[FULL])} points)")
    if RANDOM in comparisons:
        phrases.append(f"{shown(RANDOM)} on as many random examples")
    if SHORTER in comparisons:
        epochs = reached[SHORTER][-1]["trained_epochs"]
        phrases.append(f"{shown(SHORTER)} on all the data for {many(epochs, 'epoch')}")
    return ", ".join(phrases)


def _total_cost(reached: Mapping[str, Sequence[ResultRow]], method: str) -> str:
    """Total cost in passes over all the data and in seconds, scoring included, beside full training."""

    def cost(key: str) -> str:
        passes = _mean([row["total_passes"] / row["n"] for row in reached[key]])
        seconds = _mean([sum(stage["seconds"] for stage in row["cost"].values()) for row in reached[key]])
        return f"{passes:.1f} passes over all the data and {duration(seconds)}"

    reference = FULL if FULL in reached else SHORTER
    name = "full training" if reference == FULL else "all the data"
    beside = f"; {name}: {cost(reference)}" if reference in reached and reference != method else ""
    return f"Total cost with scoring: {cost(method)}{beside}."


def _advice(equal: Mapping[str, Comparison], label: str) -> str:
    """What to do; a reference that does as well is the better advice, since it needs no scoring."""
    unbeaten = [key for key, comparison in equal.items() if comparison.sign <= 0]
    if not unbeaten:
        return f"{label} does best at equal training cost."
    ahead = [key for key in unbeaten if equal[key].sign < 0]
    best = max(ahead or unbeaten, key=lambda key: equal[key].reference)
    return (ADVICE_AHEAD if ahead else ADVICE_LEVEL)[best]


def payback(scoring: float, *, n: int, kept: int, epochs: float, to_full: Comparison | None = None) -> str:
    """When scoring is paid back, and at what loss of accuracy, in one or two sentences.

    Args:
        scoring: examples passed to find the selection.
        n: examples of the dataset.
        kept: examples kept.
        epochs: epochs of the training on the kept examples.
        to_full: accuracy on the kept examples against that of full training; None where it was not measured.

    >>> payback(3000, n=100, kept=30, epochs=30)
    'Scoring passed 3,000 examples, 100% of a full training of 30 epochs. It is paid back after 1.4 trainings on the \
kept examples; their accuracy is not checked.'
    """
    share = 100 * scoring / (n * epochs)
    text = f"Scoring passed {scoring:,.0f} examples, {share:.0f}% of a full training of {many(epochs, 'epoch')}. "
    trainings = break_even(scoring, full=n * epochs, pruned=kept * epochs)
    if math.isinf(trainings):
        return text + "It is never paid back: training on the kept examples is not cheaper."
    text += f"It is paid back after {many(trainings, 'training')} on the kept examples"
    if to_full is None:
        return text + "; their accuracy is not checked."
    if to_full.difference < 0:
        return text + f", each of which loses accuracy against all the data: {points(to_full)} points."
    return text + f"; against all the data their accuracy is {points(to_full)} points."
