"""Least confidence: one minus the probability of the likeliest class."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing


@card(
    "score",
    "least confidence",
    "Coleman et al. 2020, Selection via Proxy, arXiv 1906.11829, section 2; as in Guo et al. 2022, DeepCore, "
    "arXiv 2204.08499 (uncertainty-based methods)",
    cost="time O(n * c), memory O(n)",
    end="high",
)
def least_confidence(probs: Any, *, missing: Missing = "raise") -> Tensor:
    """Examples whose likeliest class is not very likely score high.

    ``least_confidence = 1 - max over classes c of P(c)``, from one pass of a trained model. It does not use the
    label. High is worth keeping; the score lies in [0, 1 - 1/c]. (The DeepCore code ranks by the largest logit, which
    is another order.)

    Args:
        probs: (n, c) float, softmax.
        missing: ``"raise"``, or ``"skip"`` to let an example with NaN have NaN.

    Returns:
        (n,) float32 (float64 if ``probs`` is), probability.

    Raises:
        ArgumentError: rows that are no probabilities or do not sum to 1, NaN or infinity, or another shape.

    References:
        Coleman et al. 2020, arXiv 1906.11829, section 2; Guo et al. 2022, arXiv 2204.08499.

    >>> least_confidence([[0.25, 0.75], [0.5, 0.5]]).tolist()
    [0.25, 0.5]
    """
    return 1 - check.distributions("probs", probs, missing).amax(dim=1)
