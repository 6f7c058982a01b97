"""Replay: train on what another run trained on, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import SelectionHistory
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.state import check_num_examples, num_examples


@card(
    "policy",
    "replay of a recorded plan",
    "selection by a smaller network, Coleman et al. 2020, Selection via Proxy: Efficient Data Selection for Deep "
    "Learning, arXiv 1906.11829; epoch by epoch as in cifar10-airbench, `airbench96_faster.py`",
    cost="time O(n) a plan, memory O(epochs * keep * n): 4 bytes an id",
)
@dataclass(frozen=True)
class Replay:
    """The ids of a recorded run, in the recorded order with the recorded weights, whatever the network and the seed.

    A selection that was paid for once, often with a small network, then serves other seeds, other settings and larger
    networks: ``history.break_even(full)`` is the number of runs after which it has paid for itself. Nothing is observed
    and nothing drawn, so two runs with other seeds train in the same order on the same examples, and differ in their
    other random numbers.

    Args:
        history: with order, from ``recorded(policy).history()`` or ``SelectionHistory.load(path)``.
        after: past the last recorded epoch, ``"error"`` to stop, or ``"cycle"`` to start again with the first.
        fingerprint: of the dataset that is trained on; a history of another is refused. None skips this check.

    Returns:
        A policy; each plan has the ids and weights of an epoch of ``history``, in its order.

    Raises:
        ArgumentError: not a `SelectionHistory`, one without order, another dataset, an option out of range; (at
            ``init``) another number of examples; (when planning) an epoch past the recorded ones with
            ``after="error"``.

    References:
        Coleman et al. 2020, arXiv 1906.11829 (a proxy chooses for a larger network).

    >>> plans = [Selection.of(torch.tensor([2, 0]), 4), Selection.of(torch.tensor([3]), 4)]
    >>> policy = Replay(SelectionHistory.of(plans, 4), after="cycle")
    >>> [policy.plan(epoch, policy.init(4), lambda *path: None)[0].index.tolist() for epoch in range(3)]
    [[2, 0], [3], [2, 0]]
    """

    history: SelectionHistory
    after: Literal["error", "cycle"] = "error"
    fingerprint: str | None = None
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.history, SelectionHistory) or not self.history.is_ordered:
            raise ArgumentError(
                f"history must be a SelectionHistory with order, got {self.history!r:.200}; record one with "
                "recorded(policy).history(), or read it with SelectionHistory.load(path)"
            )
        check.one_of("after", self.after, ("error", "cycle"))
        fingerprints = (self.history.fingerprint, self.fingerprint)
        # Either side may have no fingerprint; then the number of examples is all that is checked.
        if None not in fingerprints and fingerprints[0] != fingerprints[1]:
            raise ArgumentError(
                f"the plan was made on the dataset with fingerprint {fingerprints[0]}, this one has {fingerprints[1]}: "
                "its ids mean other examples here, so load that dataset, as it was loaded then, or record a plan on "
                "this one"
            )

    def fraction(self, epoch: int) -> float:
        """Mean fraction of the examples that a recorded epoch trains on."""
        return self.history.mean_fraction

    def init(self, n: int) -> State:
        """No state beyond the number of examples."""
        if check_num_examples(n) != self.history.n:
            raise ArgumentError(
                f"the plan is of n={self.history.n} examples, but there are n={n}: record a plan on this dataset"
            )
        return {"n": n}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Nothing is observed."""
        return state

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The recorded epoch, unchanged."""
        num_examples(epoch, state)
        if epoch >= len(self.history) and self.after == "error":
            raise ArgumentError(
                f"the plan has {len(self.history)} epochs, so there is none for epoch {epoch}: train for "
                f'{len(self.history)}, record a longer run, or start again with Replay(history, after="cycle")'
            )
        return epoch_plan(self.history, epoch % len(self.history)), state


def epoch_plan(history: SelectionHistory, i: int) -> Selection:
    """The i-th epoch of a ``history`` with order, with a reason for every example."""
    ids, codes = torch.from_numpy(history.ids(i)), history.reason(i)
    reason = Selection.of(ids, history.n).reason if codes is None else torch.from_numpy(codes)
    return Selection(ids, torch.from_numpy(history.weights(i)), reason)
