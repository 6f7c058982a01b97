"""Policies as people name them: a name, the fraction kept and options become a policy of `datawinnow.dynamic`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datawinnow.core.card import card_of, check_options, resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic import POLICIES as ALL
from datawinnow.dynamic import annealed, every, guarded, rescaled, shrinking, warm_up
from datawinnow.dynamic._expected import expected_fraction

POLICIES = {key: policy for key, policy in ALL.items() if key not in ("static_subset", "replay")}
"""Those that a name, a number and options are enough for."""

SHORT = {"random": "random_pruning", "rs2": "repeated_subset", "infobatch": "info_batch", "orderdp": "order_dp"}
"""Names that papers use, to those of the cards."""


def policy_of(
    name: str,
    *,
    epochs: int,
    keep: float | None = None,
    options: Mapping[str, Any] | None = None,
    wrap: Sequence[str] = (),
) -> Any:
    """A policy by name.

    Args:
        name: of `datawinnow.dynamic.POLICIES`, or as its paper calls it.
        epochs: epochs of the training, for policies that anneal at its end.
        keep: fraction kept of an epoch, for policies that take one.
        options: more of its options.
        wrap: names of `WRAPPERS`, from the inside out, as ``"rescaled"``, ``"every=5"`` or ``"annealed=partial"``.

    Raises:
        ArgumentError: an unknown name, option or wrapper, a ``keep`` that is missing or that the policy does not take.

    >>> policy_of("ucb", epochs=30, keep=0.5, options={"period": 5}).period
    5
    """
    given = dict(options or {})
    make = _named(name)
    own = card_of(make)
    check_options(make, given)
    if "epochs" in own.takes:
        given["epochs"] = epochs
    if "keep" in own.takes:
        if keep is None:
            raise ArgumentError(f"the policy {own.key!r} needs the fraction kept of an epoch: give keep= (--keep 0.5)")
        given["keep"] = keep
    elif keep is not None and "keep" in own.options:
        given["keep"] = keep
    elif keep is not None:
        raise ArgumentError(
            f"the policy {own.key!r} decides by itself how many it trains on: leave keep= (--keep) out; its options "
            f"are: {', '.join(own.options)}"
        )
    policy = make(**given)
    for text in wrap:
        policy = wrapped(policy, text, epochs)
    return policy


def policy_for(name: str, *, passes: float, wrap: Sequence[str] = (), **how: Any) -> Any:
    """A policy by name, for a run of as many examples as ``passes`` epochs on all; arguments as of `policy_of`.

    How many epochs it makes of them, which is what policies that anneal are told, comes from the fraction that it is
    expected to train on.

    >>> policy_for("info_batch", passes=7).epochs
    10
    """
    epochs = max(1, round(passes))
    for _ in range(20):  # the fraction depends a little on the length; it settles at once but for rounding
        policy = policy_of(name, epochs=epochs, wrap=wrap, **how)
        found = max(1, round(passes / expected_fraction(policy, epochs)))
        if abs(found - epochs) <= 1:
            break
        epochs = found
    return policy_of(name, epochs=found, wrap=wrap, **how)


def wrapped(policy: Any, text: str, epochs: int) -> Any:
    """``policy`` in the wrapper that ``text`` names.

    Raises:
        ArgumentError: there is no such wrapper, or it does not take what is given.

    >>> wrapped(policy_of("rs2", epochs=8, keep=0.5), "every=2", 8).k
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


def takes_keep(name: str) -> bool:
    """Whether the policy is made for a fraction kept; the others decide by themselves how many they train on."""
    own = card_of(_named(name))
    return "keep" in own.takes or "keep" in own.options


def name_of(name: str) -> str:
    """The policy's name for people."""
    return card_of(_named(name)).name


def _named(name: str) -> Any:
    return resolve(SHORT.get(name.lower(), name), POLICIES, kind="policy")
