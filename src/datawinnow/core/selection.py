"""`Selection`: the return value of every selector and policy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason


# eq=False: `==` of tensors is a tensor, which has no truth value
@dataclass(frozen=True, eq=False)
class Selection:
    """The examples to train on, in the order chosen, with weights and reasons.

    Attributes:
        index: (m,) int64, unique positions in the dataset that was selected from, in the order chosen, so that prefixes
            nest where the method nests. That dataset is the train split as it was loaded, without what was held out for
            testing or left out: a dataset of your own is indexed by ``kept.indices_in(dataset)``.
        weight: (m,) float32, factor on each example's loss; ones unless the method rescales.
        reason: (n,) int8 codes of `datawinnow.core.reason.Reason` for **every** example, or None.

    Raises:
        ArgumentError: wrong shape or dtype, a repeated or negative id, a weight that is not finite and at least 0.
    """

    index: Tensor
    weight: Tensor
    reason: Tensor | None = None

    def __post_init__(self) -> None:
        if self.index.dtype != torch.int64 or self.index.ndim != 1:
            raise ArgumentError(
                f"Selection.index must be int64 of shape (m,), got {self.index.dtype} of shape "
                f"{tuple(self.index.shape)}"
            )
        if self.weight.dtype != torch.float32 or self.weight.shape != self.index.shape:
            raise ArgumentError(
                f"Selection.weight must be float32 of shape {tuple(self.index.shape)}, got "
                f"{self.weight.dtype} of shape {tuple(self.weight.shape)}"
            )
        if self.index.numel():
            if int(self.index.min()) < 0:
                raise ArgumentError(f"Selection.index has the negative id {int(self.index.min())}")
            if not _unique(self.index):
                raise ArgumentError("Selection.index has an id twice")
            if not bool((torch.isfinite(self.weight) & (self.weight >= 0)).all()):
                raise ArgumentError("Selection.weight must be finite and at least 0")
        if self.reason is not None:
            if self.reason.dtype != torch.int8 or self.reason.ndim != 1:
                raise ArgumentError(
                    f"Selection.reason must be int8 of shape (n,), got {self.reason.dtype} of shape "
                    f"{tuple(self.reason.shape)}"
                )
            if self.index.numel() and int(self.index.max()) >= self.reason.numel():
                raise ArgumentError(
                    f"Selection.index has id {int(self.index.max())}, but reason has {self.reason.numel()} examples"
                )

    def __len__(self) -> int:
        return int(self.index.numel())

    def __repr__(self) -> str:
        of = "" if self.reason is None else f" of {self.reason.numel():,} examples"
        weighted = ", weighted" if bool((self.weight != 1).any()) else ""
        return f"Selection({len(self):,} kept{of}{weighted})"

    def mask(self, n: int) -> Tensor:
        """(n,) bool: True where kept."""
        out = torch.zeros(n, dtype=torch.bool)
        out[self.index] = True
        return out

    @classmethod
    def of(cls, index: Tensor, n: int, *, kept: Reason = Reason.KEPT, dropped: Reason = Reason.BELOW_CUT) -> Selection:
        """A selection with weights of one and one reason for all kept and one for all dropped.

        Args:
            index: (m,) ids in the order chosen.
            n: number of examples chosen from.
            kept: reason of the kept.
            dropped: reason of the dropped.
        """
        index = index.to(torch.int64)
        reason = torch.full((n,), int(dropped), dtype=torch.int8)
        reason[index] = int(kept)
        return cls(index, torch.ones(index.numel(), dtype=torch.float32), reason)

    @classmethod
    def everything(cls, n: int) -> Selection:
        """All ``n`` examples, in order."""
        return cls.of(torch.arange(n), n)


def _unique(index: Tensor) -> bool:
    # marking ids in a mask is linear; sorting 100M ids would take longer than choosing them
    span = int(index.max()) + 1
    # a mask of at most four bytes an id; sparse ids are sorted instead
    if span <= 4 * index.numel() + 1024:
        seen = torch.zeros(span, dtype=torch.bool, device=index.device)
        seen[index] = True
        return int(seen.sum()) == index.numel()
    return int(torch.unique(index).numel()) == index.numel()
