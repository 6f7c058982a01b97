"""A checkpoint of a condensation: images, momentum and networks in one file, from which it ends the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from datawinnow.core.errors import RunError
from datawinnow.core.files import FORMAT_VERSION, check_format, write_bytes

KIND = "condensing"


def fingerprint(images: Tensor, labels: Tensor) -> str:
    """16 hex digits of a hash over shapes, labels and every value."""
    digest = hashlib.sha256(f"{tuple(images.shape)} {images.dtype}".encode())
    digest.update(labels.cpu().numpy().tobytes())
    for first in range(0, len(images), 4096):
        part = images[first : first + 4096].contiguous().cpu()
        digest.update((part if part.dtype is torch.uint8 else part.float()).numpy().tobytes())
    return digest.hexdigest()[:16]


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write ``tensors`` and ``facts`` (JSON) whole.

    Raises:
        RunError: the disk is full.
    """
    text = json.dumps({"format": FORMAT_VERSION, "kind": KIND, **metadata})
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, metadata={"datawinnow": text}))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_checkpoint` wrote.

    Raises:
        RunError: truncated, newer, or no checkpoint of a condensation.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = json.loads((file.metadata() or {}).get("datawinnow", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise RunError(f"{path} is truncated or damaged ({error}); remove it to begin again") from None
    check_format(metadata.get("format"), path)
    if metadata.get("kind") != KIND:
        raise RunError(f"{path} is no checkpoint of a condensation; give another path")
    return tensors, metadata


def same_run(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings or data than a checkpoint was begun with.

    Raises:
        RunError: naming the first difference.
    """
    for name in sorted({*before, *now}):
        # compared as JSON, as the checkpoint holds it: a tuple is a list there
        was, wanted = before.get(name), json.loads(json.dumps(now.get(name)))
        if was != wanted:
            raise RunError(
                f"{path} was begun with {name}={was!r}, and is asked to go on with {wanted!r}: give the settings that "
                "it was begun with, or another checkpoint"
            )
