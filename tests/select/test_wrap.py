"""What all wrappers keep to: exact budgets, capacity, composition, and arrays cut to the right axis."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datawinnow import select
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream

N = 24


def g(*path):
    return stream(0, *path)


def inputs(seed=0, n=N):
    """Scores with ties, three classes, an AUM, features with near-twins, costs."""
    source = stream(seed, "wrap", n)
    features = torch.randn(n, 3, generator=source)
    features[n // 2 :] = features[: n - n // 2] + 1e-4 * torch.randn(n - n // 2, 3, generator=source)
    return {
        "score": torch.randint(0, 9, (n,), generator=source).float(),
        "labels": torch.randint(0, 3, (n,), generator=source),
        "aum": torch.randn(n, generator=source),
        "features": features,
        "cost": torch.rand(n, generator=source) + 0.1,
    }


WRAPPED = {
    "per_class(top)": (select.per_class(select.top), ["score"], ["labels"], False),
    "drop_tail(top)": (select.drop_tail(select.top, by="aum", fraction=0.3), ["score"], ["aum"], True),
    "deduplicated(top)": (select.deduplicated(select.top, threshold=1e-3), ["score"], ["features"], True),
    "deduplicated(random)": (select.deduplicated(select.random, threshold=1e-3), ["labels"], ["features"], True),
    "drop_tail(random)": (
        select.drop_tail(select.random, by="aum", fraction=0.5, end="high"),
        ["labels"],
        ["aum"],
        True,
    ),
    "per_class(drop_tail(top))": (
        select.per_class(select.drop_tail(select.top, by="aum", fraction=0.3)),
        ["score"],
        ["labels", "aum"],
        False,
    ),
    "drop_tail(per_class(coverage))": (
        select.drop_tail(select.per_class(select.coverage), by="aum", fraction=0.3),
        ["score"],
        ["labels", "aum"],
        False,
    ),
    "deduplicated(per_class(drop_tail(random)))": (
        select.deduplicated(select.per_class(select.drop_tail(select.random, by="aum", fraction=0.2)), threshold=1e-3),
        ["labels"],
        ["labels", "aum", "features"],
        False,
    ),
    "per_class(deduplicated(top))": (
        select.per_class(select.deduplicated(select.top, threshold=1e-3)),
        ["score"],
        ["labels", "features"],
        False,
    ),
    "drop_tail(deduplicated(beta)) twice": (
        select.drop_tail(
            select.drop_tail(select.deduplicated(select.top, threshold=1e-3), by="cost", fraction=0.2, end="high"),
            by="aum",
            fraction=0.2,
        ),
        ["score"],
        ["aum", "cost", "features"],
        True,
    ),
}
"""Selector, positional arrays, arrays by name, whether prefixes nest."""

every_wrapper = pytest.mark.parametrize("name", WRAPPED)


def call(name, arrays, budget, seed=0, **kwargs):
    selector, positional, by_name, _ = WRAPPED[name]
    extra = {"generator": stream(seed, "draw")} if "generator" in selector.card.takes else {}
    return selector(
        *[arrays[p] for p in positional], **{k: arrays[k] for k in by_name}, budget=budget, **extra, **kwargs
    )


def capacity_below(budget, error):
    assert 0 <= error.capacity < budget
    return error.capacity


@every_wrapper
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(6, 40), share=st.floats(0, 1))
def test_exactly_what_is_asked_or_the_capacity(name, seed, n, share):
    arrays = inputs(seed, n)
    before = {k: a.clone() for k, a in arrays.items()}
    budget, got = max(1, round(share * n)), None
    while got is None and budget:
        try:
            got = call(name, arrays, budget)
        except CapacityError as error:  # an upper bound: what is wrapped may be able to give less still
            budget = capacity_below(budget, error)
    if got is None:
        return
    assert got.index.dtype == torch.int64
    assert got.index.unique().numel() == len(got) == budget
    assert got.weight.tolist() == [1] * budget
    kept = torch.tensor([Reason(int(r)).kept for r in got.reason])
    assert torch.equal(kept, got.mask(n))
    assert torch.equal(call(name, arrays, budget).index, got.index)
    assert all(torch.equal(a, before[k]) for k, a in arrays.items())


@pytest.mark.parametrize("name", [k for k, v in WRAPPED.items() if v[3]])
def test_prefixes_nest_where_the_selectors_do(name):
    arrays = inputs()
    complete = call(name, arrays, 8).index
    for budget in range(1, 8):
        assert torch.equal(call(name, arrays, budget).index, complete[:budget])


@every_wrapper
def test_the_card_says_what_the_call_takes(name):
    selector, positional, by_name, _ = WRAPPED[name]
    card = selector.card
    assert card.needs == tuple(positional)
    assert set(by_name) <= set(card.takes)
    assert len(set(card.takes)) == len(card.takes)
    assert selector.__name__ == card.key
    assert card.key.endswith(tuple(select.METHODS))
    assert ", " in card.name


@every_wrapper
def test_global_randomness_is_untouched(name):
    state = torch.random.get_rng_state()
    call(name, inputs(), 3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_arrays_by_name_are_cut_with_the_classes():
    arrays = inputs()
    got = call("per_class(drop_tail(top))", arrays, 12)
    for c in range(3):
        ids = torch.nonzero(arrays["labels"] == c).flatten()
        share = int((arrays["labels"][got.index] == c).sum())
        expected = select.drop_tail(select.top, by="aum", fraction=0.3)(
            arrays["score"][ids], aum=arrays["aum"][ids], budget=share
        )
        assert got.index[arrays["labels"][got.index] == c].tolist() == ids[expected.index].tolist()
        assert got.reason[ids].tolist() == expected.reason.tolist()
    both = call("per_class(deduplicated(top))", arrays, 16)
    assert Reason.DUPLICATE in both.reason.tolist()


def test_two_tails_are_dropped_one_after_the_other():
    arrays = inputs()
    got = call("drop_tail(deduplicated(beta)) twice", arrays, 5)
    rest = [i for i in range(N) if i not in arrays["aum"].argsort()[: int(0.2 * N)].tolist()]
    dear = sorted(rest, key=lambda i: -float(arrays["cost"][i]))[: int(0.2 * len(rest))]
    suspects = set(range(N)) - set(rest) | set(dear)
    assert {i for i in range(N) if got.reason[i] == Reason.SUSPECT} == suspects


def test_labels_may_be_a_need_as_well():
    arrays = inputs()
    seen = []

    def spy(features, labels, val_features, *, budget):
        seen.append((features.shape, labels.tolist(), val_features))
        return select.top(features[:, 0], budget=budget)

    held = [[1.0, 2.0]]
    select.per_class(spy)(arrays["features"], arrays["labels"], held, labels=arrays["labels"], budget=9)
    assert [s[1] for s in seen] == [[c] * int((arrays["labels"] == c).sum()) for c in range(3)]
    assert all(s[2] is held for s in seen), "held-out arrays go through as they are"


def test_names_that_would_be_mistaken_are_refused():
    with pytest.raises(
        ArgumentError, match="per_class would take labels= at the call, but per_class_top already takes a label"
    ):
        select.per_class(select.per_class(select.top))
    with pytest.raises(
        ArgumentError, match="drop_tail would take bins= at the call, but coverage already takes a bins="
    ):
        select.drop_tail(select.coverage, by="bins", fraction=0.1)
    with pytest.raises(ArgumentError, match="drop_tail would take budget= at the call"):
        select.drop_tail(select.top, by="budget", fraction=0.1)
    twice = select.drop_tail(select.top, by="aum", fraction=0.1)
    with pytest.raises(ArgumentError, match="use another name, or wrap once"):
        select.drop_tail(twice, by="aum", fraction=0.1)
    capped = select.capped_by_cost(select.top)
    for wrap in (
        select.per_class,
        lambda s: select.drop_tail(s, fraction=0.1),
        lambda s: select.deduplicated(s, threshold=0),
    ):
        with pytest.raises(
            ArgumentError, match=r"capped_by_cost_top keeps within a cost; put capped_by_cost outermost"
        ):
            wrap(capped)


def test_arrays_by_name_must_be_about_the_same_examples():
    arrays = inputs()
    with pytest.raises(ArgumentError, match="aum is about 5 examples, but labels about 24"):
        call("per_class(drop_tail(top))", arrays | {"aum": torch.rand(5)}, 3)
    with pytest.raises(ArgumentError, match="score is about 23 examples, but aum about 24"):
        call("drop_tail(top)", arrays | {"score": arrays["score"][1:]}, 3)
    arrays["aum"][7] = torch.nan
    with pytest.raises(ArgumentError, match="aum is nan for example 7"):
        call("per_class(drop_tail(top))", arrays, 3)
    got = call("per_class(drop_tail(top))", arrays, 3, missing="skip")
    assert got.reason[7] == Reason.UNSCORED
