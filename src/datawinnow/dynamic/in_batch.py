"""Selection inside each loaded batch, by a small network that is trained alongside or by the network itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic._batch import by_weight, losses, top

BatchSelector = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class InBatch:
    """Load more than a step trains on, and keep of each batch what a forward pass says is worth it.

    A step loads ``batch / keep`` examples, a network gives their losses, and the ``keep`` of them that are chosen are
    trained on. The network is a ``proxy`` that learns alongside, on the kept examples of one step in ``every``, with
    the recipe of the main network; or, without one, the main network itself, whose forward pass is then paid for. The
    batch statistics of either are of the loaded batch, and its running statistics stay as they were.

    Charged are, an example loaded: a third of a trained example times the network's share of the main network's FLOPs
    for looking at it; and the share of a trained example for each that the proxy trains on. With a proxy of a tenth and
    keep 0.5 that is 0.033 + 0.5 * 0.1 / 4 = 0.046 beside the 0.5 of the training.

    Args:
        keep: fraction of each loaded batch that is trained on, in (0, 1).
        proxy: a network with as many classes, trained in place; None for the main network itself.
        every: steps from one update of the proxy to the next.
        by: ``"highest"`` loss; ``"drawn"`` without replacement by loss; or a batch selector, called as
            ``f(loss, budget=, generator=)``; of what it returns the positions count.

    Raises:
        ArgumentError: an option out of range.

    References:
        cifar10-airbench, `airbench96_faster.py` (a proxy chosen by FLOPs, half of each batch, one update in four;
        dynamic.md 7), where the proxy goes ahead through the whole schedule: `recorded` and `Replay` do that.

    >>> InBatch(keep=0.5).pool(128)
    256
    """

    keep: float
    proxy: nn.Module | None = None
    every: int = 4
    by: Literal["highest", "drawn"] | BatchSelector = "highest"

    def __post_init__(self) -> None:
        check.number("keep", self.keep, 1e-6, 1)
        if self.keep == 1:
            raise ArgumentError("keep must be below 1, got 1: a batch of which all is kept needs no choosing")
        check.number("every", self.every, 1, 2**31, integer=True)
        if self.proxy is not None and not isinstance(self.proxy, nn.Module):
            raise ArgumentError(f"proxy must be a network (nn.Module) or None, got {self.proxy!r}")
        if not callable(self.by):
            check.one_of("by", self.by, ("highest", "drawn"))

    def pool(self, batch: int) -> int:
        """How many examples a step loads to train on ``batch``."""
        return max(batch, round(batch / self.keep))

    def choose(self, loss: Any, *, budget: int, generator: torch.Generator) -> Tensor:
        """Positions in a batch.

        Args:
            loss: (b,) float, one an example of the batch.
            budget: how many to keep, 1 to b.
            generator: CPU `torch.Generator`, for ties and draws.

        Returns:
            (budget,) int64 on the CPU.

        Raises:
            ArgumentError: losses that are not (b,) or not finite; a selector of one's own that gives something else.
        """
        values = losses("loss", loss)
        if self.by == "highest":
            return top(values, budget, generator)
        if self.by == "drawn":
            return by_weight(values, budget, generator)
        return _positions(self.by(values, budget=budget, generator=generator), budget, len(values))


def _positions(answer: Any, budget: int, size: int) -> Tensor:
    """What a selector of one's own chose, if that is ``budget`` positions in a batch of ``size``."""
    if not isinstance(answer, tuple) or not answer or not isinstance(answer[0], Tensor):
        raise ArgumentError(
            f"by must return (positions, weights), as batch selectors do, with positions a tensor, got {answer!r:.200}"
        )
    found = answer[0].detach().cpu()
    if found.ndim != 1 or found.is_floating_point() or found.is_complex() or found.dtype is torch.bool:
        raise ArgumentError(
            f"by must return positions as ({budget},) whole numbers, got {found.dtype} of shape {tuple(found.shape)}"
        )
    if len(found) != budget:
        raise ArgumentError(f"by must keep {budget} of a batch of {size}, but kept {len(found)}")
    if len(torch.unique(found)) < budget or not 0 <= int(found.min()) <= int(found.max()) < size:
        raise ArgumentError(f"by must return {budget} different positions from 0 to {size - 1}, got {found.tolist()}")
    return found.to(torch.int64)
