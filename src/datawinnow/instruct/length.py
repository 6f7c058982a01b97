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
def length(answer: Sequence[str], *, longest: int | None = None) -> Tensor:
    """How long each answer is, of 10 for the longest: ``10 * characters / longest``.

    Args:
        answer: (n,) texts.
        longest: characters that count 10; None is those of the longest answer (1,009 in the published data).

    Returns:
        (n,) float32, 0 and above.

    Raises:
        ArgumentError: no texts, or ``longest`` below 1.

    References:
        Wei et al. 2023, arXiv 2308.12067, section 3.1; condense.md 1.11.

    >>> length(["ab", "abcd"]).tolist()
    [5.0, 10.0]
    """
    texts = check_texts("answer", answer)
    sizes = torch.tensor([len(text) for text in texts], dtype=torch.float64)
    if longest is None:
        longest = max(1, int(sizes.max()))
    check.number("longest", longest, 1, 10**12, integer=True)
    return (10 * sizes / longest).float()
