"""Beta sampling: DUAL scores, drawn towards easier examples as fewer are kept."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import check_budget
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.draw import gumbel_top_k, largest
from datawinnow.core.epochs import mean_over_epochs
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._scored import answer, scored

SCALE = 15.0
"""C in the formula of b_r."""
C_D = 5.5
"""Exponent in the formula of b_r, as the notes have it for CIFAR-10 and 200 epochs."""
FITTED, AT, POWER = 4.0, 200, 1 / 4
"""The c_d that a training of `AT` epochs wants; shorter ones want less, by a power of their length (LOG.md)."""
EDGE = 1e-6
"""Means are clipped to [EDGE, 1 - EDGE], and a and b to at least EDGE: the density is infinite or zero beyond."""


@card(
    "selector",
    "Beta sampling",
    "Cho et al. 2025, Lightweight Dataset Pruning without Full Training, arXiv 2502.06905, section 4",
    cost="time O(epochs * n + budget log budget), memory O(n)",
)
def beta(
    dual: Any,
    p_label: Any,
    *,
    budget: int,
    c_d: float | None = None,
    train_epochs: float | None = None,
    total: float = 15.0,
    mu_top: int = 10,
    generator: torch.Generator,
    missing: Missing = "raise",
) -> Selection:
    """Draw examples by ``BetaPDF(mean of p_label; a, b) * dual``, without replacement.

    With r the fraction removed and mu_D the mean ``p_label`` of the ``mu_top`` examples of highest DUAL:
    ``b = 15 (1 - mu_D) (1 - r^c_d)``, ``a = total - b``. When little is removed the density sits on hard examples;
    the more is removed, the more it moves to easy ones. Means are clipped to [1e-6, 1 - 1e-6]. Examples with a DUAL
    of 0 have no weight: they come last, in random order, and only when the budget needs them.

    Args:
        dual: (n,) float, DUAL score, at least 0.
        p_label: (epochs, n) float, probability of the given label, or its mean over epochs, (n,).
        budget: how many examples to keep, 1 to n; r = 1 - budget / n.
        c_d: how late the move to easy examples starts, bigger is later; 5.5 unless told (authors' code: 4 for
            CIFAR-100, 11 for ImageNet; 5.5 for CIFAR-10 is not confirmed by a source at hand).
        train_epochs: epochs that the kept examples will be trained for, instead of ``c_d``: a short training wants
            easier examples than the published 200 epochs, and `fitted_c_d` says how much easier.
        total: a + b: 15 as in the paper, 16 as in the authors' code.
        mu_top: how many of the highest DUAL scores mu_D is the mean of.
        generator: CPU `torch.Generator`, the source of the draw.
        missing: ``"raise"``, or ``"skip"`` to leave unseen epochs out of the means, and never to choose an example
            without a score.

    Returns:
        `Selection` of exactly ``budget`` ids in the order drawn, weights of one.

    Raises:
        ArgumentError: a budget outside 1 to n, negative scores, values of ``p_label`` outside [0, 1], NaN, or both
            ``c_d`` and ``train_epochs``.
        CapacityError: fewer examples with a score than ``budget``.

    References:
        Cho et al. 2025, arXiv 2502.06905, section 4; static.md 1.3.

    >>> from datawinnow.core.rng import stream
    >>> len(beta([0.1, 0.2, 0.0], [0.4, 0.5, 0.9], budget=2, generator=stream(0, "select")))
    2
    """
    check.generator(generator)
    if train_epochs is not None and c_d is not None:
        raise ArgumentError(f"give one of c_d and train_epochs, which stands for one, got {c_d} and {train_epochs}")
    exponent = fitted_c_d(train_epochs) if train_epochs is not None else C_D if c_d is None else c_d
    score = check.array("dual", dual, "n")
    mean = _mean(p_label, missing)
    check.number("mu_top", mu_top, 1, 10**9, integer=True)
    n = check.same_n(dual=score, p_label=mean)
    ids = scored(budget, missing, dual=score, p_label=mean)
    part, mu = (score, mean) if ids is None else (score[ids], mean[ids])
    check.probabilities("p_label", mu)
    if float(part.min()) < 0:
        raise ArgumentError(f"dual must be at least 0, got {float(part.min()):g}; is it another score?")
    hardest = largest(part, min(mu_top, part.numel()))
    mu_d = min(1.0, max(0.0, float(mu[hardest].to(torch.float64).mean())))
    a, b = beta_parameters(mu_d, n, budget, c_d=exponent, total=total)

    def log_weight(first: int, last: int) -> Tensor:
        return beta_log_weight(mu[first:last], a, b).add_(part[first:last].to(torch.float64).log())

    chosen = gumbel_top_k(log_weight, part.numel(), budget, generator)
    weightless = (score == 0).to(torch.int8) * int(Reason.ZERO_WEIGHT)
    return answer(chosen, n, ids, kept=Reason.DRAWN, dropped=Reason.NOT_DRAWN, special=weightless)


def fitted_c_d(train_epochs: float) -> float:
    """The ``c_d`` for a training of so many epochs on the kept examples: ``4 (train_epochs / 200)^(1/4)``, at most 5.5.

    An empirical rule: the best of the kind over trainings of 15, 30, 60 and 200 epochs on a fifth of 10,000 CIFAR-10
    images and of digits by a ResNet-8, by their test accuracy (``benchmarks/beta_schedule.toml``; LOG.md tells what it
    is worth where it was not fitted). Its point is that the published 5.5 keeps examples too hard for a short training;
    3.5 throughout is nearly as good.

    Args:
        train_epochs: passes over the kept examples, above 0.

    Raises:
        ArgumentError: not above 0.

    >>> [round(fitted_c_d(epochs), 1) for epochs in (15, 30, 60, 200, 1000)]
    [2.1, 2.5, 3.0, 4.0, 5.5]
    """
    if check.number("train_epochs", train_epochs, 0, 1 << 20) == 0:
        raise ArgumentError("train_epochs must be above 0: the epochs that the kept examples are trained for")
    fitted: float = FITTED * (float(train_epochs) / AT) ** POWER
    return min(C_D, fitted)


def beta_parameters(mu_d: float, n: int, budget: int, *, c_d: float = C_D, total: float = 15.0) -> tuple[float, float]:
    """The parameters (a, b) of the Beta density.

    Args:
        mu_d: mean ``p_label`` of the examples of highest DUAL, in [0, 1].
        n: number of examples.
        budget: number kept.
        c_d: exponent.
        total: a + b, at least 15.

    Returns:
        ``a = total - b`` (weight towards easy) and ``b = 15 (1 - mu_d) (1 - r^c_d)``, each at least 1e-6.

    Raises:
        ArgumentError: a value out of range.

    >>> beta_parameters(0.4, 100, 100)
    (6.0, 9.0)
    """
    check.number("mu_d", mu_d, 0, 1)
    check.number("c_d", c_d, 0, 1000)
    check.number("total", total, SCALE, 1000)
    removed = 1 - check_budget(budget, n) / n
    b = SCALE * (1 - mu_d) * (1 - removed**c_d)
    return max(total - b, EDGE), max(b, EDGE)


def beta_log_weight(mu: Tensor, a: float, b: float) -> Tensor:
    """Log density of Beta(a, b) at ``mu``.

    Args:
        mu: (m,) means of ``p_label``, clipped to [1e-6, 1 - 1e-6].
        a: first parameter (towards 1).
        b: second parameter (towards 0).

    Returns:
        (m,) float64, nats.

    >>> round(float(beta_log_weight(torch.tensor([0.5]), 2.0, 2.0).exp()), 6)
    1.5
    """
    at = mu.to(torch.float64).clamp(EDGE, 1 - EDGE)
    constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return at.log().mul_(a - 1).add_(at.neg().log1p_(), alpha=b - 1).add_(constant)


def _mean(p_label: Any, missing: Missing) -> Tensor:
    values = check.as_tensor("p_label", p_label)
    if values.ndim == 1:
        return check.array("p_label", values, "n")
    values = check.array("p_label", values, "epochs,n")
    check.finite("p_label", values, missing)
    return mean_over_epochs(values)
