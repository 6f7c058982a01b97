"""The pixels that are learned: gradient descent with momentum on one tensor, all classes at once or in turns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Pixels:
    """(classes * per_class, channels, height, width) images, class by class, and their momentum.

    Args:
        start: where they begin; not changed.
        classes: number of classes.
        momentum: m of ``v <- m v + g``, ``x <- x - lr v``.
        in_turns: step after each class, as IDM does: one optimiser holds all images, so while a class takes its step
            the others drift on by their momentum. A class's gradient depends on its own images only, so the places at
            which the classes would arrive at their turns are known ahead: all gradients are taken there in one go, and
            the result is that of the turns.
    """

    def __init__(self, start: Tensor, classes: int, momentum: float, *, in_turns: bool = False) -> None:
        self.x = start.clone()
        self.velocity = torch.zeros_like(self.x)
        self.momentum = momentum
        turn = torch.arange(len(start), device=start.device) // (len(start) // classes)
        none = torch.zeros_like(turn)
        self.before = self._drift(turn if in_turns else none)
        self.after = self._drift(classes - 1 - turn if in_turns else none)

    def _drift(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """After ``steps`` steps without a gradient: factors of the way gone (m + m^2 + ...) and of the velocity."""
        m, s = self.momentum, steps.double()
        left = m**s
        way = m * (1 - left) / (1 - m)
        return way.float().view(-1, 1, 1, 1), left.float().view(-1, 1, 1, 1)

    def ahead(self, lr: float) -> Tensor:
        """Where each class's gradient is taken: a leaf that wants one."""
        return (self.x - lr * self.before[0] * self.velocity).requires_grad_()

    def step(self, gradient: Tensor, lr: float) -> None:
        """One step of every class, from where `ahead` put it."""
        x = self.x - lr * self.before[0] * self.velocity
        velocity = self.momentum * self.before[1] * self.velocity + gradient
        self.x = x - lr * (1 + self.after[0]) * velocity
        self.velocity = self.after[1] * velocity

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {"images": self.x, "velocity": self.velocity}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """From what `tensors` gave."""
        self.x, self.velocity = tensors["images"].to(self.x.device), tensors["velocity"].to(self.x.device)
