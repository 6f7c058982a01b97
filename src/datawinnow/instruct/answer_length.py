"""Length of an answer: the indicator that needs no model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.text.encode import check_texts


@card(
    "score",
    "Length",
    "Wei et al. 2023, InstructionGPT-4, arXiv 2308.12067, section 3.1 and full_score.py",
    cost="time O(n), memory O(n)",
    end="high",
)
def length(answer: Sequence[str], *, max_length: int | None = None) -> Tensor:
    """Length of each answer on a scale where the longest has 10: ``10 * characters / max_length``.

    Args:
        answer: (n,) texts.
        max_length: characters that count as 10; None is the length of the longest answer (1,009 in the published data).

    Returns:
        (n,) float32, 0 and above.

    Raises:
        ArgumentError: no texts, or ``max_length`` below 1.

    References:
        Wei et al. 2023, arXiv 2308.12067, section 3.1.

    >>> length(["ab", "abcd"]).tolist()
    [5.0, 10.0]
    """
    texts = check_texts("answer", answer)
    sizes = torch.tensor([len(text) for text in texts], dtype=torch.float64)
    if max_length is None:
        max_length = max(1, int(sizes.max()))
    check.number("max_length", max_length, 1, 10**12, integer=True)
    return (10 * sizes / max_length).float()
