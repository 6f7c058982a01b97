"""The saved state of a sampler: policies as plain values that any checkpoint takes, and how two are compared."""

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

STATE_VERSION = 1
"""Of the sampler's ``state_dict``; a higher one is refused."""


def to_plain(value: Any) -> Any:
    """A policy, or an option of one, as plain values: wrapped policies nested, arrays as their hash.

    >>> to_plain((1, "mean"))
    [1, 'mean']
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        options = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"name": type(value).__name__, "options": options}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Tensor, np.ndarray)):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        return f"{array.dtype}{list(array.shape)} sha256:{hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    if isinstance(value, Mapping):
        return {str(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(each) for each in value]
    # a function, a class or any other object: by its qualified name, never by its address in memory
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{getattr(value, '__module__', type(value).__module__)}.{name}"


def policy_repr(policy: Any) -> str:
    """A policy with all its options in one line; two policies share it only if they choose alike.

    Unlike ``repr``, it has the hash of an array and no address in memory.

    >>> from datawinnow.dynamic.random_pruning import RandomPruning
    >>> policy_repr(RandomPruning(keep=0.5))
    'RandomPruning(keep=0.5)'
    """

    def text(value: Any) -> str:
        if isinstance(value, dict) and set(value) == {"name", "options"}:
            return f"{value['name']}({', '.join(f'{k}={text(v)}' for k, v in value['options'].items())})"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k}: {text(v)}" for k, v in value.items()) + "}"
        return "[" + ", ".join(map(text, value)) + "]" if isinstance(value, list) else repr(value)

    return text(to_plain(policy))


def plan_digest(plan: Selection) -> int:
    """A number that two plans share only if they have the same ids in the same order with the same weights."""
    # Odd multipliers are invertible modulo 2^64, so each id counts, and differ by position, so the order counts.
    odd = torch.arange(1, 2 * len(plan), 2)
    # Integer arithmetic that wraps around: the sum does not depend on the order of the additions, as a float sum would.
    # Weights enter by their bits.
    mixed = (plan.index + 1) * odd + plan.weight.view(torch.int32).long() * (odd + 2**33)
    return int(mixed.sum()) & (2**62 - 1)  # room for its negative


def check_same_sampler(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Refuse the state of another sampler.

    Args:
        saved: the state to load.
        current: ``n``, ``fingerprint``, ``policy``, ``seed`` and ``length`` (steps, batch and drop_last, where they
            set the length of an epoch) of the sampler that loads it.

    Raises:
        RunError: not the state of a sampler, of a newer version, or of another dataset, policy, option or seed; it
            names both sides.
    """
    missing = [name for name in ("version", *current) if name not in saved]
    if missing:
        raise RunError(f"this is not the state of a PolicySampler: it has no {', '.join(missing)}")
    if saved["version"] > STATE_VERSION:
        raise RunError(
            f"the saved sampler is of version {saved['version']}, this datawinnow reads up to {STATE_VERSION}: "
            "upgrade it"
        )
    if saved["n"] != current["n"]:
        raise RunError(f"the saved sampler is for n={saved['n']} examples, this one for n={current['n']}")
    fingerprints = (saved["fingerprint"], current["fingerprint"])
    # A fingerprint is optional on both sides; one alone proves nothing.
    if None not in fingerprints and fingerprints[0] != fingerprints[1]:
        raise RunError(
            f"the saved sampler is for the dataset with fingerprint {fingerprints[0]}, this one for {fingerprints[1]}"
        )
    # Plain values with hashes, so another array among the options is another policy.
    if saved["policy"] != current["policy"]:
        raise RunError(f"the saved sampler has the policy {saved['policy']}, this one {current['policy']}")
    if saved["length"] != current["length"]:
        raise RunError(
            f"the saved sampler has epochs of {saved['length']}, this one of {current['length']}: give the same "
            "steps, batch and drop_last"
        )
    if saved["seed"] != current["seed"]:
        raise RunError(f"the saved sampler has seed {saved['seed']}, this one {current['seed']}: orders would differ")
