"""Predicted distributions, checked, and their logarithms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.check import Missing
from datawinnow.core.errors import ArgumentError

LEAST = 1e-10
"""Probabilities are raised to this, so that a class predicted with 0 is far away, not infinitely."""


def distributions(name: str, value: Any, missing: Missing) -> Tensor:
    """``value`` as (n, c) probabilities, each row summing to 1 (but for a row with NaN under ``"skip"``).

    Args:
        name: the argument's name, for the error.
        value: (n, c) tensor, numpy array or nested list.
        missing: ``"skip"`` lets rows with NaN pass.

    Raises:
        ArgumentError: another shape, NaN, numbers outside [0, 1], a row that does not sum to 1, naming the example.
    """
    probs = check.rows(name, value, "n,c", missing)
    check.probabilities(name, probs.T if missing == "raise" else probs.T.nan_to_num(0.0))
    total = probs.sum(1)
    wrong = (total - 1).abs() > 1e-2
    if bool(wrong.any()):
        at = int(torch.nonzero(wrong)[0])
        raise ArgumentError(
            f"{name} must sum to 1 over the classes, got {float(total[at]):g} for example {at}: give softmax outputs"
        )
    return probs


def with_logs(probs: Tensor) -> tuple[Tensor, Tensor]:
    """(n, c) probabilities, at least 1e-10, and their logarithms, in nats."""
    raised = probs.clamp_min(LEAST)
    return raised, raised.log()
