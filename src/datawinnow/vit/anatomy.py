"""The modules of a vision transformer, found by the names of its attributes.

Two structures cover datawinnow's networks, timm's and transformers': blocks with ``norm1, attn, norm2, mlp`` and one
linear layer for queries, keys and values, and layers with ``layernorm_before, attention, layernorm_after, mlp`` and one
linear layer for each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from datawinnow.core.errors import ArgumentError

TokenFilter = Callable[[Tensor], Tensor]


class BlockStructure(Protocol):
    """How to run the blocks of one structure."""

    name: str

    def attention(self, block: nn.Module) -> nn.Module:
        """The attention of a block."""
        ...

    def heads(self, attention: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (b, heads, n, head_dim) of normalised tokens (b, n, width)."""
        ...

    def merge(self, attention: nn.Module, y: Tensor) -> Any:
        """The output of the attention's forward, of attended values (b, heads, n, head_dim)."""
        ...

    def scale(self, attention: nn.Module) -> float:
        """Factor on the products of queries and keys."""
        ...

    def dropout(self, attention: nn.Module) -> float:
        """Rate at which attention weights are dropped in training."""
        ...

    def block(self, block: nn.Module, x: Tensor, filter_tokens: TokenFilter) -> Tensor:
        """The block's forward with ``filter_tokens`` between its attention and its feed-forward."""
        ...


class FusedStructure:
    """``norm1, attn.qkv, attn.proj, norm2, mlp``: the structure of datawinnow and timm."""

    name = "timm"

    def attention(self, block: Any) -> nn.Module:
        """The attention of a block."""
        return block.attn  # type: ignore[no-any-return]

    def heads(self, attention: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values; normalised if the network has ``q_norm`` and ``k_norm``."""
        b, n, _ = x.shape
        # (b, n, 3 * width) -> (3, b, heads, n, head_dim)
        q, k, v = attention.qkv(x).view(b, n, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = (_apply_if_present(attention, f"{name}_norm", value) for name, value in (("q", q), ("k", k)))
        return q, k, v

    def merge(self, attention: Any, y: Tensor) -> Tensor:
        """(b, n, width)."""
        # timm has a norm between attention and projection in some variants.
        y = _apply_if_present(attention, "norm", y.transpose(1, 2).flatten(2))
        return _apply_if_present(attention, "proj_drop", attention.proj(y))

    def scale(self, attention: Any) -> float:
        """Factor on the products of queries and keys."""
        return float(attention.scale)

    def dropout(self, attention: Any) -> float:
        """Rate of the attention's dropout."""
        return float(getattr(getattr(attention, "attn_drop", None), "p", 0.0))

    def block(self, block: Any, x: Tensor, filter_tokens: TokenFilter) -> Tensor:
        """Both branches, with layer scale and stochastic depth if the block has them."""
        # After the residual: dropped patches have still been attended to in this block.
        x = filter_tokens(x + _branch(block, 1, block.attn(block.norm1(x))))
        return x + _branch(block, 2, block.mlp(block.norm2(x)))


class SeparateStructure:
    """``layernorm_before, attention.q_proj, ..., attention.o_proj, layernorm_after, mlp``: transformers 5."""

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
        """(b, n, width), and None in the place of the attention map."""
        return attention.o_proj(y.transpose(1, 2).flatten(2)), None

    def scale(self, attention: Any) -> float:
        """Factor on the products of queries and keys."""
        return float(attention.scaling)

    def dropout(self, attention: Any) -> float:
        """Rate of the attention's dropout."""
        return float(attention.attention_dropout)

    def block(self, block: Any, x: Tensor, filter_tokens: TokenFilter) -> Tensor:
        """The computation of the layer's forward."""
        x = filter_tokens(block.dropout(block.attention(block.layernorm_before(x))[0]) + x)
        out: Tensor = block.dropout(block.mlp(block.layernorm_after(x))) + x
        return out


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The modules of one network.

    Attributes:
        blocks: the transformer blocks, first to last.
        structure: how to run them.
        prefix: number of tokens before the patches: the class token, and distillation or register tokens.
        embedding: the convolution that embeds patches.
    """

    blocks: list[nn.Module]
    structure: BlockStructure
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
BLOCK_MODULES = {need.partition(".")[0] for need in (*FUSED, *SEPARATE)}.union(BRANCHES)
ATTENTION_MODULES = {need.partition(".")[2] for need in (*FUSED, *SEPARATE)}.union(
    ("q_norm", "k_norm", "attn_drop", "norm", "proj_drop")
)
"""Names of the modules that the two structures run. A block with any other is refused: it would be skipped silently."""
STRUCTURES: tuple[tuple[str, tuple[str, ...], type[BlockStructure]], ...] = (
    ("blocks", FUSED, FusedStructure),
    ("layers", SEPARATE, SeparateStructure),
)


def anatomy_of(model: nn.Module) -> Anatomy:
    """Find the blocks and the patch embedding of a vision transformer.

    Args:
        model: `datawinnow.models.vit`, transformers' ``ViT...`` or ``DeiT...``, timm's ``VisionTransformer``, or a
            module that holds one of them.

    Raises:
        ArgumentError: another structure, no class token, or blocks with unknown modules.
    """
    # The model may be wrapped (a classifier around a backbone): the first module that owns the blocks is taken.
    for _, owner in model.named_modules():
        for attribute, required, structure in STRUCTURES:
            blocks = getattr(owner, attribute, None)
            if not isinstance(blocks, (nn.ModuleList, nn.Sequential)) or not len(blocks):
                continue
            if all(_has_attribute(block, name) for block in blocks for name in required) and not _takes_positions(
                blocks[0]
            ):
                _check_no_extra_modules(model, blocks, structure())
                prefix, embedding = _prefix_and_embedding(model, owner)
                return Anatomy(list(blocks), structure(), prefix, embedding)
    raise ArgumentError(
        f"model must be a supported vision transformer, got {type(model).__name__}: use datawinnow's (vit, vit_tiny, "
        "vit_small, vit_base), timm's VisionTransformer, or transformers' ViT or DeiT (version 5). It needs "
        f".blocks whose items have {', '.join(FUSED)}, or .layers whose items have {', '.join(SEPARATE[:5])} and so "
        "on, and a class token"
    )


def _prefix_and_embedding(model: nn.Module, owner: Any) -> tuple[int, nn.Module]:
    """Number of tokens before the patches, and the convolution that embeds patches."""
    home = getattr(owner, "embeddings", owner)
    if getattr(home, "cls_token", None) is None:
        raise ArgumentError(
            f"the vision transformer {type(model).__name__} has no class token (.cls_token), by whose attention "
            "patches are kept: use a model with one"
        )
    # timm says how many; otherwise the class token and what distillation adds.
    distillation = sum(getattr(home, name, None) is not None for name in ("dist_token", "distillation_token"))
    prefix = int(getattr(owner, "num_prefix_tokens", 1 + distillation))
    convolution = next((m for m in home.modules() if isinstance(m, nn.Conv2d)), None)
    if convolution is None:
        raise ArgumentError(
            f"the vision transformer {type(model).__name__} does not embed its patches by a convolution"
        )
    return prefix, convolution


def _check_no_extra_modules(model: nn.Module, blocks: Any, structure: BlockStructure) -> None:
    """Refuse blocks with modules that `structure` does not run, such as BEiT's bias or CaiT's scales."""
    for block in blocks:
        for module, supported in ((block, BLOCK_MODULES), (structure.attention(block), ATTENTION_MODULES)):
            names = {name for name, _ in module.named_children()}
            names |= {name for name, _ in module.named_parameters(recurse=False)}
            names |= {name for name, _ in module.named_buffers(recurse=False)}
            extra = sorted(names - supported)
            if extra:
                raise ArgumentError(
                    f"the blocks of {type(model).__name__} have modules that vit cannot run: "
                    f"{', '.join(extra)} of {type(module).__name__}; only the blocks of ViT and DeiT are supported"
                )


def _takes_positions(block: nn.Module) -> bool:
    """Whether a block takes positions in each call; dropping tokens would shift them."""
    names = set(inspect.signature(type(block).forward).parameters)
    return bool(names & {"rope", "position_embeddings", "rel_pos_bias", "relative_position_bias"})


def _has_attribute(module: Any, path: str) -> bool:
    for name in path.split("."):
        module = getattr(module, name, None)
        if module is None:
            return False
    return True


def _apply_if_present(module: Any, name: str, x: Tensor) -> Tensor:
    """``x`` through a submodule, or ``x`` if the module lacks it."""
    submodule = getattr(module, name, None)
    return x if submodule is None else submodule(x)


def _branch(block: Any, number: int, x: Tensor) -> Tensor:
    x = _apply_if_present(block, f"ls{number}", x)
    shared = getattr(block, "drop_path", None)  # one for both branches, as in older versions of timm and in datawinnow
    return shared(x) if shared is not None else _apply_if_present(block, f"drop_path{number}", x)
