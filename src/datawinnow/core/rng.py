"""Randomness by purpose: ``stream(seed, "select", "beta")`` and never ``seed + epoch``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed hashed from the path, so that two purposes never share a stream."""
    # the type is part of the text: ("order", 1) and ("order", "1") differ; so do ("a", "bc") and ("ab", "c")
    text = "\x1f".join([f"{type(item).__name__}:{item}" for item in (seed, *path)])
    # one bit is dropped: the seed fits a signed 64-bit integer
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, *path: str | int) -> torch.Generator:
    """A fresh CPU generator for one purpose.

    Args:
        seed: the run's seed.
        path: the purpose, for example ``"order", epoch``.

    Returns:
        A `torch.Generator` seeded from a hash of ``(seed, *path)``; the same path gives the same numbers.

    >>> import torch
    >>> a, b = stream(0, "order", 1), stream(0, "order", 1)
    >>> bool((torch.rand(3, generator=a) == torch.rand(3, generator=b)).all())
    True
    """
    return torch.Generator().manual_seed(derive(seed, *path))


@contextmanager
def forked(seed: int, *path: str | int) -> Iterator[None]:
    """Seed torch's global generator for code that draws from it (weight initialisation, dropout), and restore it.

    The global state of the CPU and of every CUDA device is restored at the end.
    """
    # all devices: manual_seed below seeds every one of them
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, *path))
        yield
