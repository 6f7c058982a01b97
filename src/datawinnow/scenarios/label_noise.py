"""Label noise: a fraction of wrong labels, with the mask of the changed examples."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.scenarios._inputs import check_inputs, class_count, draw_changed

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
        x: the examples, (n, ...); returned unchanged.
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
    old, count = _check_two_classes(labels, rate, generator, classes)
    changed = draw_changed(old.numel(), rate, generator)
    # a step of 1 to count - 1 around the circle of classes is uniform over the others
    # Drawn for every example, changed or not: the stream does not depend on the rate.
    step = torch.randint(1, count, (old.numel(),), generator=generator)
    return x, torch.where(changed, (old + step) % count, old), changed


@card(
    "scenario",
    "Pair label noise",
    "Han et al. 2018, Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy Labels, "
    "arXiv 1804.06872, section 4 (pair flipping)",
    cost="time O(n), memory O(n)",
)
def pair(
    x: X, labels: Any, *, rate: float, generator: torch.Generator, classes: int | None = None
) -> tuple[X, Tensor, Tensor]:
    """Give a fraction of the examples the label of the next class, and the last class that of the first.

    Exactly ``round(rate * n)`` labels change (halves up). The wrong labels of a class agree with each
    other, unlike in symmetric noise, so a network learns them sooner.

    Args:
        x: the examples, (n, ...); returned unchanged.
        labels: (n,) int, class ids.
        rate: fraction of labels that change, in [0, 1].
        generator: CPU `torch.Generator`, the source of the draw.
        classes: number of classes; None for one more than the largest label.

    Returns:
        ``(x, new labels, changed)``: the same ``x``, (n,) int64, and (n,) bool, True where the label changed.

    Raises:
        ArgumentError: a rate outside [0, 1], fewer than 2 classes, or labels at or above ``classes``.

    References:
        Han et al. 2018, arXiv 1804.06872, section 4: class i becomes i + 1.

    >>> from datawinnow.core.rng import stream
    >>> _, noisy, changed = pair(None, [0, 1, 2, 2], rate=1.0, generator=stream(0, "noise"))
    >>> noisy.tolist()
    [1, 2, 0, 0]
    """
    old, count = _check_two_classes(labels, rate, generator, classes)
    changed = draw_changed(old.numel(), rate, generator)
    return x, torch.where(changed, (old + 1) % count, old), changed


def _check_two_classes(labels: Any, rate: float, generator: torch.Generator, classes: int | None) -> tuple[Tensor, int]:
    old = check_inputs(labels, rate, generator)
    count = class_count(old, classes)
    if count < 2:
        raise ArgumentError("label noise needs at least 2 classes, got 1: pass classes= if there are more")
    return old, count
