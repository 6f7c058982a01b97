"""A policy in a plain training loop: the weighted loss of a batch, and a learning rate that follows the progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datawinnow.dynamic.reduce import Reduction, resolve_reduction
from datawinnow.dynamic.sampler import PolicySampler


def weighted_loss(
    sampler: PolicySampler, index: Any, loss: Tensor, reduction: str | Reduction = "mean", **signals: Tensor
) -> Tensor:
    """Observe the losses of a batch, and reduce them with the weights of the plan to a loss for ``backward``.

    Args:
        sampler: at the epoch of the batch.
        index: (b,) integer ids, on any device.
        loss: (b,) losses with ``reduction="none"``.
        reduction: ``"mean"``, ``"self_normalised"`` or ``"none"``, or a function; their effects on the step size
            are described in `datawinnow.dynamic.reduce`.
        signals: (b,) other signals that the policy needs, such as ``correct``.

    Returns:
        A scalar, or (b,) weighted losses with ``"none"``.

    Raises:
        ArgumentError: a loss that is not one number an example, an unknown reduction, a signal missing.
    """
    reduce = resolve_reduction(reduction)
    sampler.observe(index, loss, **signals)
    # observe() takes the unweighted losses: weights say how often an example stands for others, not how hard it is.
    return reduce(loss, sampler.weight[index])


class ProgressLR(LRScheduler):
    """A learning rate that follows the progress of the run, so that it ends where it should for any number of steps.

    Call ``step()`` after every step of the optimizer. The sampler must have ``epochs`` and ``batch``.

    Args:
        optimizer: its learning rates are those at factor 1.
        sampler: of the training loader.
        schedule: function from progress in [0, 1] to a factor, such as `datawinnow.train.schedule.cosine`.

    Raises:
        ArgumentError: the sampler has no ``epochs`` or no ``batch``.
    """

    def __init__(self, optimizer: Optimizer, sampler: PolicySampler, schedule: Callable[[float], float]) -> None:
        self.sampler, self.schedule = sampler, schedule
        self.epoch, self.steps = sampler.epoch, -1  # LRScheduler.__init__ makes the first step
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Advance by one step of the optimizer."""
        # Steps count within an epoch, since its length is known only once it is planned.
        if self.sampler.epoch != self.epoch:
            self.epoch, self.steps = self.sampler.epoch, 0
        self.steps += 1
        super().step(epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each group at the current progress."""
        # From the progress alone and not from the last rate: a resume needs nothing but epoch and step.
        factor = self.schedule(self.sampler.progress(self.epoch, self.steps))
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """The state without sampler and schedule, which are arguments."""
        return {k: v for k, v in super().state_dict().items() if k not in ("sampler", "schedule")}
