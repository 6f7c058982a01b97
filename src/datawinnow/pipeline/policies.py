"""Policies as people name them: a name, the fraction kept and options become a policy of `datawinnow.dynamic`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datawinnow.core.card import card_of, check_options, resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic import POLICIES

SHORT = {"random": "random_pruning", "rs2": "repeated_subset", "infobatch": "info_batch", "orderdp": "order_dp"}
"""Names that papers use, to those of the cards."""


def policy_of(name: str, *, epochs: int, keep: float | None = None, options: Mapping[str, Any] | None = None) -> Any:
    """A policy by name.

    Args:
        name: of `datawinnow.dynamic.POLICIES`, or as its paper calls it.
        epochs: epochs of the training, for policies that anneal at its end.
        keep: fraction kept of an epoch, for policies that take one.
        options: more of its options.

    Raises:
        ArgumentError: an unknown name or option, a ``keep`` that is missing or that the policy does not take.

    >>> policy_of("ucb", epochs=30, keep=0.5, options={"period": 5}).period
    5
    """
    given = dict(options or {})
    make = resolve(
        SHORT.get(name.lower(), name), {k: v for k, v in POLICIES.items() if k != "static_subset"}, kind="policy"
    )
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
    return make(**given)
