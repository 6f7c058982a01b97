"""RHO-LOSS: the examples of a batch that are learnable and not yet learnt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.card import card
from datawinnow.dynamic._batch import BatchState, batch_result, losses, topk_positions


@card(
    "batch selector",
    "RHO-LOSS",
    "Mindermann et al. 2022, Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt, "
    "arXiv 2206.07137",
    cost="time O(b log b), memory O(b); a forward pass of the batch, and once a model trained on held-out data",
)
def rho_loss(
    loss: Any,
    irreducible_loss: Any,
    *,
    budget: int,
    generator: torch.Generator,
    state: BatchState | None = None,
) -> tuple[Tensor, Tensor]:
    """Keep the examples of highest reducible loss: the current loss minus the loss under a held-out model.

    Noisy examples have a high loss under any model, learnt ones a low loss: neither is kept. The paper keeps 32 of
    320.

    Args:
        loss: (b,) float, one loss an example of the batch, of the model in training.
        irreducible_loss: (b,) float, their losses under a model trained on held-out data.
        budget: number to keep, 1 to b.
        generator: CPU `torch.Generator`, for ties at the cut.
        state: not used.

    Returns:
        (budget,) int64 positions in the batch, highest first, and (budget,) float32 weights of one, on the device of
        ``loss``.

    Raises:
        ArgumentError: arrays that are not (b,), differ in length or are not finite, a budget outside 1 to b.

    References:
        Mindermann et al. 2022, arXiv 2206.07137, equation 3.

    >>> from datawinnow.core.rng import stream
    >>> rho_loss([0.1, 5.0, 2.0], [0.1, 5.0, 0.5], budget=1, generator=stream(0, "rho"))[0].tolist()
    [2]
    """
    check.generator(generator)
    values, floor = losses("loss", loss), losses("irreducible_loss", irreducible_loss)
    check_budget(budget, check.same_n(loss=values, irreducible_loss=floor), items="examples in the batch")
    return batch_result(topk_positions(values - floor, budget, generator), loss)
