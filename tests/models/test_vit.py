"""Vision transformers against the published parameter counts, names and what they compute."""

from __future__ import annotations

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import forked
from datawinnow.models import build, vit_tiny


@pytest.mark.parametrize(
    ("name", "distilled", "parameters"),
    [
        ("vit_tiny", False, 5_717_416),
        ("vit_small", False, 22_050_664),
        ("vit_base", False, 86_567_656),
        ("vit_tiny", True, 5_910_800),
        ("vit_small", True, 22_436_432),
        ("vit_base", True, 87_338_192),
    ],
)
def test_parameter_counts_are_those_of_deit(name, distilled, parameters):
    with torch.device("meta"):
        network = build(name, shape=(3, 224, 224), classes=1000, distilled=distilled)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_names_and_shapes_are_those_of_the_published_checkpoints():
    with torch.device("meta"):
        state = build("vit_tiny", shape=(3, 224, 224), classes=1000, distilled=True).state_dict()
    shapes = {k: tuple(v.shape) for k, v in state.items() if not k.startswith("blocks.") or k.startswith("blocks.11.")}
    assert shapes == {
        "cls_token": (1, 1, 192),
        "dist_token": (1, 1, 192),
        "pos_embed": (1, 198, 192),
        "patch_embed.proj.weight": (192, 3, 16, 16),
        "patch_embed.proj.bias": (192,),
        "blocks.11.norm1.weight": (192,),
        "blocks.11.norm1.bias": (192,),
        "blocks.11.attn.qkv.weight": (576, 192),
        "blocks.11.attn.qkv.bias": (576,),
        "blocks.11.attn.proj.weight": (192, 192),
        "blocks.11.attn.proj.bias": (192,),
        "blocks.11.norm2.weight": (192,),
        "blocks.11.norm2.bias": (192,),
        "blocks.11.mlp.fc1.weight": (768, 192),
        "blocks.11.mlp.fc1.bias": (768,),
        "blocks.11.mlp.fc2.weight": (192, 768),
        "blocks.11.mlp.fc2.bias": (192,),
        "norm.weight": (192,),
        "norm.bias": (192,),
        "head.weight": (1000, 192),
        "head.bias": (1000,),
        "head_dist.weight": (1000, 192),
        "head_dist.bias": (1000,),
    }


@pytest.mark.parametrize("distilled", [False, True])
def test_it_computes_what_transformers_computes(distilled):
    """The same weights in transformers' own network give the same logits."""
    import transformers

    kwargs = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 1, "intermediate_size": 256}
    kwargs |= {"image_size": 32, "patch_size": 4, "num_labels": 5, "layer_norm_eps": 1e-6}
    with forked(0, "weights"):
        if distilled:
            outside = transformers.DeiTForImageClassificationWithTeacher(transformers.DeiTConfig(**kwargs)).eval()
            body, heads = outside.deit, {"head": outside.cls_classifier, "head_dist": outside.distillation_classifier}
        else:
            outside = transformers.ViTForImageClassification(transformers.ViTConfig(**kwargs)).eval()
            body, heads = outside.vit, {"head": outside.classifier}
        for p in outside.parameters():
            p.data.add_(0.1 * torch.randn(p.shape))
        x = torch.randn(2, 3, 32, 32)
    ours = vit_tiny(classes=5, size=32, width=64, depth=3, distilled=distilled).eval()
    modules = {"patch_embed.proj": body.embeddings.patch_embeddings.projection, "norm": body.layernorm, **heads}
    state = {"cls_token": body.embeddings.cls_token, "pos_embed": body.embeddings.position_embeddings}
    if distilled:
        state["dist_token"] = body.embeddings.distillation_token
    for i, layer in enumerate(body.layers):
        a, at = layer.attention, f"blocks.{i}."
        for kind in ("weight", "bias"):
            state[f"{at}attn.qkv.{kind}"] = torch.cat([getattr(p, kind) for p in (a.q_proj, a.k_proj, a.v_proj)])
        modules |= {
            f"{at}attn.proj": a.o_proj,
            f"{at}norm1": layer.layernorm_before,
            f"{at}norm2": layer.layernorm_after,
        }
        modules |= {f"{at}mlp.fc1": layer.mlp.fc1, f"{at}mlp.fc2": layer.mlp.fc2}
    for name, module in modules.items():
        state |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    ours.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), outside(x).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "patches"), [(8, 16), (28, 49), (32, 64), (64, 64), (224, 196), (30, 100)])
def test_patches_suit_the_size(size, patches):
    with torch.device("meta"):
        network = build("vit", shape=(1, size, size), classes=3)
    assert network.pos_embed.shape[1] == 1 + patches


def test_class_to_patch_is_a_row_of_the_softmax():
    with forked(0, "weights"):
        network = build("vit", shape=(3, 32, 32), classes=3, width=32)
        x = torch.randn(2, 65, 32)
    attention = network.blocks[0].attn
    with torch.no_grad():
        q, k, _ = attention.project(x)
        attention_map = (q @ k.transpose(-2, -1) / 4).softmax(-1)  # a head of 16
        torch.testing.assert_close(attention.class_to_patch(x), attention_map[:, :, 0, 1:].mean(1))


def test_stochastic_depth_leaves_out_whole_examples_in_training_alone():
    with forked(0, "weights"):
        network = build("vit", shape=(3, 32, 32), classes=3, width=16, drop_path=0.5)
        branch = network.blocks[-1].drop_path
        assert [round(block.drop_path.rate, 3) for block in network.blocks][:3] == [0, 0.045, 0.091]
        x = torch.ones(4000, 2, 2)
        dropped = branch.train()(x)
        assert torch.equal(branch.eval()(x), x)
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
    assert bool((dropped.flatten(1).min(1).values == dropped.flatten(1).max(1).values).all())
    assert float(dropped.mean()) == pytest.approx(1, abs=4 / 4000**0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 5}, "patch=5 does not divide images of 32 pixels"),
        ({"heads": 3}, "heads=3 must divide width=64"),
        ({"depth": 0}, "depth must be a whole number in"),
        ({"drop_path": 1.0}, "drop_path must be a number in"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ArgumentError, match=message):
        build("vit", shape=(3, 32, 32), classes=3, **options)


def test_images_of_another_size_are_refused():
    network = build("vit", shape=(3, 32, 32), classes=3)
    with pytest.raises(ArgumentError, match="takes images of 32x32 pixels, but these have 28x32"):
        network(torch.zeros(1, 3, 28, 32))
