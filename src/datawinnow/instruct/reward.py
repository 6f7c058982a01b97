"""Reward: what a model of human preferences, a sequence classifier with one logit, gives an answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.progress import Progress
from datawinnow.instruct import _models
from datawinnow.instruct.store import Store, key_of
from datawinnow.text.encode import check_texts
from datawinnow.text.pretrained import fingerprint_pretrained, load_pretrained, pick_device


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
    store: Store | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The logit of a reward model for each (instruction, answer), tokenised as a pair.

    Args:
        instruction: (n,) texts.
        answer: (n,) texts; an empty one has no reward.
        model: folder or name of a ``ForSequenceClassification`` with one label, for example
            ``OpenAssistant/reward-model-deberta-v3-large-v2``.
        batch: pairs at a time.
        device: where; None is a GPU if there is one.
        store: what was computed before.
        progress: called with what is done, how far, of how many.

    Returns:
        (n,) float32 logits; NaN for an empty answer.

    Raises:
        ArgumentError: no transformers, or texts that are none.
        ArgumentError: no such model.

    References:
        Wei et al. 2023, arXiv 2308.12067, section 3.1; condense.md 1.11.
    """
    asked, answers = check_texts("instruction", instruction), check_texts("answer", answer)
    if len(asked) != len(answers):
        raise ArgumentError(f"there are {len(asked)} instructions, but {len(answers)} answers")
    check.number("batch", batch, 1, 10**6, integer=True)
    tokenizer = load_pretrained("AutoTokenizer", model, "reward")
    net = load_pretrained("AutoModelForSequenceClassification", model, "reward")
    if net.config.num_labels != 1:
        raise DataError(f"reward: {model!r} has {net.config.num_labels} labels; a reward model has one")
    if net.config.pad_token_id is None:  # decoders find an answer's last token by it
        net.config.pad_token_id = tokenizer.pad_token_id
    net = net.to(pick_device(device)).eval()
    most = _most(tokenizer, net)

    @torch.inference_mode()
    def work(at: list[int]) -> object:
        tokens = tokenizer(
            [asked[i] for i in at], [answers[i] for i in at], padding=True, truncation=True, max_length=most,
            return_tensors="pt",
        )  # fmt: skip
        return net(**tokens.to(net.device)).logits[:, 0].float().cpu()[:, None].numpy()

    own = {"model": fingerprint_pretrained(model, net.config), "most": most}
    keys = [key_of("reward", own, a, b) if b.strip() else None for a, b in zip(asked, answers, strict=True)]
    sizes = [len(a) + len(b) for a, b in zip(asked, answers, strict=True)]
    found = _models.computed(
        store or Store(None), "reward", keys, work, batch=batch, order=sizes, progress=progress  # type: ignore[arg-type]
    )  # fmt: skip
    return _models.numbers(found)


def _most(tokenizer: object, net: object) -> int:
    """Tokens that both take."""
    positions = getattr(net.config, "max_position_embeddings", None)  # type: ignore[attr-defined]
    most = min(int(getattr(tokenizer, "model_max_length", 10**9)), int(positions or 10**9))
    return min(most, 1 << 16)
