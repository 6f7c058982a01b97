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
from datawinnow.core.draw import gumbel_top_k, largest, tie_seed_of
from datawinnow.core.epochs import mean_over_epochs
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.select._selectable import build_selection, selectable_ids

B_SCALE = 15.0
"""C in the formula of b_r."""
PUBLISHED_C_D = 5.5
"""Exponent in the formula of b_r, for CIFAR-10 and 200 epochs."""
REFERENCE_C_D, REFERENCE_EPOCHS, C_D_POWER = 4.0, 200, 1 / 4
"""Best c_d for a training of `REFERENCE_EPOCHS` epochs; for shorter ones it falls with a power of their length."""
CLIP = 1e-6
"""Means are clipped to [CLIP, 1 - CLIP], and a and b to at least CLIP: the density is infinite or zero beyond."""


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
        budget: number of examples to keep, 1 to n; r = 1 - budget / n.
        c_d: exponent of r; a larger one moves the density to easy examples later. Default 5.5 (authors' code: 4 for
            CIFAR-100, 11 for ImageNet; 5.5 for CIFAR-10 is not confirmed by the paper).
        train_epochs: number of epochs of the training on the kept examples, instead of ``c_d``: a short training needs
            easier examples than the published 200 epochs; see `fitted_c_d`.
        total: a + b: 15 as in the paper, 16 as in the authors' code.
        mu_top: number of highest DUAL scores whose mean is mu_D.
        generator: CPU `torch.Generator`, source of randomness.
        missing: ``"raise"``, or ``"skip"`` to leave unseen epochs out of the means, and never to choose an example
            without a score.

    Returns:
        `Selection` of exactly ``budget`` ids in the order drawn, weights of one.

    Raises:
        ArgumentError: a budget outside 1 to n, negative scores, values of ``p_label`` outside [0, 1], NaN, or both
            ``c_d`` and ``train_epochs``.
        CapacityError: fewer examples with a score than ``budget``.

    References:
        Cho et al. 2025, arXiv 2502.06905, section 4.

    >>> from datawinnow.core.rng import stream
    >>> len(beta([0.1, 0.2, 0.0], [0.4, 0.5, 0.9], budget=2, generator=stream(0, "select")))
    2
    """
    check.generator(generator)
    exponent = _exponent(c_d, train_epochs)
    score = check.array("dual", dual, "n")
    mean = _mean_p_label(p_label, missing)
    check.number("mu_top", mu_top, 1, 10**9, integer=True)
    n = check.same_n(dual=score, p_label=mean)
    ids = selectable_ids(budget, missing, dual=score, p_label=mean)
    dual_scores, mu = (score, mean) if ids is None else (score[ids], mean[ids])
    check.probabilities("p_label", mu)
    if float(dual_scores.min()) < 0:
        raise ArgumentError(f"dual must be at least 0, got {float(dual_scores.min()):g}; is it another score?")
    mu_d = _mean_of_highest(dual_scores, mu, mu_top, tie_seed_of(generator))
    a, b = beta_parameters(mu_d, n, budget, c_d=exponent, total=total)

    def log_weight(first: int, last: int) -> Tensor:
        # log(pdf * dual); a DUAL of 0 gives -inf, which `gumbel_top_k` draws last.
        return beta_log_weight(mu[first:last], a, b).add_(dual_scores[first:last].to(torch.float64).log())

    chosen = gumbel_top_k(log_weight, dual_scores.numel(), budget, generator)
    weightless = (score == 0).to(torch.int8) * int(Reason.ZERO_WEIGHT)
    return build_selection(chosen, n, ids, kept=Reason.DRAWN, dropped=Reason.NOT_DRAWN, special=weightless)


def beta_weights(
    dual: Tensor,
    mu: Tensor,
    *,
    budget: int,
    c_d: float | None = None,
    train_epochs: float | None = None,
    total: float = 15.0,
    mu_top: int = 10,
    tie_seed: int = 0,
) -> Tensor:
    """The weights ``BetaPDF(mu; a, b) * dual`` by which `beta` draws.

    Args:
        dual: (n,) float, DUAL score.
        mu: (n,) float, mean of ``p_label``.
        budget: number of examples to keep.
        c_d: as of `beta`.
        train_epochs: as of `beta`.
        total: as of `beta`.
        mu_top: as of `beta`.
        tie_seed: seed of the order of equal scores.

    Returns:
        (n,) float64, at least 0.

    Raises:
        ArgumentError: an option out of range.

    >>> beta_weights(torch.tensor([0.0, 0.2]), torch.tensor([0.4, 0.5]), budget=1).tolist()[0]
    0.0
    """
    mu_d = _mean_of_highest(dual, mu, mu_top, tie_seed)
    a, b = beta_parameters(mu_d, dual.numel(), budget, c_d=_exponent(c_d, train_epochs), total=total)
    return beta_log_weight(mu, a, b).exp() * dual.to(torch.float64)


def _exponent(c_d: float | None, train_epochs: float | None) -> float:
    if train_epochs is not None and c_d is not None:
        raise ArgumentError(f"give one of c_d and train_epochs, which sets c_d, got {c_d} and {train_epochs}")
    return fitted_c_d(train_epochs) if train_epochs is not None else PUBLISHED_C_D if c_d is None else c_d


def _mean_of_highest(dual: Tensor, mu: Tensor, mu_top: int, tie_seed: int) -> float:
    """mu_D: the mean of ``mu`` over the ``mu_top`` examples of highest DUAL."""
    hardest = largest(dual, min(mu_top, dual.numel()), tie_seed)
    return min(1.0, max(0.0, float(mu[hardest].to(torch.float64).mean())))


def fitted_c_d(train_epochs: float) -> float:
    """The ``c_d`` for a training of ``train_epochs`` on the kept examples: ``4 (train_epochs / 200)^(1/4)``, up to 5.5.

    An empirical rule, fitted to the test accuracy of a ResNet-8 trained for 15, 30, 60 and 200 epochs on a fifth of
    10,000 CIFAR-10 images and of digits (``benchmarks/beta_schedule.toml``). The published 5.5 keeps examples that are
    too hard for a short training; a constant 3.5 is nearly as good.

    Args:
        train_epochs: passes over the kept examples, above 0.

    Raises:
        ArgumentError: not above 0.

    >>> [round(fitted_c_d(epochs), 1) for epochs in (15, 30, 60, 200, 1000)]
    [2.1, 2.5, 3.0, 4.0, 5.5]
    """
    if check.number("train_epochs", train_epochs, 0, 1 << 20) == 0:
        raise ArgumentError("train_epochs must be above 0: the epochs that the kept examples are trained for")
    fitted: float = REFERENCE_C_D * (float(train_epochs) / REFERENCE_EPOCHS) ** C_D_POWER
    return min(PUBLISHED_C_D, fitted)


def beta_parameters(
    mu_d: float, n: int, budget: int, *, c_d: float = PUBLISHED_C_D, total: float = 15.0
) -> tuple[float, float]:
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
    check.number("total", total, B_SCALE, 1000)
    removed = 1 - check_budget(budget, n) / n
    b = B_SCALE * (1 - mu_d) * (1 - removed**c_d)
    # b is 0 for mu_D = 1 or c_d = 0, a is 0 for mu_D = 0 with nothing removed: a Beta density needs both above 0.
    return max(total - b, CLIP), max(b, CLIP)


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
    at = mu.to(torch.float64).clamp(CLIP, 1 - CLIP)
    # -log B(a, b) through lgamma: the Gamma function itself overflows above 171.
    constant = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    # log1p(-mu) keeps the digits of 1 - mu near mu = 0.
    return at.log().mul_(a - 1).add_(at.neg().log1p_(), alpha=b - 1).add_(constant)


def _mean_p_label(p_label: Any, missing: Missing) -> Tensor:
    values = check.as_tensor("p_label", p_label)
    if values.ndim == 1:
        return check.array("p_label", values, "n")
    values = check.array("p_label", values, "epochs,n")
    check.finite("p_label", values, missing)
    return mean_over_epochs(values)
