"""drop_tail: which end goes, what it is called, how much is left."""

import pytest
import torch

from datawinnow import select
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream


def words(selection):
    return [Reason(int(r)).word for r in selection.reason]


@pytest.mark.parametrize(("end", "dropped"), [("low", {1, 4}), ("high", {0, 3})])
def test_the_suspicious_end_is_dropped_and_the_rest_selected(end, dropped):
    aum = [9.0, -5.0, 1.0, 8.0, -4.0, 2.0, 3.0]
    careful = select.drop_tail(select.top, by="aum", fraction=0.3, end=end)
    score = [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    got = careful(score, aum=aum, budget=5)
    assert got.index.tolist() == [i for i in range(7) if i not in dropped]
    assert {i for i, w in enumerate(words(got)) if w == "suspect"} == dropped
    fewer = careful(score, aum=aum, budget=3)
    assert words(fewer).count("below_cut") == 2


def test_mislabelled_examples_go_although_the_selector_likes_them():
    """Hard examples are wanted, but the hardest are wrong: high loss, and a margin lost all along."""
    g = stream(0, "planted")
    n = 100
    aum = torch.rand(n, generator=g) + 0.5
    aum[:10] = -torch.rand(10, generator=g)
    loss = -aum
    assert set(select.top(loss, budget=20).index.tolist()) >= set(range(10))
    got = select.drop_tail(select.top, by="aum", fraction=0.1)(loss, aum=aum, budget=20)
    assert int(got.index.min()) >= 10
    assert got.index.tolist() == (10 + aum[10:].argsort()[:20]).tolist()


def test_the_selector_sees_the_rest_alone():
    g = stream(0, "rest")
    score, aum = torch.rand(40, generator=g), torch.randn(40, generator=g)
    rest = aum.argsort()[10:].sort().values
    got = select.drop_tail(select.coverage, by="aum", fraction=0.25)(
        score, aum=aum, budget=12, generator=stream(0, "c"), bins=5
    )
    expected = select.coverage(score[rest], budget=12, generator=stream(0, "c"), bins=5)
    assert got.index.tolist() == rest[expected.index].tolist()


def test_the_number_dropped_of_ties_is_exact():
    for n in (10, 29, 100):
        for fraction in (0.0, 0.07, 0.29, 0.5):
            got = select.drop_tail(select.top, by="aum", fraction=fraction)(torch.rand(n), aum=torch.ones(n), budget=1)
            suspects = [i for i, w in enumerate(words(got)) if w == "suspect"]
            assert len(suspects) == round(fraction * n - 0.499999)


def test_it_states_its_capacity():
    careful = select.drop_tail(select.top, by="aum", fraction=0.25)
    with pytest.raises(
        CapacityError, match=r"drop_tail_top can give at most 6 of 8 .* drops the 2 of lowest aum"
    ) as at:
        careful(torch.rand(8), aum=torch.rand(8), budget=7)
    assert at.value.capacity == 6
    with pytest.raises(CapacityError, match="at most 0 of 8"):
        select.drop_tail(select.top, by="aum", fraction=1.0)(torch.rand(8), aum=torch.rand(8), budget=1)
    with pytest.raises(ArgumentError, match="budget must be between 1 and the 8 examples, got 9"):
        careful(torch.rand(8), aum=torch.rand(8), budget=9)


def test_the_unscored_count_neither_way():
    aum = torch.tensor([torch.nan, 1, 2, 3, 4, torch.nan])
    careful = select.drop_tail(select.random, by="aum", fraction=0.5)
    labels = torch.zeros(6, dtype=torch.long)
    got = careful(labels, aum=aum, budget=2, generator=stream(0, "r"), missing="skip")
    assert words(got) == ["unscored", "suspect", "suspect", "drawn", "drawn", "unscored"]
    with pytest.raises(ArgumentError, match="aum is nan for example 0"):
        careful(labels, aum=aum, budget=2, generator=stream(0, "r"))
    with pytest.raises(CapacityError, match="at most 2 of 6"):
        careful(labels, aum=aum, budget=3, generator=stream(0, "r"), missing="skip")
    score = torch.tensor([1.0, 2, 3, torch.nan, 5, 6])
    top = select.drop_tail(select.top, by="aum", fraction=0.5)
    assert top(score, aum=aum, budget=1, missing="skip").index.tolist() == [4]
    with pytest.raises(CapacityError, match="only 1 of 2 examples have a number"):
        top(score, aum=aum, budget=2, missing="skip")


def test_it_refuses_what_it_cannot_use():
    with pytest.raises(ArgumentError, match=r"by must be the name .* got Tensor; write drop_tail\(top, by="):
        select.drop_tail(select.top, by=torch.rand(4), fraction=0.1)
    with pytest.raises(ArgumentError, match=r"fraction must be a number in \[0, 1\], got 1.5"):
        select.drop_tail(select.top, fraction=1.5)
    with pytest.raises(ArgumentError, match="end must be one of 'low', 'high', got 'middle'"):
        select.drop_tail(select.top, fraction=0.5, end="middle")
    with pytest.raises(ArgumentError, match=r"drop_tail_top needs the score whose tail is dropped, \(n,\), as aum="):
        select.drop_tail(select.top, by="aum", fraction=0.5)([1.0, 2.0], budget=1)
    with pytest.raises(ArgumentError, match=r"aum must have shape \(n,\)"):
        select.drop_tail(select.top, by="aum", fraction=0.5)([1.0, 2.0], aum=[[1.0, 2.0]], budget=1)
