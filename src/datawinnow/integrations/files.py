"""A sampler's state as one file that is no pickle: tensors as safetensors, the rest as JSON in its header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from datawinnow.core.artifacts import read_tensors, write_tensors

SAMPLER_FILE_NAME = "policy_sampler.safetensors"
"""Name of the file beside the weights in a checkpoint."""
SAMPLER_KIND = "state of a PolicySampler"


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a ``sampler.state_dict()`` atomically.

    Raises:
        RunError: the disk is full.
    """
    tensors: dict[str, Tensor] = {}

    def without_tensors(value: Any, name: str) -> Any:
        if isinstance(value, Tensor):
            tensors[name] = value
            # A placeholder by which `load_state` finds the tensor again.
            return {"tensor": name}
        if isinstance(value, Mapping):
            return {key: without_tensors(item, f"{name}/{key}" if name else key) for key, item in value.items()}
        return value

    tree = without_tensors(state, "")  # fills tensors
    write_tensors(path, tensors, {"state": tree}, kind=SAMPLER_KIND)


def load_state(path: Path) -> dict[str, Any]:
    """Read a state that `save_state` wrote.

    Raises:
        RunError: no such file, truncated, or another kind of file.
    """
    remedy = f"remove {path.parent} and resume from the checkpoint before it"
    missing = (
        "the checkpoint was not written by a trainer with a PolicySampler, or the run was killed while writing it; "
        f"{remedy}"
    )
    tensors, metadata = read_tensors(path, kind=SAMPLER_KIND, missing=missing, remedy=remedy)

    def with_tensors(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return tensors[value["tensor"]] if set(value) == {"tensor"} else {k: with_tensors(v) for k, v in value.items()}

    return {key: with_tensors(value) for key, value in metadata["state"].items()}
