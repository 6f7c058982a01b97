"""A sampler's state as one file that is no pickle: tensors as safetensors, the rest as JSON in its header."""

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

FILE = "policy_sampler.safetensors"
"""Its name beside the weights in a checkpoint."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what ``sampler.state_dict()`` gave, whole.

    Raises:
        RunError: the disk is full.
    """
    tensors: dict[str, Tensor] = {}

    def plain(value: Any, at: str) -> Any:
        if isinstance(value, Tensor):
            tensors[at] = value.contiguous()
            return {"tensor": at}
        if isinstance(value, Mapping):
            return {key: plain(one, f"{at}/{key}" if at else key) for key, one in value.items()}
        return value

    text = json.dumps(plain(state, ""))
    with written_whole(path) as part:
        save_file(tensors, part, metadata={"state": text})


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote.

    Raises:
        RunError: no such file, or it is something else.
    """
    if not path.is_file():
        raise RunError(
            f"{path} is missing: the checkpoint was not written by a trainer with a PolicySampler, or the run was "
            f"killed before it was whole; remove {path.parent} and resume from the checkpoint before it"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("state", "")
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        state = json.loads(header)
    except (SafetensorError, ValueError) as error:
        raise RunError(f"{path} is not the state of a PolicySampler: {error}") from error

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return tensors[value["tensor"]] if set(value) == {"tensor"} else {k: whole(v) for k, v in value.items()}
        return value

    return {key: whole(value) for key, value in state.items()}
