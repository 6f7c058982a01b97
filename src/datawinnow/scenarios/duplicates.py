"""Planted duplicates: some examples replaced by copies of others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.scenarios._inputs import check_inputs, check_rows, draw_changed, take_rows


@card(
    "scenario",
    "Planted duplicates",
    "Lee et al. 2022, Deduplicating Training Data Makes Language Models Better, arXiv 2107.06499, section 1 "
    "(duplicates as found; here planted)",
    cost="time O(n), memory O(n)",
)
def duplicates(x: Any, labels: Any, *, rate: float, generator: torch.Generator) -> tuple[Any, Tensor, Tensor]:
    """Replace a fraction of the examples by exact copies of others.

    Exactly ``round(rate * n)`` examples (halves up) become copies, label included, of the others, drawn uniformly with
    replacement. The number of examples stays the same, with fewer distinct ones.

    Args:
        x: the examples, (n, ...), a tensor or a numpy array (memory-mapped too).
        labels: (n,) int, class ids.
        rate: fraction of the examples that become copies, in [0, 1] and below all of them.
        generator: CPU `torch.Generator`, the source of the draw.

    Returns:
        ``(x, labels, changed)``: (n, ...) with the copies, (n,) int64, and (n,) bool, True for a copy and not for its
        original.

    Raises:
        ArgumentError: a rate outside [0, 1] or one that leaves no example to copy, or an ``x`` of another length.

    References:
        Lee et al. 2022, arXiv 2107.06499: duplicates use up the budget and weigh double.

    >>> import torch
    >>> from datawinnow.core.rng import stream
    >>> x, y, copy = duplicates(torch.arange(10), torch.arange(10), rate=0.3, generator=stream(0, "copies"))
    >>> len(x), len(x.unique()), int(copy.sum())
    (10, 7, 3)
    """
    old = check_inputs(labels, rate, generator)
    check_rows(x, old.numel())
    copy = draw_changed(old.numel(), rate, generator)
    if bool(copy.all()):
        raise ArgumentError(
            f"rate={rate:g} makes copies of all {old.numel()} examples, so that none is left to copy: lower it"
        )
    originals = torch.nonzero(~copy).flatten()
    index = torch.arange(old.numel())
    # Only from examples that are no copies themselves: no chains.
    index[copy] = originals[torch.randint(len(originals), (int(copy.sum()),), generator=generator)]
    # The label is copied too: duplicates, not label noise.
    return take_rows(x, index), old[index], copy
