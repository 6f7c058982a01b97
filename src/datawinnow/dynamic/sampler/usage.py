"""Warnings about a training loop that uses a `PolicySampler` in a way that cannot be meant."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


class UsageWarnings:
    """Warnings of one sampler, each given once.

    Args:
        policy: name of its policy.
        needs: signals that the policy observes.
    """

    def __init__(self, policy: str, needs: tuple[str, ...]) -> None:
        self._policy, self._needs = policy, needs
        self._issued: set[str] = set()

    def check_finite(self, num_not_finite: int) -> None:
        """Warn of losses of an epoch that were NaN or infinite; every time."""
        if num_not_finite:
            warnings.warn(f"{num_not_finite} observed losses were not finite and are left out", stacklevel=4)

    def check_observed(self, epoch: int, index: Tensor, plan: Tensor, n: int) -> None:
        """Warn if nothing was observed, or examples outside the plan.

        Args:
            epoch: that is over.
            index: (m,) ids that were observed in it.
            plan: (k,) ids that it planned.
            n: number of examples.
        """
        if not len(index):
            # A policy that plans without signals may well be used without observe().
            if self._needs:
                self._warn_once(
                    "nothing",
                    f"{self._policy} plans from {', '.join(self._needs)}, but nothing was observed in epoch {epoch}: "
                    "call sampler.observe(index, loss) with every batch",
                )
            return
        planned = torch.zeros(n, dtype=torch.bool)
        planned[plan] = True
        outside = int((~planned[index]).sum())
        if outside:
            self._warn_once(
                "outside",
                f"{outside} examples were observed in epoch {epoch} that were not in its plan: give the DataLoader "
                "sampler=this one, and observe the ids that it yields, counted in the full dataset (ignore this if you "
                "observe other examples on purpose)",
            )

    def repeated_epoch(self, epoch: int) -> None:
        """Warn that an epoch that is over begins again."""
        self._warn_once(
            "again",
            f"all examples of epoch {epoch} were observed already, and it begins again unchanged: call "
            "sampler.set_epoch(epoch) at the start of every epoch, otherwise no new plan is ever made",
        )

    def _warn_once(self, key: str, text: str) -> None:
        if key not in self._issued:
            self._issued.add(key)
            warnings.warn(text, stacklevel=5)
