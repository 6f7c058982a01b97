"""blend and combine: ends by the cards, scales as SciPy's, and a score like any other."""

import numpy as np
import pytest
import torch

from datawinnow import scores, select
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream

NAN = float("nan")


def columns(n=60, count=3, dtype=torch.float64):
    g = stream(0, "blend", n)
    return [torch.randn(n, generator=g, dtype=dtype).mul(10**k).round() for k in range(count)]


@pytest.mark.parametrize("by", ["rank", "zscore"])
def test_the_scales_are_those_of_scipy(by):
    from scipy import stats

    values = columns()  # rounded: many equal
    weights = [1.0, 2.0, 5.0]
    scale = (lambda v: (stats.rankdata(v) - 0.5) / len(v)) if by == "rank" else stats.zscore
    want = sum(w * scale(v.numpy()) for w, v in zip(weights, values, strict=True)) / 8
    got = select.combine(*values, weights=weights, by=by)
    np.testing.assert_allclose(got.numpy(), want, atol=1e-12)
    assert got.dtype is torch.float64
    assert select.combine(*[v.half() for v in values[:2]]).dtype is torch.float32
    assert select.combine(values[0].float(), values[1]).dtype is torch.float64


@pytest.mark.parametrize("by", ["rank", "zscore"])
def test_each_end_is_turned_up(by):
    value = torch.tensor([1.0, 2.0, 3.0, 4.0, 9.0])
    high = select.combine(value, ends=["high"], by=by)
    assert high.argsort().tolist() == [0, 1, 2, 3, 4]
    low = select.combine(value, ends=["low"], by=by)
    torch.testing.assert_close(low, 1 - high if by == "rank" else -high)
    middle = select.combine(value, ends=["middle"], by=by)
    assert int(middle.argmax()) == 2
    assert int(middle.argmin()) == 4
    assert float(middle[1]) == float(middle[3])
    even = select.combine([1.0, 2.0, 3.0, 4.0], ends=["middle"], by=by)
    assert float(even[1]) == float(even[2]) > float(even[0]) == float(even[3])
    same = select.combine(value, value, ends=[scores.el2n, scores.aum.card], by=by)
    torch.testing.assert_close(same, torch.full((5,), 0.5 if by == "rank" else 0.0))


def recorded(n=50, epochs=12):
    """The first five are mislabelled: a large error all along and a margin that is lost."""
    g = stream(0, "recorded")
    error = torch.rand(epochs, n, generator=g) * 0.5
    margin = torch.rand(epochs, n, generator=g) * 3
    error[:, :5] += 0.8
    margin[:, :5] -= 6
    return error, margin


@pytest.mark.parametrize("by", ["rank", "zscore"])
def test_it_is_a_score_that_honours_each_card(by):
    error, margin = recorded()
    hard = select.blend(scores.el2n, scores.aum, by=by, weights=[1, 3], options=[{"last": 4}, {}])
    got = hard(error, margin)
    assert set(got.topk(5).indices.tolist()) == set(range(5))
    want = select.combine(
        scores.el2n(error, last=4), scores.aum(margin), ends=["high", "low"], weights=[0.25, 0.75], by=by
    )
    torch.testing.assert_close(got, want)
    assert hard.card.needs == ("error_norm", "margin")
    assert hard.card.end == "high"
    assert hard.card.key == hard.__name__ == "blend_el2n_aum"
    assert "2107.07075" in hard.card.source
    assert "2001.10528" in hard.card.source


def test_an_array_that_two_need_is_given_once():
    p = torch.rand(12, 30, generator=stream(0, "p"))
    both = select.blend(scores.dual, scores.dyn_unc)
    assert both.card.needs == ("p_label",)
    torch.testing.assert_close(both(p), select.combine(scores.dual(p), scores.dyn_unc(p)))


def test_optional_arrays_may_be_given_by_name_or_place():
    correct = torch.rand(12, 30, generator=stream(0, "c")) > 0.5
    seen = torch.ones(12, 30, dtype=torch.bool)
    seen[3] = False
    margin = torch.rand(12, 30, generator=stream(0, "m"))
    both = select.blend(scores.forgetting, scores.aum)
    assert both.card.optional_needs == ("seen",)
    by_name = both(correct, margin, seen=seen, missing="skip")
    assert torch.equal(by_name, both(correct, margin, seen, missing="skip"))
    want = select.combine(scores.forgetting(correct, seen, missing="skip"), scores.aum(margin), ends=["high", "low"])
    torch.testing.assert_close(by_name, want)
    assert not torch.equal(by_name, both(correct, margin))
    with pytest.raises(ArgumentError, match=r"needs correct, margin \(and may have seen\) in this order, got 1 arrays"):
        both(correct)
    with pytest.raises(ArgumentError, match="got 2 arrays and loss by name"):
        both(correct, margin, loss=margin)


def test_it_goes_where_a_score_goes():
    from datawinnow.methods import Method

    error, margin = recorded()
    hard = select.blend(scores.el2n, scores.aum)
    arrays = {"margin": margin, "error_norm": error, "loss": error}
    assert torch.equal(Method.from_score(hard).compute_score(arrays), hard(error, margin))


def test_nan_is_named_or_left_out_of_the_scale():
    a, b = torch.tensor([1.0, NAN, 3.0, 2.0]), torch.tensor([4.0, 5.0, 6.0, NAN])
    with pytest.raises(ArgumentError, match="score 0 is nan for example 1"):
        select.combine(a, b)
    got = select.combine(a, b, missing="skip")
    assert got.isnan().tolist() == [False, True, False, True]
    assert got[[0, 2]].tolist() == pytest.approx([1 / 6, 5 / 6])
    error, margin = recorded()
    margin[:, 7] = NAN
    hard = select.blend(scores.el2n, scores.aum)
    with pytest.raises(ArgumentError, match="margin is nan for example 7"):
        hard(error, margin)
    assert hard(error, margin, missing="skip").isnan().nonzero().flatten().tolist() == [7]
    assert select.combine([NAN, NAN], missing="skip").isnan().all()


def test_a_constant_score_says_nothing():
    value = torch.rand(9, generator=stream(0, "v"))
    for by in ("rank", "zscore"):
        got = select.combine(value, torch.full((9,), 0.1), by=by)
        assert torch.equal(got.argsort(), value.argsort())
        assert got.isfinite().all()
    assert select.combine(torch.full((9,), 0.1), by="zscore").tolist() == [0.0] * 9


def test_it_refuses_what_it_cannot_use():
    with pytest.raises(ArgumentError, match="blend needs at least two scores, got 1"):
        select.blend(scores.aum)
    with pytest.raises(ArgumentError, match="by must be one of 'rank', 'zscore', got 'sum'"):
        select.blend(scores.aum, scores.el2n, by="sum")
    with pytest.raises(ArgumentError, match="options must hold one mapping a score: 2 scores, 1 mappings"):
        select.blend(scores.aum, scores.el2n, options=[{}])
    with pytest.raises(ArgumentError, match="weights must hold one number a score: 2 scores, 3 weights"):
        select.blend(scores.aum, scores.el2n, weights=[1, 2, 3])
    with pytest.raises(ArgumentError, match=r"weights must be a number in .* got -1"):
        select.combine([1.0], [2.0], weights=[1, -1])
    with pytest.raises(ArgumentError, match="ends must hold one end a score: 1 scores, 2 ends"):
        select.combine([1.0], ends=["low", "high"])
    with pytest.raises(ArgumentError, match="ends must be one of 'high', 'low', 'middle', got 'up'"):
        select.combine([1.0], ends=["up"])
    with pytest.raises(ArgumentError, match="score 0 has 1, score 1 has 2"):
        select.combine([1.0], [1.0, 2.0])
    with pytest.raises(ArgumentError, match="combine needs at least one array"):
        select.combine()
