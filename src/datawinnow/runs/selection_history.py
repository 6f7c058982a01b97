"""The selection history of a training with a policy: without order for the report, with it for replays."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import SelectionHistory
from datawinnow.dynamic import recorded
from datawinnow.train import History


class SelectionHistoryWriter:
    """Writes which examples each epoch trains on, before the epoch trains; the ``on_plan`` of `fit`.

    A killed run has at most one epoch too many in the file; a resume replaces it, and leaves the bytes of a run that
    was not killed. Where the file was lost meanwhile, it begins with the epoch of the resume.

    Args:
        path: the file.
        n: number of examples of the dataset.
        fingerprint: of the dataset.
        candidates: (m,) int64 ids that can be chosen; None for all.
        labels: (n,) int64 classes, or None.
        rows: (n,) int64 places in the source, or None.

    Raises:
        RunError: when called: the existing file is damaged or of another dataset, or the disk is full.
    """

    def __init__(
        self,
        path: Path,
        n: int,
        *,
        fingerprint: str,
        candidates: Tensor | None = None,
        labels: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> None:
        self.path, self.n, self.fingerprint = path, n, fingerprint
        self.candidates = None if candidates is None else self._mask(candidates)
        self.labels = None if labels is None else labels.numpy().astype(np.int64)
        self.rows = None if rows is None else rows.numpy().astype(np.int64)
        self._first_epoch = 0
        self._rows: list[np.ndarray] | None = None  # None until the existing file is read

    def __call__(self, epoch: int, ids: Tensor) -> None:
        """Add an epoch and write the file.

        Args:
            epoch: its number; it replaces that epoch and all later ones.
            ids: (m,) int64 ids that it trains on.
        """
        if self._rows is None:
            # only a resume begins above epoch 0
            self._rows = self._read() if epoch and self.path.exists() else []
        num_before = epoch - self._first_epoch
        if not 0 < num_before <= len(self._rows):  # the rows do not reach this epoch: begin with it
            num_before, self._first_epoch = 0, epoch
        self._rows = [*self._rows[:num_before], np.packbits(self._mask(ids))]
        SelectionHistory(
            n=self.n,
            masks=np.stack(self._rows),
            candidates=self.candidates,
            labels=self.labels,
            rows=self.rows,
            first_epoch=self._first_epoch,
            fingerprint=self.fingerprint,
        ).save(self.path)

    def _read(self) -> list[np.ndarray]:
        history = SelectionHistory.load(self.path, fingerprint=self.fingerprint, n=self.n)
        self._first_epoch = history.first_epoch
        return [np.packbits(history.mask(i)) for i in range(len(history))]

    def _mask(self, ids: Tensor) -> np.ndarray:
        mask = np.zeros(self.n, dtype=bool)
        mask[ids.cpu().numpy()] = True
        return mask


class PlanRecording:
    """Records the plans of a training with their order, through kills and resumes.

    Args:
        path: file for the history.
        folder: for the plans of a training that is not finished, one file an epoch.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder

    def wrap(self, policy: Any) -> Any:
        """``policy``, with its plans recorded."""
        return recorded(policy, folder=self.folder)

    def write(
        self,
        policy: Any,
        history: History,
        selection: Selection | None,
        rows: Tensor,
        *,
        fingerprint: str,
        made_by: str,
    ) -> None:
        """Write the history.

        Args:
            policy: from `wrap`, trained with.
            history: of the training; the examples that it passed are those of the plan, and its cost.
            selection: the examples that the policy chose from; None for all.
            rows: (n,) int64 places of the dataset's examples in the source.
            fingerprint: of the dataset.
            made_by: the policy, for people.

        Raises:
            RunError: plans of earlier epochs are missing, or the disk is full.
        """
        num_passed = int(sum(row["examples"] for row in history.rows))
        plans = policy.history(cost=history.cost.passes, fingerprint=fingerprint, made_by=made_by)
        # the last epoch was planned in full, and may be cut by a budget
        plans = plans.truncated(num_passed)
        plans = plans if selection is None else plans.mapped_through(selection, len(rows))
        replace(plans, rows=rows.numpy().astype(np.int64)).save(self.path)

    def check_written(self, run: Path) -> None:
        """Check that a finished training has written its history, and clean up.

        Raises:
            RunError: there is no such file.
        """
        self.clean_up()
        if not self.path.is_file():
            raise RunError(
                f"{run} is trained already, and its plan is not at {self.path}: name the file that it was written to, "
                "or train again in another `run=` folder"
            )

    def clean_up(self) -> None:
        """Remove the files that only a resume needs."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()
