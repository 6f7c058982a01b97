"""Small vision transformers of every structure that `vit.sparsify` takes, and one with timm's names."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.rng import forked
from datawinnow.models import build

SIDE, PATCHES, CLASSES = 32, 64, 5


class TimmAttention(nn.Module):
    """Named as timm 1.0's: normalised queries and keys, a norm before the projection, its own fused or plain path."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scale = heads, dim // heads, (dim // heads) ** -0.5
        self.fused_attn = True
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm, self.k_norm = nn.LayerNorm(self.head_dim), nn.LayerNorm(self.head_dim)
        self.attn_drop, self.norm = nn.Dropout(0.0), nn.LayerNorm(dim)
        self.proj, self.proj_drop = nn.Linear(dim, dim), nn.Dropout(0.0)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        drop = self.attn_drop.p if self.training else 0.0
        x = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v, attn_mask=attn_mask, dropout_p=drop)
        return self.proj_drop(self.proj(self.norm(x.transpose(1, 2).reshape(b, n, c))))


class TimmScale(nn.Module):
    """Layer scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class TimmBlock(nn.Module):
    """Named as timm 1.0's."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1, self.drop_path1 = (
            nn.LayerNorm(dim), TimmAttention(dim, heads), TimmScale(dim), nn.Identity(),
        )  # fmt: skip
        self.norm2, self.ls2, self.drop_path2 = nn.LayerNorm(dim), TimmScale(dim), nn.Identity()
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        x = x + self.drop_path1(self.ls1(self.attn(self.norm1(x), attn_mask=attn_mask)))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


class TimmVision(nn.Module):
    """Named as timm 1.0's ``VisionTransformer``, with four register tokens; the blocks are an `nn.Sequential`."""

    def __init__(self, dim: int = 32, depth: int = 12, heads: int = 2) -> None:
        super().__init__()
        self.num_prefix_tokens = 5
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, 4, stride=4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.reg_token = nn.Parameter(torch.randn(1, 4, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, PATCHES, dim))
        self.blocks = nn.Sequential(*(TimmBlock(dim, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2) + self.pos_embed
        x = torch.cat([t.expand(len(x), -1, -1) for t in (self.cls_token, self.reg_token)] + [x], 1)
        return self.head(self.norm(self.blocks(x))[:, 0])


def _hugging_face(name: str, *, attention: str = "sdpa") -> nn.Module:
    import transformers

    config = {"ViT": transformers.ViTConfig, "DeiT": transformers.DeiTConfig}[name.partition("T")[0] + "T"]
    config_kwargs = {"num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 64, "num_labels": CLASSES}
    config_of_model = config(
        hidden_size=32, image_size=SIDE, patch_size=4, attn_implementation=attention, **config_kwargs
    )
    return getattr(transformers, name)(config_of_model)


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "ours": lambda: build("vit", shape=(3, SIDE, SIDE), classes=CLASSES, width=32),
    "ours distilled": lambda: build("vit_tiny", shape=(3, SIDE, SIDE), classes=CLASSES, width=64, distilled=True),
    "HF ViT": lambda: _hugging_face("ViTForImageClassification"),
    "HF ViT eager": lambda: _hugging_face("ViTForImageClassification", attention="eager"),
    "HF ViT bare": lambda: _hugging_face("ViTModel"),
    "HF DeiT": lambda: _hugging_face("DeiTForImageClassification"),
    "HF DeiT teacher": lambda: _hugging_face("DeiTForImageClassificationWithTeacher"),
    "timm names": TimmVision,
}


def make_network(name: str) -> nn.Module:
    """A network in evaluation mode whose weights are large enough that attention is not flat."""
    with forked(0, "networks", name):
        model = MAKERS[name]()
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn(p.shape))
    return model.eval()


def images(b: int = 3) -> Tensor:
    """(b, 3, 32, 32)."""
    with forked(0, "pictures"):
        return torch.randn(b, 3, SIDE, SIDE)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    """(b, classes), or the last hidden state of the class token."""
    out = model(x)
    if isinstance(out, Tensor):
        return out
    return out.logits if hasattr(out, "logits") else out.last_hidden_state[:, 0]
