"""Selection inside each loaded batch, by the losses of a small proxy network or of the network itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic._batch import by_weight, losses, topk_positions

BatchSelector = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class InBatch:
    """Load more examples than a step trains on, and keep a part of each batch by the losses of a forward pass.

    A step loads ``batch / keep`` examples, a network computes their losses, and the fraction ``keep`` that is chosen is
    trained on. The network is a ``proxy`` that is trained alongside, on the kept examples of one step in ``every``,
    with the recipe of the main network; or, without one, the main network itself. Batch statistics of either are those
    of the loaded batch, and running statistics do not change.

    The cost per example loaded is a third of a trained example times the network's share of the main network's FLOPs,
    for the forward pass; and that share of a trained example for each that the proxy trains on. With a proxy of a tenth
    and keep 0.5 that is 0.033 + 0.5 * 0.1 / 4 = 0.046 beside the 0.5 of the training.

    Args:
        keep: fraction of each loaded batch that is trained on, in (0, 1).
        proxy: a network with as many classes, trained in place; None for the main network itself.
        every: steps from one update of the proxy to the next.
        selector: ``"highest"`` loss; ``"drawn"`` without replacement by loss; or a batch selector, called as
            ``f(loss, budget=, generator=)``, of whose result only the positions are used.

    Raises:
        ArgumentError: an option out of range.

    References:
        cifar10-airbench, `airbench96_faster.py` (a proxy chosen by FLOPs, half of each batch, one update in
        four), where the proxy runs through the full schedule beforehand: `recorded` and `Replay` do that.

    >>> InBatch(keep=0.5).pool(128)
    256
    """

    keep: float
    proxy: nn.Module | None = None
    every: int = 4
    selector: Literal["highest", "drawn"] | BatchSelector = "highest"

    def __post_init__(self) -> None:
        check.number("keep", self.keep, 1e-6, 1)
        if self.keep == 1:
            raise ArgumentError("keep must be below 1, got 1: with 1 there is nothing to choose")
        check.number("every", self.every, 1, 2**31, integer=True)
        if self.proxy is not None and not isinstance(self.proxy, nn.Module):
            raise ArgumentError(f"proxy must be a network (nn.Module) or None, got {self.proxy!r}")
        if not callable(self.selector):
            check.one_of("selector", self.selector, ("highest", "drawn"))

    def pool(self, batch: int) -> int:
        """Number of examples that a step loads to train on ``batch``."""
        # Rounding may not load fewer examples than the step trains on.
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
            ArgumentError: losses that are not (b,) or not finite; a custom selector that returns something else.
        """
        # On the CPU: one transfer from the device, and draws that are the same on every device.
        values = losses("loss", loss)
        if self.selector == "highest":
            return topk_positions(values, budget, generator)
        if self.selector == "drawn":
            return by_weight(values, budget, generator)
        return _positions(self.selector(values, budget=budget, generator=generator), budget, len(values))


def _positions(answer: Any, budget: int, size: int) -> Tensor:
    """The positions that a custom selector returned, checked to be ``budget`` of a batch of ``size``."""
    if not isinstance(answer, tuple) or not answer or not isinstance(answer[0], Tensor):
        raise ArgumentError(
            "selector must return (positions, weights), as batch selectors do, with positions a tensor, got "
            f"{answer!r:.200}"
        )
    positions = answer[0].detach().cpu()
    if positions.ndim != 1 or positions.is_floating_point() or positions.is_complex() or positions.dtype is torch.bool:
        raise ArgumentError(
            f"selector must return positions as ({budget},) whole numbers, got {positions.dtype} of shape "
            f"{tuple(positions.shape)}"
        )
    if len(positions) != budget:
        raise ArgumentError(f"selector must keep {budget} of a batch of {size}, but kept {len(positions)}")
    if len(torch.unique(positions)) < budget or not 0 <= int(positions.min()) <= int(positions.max()) < size:
        raise ArgumentError(
            f"selector must return {budget} different positions from 0 to {size - 1}, got {positions.tolist()}"
        )
    return positions.to(torch.int64)
