"""Scenarios that move rows: long-tailed classes and planted duplicates."""

from __future__ import annotations

import pytest
import torch

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.scenarios import duplicates, long_tail


def test_classes_get_rarer_by_a_constant_factor_down_to_what_the_rate_leaves():
    labels = torch.arange(10_000) % 10
    rows, left, tail = long_tail(torch.arange(10_000), labels, rate=0.99, generator=stream(0, "tail"))
    sizes = torch.bincount(left)
    assert sizes.tolist() == [int(1000 * 0.01 ** (c / 9) + 0.5) for c in range(10)]
    assert (int(sizes[0]), int(sizes[9])) == (1000, 10)
    assert torch.equal(left, labels[rows])
    assert torch.equal(rows, rows.sort().values)
    assert torch.equal(tail, left >= 5)


def test_which_examples_of_a_class_stay_is_drawn_uniformly():
    trials, labels = 1000, torch.arange(20) % 2
    counts, generator = torch.zeros(20), stream(0, "which")
    for _ in range(trials):
        counts[long_tail(torch.arange(20), labels, rate=0.7, generator=generator)[0]] += 1
    assert bool((counts[::2] == trials).all())
    error = (0.3 * 0.7 / trials) ** 0.5
    assert ((counts[1::2] / trials - 0.3).abs() <= 4 * error).all(), counts


def test_every_class_keeps_one_and_one_class_or_one_example_stay_whole():
    labels = torch.arange(30) % 3
    assert torch.bincount(long_tail(labels, labels, rate=1.0, generator=stream(0))[1]).tolist() == [10, 1, 1]
    for alone in (torch.zeros(4, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)):
        rows, left, tail = long_tail(alone, alone, rate=0.9, generator=stream(0))
        assert (len(rows), len(left), int(tail.sum())) == (len(alone), len(alone), 0)


def test_a_class_that_is_not_there_counts_for_the_profile():
    _, left, _ = long_tail(torch.arange(8), torch.tensor([0, 2] * 4), rate=0.75, generator=stream(0), classes=3)
    assert torch.bincount(left).tolist() == [4, 0, 1]
    with pytest.raises(ArgumentError, match="labels has class 2, but classes=2"):
        long_tail(torch.arange(8), torch.tensor([0, 2] * 4), rate=0.75, generator=stream(0), classes=2)


def test_a_copy_is_of_an_example_that_is_still_there_with_its_label():
    labels = torch.arange(100) % 7
    rows, left, copy = duplicates(torch.arange(100), labels, rate=0.3, generator=stream(0, "copies"))
    assert int(copy.sum()) == 30
    assert torch.equal(rows[~copy], torch.arange(100)[~copy])
    assert not bool(copy[rows[copy]].any())
    assert torch.equal(left, labels[rows])


def test_whatever_stays_is_copied_alike():
    counts, generator = torch.zeros(10), stream(0, "alike")
    for _ in range(1000):
        rows, _, copy = duplicates(torch.arange(10), torch.zeros(10, dtype=torch.int64), rate=0.5, generator=generator)
        counts += torch.bincount(rows[copy], minlength=10)
    assert ((counts / 1000 - 0.5).abs() <= 4 * (0.7 / 1000) ** 0.5).all(), counts


def test_copies_of_nothing_are_refused():
    with pytest.raises(ArgumentError, match="rate=1 makes copies of all 5 examples, so that none is left to copy"):
        duplicates(torch.zeros(5), torch.zeros(5, dtype=torch.int64), rate=1.0, generator=stream(0))
