"""Policies as people name them: a name, the fraction kept and options become a policy of `datawinnow.dynamic`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datawinnow.core.card import card_of, check_options, resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic import POLICIES as ALL
from datawinnow.dynamic._named import TAKES, WRAPPERS, for_passes, wrapped

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
    return for_passes(lambda epochs: policy_of(name, epochs=epochs, wrap=wrap, **how), passes)


def takes_keep(name: str) -> bool:
    """Whether the policy is made for a fraction kept; the others decide by themselves how many they train on."""
    own = card_of(_named(name))
    return "keep" in own.takes or "keep" in own.options


def name_of(name: str) -> str:
    """The policy's name for people."""
    return card_of(_named(name)).name


def _named(name: str) -> Any:
    return resolve(SHORT.get(name.lower(), name), POLICIES, kind="policy")


__all__ = ["POLICIES", "SHORT", "TAKES", "WRAPPERS", "name_of", "policy_for", "policy_of", "takes_keep", "wrapped"]
