"""Planted duplicates: copies of some examples in the place of others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.scenarios._given import check_rows, chosen, labels_of, rows


@card(
    "scenario",
    "Planted duplicates",
    "Lee et al. 2022, Deduplicating Training Data Makes Language Models Better, arXiv 2107.06499, section 1 "
    "(duplicates as found; here planted)",
    cost="time O(n), memory O(n)",
)
def duplicates(x: Any, labels: Any, *, rate: float, generator: torch.Generator) -> tuple[Any, Tensor, Tensor]:
    """Put exact copies of other examples in the place of a fraction of the examples.

    Exactly ``round(rate * n)`` examples (halves up) become copies, label included, each of one that stays, drawn
    uniformly and with replacement. The number of examples stays, what there is to learn from shrinks: a selection
    without duplicates among its kept loses nothing by it.

    Args:
        x: the examples, (n, ...), a tensor or a numpy array (memory-mapped too).
        labels: (n,) int, class ids.
        rate: fraction of the examples that become copies, in [0, 1] and below all of them.
        generator: CPU `torch.Generator`, the source of the draw.

    Returns:
        ``(x, labels, changed)``: (n, ...) with the copies in place, (n,) int64, and (n,) bool, True for a copy; the
        example that it is a copy of is not marked.

    Raises:
        ArgumentError: a rate outside [0, 1] or one that leaves no example to copy, or an ``x`` of another length.

    References:
        Lee et al. 2022, arXiv 2107.06499: duplicates take budget and weigh double.

    >>> import torch
    >>> from datawinnow.core.rng import stream
    >>> x, y, copy = duplicates(torch.arange(10), torch.arange(10), rate=0.3, generator=stream(0, "copies"))
    >>> len(x), len(x.unique()), int(copy.sum())
    (10, 7, 3)
    """
    old = labels_of(labels, rate, generator)
    check_rows(x, old.numel())
    copy = chosen(old.numel(), rate, generator)
    if bool(copy.all()):
        raise ArgumentError(
            f"rate={rate:g} makes copies of all {old.numel()} examples, so that none is left to copy: lower it"
        )
    own = torch.nonzero(~copy).flatten()
    index = torch.arange(old.numel())
    index[copy] = own[torch.randint(len(own), (int(copy.sum()),), generator=generator)]
    return rows(x, index), old[index], copy
