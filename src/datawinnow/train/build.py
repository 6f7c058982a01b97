"""The network of a training: built for a dataset, and checked against it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import forked
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.models import build, choose
from datawinnow.models.registry import name_of_model
from datawinnow.text.pretrained import is_pretrained
from datawinnow.train.network import check_outputs, size_plan
from datawinnow.train.size_schedule import SizeSchedule

Model = str | Callable[..., nn.Module] | nn.Module | None
"""A name, ``"module:function"``, a class or function that returns a network, a network, which is copied with its
weights, or None to choose by the shape of the examples."""


def build_network(
    model: Model, info: DatasetInfo, seed: int, options: Mapping[str, Any] | None = None
) -> tuple[nn.Module, str, str]:
    """A fresh network for a dataset.

    Args:
        model: see `Model`.
        info: of the dataset.
        seed: of the weights; those of a network that is given are copied.
        options: keyword arguments of the model.

    Returns:
        The network, its name, and a sentence on why it was chosen (``""`` where ``model`` names it).

    Raises:
        ArgumentError: unknown model or options, or a network for another kind of examples.
    """
    reason = ""
    if not info.classes and (model is None or isinstance(model, str)):
        raise ArgumentError(
            f"{info.name!r} has no classes, so its network cannot be chosen or built by name: give model= a "
            "torch.nn.Module, or a class or function that returns one, with the outputs that your loss takes"
        )
    if model is None:
        model, reason = choose(info.shape, accelerator=torch.cuda.is_available(), vocabulary=info.vocabulary)
    with forked(seed, "weights"):
        network = build_for(model, info, options or {})
    return network, network_identity(model), reason


def network_identity(model: Any) -> str:
    """The name of a model; of a network with a digest of its weights, so that two of one class are told apart."""
    name = name_of_model(model)
    return f"{name} with weights {_weights_digest(model)}" if isinstance(model, nn.Module) else name


def build_for(
    model: str | Callable[..., nn.Module] | nn.Module, info: DatasetInfo, options: Mapping[str, Any]
) -> nn.Module:
    """`build` with the shape and classes of a dataset; the weights draw from torch's global generator.

    Raises:
        ArgumentError: as of `build`, or an option that follows from the data.
    """
    by_data = sorted({"model", "shape", "classes", "vocabulary", "tokenizer", "normalisation"} & set(options))
    if by_data:
        raise ArgumentError(f"model {name_of_model(model)!r}: {by_data[0]} follows from the data and is no option")
    return build(
        model,
        shape=info.shape,
        classes=len(info.classes),
        vocabulary=info.vocabulary,
        tokenizer=info.tokenizer,
        normalisation=info.normalisation if is_pretrained(model) else None,
        **options,
    )


def takes_sizes(
    schedule: SizeSchedule, model: Model, info: DatasetInfo, options: Mapping[str, Any] | None = None
) -> bool:
    """Whether a network takes a dataset's examples at every size of a schedule."""
    try:
        network, _, _ = build_network(model, info, 0, options)
        size_plan(schedule, network, info.data, torch.device("cpu"))
    except ArgumentError:
        return False
    return True


def _weights_digest(model: nn.Module) -> str:
    """8 hex digits of a hash over the weights and buffers of a network."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(key.encode())
        if not isinstance(value, (UninitializedParameter, UninitializedBuffer)):
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:8]


def check_outputs_for(model: nn.Module, info: DatasetInfo, seed: int = 0) -> None:
    """`check_outputs` of a network for a dataset, before anything is written; lazy layers are initialised.

    `fit` checks too, but cannot know the classes of a dataset that does not name them.

    Raises:
        ArgumentError: with the numbers of the network and of the dataset.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    check_outputs(model, info.data, device, classes=len(info.classes), name=info.name, seed=seed)


def resolve_network(model: Model, info: DatasetInfo, seed: int) -> nn.Module:
    """The network to train: that of the user itself, or a fresh one.

    Raises:
        ArgumentError: something else than a `Model`.
    """
    if isinstance(model, nn.Module):
        return model
    if model is not None and not isinstance(model, str) and not callable(model):
        raise ArgumentError(
            f"model must be a torch.nn.Module, its name, or a class or function that returns one, got {model!r}"
        )
    return build_network(model, info, seed)[0]
