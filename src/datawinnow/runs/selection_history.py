"""`Chosen`: keeps which examples each epoch trains on, in a file of the run folder, for the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from datawinnow.core.selection_history import FILE, ChosenLog, read_chosen


class Chosen:
    """Give it to `fit` as ``on_plan``: writes who each epoch trains on, before the epoch trains.

    A killed run has at most one epoch too many in the file; going on drops it, and leaves the bytes of a run that was
    not killed. Where the file was lost on the way, it begins with the epoch gone on from.

    Args:
        path: the file.
        n: examples of the dataset.
        fingerprint: of the dataset.
        candidates: (m,) int64 ids that can be chosen; all when None.
        labels: (n,) int64 classes, or None.

    Raises:
        RunError: when called: the file there is damaged or of another dataset, or the disk is full.
    """

    def __init__(
        self, path: Path, n: int, *, fingerprint: str, candidates: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        self.path, self.n, self.fingerprint = path, n, fingerprint
        self.candidates = self._mask(candidates) if candidates is not None else np.ones(n, dtype=bool)
        self.labels = None if labels is None else labels.numpy()
        self._first = 0
        self._rows: list[np.ndarray] | None = None  # not read yet

    def __call__(self, epoch: int, ids: Tensor) -> None:
        """Add an epoch and write the file.

        Args:
            epoch: its number; what is known of it and of later ones is replaced.
            ids: (m,) int64 ids that it trains on.
        """
        if self._rows is None:
            self._rows = self._read() if epoch and self.path.exists() else []
        before = epoch - self._first
        if not 0 < before <= len(self._rows):  # nothing known joins on
            before, self._first = 0, epoch
        self._rows = [*self._rows[:before], np.packbits(self._mask(ids))]
        log = ChosenLog(np.stack(self._rows), self.candidates, self.labels, self.fingerprint, self._first)
        log.write(self.path)

    def _read(self) -> list[np.ndarray]:
        log = read_chosen(self.path, self.fingerprint, self.n)
        self._first = log.first
        return list(log.bits)

    def _mask(self, ids: Tensor) -> np.ndarray:
        mask = np.zeros(self.n, dtype=bool)
        mask[ids.cpu().numpy()] = True
        return mask


__all__ = ["FILE", "Chosen"]
