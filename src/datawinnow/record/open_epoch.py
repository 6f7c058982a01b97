"""The epoch being recorded: logits arrive by the batch; signals are computed for many batches at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datawinnow.record import files
from datawinnow.record.signals import kl_step, signals

MAX_STAGED_LOGITS = 25 * 128 * 10
"""Logits that are kept until their signals are computed: 25 batches of 128 with 10 classes.

Below the size from which torch uses several threads (see `core.epochs.GRAIN`): on a busy machine, waiting for them
costs more than the computation."""


class OpenEpoch:
    """One epoch of a `Recorder` until it is flushed, on the device of the logits.

    Args:
        number: of the epoch.
        n: number of examples.
        columns: names of the columns, ``seen`` the last.
        device: where the logits are.
        softmax: (n, c) class probabilities at each example's last visit, for ``kl_step``; modified in place. None
            before the first visit, and without ``kl_step``.
    """

    def __init__(
        self, number: int, n: int, columns: tuple[str, ...], device: torch.device, softmax: Tensor | None
    ) -> None:
        self.number, self.n, self.columns, self.softmax = number, n, columns, softmax
        self._signal_names = tuple(name for name in columns if name not in ("kl_step", "seen"))
        # NaN stands for "not seen in this epoch"
        self._buffer = torch.full((len(columns), n), torch.nan, device=device)
        # `seen` is the last column
        self._buffer[-1] = 0.0
        self._labels = torch.full((n,), -1, dtype=torch.int64, device=device)
        # (index, logits, labels) of batches not in the buffer yet
        self._staged: list[tuple[Tensor, Tensor, Tensor]] = []
        self._staged_logits = 0

    def write(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Stage one batch: ids (b,) int64, logits (b, c) and labels (b,), all checked by the caller."""
        # non_blocking: a plain copy to the device waits for everything queued on it
        index = index.to(logits.device, non_blocking=True)
        labels = labels.to(logits.device, non_blocking=True).long()
        # copies: in-place changes after the step must not reach the recording
        self._staged.append((index.clone(), logits.detach().to(torch.float32, copy=True), labels.clone()))
        self._staged_logits += logits.numel()
        if self._staged_logits >= MAX_STAGED_LOGITS:
            self.compute_staged()

    def write_loss(self, index: Tensor, losses: Tensor) -> None:
        """Write the losses (b,) of the ids ``index`` (b,), where only ``loss`` is recorded."""
        index = index.to(losses.device, non_blocking=True)
        self._buffer[0].index_copy_(0, index, losses.detach().float())
        self._buffer[-1].index_fill_(0, index, 1.0)

    def compute_staged(self) -> None:
        """Write the signals of the staged batches into the buffer.

        The signals of a batch take about twenty operations on a few hundred numbers, so the calls themselves dominate:
        for many batches at once they cost 0.1% of a training step instead of 1%.
        """
        if not self._staged:
            return
        staged, self._staged, self._staged_logits = self._staged, [], 0
        logits = torch.cat([logits for _, logits, _ in staged])
        values = signals(logits, torch.cat([labels for _, _, labels in staged]), names=self._signal_names)
        # (signals, b)
        rows = torch.stack([v.float() for v in values.values()]) if values else logits.new_empty((0, len(logits)))
        first = 0
        # one batch after the other: of two visits of an example in an epoch the later one counts
        for index, batch_logits, labels in staged:
            last = first + len(index)
            # the signals are the first columns; `kl_step` and `seen` follow them
            self._buffer[: len(rows)].index_copy_(1, index, rows[:, first:last])
            self._buffer[-1].index_fill_(0, index, 1.0)
            self._labels.index_copy_(0, index, labels)
            if "kl_step" in self.columns:
                self._write_kl(index, batch_logits)
            first = last

    def labels(self, before: Tensor) -> Tensor:
        """(n,) int64 labels as trained on: those of this epoch, or ``before`` (n,) for examples not seen in it yet."""
        self.compute_staged()
        seen = self._labels.cpu()
        return torch.where(seen >= 0, seen, before)

    def row(self, name: str) -> np.ndarray:
        """(n,) one column of the epoch, as far as it is written."""
        self.compute_staged()
        row = self._buffer[self.columns.index(name)].cpu()
        # a bool column cannot hold NaN: not seen is False
        return (row.nan_to_num() != 0 if files.dtype_of(name).kind == "b" else row.clone()).numpy()

    def _write_kl(self, index: Tensor, logits: Tensor) -> None:
        p = logits.detach().float().softmax(dim=1)
        if self.softmax is None:
            self.softmax = torch.full((self.n, p.shape[1]), torch.nan, device=p.device)
        # read back from disk after a resume, it is on the CPU
        self.softmax = self.softmax.to(p.device)
        # nothing came before epoch 0; an example not visited before has NaN probabilities, and so NaN here
        if self.number:
            # the column after the signals
            self._buffer[len(self._signal_names), index] = kl_step(self.softmax[index], p)
        self.softmax[index] = p
