"""Label noise: a fraction of wrong labels, with the mask of the changed examples."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.draw import gumbel_top_k
from datawinnow.core.errors import ArgumentError
from datawinnow.scenarios._inputs import check_inputs, check_rows, class_count, draw_changed

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


@card(
    "scenario",
    "Instance-dependent label noise",
    "Xia et al. 2020, Part-dependent Label Noise: Towards Instance-dependent Label Noise, arXiv 2006.07836, "
    "algorithm 2",
    cost="time O((n + classes) * d * classes), memory O((n + d) * classes + n * d)",
)
def instance_dependent(
    x: X, labels: Any, *, rate: float, generator: torch.Generator, classes: int | None = None
) -> tuple[X, Tensor, Tensor]:
    """Give a fraction of the examples a wrong label that follows from what they look like.

    Some examples are more likely to be mislabelled than others: the flip rate of each is drawn from a normal
    distribution around ``rate`` (standard deviation 0.1, within 0 and 1). The wrong label is drawn from the softmax of
    a random linear map of the standardised example, one map for each class, so that similar examples of a class get the
    same wrong label. Exactly ``round(rate * n)`` labels change (halves up), drawn by the odds of the flip rates; in the
    paper each flips by itself.

    Args:
        x: the examples, (n, ...) of numbers, finite; returned unchanged.
        labels: (n,) int, class ids.
        rate: fraction of labels that change, in [0, 1].
        generator: CPU `torch.Generator`, the source of the draw.
        classes: number of classes; None for one more than the largest label.

    Returns:
        ``(x, new labels, changed)``: the same ``x``, (n,) int64, and (n,) bool, True where the label changed.

    Raises:
        ArgumentError: a rate outside [0, 1], fewer than 2 classes, labels at or above ``classes``, another number of
            rows, or x that is not finite.

    References:
        Xia et al. 2020, arXiv 2006.07836, algorithm 2.

    >>> from datawinnow.core.rng import stream
    >>> _, noisy, changed = instance_dependent(
    ...     [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], rate=0.5, generator=stream(0, "noise")
    ... )
    >>> int(changed.sum()), bool(((noisy != torch.tensor([0, 0, 1, 1])) == changed).all())
    (2, True)
    """
    old, count = _check_two_classes(labels, rate, generator, classes)
    n = old.numel()
    check_rows(x, n)
    rows = check.as_tensor("x", x).reshape(n, -1).to(torch.float32)
    if not bool(torch.isfinite(rows).all()):
        raise ArgumentError("x must be finite numbers: its NaN or infinite entries decide no label")
    rows = (rows - rows.mean(0)) / rows.std(0, correction=0).clamp(min=1e-6)
    # drawn in full whatever the rate, so that one generator state gives the same wrong labels at every rate
    spread = torch.normal(0.0, 0.1, (n,), generator=generator, dtype=torch.float64)
    logits = torch.empty(n, count)
    for label in range(count):
        # a map at a time: all of them take d * classes^2
        linear = torch.normal(0.0, 1.0, (rows.shape[1], count), generator=generator) / rows.shape[1] ** 0.5
        members = old == label
        logits[members] = rows[members] @ linear
    logits.scatter_(1, old[:, None], -torch.inf)
    wrong = torch.multinomial(torch.softmax(logits, dim=1), 1, generator=generator).squeeze(1)
    flip_rate = (rate + spread).clamp(1e-3, 1 - 1e-3)
    number = int(rate * n + 0.5 + 1e-9)
    changed = torch.zeros(n, dtype=torch.bool)
    if number:
        changed[gumbel_top_k(torch.logit(flip_rate), n, number, generator)] = True
    return x, torch.where(changed, wrong, old), changed


def _check_two_classes(labels: Any, rate: float, generator: torch.Generator, classes: int | None) -> tuple[Tensor, int]:
    old = check_inputs(labels, rate, generator)
    count = class_count(old, classes)
    if count < 2:
        raise ArgumentError("label noise needs at least 2 classes, got 1: pass classes= if there are more")
    return old, count
