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
ENTRIES = 1 << 22
"""Attention weights held at a time while scoring: 16 MB of float32."""


@dataclass(frozen=True)
class Shape:
    """Of the network.

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

        >>> Shape().parameters
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
    """k copies of the network, each with weights of its own.

    Attributes:
        shape: of each.
        layers: their layers.
        head: (k, 1, d).
        head_bias: (k, 1).
    """

    shape: Shape
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

    def take(self, which: slice) -> Selectors:
        """Some of the copies."""
        layers = tuple(Layer(*(w[which] for w in layer)) for layer in self.layers)
        return Selectors(self.shape, layers, self.head[which], self.head_bias[which])


def drawn(shape: Shape, seeds: list[int], *, published: bool) -> Selectors:
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
    made = []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed if published else derive(seed, "instruct", "network"))
            attentions = [nn.MultiheadAttention(shape.width, shape.heads) for _ in range(shape.layers)]
            linears = [nn.Linear(shape.width, shape.width) for _ in range(shape.layers)]
            head = nn.Linear(shape.width, 1)
        one = []
        for attention, linear in zip(attentions, linears, strict=True):
            out = attention.out_proj
            one += [attention.in_proj_weight, attention.in_proj_bias, out.weight, out.bias, linear.weight, linear.bias]
        made.append([w.detach() for w in [*one, head.weight, head.bias]])
    stacked = [torch.stack(parts).requires_grad_() for parts in zip(*made, strict=True)]
    layers = tuple(Layer(*stacked[6 * i : 6 * i + 6]) for i in range(shape.layers))
    return Selectors(shape, layers, stacked[-2], stacked[-1])


def forward(nets: Selectors, x: Tensor, *, across: Across, there: Tensor | None = None) -> Tensor:
    """Item scores: ``x += attention(x); x = linear(x)``, twice, then the head (models.py of the published code).

    Args:
        nets: k copies.
        x: (k or 1, s, m, d) features of s sets of m items.
        across: what an item attends to. With ``"pool"`` attention runs over the s sets at each position m, as a batch
            that torch takes for a sequence makes it.
        there: (k or 1, s, m) bool, False for padding; for ``"set"`` only.

    Returns:
        (k, s, m) scores.
    """
    k, (_, s, m, d) = len(nets), x.shape
    x = x.expand(k, s, m, d)
    mask = None
    if there is not None:
        mask = there.expand(k, s, m).reshape(k * s, 1, 1, m)
    for layer in nets.layers:
        x = x + _attention(layer, x, nets.shape.heads, across, mask)
        x = _linear(x, layer.linear, layer.linear_bias)
    return _linear(x, nets.head, nets.head_bias)[..., 0]


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(k, s, m, d) by each copy's own weights."""
    k, s, m, d = x.shape
    return torch.baddbmm(bias[:, None], x.reshape(k, s * m, d), weight.mT).view(k, s, m, -1)


def _attention(layer: Layer, x: Tensor, heads: int, across: Across, mask: Tensor | None) -> Tensor:
    k, s, m, d = x.shape
    along = 1 if across == "pool" else 2
    folded = _linear(x, layer.into, layer.into_bias).view(k, s, m, 3, heads, d // heads)
    # (3, batch, heads, sequence, d / heads)
    parts = folded.permute(3, 0, 3 - along, 4, along, 5).reshape(3, -1, heads, x.shape[along], d // heads)
    query, key, value = parts.unbind(0)
    mixed = _scaled(query, key, value, mask)
    batch = m if across == "pool" else s
    mixed = mixed.view(k, batch, heads, x.shape[along], d // heads)
    back = (0, 3, 1, 2, 4) if across == "pool" else (0, 1, 3, 2, 4)
    return _linear(mixed.permute(*back).reshape(k, s, m, d), layer.out, layer.out_bias)


def _scaled(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(d)) v; of many queries a block at a time, so that no n x n array is made."""
    entries = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    if entries <= ENTRIES or query.requires_grad:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    out = torch.empty_like(query)
    each = query.shape[1] * key.shape[2]
    if each * query.shape[2] <= ENTRIES:  # many short sequences: some of them at a time
        size = ENTRIES // (each * query.shape[2])
        for first in range(0, query.shape[0], size):
            part = slice(first, first + size)
            own = None if mask is None else mask[part]
            out[part] = F.scaled_dot_product_attention(query[part], key[part], value[part], attn_mask=own)
        return out
    size = max(1, ENTRIES // each)
    for i in range(query.shape[0]):  # long ones: one at a time, some queries of it
        one, own = slice(i, i + 1), None if mask is None else mask[i : i + 1]
        for first in range(0, query.shape[2], size):
            some = query[one, :, first : first + size]
            out[one, :, first : first + size] = F.scaled_dot_product_attention(
                some, key[one], value[one], attn_mask=own
            )
    return out
