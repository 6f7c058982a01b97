"""Label noise: some labels changed, with the mask of what changed."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.draw import shuffled
from datawinnow.core.errors import ArgumentError

X = TypeVar("X")


@card(
    "scenario",
    "Symmetric label noise",
    "Patrini et al. 2017, Making Deep Neural Networks Robust to Label Noise, arXiv 1609.03683, section 5",
    cost="time O(n), memory O(n)",
)
def symmetric(
    x: X, labels: Any, *, rate: float, generator: torch.Generator, classes: int | None = None
) -> tuple[X, Tensor, Tensor]:
    """Give a fraction of the examples the label of another class, chosen uniformly.

    Exactly ``round(rate * n)`` labels change (halves up), each to one of the other classes and never to itself.

    Args:
        x: the examples, (n, ...); handed back as they are.
        labels: (n,) int, class ids.
        rate: fraction of labels that change, in [0, 1].
        generator: CPU `torch.Generator`, the source of the draw.
        classes: number of classes; None for one more than the largest label.

    Returns:
        ``(x, new labels, changed)``: the same ``x``, (n,) int64, and (n,) bool, True where the label changed.

    Raises:
        ArgumentError: a rate outside [0, 1], fewer than 2 classes, or labels at or above ``classes``.

    References:
        Patrini et al. 2017, arXiv 1609.03683, section 5 (there a label may be redrawn as itself).

    >>> from datawinnow.core.rng import stream
    >>> _, noisy, changed = symmetric(None, [0, 0, 1, 1], rate=0.5, generator=stream(0, "noise"))
    >>> int(changed.sum())
    2
    """
    check.number("rate", rate, 0, 1)
    check.generator(generator)
    old = check.labels("labels", labels)
    n = old.numel()
    count = int(old.max()) + 1 if classes is None else check.number("classes", classes, 1, 10**9, integer=True)
    if int(old.max()) >= count:
        raise ArgumentError(f"labels has class {int(old.max())}, but classes={count}: labels must be below it")
    if count < 2:
        raise ArgumentError("label noise needs at least 2 classes, got 1: pass classes= if others exist")
    changed = torch.zeros(n, dtype=torch.bool)
    changed[shuffled(n, generator)[: int(rate * n + 0.5 + 1e-9)]] = True
    # a step of 1 to count - 1 around the circle of classes is uniform over the others
    step = torch.randint(1, count, (n,), generator=generator)
    return x, torch.where(changed, (old + step) % count, old), changed
