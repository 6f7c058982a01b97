"""EL2N: the length of the error vector early in training."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.check import Missing
from datawinnow.core.epochs import mean_over_epochs
from datawinnow.scores.inputs import epoch_range


@card(
    "score",
    "EL2N",
    "Paul et al. 2021, Deep Learning on a Data Diet, arXiv 2107.07075, section 2.3",
    cost="time O((last - first) * n), memory O(n)",
    end="high",
)
def el2n(error_norm: Any, *, first: int = 0, last: int = 10, missing: Missing = "raise") -> Tensor:
    """Examples predicted wrongly with confidence early in training score high.

    ``el2n = mean over epochs t in [first, last) of ||softmax_t - one_hot(label)||_2``. The paper averages ten runs at
    one early epoch; this averages the first ten epochs of one run, as the CCS and D2 code does (whose sum is the same
    ranking). High is worth keeping, as far as labels can be trusted; the score lies in [0, sqrt(2)].

    Args:
        error_norm: (epochs, n) float, L2 norm of softmax minus one-hot in each epoch.
        first: first epoch that counts, from 0.
        last: the epoch after the last that counts; a shorter recording is used to its end.
        missing: ``"raise"``, or ``"skip"`` to average over the epochs in which the example was seen.

    Returns:
        (n,) float32 (float64 if ``error_norm`` is); NaN for an example not seen in those epochs under ``"skip"``.

    Raises:
        ArgumentError: ``first`` past the last epoch, ``last`` not above ``first``, NaN or infinity.

    References:
        Paul et al. 2021, arXiv 2107.07075, section 2.3.

    >>> [round(v, 2) for v in el2n([[0.2, 1.4], [0.1, 1.0]]).tolist()]
    [0.15, 1.2]
    """
    # A mean where the CCS code sums: with "skip" an example seen in fewer epochs is not ranked as easier for it.
    norms = check.array("error_norm", error_norm, "epochs,n")
    return mean_over_epochs(epoch_range("error_norm", norms, first, last), "error_norm", missing)
