"""What a check says in words: which arm did best, by how much, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datawinnow.core.interval import interval

BASELINES = {"random": "as many random examples", "shorter_full": "all the data for fewer epochs"}
BETTER = {
    "random": "Random examples did better here: do not pay for scoring at this keep and schedule.",
    "shorter_full": "All the data for fewer epochs did better here, with nothing spent on scoring: train shorter "
    "instead of pruning.",
}
AS_GOOD = {
    "random": "Random examples did as well here, as far as this can show, and need no scoring: do not pay for it at "
    "this keep and schedule, or let more seeds decide.",
    "shorter_full": "All the data for fewer epochs did as well here, as far as this can show, with nothing spent on "
    "scoring: train shorter instead of pruning, or let more seeds decide.",
}


@dataclass(frozen=True)
class Against:
    """The checked method against one baseline, in points of accuracy as shown: what is shown is what is compared.

    Attributes:
        ours: mean of the method over seeds.
        theirs: mean of the baseline.
        mean: mean of the differences, paired by seed; positive where the method is ahead.
        half: half of its 95% Student interval over seeds; 0 with one seed, which has none.
        seeds: how many.
    """

    ours: float
    theirs: float
    mean: float
    half: float
    seeds: int

    @property
    def outcome(self) -> str:
        """``"beats"``, ``"loses"``, or ``"ties"``: the interval holds 0."""
        return "beats" if self.mean - self.half > 0 else "loses" if self.mean + self.half < 0 else "ties"

    def words(self, what: str) -> str:
        """A clause about ``what``, without its subject."""
        spread = f" ± {self.half:.2f}" if self.seeds > 1 else ""
        shown = f"{self.ours:.2f} against {self.theirs:.2f}"
        if self.outcome == "ties" and self.seeds == 1:
            return f"ties with {what} ({shown})"
        if self.outcome == "ties":
            there = f"no difference that {self.seeds} seeds can show"
            return f"has {there} from {what} ({self.mean:+.2f}{spread} points, {shown})"
        verb = "beats" if self.outcome == "beats" else "loses to"
        return f"{verb} {what} by {abs(self.mean):.2f}{spread} points ({shown})"


def against(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Against:
    """Compare two arms that share their seeds.

    Args:
        ours: seed -> accuracy of the method, in points.
        theirs: seed -> accuracy of the baseline, in points.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    means = [round(sum(arm[seed] for seed in seeds) / len(seeds), 2) for arm in (ours, theirs)]
    found = interval([ours[seed] - theirs[seed] for seed in seeds])
    mean = round(means[0] - means[1], 2) if found.half is None else round(found.mean, 2)
    return Against(means[0], means[1], mean, round(found.half or 0.0, 2), len(seeds))


def verdict(rows: Sequence[Mapping[str, Any]], method: str, label: str) -> str:
    """Which of the arms did best and by how much, in a few sentences.

    With several seeds a difference counts only where its 95% interval over seeds leaves out 0. A baseline that does as
    well is the better advice: it needs no recording.

    Args:
        rows: result rows of the arms, of which ``method`` is one, all with the same seeds.
        method: key of the method that is checked.
        label: its name for people.
    """
    reached: dict[str, dict[int, float]] = {}
    for row in rows:
        reached.setdefault(row["method"], {})[row["seed"]] = 100 * row["accuracy"]
    found = {name: against(reached[method], reached[name]) for name in BASELINES if name in reached and name != method}
    said = ", and ".join(compared.words(BASELINES[name]) for name, compared in found.items())
    recording = any(row["cost"]["score"]["backward"] for row in rows if row["method"] == method)
    return " ".join((f"{label} {said}.", _passed(rows), _advice(found, label, recording), _trust(len(reached[method]))))


def _advice(found: Mapping[str, Against], label: str, recording: bool) -> str:
    unbeaten = [name for name, compared in found.items() if compared.outcome != "beats"]
    if not unbeaten:
        aside = ", the recording that it took set aside" if recording else ""
        return f"{label} is the best of the {len(found) + 1} here{aside}."
    ahead = [name for name in unbeaten if found[name].outcome == "loses"]
    best = max(ahead or unbeaten, key=lambda name: found[name].theirs)
    return (BETTER if ahead else AS_GOOD)[best]


def _passed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Examples passed in training by each arm, as they were and not as they were meant."""
    passed = {row["label"]: f"{row['passes']:,.0f}" for row in rows}
    if len(set(passed.values())) == 1:
        return f"Each passed {next(iter(passed.values()))} examples in training."
    return f"Examples passed in training: {', '.join(f'{count} ({label})' for label, count in passed.items())}."


def _trust(seeds: int) -> str:
    if seeds == 1:
        return "One seed: an indication, not a result; try --check-seeds 3."
    return (
        f"Means over {seeds} seeds, and 95% intervals of the differences paired by seed; the selection was made once, "
        "so how much it would vary is not in them."
    )
