"""Checkpoints as safetensors and JSON: everything needed to go on to the same bytes, and nothing unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from datawinnow.core.errors import RunError
from datawinnow.core.files import FORMAT_VERSION, check_format, remove_parts, write_bytes


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    metadata: dict[str, Any],
    planned: dict[str, Tensor] | None = None,
) -> None:
    """Write the network, the optimiser's state, a policy's state (``planned``) and ``facts`` (JSON) whole.

    Raises:
        RunError: the disk is full.
    """
    tensors = {f"model.{k}": v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    scalars: dict[str, Any] = {}
    if optimizer is not None:
        moments, scalars = optimizer_state(optimizer)
        tensors |= moments
    tensors |= {f"policy.{k}": v.contiguous().clone() for k, v in (planned or {}).items()}
    text = json.dumps({"format": FORMAT_VERSION, "scalars": scalars, **metadata})
    remove_parts(path)  # of a kill in the middle of the write that this one makes up for
    # in memory first: safetensors' own writer reports a full disk as an error of its format
    write_bytes(path, save(tensors, metadata={"datawinnow": text}))


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Put a checkpoint back into ``model`` and ``optimizer``.

    Returns:
        The ``facts`` and the policy's ``state`` that it was written with.

    Raises:
        RunError: truncated, of a newer version, or of another network.
    """
    metadata, tensors = _read(path, weights=True)
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    own = model.state_dict()
    if set(weights) != set(own) or any(weights[k].shape != own[k].shape for k in own):
        raise RunError(
            f"{path} holds another network than the one asked for; give its --model, or another --run folder"
        )
    model.load_state_dict(weights)
    if optimizer is not None:
        restore_optimizer(optimizer, tensors, metadata.get("scalars", {}))
    return metadata, {k.removeprefix("policy."): v for k, v in tensors.items() if k.startswith("policy.")}


def read_metadata(path: Path) -> dict[str, Any]:
    """What a checkpoint says of its run, without its weights.

    Raises:
        RunError: truncated, or of a newer version.
    """
    return _read(path, weights=False)[0]


def _read(path: Path, *, weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = json.loads((file.metadata() or {}).get("datawinnow", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()} if weights else {}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise RunError(f"{path} is truncated or damaged ({error}); remove it and run its stage again") from None
    check_format(metadata.get("format"), path)
    return metadata, tensors


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What an optimiser remembers: tensors as ``optimizer.<parameter>.<name>``, and what else is no tensor."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for i, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{i}.{key}"] = value.detach().cpu().contiguous().clone()
            elif value is not None:
                scalars[f"{i}.{key}"] = value
    return tensors, scalars


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    """Put back what `optimizer_state` gave; other tensors are passed over."""
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
