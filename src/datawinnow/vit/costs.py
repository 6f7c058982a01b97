"""The operations and seconds of a training step at each level, compared with the dense network."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.operations import flop_counter
from datawinnow.vit.sparsify import Rates, Sparsity

COST_LEVELS = ("dense", "tokens", "attention", "tokens and attention")


@dataclass(frozen=True)
class LevelCost:
    """The cost of one level, compared with the dense network.

    Attributes:
        level: of `COST_LEVELS`.
        flops: operations of one example, forward and backward (2 per multiply-add).
        forward_flops: of the forward pass alone.
        seconds: of a step on the batch, forward and backward; the median over rounds. NaN where not timed.
        flops_ratio: ``flops`` over the dense network's.
        seconds_ratio: seconds over the dense network's of the same round; the median over rounds. NaN where not timed.
    """

    level: str
    flops: float
    forward_flops: float
    seconds: float
    flops_ratio: float
    seconds_ratio: float


def level_costs(model: nn.Module, x: Tensor, *, rounds: int = 0) -> list[LevelCost]:
    """Count, and time, a step at each level of a sparse vision transformer, at its final rates.

    Args:
        model: a sparse model; a copy of it is run in training mode.
        x: (b, channels, h, w) a batch on the model's device.
        rounds: timed rounds, each of which runs every level once; 0 counts operations and times nothing.

    Returns:
        A `LevelCost` for each of `COST_LEVELS`; a level that is off costs as much as ``dense``.

    Raises:
        ArgumentError: the model is not sparse.
    """
    check.number("rounds", rounds, 0, 1 << 20, integer=True)
    # A copy, so that gradients and the last pass of the caller's model stay.
    trial = copy.deepcopy(model).train()
    sparsity = sparsity_of(trial)
    final = sparsity.final
    rates = (Rates(1, 1), Rates(final.tokens, 1), Rates(1, final.attention), final)
    counted = [_count_flops(trial, x[:1], each) for each in rates]
    taken: list[list[float]] = [[] for _ in COST_LEVELS]
    # Round -1 warms up (kernels, allocator) and is not counted.
    for turn in range(-1, rounds) if rounds else ():
        # The order alternates, so that a machine that slows down does not favour one level.
        for i in range(4) if turn % 2 else reversed(range(4)):
            seconds = _time_step(trial, x, rates[i])
            if turn >= 0:
                taken[i].append(seconds)
    rows = []
    for i, level in enumerate(COST_LEVELS):
        # Ratios within a round: both steps saw the same load of the machine.
        pairs = [a / b for a, b in zip(taken[i], taken[0], strict=True)]
        forward, total = counted[i]
        times = (statistics.median(taken[i]), statistics.median(pairs)) if pairs else (float("nan"), float("nan"))
        rows.append(LevelCost(level, total, forward, times[0], total / counted[0][1], times[1]))
    return rows


def sparsity_of(model: nn.Module) -> Sparsity:
    """The `Sparsity` of a model.

    Raises:
        ArgumentError: it is not sparse.
    """
    sparsity: Any = getattr(model, "sparsity", None)
    if not isinstance(sparsity, Sparsity):
        raise ArgumentError(f"model must be sparse, got a plain {type(model).__name__}: call vit.sparsify(model) first")
    return sparsity


@torch.no_grad()
def kept_patches(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The patches kept after each block of ``at``, in evaluation mode.

    Args:
        model: a sparse model.
        x: (b, channels, h, w).

    Returns:
        For each block of ``at`` (b, m) int64 patches, ascending, counted row by row from 0.

    Raises:
        ArgumentError: the model is not sparse.
    """
    sparsity = sparsity_of(model)
    if sparsity.final.tokens == 1:  # no patch is dropped
        rows, columns = sparsity.anatomy.grid(x.shape[-2], x.shape[-1])
        return [torch.arange(rows * columns).expand(len(x), -1) for _ in sparsity.at]
    with restore_mode(model):
        model.eval()(x)
    return [ids.cpu() for ids in sparsity.kept]


def _logits(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else out[0] if isinstance(out, tuple) else out.logits


def _count_flops(model: nn.Module, x: Tensor, rates: Rates) -> tuple[float, float]:
    with sparsity_of(model).fixed_rates(rates), torch.enable_grad(), flop_counter() as counted:
        loss = _logits(model(x)).float().sum()
        forward = counted.get_total_flops()
        torch.autograd.backward(loss)
    return float(forward), float(counted.get_total_flops())


def _time_step(model: nn.Module, x: Tensor, rates: Rates) -> float:
    start = time.perf_counter()
    with sparsity_of(model).fixed_rates(rates), torch.enable_grad():
        torch.autograd.backward(_logits(model(x)).float().sum())
    if x.is_cuda:
        # CUDA calls return before the work is done.
        torch.cuda.synchronize()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - start
