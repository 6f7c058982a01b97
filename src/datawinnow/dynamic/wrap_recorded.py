"""`recorded`: any policy, with what it planned kept for `PlanLog`."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any

from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.dynamic._state import get_int
from datawinnow.dynamic.plan_log import PlanLog
from datawinnow.dynamic.policy import Policy, State, Stream
from datawinnow.dynamic.wrap import Wrapper


@dataclass(frozen=True)
class Recorded(Wrapper):
    """The policy as it is, with a copy of the plan of every epoch kept beside it.

    Plans, state and saved samplers are those of the policy; what is kept is no part of them. Use one for one run, in
    `fit`, a `PolicySampler` or a framework, and ask for `log` after it. Put it around all other wrappers. A run that
    resumes with a new object has only the epochs since, and `log` then says which are missing; with a ``folder``, kept
    beside the checkpoint, it goes on with the plans before them.

    Args:
        policy: any policy.
        folder: where the plan of each epoch is kept, a file an epoch, rather than in memory: a folder of this run's
            own, which is made where there is none. None for memory.

    Raises:
        ArgumentError: not a policy.
        RunError: (when planning) the disk is full.

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy = recorded(RandomPruning(keep=0.5))
    >>> plans = [policy.plan(epoch, {"n": 8}, lambda *path: stream(0, *path))[0] for epoch in range(3)]
    >>> log = policy.log()
    >>> len(log), log.plan(2).index.equal(plans[2].index), log.made_by
    (3, True, 'RandomPruning(keep=0.5)')
    """

    policy: Policy
    folder: InitVar[Path | str | None] = None

    def __post_init__(self, folder: Path | str | None) -> None:
        self._check_policy()
        # not fields: what a saved sampler says of its policy must not change as it plans, nor with where it is kept
        object.__setattr__(self, "_plans", {})
        object.__setattr__(self, "_folder", None if folder is None else Path(folder))
        object.__setattr__(self, "_last", -1)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """What the policy plans; an epoch planned again is kept again, and epoch 0 begins anew."""
        plan, planned = self.policy.plan(epoch, state, stream)
        kept, folder = self.__dict__["_plans"], self.__dict__["_folder"]
        if epoch == 0:
            kept.clear()
        bare = Selection(plan.index, plan.weight)  # without its reasons: n bytes an epoch
        if folder is None:
            kept[epoch] = (bare, get_int(state, "n"))
        else:  # a resume plans epoch 0 again, so that this is no sign to remove the files of later epochs
            PlanLog.of([bare], get_int(state, "n")).save(_file(folder, epoch))
        object.__setattr__(self, "_last", epoch)
        return plan, planned

    def log(self, **about: Any) -> PlanLog:
        """What was planned so far.

        Args:
            about: ``fingerprint`` of the dataset, ``cost`` and ``made_by``, as `PlanLog` has them; by default the cost
                is the examples of these plans, and who made them the policy as it prints.

        Raises:
            RunError: nothing was planned, an epoch before the last is missing, or a file of the ``folder`` is damaged.
        """
        kept: dict[int, tuple[Selection, int]] = self._read()
        missing = sorted(set(range(max(kept, default=0) + 1)) - set(kept))
        if missing:
            raise RunError(
                f"the plans of epochs {missing[:5]} were not made by this object, so there is no whole log of the run: "
                "record a run that begins at epoch 0, and give recorded(policy, folder=...) where it may be resumed"
            )
        plans = [kept[epoch][0] for epoch in sorted(kept)]
        return PlanLog.of(plans, kept[0][1], **{"made_by": repr(self.policy)[:1000], **about})

    def _read(self) -> dict[int, tuple[Selection, int]]:
        folder: Path | None = self.__dict__["_folder"]
        if folder is None:
            return self.__dict__["_plans"]  # type: ignore[no-any-return]
        files = {epoch: _file(folder, epoch) for epoch in range(self.__dict__["_last"] + 1)}
        logs = {epoch: PlanLog.load(file) for epoch, file in files.items() if file.exists()}
        return {epoch: (log.plan(0), log.n) for epoch, log in logs.items()}


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"{epoch:06d}.safetensors"


recorded = Recorded
"""The name to call: ``fit(network, data, policy=(kept := recorded(UCB(keep=0.7))))``, then ``kept.log()``."""
