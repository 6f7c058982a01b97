"""The mode of a network: training or evaluation, module by module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def restore_mode(model: nn.Module) -> Iterator[None]:
    """Put every module of ``model`` back into the mode in which it was, at the end and after an error.

    ``model.train(was_training)`` would not do: a batch norm that was frozen in a network in training mode would train
    again.

    Args:
        model: the network.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).eval())
    >>> with restore_mode(model):
    ...     _ = model.eval()
    >>> model.training, model[1].training
    (True, False)
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
