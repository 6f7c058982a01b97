"""The selector network of InstructionGPT-4, many copies at a time: two layers of self-attention, no activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import derive

Across = Literal["pool", "set"]
"""What an item attends to: the items at its position in the other sets (published), or those of its own set."""
MAX_ATTENTION_ENTRIES = 1 << 22
"""Attention weights in memory at a time while scoring: 16 MB of float32."""


@dataclass(frozen=True)
class NetworkShape:
    """Size of the network.

    Attributes:
        width: numbers in a feature vector; 16 as published.
        heads: of each attention; must divide the width.
        layers: 2 as published.
    """

    width: int = 16
    heads: int = 4
    layers: int = 2

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ArgumentError(f"heads={self.heads} must divide the {self.width} features")

    @property
    def parameters(self) -> int:
        """Weights of one copy.

        >>> NetworkShape().parameters
        2737
        """
        d = self.width
        return self.layers * ((3 * d * d + 3 * d) + (d * d + d) + (d * d + d)) + d + 1


def fitting_heads(width: int, heads: int = 4) -> int:
    """The largest number of heads up to ``heads`` that divides the width."""
    return next(h for h in range(min(heads, width), 0, -1) if width % h == 0)


class Layer(NamedTuple):
    """One layer of k copies: in (k, 3d, d), out and linear (k, d, d), each with its bias."""

    into: Tensor
    into_bias: Tensor
    out: Tensor
    out_bias: Tensor
    linear: Tensor
    linear_bias: Tensor


@dataclass(frozen=True, eq=False)
class Selectors:
    """k copies of the network, each with different weights.

    Attributes:
        shape: of each copy.
        layers: their layers.
        head: (k, 1, d).
        head_bias: (k, 1).
    """

    shape: NetworkShape
    layers: tuple[Layer, ...]
    head: Tensor
    head_bias: Tensor

    def __len__(self) -> int:
        """Number of copies."""
        return len(self.head)

    @property
    def weights(self) -> list[Tensor]:
        """Every tensor of weights."""
        return [*(w for layer in self.layers for w in layer), self.head, self.head_bias]

    def take(self, copies: slice) -> Selectors:
        """Some of the copies."""
        layers = tuple(Layer(*(w[copies] for w in layer)) for layer in self.layers)
        return Selectors(self.shape, layers, self.head[copies], self.head_bias[copies])


def init_selectors(shape: NetworkShape, seeds: list[int], *, published: bool) -> Selectors:
    """Fresh copies, initialised as torch does it, one a seed.

    Args:
        shape: of the network.
        seeds: one a copy.
        published: seed torch with the number itself and build in the published order (attentions, linear layers,
            head), so that seed 42 gives the weights that the published training starts from; otherwise from a stream
            of its own.

    Returns:
        `Selectors` that require gradients. Global random state is as before.
    """
    weights = []
    for seed in seeds:
        # devices=[]: only the CPU generator is used, and saving those of GPUs would initialise CUDA.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed if published else derive(seed, "instruct", "network"))
            attentions = [nn.MultiheadAttention(shape.width, shape.heads) for _ in range(shape.layers)]
            linears = [nn.Linear(shape.width, shape.width) for _ in range(shape.layers)]
            head = nn.Linear(shape.width, 1)
        copy = []
        for attention, linear in zip(attentions, linears, strict=True):
            out = attention.out_proj
            copy += [attention.in_proj_weight, attention.in_proj_bias, out.weight, out.bias, linear.weight, linear.bias]
        weights.append([w.detach() for w in [*copy, head.weight, head.bias]])
    # One (k, ...) tensor for each weight, so that k copies run as one batched product.
    stacked = [torch.stack(copies).requires_grad_() for copies in zip(*weights, strict=True)]
    layers = tuple(Layer(*stacked[6 * i : 6 * i + 6]) for i in range(shape.layers))
    return Selectors(shape, layers, stacked[-2], stacked[-1])


def forward(nets: Selectors, x: Tensor, *, across: Across, mask: Tensor | None = None) -> Tensor:
    """Item scores: ``x += attention(x); x = linear(x)``, twice, then the head (models.py of the published code).

    Args:
        nets: k copies.
        x: (k or 1, s, m, d) features of s sets of m items.
        across: what an item attends to. With ``"pool"`` attention runs over the s sets at each position m, as a batch
            that torch takes for a sequence makes it.
        mask: (k or 1, s, m) bool, False for padding; for ``"set"`` only.

    Returns:
        (k, s, m) scores.
    """
    k, (_, s, m, d) = len(nets), x.shape
    x = x.expand(k, s, m, d)
    if mask is not None:
        # Broadcast over heads and queries: padding is never attended to.
        mask = mask.expand(k, s, m).reshape(k * s, 1, 1, m)
    for layer in nets.layers:
        x = x + _attention(layer, x, nets.shape.heads, across, mask)
        x = _linear(x, layer.linear, layer.linear_bias)
    return _linear(x, nets.head, nets.head_bias)[..., 0]


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(k, s, m, d) by the weights of each copy."""
    k, s, m, d = x.shape
    return torch.baddbmm(bias[:, None], x.reshape(k, s * m, d), weight.mT).view(k, s, m, -1)  # (k, s * m, out)


def _attention(layer: Layer, x: Tensor, heads: int, across: Across, mask: Tensor | None) -> Tensor:
    k, s, m, d = x.shape
    # The axis that is the sequence; the other one of s and m joins the batch.
    along = 1 if across == "pool" else 2
    folded = _linear(x, layer.into, layer.into_bias).view(k, s, m, 3, heads, d // heads)
    # (3, batch, heads, sequence, d / heads)
    folded = folded.permute(3, 0, 3 - along, 4, along, 5).reshape(3, -1, heads, x.shape[along], d // heads)
    query, key, value = folded.unbind(0)
    mixed = _blockwise_attention(query, key, value, mask)
    batch = m if across == "pool" else s
    mixed = mixed.view(k, batch, heads, x.shape[along], d // heads)
    back = (0, 3, 1, 2, 4) if across == "pool" else (0, 1, 3, 2, 4)
    return _linear(mixed.permute(*back).reshape(k, s, m, d), layer.out, layer.out_bias)


def _blockwise_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(d)) v; while scoring in blocks of queries, so that no n x n array is in memory."""
    entries = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    # With gradients the attention is kept for the backward pass anyway, so blocks would save nothing.
    if entries <= MAX_ATTENTION_ENTRIES or query.requires_grad:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    out = torch.empty_like(query)
    entries_per_query = query.shape[1] * key.shape[2]
    if entries_per_query * query.shape[2] <= MAX_ATTENTION_ENTRIES:  # short sequences: several at a time
        size = MAX_ATTENTION_ENTRIES // (entries_per_query * query.shape[2])
        for first in range(0, query.shape[0], size):
            rows = slice(first, first + size)
            row_mask = None if mask is None else mask[rows]
            out[rows] = F.scaled_dot_product_attention(query[rows], key[rows], value[rows], attn_mask=row_mask)
        return out
    size = max(1, MAX_ATTENTION_ENTRIES // entries_per_query)
    for i in range(query.shape[0]):  # long sequences: one at a time, a block of its queries at a time
        row = slice(i, i + 1)
        row_mask = None if mask is None else mask[row]
        for first in range(0, query.shape[2], size):
            block = (row, slice(None), slice(first, first + size))
            out[block] = F.scaled_dot_product_attention(query[block], key[row], value[row], attn_mask=row_mask)
    return out
