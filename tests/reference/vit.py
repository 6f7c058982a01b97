"""Token and attention levels of Tri-Level E-ViT, an image and a row at a time (arXiv 2211.10801; condense.md 1.10)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attention_map(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """(heads, n, n) attention of one image: queries and keys (heads, n, d), a mask (n, n) of 0 and 1 or none."""
    heads, n, d = q.shape
    q, k = q.detach(), k.detach()
    received = torch.zeros(heads, n, n, dtype=torch.float64)
    for h in range(heads):
        for i in range(n):
            score = [float(q[h, i].double() @ k[h, j].double()) / math.sqrt(d) for j in range(n)]
            top = max(score)
            weight = [math.exp(s - top) * (1.0 if mask is None else float(mask[i, j])) for j, s in enumerate(score)]
            for j in range(n):
                received[h, i, j] = weight[j] / sum(weight)
    return received


def kept_patches(attention: Tensor, keep: float, prefix: int) -> list[int]:
    """Positions among the patches that the class token attends to most, ascending."""
    mean = attention.mean(0)[0, prefix:].tolist()
    count = math.ceil(round(len(mean) * keep, 9))
    return sorted(sorted(range(len(mean)), key=lambda i: -mean[i])[:count])


def mask_of(under: Tensor, plain: Tensor, before: Tensor | None, kept: list[int], keep: float, prefix: int) -> Tensor:
    """(prefix + m, prefix + m): rows of patches keep their largest keys, tokens before them see and are seen by all.

    ``under`` is the attention under the mask ``before``, ``plain`` that without: it ranks keys that were masked, last.
    """
    m = len(kept)
    count = math.ceil(round(m * keep, 9))
    mask = torch.ones(prefix + m, prefix + m)
    under, plain = under.mean(0), plain.mean(0)
    for i in range(m):
        row = prefix + kept[i]
        places = {j: prefix + kept[j] for j in range(m)}
        shut = {j: before is not None and not before[row, at] for j, at in places.items()}
        order = sorted(places, key=lambda j: (shut[j], -float((plain if shut[j] else under)[row, places[j]])))
        for j in range(m):
            mask[prefix + i, prefix + j] = float(j in order[:count])
    return mask


def forward(
    model, image: Tensor, *, tokens: float, attention: float, at: tuple[int, ...]
) -> tuple[Tensor, list[list[int]]]:
    """Logits of one image (channels, size, size) through a network named as ours, and what was kept at each stage."""
    x = model.patch_embed(image[None])[0]
    first = [model.cls_token[0]] + ([] if model.dist_token is None else [model.dist_token[0]])
    prefix = len(first)
    x = torch.cat([*first, x]) + model.pos_embed[0]
    mask: Tensor | None = None
    ids, stages = list(range(len(x) - prefix)), []
    for number, block in enumerate(model.blocks):
        heads = block.attn.num_heads
        qkv = block.attn.qkv(block.norm1(x)).reshape(len(x), 3, heads, -1)
        q, k, v = (qkv[:, index].transpose(0, 1) for index in range(3))
        weight = attention_map(q, k, mask)
        mixed = torch.cat([(weight[h].float() @ v[h]) for h in range(heads)], 1)
        x = x + block.attn.proj(mixed)
        if number in at:
            kept = kept_patches(weight, tokens, prefix)
            ids = [ids[i] for i in kept]
            stages.append(ids)
            mask = mask_of(weight, attention_map(q, k, None), mask, kept, attention, prefix)
            x = x[list(range(prefix)) + [prefix + i for i in kept]]
        x = x + block.mlp(block.norm2(x))
    x = model.norm(x)
    logits = model.head(x[0])
    return (logits if prefix == 1 else (logits + model.head_dist(x[1])) / 2), stages


def macs(
    width: int, patches: int, depth: int, *, patch: int, channels: int, classes: int, tokens: float, at: tuple[int, ...]
) -> int:
    """Multiply-adds of a forward pass by hand: a class token, heads that cost nothing more, feed-forward of 4 times."""
    total = patches * channels * patch * patch * width + width * classes
    n = patches
    for number in range(depth):
        total += 4 * (n + 1) * width * width + 2 * (n + 1) ** 2 * width
        if number in at:
            n = math.ceil(round(n * tokens, 9))
        total += 8 * (n + 1) * width * width
    return total
