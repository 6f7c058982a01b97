"""Checkpoints as safetensors and JSON: enough to resume to the same bytes, and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.artifact_schemas import CheckpointMetadata
from datawinnow.core.artifacts import read_tensor_metadata, read_tensors, write_tensors
from datawinnow.core.errors import RunError
from datawinnow.core.files import remove_partial_files

CHECKPOINT_KIND = "checkpoint"


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    metadata: dict[str, Any],
    selector_state: dict[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint; a file of that name is replaced when the new one is complete.

    Args:
        path: the file.
        model: the network.
        optimizer: its state is written too; None for a network alone.
        metadata: JSON, returned by `read_metadata`.
        selector_state: state of the policy or the in-batch selector.

    Raises:
        RunError: the disk is full.
    """
    # the live tensors: `write_tensors` copies them
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    scalars: dict[str, Any] = {}
    if optimizer is not None:
        moments, scalars = optimizer_state(optimizer)
        tensors |= moments
    tensors |= {f"policy.{k}": v for k, v in (selector_state or {}).items()}
    remove_partial_files(path)  # leftovers of a write that was killed
    write_tensors(path, tensors, {"scalars": scalars, **metadata}, kind=CHECKPOINT_KIND)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Load a checkpoint into ``model`` and ``optimizer``.

    Returns:
        The ``metadata`` and the ``selector_state`` that it was written with.

    Raises:
        RunError: the file is truncated, of a newer version, or of another network.
    """
    tensors, metadata = read_tensors(path, kind=CHECKPOINT_KIND, schema=CheckpointMetadata)
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    current = model.state_dict()
    # before anything is loaded: load_state_dict would leave the model half changed
    if set(weights) != set(current) or any(weights[k].shape != current[k].shape for k in current):
        raise RunError(f"{path} holds another network than this one; give its `model=`, or another `run=` folder")
    model.load_state_dict(weights)
    if optimizer is not None:
        restore_optimizer(optimizer, tensors, metadata.get("scalars", {}))
    return metadata, {k.removeprefix("policy."): v for k, v in tensors.items() if k.startswith("policy.")}


def read_metadata(path: Path) -> dict[str, Any]:
    """Metadata of a checkpoint, without reading its weights.

    Raises:
        RunError: the file is truncated, or of a newer version.
    """
    return read_tensor_metadata(path, kind=CHECKPOINT_KIND, schema=CheckpointMetadata)


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of an optimizer's state, not copied, as ``optimizer.<parameter>.<name>``, and its other values."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for i, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{i}.{key}"] = value
            # SGD without momentum keeps None
            elif value is not None:
                scalars[f"{i}.{key}"] = value
    return tensors, scalars


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    """Restore what `optimizer_state` returned; tensors of other names are ignored."""
    # torch numbers the state by the position of the parameter in the groups
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, i, name = key.split(".", 2)
            parameter = parameters[int(i)]
            # momentum must have the memory format of its parameter, or every later step is slower
            like = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
            optimizer.state[parameter][name] = like.copy_(value)
    for key, scalar in scalars.items():
        i, name = key.split(".", 1)
        optimizer.state[parameters[int(i)]][name] = scalar
