"""From the name of a policy to the policy: the one place for the command line, the bench, files and Python."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datawinnow.core.budget import parse_fraction, parse_percentages
from datawinnow.core.card import card_of, check_options, resolve, unknown_name
from datawinnow.core.changing_keep import ChangingKeep, constant_or_changing
from datawinnow.core.errors import ArgumentError
from datawinnow.core.policy_names import AUTO, REPLAY
from datawinnow.dynamic.budget import expected_fraction
from datawinnow.dynamic.registry import POLICIES
from datawinnow.dynamic.wrap import annealed, every, rescaled, warm_up, with_run_epochs
from datawinnow.dynamic.wrap_guarded import guarded
from datawinnow.dynamic.wrap_shrinking import shrinking

ALIASES = {"random": "random_pruning", "rs2": "repeated_subset", "infobatch": "info_batch", "orderdp": "order_dp"}
"""Names that papers use, and those of the cards."""


def build_policy(
    name: str,
    *,
    epochs: int | None = None,
    passes: float | None = None,
    keep: float | str | ChangingKeep | None = None,
    options: Mapping[str, Any] | None = None,
    wrap: Sequence[str] = (),
) -> Any:
    """A policy by name.

    Args:
        name: of `datawinnow.dynamic.POLICIES`, or as its paper calls it.
        epochs: length of the run, for policies and wrappers that depend on it.
        passes: instead, the length of the run in examples passed, in units of one epoch on all the data. The number of
            epochs follows from the fraction that the policy is expected to train on.
        keep: fraction kept of an epoch, for policies that take one: a number, or a `ChangingKeep` or its text, such as
            ``"0.3..1.0"``, for one that changes during the run.
        options: its other options. For ``replay`` also its ``history``, for ``static_subset`` its ``selection``.
        wrap: wrappers, from the inside out, as ``"rescaled"``, ``"every=5"`` or ``"annealed=partial"``.

    Raises:
        ArgumentError: an unknown name, option or wrapper, a ``keep`` that is missing or that the policy does not take,
            no length where one is needed, or two.

    >>> build_policy("ucb", keep=0.5, options={"period": 5}).period
    5
    >>> build_policy("info_batch", passes=7).epochs
    9
    """
    if epochs is not None and passes is not None:
        raise ArgumentError(f"give `epochs=` or `passes=`, not both; got {epochs} and {passes}")
    if passes is None:
        return _build(name, epochs, keep, dict(options or {}), wrap)
    return _of_length(passes, lambda epochs: _build(name, epochs, keep, dict(options or {}), wrap))


def _of_length(passes: float, make: Callable[[int], Any]) -> Any:
    """``make(epochs)`` with as many epochs as pass ``passes`` times all the examples."""
    # the fraction depends a little on the number of epochs, so iterate; it converges at once but for rounding
    epochs = following = max(1, round(passes))
    for _ in range(20):
        following = max(1, round(passes / expected_fraction(make(epochs), epochs)))
        # Rounding can make two lengths alternate forever, so a difference of one ends the iteration.
        if abs(following - epochs) <= 1:
            break
        epochs = following
    return make(following)


def with_passes(policy: Any, passes: float) -> Any:
    """``policy``, made for as many epochs as pass ``passes`` times all the examples.

    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> with_passes(annealed(RandomPruning(keep=0.5), epochs=3, share=0.5), 12).epochs
    16
    """
    return _of_length(passes, lambda epochs: with_run_epochs(policy, epochs))


DEFAULT_KEEP = 0.7
"""Fraction kept where a policy needs one and none is given: what beat all the data in the benchmarks of `auto`."""
EACH_EPOCH = {"ucb": {"period": 1}}
"""Options of policies whose published defaults are for long runs: here a plan for each epoch."""


def default_options(name: str, keep: float | str | None, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """``options`` of a policy by name with ``keep``, and what a run takes where nothing is given.

    `build_policy` alone takes the published defaults.

    >>> default_options("ucb", None, {})
    {'period': 1, 'keep': 0.7}
    >>> default_options("ucb", 0.5, {"period": 10})
    {'period': 10, 'keep': 0.5}
    """
    card = card_of(policy_by_name(name))
    values = {**EACH_EPOCH.get(card.key, {}), **parse_percentages(options or {})}
    if keep is not None:
        values["keep"] = constant_or_changing(keep)
    elif "keep" in card.takes and "keep" not in values:
        values["keep"] = DEFAULT_KEEP
    return values


def _build(
    name: str,
    epochs: int | None,
    keep: float | str | ChangingKeep | None,
    options: dict[str, Any],
    wrap: Sequence[str],
) -> Any:
    policy_class = policy_by_name(name)
    card = card_of(policy_class)
    check_options(policy_class, options)
    options = parse_percentages(options)
    schedule = options.pop("keep", None) if keep is None else keep
    if not isinstance(schedule, ChangingKeep):
        schedule = constant_or_changing(schedule)
        schedule = ChangingKeep.from_text(schedule) if isinstance(schedule, str) else schedule
    keep = schedule.start if isinstance(schedule, ChangingKeep) else schedule
    if keep is not None and "keep" not in card.takes and "keep" not in card.options:
        raise ArgumentError(
            f"the policy {card.key!r} sets the number of examples itself: leave `keep=` out; its options "
            f"are: {', '.join(card.options)}"
        )
    if keep is not None:
        options["keep"] = keep
    if "epochs" in card.takes and epochs is not None:
        options["epochs"] = epochs
    for missing in (field for field in card.takes if field not in options):
        hint = {
            "keep": "the fraction kept of an epoch: give `keep=0.5`",
            "epochs": "the length of the run: give `epochs=` or `passes=`",
        }.get(missing, f"{missing}: give options={{{missing!r}: ...}}")
        raise ArgumentError(f"the policy {card.key!r} needs {hint}")
    policy = policy_class(**options)
    if isinstance(schedule, ChangingKeep):
        if epochs is None:
            raise ArgumentError("a keep that changes needs the length of the run: give `epochs=` or `passes=`")
        start, end, shape, count = dataclasses.astuple(schedule)
        policy = shrinking(policy, epochs, end, start, shape, count)
    for text in wrap:
        policy = wrap_by_name(policy, text, epochs)
    return policy


def policy_of_run(
    name: str,
    epochs: float | None,
    passes: float | None = None,
    *,
    keep: float | str | None = None,
    options: Mapping[str, Any] | None = None,
    wrap: Sequence[str] = (),
) -> Any:
    """`build_policy` with `default_options`; ``epochs`` may be a fraction."""
    values = default_options(name, keep, options)
    keep = values.pop("keep", None)
    length = None if epochs is None else math.ceil(epochs)
    return build_policy(name, epochs=length, passes=passes, keep=keep, options=values, wrap=wrap)


def policies_by_name() -> dict[str, Any]:
    """Every policy that a name and plain values are enough for, by the key of its card."""
    return {key: policy for key, policy in POLICIES.items() if key not in ("static_subset", REPLAY)}


def policy_by_name(name: str) -> Any:
    """The class of a policy, by the key of its card or as its paper calls it.

    Raises:
        ArgumentError: an unknown name; the error lists all.
    """
    # `auto` is no class: `recommend` builds one of the others once the size of the data is known
    choices = {AUTO: _refuse_auto, **POLICIES}
    policy_class = resolve(ALIASES.get(name.lower(), name), choices, kind="policy")
    return _refuse_auto() if policy_class is _refuse_auto else policy_class


def _refuse_auto() -> Any:
    raise ArgumentError("auto chooses by the data: call datawinnow.dynamic.auto(n, epochs) or recommend(n, passes=...)")


def takes_keep(name: str) -> bool:
    """Whether the policy has a ``keep``; the others decide by themselves how many they train on."""
    card = card_of(policy_by_name(name))
    return "keep" in card.takes or "keep" in card.options


def wrap_by_name(policy: Any, text: str, epochs: int | None) -> Any:
    """``policy`` in the wrapper ``text``, as ``"every=5"``, of a run of ``epochs`` epochs.

    Raises:
        ArgumentError: an unknown wrapper, a value that it does not take, or no length where it needs one.

    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> wrap_by_name(RandomPruning(keep=0.5), "every=2", 8).k
    2
    """
    name, _, value = text.partition("=")
    if name not in WRAPPERS:
        raise unknown_name("wrapper", name, WRAPPERS)
    if epochs is None and name in ("annealed", "shrinking"):
        raise ArgumentError(f"the wrapper {name!r} needs the length of the run: give `epochs=` or `passes=`")
    try:
        return WRAPPERS[name](policy, value, epochs or 1)
    except ArgumentError as error:  # of the wrapper itself, such as a policy that it cannot wrap
        raise ArgumentError(f"the wrapper {text!r}: {error}") from None
    except ValueError:
        raise ArgumentError(f"the wrapper {name!r} takes {WRAPPER_VALUES[name]}, got {text!r}") from None


def _annealed(policy: Any, value: str, epochs: int) -> Any:
    text, _, share = value.partition(":")
    mode: Any = text or "full"
    if mode not in ("none", "full", "partial"):
        raise ValueError(value)
    return annealed(policy, epochs, parse_fraction(share or 0.875), mode)


def _shrinking(policy: Any, value: str, epochs: int) -> Any:
    end, _, start = value.partition(":")
    return shrinking(policy, epochs, end=parse_fraction(end), start=parse_fraction(start or 1.0))


def _without_value(wrapper: Callable[[Any], Any]) -> Callable[[Any, str, int], Any]:
    def apply(policy: Any, value: str, epochs: int) -> Any:
        if value:
            raise ValueError(value)
        return wrapper(policy)

    return apply


WRAPPERS: dict[str, Callable[[Any, str, int], Any]] = {
    "warm_up": lambda policy, value, epochs: warm_up(policy, int(value)),
    "annealed": _annealed,
    "rescaled": _without_value(rescaled),
    "every": lambda policy, value, epochs: every(policy, int(value)),
    "shrinking": _shrinking,
    "guarded": _without_value(guarded),
}
"""By name: a function of a policy, the text after ``=`` and the epochs of the run, which returns the wrapped policy."""

WRAPPER_VALUES = {
    "warm_up": "a number of epochs on all the data, as warm_up=2",
    "annealed": "full, partial or none, and the share of the run before it, as annealed=full:0.875",
    "rescaled": "nothing",
    "every": "a number of epochs between plans, as every=5",
    "shrinking": "the keep at the end, or at the end and the start, as shrinking=0.5 or shrinking=0.5:0.9",
    "guarded": "nothing",
}
"""The value of each wrapper, for people."""
