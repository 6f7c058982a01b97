"""Counts, the schedule, masks of keys, and the operations that each level saves."""

from __future__ import annotations

import math

import pytest
import torch

from datawinnow import vit
from datawinnow.core.errors import ArgumentError
from datawinnow.core.operations import flop_counter
from datawinnow.models import build
from datawinnow.vit import masked_attention
from datawinnow.vit.masked_attention import Keys, fused_attention, gathered_attention, published_attention
from datawinnow.vit.schedule import count_of
from datawinnow.vit.token_selection import attended_keys, class_scores, drop_patches, topk_ascending
from tests.reference import vit as literal
from tests.vit.networks import images, make_network


@pytest.mark.parametrize(
    ("keep", "counts"), [(0.9, [196, 177, 160, 144]), (0.8, [196, 157, 126, 101]), (0.7, [196, 138, 97, 68])]
)
def test_counts_are_those_of_the_paper(keep, counts):
    assert vit.counts_of(196, keep, 3) == counts


def test_counts_round_up_but_not_for_rounding_errors():
    for n in range(1, 400):
        for percent in range(1, 101):
            assert count_of(n, percent / 100) == -(-n * percent // 100)  # exact in whole numbers
    assert count_of(3, 1e-9) == 1


def test_the_schedule_is_the_papers():
    schedule = vit.KeepSchedule()
    rates = [schedule.rate(0.7, epoch) for epoch in range(300)]
    assert rates[:11] == [1.0] * 11
    assert set(rates[110:]) == {0.7}
    for epoch in range(10, 110):
        assert rates[epoch] == pytest.approx(0.7 + 0.3 * (1 + math.cos(math.pi * (epoch - 10) / 100)) / 2)
        assert rates[epoch + 1] < rates[epoch]
    assert vit.KeepSchedule.of(30) == vit.KeepSchedule(1, 10)
    assert [vit.KeepSchedule(2, 0).rate(0.5, epoch) for epoch in (1.9, 2, 3)] == [1, 0.5, 0.5]
    with pytest.raises(ArgumentError, match="hold must be a number in"):
        vit.KeepSchedule(-1)
    with pytest.raises(ArgumentError, match="over must be a number in"):
        vit.KeepSchedule(over=-1)


def test_chosen_positions_are_the_highest_in_order():
    score = torch.tensor([[0.1, 0.5, 0.3, 0.9], [4.0, 3.0, 2.0, 1.0]])
    assert topk_ascending(score, 2).tolist() == [[1, 3], [0, 1]]
    assert topk_ascending(torch.ones(1, 5), 3).shape == (1, 3)  # ties
    x = torch.arange(2 * 6 * 2.0).view(2, 6, 2)
    left = drop_patches(x, torch.tensor([[1, 3], [0, 2]]), 2)
    assert torch.equal(left, torch.stack([x[0, [0, 1, 3, 5]], x[1, [0, 1, 2, 4]]]))


def attending(b=2, heads=3, n=12, d=4, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(b, heads, n, d, generator=draws, requires_grad=True) for _ in range(3))


def test_class_scores_are_a_row_of_the_map():
    q, k, _ = attending()
    with torch.autocast("cpu", torch.bfloat16):
        scores = class_scores(q, k, 0.5, 2)
    for i in range(2):
        row = literal.attention_map(q[i], k[i], None).mean(0)[0, 2:]
        torch.testing.assert_close(scores[i].double(), row)


def test_a_row_with_too_few_keys_left_is_filled_up_by_the_attention_without_the_mask():
    """Where the published code would open the whole row."""
    q, k, _ = attending(n=11)
    before = Keys(torch.tensor([[[0, 1, 2]] * 10] * 2), 10, 1)
    kept = torch.tensor([[0, 5, 6, 7, 8], [0, 1, 2, 3, 4]])
    with torch.no_grad():
        mask = attended_keys(q, k, 0.5, 1, 3, kept, before).dense
    assert mask[:, 0, 1:, 1:].sum(-1).tolist() == [[3] * 5] * 2
    for i in range(2):
        under, plain = (literal.attention_map(q[i], k[i], mask) for mask in (before.dense[i, 0], None))
        expected = literal.mask_of(under, plain, before.dense[i, 0], kept[i].tolist(), 0.6, 1)
        assert torch.equal(mask[i, 0], expected.bool())
    assert mask[0, 0, 1:, 1].all(), "patch 0 is the one key that was open and stays"
    assert torch.equal(mask[1, 0, 1:, 1:4], torch.ones(5, 3, dtype=torch.bool))


@pytest.mark.parametrize("seed", range(4))
def test_heads_count_alike_under_a_mask_and_a_shut_key_ranks_last(seed):
    """Sharp heads: one whose weight lies on shut keys counts as much as others, and no shut key passes an open one."""
    q, k, _ = attending(b=3, n=14, seed=seed)
    q = 6 * q
    draws = torch.Generator().manual_seed(seed)
    before = Keys(torch.rand(3, 12, 12, generator=draws).topk(6).indices, 12, 2)
    kept = torch.rand(3, 12, generator=draws).topk(9).indices.sort(-1).values
    with torch.no_grad():
        mask = attended_keys(q, k, 0.5, 2, 4, kept, before).dense
    shut = 0
    for i in range(3):
        under, plain = (literal.attention_map(q[i], k[i], mask) for mask in (before.dense[i, 0], None))
        expected = literal.mask_of(under, plain, before.dense[i, 0], kept[i].tolist(), 4 / 9, 2).bool()
        assert torch.equal(mask[i, 0], expected)
        rows = before.dense[i, 0, 2:, 2:][kept[i]][:, kept[i]]
        shut += int((expected[2:, 2:] & ~rows).sum())
    assert shut > 0, "some rows had too few open keys"


def test_the_added_mask_is_the_mask():
    keys = Keys(torch.rand(2, 10, 10, generator=torch.Generator().manual_seed(1)).topk(3).indices, 10, 2)
    for dtype in (torch.float32, torch.bfloat16):
        added = keys.added(dtype)
        assert added.dtype == dtype
        assert torch.equal(added == 0, keys.dense)
        assert torch.equal(added == -torch.inf, ~keys.dense)
        assert keys.added(dtype) is added, "made once for the blocks that share it"


@pytest.mark.parametrize("form", [fused_attention, gathered_attention, published_attention], ids=lambda f: f.__name__)
def test_masked_attention_is_that_of_the_literal_version(form):
    q, k, v = attending()
    index = torch.rand(2, 10, 10, generator=torch.Generator().manual_seed(1)).topk(3).indices
    keys = Keys(index, 10, 2)
    assert keys.dense[:, 0, 2:, 2:].sum(-1).unique().tolist() == [3]
    assert keys.dense[:, 0, :2].all()
    assert keys.dense[:, 0, :, :2].all()
    out = form(q, k, v, keys, 0.5)
    for i in range(2):
        expected = literal.attention_map(q[i], k[i], keys.dense[i, 0].float()) @ v[i].double()
        torch.testing.assert_close(out[i].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_published_form_leaves_masked_keys_what_its_normalisation_leaves():
    """(exp + eps / n) / (sum + eps): a masked key's weight, and rows that still sum to one."""
    q, k, v = attending(b=1, heads=1, n=6)
    v = torch.eye(6)[None, None]  # the output is the weights
    keys = Keys(torch.tensor([[[0, 1]] * 5]), 5, 1)
    with torch.no_grad():
        weight = published_attention(40 * q, k, v, keys, 0.5)[0, 0].double()
        score = (40 * q @ k.transpose(-2, -1) * 0.5)[0, 0].double()
    kept = (score - score.amax(-1, keepdim=True)).exp() * keys.dense[0, 0]
    shut = ~keys.dense[0, 0]
    left = (masked_attention.EPS / 6 / (kept.sum(-1, keepdim=True) + masked_attention.EPS)).expand(6, 6)
    torch.testing.assert_close(weight[shut], left[shut], rtol=1e-4, atol=0)
    assert masked_attention.EPS == 1e-6
    is_unmasked = kept.sum(-1) > 0.5  # where the largest key is not masked
    assert 0 < int(is_unmasked.sum()) < 6, "both happen: the largest is taken before the mask, as published"
    torch.testing.assert_close(
        weight.sum(-1)[is_unmasked], torch.ones(int(is_unmasked.sum())).double(), rtol=0, atol=3e-7
    )


@pytest.mark.parametrize("form", [fused_attention, gathered_attention, published_attention], ids=lambda f: f.__name__)
def test_dropout_of_weights_has_the_right_mean(form):
    q, k, v = attending(b=1, heads=1, n=6)
    keys = Keys(torch.tensor([[[0, 1, 2]] * 5]), 5, 1)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        draws = torch.stack([form(q, k, v, keys, 0.5, 0.4) for _ in range(600)])
        plain = form(q, k, v, keys, 0.5)
    error = draws.std(0) / 600**0.5
    assert ((draws.mean(0) - plain).abs() <= 4.5 * error).all()
    assert error.min() > 1e-4


def test_flex_attention_drops_weights_as_the_fused_kernel_does():
    """It has no dropout of its own, and dropping none would be another training."""
    q, k, v = attending(n=6)
    keys = Keys(torch.tensor([[[0, 1, 2]] * 5] * 2), 5, 1)
    outputs = []
    with torch.random.fork_rng(), torch.no_grad():
        for form in (masked_attention.flex_masked_attention, fused_attention):
            torch.manual_seed(0)
            outputs.append(form(q, k, v, keys, 0.5, 0.4))
        assert torch.equal(*outputs)
        assert not torch.allclose(outputs[0], fused_attention(q, k, v, keys, 0.5), atol=1e-2)


@pytest.mark.parametrize(("keep", "saving"), [(0.9, 0.136), (0.8, 0.256), (0.7, 0.352)])
def test_the_operations_of_deit_tiny_are_those_of_the_paper(keep, saving):
    model = vit.sparsify(build("vit_tiny", shape=(3, 224, 224), classes=1000), keep_tokens=keep)
    dense, tokens, _, both = vit.level_costs(model, torch.zeros(1, 3, 224, 224))
    deit = {"patch": 16, "channels": 3, "classes": 1000, "at": (3, 6, 9)}
    assert (
        dense.forward_flops == 2 * literal.macs(192, 196, 12, tokens=1, **deit) == pytest.approx(2 * 1.2537e9, rel=1e-4)
    )
    choosing = 2 * sum((n + 1) * 192 for n in vit.counts_of(196, keep, 2))  # a row of the map at each of three blocks
    assert tokens.forward_flops - choosing == 2 * literal.macs(192, 196, 12, tokens=keep, **deit)
    assert 1 - tokens.forward_flops / dense.forward_flops == pytest.approx(saving, abs=0.01 * saving)
    assert 1 - tokens.flops_ratio == pytest.approx(
        saving, abs=0.03 * saving
    )  # the fused backward computes the map again
    assert both.forward_flops < 1.03 * tokens.forward_flops
    assert math.isnan(both.seconds)


def test_gathered_keys_save_operations_and_the_times_are_told():
    model = vit.sparsify(make_network("ours"), keep_tokens=1, keep_attention=0.1, form="gathered")
    rows = {row.level: row for row in vit.level_costs(model, images(), rounds=2)}
    assert list(rows) == ["dense", "tokens", "attention", "tokens and attention"]
    assert rows["tokens"].flops == rows["dense"].flops
    assert rows["attention"].flops == rows["tokens and attention"].flops < rows["dense"].flops
    assert all(row.seconds > 0 and row.seconds_ratio > 0 for row in rows.values())
    assert rows["dense"].seconds_ratio == 1


@pytest.mark.parametrize(("patches", "kept", "gathers"), [(40, 1, True), (40, 2, False), (39, 1, False)])
def test_keys_are_gathered_where_that_measured_faster(monkeypatch, patches, kept, gathers):
    monkeypatch.setattr(masked_attention, "LONG_ENOUGH", 40)
    monkeypatch.setattr(masked_attention, "SPARSE_ENOUGH", 0.025)
    q, k, v = attending(n=1 + patches)
    keys = Keys(torch.arange(kept).expand(2, patches, kept), patches, 1)
    output = masked_attention.fastest_attention(q, k, v, keys, 0.5)
    assert torch.equal(output, (gathered_attention if gathers else fused_attention)(q, k, v, keys, 0.5))
    assert not torch.equal(output, (fused_attention if gathers else gathered_attention)(q, k, v, keys, 0.5))


def test_fused_attention_is_counted_on_the_cpu():
    q, k, v = attending(b=2, heads=3, n=16, d=8)
    with flop_counter() as counted:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        forward = counted.get_total_flops()
        out.sum().backward()
    assert forward == 2 * 2 * 2 * 3 * 16 * 16 * 8
    assert counted.get_total_flops() > 2.9 * forward
