"""The state of a sampler as one safetensors file, with the values that are no tensors as JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from datawinnow.core.errors import RunError
from datawinnow.core.files import written_whole

SAMPLER_FILE_NAME = "policy_sampler.safetensors"
"""Name of the file beside the weights in a checkpoint."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a ``sampler.state_dict()`` atomically.

    Raises:
        RunError: the disk is full.
    """
    tensors: dict[str, Tensor] = {}

    def without_tensors(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = value.contiguous()
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {key: without_tensors(item, f"{name}/{key}" if name else key) for key, item in value.items()}
        return value

    text = json.dumps(without_tensors(state, ""))
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata={"state": text})


def load_state(path: Path) -> dict[str, Any]:
    """Read a state that `save_state` wrote.

    Raises:
        RunError: no such file, or another kind of file.
    """
    if not path.is_file():
        raise RunError(
            f"{path} is missing: the checkpoint was not written by a trainer with a PolicySampler, or the run was "
            f"killed while writing it; remove {path.parent} and resume from the checkpoint before it"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("state", "")
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        state = json.loads(header)
    except (SafetensorError, ValueError) as error:
        raise RunError(f"{path} is not the state of a PolicySampler: {error}") from error

    def with_tensors(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return tensors[value["tensor"]] if set(value) == {"tensor"} else {k: with_tensors(v) for k, v in value.items()}

    return {key: with_tensors(value) for key, value in state.items()}
