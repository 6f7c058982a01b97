"""Signals against a literal float64 version in numpy."""

import math

import numpy as np
import pytest
import torch

from datawinnow.core.arrays import RECORDED
from datawinnow.core.errors import ArgumentError
from datawinnow.record import kl_step, signals


def literal(logits, label):
    """Every signal of one example, from its definition, in float64."""
    z = [float(v) for v in logits]
    top = max(z)
    total = math.fsum(math.exp(v - top) for v in z)
    log_p = [v - top - math.log(total) for v in z]
    p = [math.exp(v) for v in log_p]
    others_z = [v for c, v in enumerate(z) if c != label]
    others_p = [v for c, v in enumerate(p) if c != label]
    first, second = sorted(p)[::-1][:2]
    missing = math.fsum(others_p)  # 1 - p_label, which would lose its digits as a difference
    return {
        "loss": -log_p[label],
        "p_label": p[label],
        "margin": z[label] - max(others_z),
        "error_norm": math.sqrt(math.fsum(v * v for v in others_p) + missing * missing),
        "entropy": -math.fsum(a * b for a, b in zip(p, log_p, strict=True) if a > 0),
        "correct": all(z[label] > v for v in others_z),
        "margin_softmax": p[label] - max(others_p),
        "margin_top2": first - second,
    }


def drawn(b=64, c=7, scale=3.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(b, c, generator=g), torch.randint(c, (b,), generator=g)


CASES = {
    "ordinary": drawn(),
    "two classes": drawn(c=2, seed=1),
    "saturated": (torch.tensor([[40.0, 0.0, 1.0], [0.0, 90.0, -90.0], [200.0, -200.0, 0.0]]), torch.tensor([0, 0, 1])),
    "ties": (torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 1.0], [5.0, 1.0, 1.0]]), torch.tensor([0, 1, 2])),
    "bf16": (drawn(seed=2)[0].bfloat16(), drawn(seed=2)[1]),
    "float16": (drawn(seed=3)[0].half(), drawn(seed=3)[1]),
    "one example": (torch.tensor([[1.0, -1.0]]), torch.tensor([1])),
}


@pytest.mark.parametrize("case", list(CASES), ids=list(CASES))
def test_signals_match_the_literal_version(case):
    logits, labels = CASES[case]
    result = signals(logits, labels)
    assert set(result) == set(RECORDED)
    reference = [literal(row, int(y)) for row, y in zip(logits.double().tolist(), labels, strict=True)]
    for name, values in result.items():
        assert values.dtype is (torch.bool if name == "correct" else torch.float32)
        expected = [row[name] for row in reference]
        if name == "correct":
            assert values.tolist() == expected
        else:
            np.testing.assert_allclose(values.double().numpy(), expected, rtol=3e-6, atol=3e-7, err_msg=name)


def test_a_saturated_prediction_keeps_its_digits():
    # 1 - P_y is 4e-18 here: as a difference from 1 it would be 0, and all such examples would tie
    result = signals(torch.tensor([[40.0, 0.0], [41.0, 0.0]]), torch.tensor([0, 0]))
    missing = np.exp([-40.0, -41.0])
    np.testing.assert_allclose(result["loss"].double().numpy(), missing, rtol=1e-5, atol=5e-17)
    np.testing.assert_allclose(result["error_norm"].double().numpy(), math.sqrt(2) * missing, rtol=1e-5)
    wrong = signals(torch.tensor([[0.0, 300.0]]), torch.tensor([0]))
    assert wrong["loss"].item() == pytest.approx(300.0)
    assert wrong["p_label"].item() == 0.0
    assert wrong["error_norm"].item() == pytest.approx(math.sqrt(2))


def test_an_impossible_class_adds_nothing_to_the_entropy():
    result = signals(torch.tensor([[0.0, 0.0, -torch.inf]]), torch.tensor([0]))
    assert result["entropy"].item() == pytest.approx(math.log(2))
    assert result["margin"].item() == 0.0


def test_equal_logits_are_not_correct():
    result = signals(torch.zeros(3, 4), torch.tensor([0, 1, 3]))
    assert not result["correct"].any()
    assert result["loss"].tolist() == pytest.approx([math.log(4)] * 3)


def test_bf16_logits_give_float32_softmax():
    # softmax in bf16 has steps of 0.004 near 1: these three would tie
    logits = torch.tensor([[6.0, 0.0], [6.5, 0.0], [7.0, 0.0]]).bfloat16()
    p = signals(logits, torch.zeros(3, dtype=torch.int64))["p_label"]
    assert p.unique().numel() == 3
    assert p.tolist() == pytest.approx([1 / (1 + math.exp(-v)) for v in (6.0, 6.5, 7.0)], rel=1e-6)


def test_inputs_and_graph_are_left_alone():
    logits, labels = drawn(b=5)
    logits.requires_grad_()
    before = logits.detach().clone(), labels.clone()
    result = signals(logits, labels)
    assert not any(v.requires_grad for v in result.values())
    assert torch.equal(logits.detach(), before[0])
    assert torch.equal(labels, before[1])


def test_only_what_is_wanted_and_int32_labels():
    logits, labels = drawn(b=5)
    result = signals(logits, labels.int(), names=("margin",))
    assert list(result) == ["margin"]
    assert torch.equal(result["margin"], signals(logits, labels)["margin"])


@pytest.mark.parametrize(
    ("logits", "labels", "signal_names", "match"),
    [
        (torch.zeros(2, 3, 4), torch.zeros(2).long(), RECORDED, r"logits \(b, c\) and labels \(b,\), got \(2, 3, 4\)"),
        (torch.zeros(2, 3), torch.zeros(3).long(), RECORDED, r"got \(2, 3\) and \(3,\)"),
        (torch.zeros(2, 1), torch.zeros(2).long(), RECORDED, "at least 2 classes"),
        (torch.zeros(2, 3), torch.zeros(2), RECORDED, "labels must be integer class ids, got torch.float32"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), RECORDED, r"labels must be in \[0, 3\).* got 0 to 3.*classes=4"),
        (torch.zeros(2, 3), torch.tensor([-1, 0]), RECORDED, r"got -1 to 0"),
        (torch.zeros(2, 3), torch.zeros(2).long(), ("los",), "no signal is called 'los'. Did you mean 'loss'"),
    ],
    ids=["axes", "lengths", "one class", "float labels", "label over", "label under", "name"],
)
def test_bad_input_is_named(logits, labels, signal_names, match):
    with pytest.raises(ArgumentError, match=match):
        signals(logits, labels, names=signal_names)


def test_kl_step_is_the_literal_tdds_formula():
    g = torch.Generator().manual_seed(0)
    before, now = (torch.randn(20, 5, generator=g).mul(4).softmax(1) for _ in range(2))
    now[0], before[0] = torch.tensor([1.0, 0, 0, 0, 0]), torch.tensor([0.0, 1, 0, 0, 0])  # 1e-8 keeps the logs finite
    reference = []
    for p0, p1 in zip(before.double().tolist(), now.double().tolist(), strict=True):
        reference.append(sum(abs(b * (math.log(b + 1e-8) - math.log(a + 1e-8))) for a, b in zip(p0, p1, strict=True)))
    np.testing.assert_allclose(kl_step(before, now).double().numpy(), reference, rtol=1e-5, atol=1e-6)
    # the absolute value stands inside the sum: a KL divergence is smaller
    assert (kl_step(before, now) > (now * (now / before).log()).nan_to_num(0, 0, 0).sum(1) + 1e-3).any()


def separately(logits, labels):
    """`signals` with nothing shared between them, in the same arithmetic; what was recorded before must not change."""
    z, y = logits.float(), labels[:, None]
    log_p = z.log_softmax(1)
    p, log_p_label = log_p.exp(), log_p.gather(1, y)[:, 0]
    margin = z.gather(1, y)[:, 0] - z.scatter(1, y, -torch.inf).amax(1)
    squares, rest = p.scatter(1, y, 0.0).square().sum(1), p.scatter(1, y, 0.0).sum(1)
    two = p.topk(2, dim=1).values
    return {
        "loss": -log_p_label,
        "p_label": log_p_label.exp(),
        "margin": margin,
        "error_norm": (squares + rest.square()).sqrt(),
        "entropy": -(p * log_p.clamp_min(-1e4)).sum(1),
        "correct": z.gather(1, y)[:, 0] > z.scatter(1, y, -torch.inf).amax(1),
        "margin_softmax": log_p_label.exp() - p.scatter(1, y, -1.0).amax(1),
        "margin_top2": two[:, 0] - two[:, 1],
    }


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0, 1e4, 1e38])
@pytest.mark.parametrize("classes", [2, 10, 37])
def test_sharing_work_changes_no_bit(scale, classes):
    logits, labels = drawn(b=128, c=classes, scale=scale, seed=classes)
    logits[0], logits[1, 0], logits[2, 1], logits[3, 0] = 0.0, -torch.inf, torch.inf, torch.nan
    reference = separately(logits, labels)
    result = signals(logits, labels)
    for name, values in reference.items():
        assert torch.equal(result[name].isnan(), values.isnan()), name
        assert torch.equal(result[name].nan_to_num(7.0), values.nan_to_num(7.0)), name
        alone = signals(logits, labels, names=(name,))[name]
        assert torch.equal(alone.nan_to_num(7.0), values.nan_to_num(7.0)), name
