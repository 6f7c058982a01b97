"""What a saved sampler says about itself, in plain values that any checkpoint takes, and how it is compared."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection

VERSION = 1
"""Of the sampler's ``state_dict``; a higher one is refused."""


def described(value: Any) -> Any:
    """A policy, or an option of one, as plain values; wrapped policies as they are nested, arrays by their hash.

    >>> described((1, "mean"))
    [1, 'mean']
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        options = {f.name: described(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"name": type(value).__name__, "options": options}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Tensor, np.ndarray)):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        return f"{array.dtype}{list(array.shape)} sha256:{hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    if isinstance(value, Mapping):
        return {str(key): described(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(one) for one in value]
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{getattr(value, '__module__', type(value).__module__)}.{name}"


def spelled(policy: Any) -> str:
    """A policy with all its options in a line: two policies share it only if they choose alike.

    Unlike ``repr``, arrays are told by their hash, and nothing by its address in memory.

    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> spelled(RandomPruning(keep=0.5))
    'RandomPruning(keep=0.5)'
    """

    def text(value: Any) -> str:
        if isinstance(value, dict) and set(value) == {"name", "options"}:
            return f"{value['name']}({', '.join(f'{k}={text(v)}' for k, v in value['options'].items())})"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k}: {text(v)}" for k, v in value.items()) + "}"
        return "[" + ", ".join(map(text, value)) + "]" if isinstance(value, list) else repr(value)

    return text(described(policy))


def digest(plan: Selection) -> int:
    """A number that two plans share only if they have the same ids in the same order with the same weights."""
    odd = torch.arange(1, 2 * len(plan), 2)
    mixed = (plan.index + 1) * odd + plan.weight.view(torch.int32).long() * (odd + 2**33)
    return int(mixed.sum()) & (2**62 - 1)  # room for its negative


def check_same(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse the state of another sampler.

    Args:
        saved: the state to load.
        own: ``n``, ``fingerprint``, ``policy``, ``seed`` and ``length`` (steps, batch and drop_last, as far as they
            set how long an epoch is) of the sampler that loads it.

    Raises:
        RunError: not a sampler's state, of a newer version, or of another dataset, policy, option or seed; it names
            both sides.
    """
    missing = [name for name in ("version", *own) if name not in saved]
    if missing:
        raise RunError(f"this is no state of a PolicySampler: it has no {', '.join(missing)}")
    if saved["version"] > VERSION:
        raise RunError(
            f"the saved sampler is of version {saved['version']}, this datawinnow reads up to {VERSION}: upgrade it"
        )
    if saved["n"] != own["n"]:
        raise RunError(f"the saved sampler is about n={saved['n']} examples, this one about n={own['n']}")
    prints = (saved["fingerprint"], own["fingerprint"])
    if None not in prints and prints[0] != prints[1]:
        raise RunError(f"the saved sampler is of the dataset with fingerprint {prints[0]}, this one of {prints[1]}")
    if saved["policy"] != own["policy"]:
        raise RunError(f"the saved sampler has the policy {saved['policy']}, this one {own['policy']}")
    if saved["length"] != own["length"]:
        raise RunError(
            f"the saved sampler has epochs of {saved['length']}, this one of {own['length']}: give the same "
            "steps, batch and drop_last"
        )
    if saved["seed"] != own["seed"]:
        raise RunError(f"the saved sampler has seed {saved['seed']}, this one {own['seed']}: orders would differ")
