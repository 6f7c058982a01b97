"""`auto`: the policy that beat all the data for fewer epochs in benchmarks on similar data, or none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from datawinnow.core import check
from datawinnow.core.interval import best_of
from datawinnow.dynamic.budget import expected_fraction
from datawinnow.dynamic.build import build_policy
from datawinnow.dynamic.policy import Policy, State, Stream
from datawinnow.dynamic.random_pruning import RandomPruning
from datawinnow.dynamic.wrap import Wrapper

MAX_RATIO = 4.0
"""Largest ratio, in each respect, between a dataset and a setting that stands for it."""
KINDS = ("images", "texts", "vectors")
"""Kinds of examples, which never stand for each other: what wins on images was seen not to win on sentences."""
MIN_SEEDS = 5
"""Paired seeds of a result that a recommendation may rest on."""


@dataclass(frozen=True)
class DataDescription:
    """What of a dataset decides which measured setting stands for it.

    Attributes:
        n: number of examples.
        kind: of `KINDS`.
        classes: number of classes; None if unknown.
        channels: of images; None if unknown, and of others.
        size: side of images in pixels (of others than squares the root of the area), or length of vectors; None if
            unknown, and of texts.
        noisy: whether many labels are wrong.
    """

    n: int
    kind: str = "images"
    classes: int | None = None
    channels: int | None = None
    size: float | None = None
    noisy: bool = False

    def __post_init__(self) -> None:
        check.number("n", self.n, 1, 2**40, integer=True)
        check.one_of("kind", self.kind, KINDS)
        for name in ("classes", "channels"):
            if getattr(self, name) is not None:
                check.number(name, getattr(self, name), 1, 2**40, integer=True)
        if self.size is not None:
            check.number("size", self.size, 1, 2**40)

    def __str__(self) -> str:
        shape = []
        if self.size is not None:
            shape.append(f"{self.size:g} numbers" if self.kind == "vectors" else f"{self.size:g} pixels a side")
        if self.channels is not None:
            shape.append("1 channel" if self.channels == 1 else f"{self.channels} channels")
        of_shape = f" ({', '.join(shape)})" if shape else ""
        in_classes = "" if self.classes is None else f" of {self.classes:,} classes"
        return f"n={self.n:,} {self.kind}{of_shape}{in_classes}"


@dataclass(frozen=True)
class MeasuredSetting:
    """Measured gain of a policy, of small inputs first, or of both, over all the data for fewer epochs, at one budget.

    Attributes:
        setting: description of dataset and network.
        n: number of examples.
        passes: budget, in epochs on all the data.
        noisy: whether labels were wrong.
        label: the policy's name for people.
        policy: key of its card; ``""`` for all the data, with small inputs first.
        options: its options.
        wrap: names of its wrappers, from the inside out.
        gain: difference in test accuracy, as a fraction; mean over paired seeds.
        half: half of its 95% interval; None for one seed.
        seeds: number of paired seeds.
        kind: of `KINDS`.
        classes: number of classes; None if unknown.
        channels: of images; None if unknown, and of others.
        size: side of images in pixels (of others than squares the root of the area), or length of vectors; None if
            unknown, and of texts.
        size_schedule: options of the `datawinnow.SizeSchedule` that was used, with its sizes as shares of the full
            size; None for full size throughout.
    """

    setting: str
    n: int
    passes: float
    noisy: bool
    label: str
    policy: str
    options: Mapping[str, Any]
    wrap: tuple[str, ...]
    gain: float
    half: float | None
    seeds: int
    kind: str = "images"
    classes: int | None = None
    channels: int | None = None
    size: float | None = None
    size_schedule: Mapping[str, Any] | None = None

    def lower_bound(self, num_candidates: int) -> float:
        """Lower end of the interval, minus infinity with fewer than `MIN_SEEDS` seeds.

        The interval is wider where the best of ``num_candidates`` policies is taken (`datawinnow.core.interval`).
        """
        if self.half is None or self.seeds < MIN_SEEDS:
            return -math.inf
        # best_of widens the half interval by Bonferroni: the winner of several is partly the luckiest.
        return self.gain - best_of(self.half, self.seeds, num_candidates)

    def distance(self, data: DataDescription, passes: float) -> float:
        """Distance in octaves, infinite between two kinds of examples or of labels.

        It is the largest log2 ratio of examples, passes and, where both are known, of classes, examples a class,
        channels and size.
        """
        if (self.kind, self.noisy) != (data.kind, data.noisy):
            return math.inf
        # A maximum of log ratios, not a sum: similar in one respect does not make up for another.
        ratios = [data.n / self.n, passes / self.passes]
        if data.classes is not None and self.classes is not None:
            ratios += [data.classes / self.classes, (data.n / data.classes) / (self.n / self.classes)]
        if data.channels is not None and self.channels is not None:
            ratios.append(data.channels / self.channels)
        if data.size is not None and self.size is not None:
            ratios.append(data.size / self.size)
        return max(abs(math.log2(ratio)) for ratio in ratios)

    @property
    def description(self) -> str:
        """Description of setting and budget."""
        return f"{self.setting} at {self.passes:g} passes"

    def build(self, passes: float) -> Policy | None:
        """The policy for a budget of ``passes``, as it was benchmarked; None for all the data."""
        if not self.policy:
            return None
        return build_policy(self.policy, passes=passes, options=self.options, wrap=self.wrap)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Advice:
    """A recommended policy and the reason.

    Attributes:
        policy: the policy; None for all the data.
        why: one line for people.
        size_schedule: options of the `datawinnow.SizeSchedule` to train with; None for full size throughout.
    """

    policy: Policy | None
    why: str
    size_schedule: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Auto(Wrapper):
    """The policy that `auto` chose, with the reason in ``why``; plans and state are those of the policy.

    Args:
        policy: the policy.
    """

    policy: Policy

    def __post_init__(self) -> None:
        self._check_policy()
        object.__setattr__(self, "why", "")  # not a field: words do not change what is trained on

    def with_policy(self, policy: Policy) -> Auto:
        """Another policy, with the same reason."""
        chosen = Auto(policy)
        object.__setattr__(chosen, "why", self.__dict__["why"])
        return chosen

    def plan(self, epoch: int, state: State, stream: Stream) -> Any:
        """As the policy plans."""
        return self.policy.plan(epoch, state, stream)


@cache
def load_benchmarks() -> tuple[MeasuredSetting, ...]:
    """Every measured setting, from ``benchmarks.json`` of this package; a script in ``benchmarks/`` writes it."""
    text = resources.files("datawinnow.dynamic").joinpath("benchmarks.json").read_text(encoding="utf-8")
    return tuple(MeasuredSetting(**{**row, "wrap": tuple(row["wrap"])}) for row in json.loads(text)["settings"])


@dataclass(frozen=True)
class LargerBudgets:
    """What became of results at a smaller budget when the same was measured at a larger one, beyond noise or within.

    Attributes:
        gains: results that were gains at the smaller budget.
        still_gains: of these, gains at the larger one.
        lost: of these, losses.
        within_noise: results within noise at the smaller budget.
        became_gains: of these, gains at the larger one.
        became_losses: of these, losses.
    """

    gains: int
    still_gains: int
    lost: int
    within_noise: int
    became_gains: int
    became_losses: int


def count_at_larger_budgets() -> LargerBudgets:
    """Of every policy that was measured in one setting at several budgets: the smallest beside the largest."""
    by_arm: dict[str, list[MeasuredSetting]] = {}
    for s in load_benchmarks():
        if s.half is not None and s.seeds >= MIN_SEEDS:
            arm = [s.setting, s.noisy, s.policy, s.options, s.wrap, s.size_schedule]
            by_arm.setdefault(json.dumps(arm, sort_keys=True), []).append(s)
    pairs = []
    for measured in by_arm.values():
        first, last = min(measured, key=lambda s: s.passes), max(measured, key=lambda s: s.passes)
        if last.passes > first.passes:
            pairs.append((_sign(first), _sign(last)))
    after_gain = [larger for smaller, larger in pairs if smaller > 0]
    after_noise = [larger for smaller, larger in pairs if smaller == 0]
    return LargerBudgets(
        len(after_gain),
        after_gain.count(1),
        after_gain.count(-1),
        len(after_noise),
        after_noise.count(1),
        after_noise.count(-1),
    )


def _sign(setting: MeasuredSetting) -> int:
    """1 for a gain and -1 for a loss beyond the interval, else 0."""
    assert setting.half is not None
    return (setting.gain > setting.half) - (setting.gain < -setting.half)


def recommend(
    n: int,
    *,
    passes: float,
    noisy: bool = False,
    kind: str = "images",
    classes: int | None = None,
    channels: int | None = None,
    size: float | None = None,
    size_schedules: bool = False,
) -> Advice:
    """The policy for a budget, from the benchmarks on the most similar data.

    A measured setting stands for datasets of its kind with up to four times more or fewer examples, passes, classes,
    examples a class, channels and pixels a side (or numbers in a vector), each where it is known. Where nothing was
    measured on that kind, the answer is all the data. Examples a class count since UCB won with a thousand of each
    (CIFAR-10) and not with a hundred (CIFAR-100), which is one pair of datasets, and so a caution more than a law. Of
    the nearest settings, the policy with the highest lower end of its 95% interval over five paired seeds is chosen if
    that end is above zero; otherwise all the data for
    that many epochs, which is what a policy has to beat. With ``size_schedules`` small inputs first, with a policy and
    without, are chosen among in the same way. Where several settings are equally near, as two networks on as
    many examples, a policy counts by its worst result with five seeds. The best of several policies has to win by the
    margin of a Bonferroni correction; the reason says of how many.

    Args:
        n: number of examples.
        passes: budget, in epochs on all the data.
        noisy: whether many labels are wrong.
        kind: "images", "texts" or "vectors".
        classes: number of classes; None if unknown, and then a policy must have won in the settings of every number of
            classes that are near.
        channels: of images, if known.
        size: side of images in pixels (of others than squares the root of the area), or length of vectors, if known.
        size_schedules: whether small inputs first may be recommended: for a training that can follow the schedule.

    Returns:
        The policy, or None for all the data, the reason, and the size schedule where there is one.

    Raises:
        ArgumentError: numbers out of range, or an unknown kind.
    """
    return _advice_on(DataDescription(n, kind, classes, channels, size, noisy), passes, size_schedules=size_schedules)


def _advice_on(data: DataDescription, passes: float, *, size_schedules: bool = False) -> Advice:
    setting, why = recommended_setting(data, passes, size_schedules=size_schedules)
    if setting is None:
        return Advice(None, why)
    return Advice(setting.build(passes), why, setting.size_schedule)


def recommended_setting(
    data: DataDescription, passes: float, *, size_schedules: bool
) -> tuple[MeasuredSetting | None, str]:
    """The setting whose policy `recommend` chooses, None for all the data, and the reason."""
    check.number("passes", passes, 1e-9, 2**31)
    kind, classes, noisy = data.kind, data.classes, data.noisy
    everything = f"all the data for {passes:g} epoch{'' if passes == 1 else 's'}"
    settings = [s for s in load_benchmarks() if size_schedules or s.size_schedule is None]
    if not any(s.kind == kind for s in settings):
        return None, f"{everything}: no policy was measured on {kind} ({data})"
    near = [s for s in settings if s.distance(data, passes) <= math.log2(MAX_RATIO)]
    if not near:
        labels = "wrong labels" if noisy else "clean labels"
        return (
            None,
            f"{everything}: no benchmark is close to {data}, {passes:g} pass{'' if passes == 1 else 'es'}, {labels}",
        )
    nearest = [s for group in _by_classes(near, classes) for s in _nearest(group, data, passes)]
    by_policy = _by_policy(nearest)
    # Only policies that could be recommended count as comparisons.
    num_candidates = sum(any(s.seeds >= MIN_SEEDS for s in results) for results in by_policy)
    # The selection is pessimistic twice: the worst result of each policy, then the best of these.
    worst = (min(results, key=_worst_first) for results in by_policy)
    best = max(worst, key=lambda s: (s.lower_bound(num_candidates), s.gain))
    if best.lower_bound(num_candidates) <= 0:
        settled = all(s.seeds >= MIN_SEEDS for s in nearest)
        finding = "no policy beat it" if settled else f"no policy beat it with {MIN_SEEDS} seeds"
        return None, f"{everything}: {finding} on {best.description}, the most similar benchmark"
    assert best.half is not None, best
    gain = f"{100 * best.gain:+.1f} ± {100 * best.half:.1f} points over all the data for at most as many examples"
    best_of_several = "" if num_candidates == 1 else f", the best of {num_candidates} policies"
    return (
        best,
        f"{best.label}: {gain} on {best.description} ({best.seeds} seeds{best_of_several}), the most similar benchmark",
    )


def _by_classes(settings: Sequence[MeasuredSetting], classes: int | None) -> list[list[MeasuredSetting]]:
    """One group where the number of classes is known; otherwise a group for each number, which must agree."""
    if classes is not None:
        return [list(settings)]
    return [[s for s in settings if s.classes == number] for number in {s.classes for s in settings}]


def _nearest(settings: Sequence[MeasuredSetting], data: DataDescription, passes: float) -> list[MeasuredSetting]:
    """All settings that are as near as the nearest."""
    minimum = min(s.distance(data, passes) for s in settings)
    return [s for s in settings if s.distance(data, passes) == minimum]


def _by_policy(settings: Sequence[MeasuredSetting]) -> list[list[MeasuredSetting]]:
    """The settings of each policy."""
    groups: dict[str, list[MeasuredSetting]] = {}
    for s in settings:
        groups.setdefault(json.dumps([s.policy, s.options, s.wrap, s.size_schedule], sort_keys=True), []).append(s)
    return list(groups.values())


def _worst_first(setting: MeasuredSetting) -> tuple[bool, float]:
    """Sorts results with enough seeds before others, and the worst of them first."""
    return setting.seeds < MIN_SEEDS, setting.lower_bound(1)


def auto(
    n: int,
    epochs: int,
    *,
    noisy: bool = False,
    kind: str = "images",
    classes: int | None = None,
    channels: int | None = None,
    size: float | None = None,
) -> Auto:
    """The policy for a loop of ``epochs`` epochs over ``n`` examples, chosen from benchmarks.

    It is used as any policy, in `PolicySampler` and `fit`. Its ``why`` gives the reason in one line. Where no policy is
    known to beat all the data for fewer epochs it trains on all the data, and ``why`` says so: then fewer epochs are
    what saves.

    Args:
        n: number of examples.
        epochs: epochs of the loop.
        noisy: whether many labels are wrong.
        kind: "images", "texts" or "vectors".
        classes: number of classes, if known.
        channels: of images, if known.
        size: side of images in pixels (of others than squares the root of the area), or length of vectors, if known.

    Returns:
        A policy with the attribute ``why``.

    Raises:
        ArgumentError: numbers out of range, or an unknown kind.

    >>> policy = auto(10, epochs=1)  # nothing was measured near
    >>> expected_fraction(policy, 1), policy.why
    (1.0, 'all the data for 1 epoch: no benchmark is close to n=10 images, 1 pass, clean labels')
    """
    check.number("epochs", epochs, 1, 2**31, integer=True)
    data = DataDescription(n, kind, classes, channels, size, noisy)
    advice = _advice_on(data, epochs)
    if advice.policy is not None:  # a loop of so many epochs passes fewer examples: ask again for that budget
        advice = _advice_on(data, epochs * expected_fraction(advice.policy, epochs))
    chosen = Auto(advice.policy if advice.policy is not None else RandomPruning(keep=1.0))
    object.__setattr__(chosen, "why", advice.why)
    return chosen
