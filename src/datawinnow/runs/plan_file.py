"""`PlanFile`: the plan of a training with a policy, epoch by epoch beside its checkpoint and at its end in one file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.dynamic import recorded
from datawinnow.train import History


class PlanFile:
    """Keeps what a policy plans, through kills and resumes.

    Args:
        file: where the whole plan goes.
        parts: folder for the plans of an unfinished training, its own.
    """

    def __init__(self, file: Path, parts: Path) -> None:
        self.file, self.parts = file, parts

    def around(self, policy: Any) -> Any:
        """The policy to train by: ``policy``, with its plans kept."""
        return recorded(policy, folder=self.parts)

    def write(self, policy: Any, history: History, selection: Selection | None, n: int, **about: Any) -> None:
        """Write the plan, whole.

        Args:
            policy: what `around` gave, trained by.
            history: of the training; what it passed is what the plan holds and cost.
            selection: what the policy chose from; None for all.
            n: number of examples of the dataset.
            about: ``fingerprint`` and ``made_by``.

        Raises:
            RunError: plans of earlier epochs are gone, or the disk is full.
        """
        passed = int(sum(row["examples"] for row in history.rows))
        log = policy.log(cost=history.cost.passes, **about).first(passed)
        (log if selection is None else log.outward(selection, n)).save(self.file)

    def check(self, run: Path) -> None:
        """That the plan of a training that is finished is there, and nothing else of it.

        Raises:
            RunError: it is not.
        """
        self.tidy()
        if not self.file.is_file():
            raise RunError(
                f"{run} is trained already, and its plan is not at {self.file}: name the file that it was written to, "
                "or train again in another --run folder"
            )

    def tidy(self) -> None:
        """Remove what only a resume needs."""
        shutil.rmtree(self.parts, ignore_errors=True)
        if self.parts.parent.is_dir() and not any(self.parts.parent.iterdir()):
            self.parts.parent.rmdir()
