"""A policy in a loop of one's own: observe, weigh and reduce in one line, and a learning rate that ends in time."""

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
    """Tell the sampler the losses of a batch and give back what to call ``backward`` on.

    Args:
        sampler: at the epoch that the batch is of.
        index: (b,) integer ids, on any device.
        loss: (b,) losses with ``reduction="none"``.
        reduction: ``"mean"``, ``"self_normalised"`` or ``"none"``, or a function; what each does to the step size is
            in `datawinnow.dynamic.reduce`.
        signals: (b,) others that the policy needs, such as ``correct``.

    Returns:
        A scalar, or (b,) weighted losses with ``"none"``.

    Raises:
        ArgumentError: a loss that is not one number an example, an unknown reduction, a signal missing.
    """
    reduce = resolve_reduction(reduction)
    sampler.observe(index, loss, **signals)
    return reduce(loss, sampler.weight[index])


class ProgressLR(LRScheduler):
    """A learning rate by how much of the run is over, so that it ends where it should however many steps there are.

    Call ``step()`` after every step of the optimizer. The sampler must know ``epochs`` and ``batch``.

    Args:
        optimizer: its learning rates are the ones at factor 1.
        sampler: tells the progress.
        schedule: from progress in [0, 1] to a factor, such as `datawinnow.train.schedule.cosine`.

    Raises:
        ArgumentError: the sampler does not know ``epochs`` or ``batch``.
    """

    def __init__(self, optimizer: Optimizer, sampler: PolicySampler, schedule: Callable[[float], float]) -> None:
        self.sampler, self.schedule = sampler, schedule
        self.at, self.done = sampler.epoch, -1  # LRScheduler's own __init__ makes the first step
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """One step of the optimizer is over."""
        if self.sampler.epoch != self.at:
            self.at, self.done = self.sampler.epoch, 0
        self.done += 1
        super().step(epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each group at this point of the run."""
        factor = self.schedule(self.sampler.progress(self.at, self.done))
        return [base * factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """What changes; sampler and schedule are given anew when it is made."""
        return {k: v for k, v in super().state_dict().items() if k not in ("sampler", "schedule")}
