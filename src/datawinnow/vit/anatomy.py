"""Where the parts of somebody's vision transformer are: found by the names of its attributes, nothing is edited.

Two structures cover our own networks, timm's and transformers': blocks that hold ``norm1, attn, norm2, mlp`` with one
linear layer for queries, keys and values, and layers that hold ``layernorm_before, attention, layernorm_after, mlp``
with one for each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError

Attended = Callable[[Tensor], Tensor]


class Parts(Protocol):
    """How the blocks of one structure work."""

    name: str

    def attention(self, block: nn.Module) -> nn.Module:
        """The attention of a block."""
        ...

    def heads(self, attention: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (b, heads, n, head_dim) of normalised tokens (b, n, width)."""
        ...

    def merge(self, attention: nn.Module, y: Tensor) -> Any:
        """What the attention's forward gives for attended values (b, heads, n, head_dim)."""
        ...

    def scale(self, attention: nn.Module) -> float:
        """Factor on the products of queries and keys."""
        ...

    def dropout(self, attention: nn.Module) -> float:
        """Rate at which attention weights are dropped in training."""
        ...

    def block(self, block: nn.Module, x: Tensor, choose: Attended) -> Tensor:
        """The block's forward with ``choose`` between its attention and what follows."""
        ...


class Fused:
    """``norm1, attn.qkv, attn.proj, norm2, mlp``: ours and timm's."""

    name = "timm"

    def attention(self, block: Any) -> nn.Module:
        """The attention of a block."""
        return block.attn  # type: ignore[no-any-return]

    def heads(self, attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, normalised where the network does that."""
        b, n, _ = x.shape
        q, k, v = attention.qkv(x).view(b, n, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = (_maybe(attention, f"{name}_norm", value) for name, value in (("q", q), ("k", k)))
        return q, k, v

    def merge(self, attention: Any, y: Tensor) -> Tensor:
        """(b, n, width)."""
        y = _maybe(attention, "norm", y.transpose(1, 2).flatten(2))
        return _maybe(attention, "proj_drop", attention.proj(y))

    def scale(self, attention: Any) -> float:
        """Factor on the products of queries and keys."""
        return float(attention.scale)

    def dropout(self, attention: Any) -> float:
        """Rate of the attention's dropout."""
        return float(getattr(getattr(attention, "attn_drop", None), "p", 0.0))

    def block(self, block: Any, x: Tensor, choose: Attended) -> Tensor:
        """Branches with layer scale and stochastic depth where the block has them."""
        x = choose(x + _branch(block, 1, block.attn(block.norm1(x))))
        return x + _branch(block, 2, block.mlp(block.norm2(x)))


class Separate:
    """``layernorm_before, attention.q_proj, ..., attention.o_proj, layernorm_after, mlp``: transformers' from 5.0."""

    name = "transformers"

    def attention(self, block: Any) -> nn.Module:
        """The attention of a layer."""
        return block.attention  # type: ignore[no-any-return]

    def heads(self, attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values."""
        b, n, _ = x.shape
        layers = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (layer(x).view(b, n, -1, attention.head_dim).transpose(1, 2) for layer in layers)
        return q, k, v

    def merge(self, attention: Any, y: Tensor) -> tuple[Tensor, None]:
        """(b, n, width), and no map of the attention: it is not made."""
        return attention.o_proj(y.transpose(1, 2).flatten(2)), None

    def scale(self, attention: Any) -> float:
        """Factor on the products of queries and keys."""
        return float(attention.scaling)

    def dropout(self, attention: Any) -> float:
        """Rate of the attention's dropout."""
        return float(attention.attention_dropout)

    def block(self, block: Any, x: Tensor, choose: Attended) -> Tensor:
        """As the layer's own forward."""
        x = choose(block.dropout(block.attention(block.layernorm_before(x))[0]) + x)
        out: Tensor = block.dropout(block.mlp(block.layernorm_after(x))) + x
        return out


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The parts of one network.

    Attributes:
        blocks: its transformer blocks, first to last.
        parts: how they work.
        prefix: tokens before the patches: the class token, and a distillation or register tokens.
        embedding: the convolution that makes tokens of patches.
    """

    blocks: list[nn.Module]
    parts: Parts
    prefix: int
    embedding: nn.Module

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of an image."""
        stride: Any = self.embedding.stride
        return height // stride[0], width // stride[1]


FUSED = ("norm1", "attn.qkv", "attn.proj", "attn.num_heads", "attn.scale", "norm2", "mlp")
SEPARATE = (
    *("layernorm_before", "attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj"),
    *("attention.head_dim", "attention.scaling", "attention.attention_dropout", "dropout", "layernorm_after", "mlp"),
)
BRANCHES = ("ls1", "drop_path1", "ls2", "drop_path2", "drop_path", "dropout")
KNOWN = {need.partition(".")[0] for need in (*FUSED, *SEPARATE)}.union(BRANCHES)
KNOWN_ATTENTION = {need.partition(".")[2] for need in (*FUSED, *SEPARATE)}.union(
    ("q_norm", "k_norm", "attn_drop", "norm", "proj_drop")
)
"""The modules that the two structures run; others would be passed over."""
STRUCTURES: tuple[tuple[str, tuple[str, ...], type[Parts]], ...] = (
    ("blocks", FUSED, Fused),
    ("layers", SEPARATE, Separate),
)


def anatomy_of(model: nn.Module) -> Anatomy:
    """Find the parts of a vision transformer.

    Args:
        model: ours, transformers' ``ViT...`` or ``DeiT...``, timm's ``VisionTransformer``, or a module that holds one.

    Raises:
        ArgumentError: it is none of them, says what is missing; it has no class token; or its blocks have more parts.
    """
    for _, owner in model.named_modules():
        for attribute, needs, parts in STRUCTURES:
            blocks = getattr(owner, attribute, None)
            if not isinstance(blocks, (nn.ModuleList, nn.Sequential)) or not len(blocks):
                continue
            if all(_has(block, need) for block in blocks for need in needs) and not _positional(blocks[0]):
                _no_more(model, blocks, parts())
                prefix, embedding = _around(model, owner)
                return Anatomy(list(blocks), parts(), prefix, embedding)
    raise ArgumentError(
        f"model must be a vision transformer that vit knows, got {type(model).__name__}: use datawinnow's own (vit, "
        "vit_tiny, vit_small, vit_base), timm's VisionTransformer, or transformers' ViT or DeiT (version 5). It needs "
        f".blocks whose items have {', '.join(FUSED)}, or .layers whose items have {', '.join(SEPARATE[:5])} and so "
        "on, and a class token"
    )


def _around(model: nn.Module, owner: Any) -> tuple[int, nn.Module]:
    """Tokens before the patches, and the convolution that makes tokens of patches."""
    home = getattr(owner, "embeddings", owner)
    if getattr(home, "cls_token", None) is None:
        raise ArgumentError(
            f"the vision transformer {type(model).__name__} has no class token (.cls_token), by whose attention "
            "patches are kept: use one that has"
        )
    extra = ("dist_token", "distillation_token")
    own = 1 + sum(getattr(home, name, None) is not None for name in extra)
    prefix = int(getattr(owner, "num_prefix_tokens", own))
    convolution = next((m for m in home.modules() if isinstance(m, nn.Conv2d)), None)
    if convolution is None:
        raise ArgumentError(f"the vision transformer {type(model).__name__} makes its patches by no convolution")
    return prefix, convolution


def _no_more(model: nn.Module, blocks: Any, parts: Parts) -> None:
    """Refuse blocks that do more than `parts` knows, which would be left out silently: BEiT's bias, CaiT's scales."""
    for block in blocks:
        for module, known in ((block, KNOWN), (parts.attention(block), KNOWN_ATTENTION)):
            own = [name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]
            more = sorted({*own, *(name for name, _ in module.named_children())} - known)
            if more:
                raise ArgumentError(
                    f"the blocks of {type(model).__name__} have parts that vit does not know how to run: "
                    f"{', '.join(more)} of {type(module).__name__}; it takes those of ViT and DeiT"
                )


def _positional(block: nn.Module) -> bool:
    """Whether a block is told of positions in each call: leaving tokens out would shift them."""
    names = set(inspect.signature(type(block).forward).parameters)
    return bool(names & {"rope", "position_embeddings", "rel_pos_bias", "relative_position_bias"})


def _has(module: Any, path: str) -> bool:
    for name in path.split("."):
        module = getattr(module, name, None)
        if module is None:
            return False
    return True


def _maybe(module: Any, name: str, x: Tensor) -> Tensor:
    """``x`` through a part that not every version has."""
    part = getattr(module, name, None)
    return x if part is None else part(x)


def _branch(block: Any, number: int, x: Tensor) -> Tensor:
    x = _maybe(block, f"ls{number}", x)
    shared = getattr(block, "drop_path", None)  # one for both, as in older versions and in ours
    return shared(x) if shared is not None else _maybe(block, f"drop_path{number}", x)
