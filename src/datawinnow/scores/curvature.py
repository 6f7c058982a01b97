"""Input curvature of the loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.scores.inputs import validate_norms


@card(
    "score",
    "input curvature",
    "Garg and Roy 2023, Samples with Low Loss Curvature Improve Data Efficiency, CVPR, section 3.1; its measure is "
    "that of Moosavi-Dezfooli et al. 2019, arXiv 1811.09716",
    cost="time O(n) after two or more gradient passes of probe, memory O(n)",
    end="low",
)
def curvature(curvature: Any, *, missing: Missing = "raise") -> Tensor:
    """Examples around which the loss bends little, clean and typical of their class, score low.

    ``curvature = || g(x + h z) - g(x) ||_2`` with g the gradient of the loss with respect to the input, as `probe`
    computes it: z is the unit vector of sign(g) (CURE, the form of SLo-Curves) or a random sign vector, averaged over
    repeats (the Hutchinson form of Garg et al. 2024, arXiv 2307.05831). Low is kept: SLo-Curves takes the lowest of
    every class, ``per_class(top)(curvature(...), end="low", ...)``, and is made for small budgets.

    Args:
        curvature: (n,) float, norm of the change of the input's gradient, summed loss (not a batch's mean).
        missing: ``"raise"``, or ``"skip"`` to let NaN pass.

    Returns:
        (n,) float32 (float64 if ``curvature`` is), unit of ``curvature``.

    Raises:
        ArgumentError: a negative number, NaN or infinity, or another shape.

    References:
        Garg and Roy 2023, CVPR, section 3.1; Moosavi-Dezfooli et al. 2019, arXiv 1811.09716.

    >>> curvature([0.5, 2.0]).tolist()
    [0.5, 2.0]
    """
    return validate_norms("curvature", curvature, missing)
