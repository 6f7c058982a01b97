"""GraNd: the length of an example's gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.scores.inputs import validate_norms


@card(
    "score",
    "GraNd",
    "Paul et al. 2021, Deep Learning on a Data Diet, arXiv 2107.07075, definition 2.1",
    cost="time O(n) after a gradient pass of probe, memory O(n)",
    end="high",
)
def grand_full(grad_norm: Any, *, missing: Missing = "raise") -> Tensor:
    """Examples with a long gradient early in training score high.

    ``grand_full = || d loss_i / d theta ||_2`` over all parameters, an example at a time, as `probe` computes it. The
    paper averages ten runs at one early epoch: ``over_runs(grand_full)([norms of each run])``. High is worth keeping,
    as far as labels can be trusted.

    Args:
        grad_norm: (n,) float, L2 norm of each example's own gradient (never of a batch's mean).
        missing: ``"raise"``, or ``"skip"`` to let NaN pass.

    Returns:
        (n,) float32 (float64 if ``grad_norm`` is), unit of ``grad_norm``.

    Raises:
        ArgumentError: a negative number, NaN or infinity, or another shape.

    References:
        Paul et al. 2021, arXiv 2107.07075, definition 2.1.

    >>> grand_full([0.5, 2.0]).tolist()
    [0.5, 2.0]
    """
    return validate_norms("grad_norm", grad_norm, missing)
