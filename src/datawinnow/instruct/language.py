"""Perplexity, answer loss with and without the instruction, and IFD, by a causal language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.core.progress import Progress
from datawinnow.instruct.indicator_cache import IndicatorCache, cache_key
from datawinnow.instruct.pairs import check_pair_texts
from datawinnow.text.encode import check_texts
from datawinnow.text.pretrained import fingerprint_pretrained, load_pretrained, load_tokenizer, pick_device

DEFAULT_TEMPLATE = "{instruction}\n\n"
"""Text before an answer; ``"chat"`` is the tokenizer's own template."""
TokenizedPair = tuple[list[int], list[int]]
"""Token ids of the prompt and of the answer."""


class LanguageModel:
    """A causal language model of transformers that gives the mean loss of answers.

    Args:
        model: folder or name of a ``ForCausalLM``.
        template: of what stands before the answer, with ``{instruction}`` in it, or ``"chat"``.
        max_tokens: tokens of a pair; at most, and by default, what the model takes. The end of an answer is cut first,
            down to half of that, then the beginning of the instruction.
        batch: sequences at a time.
        device: ``"cpu"``, ``"cuda"``, ...; None is a GPU where there is one.

    Raises:
        ArgumentError: transformers is not installed, no such model or device, or a template without a place for the
            instruction.
    """

    def __init__(
        self,
        model: str,
        *,
        template: str = DEFAULT_TEMPLATE,
        max_tokens: int | None = None,
        batch: int = 4,
        device: str | None = None,
    ) -> None:
        check.number("batch", batch, 1, 10**6, integer=True)
        if template != "chat" and "{instruction}" not in template:
            raise ArgumentError(f'template must contain {{instruction}} (or be "chat"), got {template!r}')
        self.template, self.batch = template, batch
        self.tokenizer = load_tokenizer(model, "lm")
        self.network = load_pretrained("AutoModelForCausalLM", model, "lm").to(pick_device(device)).eval()
        positions = getattr(self.network.config, "max_position_embeddings", None)
        self.max_tokens = min(int(max_tokens or positions or 2048), int(positions or 1 << 20))
        check.number("max_tokens", self.max_tokens, 4, 1 << 20, integer=True)
        self.made_by = {
            "model": fingerprint_pretrained(model, self.network.config),
            "max_tokens": self.max_tokens,
        }

    def losses(
        self,
        instruction: Sequence[str | None],
        answer: Sequence[str],
        cache: IndicatorCache,
        progress: Progress | None = None,
        *,
        answer_alone: bool = False,
    ) -> Tensor:
        """Mean loss of each answer behind its instruction, or alone where that is None.

        The first token of an answer is predicted from the token before it. Where an answer stands alone that is the
        tokenizer's beginning of a text; without one, the first token counts in neither case, so that losses with and
        without the instruction are over the same tokens.

        Args:
            instruction: (n,) texts, or None.
            answer: (n,) texts.
            cache: of earlier results.
            progress: called as ``progress("answer loss", done, total)``.
            answer_alone: drop the instruction after the answer is cut to fit behind it: a loss over the same tokens.

        Returns:
            (n,) float32 nats a token; NaN for an answer without a token that counts.
        """
        pairs = [self.tokenize_pair(a, b) for a, b in zip(instruction, answer, strict=True)]
        if answer_alone:
            start = self.tokenizer.bos_token_id
            pairs = [([] if start is None else [start], tokens) for _, tokens in pairs]
        keys = [
            # -1 is no token: it marks where the answer begins, on which the loss depends.
            cache_key("answer_loss", self.made_by, np.array([*prompt, -1, *tokens], "<i8").tobytes())
            if tokens
            else None
            for prompt, tokens in pairs
        ]

        def compute_batch(index: list[int]) -> np.ndarray:
            return self.batch_losses([pairs[i] for i in index]).numpy()[:, None]

        sizes = [len(prompt) + len(tokens) for prompt, tokens in pairs]
        rows = cache.compute("answer loss", keys, compute_batch, batch=self.batch, sizes=sizes, progress=progress)
        return rows[:, 0]

    def tokenize_pair(self, instruction: str | None, answer: str) -> TokenizedPair:
        """Token ids of the prompt and of the answer, cut to fit.

        They are tokenised apart, so that it is known where the answer begins.
        """
        tokens = self.tokenizer(answer, add_special_tokens=False)["input_ids"] if answer.strip() else []
        start = self.tokenizer.bos_token_id
        if instruction is None:
            prompt = [] if start is None else [start]
        elif self.template == "chat":
            turns = [{"role": "user", "content": instruction}]
            text = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            prompt = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            text = self.template.replace("{instruction}", instruction)
            prompt = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            prompt = prompt if start is None else [start, *prompt]
        # The answer keeps at least half of the room, however long the instruction is.
        tokens = tokens[: max(self.max_tokens - len(prompt), self.max_tokens // 2)]
        room = self.max_tokens - len(tokens)
        if len(prompt) > room:  # cut at its beginning, but keep the mark of the beginning of a text
            prompt = prompt[len(prompt) - room :]
            # The cut has removed the mark; it replaces the first token that is left.
            prompt = prompt if start is None or not prompt else [start, *prompt[1:]]
        return prompt, tokens

    @torch.inference_mode()
    def batch_losses(self, pairs: Sequence[TokenizedPair]) -> Tensor:
        """(b,) float32 mean losses of one batch, padded on the right."""
        width = max(len(prompt) + len(tokens) for prompt, tokens in pairs)
        # Padding on the right never reaches earlier positions of a causal model; its id is masked anyway.
        ids = torch.zeros(len(pairs), width, dtype=torch.int64)
        mask, counted = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
        skip = int(self.tokenizer.bos_token_id is None)  # see `losses`: the first token of an answer then never counts
        for i, (prompt, tokens) in enumerate(pairs):
            size = len(prompt) + len(tokens)
            ids[i, :size] = torch.tensor([*prompt, *tokens])
            mask[i, :size] = True
            counted[i, len(prompt) + skip : size] = True
        device = self.network.device
        logits = self.network(input_ids=ids.to(device), attention_mask=mask.long().to(device)).logits
        losses = torch.zeros(len(pairs), width)
        for i in range(len(pairs)):  # one row at a time: float32 logits of a batch would be the largest array here
            # The logits at position t predict token t + 1.
            losses[i, 1:] = F.cross_entropy(logits[i, :-1].float(), ids[i, 1:].to(device), reduction="none").cpu()
        return token_mean(losses, counted).float()


def token_mean(losses: Tensor, counted: Tensor) -> Tensor:
    """Mean loss of each example over the tokens that count.

    Args:
        losses: (b, t) nats of each token.
        counted: (b, t) bool, True for the tokens of the answer that are predicted.

    Returns:
        (b,) float64; NaN for an example of which no token counts.

    >>> token_mean(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[True, True, False]])).tolist()
    [2.0]
    """
    # where() and not a product: losses at padding may be NaN.
    total = torch.where(counted, losses.double(), 0.0).sum(dim=1)
    return total / counted.sum(dim=1)


_COST = "time O(n) forward passes of a language model, memory O(batch tokens vocabulary) beside it"


@card("score", "Answer loss", "Li et al. 2023, Cherry LLM, arXiv 2308.12032, equation 2", cost=_COST, end="low")
def answer_loss(
    instruction: Sequence[str],
    answer: Sequence[str],
    *,
    lm: LanguageModel,
    cache: IndicatorCache | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Conditioned answer score: mean loss of the tokens of the answer behind its instruction.

    Args:
        instruction: (n,) texts.
        answer: (n,) texts.
        lm: the language model.
        cache: of earlier results.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        (n,) float32 nats a token; NaN for an answer without a token that counts.

    Raises:
        ArgumentError: values that are not texts, or different numbers of instructions and answers.

    References:
        Li et al. 2023, arXiv 2308.12032, equation 2.
    """
    instructions, answers = check_pair_texts(instruction, answer)
    return lm.losses(instructions, answers, cache or IndicatorCache(None), progress)


@card("score", "Direct answer loss", "Li et al. 2023, Cherry LLM, arXiv 2308.12032, equation 3", cost=_COST, end="low")
def direct_loss(
    answer: Sequence[str],
    *,
    lm: LanguageModel,
    cache: IndicatorCache | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Direct answer score: mean loss of the tokens of the answer without any instruction.

    Args:
        answer: (n,) texts.
        lm: the language model.
        cache: of earlier results.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        (n,) float32 nats a token; NaN for an answer without a token that counts.

    Raises:
        ArgumentError: values that are not texts.

    References:
        Li et al. 2023, arXiv 2308.12032, equation 3.
    """
    answers = check_texts("answer", answer)
    return lm.losses([None] * len(answers), answers, cache or IndicatorCache(None), progress)


@card("score", "Perplexity", "Ankner et al. 2024, Perplexed by Perplexity, arXiv 2405.20541", cost=_COST, end="middle")
def perplexity(
    answer: Sequence[str],
    *,
    lm: LanguageModel,
    cache: IndicatorCache | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """``exp`` of the direct answer loss: how surprising the text is to a language model.

    Args:
        answer: (n,) texts.
        lm: the language model.
        cache: of earlier results.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        (n,) float32, 1 and above; NaN for an answer without a token that counts.

    Raises:
        ArgumentError: values that are not texts.

    References:
        Ankner et al. 2024, arXiv 2405.20541, section 2 (which of low, middle and high is best depends on the data).
    """
    return direct_loss(answer, lm=lm, cache=cache, progress=progress).exp()


@card("score", "IFD", "Li et al. 2023, Cherry LLM, arXiv 2308.12032, equation 4", cost=f"{_COST}; twice", end="high")
def ifd(
    instruction: Sequence[str],
    answer: Sequence[str],
    *,
    lm: LanguageModel,
    above_one: str = "drop",
    cache: IndicatorCache | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Instruction-following difficulty: answer loss with the instruction over that without, ``s(A|Q) / s(A)``.

    Close to 1 the instruction helps little and the pair is hard to follow. Above 1 it misleads: the paper calls such
    pairs misaligned and never chooses them.

    Args:
        instruction: (n,) texts.
        answer: (n,) texts.
        lm: the language model.
        above_one: ``"drop"`` gives NaN for a pair above 1, ``"keep"`` its value.
        cache: of earlier results.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        (n,) float32, above 0; NaN for a misaligned pair, or an answer without a token that counts.

    Raises:
        ArgumentError: values that are not texts, or another ``above_one``.

    References:
        Li et al. 2023, arXiv 2308.12032, equation 4 and section 3.3.
    """
    check.one_of("above_one", above_one, ("drop", "keep"))
    instructions, answers = check_pair_texts(instruction, answer)
    cache = cache or IndicatorCache(None)
    conditioned = lm.losses(instructions, answers, cache, progress)
    # Over the same tokens: the answer is cut to fit behind its instruction in both.
    ratio = conditioned / lm.losses(instructions, answers, cache, progress, answer_alone=True)
    return torch.where(ratio > 1, torch.nan, ratio) if above_one == "drop" else ratio
