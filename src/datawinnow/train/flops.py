"""Floating-point operations of training on one example, by torch's counter."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from datawinnow.core.curvature import input_curvature
from datawinnow.core.operations import flop_counter


def flops_per_example(model: nn.Module, x: Tensor) -> tuple[float, float]:
    """Forward and backward floating-point operations of one example.

    A copy of the network is run in evaluation mode, where batch norm accepts one example. A model that cannot be copied
    or counted gives zeros: a statistic must not stop a training.

    Args:
        model: the network.
        x: (b, ...) a small batch.

    Returns:
        Forward and backward operations, 2 per multiply-add.
    """
    try:
        # a copy: the count leaves no gradients in the user's network
        trial = copy.deepcopy(model).eval()
        with flop_counter() as counter:
            trial(x)
        forward = float(counter.get_total_flops())
        with torch.enable_grad(), flop_counter() as counter:
            # any scalar will do: the number of operations does not depend on its value
            torch.autograd.backward(trial(x).float().sum())
        total = float(counter.get_total_flops())
    except Exception:  # a user's network may raise anything; if it cannot be trained either, training reports it
        return 0.0, 0.0
    # the second count holds forward and backward; the difference is the backward pass
    return forward / len(x), (total - forward) / len(x)


def curvature_passes(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Cost of an example's curvature in training, in forward and backward passes of it, by counted operations.

    Args:
        model: the network.
        x: (b, ...) a small batch.
        y: (b,) its labels.

    Returns:
        The ratio; 4 (two gradients, each differentiated once more) for a network that cannot be counted.
    """
    per_pass = sum(flops_per_example(model, x)) * len(x)
    if not per_pass:
        return 4.0
    trial = copy.deepcopy(model).eval()
    with torch.enable_grad(), flop_counter() as counter:
        torch.autograd.backward(input_curvature(trial, x, y, create_graph=True).sum())
    return float(counter.get_total_flops()) / per_pass
