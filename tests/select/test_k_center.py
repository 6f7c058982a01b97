"""k-center greedy: the loop's picks, twice the optimum by brute force, the outlier, ties, and how it is computed."""

import math

import pytest
import torch

from datawinnow import select
from datawinnow.core.draw import tie_order, tie_seed_of
from datawinnow.core.errors import ArgumentError, CapacityError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.select import farthest
from tests.reference import geometry as literal


def g(*path):
    return stream(0, "k_center", *path)


def k_center(x, budget, **options):
    return select.k_center(x, budget=budget, generator=g("unused"), **options).index.tolist()


@pytest.mark.parametrize("outliers", [0, 1, 5])
@pytest.mark.parametrize("d", [1, 2, 24])
def test_picks_are_those_of_the_loop(d, outliers):
    x = torch.randn(60, d, generator=g(d))
    want = literal.k_center(x.tolist(), 60, 7, outliers)
    assert k_center(x, 60, first=7, outliers=outliers) == want


@pytest.mark.parametrize("outliers", [0, 3])
@pytest.mark.parametrize("kind", ["spread", "clusters", "few dimensions"])
def test_rounds_of_picks_change_nothing(kind, outliers):
    """Many rounds, of all sizes, against one product a pick in float64."""
    d = 3 if kind == "few dimensions" else 32
    x = torch.randn(1000, d, generator=g(kind)).double()
    if kind == "clusters":
        x = 0.2 * x + torch.randn(12, d, generator=g("at"))[torch.randint(12, (1000,), generator=g("of"))]
    want = [11]
    near = (x - x[11]).square().sum(1)
    near[11] = -1
    while len(want) < 400:
        pick = int(torch.argsort(-near, stable=True)[outliers])
        want.append(pick)
        near = torch.minimum(near, (x - x[pick]).square().sum(1))
        near[pick] = -1
    assert k_center(x, 400, first=11, outliers=outliers) == want
    single = k_center(x.float(), 400, first=11, outliers=outliers)
    assert single[:100] == want[:100]  # later some are farthest by less than float32 can tell
    far = [float(torch.cdist(x, x[c]).amin(1).sort().values[-1 - outliers]) for c in (single, want)]
    assert far[0] == pytest.approx(far[1], rel=1e-2)


def test_the_radius_is_within_twice_the_optimum():
    draws = g("brute")
    worst = 0.0
    for _ in range(150):
        n = int(torch.randint(5, 13, (), generator=draws))
        budget = int(torch.randint(1, min(n, 5), (), generator=draws))
        rows = torch.randn(n, 2, generator=draws).tolist()
        _, best = literal.best_centres(rows, budget)
        first = int(torch.randint(n, (), generator=draws))
        got = literal.radius(rows, k_center(rows, budget, first=first))
        assert got <= 2 * best + 1e-6
        worst = max(worst, got / best)
    assert worst > 1.3  # the instances are not all easy


def test_the_robust_radius_is_within_twice_the_optimum_if_no_outlier_of_it_is_chosen():
    draws = g("robust")
    held = 0
    for _ in range(150):
        n, outliers = int(torch.randint(6, 12, (), generator=draws)), int(torch.randint(1, 3, (), generator=draws))
        budget = int(torch.randint(1, 4, (), generator=draws))
        rows = torch.randn(n, 2, generator=draws).tolist()
        sets, best = literal.best_centres(rows, budget, outliers)
        chosen = k_center(rows, budget, first=int(torch.randint(n, (), generator=draws)), outliers=outliers)
        for centres in sets:
            far = sorted(range(n), key=lambda i: min(literal.distance(rows[i], rows[c]) for c in centres))
            if not set(chosen) & set(far[n - outliers :]):
                held += 1
                assert literal.radius(rows, chosen, outliers) <= 2 * best + 1e-6
    assert held > 50


def test_nothing_is_promised_where_an_outlier_begins():
    """The other half of that sentence: 0 to 3 are inliers, 50 is the outlier, and it is the first."""
    rows = [[0.0], [1.0], [2.0], [3.0], [50.0]]
    assert literal.radius(rows, k_center(rows, 1, first=4, outliers=1), 1) > 2 * literal.best_centres(rows, 1, 1)[1]


def test_the_farthest_is_first_and_the_robust_form_passes_it_over():
    x = torch.randn(80, 4, generator=g("planted"))
    x[17] = 40.0
    x[55] = -30.0
    assert k_center(x, 3, first=0)[1:] == [17, 55]
    robust = k_center(x, 40, first=0, outliers=2)
    assert not {17, 55} & set(robust)
    assert {17, 55} & set(k_center(x, 3, first=0, outliers=1))
    assert set(k_center(x, 80, first=0, outliers=2)[-2:]) == {17, 55}  # when nobody else is left


def test_a_near_duplicate_comes_last():
    x = torch.randn(40, 3, generator=g("duplicate"))
    x[33] = x[5] + 1e-4
    assert k_center(x, 40, first=5)[-1] == 33


def ties(n):
    return tie_order(n, tie_seed_of(g("unused"))).tolist()


def test_ties_and_duplicates_are_drawn():
    assert k_center(torch.ones(9, 20), 5, first=3) == [3, *(i for i in ties(9) if i != 3)][:5]
    rest = [i for i in ties(30) if i != 4]
    assert k_center(torch.eye(30), 6, first=4) == [4, *rest[:5]]
    assert k_center(torch.eye(30), 4, first=4, outliers=2) == [4, *rest[2:5]]
    rows = [[0.0], [4.0], [-4.0], [4.0]]
    assert k_center(rows, 4, first=0) == literal.k_center(rows, 4, 0, order=ties(4))
    centre = k_center(torch.eye(30), 1, first="mean")
    assert centre == ties(30)[:1]


@pytest.mark.parametrize("outliers", [0, 2])
@pytest.mark.parametrize("pool", [1, 4, 13])
def test_ties_at_the_edge_of_a_round_are_drawn_alike(pool, outliers, monkeypatch):
    """On a grid most distances are shared, and are exact; ids are shuffled over it."""
    monkeypatch.setattr(farthest, "INITIAL_POOL", pool)
    grid = torch.cartesian_prod(torch.arange(9.0), torch.arange(9.0))[torch.randperm(81, generator=g("grid"))]
    want = literal.k_center(grid.tolist(), 81, 40, outliers, order=ties(81))
    assert k_center(grid, 81, first=40, outliers=outliers) == want


def test_where_it_begins():
    x = torch.randn(50, 6, generator=g("first")) + 3
    nearest = int((x - x.mean(0)).square().sum(1).argmin())
    assert k_center(x, 3, first="mean") == literal.k_center(x.tolist(), 3, nearest)
    counts = {select.k_center(x, budget=1, generator=stream(s, "x")).index.item() for s in range(60)}
    assert len(counts) > 20
    draws = g("state")
    before = draws.get_state()
    select.k_center(x, budget=3, first="mean", generator=draws)
    assert torch.equal(draws.get_state(), before)
    one, two = stream(1, "x"), stream(1, "x")
    assert torch.equal(
        select.k_center(x, budget=5, first="random", generator=one).index,
        select.k_center(x, budget=5, generator=two).index,
    )


def test_far_from_the_origin_it_is_the_same():
    x = torch.randn(300, 40, generator=g("offset")).mul_(64).round_().div_(64)  # so that adding 2048 loses nothing
    assert k_center(x + 2048, 100, first=3) == k_center(x, 100, first=3)


def test_prefixes_nest_and_reasons_tell():
    x = torch.randn(300, 5, generator=g("nest"))
    complete = k_center(x, 300, first=0)
    for budget in (1, 2, 130, 299):
        assert k_center(x, budget, first=0) == complete[:budget]
    got = select.k_center(x, budget=4, generator=g())
    assert {Reason(int(r)).word for r in got.reason} == {"covers", "covered"}


def test_an_example_without_numbers_is_no_first():
    x = torch.randn(8, 3, generator=g("nan"))
    x[2, 1] = math.nan
    with pytest.raises(ArgumentError, match=r"first=2 is an example without numbers"):
        k_center(x, 3, first=2, missing="skip")
    rest = [0, 1, 3, 4, 5, 6, 7]
    want = literal.k_center([x[i].tolist() for i in rest], 7, rest.index(5))
    assert k_center(x, 7, first=5, missing="skip") == [rest[i] for i in want]
    with pytest.raises(CapacityError, match="budget=8, but only 7 of 8"):
        k_center(x, 8, first=5, missing="skip")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"first": "middle"}, r"first must be an id, \"mean\" or \"random\" .* got 'middle'"),
        ({"first": 5}, r"first must be a whole number in \[0, 4\], got 5"),
        ({"first": True}, r"first must be a whole number .* got True"),
        ({"outliers": -1}, "outliers must be a whole number .* got -1"),
        ({"outliers": 0.5}, "outliers must be a whole number .* got 0.5"),
    ],
    ids=["word", "id", "bool", "negative", "fraction"],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(ArgumentError, match=words):
        k_center(torch.randn(5, 2, generator=g()), 2, **options)


def test_numbers_that_cannot_be_squared_are_refused():
    with pytest.raises(ArgumentError, match="features is too large to be squared"):
        k_center(torch.full((20, 3), 1e25) * torch.arange(20)[:, None], 2)


def test_never_budget_by_n(monkeypatch):
    """Blocks of distances stay at their size, and in general position there are far fewer products than picks."""
    monkeypatch.setattr(farthest, "DISTANCE_BLOCK", 1 << 10)
    rows = []
    product = torch.addmm

    def watched(instance, left, right, **kwargs):
        rows.append((left.shape[0], right.shape[1]))
        return product(instance, left, right, **kwargs)

    monkeypatch.setattr(torch, "addmm", watched)
    x = torch.randn(1000, 64, generator=g("memory"))
    k_center(x, 500, first=0)
    assert max(n * picks for n, picks in rows) <= 1 << 10
    assert sum(n for n, _ in rows) / 1000 < 50


def test_classes_are_covered_by_themselves():
    x = torch.randn(60, 2, generator=g("class"))
    labels = torch.arange(60) % 3
    got = select.per_class(select.k_center)(x, labels=labels, budget=12, first="mean", generator=g("per class"))
    for c in range(3):
        members = torch.nonzero(labels == c).flatten()
        begin = int((x[members] - x[members].mean(0)).square().sum(1).argmin())
        want = literal.k_center(x[members].tolist(), 4, begin)
        assert [i for i in got.index.tolist() if labels[i] == c] == members[want].tolist()
