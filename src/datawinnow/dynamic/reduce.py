"""Reductions of weighted losses to one number, and their effect on the step size.

A policy that drops examples at random may give those it keeps the weight 1 / (probability of being kept), so that the
expected **sum** of the weighted losses over the kept set S is the sum over all n. The length of a step depends on the
divisor of that sum:

=================== ============================ ===========================================================
reduction           batch of b                   step size
=================== ============================ ===========================================================
``mean``            sum(w l) / b                 InfoBatch's. The expected gradient of a step is n / |S| times that of
                                                 the full mean loss, and there are |S| / n as many steps: an epoch moves
                                                 as far as before, in fewer, longer steps. With one weight for all
                                                 this *is* a learning rate multiplied by that weight.
``self_normalised`` sum(w l) / sum(w)            no growth: a step is as long as on all the data and an epoch moves
                                                 |S| / n as far. A ratio of sums: its bias falls as 1 / b. Equal weights
                                                 cancel, so it is then the plain mean. Micro-batches are normalised one
                                                 by one.
``none``            w l, one number an example   nothing is divided: sum over the whole window of accumulation and
                                                 divide once. Divided by b it is ``mean``; by b n / |S| the
                                                 growth is gone, and the expectation is the full mean, exactly.
=================== ============================ ===========================================================

Policies whose weights are all ones (UCB, random) give the plain mean under the first two.
(Weights: Katharopoulos and Fleuret 2018, arXiv 1803.00942, equation 4.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError

Reduction = Callable[[Tensor, Tensor], Tensor]


def mean(loss: Tensor, weight: Tensor) -> Tensor:
    """sum(w l) / b: InfoBatch's reduction; steps grow by n / |S| where a policy gives weights.

    Args:
        loss: (b,) losses, one an example.
        weight: (b,) factors, from ``sampler.weight[index]``.

    Returns:
        A scalar to call ``backward`` on.

    Raises:
        ArgumentError: the shapes differ.

    >>> mean(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])).item()
    2.0
    """
    return none(loss, weight).mean()


def self_normalised(loss: Tensor, weight: Tensor) -> Tensor:
    """sum(w l) / sum(w): a weighted mean; the length of a step does not change.

    Args:
        loss: (b,) losses, one an example.
        weight: (b,) factors.

    Returns:
        A scalar; 0 where all weights are 0.

    Raises:
        ArgumentError: the shapes differ.

    >>> round(self_normalised(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])).item(), 4)
    1.3333
    """
    # 0 / tiny is 0 where all weights are 0, not NaN.
    return none(loss, weight).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def none(loss: Tensor, weight: Tensor) -> Tensor:
    """W l, undivided: for sums over a window of several micro-batches.

    Args:
        loss: (b,) losses, one an example.
        weight: (b,) factors.

    Returns:
        (b,) weighted losses, a new tensor; the losses are not changed in place.

    Raises:
        ArgumentError: the shapes differ, or the loss is a scalar already.

    >>> none(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])).tolist()
    [2.0, 2.0]
    """
    check_one_per_example(loss)
    if weight.shape != loss.shape:
        raise ArgumentError(f"weight must have the loss's shape {tuple(loss.shape)}, got {tuple(weight.shape)}")
    return loss * weight


REDUCTIONS: dict[str, Reduction] = {f.__name__: f for f in (mean, self_normalised, none)}


def resolve_reduction(reduction: str | Reduction) -> Reduction:
    """A reduction by name; a function of (loss, weight) is returned unchanged.

    Raises:
        ArgumentError: an unknown name.
    """
    if callable(reduction):
        return reduction
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")
    return REDUCTIONS[reduction]


def per_example(loss: Tensor, mask: Tensor | None = None) -> Tensor:
    """One loss an example from losses per token or pixel: the mean over those that count.

    Args:
        loss: (b, ...) losses with ``reduction="none"``; half precision is summed in float32.
        mask: (b, ...) of the same shape, nonzero where a token or pixel counts; None for all. Losses that do not count
            may be NaN. An example in which nothing counts has loss 0.

    Returns:
        (b,) float32, or float64 for float64 losses.

    Raises:
        ArgumentError: a scalar loss, or a mask of another shape.

    >>> per_example(torch.tensor([[1.0, 3.0], [5.0, 9.0]]), torch.tensor([[1, 1], [1, 0]])).tolist()
    [2.0, 5.0]
    """
    if loss.ndim == 0:
        raise ArgumentError(SCALAR_LOSS)
    # A sum over many tokens overflows in float16 and stalls in bfloat16.
    if loss.dtype in (torch.float16, torch.bfloat16):
        loss = loss.float()
    if mask is not None and mask.shape != loss.shape:
        raise ArgumentError(f"mask must have the loss's shape {tuple(loss.shape)}, got {tuple(mask.shape)}")
    if mask is None:
        return loss.flatten(1).mean(dim=1) if loss.ndim > 1 else loss
    counts = mask.to(loss.device) != 0
    # where() and not a product: NaN * 0 is NaN, also in the gradient.
    kept = torch.where(counts, loss, 0.0)
    if loss.ndim == 1:
        return kept
    return kept.flatten(1).sum(dim=1) / counts.flatten(1).sum(dim=1).clamp_min(1)


SCALAR_LOSS = (
    'the loss is a scalar; one loss an example is needed: compute it with reduction="none" and reduce it afterwards, '
    "with datawinnow.dynamic.reduce.mean(loss, weight)"
)


def check_one_per_example(loss: Tensor) -> None:
    """Refuse a loss that is not (b,).

    Raises:
        ArgumentError: a scalar, or one loss a token or pixel; each says what to do.
    """
    if loss.ndim == 0:
        raise ArgumentError(SCALAR_LOSS)
    if loss.ndim > 1:
        raise ArgumentError(
            f"the loss has shape {tuple(loss.shape)}, more than one number an example: reduce tokens or pixels first, "
            "with datawinnow.dynamic.reduce.per_example(loss, mask)"
        )
