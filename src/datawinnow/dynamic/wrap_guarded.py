"""`guarded`: a policy chooses among the examples that are not suspected of a wrong label."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.example_swap import ExampleSwap
from datawinnow.dynamic.noise import suspected_of_wrong_label
from datawinnow.dynamic.plan import (
    in_random_order,
    is_kept,
    nonzero_ids,
    reason_codes,
    revisited_ids,
    sample_without_replacement,
)
from datawinnow.dynamic.policy import Policy, State, Stream
from datawinnow.dynamic.replay import Replay
from datawinnow.dynamic.state import (
    check_num_examples,
    get_int,
    get_tensor,
    num_examples,
    unobserved,
    validate_signal,
    with_values,
)
from datawinnow.dynamic.static_subset import StaticSubset
from datawinnow.dynamic.wrap import INNER, Wrapper, inner_state, outer_state
from datawinnow.dynamic.wrap_recorded import Recorded
from datawinnow.dynamic.wrap_shrinking import KeepByEpoch

FIXED_EXAMPLES = (StaticSubset, Replay, ExampleSwap)
"""Policies with fixed ids, or with a set that they keep from epoch to epoch."""
EPOCH_MODULUS = 2**15
"""Epochs are stored modulo this, in two bytes."""
EVIDENCE_EPOCHS = 3
"""Epochs for which an observation counts as evidence."""
SEPARATION_TO_CONTINUE = 0.75
"""Share of ``separation`` that is enough once some are suspected: otherwise epochs on wrong labels come between."""


@dataclass(frozen=True)
class Guarded(Wrapper):
    """The policy, choosing among the examples that are not suspected of a wrong label.

    A policy that ranks by loss picks wrong labels first. A network learns right labels before wrong ones, so for a
    while the losses of the two groups are separated. The wrapper keeps a running mean s of every example's losses,
    takes its log-odds z = -log(e^s - 1), in which the losses of one population are bell-shaped, and fits two normal
    distributions to the z of a sample (others fit two beta or normal distributions to the losses). Examples that are
    more likely under the worse one are suspected, but only if two distributions fit significantly better than one, are
    separated (Ashman's D of ``separation`` or more), and the worse one holds a fair share of the sample and has
    confidently wrong labels (z below -1.5: a probability under 0.18). Examples that are hard but right do not satisfy
    this: see below.

    Decisions are made at epochs ``first``, ``first + period``, ... from the losses before; once some are suspected,
    three quarters of the separation are enough. Every example, suspected or not, is **revisited** once in ``look``
    epochs: trained on in place of a drawn one of the policy's plan (with a weight of one, and the policy's weights are
    then not quite unbiased). The sample is those revisited in the last three epochs, since examples that were chosen
    for their loss would form a group by themselves; only what was observed in these epochs can become suspected. The
    loss of a suspected example is that of its last visit, so that one suspected wrongly, and learned without being
    trained on, comes back.

    The size of a plan does not change: it has **as many ids as the policy would have chosen of all**, or all that are
    not suspected where those are fewer; a policy without ``keep`` applies its rule among them. Put this around every
    other wrapper but `recorded`: an ``annealed`` outside would train on the suspected again.

    Measured on recordings of ResNet-8 trained for 30 epochs on all of 10,000 CIFAR-10 images: with 20% wrong labels
    some are suspected from epoch 8 to 10 on, 36 to 76% of the wrong ones, and 82 to 96% of the suspected are wrong; on
    clean data none is, with D at most 1.5. Few wrong labels (5% or less) are detected late, or not at all.

    Args:
        policy: a policy, wrapped or not; not one with fixed examples (`StaticSubset`, `Replay`, `ExampleSwap`).
        first: epochs before the first decision, at least 1.
        period: epochs between decisions.
        separation: smallest distance of the two means over the root mean square of their standard deviations; at 2 the
            sum of two equal normal densities begins to have two maxima.
        max_fraction: largest fraction of the examples suspected; of more, those of highest loss.
        alpha: weight of the **new** loss in the running mean, in (0, 1].
        look: epochs in which every example is visited at least once, at least 2.

    Raises:
        ArgumentError: not a policy, one with fixed examples, an option out of range.

    References:
        Arazo et al. 2019, arXiv 1904.11238 (two beta distributions); Li et al. 2020, DivideMix, arXiv 2002.07394 (two
        normal ones); Ashman, Bird and Zepf 1994, arXiv astro-ph/9408030 (the separation).

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy = guarded(RandomPruning(keep=0.5), first=1)
    >>> loss = torch.cat([torch.linspace(0.1, 0.5, 3200), torch.linspace(3.0, 5.0, 800)])  # the last 800 look wrong
    >>> state = policy.observe(policy.init(4000), torch.arange(4000), loss=loss)
    >>> plan, state = policy.plan(1, state, lambda *path: stream(0, *path))
    >>> len(plan), int(state["suspect"].sum()), int((plan.index >= 3200).sum()) <= 400  # a tenth of all is revisited
    (2000, 800, True)
    """

    policy: Policy
    first: int = 5
    period: int = 5
    separation: float = 2.0
    max_fraction: float = 0.5
    alpha: float = 0.5
    look: int = 10

    def __post_init__(self) -> None:
        self._check_policy()
        inner: Any = self.policy
        while hasattr(inner, "policy"):
            inner = inner.policy
        if isinstance(inner, FIXED_EXAMPLES) or isinstance(self.policy, Recorded):
            raise ArgumentError(
                f"guarded() needs a policy that can choose among any examples, got {self.policy!r:.200}: StaticSubset, "
                "Replay and ExampleSwap have fixed ones, and recorded() goes around guarded()"
            )
        check.number("first", self.first, 1, 2**31, integer=True)
        check.number("period", self.period, 1, 2**31, integer=True)
        check.number("separation", self.separation, 0, 1e9)
        check.number("max_fraction", self.max_fraction, 0, 1)
        check.number("alpha", self.alpha, 1e-9, 1)
        check.number("look", self.look, 2, 2**31, integer=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss, and what the policy needs."""
        return tuple(dict.fromkeys(("loss", *self.policy.needs)))

    @property
    def rescalable(self) -> bool:
        """False: suspected examples have no chance of being chosen that a weight could make up for."""
        return False

    def init(self, n: int) -> State:
        """The policy's state under a prefix; ``mean`` (n,) float32, ``last`` (n,) int16, ``suspect`` (n,) bool."""
        state: State = {"n": check_num_examples(n), "epoch": 0, "round": 0, "mean": unobserved(n)}
        state |= {"last": torch.full((n,), -1, dtype=torch.int16), "suspect": torch.zeros(n, dtype=torch.bool)}
        return state | outer_state(self.policy.init(n))

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Move the running means of the visited towards their ``loss``; and as the policy observes."""
        ids, x = validate_signal(get_int(state, "n"), index, "loss", signals)
        old, last, now = (
            get_tensor(state, "mean")[ids],
            get_tensor(state, "last")[ids],
            get_int(state, "epoch") % EPOCH_MODULUS,
        )
        # epochs since the last visit; a suspected example keeps nothing of the mean from before
        # last = -1 for never visited; then the mean is NaN too and nothing of it is kept.
        elapsed = ((now - last.float()) % EPOCH_MODULUS).clamp(min=1)
        # (1 - alpha)^32768 is 0 in float32.
        elapsed = torch.where(get_tensor(state, "suspect")[ids], EPOCH_MODULUS, elapsed)
        kept = torch.where(old.isnan(), 0.0, (1 - self.alpha) ** elapsed)  # decays by epochs, not by visits
        # where() first: 0 * NaN would be NaN.
        mean = torch.where(kept > 0, kept * old, 0.0) + (1 - kept) * x
        state = with_values(state, ids, mean=mean, last=torch.full_like(last, now))
        if not self.policy.needs:
            return state
        return state | outer_state(self.policy.observe(inner_state(state), index, **signals))

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The plan of the policy among those not suspected, with the examples due for a revisit."""
        n = num_examples(epoch, state)
        state = self._with_decision(epoch, state, stream) | {"epoch": epoch}
        suspect, inner = get_tensor(state, "suspect"), inner_state(state)
        # Without suspects the policy runs unchanged, on its own state: wrapping it then costs nothing but the revisits.
        if bool(suspect.any()):
            plan, inner = _plan_among(self.policy, nonzero_ids(~suspect), epoch, inner, stream)
        else:
            plan, inner = self.policy.plan(epoch, inner, stream)
        revisited = self.revisited(n, epoch, stream)
        if not bool(plan.mask(n)[revisited].all()):
            plan = _with_revisited(plan, revisited, n, stream("guarded", "order", epoch))
        return plan, state | outer_state(inner)

    def _with_decision(self, epoch: int, state: State, stream: Stream) -> State:
        """``state`` with the suspected examples of ``epoch``; where they change, the policy makes a new decision."""
        # 0 before `first`, then counted up by one a period: a second plan of the same epoch decides nothing new.
        turn = max(0, (epoch - self.first) // self.period + 1)
        if get_int(state, "round") == turn:
            return state
        n, before = get_int(state, "n"), get_tensor(state, "suspect")
        # Epochs since the last visit: 0 for the epoch just over. int(), since int16 would overflow.
        age = (epoch - 1 - get_tensor(state, "last").int()) % EPOCH_MODULUS
        # Old evidence is no evidence; the suspected keep theirs, since they are only seen when revisited.
        mean = get_tensor(state, "mean").masked_fill(~before & (age >= EVIDENCE_EPOCHS), torch.nan)
        # Drawn again from the seed rather than stored: the same ids as were revisited in those epochs.
        sample = torch.cat([self.revisited(n, e, stream) for e in range(max(0, epoch - EVIDENCE_EPOCHS), epoch)])
        separation = self.separation * (SEPARATION_TO_CONTINUE if bool(before.any()) else 1.0)
        suspect = suspected_of_wrong_label(mean, torch.unique(sample), separation, self.max_fraction)
        state = state | {"round": turn}
        if suspect.equal(before):
            return state
        # a new period for policies that decide once per period
        # "block" of any depth of wrappers: their state is nested by the prefix.
        undecided = {k: -1 for k in state if k.startswith(INNER) and k.rpartition(".")[2] == "block"}
        return state | {"suspect": suspect} | undecided

    def revisited(self, n: int, epoch: int, stream: Stream) -> Tensor:
        """Ids whose turn it is, whatever their loss: equally many every epoch; the order is drawn every ``look``."""
        return revisited_ids(n, epoch, self.look, lambda cycle: stream("guarded", "look", cycle))


def _plan_among(policy: Any, candidates: Tensor, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
    """The plan of ``policy`` among the ids ``candidates``, as large as among all, and its state for all examples."""
    n, m = get_int(state, "n"), candidates.numel()
    # (n,) -> (m,): the policy sees a dataset of m examples and needs no knowledge of the guard.
    before = {k: v[candidates] if isinstance(v, Tensor) else _with_count(k, v, m) for k, v in state.items()}
    plan, after = _with_budget_of(policy, epoch, n, m).plan(epoch, before, stream)
    state = dict(state)
    for key, value in after.items():
        if not isinstance(value, Tensor):
            state[key] = _with_count(key, value, n)
        # A tensor that the policy did not replace stays unchanged, without a copy of (n,).
        elif value is not before[key]:
            state[key] = get_tensor(state, key).index_copy(0, candidates, value)
    inner = plan.reason if plan.reason is not None else reason_codes(m, Reason.BELOW_CUT, kept=plan.index)
    reason = reason_codes(n, Reason.SUSPECT).index_copy(0, candidates, inner)
    return Selection(candidates[plan.index], plan.weight, reason), state


def _with_revisited(plan: Selection, revisited: Tensor, n: int, draws: torch.Generator) -> Selection:
    """``plan`` with the ids ``revisited`` in place of as many others, drawn; these alone where the plan is smaller."""
    # Of all that are due, before they are truncated: a due example in the plan is not counted among the drawn.
    due = torch.zeros(n, dtype=torch.bool).index_fill(0, revisited, True)
    revisited = revisited[: len(plan)]
    kept = sample_without_replacement(plan.index[~due[plan.index]], len(plan) - revisited.numel(), draws)
    codes = reason_codes(n, Reason.BELOW_CUT, kept=plan.index) if plan.reason is None else plan.reason
    removed = plan.mask(n).index_fill(0, kept, False).index_fill(0, revisited, False)
    added = due & ~is_kept(codes)
    codes = codes.masked_fill(removed, int(Reason.NOT_DRAWN))
    codes[revisited[added[revisited]]] = int(Reason.DRAWN)
    weight = torch.ones(n).index_copy(0, plan.index, plan.weight)
    index = in_random_order(torch.cat([kept, revisited]), draws)
    return Selection(index, weight[index], codes)


def _with_count(key: str, value: Any, n: int) -> Any:
    """A number of a policy's state; the number of examples is replaced by ``n``."""
    return n if key.rpartition(".")[2] == "n" else value


def _with_budget_of(policy: Any, epoch: int, n: int, m: int) -> Any:
    """``policy`` with options by which it chooses of ``m`` examples as many as it would of ``n``."""
    if isinstance(policy, KeepByEpoch):
        return _with_budget_of(policy.with_keep(policy.keep_at(epoch)), epoch, n, m)
    if hasattr(policy, "policy"):
        return dataclasses.replace(policy, policy=_with_budget_of(policy.policy, epoch, n, m))
    if not hasattr(policy, "keep"):
        return policy
    # `budget_of(keep, m)` gives the number for n back, rounded.
    keep = min(m, budget_of(policy.keep, n)) / m
    if hasattr(policy, "pool"):  # a pool of the same size
        return dataclasses.replace(policy, keep=keep, pool=max(keep, min(1.0, policy.pool * n / m)))
    return dataclasses.replace(policy, keep=keep)


guarded = Guarded
"""The name to call: ``guarded(UCB(keep=0.7))``."""
