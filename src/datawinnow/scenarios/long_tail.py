"""Long-tailed classes: each class smaller than the one before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.draw import shuffled
from datawinnow.scenarios._inputs import check_inputs, check_rows, class_count, take_rows


@card(
    "scenario",
    "Long-tailed classes",
    "Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples, arXiv 1901.05555, section 5.1",
    cost="time O(n), memory O(n)",
)
def long_tail(
    x: Any, labels: Any, *, rate: float, generator: torch.Generator, classes: int | None = None
) -> tuple[Any, Tensor, Tensor]:
    """Reduce the classes exponentially: the first keeps all its examples, the last loses ``rate`` of them.

    Class c of C keeps ``round((1 - rate)^(c / (C - 1)) * size)`` of its examples (halves up), at least one, drawn
    uniformly; the remaining examples stay in order. The literature's imbalance factor is 1 / (1 - rate): a rate of 0.9
    is a factor of 10, 0.99 one of 100. ``changed`` marks the remaining examples of the tail, so that the share of rare
    classes among kept examples can be compared with their share in the data.

    Args:
        x: the examples, (n, ...), a tensor or a numpy array (memory-mapped too).
        labels: (n,) int, class ids.
        rate: fraction of its examples that the last class loses, in [0, 1].
        generator: CPU `torch.Generator`, the source of the draw.
        classes: number of classes; None for one more than the largest label.

    Returns:
        ``(x, labels, changed)`` of the n remaining examples: rows of ``x``, (n,) int64, and (n,) bool, True for the
        rarer half of the classes, if these lost examples.

    Raises:
        ArgumentError: a rate outside [0, 1], labels at or above ``classes``, or an ``x`` of another length.

    References:
        Cui et al. 2019, arXiv 1901.05555, section 5.1: n_c * mu^c with mu in (0, 1), classes in the order of their ids.

    >>> import torch
    >>> from datawinnow.core.rng import stream
    >>> labels = torch.arange(30) // 10
    >>> _, left, tail = long_tail(torch.zeros(30), labels, rate=0.75, generator=stream(0, "tail"))
    >>> torch.bincount(left).tolist(), int(tail.sum())
    ([10, 5, 3], 3)
    """
    old = check_inputs(labels, rate, generator)
    count = class_count(old, classes)
    check_rows(x, old.numel())
    # One permutation for all classes: a smaller rate keeps a superset.
    order = shuffled(old.numel(), generator)
    order = order[old[order].argsort(stable=True)]  # class by class, at random inside
    kept = torch.zeros(old.numel(), dtype=torch.bool)
    tail = torch.zeros(count, dtype=torch.bool)
    for label, members in enumerate(torch.split(order, torch.bincount(old, minlength=count).tolist())):
        share = (1 - rate) ** (label / max(1, count - 1))
        # At least one example, unless the class has none; half up.
        left = max(min(1, len(members)), int(share * len(members) + 0.5 + 1e-9))
        kept[members[:left]] = True
        # The rarer half, and only classes that lost something.
        tail[label] = 2 * label >= count and left < len(members)
    index = torch.nonzero(kept).flatten()
    return take_rows(x, index), old[index], tail[old[index]]
