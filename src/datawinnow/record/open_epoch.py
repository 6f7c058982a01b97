"""The epoch that is being written: logits come in by the batch, its signals are worked out many batches at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datawinnow.record import columns as files
from datawinnow.record.signals import kl_step, signals

STAGED = 25 * 128 * 10
"""Logits that wait for their signals to be worked out: 25 batches of 128 with 10 classes.

Below what torch divides among its threads (see `core.epochs.GRAIN`): on a busy machine those waits cost more than the
rest."""


class OpenEpoch:
    """What a `Recorder` knows of one epoch until it closes, on the device of the logits.

    Args:
        number: of the epoch.
        n: number of examples.
        columns: names of the columns, ``seen`` the last.
        device: where the logits are.
        softmax: (n, c) class probabilities after the epochs before, which ``kl_step`` goes on from; changed in place.
            None before the first visit, and without ``kl_step``.
    """

    def __init__(
        self, number: int, n: int, columns: tuple[str, ...], device: torch.device, softmax: Tensor | None
    ) -> None:
        self.number, self.n, self.columns, self.softmax = number, n, columns, softmax
        self._which = tuple(name for name in columns if name not in ("kl_step", "seen"))
        self._buffer = torch.full((len(columns), n), torch.nan, device=device)
        self._buffer[-1] = 0.0
        self._labels = torch.full((n,), -1, dtype=torch.int64, device=device)
        self._staged: list[tuple[Tensor, Tensor, Tensor]] = []  # (index, logits, labels) of batches not in it yet
        self._staged_logits = 0

    def write(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take in one batch: ids (b,) int64, logits (b, c), labels (b,), all checked."""
        # non_blocking: a plain copy to the device waits for everything queued on it
        index = index.to(logits.device, non_blocking=True)
        labels = labels.to(logits.device, non_blocking=True).long()
        # copies: what is done in place to a batch after its step must not reach the recording
        self._staged.append((index.clone(), logits.detach().to(torch.float32, copy=True), labels.clone()))
        self._staged_logits += logits.numel()
        if self._staged_logits >= STAGED:
            self.work_out()

    def work_out(self) -> None:
        """Put the signals of the staged batches into the buffer.

        A batch's signals are some twenty operations on a few hundred numbers, each of which costs its call and little
        else: worked out for many batches at once they cost a tenth of a percent of a step, and not one.
        """
        if not self._staged:
            return
        staged, self._staged, self._staged_logits = self._staged, [], 0
        logits = torch.cat([part for _, part, _ in staged])
        values = signals(logits, torch.cat([part for _, _, part in staged]), which=self._which)
        rows = torch.stack([v.float() for v in values.values()]) if values else logits.new_empty((0, len(logits)))
        first = 0
        for index, part, labels in staged:  # one after the other: of two visits in an epoch the later one counts
            last = first + len(index)
            self._buffer[: len(rows)].index_copy_(1, index, rows[:, first:last])
            self._buffer[-1].index_fill_(0, index, 1.0)
            self._labels.index_copy_(0, index, labels)
            if "kl_step" in self.columns:
                self._write_kl(index, part)
            first = last

    def labels(self, before: Tensor) -> Tensor:
        """(n,) int64 labels as trained on: those of this epoch, and ``before`` (n,) where it has not come by yet."""
        self.work_out()
        seen = self._labels.cpu()
        return torch.where(seen >= 0, seen, before)

    def row(self, name: str) -> np.ndarray:
        """(n,) one column of the epoch as far as it was written."""
        self.work_out()
        row = self._buffer[self.columns.index(name)].cpu()
        # not seen is False
        return (row.nan_to_num() != 0 if files.dtype_of(name).kind == "b" else row.clone()).numpy()

    def _write_kl(self, index: Tensor, logits: Tensor) -> None:
        p = logits.detach().float().softmax(dim=1)
        if self.softmax is None:
            self.softmax = torch.full((self.n, p.shape[1]), torch.nan, device=p.device)
        self.softmax = self.softmax.to(p.device)
        if self.number:
            self._buffer[len(self._which), index] = kl_step(self.softmax[index], p)
        self.softmax[index] = p
