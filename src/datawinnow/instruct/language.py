"""Perplexity, answer loss with and without the instruction, and IFD, by a causal language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import card
from datawinnow.core.errors import ArgumentError
from datawinnow.core.progress import Progress
from datawinnow.instruct import _models
from datawinnow.instruct.store import Store, key_of
from datawinnow.text.encode import check_texts
from datawinnow.text.pretrained import fingerprint_pretrained, load_pretrained, pick_device

TEMPLATE = "{instruction}\n\n"
"""What stands before an answer unless told otherwise; ``"chat"`` is the tokenizer's own template."""


@dataclass(frozen=True)
class Reading:
    """How a causal language model reads pairs.

    Attributes:
        model: folder or name of a ``ForCausalLM``.
        template: of what stands before the answer, with ``{instruction}`` in it, or ``"chat"``.
        most: tokens of a pair at most; None is what the model takes. The end of an answer is cut first, down to half
            of that, then the beginning of the instruction.
        batch: sequences at a time.
        device: where; None is a GPU if there is one.
    """

    model: str
    template: str = TEMPLATE
    most: int | None = None
    batch: int = 4
    device: str | None = None


def token_mean(losses: Tensor, counted: Tensor) -> Tensor:
    """One loss an example: the mean over the tokens that count, padding and instruction left out.

    Args:
        losses: (b, t) nats of each token.
        counted: (b, t) bool, True for the tokens of the answer that are predicted.

    Returns:
        (b,) float64; NaN for an example of which no token counts.

    >>> token_mean(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[True, True, False]])).tolist()
    [2.0]
    """
    total = torch.where(counted, losses.double(), 0.0).sum(dim=1)
    return total / counted.sum(dim=1)


class Reader:
    """A causal language model that gives the mean loss of answers."""

    def __init__(self, what: str, how: Reading) -> None:
        check.number("batch", how.batch, 1, 10**6, integer=True)
        if how.template != "chat" and "{instruction}" not in how.template:
            raise ArgumentError(f'template must contain {{instruction}} (or be "chat"), got {how.template!r}')
        self.what, self.how = what, how
        self.tokenizer = load_pretrained("AutoTokenizer", how.model, what)
        self.net = load_pretrained("AutoModelForCausalLM", how.model, what).to(pick_device(how.device)).eval()
        positions = getattr(self.net.config, "max_position_embeddings", None)
        self.most = min(int(how.most or positions or 2048), int(positions or 1 << 20))
        check.number("most", self.most, 4, 1 << 20, integer=True)
        self.own = {"model": fingerprint_pretrained(how.model, self.net.config), "most": self.most}

    def losses(
        self,
        instruction: Sequence[str | None],
        answer: Sequence[str],
        store: Store,
        progress: Any = None,
        *,
        alone: bool = False,
    ) -> Tensor:
        """(n,) float32 mean nats a token of each answer, behind its instruction or (None) alone.

        With ``alone`` an answer stands alone, but is cut as it is behind its instruction: to the same tokens.

        The first token of an answer is predicted from the token before it. Where an answer stands alone that is the
        tokenizer's beginning of a text; where it has none, the first token counts in neither case, so that losses with
        and without the instruction are about the same tokens.
        """
        spelled = [self._spelled(a, b) for a, b in zip(instruction, answer, strict=True)]
        if alone:
            start = self.tokenizer.bos_token_id
            spelled = [([] if start is None else [start], own) for _, own in spelled]
        keys = [
            None if len(own) < 1 else key_of("answer_loss", self.own, np.array([*before, -1, *own], "<i8").tobytes())
            for before, own in spelled
        ]

        def work(at: list[int]) -> np.ndarray:
            return self._losses([spelled[i] for i in at]).numpy()[:, None]

        sizes = [len(before) + len(own) for before, own in spelled]
        found = _models.computed(
            store, self.what, keys, work, batch=self.how.batch, order=sizes, progress=progress
        )  # fmt: skip
        return _models.numbers(found)

    def _spelled(self, instruction: str | None, answer: str) -> tuple[list[int], list[int]]:
        """Ids before the answer and ids of it, tokenised apart so that the border is exact, cut to what fits."""
        own = self.tokenizer(answer, add_special_tokens=False)["input_ids"] if answer.strip() else []
        begin = self.tokenizer.bos_token_id
        if instruction is None:
            before = [] if begin is None else [begin]
        elif self.how.template == "chat":
            turns = [{"role": "user", "content": instruction}]
            text = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            before = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            text = self.how.template.replace("{instruction}", instruction)
            before = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            before = before if begin is None else [begin, *before]
        own = own[: max(self.most - len(before), self.most // 2)]
        room = self.most - len(own)
        if len(before) > room:  # its beginning goes, the beginning of a text stays
            kept = before[len(before) - room :]
            before = kept if begin is None or not kept else [begin, *kept[1:]]
        return before, own

    @torch.inference_mode()
    def _losses(self, rows: list[tuple[list[int], list[int]]]) -> Tensor:
        """(b,) mean losses of some rows, padded on the right."""
        wide = max(len(before) + len(own) for before, own in rows)
        ids = torch.zeros(len(rows), wide, dtype=torch.int64)
        real, counted = torch.zeros_like(ids, dtype=torch.bool), torch.zeros(len(rows), wide, dtype=torch.bool)
        skip = int(self.tokenizer.bos_token_id is None)  # the first token of an answer then counts nowhere
        for i, (before, own) in enumerate(rows):
            size = len(before) + len(own)
            ids[i, :size] = torch.tensor([*before, *own])
            real[i, :size] = True
            counted[i, len(before) + skip : size] = True
        device = self.net.device
        logits = self.net(input_ids=ids.to(device), attention_mask=real.long().to(device)).logits
        losses = torch.zeros(len(rows), wide)
        for i in range(len(rows)):  # a row at a time: float32 logits of a whole batch would be the largest thing here
            losses[i, 1:] = F.cross_entropy(logits[i, :-1].float(), ids[i, 1:].to(device), reduction="none").cpu()
        return token_mean(losses, counted).float()


def _pairs(instruction: Sequence[str], answer: Sequence[str]) -> tuple[list[str], list[str]]:
    asked, answers = check_texts("instruction", instruction), check_texts("answer", answer)
    if len(asked) != len(answers):
        raise ArgumentError(f"there are {len(asked)} instructions, but {len(answers)} answers")
    return asked, answers


_COST = "time O(n) forward passes of a language model, memory O(batch tokens vocabulary) beside it"


@card("score", "Answer loss", "Li et al. 2023, Cherry LLM, arXiv 2308.12032, equation 2", cost=_COST, end="low")
def answer_loss(
    instruction: Sequence[str],
    answer: Sequence[str],
    *,
    reader: Reader,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Conditioned answer score: mean nats a token of the answer behind its instruction, padding and prompt left out.

    Args:
        instruction: (n,) texts.
        answer: (n,) texts.
        reader: the language model.
        store: what was computed before.
        progress: called with what is done, how far, of how many.

    Returns:
        (n,) float32 nats; NaN for an answer without a token that counts.

    Raises:
        ArgumentError: texts that are none, or not as many of both.

    References:
        Li et al. 2023, arXiv 2308.12032, equation 2.
    """
    asked, answers = _pairs(instruction, answer)
    return reader.losses(asked, answers, store or Store(None), progress)


@card("score", "Direct answer loss", "Li et al. 2023, Cherry LLM, arXiv 2308.12032, equation 3", cost=_COST, end="low")
def direct_loss(
    answer: Sequence[str], *, reader: Reader, store: Store | None = None, progress: Progress | None = None
) -> Tensor:
    """Direct answer score: mean nats a token of the answer without any instruction.

    Args:
        answer: (n,) texts.
        reader: the language model.
        store: what was computed before.
        progress: called with what is done, how far, of how many.

    Returns:
        (n,) float32 nats; NaN for an answer without a token that counts.

    Raises:
        ArgumentError: texts that are none.

    References:
        Li et al. 2023, arXiv 2308.12032, equation 3.
    """
    answers = check_texts("answer", answer)
    return reader.losses([None] * len(answers), answers, store or Store(None), progress)


@card("score", "Perplexity", "Ankner et al. 2024, Perplexed by Perplexity, arXiv 2405.20541", cost=_COST, end="middle")
def perplexity(
    answer: Sequence[str], *, reader: Reader, store: Store | None = None, progress: Progress | None = None
) -> Tensor:
    """``exp`` of the mean loss of the answer alone: how surprising the text is to a language model.

    Args:
        answer: (n,) texts.
        reader: the language model.
        store: what was computed before.
        progress: called with what is done, how far, of how many.

    Returns:
        (n,) float32, 1 and above; NaN for an answer without a token that counts.

    Raises:
        ArgumentError: texts that are none.

    References:
        Ankner et al. 2024, arXiv 2405.20541, section 2 (which of low, middle and high is best depends on the data).
    """
    return direct_loss(answer, reader=reader, store=store, progress=progress).exp()


@card("score", "IFD", "Li et al. 2023, Cherry LLM, arXiv 2308.12032, equation 4", cost=f"{_COST}; twice", end="high")
def ifd(
    instruction: Sequence[str],
    answer: Sequence[str],
    *,
    reader: Reader,
    above_one: str = "drop",
    store: Store | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Instruction-following difficulty: answer loss with the instruction over that without, ``s(A|Q) / s(A)``.

    Close to 1 the instruction helps little and the pair is hard to follow. Above 1 it misleads: the paper takes such
    pairs for misaligned and never chooses them.

    Args:
        instruction: (n,) texts.
        answer: (n,) texts.
        reader: the language model.
        above_one: ``"drop"`` gives NaN for a pair above 1, ``"keep"`` its value.
        store: what was computed before.
        progress: called with what is done, how far, of how many.

    Returns:
        (n,) float32, above 0; NaN for a misaligned pair, or an answer without a token that counts.

    Raises:
        ArgumentError: texts that are none, or another ``above_one``.

    References:
        Li et al. 2023, arXiv 2308.12032, equation 4 and section 3.3.
    """
    check.one_of("above_one", above_one, ("drop", "keep"))
    asked, answers = _pairs(instruction, answer)
    kept = store or Store(None)
    ratio = reader.losses(asked, answers, kept, progress) / reader.losses(asked, answers, kept, progress, alone=True)
    return torch.where(ratio > 1, torch.nan, ratio) if above_one == "drop" else ratio
