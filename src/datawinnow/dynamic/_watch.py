"""What a `PolicySampler` says when a loop seems not to use it as it thinks it does: each trouble once."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


class Watch:
    """Warnings of one sampler, whose ``policy`` observes ``needs``."""

    def __init__(self, policy: str, needs: tuple[str, ...]) -> None:
        self._policy, self._needs = policy, needs
        self._said: set[str] = set()

    def lost(self, count: int) -> None:
        """``count`` losses of an epoch were NaN or infinite; told every time."""
        if count:
            warnings.warn(f"{count} observed losses were not finite and are left out", stacklevel=4)

    def observed(self, epoch: int, index: Tensor, plan: Tensor, n: int) -> None:
        """The ids ``index`` (m,) of ``n`` were observed in an epoch that had ``plan`` (k,)."""
        if not len(index):
            if self._needs:
                self._once(
                    "nothing",
                    f"{self._policy} plans from {', '.join(self._needs)}, but nothing was observed in epoch {epoch}: "
                    "call sampler.observe(index, loss) with every batch",
                )
            return
        among = torch.zeros(n, dtype=torch.bool)
        among[plan] = True
        outside = int((~among[index]).sum())
        if outside:
            self._once(
                "outside",
                f"{outside} examples were observed in epoch {epoch} that were not in its plan: give the DataLoader "
                "sampler=this one, and observe the ids that it gives out, counted in the whole dataset (if you looked "
                "at others on purpose, all is well)",
            )

    def again(self, epoch: int) -> None:
        """An epoch that is through begins again."""
        self._once(
            "again",
            f"all examples of epoch {epoch} were observed already, and it begins again as it was: call "
            "sampler.set_epoch(epoch) at the start of every epoch, or nothing is ever chosen anew",
        )

    def _once(self, trouble: str, text: str) -> None:
        if trouble not in self._said:
            self._said.add(trouble)
            warnings.warn(text, stacklevel=5)
