"""`guarded`: examples whose labels look wrong are kept from the policy, once there is evidence that some are."""

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
from datawinnow.dynamic._draw import in_random_order, some, where
from datawinnow.dynamic._noise import suspects
from datawinnow.dynamic._plan import reasons
from datawinnow.dynamic._state import count, given, replaced, size, unknown, vector, whole
from datawinnow.dynamic.example_swap import ExampleSwap
from datawinnow.dynamic.policy import Policy, State, Stream
from datawinnow.dynamic.replay import Replay
from datawinnow.dynamic.static_subset import StaticSubset
from datawinnow.dynamic.wrap import INNER, _inner, _outer, _Wrapped
from datawinnow.dynamic.wrap_recorded import Recorded
from datawinnow.dynamic.wrap_shrinking import Shrinking

FIXED = (StaticSubset, Replay, ExampleSwap)
"""Policies that know examples by their ids, or keep a set from epoch to epoch."""
LATEST = 2**15
"""Epochs are remembered modulo this, in two bytes."""
RECENT = 3
"""Epochs for which an observation counts as evidence."""
LATCH = 0.75
"""Of the separation, what is enough to go on suspecting: else some epochs on wrong labels come between."""


@dataclass(frozen=True)
class Guarded(_Wrapped):
    """The policy, choosing among the examples that are not suspected of a wrong label.

    What ranks by loss picks wrong labels first. A network learns right labels before wrong ones, so for a while the
    losses of the two lie apart. The guard keeps a running mean s of every example's losses, takes its log-odds
    z = -log(e^s - 1), in which the losses of one population are bell-shaped, and fits two normal distributions to the z
    of a sample (as others fit two beta or normal distributions to losses). Examples more likely of the worse are
    suspected, but only if the two are no accident of the sample, lie apart (Ashman's D of ``separation`` or more),
    and the worse is no tail of a few and sure that its labels are wrong (z below -1.5: a probability under 0.18). Of
    examples that are hard but right this is not so: see below.

    Decided at epochs ``first``, ``first + period``, ... from the losses before; once some are suspected, three
    quarters of the separation are enough to go on. Every example, suspected or not, is **looked at** once in ``look``
    epochs: trained on in place of one of the policy's plan, drawn (with a weight of one, and the policy's weights are
    then not quite unbiased). The sample is those looked at in the last three epochs, since examples that were chosen
    for their loss would be a group of their own; only what was observed in them is suspected anew. A suspected
    example has the loss of its last look, so that one suspected wrongly, learned without being trained on, comes back.

    The number stays: a plan has **as many ids as the policy would have chosen of all**, or all that are not suspected
    where those are fewer; a policy without ``keep`` goes by its own rule among them. Put this around every other
    wrapper but `recorded`: an ``annealed`` outside would train on the suspected again.

    Measured on recordings of ResNet-8 trained for 30 epochs on all of 10,000 CIFAR-10 images: with 20% wrong labels
    some are suspected from epoch 8 to 10 on, 36 to 76% of the wrong ones, and 82 to 96% of the suspected are wrong; on
    clean data nobody is, with D at most 1.5. Few wrong labels (5% or less) are seen late, or not at all.

    Args:
        policy: a policy, wrapped or not; not one of fixed examples (`StaticSubset`, `Replay`, `ExampleSwap`).
        first: epochs before the first decision, at least 1.
        period: epochs between decisions.
        separation: distance of the two means over the root mean square of their standard deviations from which on they
            count as two; 2 is where two equal bells begin to show two tops.
        most: largest fraction of the examples suspected; of more, those of highest loss.
        alpha: weight of the **new** loss in the running mean, in (0, 1].
        look: epochs in which every example comes up at least once, at least 2.

    Raises:
        ArgumentError: not a policy, one of fixed examples, an option out of range.

    References:
        Arazo et al. 2019, arXiv 1904.11238 (two beta distributions); Li et al. 2020, DivideMix, arXiv 2002.07394 (two
        normal ones); Ashman, Bird and Zepf 1994, arXiv astro-ph/9408030 (the separation).

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy = guarded(RandomPruning(keep=0.5), first=1)
    >>> loss = torch.cat([torch.linspace(0.1, 0.5, 3200), torch.linspace(3.0, 5.0, 800)])  # the last 800 look wrong
    >>> state = policy.observe(policy.init(4000), torch.arange(4000), loss=loss)
    >>> plan, state = policy.plan(1, state, lambda *path: stream(0, *path))
    >>> len(plan), int(state["suspect"].sum()), int((plan.index >= 3200).sum()) <= 400  # a tenth of all is looked at
    (2000, 800, True)
    """

    policy: Policy
    first: int = 5
    period: int = 5
    separation: float = 2.0
    most: float = 0.5
    alpha: float = 0.5
    look: int = 10

    def __post_init__(self) -> None:
        self._check()
        inner: Any = self.policy
        while hasattr(inner, "policy"):
            inner = inner.policy
        if isinstance(inner, FIXED) or isinstance(self.policy, Recorded):
            raise ArgumentError(
                f"guarded() needs a policy that can choose among any examples, got {self.policy!r:.200}: StaticSubset, "
                "Replay and ExampleSwap keep to theirs, and recorded() goes around guarded()"
            )
        check.number("first", self.first, 1, 2**31, integer=True)
        check.number("period", self.period, 1, 2**31, integer=True)
        check.number("separation", self.separation, 0, 1e9)
        check.number("most", self.most, 0, 1)
        check.number("alpha", self.alpha, 1e-9, 1)
        check.number("look", self.look, 2, 2**31, integer=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss, and what the policy needs."""
        return tuple(dict.fromkeys(("loss", *self.policy.needs)))

    @property
    def rescalable(self) -> bool:
        """Suspected examples have no chance that a weight could make up for."""
        return False

    def init(self, n: int) -> State:
        """The policy's state under a prefix; own ``mean`` (n,) float32, ``last`` (n,) int16, ``suspect`` (n,) bool."""
        own: State = {"n": count(n), "epoch": 0, "round": 0, "mean": unknown(n)}
        own |= {"last": torch.full((n,), -1, dtype=torch.int16), "suspect": torch.zeros(n, dtype=torch.bool)}
        return own | _outer(self.policy.init(n))

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Move the running means of the visited towards their ``loss``; and as the policy observes."""
        ids, x = given(whole(state, "n"), index, "loss", signals)
        old, last, now = vector(state, "mean")[ids], vector(state, "last")[ids], whole(state, "epoch") % LATEST
        passed = torch.where(vector(state, "suspect")[ids], LATEST, ((now - last.float()) % LATEST).clamp(min=1))
        kept = torch.where(old.isnan(), 0.0, (1 - self.alpha) ** passed)  # by epochs, not by visits
        mean = torch.where(kept > 0, kept * old, 0.0) + (1 - kept) * x
        state = replaced(state, ids, mean=mean, last=torch.full_like(last, now))
        return state | _outer(self.policy.observe(_inner(state), index, **signals)) if self.policy.needs else state

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """What the policy plans among those not suspected, with the looks that are due."""
        n = size(epoch, state)
        state = self._decided(epoch, state, stream) | {"epoch": epoch}
        suspect, held = vector(state, "suspect"), _inner(state)
        if bool(suspect.any()):
            plan, held = _among(self.policy, where(~suspect), epoch, held, stream)
        else:
            plan, held = self.policy.plan(epoch, held, stream)
        looks = self._looks(n, epoch, stream)
        if not bool(plan.mask(n)[looks].all()):
            plan = _with(plan, looks, n, stream("guarded", "order", epoch))
        return plan, state | _outer(held)

    def _decided(self, epoch: int, state: State, stream: Stream) -> State:
        """``state`` with who is suspected in ``epoch``; decisions that the policy holds end where that changes."""
        turn = max(0, (epoch - self.first) // self.period + 1)
        if whole(state, "round") == turn:
            return state
        n, before = whole(state, "n"), vector(state, "suspect")
        age = (epoch - 1 - vector(state, "last").int()) % LATEST
        mean = vector(state, "mean").masked_fill(~before & (age >= RECENT), torch.nan)
        sample = torch.cat([self._looks(n, e, stream) for e in range(max(0, epoch - RECENT), epoch)])
        apart = self.separation * (LATCH if bool(before.any()) else 1.0)
        suspect = suspects(mean, torch.unique(sample), apart, self.most)
        state = state | {"round": turn}
        if suspect.equal(before):
            return state
        ends = {k: -1 for k in state if k.startswith(INNER) and k.rpartition(".")[2] == "block"}
        return state | {"suspect": suspect} | ends

    def _looks(self, n: int, epoch: int, stream: Stream) -> Tensor:
        """Whose turn it is, whatever their loss: as many every epoch, by an order that lasts for ``look`` of them."""
        cycle, place = divmod(epoch, self.look)
        each = -(-n // self.look)
        order = in_random_order(torch.arange(n), stream("guarded", "look", cycle))
        return order[(torch.arange(each) + place * each) % n]


def _among(policy: Any, clear: Tensor, epoch: int, held: State, stream: Stream) -> tuple[Selection, State]:
    """What ``policy`` plans of the ids ``clear`` alone, as many as it would of all, and its state for all."""
    n, m = whole(held, "n"), clear.numel()
    before = {k: v[clear] if isinstance(v, Tensor) else _counted(k, v, m) for k, v in held.items()}
    plan, after = _choosing(policy, epoch, n, m).plan(epoch, before, stream)
    held = dict(held)
    for key, value in after.items():
        if not isinstance(value, Tensor):
            held[key] = _counted(key, value, n)
        elif value is not before[key]:
            held[key] = vector(held, key).index_copy(0, clear, value)
    inner = plan.reason if plan.reason is not None else reasons(m, Reason.BELOW_CUT, kept=plan.index)
    return Selection(clear[plan.index], plan.weight, reasons(n, Reason.SUSPECT).index_copy(0, clear, inner)), held


def _with(plan: Selection, looks: Tensor, n: int, draws: torch.Generator) -> Selection:
    """``plan`` with the ``looks`` that it lacks in place of as many others, drawn; looks alone where it is smaller."""
    turn = torch.zeros(n, dtype=torch.bool).index_fill(0, looks, True)
    looks = looks[: len(plan)]
    kept = some(plan.index[~turn[plan.index]], len(plan) - looks.numel(), draws)
    codes = reasons(n, Reason.BELOW_CUT, kept=plan.index) if plan.reason is None else plan.reason
    gone = plan.mask(n).index_fill(0, kept, False).index_fill(0, looks, False)
    new = turn & (codes >= 10)
    codes = codes.masked_fill(gone, int(Reason.NOT_DRAWN))
    codes[looks[new[looks]]] = int(Reason.DRAWN)
    weight = torch.ones(n).index_copy(0, plan.index, plan.weight)
    index = in_random_order(torch.cat([kept, looks]), draws)
    return Selection(index, weight[index], codes)


def _counted(key: str, value: Any, n: int) -> Any:
    """A number of a policy's state, for ``n`` examples."""
    return n if key.rpartition(".")[2] == "n" else value


def _choosing(policy: Any, epoch: int, n: int, m: int) -> Any:
    """``policy`` made to choose of ``m`` examples as many as it would of ``n``."""
    if isinstance(policy, Shrinking):
        return _choosing(policy._kept(policy.keep_at(epoch)), epoch, n, m)
    if hasattr(policy, "policy"):
        return dataclasses.replace(policy, policy=_choosing(policy.policy, epoch, n, m))
    if not hasattr(policy, "keep"):
        return policy
    keep = min(m, budget_of(policy.keep, n)) / m
    if hasattr(policy, "pool"):  # as many in the pool
        return dataclasses.replace(policy, keep=keep, pool=max(keep, min(1.0, policy.pool * n / m)))
    return dataclasses.replace(policy, keep=keep)


guarded = Guarded
"""The name to call: ``guarded(UCB(keep=0.7))``."""
