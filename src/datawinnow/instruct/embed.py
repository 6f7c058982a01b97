"""Embeddings of texts by any sentence encoder or language model of transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.progress import Progress
from datawinnow.instruct.indicator_cache import IndicatorCache, cache_key
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
    cache: IndicatorCache | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Embeddings of texts, from a cache by content; padding has no influence.

    Args:
        text: (n,) texts.
        model: folder or name of a sentence encoder or a language model.
        pooling: ``"mean"`` over the tokens (sentence encoders), or the state of the ``"last"`` token (InstructionGPT-4,
            with Llama 2).
        max_tokens: tokens of a text, the rest is cut off; at most what the model takes.
        batch: texts at a time.
        device: ``"cpu"``, ``"cuda"``, ...; None is a GPU where there is one.
        cache: of earlier results.
        progress: called as ``progress("embedding", done, total)``.

    Returns:
        (n, d) float32, not normalised; a row of NaN for an empty text.

    Raises:
        ArgumentError: transformers is not installed, no such model, values that are not texts, or another pooling.

    Source: Wei et al. 2023, arXiv 2308.12067, section 3.1 (last token); Reimers and Gurevych 2019, arXiv 1908.10084
    (mean).
    """
    texts = check_texts("text", text)
    check.number("batch", batch, 1, 10**6, integer=True)
    encoder = TextEncoder(model, pooling=pooling, max_tokens=max_tokens, device=device, dtype="auto")

    def compute_batch(index: list[int]) -> np.ndarray:
        return encoder.embed(encoder.tokenize([texts[i] for i in index])).numpy()

    made_by = {
        "model": fingerprint_pretrained(model, encoder.network.config),
        "pooling": pooling,
        "max_tokens": encoder.max_tokens,
    }
    # An empty text has no token to pool over.
    keys = [cache_key("embedding", made_by, one) if one.strip() else None for one in texts]
    sizes = [len(one) for one in texts]
    cache = cache or IndicatorCache(None)
    return cache.compute("embedding", keys, compute_batch, batch=batch, sizes=sizes, progress=progress)
