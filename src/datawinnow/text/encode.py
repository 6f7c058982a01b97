"""Embeddings of texts by a model of transformers: the last hidden states, pooled over the tokens of each text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.progress import Progress
from datawinnow.text.pretrained import load_pretrained, load_tokenizer, max_tokens_of, pick_device, resolve_name

Pooling = Literal["mean", "last"]


class TextEncoder:
    """A sentence encoder or a language model of transformers.

    Args:
        model: see `datawinnow.text.pretrained`.
        pooling: ``"mean"`` over the tokens of a text (Sentence-BERT, arXiv 1908.10084, section 3), or the state of the
            ``"last"`` token (for language models).
        max_tokens: tokens of a text, the rest is cut off; at most, and by default, what the model takes.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        dtype: of the weights; ``"auto"`` is the type in which they are stored.

    Attributes:
        network: the model, in evaluation mode.
        tokenizer: its tokenizer.
        pooling: ``"mean"`` or ``"last"``.
        max_tokens: tokens of a text.

    Raises:
        ArgumentError: transformers is not installed, no such model or device, or an option out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        pooling: Pooling = "mean",
        max_tokens: int | None = None,
        device: str | None = "auto",
        dtype: Any = torch.float32,
    ) -> None:
        check.one_of("pooling", pooling, ("mean", "last"))
        if max_tokens is not None:
            check.number("max_tokens", max_tokens, 1, 1 << 40, integer=True)
        self.pooling = pooling
        self.tokenizer = load_tokenizer(model, "embeddings")
        self.network = load_pretrained("AutoModel", model, "embeddings", dtype=dtype).to(pick_device(device)).eval()
        limit = max_tokens_of(self.tokenizer, self.network.config)
        self.max_tokens = limit if max_tokens is None else min(max_tokens, limit)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, cut to `max_tokens`, with the marks that the tokenizer adds."""
        ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens, verbose=False)[
            "input_ids"
        ]
        return ids

    @torch.no_grad()
    def embed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """(b, d) float32 embeddings of one batch of token ids, on the CPU."""
        width, device = max(map(len, rows)), self.network.device
        padding = int(self.tokenizer.pad_token_id or 0)  # masked: its value does not matter
        ids = torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows], device=device)
        sizes = torch.tensor([len(row) for row in rows], device=device)
        # (b, t)
        mask = torch.arange(width, device=device) < sizes[:, None]
        states = self.network(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        return pool_states(states, mask, self.pooling).cpu()

    def encode(self, texts: Sequence[str], *, batch: int = 64, progress: Progress | None = None) -> Tensor:
        """Embeddings of texts.

        Texts of similar length share a batch, so that little is padded.

        Args:
            texts: (n,) strings, n at least 1.
            batch: texts at a time.
            progress: called as ``progress("embedding", done, n)`` after each batch.

        Returns:
            (n, d) float32, in the order of the texts.
        """
        check.number("batch", batch, 1, 1 << 20, integer=True)
        ids = self.tokenize(texts)
        # ties by position: the batches are the same in every run
        order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        rows: Tensor | None = None
        for first in range(0, len(order), batch):
            index = order[first : first + batch]
            embedded = self.embed([ids[i] for i in index])
            if rows is None:
                rows = torch.empty(len(order), embedded.shape[1])
            rows[torch.tensor(index)] = embedded
            if progress is not None:
                progress("embedding", first + len(index), len(order))
        assert rows is not None
        return rows


def pool_states(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pool the states of the tokens of each text, padding left out.

    Args:
        states: (b, t, d) float.
        mask: (b, t) bool, True for a token of the text.
        pooling: ``"mean"`` or ``"last"``.

    Returns:
        (b, d); the mean of a text without tokens is 0.

    >>> pool_states(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]), "mean").tolist()
    [[2.0]]
    """
    if pooling == "last":
        # positions of padding become 0, so the largest is that of the last token
        places = torch.arange(mask.shape[1], device=mask.device) * mask
        return states[torch.arange(len(states), device=mask.device), places.argmax(dim=1)]
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)


@dataclass(frozen=True)
class SentenceConfig:
    """Settings of a model in a folder in the layout of sentence-transformers.

    Attributes:
        max_tokens: tokens of a text (``sentence_bert_config.json``); None where it does not say.
        normalise: whether embeddings have length 1 (``modules.json``).
    """

    max_tokens: int | None = None
    normalise: bool = False


def sentence_config(model: str) -> SentenceConfig:
    """The `SentenceConfig` of a model; the defaults where there is none, or the files cannot be read."""
    root = Path(resolve_name(model))
    max_tokens = None
    try:
        # read first: it counts even where modules.json is missing
        max_tokens = int(json.loads((root / "sentence_bert_config.json").read_text())["max_seq_length"])
        modules = json.loads((root / "modules.json").read_text())
        return SentenceConfig(max_tokens, any(str(module["type"]).endswith("Normalize") for module in modules))
    except (OSError, ValueError, KeyError, TypeError):
        return SentenceConfig(max_tokens)


def check_texts(name: str, texts: Sequence[str]) -> list[str]:
    """``texts`` as a list of strings.

    Args:
        name: of the argument, for the error.
        texts: (n,) strings.

    Raises:
        ArgumentError: a single string, no texts, or something that is not a string.
    """
    if isinstance(texts, str):
        raise ArgumentError(f"{name} must be a list of texts, one an example, got one text")
    values = list(texts)
    if not values:
        raise ArgumentError(f"{name} is empty; it must hold at least one text")
    wrong = next((i for i, text in enumerate(values) if not isinstance(text, str)), None)
    if wrong is not None:
        raise ArgumentError(f"{name} must hold texts, got {type(values[wrong]).__name__} for example {wrong}")
    return values
