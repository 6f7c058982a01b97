"""`recorded`: any policy, with its plans kept as a `SelectionHistory`."""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from pathlib import Path

from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import SelectionHistory
from datawinnow.dynamic.policy import Policy, State, Stream
from datawinnow.dynamic.replay import epoch_plan
from datawinnow.dynamic.state import get_int
from datawinnow.dynamic.wrap import Wrapper


@dataclass(frozen=True)
class Recorded(Wrapper):
    """The policy, with a copy of the plan of every epoch.

    Plans, state and saved samplers are those of the policy; the copies are no part of them. Use one object for one run,
    in `fit`, a `PolicySampler` or a framework, and call `history` after it. Put it around all other wrappers. A run
    that resumes with a new object has only the epochs since, and `history` reports the missing ones; with a ``folder``,
    kept beside the checkpoint, it has those before as well.

    Args:
        policy: any policy.
        folder: of the copies, one file an epoch, for this run only; made if it does not exist. None keeps them in
            memory.

    Raises:
        ArgumentError: not a policy.
        RunError: (when planning) the disk is full.

    >>> from datawinnow.core.rng import stream
    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy = recorded(RandomPruning(keep=0.5))
    >>> plans = [policy.plan(epoch, {"n": 8}, lambda *path: stream(0, *path))[0] for epoch in range(3)]
    >>> history = policy.history()
    >>> len(history), history.ids(2).tolist() == plans[2].index.tolist(), history.made_by
    (3, True, 'RandomPruning(keep=0.5)')
    """

    policy: Policy
    folder: InitVar[Path | str | None] = None

    def __post_init__(self, folder: Path | str | None) -> None:
        self._check_policy()
        # not fields: the identity of the policy in a saved sampler must not change as it plans, nor with the folder
        object.__setattr__(self, "_plans", {})
        object.__setattr__(self, "_folder", None if folder is None else Path(folder))
        object.__setattr__(self, "_last", -1)

    def with_policy(self, policy: Policy) -> Recorded:
        """This very object, since `history` is asked of it, around another policy."""
        object.__setattr__(self, "policy", policy)
        return self

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """The plan of the policy; the copy replaces an earlier one of the epoch, and epoch 0 removes all."""
        plan, planned = self.policy.plan(epoch, state, stream)
        plans, folder = self.__dict__["_plans"], self.__dict__["_folder"]
        # Epoch 0 begins a new run of the same object.
        if epoch == 0:
            plans.clear()
        if folder is None:
            plans[epoch] = (Selection(plan.index, plan.weight, plan.reason), get_int(state, "n"))
        else:  # a resume plans epoch 0 again, so the files of later epochs must stay
            SelectionHistory.of([plan], get_int(state, "n")).save(_epoch_file(folder, epoch))
        object.__setattr__(self, "_last", epoch)
        return plan, planned

    def history(
        self, *, fingerprint: str | None = None, made_by: str | None = None, cost: float | None = None
    ) -> SelectionHistory:
        """The plans so far.

        Args:
            fingerprint: of the dataset.
            made_by: the policy, for people; by default its ``repr``.
            cost: as `SelectionHistory` has it; by default the number of examples in the plans.

        Raises:
            RunError: nothing was planned, an epoch before the last is missing, or a file of the ``folder`` is damaged.
        """
        plans: dict[int, tuple[Selection, int]] = self._read()
        missing = sorted(set(range(max(plans, default=0) + 1)) - set(plans))
        if missing:
            raise RunError(
                f"the plans of epochs {missing[:5]} were not made by this object, so the history of the run is "
                "incomplete: record a run that begins at epoch 0, and give recorded(policy, folder=...) where it may "
                "be resumed"
            )
        return SelectionHistory.of(
            [plans[epoch][0] for epoch in sorted(plans)],
            plans[0][1],
            fingerprint=fingerprint,
            made_by=repr(self.policy)[:1000] if made_by is None else made_by,
            cost=cost,
        )

    def _read(self) -> dict[int, tuple[Selection, int]]:
        folder: Path | None = self.__dict__["_folder"]
        if folder is None:
            return self.__dict__["_plans"]  # type: ignore[no-any-return]
        # Only up to the last planned epoch: the folder may hold later ones of the run before it was resumed.
        files = {epoch: _epoch_file(folder, epoch) for epoch in range(self.__dict__["_last"] + 1)}
        histories = {epoch: SelectionHistory.load(file) for epoch, file in files.items() if file.exists()}
        return {epoch: (epoch_plan(history, 0), history.n) for epoch, history in histories.items()}


def _epoch_file(folder: Path, epoch: int) -> Path:
    return folder / f"{epoch:06d}.safetensors"


recorded = Recorded
"""The name to call: ``fit(network, data, policy=(policy := recorded(UCB(keep=0.7))))``, then ``policy.history()``."""
