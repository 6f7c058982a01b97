"""Selective backprop: train on the examples of a batch whose loss is high among recent ones."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic._batch import BatchState, batch_result, by_weight, losses


@card(
    "batch selector",
    "selective backprop",
    "Jiang et al. 2019, Accelerating Deep Learning by Focusing on the Biggest Losers, arXiv 1910.00762",
    cost="time O(b log window), memory O(window); a forward pass of the batch beforehand",
)
def selective_backprop(
    loss: Any,
    *,
    budget: int | None = None,
    beta: float = 3.0,
    minimum: float = 0.0,
    window: int = 1024,
    form: Literal["percentile", "rank"] = "percentile",
    keep: float | None = None,
    generator: torch.Generator,
    state: BatchState | None = None,
) -> tuple[Tensor, Tensor]:
    """Keep an example with a probability that grows with the place of its loss among recent losses.

    P = max(minimum, F^beta), F the fraction of the last ``window`` losses, this batch included, that are not above
    its own. Without a budget each example is kept independently with probability P, so that the number varies and may
    be zero: collect positions until a batch is full. With one, that many are drawn without replacement by weight P.
    ``form="rank"`` is the variant of the composer library: ((rank - 1/2) / b)^(1 / keep - 1) within the batch for P,
    rank 1 the lowest loss. Losses must come from a pass in eval mode, or batch statistics are updated twice.

    Args:
        loss: (b,) float, one loss an example of the batch.
        budget: number to keep, 1 to b; None for a random number.
        beta: the power; higher keeps fewer.
        minimum: smallest probability, in [0, 1].
        window: number of recent losses to remember.
        form: ``"percentile"`` (the paper) or ``"rank"`` (composer), which needs a budget and remembers nothing.
        keep: fraction kept in the power of ``"rank"``, in (0, 1]; None for budget / b, which rounding to whole examples
            moves in a small batch.
        generator: CPU `torch.Generator`.
        state: a dictionary that is passed with every batch: it holds recent losses under ``"recent"`` and is the only
            argument that is modified. None compares within the batch.

    Returns:
        (m,) int64 positions in the batch and (m,) float32 weights of one (the paper does not reweight), on the
        device of ``loss``.

    Raises:
        ArgumentError: an option out of range, a loss that is not (b,) or not finite.

    References:
        Jiang et al. 2019, arXiv 1910.00762, section 3.

    >>> from datawinnow.core.rng import stream
    >>> selective_backprop([0.1, 5.0, 0.2], budget=1, beta=50, generator=stream(0, "sb"))[0].tolist()
    [1]
    """
    check.generator(generator)
    check.number("beta", beta, 0, 1e6)
    check.number("minimum", minimum, 0, 1)
    check.number("window", window, 1, 2**31, integer=True)
    check.one_of("form", form, ("percentile", "rank"))
    values = losses("loss", loss)
    b = values.numel()
    if budget is not None:
        check_budget(budget, b, items="examples in the batch")
    if keep is not None and form != "rank":
        raise ArgumentError('keep is the fraction in the power of form="rank"; form="percentile" takes beta')
    if form == "rank":
        if budget is None:
            raise ArgumentError('form="rank" needs a budget: its power is 1 / keep - 1')
        power = 1 / check.number("keep", budget / b if keep is None else keep, 1e-9, 1) - 1
        # random order first, so that equal losses do not rank by position
        order = torch.randperm(b, generator=generator)
        rank = torch.empty(b, dtype=torch.float64)
        rank[order[torch.argsort(values[order], stable=True)]] = torch.arange(1, b + 1, dtype=torch.float64)
        return batch_result(by_weight(((rank - 0.5) / b) ** power, budget, generator), loss)
    chance = _share_below(values, window, state).pow(beta).clamp_min(minimum)
    if budget is not None:
        return batch_result(by_weight(chance, budget, generator), loss)
    # In [0, 1), so that a chance of 1 always keeps and a chance of 0 never.
    uniform = torch.rand(b, generator=generator, dtype=torch.float64)
    return batch_result(torch.nonzero(uniform < chance).flatten(), loss)


def _share_below(values: Tensor, window: int, state: BatchState | None) -> Tensor:
    # This batch is part of the history that it is compared with: the first batch has one.
    recent = values if state is None else torch.cat([state.get("recent", values[:0]), values])[-window:]
    if state is not None:
        state["recent"] = recent
    line = recent.sort().values
    # a batch longer than the window has losses that are not in the window, but their quantile is still defined
    # right=True counts losses that are equal: the highest has F = 1.
    return torch.searchsorted(line, values, right=True).to(torch.float64) / line.numel()
