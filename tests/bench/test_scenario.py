"""Scenarios in a grid: images, rows that go or are copied, and what a result row says of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datawinnow.bench import Cell, read_grid
from datawinnow.bench.cell import datasets_of, run_cell
from datawinnow.bench.scenario import under_scenario
from datawinnow.core.errors import DataError
from datawinnow.core.rng import stream
from datawinnow.data.examples import LazyExamples
from datawinnow.report import results, text_table
from datawinnow.scenarios import METHODS


@pytest.fixture
def images(tmp_path, write):
    g = np.random.default_rng(0)
    x = g.integers(0, 255, (40, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / "p.npz", x_train=x, y_train=np.arange(40) % 2, x_test=x[:10], y_test=np.arange(10) % 2)
    return read_grid(write(source=tmp_path / "p.npz"))


@pytest.mark.parametrize("name", ["fog", "corruption"])
def test_images_are_what_the_scenario_gives_with_the_seed_of_the_cell(images, name):
    train, _ = datasets_of(images)
    new, changed = under_scenario(train, f"{name} 0.25", 3)
    expected = METHODS[name](train.x, train.labels, rate=0.25, generator=stream(3, "scenario", f"{name} 0.25"))
    assert torch.equal(new.x, expected[0])
    assert torch.equal(changed, expected[2])
    assert torch.equal((new.x != train.x).flatten(1).any(1), changed)
    assert (new.mean, new.std, new.ids, len(new)) == (train.mean, train.std, train.ids, 40)
    assert new.fingerprint != train.fingerprint
    assert not torch.equal(under_scenario(train, f"{name} 0.25", 4)[1], changed)


def test_dropped_examples_leave_the_others_their_ids(images):
    train, _ = datasets_of(images)
    new, tail = under_scenario(train, "long_tail 0.8", 0)
    assert torch.bincount(new.labels).tolist() == [20, 4]
    assert torch.equal(tail, new.labels == 1)
    for i in range(len(new)):
        assert torch.equal(new.x[i], train.x[int(new.id_of(i))])


def test_copies_take_the_place_of_others(images):
    train, _ = datasets_of(images)
    new, copy = under_scenario(train, "duplicates 0.25", 0)
    assert (len(new), int(copy.sum())) == (40, 10)
    assert torch.equal(new.x[~copy], train.x[~copy])
    assert len(torch.unique(new.x.flatten(1), dim=0)) == 30


def test_images_on_disk_can_lose_and_copy_rows_but_not_be_corrupted():
    labels = torch.arange(20) % 2

    class Names(list):
        def take(self, index):
            return Names(self[int(i)] for i in index)

    lazy = LazyExamples(Names(map(str, range(20))), None, labels, ("a", "b"))
    left, _ = under_scenario(lazy, "long_tail 0.5", 0)
    assert (len(left), torch.bincount(left.labels).tolist()) == (15, [10, 5])
    assert [left.id_of(i) for i in range(15)] == left.images
    with pytest.raises(DataError, match=r"'fog' changes images in memory, but the examples of 'data' stay on disk"):
        under_scenario(lazy, "fog 0.2", 0)


def test_vectors_have_no_fog(grid):
    train, _ = datasets_of(grid)
    with pytest.raises(
        DataError, match=r"'fog' changes images in memory, but the examples of 'data' have shape \(4,\)"
    ):
        under_scenario(train, "fog 0.2", 0)


@pytest.mark.parametrize("scenario", ["fog 0.25", "long_tail 0.8", "duplicates 0.25", "pair 0.25"])
def test_a_row_tells_the_share_that_was_changed_and_that_is_kept_and_the_report_shows_both(images, tmp_path, scenario):
    rows = []
    for method in ("random", "aum", "el2n"):
        cell = Cell(kind="static", method=method, keep=0.5, seed=0, scenario=scenario)
        rows.append(run_cell(images, cell, tmp_path))
    clean = Cell(kind="static", method="random", keep=0.5, seed=0, scenario="clean")
    rows.append(run_cell(images, clean, tmp_path))
    train, changed = under_scenario(datasets_of(images)[0], scenario, 0)
    assert {row["changed"] for row in rows[:3]} == {float(changed.float().mean())}
    assert {row["n"] for row in rows[:3]} == {len(train)}
    assert all(0 <= row["changed_kept"] <= 1 for row in rows[:3])
    assert (rows[3]["changed"], rows[3]["changed_kept"], rows[3]["n"]) == (None, None, 40)
    shown = " ".join(text_table(results.checked(rows, "rows")).split())  # n may differ between scenarios
    description = "are of the rarer half of the classes" if "tail" in scenario else "were changed"
    shares = sorted((row["changed_kept"], row["label"]) for row in rows[1:3])
    (low, lowest), (high, highest) = shares
    assert (
        f"{100 * rows[0]['changed']:.1f}% of the examples {description}. "
        f"Among the kept at keep 0.5: {100 * low:.1f}% ({lowest}) to {100 * high:.1f}% ({highest})." in shown
    )
