"""Transformers, where they are there: models by name or folder, known again by their content, on the right device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from datawinnow.core.progress import Progress
from datawinnow.instruct.store import Store


def computed(
    store: Store,
    what: str,
    keys: Sequence[bytes | None],
    work: Callable[[list[int]], np.ndarray],
    *,
    batch: int,
    order: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> list[np.ndarray | None]:
    """A vector for every key: from the store, or worked out a batch at a time and kept at once.

    Args:
        store: where results are kept.
        what: the indicator.
        keys: one an example; None for an example that cannot be computed.
        work: vectors (b, d) of the examples at some positions.
        batch: positions a call.
        order: (n,) what to sort the missing by, so that a batch pads little; None keeps their order.
        progress: called with what is done, how far, of how many.

    Returns:
        One a key, None where the key is None.
    """
    there = store.arrays(key for key in keys if key is not None)
    first: dict[bytes, int] = {}
    for i, key in enumerate(keys):
        if key is not None and key not in there:
            first.setdefault(key, i)  # equal contents are computed once
    todo = sorted(first.values(), key=(lambda i: -order[i]) if order is not None else None)
    for begin in range(0, len(todo), batch):
        part = todo[begin : begin + batch]
        made = np.asarray(work(part), dtype=np.float32)
        new = {keys[i]: row for i, row in zip(part, made, strict=True)}
        store.put(what, new)  # type: ignore[arg-type]
        there.update(new)  # type: ignore[arg-type]
        if progress is not None:
            progress(what, begin + len(part), len(todo))
    return [None if key is None else there[key] for key in keys]


def numbers(found: Sequence[np.ndarray | None]) -> torch.Tensor:
    """(n,) float32 of single numbers; NaN where there is none."""
    return torch.tensor([float("nan") if value is None else float(value[0]) for value in found])


def vectors(found: Sequence[np.ndarray | None]) -> torch.Tensor:
    """(n, d) float32; a row of NaN where there is none."""
    width = next((len(value) for value in found if value is not None), 1)
    out = torch.full((len(found), width), torch.nan)
    for i, value in enumerate(found):
        if value is not None:
            out[i] = torch.from_numpy(np.array(value))
    return out
