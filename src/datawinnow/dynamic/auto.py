"""`auto`: the policy that beat all the data for fewer epochs where somebody measured it, or none."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from datawinnow.core import check
from datawinnow.core.card import card_of
from datawinnow.core.interval import best_of
from datawinnow.dynamic._named import for_passes, wrapped
from datawinnow.dynamic.budget import expected_fraction
from datawinnow.dynamic.policy import Policy
from datawinnow.dynamic.random_pruning import RandomPruning
from datawinnow.dynamic.wrap import _Wrapped

REACH = 4.0
"""How many times more or fewer examples, examples a class, or passes than measured a place still speaks for."""
KINDS = ("images", "texts")
"""What a place speaks for: what wins on images was seen not to win on sentences."""
CLAIM = 5
"""Seeds that stand behind a place that is chosen by."""


@dataclass(frozen=True)
class Place:
    """What a policy gained over all the data for fewer epochs at one place of the map.

    Attributes:
        setting: dataset and network, in words.
        n: examples.
        passes: epochs on everything that would have cost as much.
        noisy: whether labels were wrong there.
        label: the policy's name for people.
        policy: key of its card.
        options: its options.
        wrap: names of its wrappers, from the inside out.
        gain: fraction of the test examples, mean over paired seeds.
        half: half of its 95% interval; None of one seed.
        seeds: how many.
        kind: of `KINDS`, what the examples were.
        classes: how many there were; None where that is not told.
    """

    setting: str
    n: int
    passes: float
    noisy: bool
    label: str
    policy: str
    options: dict[str, Any]
    wrap: tuple[str, ...]
    gain: float
    half: float | None
    seeds: int
    kind: str = "images"
    classes: int | None = None

    def low_of(self, num_candidates: int) -> float:
        """The low end of the interval; minus infinity where fewer seeds than a claim needs stand behind it.

        The best of so many policies must win by more (`datawinnow.core.interval.best_of`).
        """
        if self.half is None or self.seeds < CLAIM:
            return -math.inf
        return self.gain - best_of(self.half, self.seeds, num_candidates)

    def far(self, n: int, passes: float, classes: int | None = None) -> float:
        """How far another number of examples, of examples a class and of passes is: the largest ratio, in octaves."""
        ratios = [n / self.n, passes / self.passes]
        if classes is not None and self.classes is not None:
            ratios.append((n / classes) / (self.n / self.classes))
        return max(abs(math.log2(ratio)) for ratio in ratios)

    @property
    def where(self) -> str:
        """The place in words."""
        return f"{self.setting} at {self.passes:g} passes"

    def make(self, passes: float) -> Policy:
        """The policy, for as many passes: as the comparison has made it."""
        from datawinnow.dynamic import POLICIES  # which this module is a part of

        make = POLICIES[self.policy]

        def made(epochs: int) -> Policy:
            length = {"epochs": epochs} if "epochs" in card_of(make).takes else {}
            policy: Any = make(**length, **self.options)
            for text in self.wrap:
                policy = wrapped(policy, text, epochs)
            return policy  # type: ignore[no-any-return]

        return for_passes(made, passes)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Advice:
    """What to train by, and why.

    Attributes:
        policy: the policy; None for all the data.
        why: one line for people.
    """

    policy: Policy | None
    why: str


@dataclass(frozen=True)
class Auto(_Wrapped):
    """The policy that `auto` chose, with the reason in ``why``; plans and state are the policy's own.

    Args:
        policy: what was chosen.
    """

    policy: Policy

    def __post_init__(self) -> None:
        self._check()
        object.__setattr__(self, "why", "")  # not a field: words do not change what is trained on

    def plan(self, epoch: int, state: Any, stream: Any) -> Any:
        """As the policy plans."""
        return self.policy.plan(epoch, state, stream)


@cache
def the_map() -> tuple[Place, ...]:
    """Every place that was measured: ``map.json``, which ``benchmarks/comparison_map.py`` makes."""
    text = resources.files("datawinnow.dynamic").joinpath("map.json").read_text(encoding="utf-8")
    return tuple(Place(**{**one, "wrap": tuple(one["wrap"])}) for one in json.loads(text)["places"])


def advise(n: int, *, passes: float, noisy: bool = False, kind: str = "images", classes: int | None = None) -> Advice:
    """The policy to spend a budget by, from what was measured nearest to it.

    A place of the map speaks for datasets and budgets up to four times larger or smaller, and for as many times more or
    fewer examples a class: UCB won with a thousand of each (CIFAR-10) and not with a hundred (CIFAR-100), which is one
    pair of datasets, and so a caution more than a law. Of the nearest that do, the policy with the highest low end of
    its 95% interval over five paired seeds is chosen if that is above zero; otherwise all the data for that many
    epochs, which is what a policy has to beat. Where several places are equally near, as two networks on as many
    examples, a policy counts by the worst of those that five seeds stand behind. The best of several policies has to
    win by as much more as Bonferroni asks for; the line says of how many.

    Args:
        n: number of examples.
        passes: budget: epochs on everything that would cost as much.
        noisy: whether many labels are wrong.
        kind: what the examples are, "images" or "texts".
        classes: how many; None where nobody knows, and then a policy must have won with every number of them near by.

    Returns:
        The policy, or None for all the data, and why.

    Raises:
        ArgumentError: numbers out of range, or an unknown kind.
    """
    place, why = advised(n, passes=passes, noisy=noisy, kind=kind, classes=classes)
    return Advice(None if place is None else place.make(passes), why)


def advised(
    n: int, *, passes: float, noisy: bool = False, kind: str = "images", classes: int | None = None
) -> tuple[Place | None, str]:
    """The place whose policy is chosen, None for all the data, and why; arguments as of `advise`."""
    check.number("n", n, 1, 2**40, integer=True)
    check.number("passes", passes, 1e-9, 2**31)
    check.one_of("kind", kind, KINDS)
    if classes is not None:
        check.number("classes", classes, 1, 2**40, integer=True)
    alike = [place for place in the_map() if (place.noisy, place.kind) == (noisy, kind)]
    near = [place for place in alike if place.far(n, passes, classes) <= math.log2(REACH)]
    everything = f"all the data for {passes:g} epochs"
    if not near:
        labels = "wrong labels" if noisy else "clean labels"
        of = "" if classes is None else f" of {classes:,} classes"
        return None, f"{everything}: nothing was measured near n={n:,} {kind}{of}, {passes:g} passes, {labels}"
    here = [place for each in _by_classes(near, classes) for place in _nearest(each, n, passes, classes)]
    policies = _by_policy(here)
    num_candidates = sum(any(place.seeds >= CLAIM for place in each) for each in policies)
    best = max((_worst(each) for each in policies), key=lambda place: (place.low_of(num_candidates), place.gain))
    if best.low_of(num_candidates) <= 0:
        settled = all(place.seeds >= CLAIM for place in here)
        words = "nothing beat it" if settled else f"nothing is known, with {CLAIM} seeds, to beat it"
        return None, f"{everything}: {words} on {best.where}, the nearest that was measured"
    assert best.half is not None, best
    gained = f"{100 * best.gain:+.1f} ± {100 * best.half:.1f} points over all the data for no more examples passed"
    several = "" if num_candidates == 1 else f", the best of {num_candidates} policies"
    return best, f"{best.label}: {gained} on {best.where} ({best.seeds} seeds{several}), the nearest that was measured"


def _by_classes(places: Sequence[Place], classes: int | None) -> list[list[Place]]:
    """All together where the number of classes is known; else those of each number, which must agree."""
    if classes is not None:
        return [list(places)]
    return [[place for place in places if place.classes == each] for each in {place.classes for place in places}]


def _nearest(places: Sequence[Place], n: int, passes: float, classes: int | None) -> list[Place]:
    """All that are as near as the nearest."""
    least = min(place.far(n, passes, classes) for place in places)
    return [place for place in places if place.far(n, passes, classes) == least]


def _by_policy(places: Sequence[Place]) -> list[list[Place]]:
    """The places of each policy."""
    groups: dict[str, list[Place]] = {}
    for place in places:
        groups.setdefault(json.dumps([place.policy, place.options, place.wrap], sort_keys=True), []).append(place)
    return list(groups.values())


def _worst(places: Sequence[Place]) -> Place:
    """Of a policy's places the one that speaks least for it, of those with enough seeds to speak at all."""
    return min(places, key=lambda place: (place.seeds < CLAIM, place.low_of(1)))


def auto(n: int, epochs: int, *, noisy: bool = False, kind: str = "images", classes: int | None = None) -> Auto:
    """The policy for a loop of ``epochs`` epochs over ``n`` examples, chosen from what was measured.

    It goes where any policy goes, into `PolicySampler` and `fit`. Its ``why`` says in one line what was chosen. Where
    nothing is known to beat all the data for fewer epochs it trains on all the data, and ``why`` says so: then it is
    the number of epochs that saves.

    Args:
        n: number of examples.
        epochs: epochs of the loop.
        noisy: whether many labels are wrong.
        kind: what the examples are, "images" or "texts".
        classes: how many of them, where that is known.

    Returns:
        A policy with the attribute ``why``.

    Raises:
        ArgumentError: numbers out of range, or an unknown kind.

    >>> policy = auto(10, epochs=1)  # no place on the map is near
    >>> expected_fraction(policy, 1), policy.why
    (1.0, 'all the data for 1 epochs: nothing was measured near n=10 images, 1 passes, clean labels')
    """
    check.number("epochs", epochs, 1, 2**31, integer=True)
    about: dict[str, Any] = {"noisy": noisy, "kind": kind, "classes": classes}
    found = advise(n, passes=epochs, **about)
    if found.policy is not None:  # a loop of so many epochs passes fewer examples: ask again about those
        found = advise(n, passes=epochs * expected_fraction(found.policy, epochs), **about)
    chosen = Auto(found.policy if found.policy is not None else RandomPruning(keep=1.0))
    object.__setattr__(chosen, "why", found.why)
    return chosen
