"""Vision transformers: ViT and DeiT (Dosovitskiy et al., arXiv 2010.11929; Touvron et al., arXiv 2012.12877).

Parameters are named as in the published DeiT checkpoints, so their weights load.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.models.channels import as_channels
from datawinnow.models.image_size import ImageSize, height_and_width, shown_size


class PatchEmbedding(nn.Module):
    """One token a square of the image: (b, channels, h, w) -> (b, patches, width), row by row."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        # A convolution whose stride is its kernel: a linear layer on each square.
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """(b, channels, h, w) -> (b, h / patch * w / patch, width)."""
        tokens: Tensor = self.proj(x)
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention through torch's fused kernel.

    That kernel returns no attention map. `class_to_patch` computes the one row of it that belongs to the class token,
    from the queries and keys, beside the kernel, whose outputs are unchanged to the bit.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (b, heads, n, head_dim), of tokens (b, n, width)."""
        b, n, _ = x.shape
        # (b, n, 3 * width) -> (3, b, heads, n, head_dim)
        q, k, v = self.qkv(x).view(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, width) -> (b, n, width)."""
        q, k, v = self.project(x)
        attended: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))
        return attended

    def class_to_patch(self, x: Tensor, prefix: int = 1) -> Tensor:
        """(b, n - prefix) attention of the first token to the patches of (b, n, width), the mean over the heads."""
        q, k, _ = self.project(x)
        row = (q[:, :, :1] @ k.transpose(-2, -1) * self.scale).float().softmax(-1)  # (b, heads, 1, n)
        attention: Tensor = row[:, :, 0, prefix:].mean(1)
        return attention


class FeedForward(nn.Module):
    """Two linear layers with GELU between: (b, n, width) -> (b, n, width)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, width) -> (b, n, width)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., arXiv 1603.09382): in training a branch is skipped for randomly drawn
    examples."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(b, ...) -> (b, ...), rows zero or scaled by 1 / (1 - rate)."""
        if not self.training or self.rate == 0:
            return x
        # One number an example: a branch is skipped as a whole.
        stays = torch.rand((len(x), *[1] * (x.ndim - 1)), device=x.device) >= self.rate
        return x * (stays / (1 - self.rate)).to(x.dtype)


class Block(nn.Module):
    """Attention and feed-forward, each with layer norm before it and a residual connection."""

    def __init__(self, width: int, heads: int, ratio: float, drop_path: float) -> None:
        super().__init__()
        # 1e-6 as in the published checkpoints; torch's default is 1e-5.
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = FeedForward(width, int(width * ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, width) -> (b, n, width)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class VisionTransformer(nn.Module):
    """ViT with a class token; DeiT's form with a distillation token as well.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width).
        patch: height and width of a patch; it divides both sides of an image.
        width: length of a token.
        depth: blocks.
        heads: attention heads; they divide ``width``.
        ratio: width of the feed-forward layer over ``width``.
        drop_path: rate of stochastic depth in the last block, rising linearly from 0 in the first.
        distilled: add a distillation token with a head of its own; the logits are the mean of the two heads.

    Raises:
        ArgumentError: ``patch`` does not divide the sides of an image, or ``heads`` not ``width``.
    """

    def __init__(
        self,
        *,
        classes: int,
        channels: int = 3,
        size: ImageSize = 224,
        patch: int = 16,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        ratio: float = 4.0,
        drop_path: float = 0.0,
        distilled: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("patch", patch), ("width", width), ("depth", depth), ("heads", heads)):
            check.number(name, value, 1, 1 << 20, integer=True)
        check.number("drop_path", drop_path, 0, 0.99)
        height, image_width = height_and_width(size)
        if height % patch or image_width % patch:
            raise ArgumentError(
                f"patch={patch} does not divide images of {shown_size(size)} pixels: give one that does"
            )
        if width % heads:
            raise ArgumentError(f"heads={heads} must divide width={width}")
        self.channels, self.sides = channels, (height, image_width)
        self.num_prefix_tokens = 2 if distilled else 1
        self.patch_embed = PatchEmbedding(channels, patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width)) if distilled else None
        self.pos_embed = nn.Parameter(
            torch.zeros(1, self.num_prefix_tokens + (height // patch) * (image_width // patch), width)
        )
        # Linear in depth: the first block is never skipped.
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(width, heads, ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head_dist = nn.Linear(width, classes) if distilled else None
        self.head = nn.Linear(width, classes)
        for tensor in (self.cls_token, self.dist_token, self.pos_embed):
            if tensor is not None:
                nn.init.trunc_normal_(tensor, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, classes) of images (b, channels, size, size)."""
        x = as_channels(x, self.channels)
        if tuple(x.shape[2:]) != self.sides:
            raise ArgumentError(
                f"the network takes images of {self.sides[0]}x{self.sides[1]} pixels, but these have "
                f"{x.shape[2]}x{x.shape[3]}: build it with size=, or resize them"
            )
        x = self.patch_embed(x)
        prefix = [token.expand(len(x), -1, -1) for token in (self.cls_token, self.dist_token) if token is not None]
        x = torch.cat([*prefix, x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        logits: Tensor = self.head(x[:, 0])
        # DeiT averages both heads; the distillation loss, which trains them apart, is not implemented here.
        return logits if self.head_dist is None else (logits + self.head_dist(x[:, 1])) / 2


def vit(
    *,
    classes: int,
    channels: int = 3,
    size: ImageSize = 32,
    width: int = 64,
    depth: int = 12,
    heads: int | None = None,
    patch: int | None = None,
    drop_path: float = 0.0,
) -> VisionTransformer:
    """A small vision transformer for small images: 0.6 million parameters, 16 patches at 8x8, 64 at 32x32.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width).
        width: length of a token.
        depth: blocks.
        heads: attention heads; by default one for each 16 of ``width``.
        patch: pixels of a patch; by default `patch_for`.
        drop_path: stochastic depth.
    """
    heads = heads or max(1, width // 16)
    return VisionTransformer(
        classes=classes,
        channels=channels,
        size=size,
        patch=patch or patch_for(size),
        width=width,
        depth=depth,
        heads=heads,
        drop_path=drop_path,
    )


def vit_tiny(
    *,
    classes: int,
    channels: int = 3,
    size: ImageSize = 224,
    width: int = 192,
    depth: int = 12,
    patch: int | None = None,
    drop_path: float = 0.0,
    distilled: bool = False,
) -> VisionTransformer:
    """DeiT-Ti: 192 wide, 3 heads; 5.7 million parameters at 224 pixels and 1000 classes.

    Args:
        classes: number of classes.
        channels: channels of an image.
        size: pixels of a side of an image, or (height, width).
        width: length of a token; a head has 64 of them.
        depth: blocks.
        patch: pixels of a patch; by default `patch_for`: 16 at 224, 4 at 32.
        drop_path: stochastic depth; 0.1 in DeiT's recipe.
        distilled: with a distillation token.
    """
    return VisionTransformer(
        classes=classes,
        channels=channels,
        size=size,
        patch=patch or patch_for(size),
        width=width,
        depth=depth,
        heads=max(1, width // 64),
        drop_path=drop_path,
        distilled=distilled,
    )


def vit_small(
    *,
    classes: int,
    channels: int = 3,
    size: ImageSize = 224,
    width: int = 384,
    depth: int = 12,
    patch: int | None = None,
    drop_path: float = 0.0,
    distilled: bool = False,
) -> VisionTransformer:
    """DeiT-S: 384 wide, 6 heads, 22 million parameters; arguments as in `vit_tiny`."""
    return vit_tiny(
        classes=classes,
        channels=channels,
        size=size,
        width=width,
        depth=depth,
        patch=patch,
        drop_path=drop_path,
        distilled=distilled,
    )


def vit_base(
    *,
    classes: int,
    channels: int = 3,
    size: ImageSize = 224,
    width: int = 768,
    depth: int = 12,
    patch: int | None = None,
    drop_path: float = 0.0,
    distilled: bool = False,
) -> VisionTransformer:
    """ViT-B and DeiT-B: 768 wide, 12 heads, 86 million parameters; arguments as in `vit_tiny`."""
    return vit_tiny(
        classes=classes,
        channels=channels,
        size=size,
        width=width,
        depth=depth,
        patch=patch,
        drop_path=drop_path,
        distilled=distilled,
    )


def patch_for(size: ImageSize) -> int:
    """Pixels of a patch that suit images of ``size`` pixels: 16, or fewer where the image is small or odd.

    >>> [patch_for(size) for size in (8, 28, 32, 64, 224, 30, (12, 20))]
    [2, 4, 4, 8, 16, 3, 4]
    """
    sides = height_and_width(size)
    # Patches grow with the image: 16 to about 200 of them, enough to drop some and few enough for attention.
    largest = 2 if max(sides) <= 16 else 4 if max(sides) <= 48 else 8 if max(sides) <= 96 else 16
    return next(patch for patch in range(largest, 0, -1) if all(side % patch == 0 for side in sides))
