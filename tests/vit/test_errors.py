"""What `vit.sparsify` refuses, and what it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from datawinnow import vit
from datawinnow.core.errors import ArgumentError
from datawinnow.models import build, resnet8
from tests.vit.networks import images, make_network


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": (3, 12)}, r"`at=` must hold blocks of 0 to 11, since the model has 12, got 12"),
        ({"at": (-1,)}, r"`at=` must hold blocks of 0 to 11, since the model has 12, got -1"),
        ({"at": (6, 3)}, r"`at=` must be ascending, each block once, got \(6, 3\)"),
        ({"at": (3, 3)}, r"`at=` must be ascending, each block once"),
        ({"at": ()}, "`at=` names no block"),
        ({"at": (2.0,)}, r"`at=` must hold blocks of 0 to 11.* got 2\.0"),
        ({"keep_tokens": 0}, r"`keep_tokens=` must be in \(0, 1\].* got 0"),
        ({"keep_tokens": 1.1}, r"`keep_tokens=` must be in \(0, 1\].* got 1\.1"),
        ({"keep_attention": -0.3}, r"`keep_attention=` must be in \(0, 1\].* got -0\.3"),
        ({"keep_attention": True}, r"`keep_attention=` must be in \(0, 1\].* got True"),
        ({"keep_tokens": float("nan")}, r"`keep_tokens=` must be in \(0, 1\].* got nan"),
        ({"form": "sparse"}, "`form=` must be one of 'auto', 'fused', 'gathered', 'flex', 'dense', 'paying', got"),
        ({"schedule": (10, 100)}, r"schedule must be a KeepSchedule or None, got \(10, 100\)"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ArgumentError, match=message):
        vit.sparsify(make_network("ours"), **options)


def test_a_model_that_is_not_known_says_what_it_needs():
    with pytest.raises(ArgumentError, match=r"must be a supported vision transformer, got ResNet: use datawinnow"):
        vit.sparsify(resnet8(classes=3))
    plain = build("vit", shape=(3, 32, 32), classes=3)
    plain.cls_token = None
    with pytest.raises(ArgumentError, match="has no class token"):
        vit.sparsify(plain)
    with pytest.raises(ArgumentError, match=r"must be sparse, got a plain Linear: call vit\.sparsify"):
        vit.kept_patches(nn.Linear(2, 2), torch.zeros(1, 2))


def test_blocks_that_are_told_of_positions_are_refused():
    class Rotary(type(make_network("timm names").blocks[0])):
        def forward(self, x, rope=None):
            return super().forward(x)

    model = make_network("timm names")
    for block in model.blocks:
        block.__class__ = Rotary
    with pytest.raises(ArgumentError, match="a supported vision transformer, got TimmVision"):
        vit.sparsify(model)


@pytest.mark.parametrize("where", ["block", "attention"])
@pytest.mark.parametrize("addition", ["parameter", "buffer", "module"])
def test_blocks_that_do_more_are_refused(where, addition):
    """As BEiT's and CaiT's, and timm's gated attention: what a block has besides would be passed over silently."""
    model = make_network("timm names")
    module = model.blocks[7] if where == "block" else model.blocks[7].attn
    if addition == "parameter":
        module.gate = nn.Parameter(torch.ones(32))
    elif addition == "buffer":
        module.register_buffer("gate", torch.ones(32))
    else:
        module.gate = nn.Linear(32, 32)
    with pytest.raises(ArgumentError, match=f"have modules that vit cannot run: gate of {type(module).__name__}"):
        vit.sparsify(model)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_a_mask_of_somebody_else_is_refused():
    model = vit.sparsify(make_network("HF ViT bare"))
    with pytest.raises(ArgumentError, match="does not take an attention mask"):
        model(images(), attention_mask=torch.tensor([[1] * 60 + [0] * 5] * 3))


@pytest.mark.parametrize("epoch", [-1, "3"])
def test_an_epoch_that_is_none(epoch):
    with pytest.raises(ArgumentError, match="epoch must be a number in"):
        vit.sparsify(make_network("ours")).sparsity.set_epoch(epoch)
