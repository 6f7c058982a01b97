"""Example swap of Tri-Level E-ViT: at intervals the least forgotten examples are swapped for others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import (
    is_kept,
    nonzero_ids,
    plan_from_reasons,
    reason_codes,
    sample_without_replacement,
    topk_random_ties,
)
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.state import (
    check_num_examples,
    get_int,
    get_tensor,
    num_examples,
    validate_signal,
    with_values,
)


@card(
    "policy",
    "Tri-Level example swap",
    "Kong et al. 2022, Peeling the Onion: Hierarchical Reduction of Data Redundancy for Efficient Vision Transformer "
    "Training, arXiv 2211.10801, example level",
    cost="time O(n) a plan, memory O(n): 5 bytes an example",
)
@dataclass(frozen=True)
class ExampleSwap:
    """A fixed number of examples, of which the least forgotten are swapped for left-out ones at intervals.

    Epoch 0 draws ``keep`` of the examples uniformly. At epochs period, 2 * period, ... up to ``swaps`` times: count
    for each kept example how often it went from right to wrong between visits of the last period (never right counts
    as the maximum, ``period``); the ``swap`` of all n with the smallest counts leave, as many drawn uniformly from
    those left out enter, and those that left cannot return in the same swap. Then counts restart at zero. Ties are
    broken at random; a kept example that was not visited in the period does not leave. There is one decision for all
    processes, from merged observations (in published code every process has another subset), and it is part of the
    state, so swaps continue after a resume (in published code they stop).

    Args:
        keep: fraction of the examples kept, in (0, 1].
        period: epochs between swaps.
        swap: fraction of **all** examples swapped at a time, in (0, 1); fewer where fewer are kept or left out.
        swaps: number of swaps.

    Returns:
        A policy; each plan has exactly ``budget_of(keep, n)`` ids, weights of one.

    Raises:
        ArgumentError: an option out of range.

    References:
        Kong et al. 2022, arXiv 2211.10801.

    >>> from datawinnow.core.rng import stream
    >>> policy = ExampleSwap(keep=0.5, period=1, swap=0.25)
    >>> at = lambda epoch, state: policy.plan(epoch, state, lambda *path: stream(0, *path))
    >>> before, state = at(0, policy.init(8))
    >>> state = policy.observe(state, before.index, correct=torch.tensor([1.0, 1.0, 0.0, 0.0]))
    >>> set(before.index.tolist()) - set(at(1, state)[0].index.tolist()) == set(before.index[:2].tolist())
    True
    """

    keep: float = 0.8
    period: int = 30
    swap: float = 0.05
    swaps: int = 5
    needs: ClassVar[tuple[str, ...]] = ("correct",)

    def __post_init__(self) -> None:
        budget_of(self.keep, 1)
        check.number("period", self.period, 1, 2**15 - 1, integer=True)  # counts are int16
        check.number("swap", self.swap, 1e-9, 1 - 1e-9)
        check.number("swaps", self.swaps, 0, 2**31, integer=True)

    def fraction(self, epoch: int) -> float:
        """``keep`` in every epoch."""
        return float(self.keep)

    def init(self, n: int) -> State:
        """Of the period: ``last`` (n,) int8, -1 if not visited; ``forgotten`` (n,) int16; ``learned`` (n,) bool."""
        return {"n": check_num_examples(n), "block": -1, "reason": torch.zeros(n, dtype=torch.int8), **_no_counts(n)}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Count examples that were right at the last visit and are wrong (``correct`` of 0) at this one."""
        ids, values = validate_signal(get_int(state, "n"), index, "correct", signals)
        right = values > 0.5
        if not bool((values == right).all()):
            raise ArgumentError(f"correct must hold only 0 and 1, got {float(values[values != right][0]):g}")
        # `last` is -1 for the first visit of a period, so no event spans two periods.
        forgets = (get_tensor(state, "last")[ids] == 1) & ~right
        return with_values(
            state,
            ids,
            last=right.to(torch.int8),
            forgotten=get_tensor(state, "forgotten")[ids] + forgets.to(torch.int16),
            learned=get_tensor(state, "learned")[ids] | right,
        )

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The current examples, after the swap that is due."""
        n, block = num_examples(epoch, state), epoch // self.period
        # The first plan, whatever its epoch: the set is part of the state from here on.
        if get_int(state, "block") < 0:
            kept = sample_without_replacement(torch.arange(n), budget_of(self.keep, n), stream("example_swap", "start"))
            state = state | {"block": block, "reason": reason_codes(n, Reason.NOT_DRAWN, drawn=kept)}
        # Once a period, and none after the last swap: a missed period is not made up for.
        elif get_int(state, "block") < block <= self.swaps:
            reason = self._swapped(n, state, stream("example_swap", "swap", block))
            state = state | {"block": block, "reason": reason, **_no_counts(n)}
        return plan_from_reasons(get_tensor(state, "reason"), stream("example_swap", "order", epoch)), state

    def _swapped(self, n: int, state: State, draws: torch.Generator) -> Tensor:
        reason = get_tensor(state, "reason").clone()
        inside, outside = nonzero_ids(is_kept(reason) & (get_tensor(state, "last") >= 0)), nonzero_ids(~is_kept(reason))
        number = min(budget_of(self.swap, n), inside.numel(), outside.numel())
        if number:
            # Never right in the period counts as forgotten in each of its epochs: hardest, so it stays.
            forgotten = torch.where(get_tensor(state, "learned"), get_tensor(state, "forgotten"), self.period)[inside]
            leave = inside[topk_random_ties(-forgotten, number, draws)]
            # `outside` was taken before, so that those that leave cannot be drawn back.
            reason[sample_without_replacement(outside, number, draws)] = int(Reason.DRAWN)
            reason[leave] = int(Reason.BELOW_CUT)
        return reason


def _no_counts(n: int) -> State:
    return {
        "last": torch.full((n,), -1, dtype=torch.int8),
        "forgotten": torch.zeros(n, dtype=torch.int16),
        "learned": torch.zeros(n, dtype=torch.bool),
    }
