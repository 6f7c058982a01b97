"""Attention under a mask of keys, in forms that give the same outputs at different costs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6
"""Added to the sum of weights by the published normalisation; a masked key keeps a weight of about EPS / n."""


@dataclass(frozen=True, eq=False)
class Keys:
    """The keys that each patch attends to. Tokens before the patches attend to all and are attended to by all.

    Attributes:
        index: (b, m, k) int64, the k keys of each of m patches, in any order.
        patches: m.
        prefix: tokens before the patches.
    """

    index: Tensor
    patches: int
    prefix: int

    @functools.cached_property
    def dense(self) -> Tensor:
        """(b, 1, n, n) bool for n = prefix + m tokens: row by column, whether it is attended to."""
        b, m, _ = self.index.shape
        inner = torch.zeros(b, m, m, dtype=torch.bool, device=self.index.device).scatter_(2, self.index, True)
        return F.pad(inner, (self.prefix, 0, self.prefix, 0), value=True)[:, None]

    def added(self, dtype: torch.dtype) -> Tensor:
        """(b, 1, n, n): 0 where attended to, minus infinity elsewhere; built once for the blocks that share it."""
        # Through __dict__, since the dataclass is frozen; a cache is no field of it.
        masks: dict[torch.dtype, Tensor] = self.__dict__.setdefault("_added", {})
        if dtype not in masks:
            b, p, n = len(self.index), self.prefix, self.prefix + self.patches
            mask = torch.full((b, n, n), -torch.inf, dtype=dtype, device=self.index.device)
            mask[:, p:].scatter_(2, self.index + p, 0.0)
            # Prefix rows attend to everything, and prefix columns are attended to by all.
            mask[:, :p], mask[:, :, :p] = 0.0, 0.0
            masks[dtype] = mask[:, None]
        return masks[dtype]


MaskedAttention = Callable[[Tensor, Tensor, Tensor, Keys, float, float], Tensor]


def published_attention(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """The published form: exponentials times a mask, over their sum plus `EPS` (DynamicViT's masked softmax).

    It computes all products and saves nothing.

    Args:
        q: (b, heads, n, d).
        k: as ``q``.
        v: as ``q``.
        keys: the mask.
        scale: factor on the products.
        dropout: rate at which weights are dropped.

    Returns:
        (b, heads, n, d).
    """
    score = (q @ k.transpose(-2, -1) * scale).float()
    # The maximum is over all keys, masked ones too, as in the published code: it only keeps exp() from overflowing.
    weight = (score - score.amax(-1, keepdim=True)).exp() * keys.dense
    weight = (weight + EPS / score.shape[-1]) / (weight.sum(-1, keepdim=True) + EPS)
    # F.dropout drops whatever the mode: the caller passes 0 in evaluation.
    return F.dropout(weight, dropout).to(v.dtype) @ v


def fused_attention(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """Torch's fused kernel under an added mask: all products, but no map in memory; same as `published_attention`."""
    mask = keys.added(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)


def gathered_attention(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """Only the products of kept keys, which are gathered for each patch; same as `published_attention`.

    Of n * n products a head, prefix * n + m * (prefix + k) are left. Gathered keys are read from memory once a row,
    where a dense product reads them once a tile, so this pays only for long sequences and few keys.
    """
    p = keys.prefix
    first = F.scaled_dot_product_attention(q[:, :, :p], k, v, dropout_p=dropout, scale=scale)
    rows, key = q[:, :, p:, None], _gather_keys(k[:, :, p:], keys.index)
    always = q[:, :, p:] @ k[:, :, :p].transpose(-2, -1)
    # (b, heads, m, prefix + k): one softmax over the prefix and the kept keys.
    score = torch.cat([always, (rows @ key.transpose(-2, -1))[:, :, :, 0]], -1) * scale
    weight = F.dropout(score.float().softmax(-1), dropout).to(v.dtype)
    value = _gather_keys(v[:, :, p:], keys.index)
    rest = weight[..., :p] @ v[:, :, :p] + (weight[..., None, p:] @ value)[:, :, :, 0]
    return torch.cat([first, rest], 2)


def _gather_keys(x: Tensor, index: Tensor) -> Tensor:
    """(b, heads, m, k, d) rows of (b, heads, m, d)."""
    b, m, count = index.shape
    heads, d = x.shape[1], x.shape[3]
    flat = x.transpose(1, 2).reshape(b * m, heads * d)  # a token's heads lie together: one long read, not one a head
    rows = (index + m * torch.arange(b, device=x.device)[:, None, None]).flatten()
    return flat.index_select(0, rows).view(b, m, count, heads, d).permute(0, 3, 1, 2, 4)


def flex_masked_attention(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """Torch's flex_attention, which skips blocks of keys that no row attends to; same as `published_attention`.

    Compiled on CUDA. On a CPU it is slow and has no backward, and nowhere does it drop weights: where gradients on a
    CPU or dropout are needed, this is `fused_attention`.
    """
    from torch.nn.attention import flex_attention as torch_flex

    if dropout or (torch.is_grad_enabled() and not q.is_cuda):
        return fused_attention(q, k, v, keys, scale, dropout)
    mask = keys.dense

    # flex_attention traces this with index tensors, so the mask is looked up and not passed.
    def attends(b: Tensor, h: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return mask[b, 0, row, column]

    n = q.shape[2]
    blocks = torch_flex.create_block_mask(attends, len(q), None, n, n, device=q.device)
    run: Any = _compiled() if q.is_cuda else torch_flex.flex_attention
    out: Tensor = run(q, k, v, block_mask=blocks, scale=scale)
    return out


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    # Compiled once: uncompiled flex_attention computes every product and holds the whole map.
    return torch.compile(flex_attention)


SPARSE_ENOUGH = 0.005
"""Share of the keys up to which gathering measured faster than the fused kernel, on a CPU (benchmarks/vit.py)."""
LONG_ENOUGH = 1024
"""Number of patches from which gathering measured faster. At the paper's shares, 0.1 to 0.3, it never did."""


def gathering_pays(count: int, patches: int) -> bool:
    """Whether gathering ``count`` of ``patches`` keys a row saves time.

    >>> gathering_pays(5, 1024), gathering_pays(59, 196)
    (True, False)
    """
    return count <= SPARSE_ENOUGH * patches and patches >= LONG_ENOUGH


def fastest_attention(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """`gathered_attention` where it measured faster, else `fused_attention`; same as `published_attention`."""
    gathers = gathering_pays(keys.index.shape[2], keys.patches)
    return (gathered_attention if gathers else fused_attention)(q, k, v, keys, scale, dropout)


PAYING = "paying"
"""The form that masks keys only where `gathering_pays`; elsewhere the attention level is off."""
FORMS: dict[str, MaskedAttention] = {
    "auto": fastest_attention,
    "fused": fused_attention,
    "gathered": gathered_attention,
    "flex": flex_masked_attention,
    "dense": published_attention,
    PAYING: gathered_attention,
}
"""Forms by name."""
