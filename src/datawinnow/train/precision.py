"""Arithmetic of a training: bf16 and channels-last where they are measured to be faster; the last layer is float32."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.core.memory_format import channels_last_works

PRECISIONS = ("auto", "fp32", "bf16")


def autocast(device: torch.device, precision: str) -> Any:
    """A context of autocast to bf16, or of nothing for ``"fp32"``."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


class _Float32Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # named as in `nn.Linear`
        # autocast casts inputs of F.linear to bf16 again unless it is switched off
        with torch.autocast(input.device.type, enabled=False):
            return F.linear(input.float(), self.weight.float(), None if self.bias is None else self.bias.float())


@contextmanager
def float32_head(model: nn.Module) -> Iterator[None]:
    """Run the last linear layer in float32 under autocast; a network without one is unchanged.

    bf16 has 8 bits of precision: logits of a bf16 last layer tie, and so would the recorded probabilities. The layer
    gets another class rather than another ``forward``, which would be bound to this layer: a copy of the model made
    meanwhile works by itself. A subclass of `nn.Linear` is unchanged.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not layers or type(layers[-1]) is not nn.Linear:
        yield
        return
    layers[-1].__class__ = _Float32Linear
    try:
        yield
    finally:
        layers[-1].__class__ = nn.Linear


TRIAL_SECONDS = 5.0
"""Seconds that the trial steps of `fastest_precision`, and those of an estimate, may take on a CPU."""


HOPELESS = 3.0
"""A form with a step of this many times float32's is tried no further: bf16 takes 15 times as long on some CPUs."""


def trial_count(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    num_steps: int,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
) -> int:
    """Examples of a batch with which ``num_steps`` training steps take at most `TRIAL_SECONDS` on a CPU, at least 2.

    Elsewhere all: a GPU is as fast with many examples as with few.

    Args:
        model: the network; a copy is trained on two examples.
        x: a batch on the device.
        y: its labels.
        num_steps: of the trial.
        loss: as for `fastest_precision`.
    """
    if x.device.type != "cpu" or len(x) <= 2:
        return len(x)
    # the first step warms up
    seconds = step_seconds(model, x[:2], y[:2], "fp32", False, 1, loss, warm_up=1) / 2
    return max(2, min(len(x), int(TRIAL_SECONDS / (num_steps * seconds))))


def fastest_precision(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    rounds: int = 4,
    gain: float = 1.1,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
) -> tuple[str, bool, str]:
    """Time a few steps in each arithmetic and choose the fastest, if it beats plain float32 by ``gain``.

    Args:
        model: the network; a copy is trained.
        x: a batch on the device.
        y: its labels.
        rounds: timed steps of each (the median counts).
        loss: one loss an example from what the network returns and y; None for the cross-entropy of logits.
        gain: factor by which another must be faster than float32, so that noise does not decide.

    Returns:
        Precision, channels-last or not, and a sentence with the times.
    """
    has_formats = x.ndim == 4 and channels_last_works(model, x.device)
    forms = [("fp32", False), ("bf16", False)] + ([("fp32", True), ("bf16", True)] if has_formats else [])
    count = trial_count(model, x, y, num_steps=len(forms) * (rounds + 2), loss=loss)
    x, y = x[:count], y[:count]
    plain = step_seconds(model, x, y, *forms[0], rounds, loss)
    times = {forms[0]: plain}
    for form in forms[1:]:
        try:
            times[form] = step_seconds(model, x, y, *form, rounds, loss, limit=HOPELESS * plain)
        except (RuntimeError, NotImplementedError):  # an operation without a bf16 or channels-last form
            times[form] = math.inf
    best = min(times, key=lambda form: times[form])
    if times[best] * gain > plain:
        best = ("fp32", False)
    shown = ", ".join(f"{p}{' channels-last' if c else ''} {1000 * s:.1f} ms" for (p, c), s in times.items())
    return best[0], best[1], f"measured per step: {shown}"


def step_seconds(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    precision: str,
    channels_last: bool,
    rounds: int,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    warm_up: int = 2,
    limit: float = math.inf,
) -> float:
    """Seconds of a training step in one form, the median of ``rounds`` after ``warm_up`` that are not timed.

    A step after the first that takes longer than ``limit`` seconds is the last, and its time is returned.
    """
    # a copy a form: weights, gradients and running statistics of the model stay as they are
    trial = copy.deepcopy(model).train()
    if channels_last:
        trial = trial.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.contiguous(memory_format=torch.channels_last)
    seconds = []
    with float32_head(trial):
        for _ in range(rounds + warm_up):
            start = time.perf_counter()
            with autocast(x.device, precision):
                outputs = trial(x)
            outputs = outputs.float() if isinstance(outputs, Tensor) else outputs
            torch.autograd.backward(F.cross_entropy(outputs, y) if loss is None else loss(outputs, y).mean())
            # CUDA runs behind the host: without waiting only the launches would be timed
            if x.is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
            # the first step may compile or allocate
            if len(seconds) > 1 and seconds[-1] > limit:
                return seconds[-1]
    return sorted(seconds[warm_up:])[rounds // 2]


def check_precision(precision: str) -> str:
    """Return ``precision`` if it is one of `PRECISIONS`.

    Raises:
        ArgumentError: it is not.
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return precision
