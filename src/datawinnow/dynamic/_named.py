"""Wrappers by name, and policies for a budget of passes: what files, the command line and the measured map share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.budget import expected_fraction
from datawinnow.dynamic.wrap import annealed, every, rescaled, warm_up
from datawinnow.dynamic.wrap_guarded import guarded
from datawinnow.dynamic.wrap_shrinking import shrinking


def for_passes(make: Callable[[int], Any], passes: float) -> Any:
    """A policy for a run of as many examples as ``passes`` epochs on all.

    How many epochs it makes of them, which is what policies that anneal are told, comes from the fraction that it is
    expected to train on.

    Args:
        make: gives the policy for a number of epochs.
        passes: the budget, above 0.
    """
    epochs = found = max(1, round(passes))
    for _ in range(20):  # the fraction depends a little on the length; it settles at once but for rounding
        found = max(1, round(passes / expected_fraction(make(epochs), epochs)))
        if abs(found - epochs) <= 1:
            break
        epochs = found
    return make(found)


def wrapped(policy: Any, text: str, epochs: int) -> Any:
    """``policy`` in the wrapper that ``text`` names.

    Raises:
        ArgumentError: there is no such wrapper, or it does not take what is given.

    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> wrapped(RandomPruning(keep=0.5), "every=2", 8).k
    2
    """
    name, _, value = text.partition("=")
    if name not in WRAPPERS:
        raise ArgumentError(f"no wrapper is called {name!r}. There are: {', '.join(WRAPPERS)}")
    try:
        return WRAPPERS[name](policy, value, epochs)
    except ValueError:
        raise ArgumentError(f"the wrapper {name!r} takes {TAKES[name]}, got {text!r}") from None


def _rescaled(policy: Any, value: str, epochs: int) -> Any:
    del epochs
    if value:
        raise ValueError(value)
    return rescaled(policy)


def _annealed(policy: Any, value: str, epochs: int) -> Any:
    how, _, share = value.partition(":")
    kinds: Any = how or "full"
    if kinds not in ("none", "full", "partial"):
        raise ValueError(value)
    return annealed(policy, epochs, float(share or 0.875), kinds)


def _guarded(policy: Any, value: str, epochs: int) -> Any:
    del epochs
    if value:
        raise ValueError(value)
    return guarded(policy)


def _shrinking(policy: Any, value: str, epochs: int) -> Any:
    end, _, start = value.partition(":")
    return shrinking(policy, epochs, end=float(end), start=float(start or 1.0))


WRAPPERS: dict[str, Callable[[Any, str, int], Any]] = {
    "warm_up": lambda policy, value, epochs: warm_up(policy, int(value)),
    "annealed": _annealed,
    "rescaled": _rescaled,
    "every": lambda policy, value, epochs: every(policy, int(value)),
    "shrinking": _shrinking,
    "guarded": _guarded,
}
"""By name: a policy, the text after ``=`` and the epochs of the run give the wrapped policy."""

TAKES = {
    "warm_up": "a number of epochs on everything, as warm_up=2",
    "annealed": "full, partial or none, and the share of the run before it, as annealed=full:0.875",
    "rescaled": "nothing",
    "every": "a number of epochs between plans, as every=5",
    "shrinking": "the keep at the end, and that at the start, as shrinking=0.5 or shrinking=0.5:0.9",
    "guarded": "nothing",
}
"""What to give each wrapper."""
