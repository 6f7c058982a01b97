"""Embeddings of texts by any transformers encoder or language model: mean of the tokens, or the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.progress import Progress
from datawinnow.instruct import _models
from datawinnow.instruct.store import Store, key_of

Pooling = Literal["mean", "last"]


def embed_texts(
    text: Sequence[str],
    *,
    model: str,
    pooling: Pooling = "mean",
    most: int = 512,
    batch: int = 16,
    device: str | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Embeddings of texts; padding has no part in them.

    Args:
        text: (n,) texts.
        model: folder or name of a model with hidden states: a sentence encoder, or a language model.
        pooling: ``"mean"`` over the tokens (sentence encoders), or the ``"last"`` token's state (InstructionGPT-4, with
            Llama 2).
        most: tokens of a text at most.
        batch: texts at a time.
        device: where; None is a GPU if there is one.
        store: what was computed before.
        progress: called with what is done, how far, of how many.

    Returns:
        (n, d) float32, not normalised; a row of NaN for an empty text.

    Raises:
        ArgumentError: no transformers, texts that are none, or another pooling.
        DataError: no such model.

    Source: Wei et al. 2023, arXiv 2308.12067, section 3.1 (last token); Reimers and Gurevych 2019, arXiv 1908.10084
    (mean).
    """
    texts = _models.texts_of("text", text)
    check.one_of("pooling", pooling, ("mean", "last"))
    check.number("batch", batch, 1, 10**6, integer=True)
    tokenizer = _models.load("embeddings", "AutoTokenizer", model)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:  # language models have none: what pads is masked anyway
        tokenizer.pad_token = tokenizer.eos_token
    net: Any = _models.load("embeddings", "AutoModel", model).to(_models.on(device)).eval()
    most = min(most, int(getattr(net.config, "max_position_embeddings", None) or most))

    @torch.inference_mode()
    def work(at: list[int]) -> np.ndarray:
        tokens = tokenizer(
            [texts[i] for i in at], padding=True, truncation=True, max_length=most, return_tensors="pt"
        ).to(net.device)  # fmt: skip
        states = net(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state.float()
        return np.asarray(pooled(states, tokens["attention_mask"].bool(), pooling).cpu().numpy())

    own = {"model": _models.fingerprint(model, net), "pooling": pooling, "most": most}
    keys = [key_of("embedding", own, one) if one.strip() else None for one in texts]
    sizes = [len(one) for one in texts]
    found = _models.computed(
        store or Store(None), "embedding", keys, work, batch=batch, order=sizes, progress=progress
    )  # fmt: skip
    return _models.vectors(found)


def pooled(states: Tensor, real: Tensor, pooling: str) -> Tensor:
    """(b, d) of the states (b, t, d) of tokens, those that pad left out.

    >>> pooled(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]), "mean").tolist()
    [[2.0]]
    """
    if pooling == "last":
        places = torch.arange(real.shape[1], device=real.device) * real
        return states[torch.arange(len(states), device=real.device), places.argmax(dim=1)]
    weights = real[..., None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)
