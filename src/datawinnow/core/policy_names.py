"""Names of the policies in `datawinnow.dynamic`, for help texts, which must not wait for torch."""

from __future__ import annotations

AUTO, REPLAY = "auto", "replay"
"""Policies that are not built from their name alone: what `recommend` returns, and the plan in a file."""
POLICY_NAMES = (
    "epsilon_greedy",
    "example_swap",
    "info_batch",
    "loss_power",
    "order_dp",
    "random_pruning",
    "repeated_subset",
    "seta",
    "ucb",
)
"""Policies that a name and plain values are enough for."""
