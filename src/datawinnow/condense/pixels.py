"""The learned pixels: gradient descent with momentum on one tensor, all classes at once or in turns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class LearnedPixels:
    """(classes * per_class, channels, height, width) images, class by class, and their velocity.

    Args:
        start: initial images; not changed.
        classes: number of classes.
        momentum: m of ``v <- m v + g``, ``x <- x - lr v``.
        in_turns: step after each class, as IDM does. One optimiser holds all images, so the step of a class moves all
            others by their momentum. A class's gradient depends only on its images, so the point that each class
            reaches at its turn can be computed ahead (`lookahead`): all gradients are taken there in one pass, with
            the same result as class after class.
    """

    def __init__(self, start: Tensor, classes: int, momentum: float, *, in_turns: bool = False) -> None:
        self.x = start.clone()
        self.velocity = torch.zeros_like(self.x)
        self.momentum = momentum
        # Class c steps at turn c; all others have moved by their momentum alone before it (c steps) and after it.
        turn = torch.arange(len(start), device=start.device) // (len(start) // classes)
        none = torch.zeros_like(turn)
        self.before = self._drift(turn if in_turns else none)
        self.after = self._drift(classes - 1 - turn if in_turns else none)

    def _drift(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of displacement (m + m^2 + ...) and velocity (m^steps) after ``steps`` steps without a gradient."""
        m, s = self.momentum, steps.double()
        velocity = m**s
        displacement = m * (1 - velocity) / (1 - m)
        # float64 until here: 1 - m^s over 1 - m loses digits for m near 1.
        return displacement.float().view(-1, 1, 1, 1), velocity.float().view(-1, 1, 1, 1)

    def lookahead(self, lr: float) -> Tensor:
        """The images at which gradients are taken, as a leaf that requires gradients."""
        return (self.x - lr * self.before[0] * self.velocity).requires_grad_()

    def step(self, gradient: Tensor, lr: float) -> None:
        """One step of every class, with the gradient at `lookahead`."""
        x = self.x - lr * self.before[0] * self.velocity
        # v <- m v + g, from the velocity that the steps of earlier classes have already damped.
        velocity = self.momentum * self.before[1] * self.velocity + gradient
        # The step itself and the drift by the momentum of all later turns; new tensors, so that a caller may keep the
        # old ones.
        self.x = x - lr * (1 + self.after[0]) * velocity
        self.velocity = self.after[1] * velocity

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint."""
        return {"images": self.x, "velocity": self.velocity}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors of `tensors`."""
        self.x, self.velocity = tensors["images"].to(self.x.device), tensors["velocity"].to(self.x.device)
