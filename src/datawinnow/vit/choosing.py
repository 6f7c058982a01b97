"""Which patches and which keys are kept: by the attention of the class token, and by that of the patches themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from datawinnow.vit.masked import Keys


def class_scores(q: Tensor, k: Tensor, scale: float, prefix: int) -> Tensor:
    """Attention of the class token to each patch, the mean over the heads.

    One row of the map, computed beside the fused kernel. No mask changes it, since the class token attends to all.

    Args:
        q: (b, heads, n, d) queries, the class token first.
        k: (b, heads, n, d) keys.
        scale: factor on their products.
        prefix: tokens before the patches.

    Returns:
        (b, n - prefix) float32.
    """
    with torch.autocast(q.device.type, enabled=False):
        row = (q[:, :, :1].float() * scale) @ k.float().transpose(-2, -1)
    return row.softmax(-1)[:, :, 0, prefix:].mean(1)


def highest(score: Tensor, count: int) -> Tensor:
    """(b, count) int64 positions of the largest of (b, n), in ascending order, so that memory is walked one way."""
    return score.topk(count, dim=-1, sorted=False).indices.sort(-1).values


def attended_keys(
    q: Tensor, k: Tensor, scale: float, prefix: int, count: int, kept: Tensor, before: Keys | None
) -> Keys:
    """The ``count`` patches that each kept patch attends to most, by the mean over the heads.

    Where a mask was in force the attention under it counts, and a row that has too few keys left is filled up by the
    attention without it. (The published code compares with the smallest kept value there, which is that of all masked
    keys, and so opens the whole row.)

    Args:
        q: (b, heads, n, d) queries.
        k: (b, heads, n, d) keys.
        scale: factor on their products.
        prefix: tokens before the patches.
        count: keys a row.
        kept: (b, m) int64 positions of the patches that stay.
        before: the mask that this attention was under.

    Returns:
        The keys of each kept patch, positions among the kept.
    """
    heads, fewer = q.shape[1], kept.shape[1] < k.shape[2] - prefix
    allowed = None if before is None else _rows(before.dense[:, 0, prefix:], kept)
    under = plain = torch.zeros((), device=q.device)
    for head in range(heads):  # one map at a time: all of them would be the largest array of the step
        row = q[:, head, prefix:]
        row = (_rows(row, kept) if fewer else row) * scale
        weight = (row @ k[:, head].transpose(-2, -1)).float().softmax(-1)
        plain = weight + plain
        if allowed is not None:
            under = torch.addcdiv(under, weight, (weight * allowed).sum(-1, keepdim=True).clamp_min(1e-30))
    found = plain if allowed is None else torch.where(allowed, under, plain - heads)  # what is shut ranks last
    found = found[:, :, prefix:]
    if fewer:
        found = found.gather(2, kept[:, None].expand(-1, kept.shape[1], -1))
    return Keys(found.topk(count, dim=-1, sorted=False).indices, found.shape[2], prefix)


def without(x: Tensor, kept: Tensor, prefix: int) -> Tensor:
    """Tokens (b, n, width) without the patches that are not kept: (b, prefix + m, width).

    Args:
        x: (b, n, width), the prefix first.
        kept: (b, m) int64 positions among the patches.
        prefix: tokens that always stay.
    """
    first = torch.arange(prefix, device=x.device).expand(len(x), -1)
    return _rows(x, torch.cat([first, kept + prefix], 1))


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """(b, m, width) rows of (b, n, width) at (b, m): one read a row, where `torch.gather` reads an index a number."""
    b, n, width = x.shape
    at = index + n * torch.arange(b, device=x.device)[:, None]
    return x.reshape(b * n, width).index_select(0, at.flatten()).view(b, -1, width)
