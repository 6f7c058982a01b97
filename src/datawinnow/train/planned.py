"""Training by a policy: what each epoch trains on is chosen anew from what was observed."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection

SIGNALS = ("loss", "correct")
"""What `fit` lets a policy observe, from the step's own forward pass: it costs no second one."""


class Plans:
    """A policy at work over ``m`` examples: plans, and what was observed since the last one.

    Observations stay on the device, as one number an example and signal, and reach the policy once an epoch.

    Args:
        policy: the options of how to choose (`datawinnow.dynamic`).
        m: number of examples chosen from.
        n: number of ids, of which they may be a part.
        index: (m,) their ids.
        seed: of everything that the policy draws.
        device: where losses are.

    Raises:
        ArgumentError: the policy needs a signal that training does not make.
    """

    def __init__(self, policy: Any, index: Tensor, n: int, seed: int, device: torch.device) -> None:
        for need in policy.needs:
            if need not in SIGNALS:
                raise ArgumentError(
                    f"the policy {type(policy).__name__} observes {need!r}, but fit gives it {', '.join(SIGNALS)}: "
                    "write the loop yourself with dw.PolicySampler, and observe it there"
                )
        self.policy, self.index, self.m, self.device = policy, index, len(index), device
        self.state: dict[str, Any] = policy.init(self.m)
        self.draw = partial(stream, seed, "policy")
        self.weight: Tensor | None = None
        self._position = torch.full((n,), -1, dtype=torch.int64, device=device)
        self._position[index.to(device)] = torch.arange(self.m, device=device)
        self._new = {need: torch.zeros(self.m, device=device) for need in policy.needs}
        self._seen = torch.zeros(self.m, dtype=torch.bool, device=device)

    def plan(self, epoch: int) -> Tensor:
        """The ids of an epoch in the order of training; ``weight`` is set with it."""
        self._commit()
        chosen, self.state = self.policy.plan(epoch, self.state, self.draw)
        self.weight = self._weights(chosen)
        return self.index[chosen.index]

    def observe(self, index: Tensor, losses: Tensor, correct: Tensor) -> None:
        """Keep what a step saw of the ids ``index`` (b,), on the device."""
        at = self._position[index]
        values = {"loss": losses, "correct": correct}
        for need, buffer in self._new.items():
            buffer[at] = values[need].detach().to(buffer.dtype)
        self._seen[at] = True

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next plan depends on, for a checkpoint; numbers as tensors of no axes."""
        self._commit()
        return {key: torch.as_tensor(value).cpu() for key, value in self.state.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `tensors`.

        Raises:
            RunError: they are of another policy or another number of examples.
        """
        if set(tensors) != set(self.state) or any(
            torch.as_tensor(self.state[key]).shape != value.shape for key, value in tensors.items()
        ):
            raise RunError(
                f"the checkpoint's state of the policy ({', '.join(sorted(tensors)) or 'none'}) is not that of "
                f"{type(self.policy).__name__}: give the policy it was begun with, or another --run folder"
            )
        self.state = {
            key: value if isinstance(self.state[key], Tensor) else type(self.state[key])(value.item())
            for key, value in tensors.items()
        }

    def _commit(self) -> None:
        if not bool(self._seen.any()):
            return
        at = torch.nonzero(self._seen).flatten()
        signals = {need: buffer[at].cpu() for need, buffer in self._new.items()}
        if signals:
            self.state = self.policy.observe(self.state, at.cpu(), **signals)
        self._seen.zero_()

    def _weights(self, chosen: Selection) -> Tensor | None:
        if bool((chosen.weight == 1).all()):
            return None
        weight = torch.ones(len(self._position))
        weight[self.index[chosen.index]] = chosen.weight
        return weight.to(self.device)
