"""Selection of patches by the attention of the class token, and of keys by the attention of each patch."""

from __future__ import annotations

import torch
from torch import Tensor

from datawinnow.vit.masked_attention import Keys


def class_scores(q: Tensor, k: Tensor, scale: float, prefix: int) -> Tensor:
    """Attention of the class token to each patch, the mean over the heads.

    One row of the map, computed apart from the fused kernel. It is free of masks, since the class token attends to all.

    Args:
        q: (b, heads, n, d) queries, the class token first.
        k: (b, heads, n, d) keys.
        scale: factor on their products.
        prefix: number of tokens before the patches.

    Returns:
        (b, n - prefix) float32.
    """
    with torch.autocast(q.device.type, enabled=False):
        # float32 also under autocast: in half precision many patches tie, and the choice would depend on the hardware.
        row = (q[:, :, :1].float() * scale) @ k.float().transpose(-2, -1)
    return row.softmax(-1)[:, :, 0, prefix:].mean(1)


def topk_ascending(score: Tensor, count: int) -> Tensor:
    """(b, count) int64 positions of the largest of (b, n), in ascending order for sequential memory access."""
    return score.topk(count, dim=-1, sorted=False).indices.sort(-1).values


def attended_keys(
    q: Tensor, k: Tensor, scale: float, prefix: int, count: int, kept: Tensor, before: Keys | None
) -> Keys:
    """The ``count`` patches with the largest attention of each kept patch, by the mean over the heads.

    Under a mask, keys are ranked by the masked attention, and a row with too few keys left is filled up by the unmasked
    attention. (The published code compares with the smallest kept value, which there is that of all masked keys, and so
    keeps all keys of the row.)

    Args:
        q: (b, heads, n, d) queries.
        k: (b, heads, n, d) keys.
        scale: factor on their products.
        prefix: number of tokens before the patches.
        count: keys a row.
        kept: (b, m) int64 positions of the kept patches.
        before: the mask of this attention, or None.

    Returns:
        The keys of each kept patch, as positions among the kept patches.
    """
    heads, fewer = q.shape[1], kept.shape[1] < k.shape[2] - prefix
    allowed = None if before is None else _gather_tokens(before.dense[:, 0, prefix:], kept)  # (b, m, n)
    under = plain = torch.zeros((), device=q.device)
    for head in range(heads):  # one head's map at a time: all of them would be the largest array of the step
        row = q[:, head, prefix:]
        row = (_gather_tokens(row, kept) if fewer else row) * scale
        weight = (row @ k[:, head].transpose(-2, -1)).float().softmax(-1)
        # Not in place: the first addend is a scalar.
        plain = weight + plain
        if allowed is not None:
            # Renormalised over the allowed keys of this head; clamped, since all of them may have underflowed to 0.
            under = torch.addcdiv(under, weight, (weight * allowed).sum(-1, keepdim=True).clamp_min(1e-30))
    # masked keys rank last: the unmasked mean is at most `heads`
    rank = plain if allowed is None else torch.where(allowed, under, plain - heads)
    rank = rank[:, :, prefix:]
    if fewer:
        # Columns of dropped patches are removed, so positions count the kept ones.
        rank = rank.gather(2, kept[:, None].expand(-1, kept.shape[1], -1))
    return Keys(rank.topk(count, dim=-1, sorted=False).indices, rank.shape[2], prefix)


def drop_patches(x: Tensor, kept: Tensor, prefix: int) -> Tensor:
    """The prefix and the kept patches of tokens (b, n, width): (b, prefix + m, width).

    Args:
        x: (b, n, width), the prefix first.
        kept: (b, m) int64 positions among the patches.
        prefix: number of tokens before the patches.
    """
    first = torch.arange(prefix, device=x.device).expand(len(x), -1)
    return _gather_tokens(x, torch.cat([first, kept + prefix], 1))


def _gather_tokens(x: Tensor, index: Tensor) -> Tensor:
    """(b, m, width) rows of (b, n, width) at (b, m): one read a row; `torch.gather` reads an index for each number."""
    b, n, width = x.shape
    # Rows of the flattened (b * n, width).
    at = index + n * torch.arange(b, device=x.device)[:, None]
    return x.reshape(b * n, width).index_select(0, at.flatten()).view(b, -1, width)
