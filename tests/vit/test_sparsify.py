"""`vit.sparsify` against the literal version, and what must not change: weights, names, bits at a keep rate of 1."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from datawinnow import vit
from datawinnow.vit import masked_attention
from tests.reference import vit as literal
from tests.vit.networks import MAKERS, PATCHES, images, logits, make_network

PREFIX = {"ours distilled": 2, "HF DeiT": 2, "HF DeiT teacher": 2, "timm names": 5}
every = pytest.mark.parametrize("name", list(MAKERS))


@pytest.mark.parametrize("tokens", [1.0, 0.7, 0.35])
@pytest.mark.parametrize("attention", [1.0, 0.3])
@pytest.mark.parametrize("name", ["ours", pytest.param("ours distilled", marks=pytest.mark.slow)])
def test_logits_and_kept_patches_are_those_of_the_literal_version(name, tokens, attention):
    model, x = make_network(name), images(2)
    model.blocks = model.blocks[:4]
    vit.sparsify(model, keep_tokens=tokens, keep_attention=attention, at=(1, 3))
    with torch.no_grad():
        output = model(x)
        for i in range(2):
            expected, stages = literal.forward(model, x[i], tokens=tokens, attention=attention, at=(1, 3))
            torch.testing.assert_close(output[i], expected, rtol=1e-3, atol=1e-4)
            if tokens < 1:
                assert [kept[i].tolist() for kept in model.sparsity.kept] == stages


@pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
@pytest.mark.parametrize("form", [form for form in vit.FORMS if form not in ("fused", "paying")])
@every
def test_all_forms_give_the_same(name, form):
    model, x = make_network(name), images()
    with torch.no_grad():
        expected = logits(vit.sparsify(model, form="fused"), x)
        plain = logits(vit.dense(model), x)
        output = logits(vit.sparsify(model, form=form), x)
    # the published form leaves each masked key a weight of 1e-6 / n
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=2e-4 if form == "dense" else 1e-5)
    assert (output - plain).abs().max() > 1e-3, "nothing was masked"


@pytest.mark.parametrize("form", ["fused", "gathered", "dense", "flex"])
def test_all_forms_have_the_same_gradients(form):
    x = images()
    grads = []
    for each in ("auto", form):
        model = vit.sparsify(make_network("ours"), form=each, schedule=None).train()
        logits(model, x).square().sum().backward()
        grads.append({k: p.grad for k, p in model.named_parameters()})
    for key, grad in grads[0].items():
        torch.testing.assert_close(grads[1][key], grad, rtol=1e-3, atol=1e-3 * float(grad.abs().max()))


@every
def test_a_keep_rate_of_one_changes_no_bit(name):
    model, x = make_network(name), images()
    with torch.no_grad():
        before = logits(model, x)
        vit.sparsify(model, keep_tokens=1, keep_attention=None)
        assert torch.equal(logits(model, x), before)
        vit.sparsify(model, keep_tokens=0.5)
        assert not torch.equal(logits(model, x), before)
        assert torch.equal(logits(vit.dense(model), x), before)


@every
def test_the_sparse_path_that_drops_nothing_is_the_dense_one(name):
    """At 63.5 of 64 patches ceil() keeps all: the path is the sparse one, the numbers are those of the dense one."""
    model, x = make_network(name), images()
    with torch.no_grad():
        before = logits(model, x)
        output = logits(vit.sparsify(model, keep_tokens=0.999, keep_attention=0.999), x)
    assert [kept.shape[1] for kept in model.sparsity.kept] == [PATCHES] * 3
    torch.testing.assert_close(output, before, rtol=1e-3, atol=1e-4)


@every
def test_in_training_the_sparse_path_draws_as_the_dense_one(name):
    """Dropout, of attention weights too, and stochastic depth: the same numbers from the same draws."""
    model, x = make_network(name).train(), images()
    rated = 0
    for module in model.modules():
        for rate in {"p", "rate", "attention_dropout"} & set(vars(module)):
            setattr(module, rate, 0.25)
            rated += 1
    assert rated >= 12

    def passed():
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(1)
            return logits(model, x)

    before = passed()
    vit.sparsify(model, keep_tokens=0.999, keep_attention=0.999, schedule=None)
    torch.testing.assert_close(passed(), before, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        model.eval()
        assert torch.equal(logits(model, x), logits(model, x)), "nothing is drawn in evaluation"
        again = logits(model, x)
        torch.testing.assert_close(again, logits(vit.dense(model), x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tokens", [1, 0.5])
def test_the_paying_form_leaves_keys_out_where_that_saves_time_alone(monkeypatch, tokens):
    model, x = make_network("ours"), images()
    with torch.no_grad():
        unmasked, under = (logits(vit.sparsify(model, keep_tokens=tokens, keep_attention=a), x) for a in (1, 0.05))
        assert not torch.allclose(unmasked, under, atol=1e-3)
        vit.sparsify(model, keep_tokens=tokens, keep_attention=0.05, form="paying")
        assert torch.equal(logits(model, x), unmasked)
        monkeypatch.setattr(masked_attention, "LONG_ENOUGH", 8)
        monkeypatch.setattr(masked_attention, "SPARSE_ENOUGH", 0.5)
        torch.testing.assert_close(logits(model, x), under, rtol=1e-3, atol=1e-4)
        monkeypatch.setattr(masked_attention, "LONG_ENOUGH", 33)  # 64 patches: with fewer kept it does not pay any more
        assert torch.allclose(logits(model, x), under if tokens == 1 else unmasked, rtol=1e-3, atol=1e-4)


@every
def test_sequences_are_shorter_and_begin_with_the_tokens_before_the_patches(name):
    model, x = make_network(name), images()
    prefix = PREFIX.get(name, 1)
    vit.sparsify(model, keep_tokens=0.7)
    owner = model.sparsity.anatomy
    assert owner.prefix == prefix
    lengths, firsts = [], []
    for i, block in enumerate(owner.blocks):
        block.register_forward_hook(lambda module, inputs, out: lengths.append(out.shape[1]))
        if i in (2, 3):
            block.register_forward_hook(lambda module, inputs, out: firsts.append(out[:, :prefix]))
    with torch.no_grad():
        logits(model, x)
    assert lengths == [n + prefix for n in [64] * 3 + [45] * 3 + [32] * 3 + [23] * 3]
    # in block 3 itself the tokens before the patches see all patches still: as in the dense network
    sparse = firsts[1]
    vit.dense(model)
    firsts.clear()
    with torch.no_grad():
        logits(model, x)
    torch.testing.assert_close(sparse, firsts[1], rtol=1e-3, atol=1e-4)


def test_kept_patches_are_those_that_the_class_token_attends_to():
    model, x = make_network("ours"), images()
    with torch.no_grad():
        first = x
        first = model.patch_embed(first)
        first = torch.cat([model.cls_token.expand(len(x), -1, -1), first], 1) + model.pos_embed
        for block in model.blocks[:3]:
            first = block(first)
        scores = model.blocks[3].attn.class_to_patch(model.blocks[3].norm1(first))
    kept = vit.kept_patches(vit.sparsify(model, keep_tokens=0.7), x)
    assert [ids.shape[1] for ids in kept] == [45, 32, 23]
    for i in range(len(x)):
        assert kept[0][i].tolist() == sorted(scores[i].topk(45).indices.tolist())
        assert set(kept[2][i].tolist()) <= set(kept[1][i].tolist()) <= set(kept[0][i].tolist())
        # the three least attended are gone for good
        assert not set(scores[i].topk(3, largest=False).indices.tolist()) & set(kept[2][i].tolist())


def test_a_image_keeps_the_same_patches_in_any_batch():
    model, x = vit.sparsify(make_network("ours")), images(5)
    together = vit.kept_patches(model, x)
    for i in range(5):
        assert [ids[0].tolist() for ids in vit.kept_patches(model, x[i : i + 1])] == [
            ids[i].tolist() for ids in together
        ]
    everything = vit.kept_patches(vit.sparsify(model, keep_tokens=1), x)
    assert [ids.tolist() for ids in everything] == [[list(range(PATCHES))] * 5] * 3


@every
def test_gradients_flow_and_weights_load_either_way(name):
    model, x = make_network(name), images()
    names = list(model.state_dict())
    plain = {k: v.clone() for k, v in model.state_dict().items()}
    vit.sparsify(model, schedule=None)
    assert list(model.state_dict()) == names
    assert [k for k, _ in model.named_modules()] == [k for k, _ in make_network(name).named_modules()]
    model.train()
    logits(model, x).square().sum().backward()
    unused = {"pooler", "cls_classifier.bias"}
    for key, p in model.named_parameters():
        if "pooler" not in key:
            assert p.grad is not None, key
            assert p.grad.isfinite().all(), key
            assert p.grad.abs().sum() > 0 or key in unused or key.endswith("k_proj.bias"), key
    other = vit.sparsify(make_network(name), keep_tokens=0.5)
    other.load_state_dict(plain)
    make_network(name).load_state_dict(model.state_dict())


@every
def test_copies_and_pickles_stand_on_their_own_feet(name):
    model, x = vit.sparsify(make_network(name)), images()
    with torch.no_grad():
        before = logits(model, x)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (copied.sparsity.kept, len(model.sparsity.kept)) == ([], 3)
        with torch.no_grad():
            assert torch.equal(logits(copied, x), before)
            for p in copied.parameters():
                p.zero_()
            assert not torch.equal(logits(copied, x), before)
            assert torch.equal(logits(model, x), before)
        assert copied.sparsity.kept[0] is not model.sparsity.kept[0]
        assert "sparsity" not in vit.dense(copied).__dict__
        assert model.sparsity.final.tokens == 0.7


def test_training_follows_the_schedule_and_evaluation_the_final_rates():
    model, x = make_network("ours"), images()
    vit.sparsify(model, keep_tokens=0.5, keep_attention=0.5, schedule=vit.KeepSchedule(2, 4))
    model.train()
    model(x)
    assert model.sparsity.kept[0].shape == (3, 32), "a model that was never told its epoch trains at the final rates"
    changed, counts = [], []
    for epoch in range(8):
        changed.append(model.sparsity.set_epoch(epoch))
        model(x)
        rate = model.sparsity.training.tokens
        counts.append(model.sparsity.kept[0].shape[1] if rate < 1 else PATCHES)
    assert counts == [64, 64, 64, 60, 48, 37, 32, 32]
    assert changed == [True, False, False, True, True, True, True, False]
    model.sparsity.set_epoch(0)
    model(x)
    assert model.sparsity.kept == []
    model.eval()(x)
    assert model.sparsity.kept[0].shape == (3, 32)
    with model.sparsity.fixed_rates(), torch.no_grad():
        fixed_rates = model(x)
    with torch.no_grad():
        assert torch.equal(fixed_rates, vit.dense(model)(x))


def test_a_mask_of_an_earlier_pass_is_not_used_again():
    model, x = (
        vit.sparsify(make_network("ours"), keep_tokens=1, keep_attention=0.3, schedule=vit.KeepSchedule(1, 1)),
        images(),
    )
    with torch.no_grad():
        model(x)
        model.sparsity.set_epoch(0)
        assert torch.equal(model.train()(x), vit.dense(model)(x))


def test_gradient_checkpointing_gives_the_same_gradients():
    x = images()
    grads = []
    for checkpointed in (False, True):
        model = vit.sparsify(make_network("HF ViT"), schedule=None).train()
        if checkpointed:
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        logits(model, x).square().sum().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 50
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_sparsifying_again_replaces_what_was():
    model, x = make_network("ours"), images()
    with torch.no_grad():
        expected = vit.sparsify(make_network("ours"), keep_tokens=0.9, at=(2,))(x)
        vit.sparsify(model)
        assert torch.equal(vit.sparsify(model, keep_tokens=0.9, at=(2,))(x), expected)
    assert "forward" in model.blocks[2].__dict__
    vit.dense(model)
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_half_precision_keeps_as_many():
    model, x = vit.sparsify(make_network("ours")), images()
    with torch.no_grad():
        full = model(x)
        kept = model.sparsity.kept[0]
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x)
    torch.testing.assert_close(half.float(), full, rtol=0.2, atol=0.2)
    same = sum(len(set(a) & set(b)) for a, b in zip(kept.tolist(), model.sparsity.kept[0].tolist(), strict=True))
    assert same >= 0.9 * kept.numel()


@pytest.mark.slow
def test_compiled_it_gives_the_same():
    model, x = vit.sparsify(make_network("ours"), schedule=None), images()
    with torch.no_grad():
        expected = model(x)
        output = torch.compile(model, backend="eager")(x)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
