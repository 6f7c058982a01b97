"""Wrappers that change when and with which weights a policy applies: `warm_up`, `annealed`, `rescaled`, `every`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import inclusion_probability, plan_everything, plan_from_reasons, plan_uniform
from datawinnow.dynamic.policy import Policy, State, Stream, epoch_fraction, run_epochs_of
from datawinnow.dynamic.state import get_int, get_tensor, num_examples


class Wrapper:
    """Base of wrappers: everything but ``plan`` is that of the wrapped policy."""

    policy: Policy

    @property
    def needs(self) -> tuple[str, ...]:
        """The signals that the policy needs."""
        return self.policy.needs

    @property
    def rescalable(self) -> bool:
        """Whether the probability of every example can be read off the reasons of a plan."""
        return bool(getattr(self.policy, "rescalable", False))

    @property
    def run_epochs(self) -> int | None:
        """Length of the run that the policy was made for; None if it does not depend on it."""
        return run_epochs_of(self.policy)

    def with_policy(self, policy: Policy) -> Any:
        """This wrapper around another policy."""
        wrapper: Any = self
        return dataclasses.replace(wrapper, policy=policy)

    def fraction(self, epoch: int) -> float:
        """That of the policy."""
        return epoch_fraction(self.policy, epoch)

    def init(self, n: int) -> State:
        """The state of the policy."""
        return self.policy.init(n)

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """As the policy observes."""
        return self.policy.observe(state, index, **signals)

    def _check_policy(self) -> None:
        missing = [name for name in ("needs", "init", "observe", "plan") if not hasattr(self.policy, name)]
        if missing or isinstance(self.policy, type):
            raise ArgumentError(f"policy must be a policy such as UCB(keep=0.5), got {self.policy!r}")


def with_run_epochs(policy: Any, epochs: int) -> Any:
    """A policy, and those that it wraps, made for a run of ``epochs`` epochs; as it is where it does not depend on it.

    >>> from datawinnow.dynamic.info_batch import InfoBatch
    >>> with_run_epochs(warm_up(InfoBatch(epochs=10), epochs=2), 30)
    WarmUp(policy=InfoBatch(epochs=30, drop=0.5, delta=0.875, form='mean', signal='loss'), epochs=2)
    """
    if isinstance(policy, Wrapper):
        policy = policy.with_policy(with_run_epochs(policy.policy, epochs))
    # Of a wrapper that inherits `run_epochs`, such as warm_up, `epochs` is something else.
    length = getattr(type(policy), "run_epochs", Wrapper.run_epochs)
    if length is Wrapper.run_epochs or "epochs" not in getattr(policy, "__dataclass_fields__", {}):
        return policy
    return dataclasses.replace(policy, epochs=epochs)


@dataclass(frozen=True)
class WarmUp(Wrapper):
    """All the data for the first ``epochs`` epochs, which the policy observes; then the policy.

    Args:
        policy: any policy.
        epochs: number of epochs on everything, with weights of one.

    Raises:
        ArgumentError: not a policy, ``epochs`` negative or not whole.

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy = warm_up(RandomPruning(keep=0.5), epochs=1)
    >>> [len(policy.plan(epoch, {"n": 8}, lambda *path: stream(0, *path))[0]) for epoch in range(3)]
    [8, 4, 4]
    """

    policy: Policy
    epochs: int

    def __post_init__(self) -> None:
        self._check_policy()
        check.number("epochs", self.epochs, 0, 2**31, integer=True)

    def fraction(self, epoch: int) -> float:
        """Everything during warm-up, then that of the policy."""
        return 1.0 if epoch < self.epochs else epoch_fraction(self.policy, epoch)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """Everything, or what the policy plans."""
        n = num_examples(epoch, state)
        if epoch < self.epochs:
            return plan_everything(n, stream("warm_up", epoch)), state
        return self.policy.plan(epoch, state, stream)


@dataclass(frozen=True)
class Annealed(Wrapper):
    """The policy until a fraction of the run is over, then no more selection.

    From epoch ``share * epochs`` on, fractional or not: ``"full"`` trains on everything with weights of one (as
    InfoBatch does), ``"partial"`` on a uniform draw of as many as the policy would have chosen, weights of one (as
    SeTa does), ``"none"`` continues with the policy, so that the runs of a comparison differ in one word.

    Args:
        policy: any policy.
        epochs: length of the run.
        share: fraction of the run during which the policy selects, in [0, 1].
        mode: ``"full"``, ``"partial"`` or ``"none"``.

    Raises:
        ArgumentError: not a policy, an option out of range.

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy = annealed(RandomPruning(keep=0.5), epochs=3, share=0.5)
    >>> [len(policy.plan(epoch, {"n": 8}, lambda *path: stream(0, *path))[0]) for epoch in range(3)]
    [4, 4, 8]
    """

    policy: Policy
    epochs: int
    share: float = 0.875
    mode: Literal["none", "full", "partial"] = "full"

    def __post_init__(self) -> None:
        self._check_policy()
        check.number("epochs", self.epochs, 1, 2**31, integer=True)
        check.number("share", self.share, 0, 1)
        check.one_of("mode", self.mode, ("none", "full", "partial"))

    @property
    def run_epochs(self) -> int:
        """Length of the run."""
        return self.epochs

    def fraction(self, epoch: int) -> float:
        """That of the policy, and everything once it is annealed in full."""
        annealed_in_full = self.mode == "full" and epoch >= self.share * self.epochs - 1e-9
        return 1.0 if annealed_in_full else epoch_fraction(self.policy, epoch)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The plan of the policy, all examples, or a uniform draw."""
        n = num_examples(epoch, state)
        # The boundary may be fractional; the tolerance meets one that is whole on paper, such as 0.7 * 10.
        if self.mode == "none" or epoch < self.share * self.epochs - 1e-9:
            return self.policy.plan(epoch, state, stream)
        if self.mode == "full":
            return plan_everything(n, stream("annealed", epoch)), state
        plan, state = self.policy.plan(epoch, state, stream)
        # Only the size of the policy's plan is used; its state goes on, so that its decisions stay in step.
        return plan_uniform(n, len(plan), stream("annealed", epoch)), state


@dataclass(frozen=True)
class Rescaled(Wrapper):
    """Weights of one over the probability with which each example was chosen, conditional on the observations before.

    Then the expected sum of weighted losses is the sum of the losses of **all** examples (Horvitz and Thompson), so
    gradients summed over an epoch are unbiased. Averaged over a batch they are n / m as long: with uniform pruning
    this is exactly a learning rate multiplied by 1 / keep, while each epoch has keep times as many steps. Defined for
    `RandomPruning`, `RepeatedSubset` (of one epoch, not of several together: chunks of a pass depend on each other)
    and `EpsilonGreedy`, where those kept for their rank weigh one and each drawn one stands for all that were not
    drawn. A policy that drops some examples for certain (`UCB`, `OrderDP`, `SeTa`, `ExampleSwap`, `StaticSubset`)
    has no such weights, and `InfoBatch` brings its own: an error says so.

    Args:
        policy: a policy that gives every example a known chance, or a wrapped one.

    Raises:
        ArgumentError: a policy without known chances, or (when planning) an example dropped that had none.

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> rescaled(RandomPruning(keep=0.5)).plan(0, {"n": 4}, lambda *path: stream(0, *path))[0].weight.tolist()
    [2.0, 2.0]
    """

    policy: Policy

    def __post_init__(self) -> None:
        self._check_policy()
        if not getattr(self.policy, "rescalable", False):
            raise ArgumentError(
                f"rescaled() needs a policy that gives every example a known chance (RandomPruning, RepeatedSubset, "
                f"EpsilonGreedy), got {type(self.policy).__name__}, which drops some for certain or has weights already"
            )

    @property
    def rescalable(self) -> bool:
        """False: weights are not rescaled twice."""
        return False

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The plan of the policy, reweighted."""
        plan, state = self.policy.plan(epoch, state, stream)
        # Horvitz and Thompson: a draw with probability pi stands for 1 / pi examples.
        return Selection(plan.index, plan.weight / inclusion_probability(plan), plan.reason), state


INNER = "policy."
"""Prefix of the wrapped policy's names in the state of a wrapper that has a state itself."""


@dataclass(frozen=True)
class Every(Wrapper):
    """A new plan every ``k`` epochs; between, the same examples and weights in a new order.

    The policy plans the first epoch of each block of ``k`` (so with `InfoBatch` the first block has everything) and
    observes all epochs. Put ``annealed`` around ``every``, not inside, for a boundary that is met exactly.

    Args:
        policy: any policy.
        k: epochs between plans, at least 1.

    Raises:
        ArgumentError: not a policy, ``k`` below 1 or not whole.

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy, sets = every(RandomPruning(keep=0.5), 2), []
    >>> state = policy.init(100)
    >>> for epoch in range(3):
    ...     plan, state = policy.plan(epoch, state, lambda *path: stream(0, *path))
    ...     sets.append(sorted(plan.index.tolist()))
    >>> sets[0] == sets[1], sets[1] == sets[2]
    (True, False)
    """

    policy: Policy
    k: int

    def __post_init__(self) -> None:
        self._check_policy()
        check.number("k", self.k, 1, 2**31, integer=True)

    def fraction(self, epoch: int) -> float:
        """That of the policy in the first epoch of the block."""
        # The first epoch of the block decides: with first="all" the whole first block trains on everything.
        return epoch_fraction(self.policy, epoch // self.k * self.k)

    def init(self, n: int) -> State:
        """The policy's state under a prefix, and the plan in force: ``reason`` (n,) int8, ``weight`` (n,) float32."""
        state: State = {"n": n, "block": -1, "reason": torch.zeros(n, dtype=torch.int8), "weight": torch.ones(n)}
        return state | outer_state(self.policy.init(n))

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """As the policy observes."""
        return state | outer_state(self.policy.observe(inner_state(state), index, **signals))

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The plan of the block in the order of the epoch."""
        n, block = num_examples(epoch, state), epoch // self.k
        # != and not <: after a jump to a later epoch the block is planned once, with the observations so far.
        if get_int(state, "block") != block:
            plan, inner = self.policy.plan(epoch, inner_state(state), stream)
            # By id, since the order of the plan changes from epoch to epoch.
            weight = torch.ones(n).index_copy(0, plan.index, plan.weight)
            reason = plan.reason if plan.reason is not None else _reasons_of(n, plan)
            state = state | outer_state(inner) | {"block": block, "reason": reason, "weight": weight}
        order = stream("every", epoch)
        return plan_from_reasons(get_tensor(state, "reason"), order, get_tensor(state, "weight")), state


def inner_state(state: State) -> State:
    """The wrapped policy's part of a wrapper's ``state``."""
    return {k.removeprefix(INNER): v for k, v in state.items() if k.startswith(INNER)}


def outer_state(state: State) -> State:
    """The wrapped policy's ``state`` as part of a wrapper's."""
    return {INNER + k: v for k, v in state.items()}


def _reasons_of(n: int, plan: Selection) -> Tensor:
    codes = Selection.of(plan.index, n).reason
    assert codes is not None, "of() gives reasons"
    return codes


warm_up, annealed, rescaled, every = WarmUp, Annealed, Rescaled, Every
"""The names to call: ``annealed(rescaled(RandomPruning(keep=0.7)), epochs=200)``."""
