"""`recorded`: any policy, with what it planned kept for `PlanLog`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.dynamic._state import whole
from datawinnow.dynamic.plan_log import PlanLog
from datawinnow.dynamic.policy import Policy, State, Stream
from datawinnow.dynamic.wrap import _Wrapped


@dataclass(frozen=True)
class Recorded(_Wrapped):
    """The policy as it is, with a copy of the plan of every epoch kept beside it.

    Plans, state and saved samplers are those of the policy; what is kept is no part of them. Use one for one run, in
    `fit`, a `PolicySampler` or a framework, and ask for `log` after it. Put it around all other wrappers. A run that
    resumes with a new object has only the epochs since: `log` then says which are missing.

    Args:
        policy: any policy.

    Raises:
        ArgumentError: not a policy.

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy = recorded(RandomPruning(keep=0.5))
    >>> plans = [policy.plan(epoch, {"n": 8}, lambda *path: stream(0, *path))[0] for epoch in range(3)]
    >>> log = policy.log()
    >>> len(log), log.plan(2).index.equal(plans[2].index), log.made_by
    (3, True, 'RandomPruning(keep=0.5)')
    """

    policy: Policy

    def __post_init__(self) -> None:
        self._check()
        # not a field: what a saved sampler says of its policy must not change as it plans
        object.__setattr__(self, "_plans", {})

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """What the policy plans; an epoch planned again is kept again, and epoch 0 begins anew."""
        plan, planned = self.policy.plan(epoch, state, stream)
        kept: dict[int, tuple[Selection, int]] = self.__dict__["_plans"]
        if epoch == 0:
            kept.clear()
        kept[epoch] = (Selection(plan.index, plan.weight), whole(state, "n"))  # without its reasons: n bytes an epoch
        return plan, planned

    def log(self, **about: Any) -> PlanLog:
        """What was planned so far.

        Args:
            about: ``fingerprint`` of the dataset, ``cost`` and ``made_by``, as `PlanLog` has them; by default the cost
                is the examples of these plans, and who made them the policy as it prints.

        Raises:
            RunError: nothing was planned, or an epoch before the last is missing.
        """
        kept: dict[int, tuple[Selection, int]] = self.__dict__["_plans"]
        missing = sorted(set(range(max(kept, default=0) + 1)) - set(kept))
        if missing:
            raise RunError(
                f"the plans of epochs {missing[:5]} were not made by this object, so there is no whole log of the run: "
                "record a run that begins at epoch 0 with recorded(policy) and is not resumed by another object"
            )
        plans = [kept[epoch][0] for epoch in sorted(kept)]
        return PlanLog.of(plans, kept[0][1], **{"made_by": repr(self.policy)[:1000], **about})


recorded = Recorded
"""The name to call: ``fit(network, data, policy=(kept := recorded(UCB(keep=0.7))))``, then ``kept.log()``."""
