"""Attention under a mask of keys, in forms that give the same numbers and differ in what they cost."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6
"""What the published normalisation adds to its sum; a masked key is left with a weight of EPS / n over it."""


@dataclass(frozen=True, eq=False)
class Keys:
    """Which keys each patch attends to; the tokens before the patches attend to all, and are attended to by all.

    Attributes:
        index: (b, m, k) int64, for each of m patches k patches, in any order.
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
        """(b, 1, n, n): 0 where attended to, minus infinity elsewhere; made once for the blocks that share it."""
        made: dict[torch.dtype, Tensor] = self.__dict__.setdefault("_added", {})
        if dtype not in made:
            b, p, n = len(self.index), self.prefix, self.prefix + self.patches
            mask = torch.full((b, n, n), -torch.inf, dtype=dtype, device=self.index.device)
            mask[:, p:].scatter_(2, self.index + p, 0.0)
            mask[:, :p], mask[:, :, :p] = 0.0, 0.0
            made[dtype] = mask[:, None]
        return made[dtype]


Form = Callable[[Tensor, Tensor, Tensor, Keys, float, float], Tensor]


def published(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """The published form: exponentials times a mask, over their sum plus `EPS` (DynamicViT's masked softmax).

    It computes everything and saves nothing.

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
    weight = (score - score.amax(-1, keepdim=True)).exp() * keys.dense
    weight = (weight + EPS / score.shape[-1]) / (weight.sum(-1, keepdim=True) + EPS)
    return F.dropout(weight, dropout).to(v.dtype) @ v


def fused(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """Torch's fused kernel under an added mask: everything is computed too, but no map is kept; as `published`."""
    mask = keys.added(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)


def gathered(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """Only the products that count: each patch's keys and values are gathered; as `published`.

    Of n * n products a head, prefix * n + m * (prefix + k) are left. What is gathered is read from memory once a row,
    where a dense product reads it once a tile, so this pays for long sequences and few keys alone.
    """
    p = keys.prefix
    first = F.scaled_dot_product_attention(q[:, :, :p], k, v, dropout_p=dropout, scale=scale)
    rows, key = q[:, :, p:, None], _taken(k[:, :, p:], keys.index)
    always = q[:, :, p:] @ k[:, :, :p].transpose(-2, -1)
    score = torch.cat([always, (rows @ key.transpose(-2, -1))[:, :, :, 0]], -1) * scale
    weight = F.dropout(score.float().softmax(-1), dropout).to(v.dtype)
    value = _taken(v[:, :, p:], keys.index)
    rest = weight[..., :p] @ v[:, :, :p] + (weight[..., None, p:] @ value)[:, :, :, 0]
    return torch.cat([first, rest], 2)


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """(b, heads, m, k, d) rows of (b, heads, m, d)."""
    b, m, count = index.shape
    heads, d = x.shape[1], x.shape[3]
    flat = x.transpose(1, 2).reshape(b * m, heads * d)  # a token's heads lie together: one long read, not one a head
    rows = (index + m * torch.arange(b, device=x.device)[:, None, None]).flatten()
    return flat.index_select(0, rows).view(b, m, count, heads, d).permute(0, 3, 1, 2, 4)


def flex(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """Torch's flex_attention, which leaves out blocks of keys that no row of a block attends to; as `published`.

    Compiled on CUDA; elsewhere it is as slow as it is right, and has no backward. It has no dropout of weights either:
    where one of these is wanted it is `fused`.
    """
    from torch.nn.attention import flex_attention as torch_flex

    if dropout or (torch.is_grad_enabled() and not q.is_cuda):
        return fused(q, k, v, keys, scale, dropout)
    mask = keys.dense

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

    return torch.compile(flex_attention)


SPARSE_ENOUGH = 0.005
"""Share of the keys up to which gathering measured faster than the fused kernel, on a CPU (benchmarks/vit.py)."""
LONG_ENOUGH = 1024
"""Patches from which on that was so. The paper's shares, 0.1 to 0.3, are far from it: there nothing measured faster."""


def pays(count: int, patches: int) -> bool:
    """Whether leaving keys out saves time: ``count`` of ``patches`` keys a row, gathered.

    >>> pays(5, 1024), pays(59, 196)
    (True, False)
    """
    return count <= SPARSE_ENOUGH * patches and patches >= LONG_ENOUGH


def fastest(q: Tensor, k: Tensor, v: Tensor, keys: Keys, scale: float, dropout: float = 0.0) -> Tensor:
    """`gathered` where that measured faster, else `fused`; as `published`."""
    few = pays(keys.index.shape[2], keys.patches)
    return (gathered if few else fused)(q, k, v, keys, scale, dropout)


PAYING = "paying"
"""The form that masks nothing where gathering does not pay: the level is off there, and costs nothing."""
FORMS: dict[str, Form] = {
    "auto": fastest,
    "fused": fused,
    "gathered": gathered,
    "flex": flex,
    "dense": published,
    PAYING: gathered,
}
"""By name; ``"dense"`` is the published one."""
