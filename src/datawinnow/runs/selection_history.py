"""The selection history of a training with a policy: without order for the report, with it for replays."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from datawinnow.core.artifacts import write_table
from datawinnow.core.errors import RunError
from datawinnow.core.reason import Reason
from datawinnow.core.row_checks import ROW, with_row_checks
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import FILE_NAME, SelectionHistory, pack_reasons
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.source_positions import source_rows
from datawinnow.dynamic import recorded
from datawinnow.dynamic.policy import State, Stream
from datawinnow.runs.folder import RunFolder
from datawinnow.train import History

LOSS_ENTRIES = ("loss", "mean")
"""Entries of the states of policies that are losses: the last one seen, or a running mean."""
NOTES_FILE = "selection_notes.parquet"
"""A row an example of a training by a policy: how often it was trained on, and why."""


def write_notes(folder: RunFolder, info: DatasetInfo) -> None:
    """``selection_notes.parquet``: ids, rows of the source, epochs trained on and a sentence an example.

    Args:
        folder: of a training by a policy, with its selection history.
        info: of its dataset.

    Raises:
        RunError: the history is damaged or missing, or the disk is full.
    """
    history = SelectionHistory.load(folder.path / FILE_NAME, fingerprint=info.fingerprint, n=info.n)
    epochs = sum(history.mask(i).astype(np.int64) for i in range(len(history)))
    columns = {
        "id": pa.array(info.ids, pa.string()),
        ROW: pa.array(source_rows(info.data).numpy()),
        "label": pa.array(info.labels.numpy()),
        "epochs": pa.array(epochs),
        "note": pa.array(history.notes(), pa.string()),
    }
    table = with_row_checks(pa.table(columns), list(columns))
    write_table(folder.path / NOTES_FILE, table, {"fingerprint": info.fingerprint, "epochs": len(history)})


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
        self.candidate_ids = None if candidates is None else candidates.numpy()
        self.candidates = None if candidates is None else self._mask(candidates)
        self.labels = None if labels is None else labels.numpy().astype(np.int64)
        self.rows = None if rows is None else rows.numpy().astype(np.int64)
        self._losses: np.ndarray | None = None
        self._reasons: list[np.ndarray] = []  # of the epochs in `_rows`
        self._planned: tuple[int, Tensor | None] = (-1, None)  # the epoch planned last, and its reasons
        self._first_epoch = 0
        self._rows: list[np.ndarray] | None = None  # None until the existing file is read

    def watch(self, policy: Any) -> Any:
        """A copy of ``policy`` that plans as it does, and of whose plans the reasons and losses are written.

        It is no wrapper: checkpoints and messages name the policy itself.
        """
        watched = copy.copy(policy)

        def plan(epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
            planned, after = policy.plan(epoch, state, stream)
            self._planned = epoch, planned.reason
            losses = [value for key, value in after.items() if key.rsplit(".", 1)[-1] in LOSS_ENTRIES]
            if losses and isinstance(losses[0], Tensor):
                self._losses = self._of_candidates(losses[0].float().numpy(), np.float32(np.nan))
            return planned, after

        object.__setattr__(watched, "plan", plan)  # policies are frozen
        return watched

    def _of_candidates(self, values: np.ndarray, other: Any) -> np.ndarray:
        """(n,) ``values`` of the candidates at their ids, and ``other`` elsewhere."""
        if self.candidate_ids is None:
            return values.copy()
        spread = np.full(self.n, other, dtype=values.dtype)
        spread[self.candidate_ids] = values
        return spread

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
        mask = self._mask(ids)
        self._rows = [*self._rows[:num_before], np.packbits(mask)]
        codes = np.where(mask, int(Reason.KEPT), int(Reason.BELOW_CUT)).astype(np.int8)
        if self._planned[0] == epoch and self._planned[1] is not None:
            codes = self._of_candidates(self._planned[1].numpy(), np.int8(Reason.BELOW_CUT))
        self._reasons = [*self._reasons[:num_before], pack_reasons(codes)]
        SelectionHistory(
            n=self.n,
            masks=np.stack(self._rows),
            candidates=self.candidates,
            labels=self.labels,
            rows=self.rows,
            reasons=np.stack(self._reasons) if len(self._reasons) == len(self._rows) else None,
            losses=self._losses,
            first_epoch=self._first_epoch,
            fingerprint=self.fingerprint,
        ).save(self.path)

    def _read(self) -> list[np.ndarray]:
        history = SelectionHistory.load(self.path, fingerprint=self.fingerprint, n=self.n)
        self._first_epoch = history.first_epoch
        self._reasons = [] if history.reasons is None else list(history.reasons)
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
