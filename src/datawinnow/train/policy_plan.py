"""`PolicyPlan`: what each epoch trains on, planned by a policy from the losses that it observed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core.arrays import RECORDED
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.dynamic.signal import INPUT_SIZE
from datawinnow.record.signals import signals
from datawinnow.train.objective import correct_predictions

OBSERVED_SIGNALS = ("loss", *(name for name in RECORDED if name != "loss"), INPUT_SIZE)
"""What `fit` lets a policy observe, from the step's own forward pass: it costs no second one."""


class PolicyPlan:
    """A `PolicySampler` over the ``m`` candidates, which translates between positions among them and their ids.

    Args:
        policy: one of `datawinnow.dynamic`.
        index: (m,) int64 ids of the candidates.
        n: number of ids; the candidates may be a part of them.
        seed: of everything that the policy draws.
        device: where the losses are.
        weight: (n,) factors on the losses that a selection brings; the policy's weights multiply them. None for ones.

    Attributes:
        weight: (n,) float32 factor on each example's loss in the epoch planned last, by id; None if all are one.

    Raises:
        ArgumentError: the policy needs a signal that training does not make.
    """

    def __init__(
        self, policy: Any, index: Tensor, n: int, seed: int, device: torch.device, weight: Tensor | None = None
    ) -> None:
        for need in policy.needs:
            if need not in OBSERVED_SIGNALS:
                raise ArgumentError(
                    f"the policy {type(policy).__name__} observes {need!r}, but fit gives it "
                    f"{', '.join(OBSERVED_SIGNALS)}: write the loop yourself with dw.PolicySampler, and observe it "
                    "there"
                )
        self.policy, self.index, self.device = policy, index, device
        # one replica by name: by default the sampler would ask torch.distributed
        self.sampler = PolicySampler(policy, len(index), seed, num_replicas=1, rank=0)
        self.weight = self._selection_weight = weight
        # id -> position among the candidates; -1 for ids that are none
        self._position = torch.full((n,), -1, dtype=torch.int64, device=device)
        self._position[index.to(device)] = torch.arange(len(index), device=device)

    def plan(self, epoch: int) -> Tensor:
        """The ids of an epoch in the order of training; sets ``weight`` too."""
        self.sampler.set_epoch(epoch)
        plan = self.sampler.plan
        self.weight = self._selection_weight
        # most policies weigh nothing: no (n,) tensor then
        if not bool((plan.weight == 1).all()):
            weight = torch.ones(len(self._position))
            weight[self.index[plan.index]] = plan.weight
            weight = weight.to(self.device)
            self.weight = weight if self._selection_weight is None else weight * self._selection_weight
        return self.index[plan.index]

    def observe(self, index: Tensor, losses: Tensor, outputs: Any, y: Tensor, *, input_size: int = 0) -> None:
        """Pass on what the policy needs of a batch; everything stays on the device.

        Args:
            index: (b,) ids.
            losses: (b,) unweighted.
            outputs: of the network.
            y: (b, ...) targets.
            input_size: of the batch, under a size schedule.

        Raises:
            ArgumentError: the policy needs a signal of classes, and there are none.
        """
        values = {"loss": losses}
        if INPUT_SIZE in self.policy.needs:
            values[INPUT_SIZE] = torch.full_like(losses, input_size)
        if of_classes := tuple(name for name in self.policy.needs if name not in values):
            correct = correct_predictions(outputs, y)
            if correct is None:
                raise ArgumentError(
                    f"the policy {type(self.policy).__name__} observes {', '.join(of_classes)}, which is of classes, "
                    "but this loss is not: take a policy that observes the loss alone, such as ucb"
                )
            # an arg-max, as the accuracy of the history counts it
            values |= signals(outputs, y, names=of_classes) | {"correct": correct}
        self.sampler.observe(self._position[index], **values)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next plan depends on, for a checkpoint; numbers as tensors without axes."""
        # position 0: checkpoints are written between epochs
        saved = self.sampler.state_dict(position=0)
        flat = {"epoch": saved["epoch"], "plan": saved["plan"], "realised": saved["realised"]["count"]}
        flat |= {f"{group}.{key}": value for group in ("state", "observed") for key, value in saved[group].items()}
        return {key: torch.as_tensor(value).cpu() for key, value in flat.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state in `tensors`. The checkpoint's identity ensures the same data and seed.

        Raises:
            RunError: they are of another policy or another number of examples.
        """
        current, state = self.sampler.state_dict(position=0), _with_prefix(tensors, "state.")
        if set(tensors) != set(self.tensors()) or any(
            torch.as_tensor(current["state"][key]).shape != value.shape for key, value in state.items()
        ):
            raise RunError(
                f"the checkpoint's state of the policy ({', '.join(sorted(state)) or 'none'}) is not that of "
                f"{type(self.policy).__name__}: give the policy of the checkpoint, or another `run=` folder"
            )
        counts = tensors["realised"].tolist()
        saved = {
            "epoch": int(tensors["epoch"]),
            "plan": int(tensors["plan"]),
            "realised": {"epoch": list(range(len(counts))), "count": counts},
            "observed": _with_prefix(tensors, "observed."),
            # a number went into the checkpoint as a tensor: back to the type that the policy keeps it in
            "state": {
                key: value if isinstance(current["state"][key], Tensor) else type(current["state"][key])(value.item())
                for key, value in state.items()
            },
        }
        self.sampler.load_state_dict({**current, **saved})


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
