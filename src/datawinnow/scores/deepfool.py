"""DeepFool: the distance of an example to the decision boundary."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.scores.inputs import validate_norms


@card(
    "score",
    "DeepFool",
    "Ducoffe and Precioso 2018, Adversarial Active Learning for Deep Networks: a Margin Based Approach, "
    "arXiv 1802.09841, section 3; the distance is that of Moosavi-Dezfooli et al. 2016, arXiv 1511.04599",
    cost="time O(n) after the gradient passes of probe (classes times steps), memory O(n)",
    end="low",
)
def deepfool(boundary_distance: Any, *, missing: Missing = "raise") -> Tensor:
    """Examples that a small change would push over the decision boundary score low.

    ``deepfool = || r ||_2`` of the smallest r found such that x and x + r have different predictions, as `probe`
    computes it. It does not use the label. Low is kept: the examples nearest the boundary.

    Args:
        boundary_distance: (n,) float, L2 norm of the change.
        missing: ``"raise"``, or ``"skip"`` to let NaN (no change was found) pass.

    Returns:
        (n,) float32 (float64 if ``boundary_distance`` is), unit of the inputs.

    Raises:
        ArgumentError: a negative number, NaN or infinity, or another shape.

    References:
        Ducoffe and Precioso 2018, arXiv 1802.09841, section 3; Moosavi-Dezfooli et al. 2016, arXiv 1511.04599.

    >>> deepfool([0.5, 2.0]).tolist()
    [0.5, 2.0]
    """
    return validate_norms("boundary_distance", boundary_distance, missing)
