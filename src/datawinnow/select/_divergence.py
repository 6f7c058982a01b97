"""Logarithms of predicted distributions."""

from __future__ import annotations

from torch import Tensor

MIN_PROBABILITY = 1e-10
"""Probabilities are raised to this, so that the divergence from a class predicted with 0 is large but finite."""


def with_logs(probs: Tensor) -> tuple[Tensor, Tensor]:
    """(n, c) probabilities, at least 1e-10, and their logarithms, in nats."""
    raised = probs.clamp_min(MIN_PROBABILITY)
    return raised, raised.log()
