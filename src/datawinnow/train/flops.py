"""FLOPs of one example, by torch's own counter."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from datawinnow.core.curvature import input_curvature
from datawinnow.core.operations import counter


def flops_per_example(model: nn.Module, x: Tensor) -> tuple[float, float]:
    """Forward and backward floating-point operations of one example.

    A copy of the network is run in evaluation mode (so that batch norm takes one example) on the rows of ``x``. A model
    that cannot be copied or counted gives zeros rather than stopping a training run over a statistic.

    Args:
        model: the network.
        x: (b, ...) a small batch.

    Returns:
        Forward, backward (both counted as 2 per multiply-add).
    """
    try:
        trial = copy.deepcopy(model).eval()
        with counter() as counted:
            trial(x)
        forward = float(counted.get_total_flops())
        with torch.enable_grad(), counter() as counted:
            torch.autograd.backward(trial(x).float().sum())
        total = float(counted.get_total_flops())
    except Exception:  # whatever a network from outside raises; if it cannot train either, training says so
        return 0.0, 0.0
    return forward / len(x), (total - forward) / len(x)


def curvature_passes(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """What the curvature of an example costs in training, in passes of it forward and backward, by counted operations.

    Args:
        model: the network.
        x: (b, ...) a small batch.
        y: (b,) its labels.

    Returns:
        The ratio; 4 (two gradients, each differentiated once more) for a network that cannot be counted.
    """
    plain = sum(flops_per_example(model, x)) * len(x)
    if not plain:
        return 4.0
    trial = copy.deepcopy(model).eval()
    with torch.enable_grad(), counter() as counted:
        torch.autograd.backward(input_curvature(trial, x, y, create_graph=True).sum())
    return float(counted.get_total_flops()) / plain
