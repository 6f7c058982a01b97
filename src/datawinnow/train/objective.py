"""`Objective`: the loss of each example and what is reported beside it: cross-entropy and accuracy, or the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core.errors import ArgumentError

PerExample = Callable[[Any, Tensor], Tensor]
"""A function of what the network returns and the targets (b, ...): (b,) one number an example."""


@dataclass(frozen=True)
class Objective:
    """What a training minimises and what it reports.

    Attributes:
        loss: one loss an example from what the network returns and y; None for the cross-entropy of logits.
        metric: one number an example, whose mean is reported in place of the accuracy; None for the accuracy, and for
            nothing where y are no class ids.
        label_smoothing: of the cross-entropy.
    """

    loss: PerExample | None = None
    metric: PerExample | None = None
    label_smoothing: float = 0.0

    def losses(self, outputs: Any, y: Tensor) -> Tensor:
        """(b,) losses."""
        if self.loss is None:
            return F.cross_entropy(outputs, y, reduction="none", label_smoothing=self.label_smoothing)
        return self.loss(outputs, y)

    def reported(self, outputs: Any, y: Tensor, correct: Tensor | None) -> Tensor:
        """The sum over a batch of the metric, or of ``correct`` (b,); NaN without either."""
        if self.metric is not None:
            with torch.no_grad():
                values = self.metric(outputs, y)
            _require_one_each("metric", values, len(y))
            return values.float().sum()
        return torch.tensor(torch.nan, device=y.device) if correct is None else correct.sum()

    def check(self, outputs: Any, y: Tensor) -> None:
        """Refuse a loss or metric that does not give one number an example.

        Raises:
            ArgumentError: with the shape that it gives.
        """
        for name, function in (("loss", self.loss), ("metric", self.metric)):
            if function is not None:
                try:
                    values = function(outputs, y)
                except (RuntimeError, ValueError, TypeError, IndexError) as error:
                    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
                    raise ArgumentError(
                        f"the {name} fails on outputs {shape} and targets {tuple(y.shape)} of {y.dtype}: "
                        f"{str(error).strip().splitlines()[0]}"
                    ) from error
                output_shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else None
                # (b, 1) against (b,) broadcasts to every output with every label
                if (
                    len(y) > 1
                    and output_shape == (len(y), 1)
                    and y.ndim == 1
                    and getattr(values, "shape", None) == (len(y),) * 2
                ):
                    raise ArgumentError(
                        f"the {name} pairs every output with every target, as outputs have shape {output_shape} and "
                        f"targets {tuple(y.shape)}: take outputs.squeeze(1) in the {name}"
                    )
                _require_one_each(name, values, len(y))


def _require_one_each(name: str, values: Any, count: int) -> None:
    shape = tuple(values.shape) if isinstance(values, Tensor) else None
    if shape == (count,):
        return
    if shape == ():
        raise ArgumentError(
            f"the {name} returns one number for the batch, but every example needs its own: set reduction='none' (and "
            f"take the mean over what is left, as {name}.flatten(1).mean(1))"
        )
    shown = type(values).__name__ if shape is None else f"shape {shape}"
    raise ArgumentError(
        f"the {name} must return one number an example, shape ({count},), got {shown}: take the mean over the other "
        f"axes, as {name}.flatten(1).mean(1)"
    )


def correct_predictions(outputs: Any, y: Tensor) -> Tensor | None:
    """(b,) bool: whether the largest logit is at the label; None where these are no logits and class ids."""
    is_logits = isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] > 1
    if not is_logits or y.ndim != 1 or y.is_floating_point():
        return None
    return torch.eq(outputs.detach().argmax(1), y)
