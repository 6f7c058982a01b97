"""Training by a policy: what each epoch trains on is chosen anew from what was observed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.dynamic.sampler import PolicySampler

SIGNALS = ("loss", "correct")
"""What `fit` lets a policy observe, from the step's own forward pass: it costs no second one."""


class Plans:
    """A `PolicySampler` over the ``m`` examples that may be chosen, between positions among them and their ids.

    Args:
        policy: the options of how to choose (`datawinnow.dynamic`).
        index: (m,) ids of the examples chosen from.
        n: number of ids, of which they may be a part.
        seed: of everything that the policy draws.
        device: where losses are.
        given: (n,) factors on the losses that the selection brings; the policy's own come on top. None for ones.

    Attributes:
        weight: (n,) float32 factor on each example's loss in the epoch planned last, by id; None where all are one.

    Raises:
        ArgumentError: the policy needs a signal that training does not make.
    """

    def __init__(
        self, policy: Any, index: Tensor, n: int, seed: int, device: torch.device, given: Tensor | None = None
    ) -> None:
        for need in policy.needs:
            if need not in SIGNALS:
                raise ArgumentError(
                    f"the policy {type(policy).__name__} observes {need!r}, but fit gives it {', '.join(SIGNALS)}: "
                    "write the loop yourself with dw.PolicySampler, and observe it there"
                )
        self.policy, self.index, self.device = policy, index, device
        self.sampler = PolicySampler(policy, len(index), seed, num_replicas=1, rank=0)
        self.weight = self._given = given
        self._position = torch.full((n,), -1, dtype=torch.int64, device=device)
        self._position[index.to(device)] = torch.arange(len(index), device=device)

    def plan(self, epoch: int) -> Tensor:
        """The ids of an epoch in the order of training; ``weight`` is set with it."""
        self.sampler.set_epoch(epoch)
        chosen = self.sampler.plan
        self.weight = self._given
        if not bool((chosen.weight == 1).all()):
            weight = torch.ones(len(self._position))
            weight[self.index[chosen.index]] = chosen.weight
            weight = weight.to(self.device)
            self.weight = weight if self._given is None else weight * self._given
        return self.index[chosen.index]

    def observe(self, index: Tensor, losses: Tensor, correct: Tensor) -> None:
        """Keep what a step saw of the ids ``index`` (b,), on the device."""
        self.sampler.observe(self._position[index], loss=losses, correct=correct)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next plan depends on, for a checkpoint; numbers as tensors of no axes."""
        saved = self.sampler.state_dict(position=0)
        flat = {"epoch": saved["epoch"], "plan": saved["plan"], "realised": saved["realised"]["count"]}
        flat |= {f"{part}.{key}": value for part in ("state", "observed") for key, value in saved[part].items()}
        return {key: torch.as_tensor(value).cpu() for key, value in flat.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `tensors`; that they are of the same data and seed is for the checkpoint to know.

        Raises:
            RunError: they are of another policy or another number of examples.
        """
        own, state = self.sampler.state_dict(position=0), _part(tensors, "state")
        if set(tensors) != set(self.tensors()) or any(
            torch.as_tensor(own["state"][key]).shape != value.shape for key, value in state.items()
        ):
            raise RunError(
                f"the checkpoint's state of the policy ({', '.join(sorted(state)) or 'none'}) is not that of "
                f"{type(self.policy).__name__}: give the policy it was begun with, or another --run folder"
            )
        counts = tensors["realised"].tolist()
        saved = {
            "epoch": int(tensors["epoch"]),
            "plan": int(tensors["plan"]),
            "realised": {"epoch": list(range(len(counts))), "count": counts},
            "observed": _part(tensors, "observed"),
            "state": {
                key: value if isinstance(own["state"][key], Tensor) else type(own["state"][key])(value.item())
                for key, value in state.items()
            },
        }
        self.sampler.load_state_dict({**own, **saved})


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
