"""Close pairs: the same as every pair compared one by one; in cells, nearly all of them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datawinnow.core import close_pairs as module
from datawinnow.core.close_pairs import CellIndex, ClosePairs, close_pairs, unique_pairs
from datawinnow.core.errors import ArgumentError


def literal_pairs(x: torch.Tensor, radius: float, metric: str) -> dict[tuple[int, int], float]:
    """Every pair in a loop, in float64."""
    rows = x.double().tolist()
    distances = {}
    for i, u in enumerate(rows):
        for j, v in enumerate(rows[:i]):
            if metric == "euclidean":
                distance = math.dist(u, v)
            else:
                product = math.hypot(*u) * math.hypot(*v)
                distance = 1 - sum(a * b for a, b in zip(u, v, strict=True)) / product if product else 1.0
            if distance <= radius:
                distances[j, i] = distance
    return distances


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    d=st.integers(1, 6),
    seed=st.integers(0, 100),
    radius=st.sampled_from([0.0, 0.15, 0.7, 2.5]),
    offset=st.sampled_from([0.0, 500.0]),
    metric=st.sampled_from(["euclidean", "cosine"]),
)
def test_few_rows_are_all_compared(n: int, d: int, seed: int, radius: float, offset: float, metric: str) -> None:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g) + (offset if metric == "euclidean" else 0.0)
    x[n // 2 :: 3] = x[: len(x[n // 2 :: 3])].clone()  # duplicates
    x[::7] = 0.0
    pairs = close_pairs(x, radius, metric=metric, k=n)
    expected = literal_pairs(x, radius, metric)
    actual = {(i, j): v for i, j, v in zip(*(column.tolist() for column in pairs), strict=True)}
    # what lies on the limit itself may fall on either side
    clear = {pair for pair, v in expected.items() if abs(v - radius) > 1e-4 or (radius == 0 and v == 0)}
    assert clear <= set(actual)
    assert all(pair in expected or abs(v - radius) <= 1e-4 for pair, v in actual.items())
    for pair in clear:
        assert actual[pair] == pytest.approx(expected[pair], abs=2e-4)


def planted(n: int, d: int, noise: float) -> tuple[torch.Tensor, set[tuple[int, int]]]:
    """Rows of which the last tenth are copies of the first with noise of that share of their length."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(n, d, generator=g)
    copies = n // 10
    change = torch.randn(copies, d, generator=g)
    x[-copies:] = x[:copies] + noise * change * (x[:copies].norm(dim=1) / change.norm(dim=1))[:, None]
    return x, {(i, n - copies + i) for i in range(copies)}


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_cells_hold_nearly_all_close_pairs_and_no_others(metric: str) -> None:
    x, copies = planted(6000, 48, 0.1)
    radius = 0.11 * 48**0.5 * 1.5 if metric == "euclidean" else 0.01
    pairs = close_pairs(x, radius, metric=metric, cells=24)
    actual = set(zip(pairs.query.tolist(), pairs.row.tolist(), strict=True))
    assert len(actual & copies) >= 0.99 * len(copies)
    exact = close_pairs(x, radius, metric=metric, cells=1, k=6000)
    assert actual <= set(zip(exact.query.tolist(), exact.row.tolist(), strict=True))


def test_every_pair_is_there_once_with_the_smaller_number_first() -> None:
    pairs = close_pairs(torch.zeros(9, 3), 0.0, cells=1, k=9)
    assert list(zip(pairs.query.tolist(), pairs.row.tolist(), strict=True)) == [
        (i, j) for i in range(9) for j in range(i + 1, 9)
    ]


def test_k_keeps_the_nearest_of_a_cell() -> None:
    index = CellIndex([[0.0], [1.0], [2.0], [3.0]])
    pairs = index.search([[0.2], [2.9]], 10.0, k=2)
    assert list(zip(pairs.query.tolist(), pairs.row.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 3), (1, 2)]
    assert pairs.distance.tolist() == pytest.approx([0.2, 0.8, 0.1, 0.9], abs=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = planted(900, 12, 0.2)
    together = close_pairs(x, 1.0, cells=5)
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    monkeypatch.setattr(module, "BLOCK_CELL_ENTRIES", 50)
    in_blocks = close_pairs(x, 1.0, cells=5)
    assert len(together.query) > 50
    assert torch.equal(together.query, in_blocks.query)
    assert torch.equal(together.row, in_blocks.row)


def test_nothing_close_gives_no_pairs_and_bad_input_an_error() -> None:
    assert len(close_pairs([[0.0], [9.0]], 1.0).query) == 0
    assert len(close_pairs([[0.0]], 1.0).query) == 0
    with pytest.raises(ArgumentError, match="radius"):
        close_pairs([[0.0], [9.0]], -1.0)
    with pytest.raises(ArgumentError, match="x is nan for example 1"):
        close_pairs([[0.0], [float("nan")]], 1.0)
    with pytest.raises(ArgumentError, match="cells"):
        close_pairs([[0.0], [1.0]], 1.0, cells=3)


def test_small_distances_far_from_the_origin_are_seen() -> None:
    # products of points as far out round by more than these distances: with k=1 another row would be the nearest
    x = torch.full((20, 2), 30000.0) + torch.arange(20)[:, None]
    x[7] = x[6] + 0.25
    pairs = close_pairs(x, 0.5, k=1)
    assert (pairs.query.tolist(), pairs.row.tolist()) == ([6], [7])


def test_unique_pairs_leave_out_rows_with_themselves_and_keep_the_smallest_distance() -> None:
    pairs = ClosePairs(torch.tensor([3, 1, 2, 1]), torch.tensor([1, 3, 2, 0]), torch.tensor([0.4, 0.3, 0.0, 0.2]))
    kept = unique_pairs(pairs, 4)
    assert (kept.query.tolist(), kept.row.tolist()) == ([0, 1], [1, 3])
    assert kept.distance.tolist() == pytest.approx([0.2, 0.3])
