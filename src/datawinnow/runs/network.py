"""The network of a run: built for a dataset, and checked against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.rng import forked
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.models import build, choose
from datawinnow.train.network import first_batch

Model = str | Callable[..., nn.Module] | None
"""A name, ``"module:function"``, a function that returns a network, or None to choose by the shape of the examples."""


def build_network(
    model: Model, info: DatasetInfo, seed: int, options: Mapping[str, Any] | None = None
) -> tuple[nn.Module, str, str]:
    """A fresh network for a dataset.

    Args:
        model: see `Model`.
        info: of the dataset.
        seed: of the weights.
        options: keyword arguments of the model.

    Returns:
        The network, its name, and a sentence on why it was chosen (``""`` where ``model`` names it).

    Raises:
        ArgumentError: unknown model or options, or a network for another kind of examples.
    """
    reason = ""
    if model is None:
        model, reason = choose(info.shape, accelerator=torch.cuda.is_available(), vocabulary=info.vocabulary)
    with forked(seed, "weights"):
        network = build(
            model,
            shape=info.shape,
            classes=len(info.classes),
            vocabulary=info.vocabulary,
            tokenizer=info.tokenizer,
            **(options or {}),
        )
    name = model if isinstance(model, str) else getattr(model, "__name__", type(network).__name__)
    return network, name, reason


def check_outputs(model: nn.Module, info: DatasetInfo) -> None:
    """Refuse a network with fewer outputs than the dataset has classes, before anything is written.

    Two examples go through it. `fit` checks too, but cannot know the classes of a dataset that does not name them, and
    PyTorch's own error gives neither number.

    Args:
        model: the network.
        info: of the dataset.

    Raises:
        ArgumentError: with both numbers.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    classes = len(info.classes)
    with forked(0, "outputs"), torch.no_grad(), restore_mode(model):
        _, x, _ = first_batch(info.data, device, 2)
        outputs = model.eval()(x)
    if isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] < classes:
        raise ArgumentError(
            f"the model {type(model).__name__} has {outputs.shape[1]} outputs, but the dataset {info.name!r} has "
            f"{classes} classes: build it with classes={classes}"
        )
