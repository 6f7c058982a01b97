"""Reward: the logit of a model of human preferences, a sequence classifier with one label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.errors import DataError
from datawinnow.core.progress import Progress
from datawinnow.instruct.indicator_cache import IndicatorCache, cache_key
from datawinnow.instruct.pairs import check_pair_texts
from datawinnow.text.pretrained import (
    fingerprint_pretrained,
    load_pretrained,
    load_tokenizer,
    max_tokens_of,
    pick_device,
)

MAX_TOKENS = 1 << 16


@card(
    "score",
    "Reward",
    "Wei et al. 2023, InstructionGPT-4, arXiv 2308.12067, section 3.1 (reward score)",
    cost="time O(n) forward passes of a sequence classifier, memory O(batch tokens) beside it",
    end="high",
)
def reward(
    instruction: Sequence[str],
    answer: Sequence[str],
    *,
    model: str,
    batch: int = 8,
    device: str | None = None,
    cache: IndicatorCache | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The logit of a reward model for each (instruction, answer), tokenised as a pair.

    Args:
        instruction: (n,) texts.
        answer: (n,) texts; an empty one has no reward.
        model: folder or name of a ``ForSequenceClassification`` with one label, for example
            ``OpenAssistant/reward-model-deberta-v3-large-v2``.
        batch: pairs at a time.
        device: ``"cpu"``, ``"cuda"``, ...; None is a GPU where there is one.
        cache: of earlier results.
        progress: called as ``progress("reward", done, total)``.

    Returns:
        (n,) float32 logits; NaN for an empty answer.

    Raises:
        ArgumentError: transformers is not installed, no such model, or values that are not texts.
        DataError: a model with several labels.

    References:
        Wei et al. 2023, arXiv 2308.12067, section 3.1.
    """
    instructions, answers = check_pair_texts(instruction, answer)
    check.number("batch", batch, 1, 10**6, integer=True)
    tokenizer = load_tokenizer(model, "reward")
    network = load_pretrained("AutoModelForSequenceClassification", model, "reward")
    if network.config.num_labels != 1:
        raise DataError(f"reward: {model!r} has {network.config.num_labels} labels; a reward model has one")
    if network.config.pad_token_id is None:  # a decoder finds the last token of an answer by it
        network.config.pad_token_id = tokenizer.pad_token_id
    network = network.to(pick_device(device)).eval()
    max_tokens = min(max_tokens_of(tokenizer, network.config), MAX_TOKENS)

    @torch.inference_mode()
    def compute_batch(index: list[int]) -> np.ndarray:
        tokens = tokenizer(
            [instructions[i] for i in index],
            [answers[i] for i in index],
            padding=True,
            truncation=True,
            max_length=max_tokens,
            return_tensors="pt",
        )
        # float() before numpy(), which has no bfloat16.
        return np.asarray(network(**tokens.to(network.device)).logits[:, :1].float().cpu().numpy())

    made_by = {"model": fingerprint_pretrained(model, network.config), "max_tokens": max_tokens}
    texts = list(zip(instructions, answers, strict=True))
    keys = [cache_key("reward", made_by, a, b) if b.strip() else None for a, b in texts]
    sizes = [len(a) + len(b) for a, b in texts]
    cache = cache or IndicatorCache(None)
    return cache.compute("reward", keys, compute_batch, batch=batch, sizes=sizes, progress=progress)[:, 0]
