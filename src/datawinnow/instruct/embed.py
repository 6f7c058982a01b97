"""Embeddings of texts by any transformers encoder or language model: mean of the tokens, or the last one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.progress import Progress
from datawinnow.instruct import _models
from datawinnow.instruct.store import Store, key_of
from datawinnow.text.encode import Pooling, TextEncoder, check_texts
from datawinnow.text.pretrained import fingerprint_pretrained


def embed_texts(
    text: Sequence[str],
    *,
    model: str,
    pooling: Pooling = "mean",
    max_tokens: int = 512,
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
        max_tokens: tokens of a text, the rest is cut off; at most what the model takes.
        batch: texts at a time.
        device: where; None is a GPU if there is one.
        store: what was computed before.
        progress: called with what is done, how far, of how many.

    Returns:
        (n, d) float32, not normalised; a row of NaN for an empty text.

    Raises:
        ArgumentError: no transformers, texts that are none, or another pooling.
        ArgumentError: no such model.

    Source: Wei et al. 2023, arXiv 2308.12067, section 3.1 (last token); Reimers and Gurevych 2019, arXiv 1908.10084
    (mean).
    """
    texts = check_texts("text", text)
    check.number("batch", batch, 1, 10**6, integer=True)
    encoder = TextEncoder(model, pooling=pooling, max_tokens=max_tokens, device=device, dtype="auto")

    def work(at: list[int]) -> np.ndarray:
        return encoder.embed(encoder.tokenize([texts[i] for i in at])).numpy()

    made_by = {
        "model": fingerprint_pretrained(model, encoder.network.config),
        "pooling": pooling,
        "max_tokens": encoder.max_tokens,
    }
    keys = [key_of("embedding", made_by, one) if one.strip() else None for one in texts]
    sizes = [len(one) for one in texts]
    rows = _models.computed(store or Store(None), "embedding", keys, work, batch=batch, order=sizes, progress=progress)
    return _models.vectors(rows)
