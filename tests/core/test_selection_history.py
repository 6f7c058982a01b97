"""`SelectionHistory`: with order and without, saved and read again; hostile files are refused."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import SelectionHistory
from tests.dynamic.helpers import logged

N = 40


def plans_of(history):
    """(ids, weights) of every epoch."""
    return [(history.ids(e).tolist(), history.weights(e).tolist()) for e in range(len(history))]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_first_of_a_history_ends_where_the_budget_ended(weighted):
    history = logged(N, epochs=3, weighted=weighted, cost=7.0, fingerprint="7b5e")  # 16 an epoch
    for passed, sizes in ((48, [16, 16, 16]), (40, [16, 16, 8]), (32, [16, 16]), (1, [1])):
        truncated = history.truncated(passed)
        assert [len(truncated.ids(e)) for e in range(len(truncated))] == sizes
        assert [i for ids, _ in plans_of(truncated) for i in ids] == history.index[:passed].tolist()
        assert [w for _, ws in plans_of(truncated) for w in ws] == [w for _, ws in plans_of(history) for w in ws][
            :passed
        ]
        assert (truncated.cost, truncated.fingerprint, truncated.n) == (7.0, "7b5e", N)
    for wrong in (0, 49):
        with pytest.raises(ArgumentError, match=r"num_passed must be in \[1, 48\]"):
            history.truncated(wrong)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_history_over_a_selection_is_one_over_everything(weighted):
    history = logged(4, epochs=2, fraction=0.5, weighted=weighted)
    selection = Selection(torch.tensor([9, 2, 5, 7]), torch.tensor([1.0, 2.0, 1.0, 0.5]))
    out = history.mapped_through(selection, 10)
    assert out.n == 10
    for epoch in range(2):
        before, after = (plans_of(each)[epoch] for each in (history, out))
        assert after[0] == [[9, 2, 5, 7][i] for i in before[0]]
        assert after[1] == [float(w) * [1.0, 2.0, 1.0, 0.5][i] for i, w in zip(*before, strict=True)]
    plain = Selection(torch.tensor([9, 2, 5, 7]), torch.ones(4))
    assert (history.mapped_through(plain, 10).weight is None) == (history.weight is None)
    with pytest.raises(ArgumentError, match="the history is of n=4 examples, but the selection has 2"):
        history.mapped_through(Selection(torch.tensor([1, 2]), torch.ones(2)), 10)


def test_break_even_is_counted_by_hand():
    history = logged(N, epochs=10, fraction=0.5, cost=60.0)
    assert history.num_passed == 200
    assert history.break_even(full=230) == 2.0  # each replay saves 30
    assert history.break_even(full=400) == 0.3
    assert history.break_even(full=200) == math.inf
    assert history.break_even(full=100) == math.inf


@pytest.mark.parametrize("weighted", [False, True])
def test_a_history_survives_the_disk(tmp_path, weighted):
    history = logged(N, weighted=weighted, fingerprint="7b5e", made_by="UCB", cost=1.5)
    history.save(tmp_path / "deep" / "plan.safetensors")
    read = SelectionHistory.load(str(tmp_path / "deep" / "plan.safetensors"))
    assert plans_of(read) == plans_of(history)
    assert (read.n, read.fingerprint, read.made_by, read.cost) == (N, "7b5e", "UCB", 1.5)
    assert (read.weight is None) == (not weighted)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["plan.safetensors"]


def test_many_examples_take_wide_ids(tmp_path):
    plan = Selection(torch.tensor([2**31 + 5, 3]), torch.ones(2))
    history = SelectionHistory.of([plan], 2**32)
    assert history.index.dtype == np.int64
    history.save(tmp_path / "wide")
    assert SelectionHistory.load(tmp_path / "wide").index.tolist() == [2**31 + 5, 3]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    from pathlib import Path

    path = tmp_path / "plan"
    logged(N, cost=1.0).save(path)

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="the disk is full"):
        logged(N, cost=2.0).save(path)
    assert SelectionHistory.load(path).cost == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["plan"]


@pytest.mark.parametrize("ordered", [True, False])
def test_both_layouts_answer_the_same_questions(tmp_path, ordered):
    rows, n = [[2, 0, 10], [3], [8, 1]], 11
    masks = np.zeros((3, n), dtype=bool)
    for mask, ids in zip(masks, rows, strict=True):
        mask[ids] = True
    candidates, labels = np.array([0, 1, 2, 3, 8, 10]), np.arange(n) % 3
    could = np.isin(np.arange(n), candidates)
    history = SelectionHistory.of([Selection.of(torch.tensor(ids), n) for ids in rows], n, fingerprint="f")
    history = replace(history, candidates=could, labels=labels)
    if not ordered:
        history = SelectionHistory(
            n=n, masks=np.packbits(masks, axis=1), candidates=could, labels=labels, fingerprint="f"
        )
    history.save(tmp_path / "history")
    read = SelectionHistory.load(tmp_path / "history", fingerprint="f", n=n)
    assert read.is_ordered == ordered
    assert (len(read), read.num_passed, read.mean_fraction) == (3, 6, 6 / 33)
    assert [read.mask(i).tolist() for i in range(3)] == masks.tolist()
    assert read.candidate_ids.tolist() == candidates.tolist()
    assert read.labels.tolist() == labels.tolist()
    assert SelectionHistory(n=n, masks=np.packbits(masks, axis=1)).candidate_ids.tolist() == list(range(n))


def test_without_order_nothing_can_be_trained_on_again():
    history = SelectionHistory(n=4, masks=np.array([[192]], np.uint8))
    with pytest.raises(ArgumentError, match=r"has no order, .*recorded"):
        history.ids(0)
    with pytest.raises(ArgumentError, match="has no order"):
        history.truncated(1)


METADATA = {
    "format": 1,
    "kind": "selection history",
    "n": 11,
    "first_epoch": 0,
    "fingerprint": "f",
    "made_by": "",
    "cost": 0.0,
}
ORDERED = {"index": np.array([0, 1, 2], np.int32), "ends": np.array([2, 3])}
MASKS = {"masks": np.array([[224, 0]], np.uint8), "candidates": np.array([255, 224], np.uint8)}


def written(path, arrays, metadata=None, **change):
    """A file such as `save` writes, with whatever is wrong with it."""
    text = json.dumps({**METADATA, **change}) if metadata is None else metadata
    save_file({name: np.asarray(array) for name, array in arrays.items()}, path, metadata={"datawinnow": text})
    return path


@pytest.mark.parametrize("kept_share", [0.0, 0.1, 0.5, 0.99], ids=str)
def test_a_truncated_file_is_an_error(tmp_path, kept_share):
    logged(N).save(tmp_path / "plan")
    data = (tmp_path / "plan").read_bytes()
    (tmp_path / "plan").write_bytes(data[: int(kept_share * len(data))])
    with pytest.raises(RunError, match="plan is truncated or damaged"):
        SelectionHistory.load(tmp_path / "plan")


def test_the_files_that_the_hostile_ones_are_made_of_are_read(tmp_path):
    assert len(SelectionHistory.load(written(tmp_path / "a", ORDERED))) == 2
    read = SelectionHistory.load(written(tmp_path / "b", MASKS | {"labels": np.zeros(11, np.int64)}))
    assert np.flatnonzero(read.mask(0)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"index": np.array([0, 1, 11], np.int32)}, "index must hold ids of 0 to 10, got 11"),
        ({"index": np.array([0, -1, 2], np.int32)}, "index must hold ids of 0 to 10, got -1"),
        ({"index": np.array([1, 1, 2], np.int32)}, "epoch 0 has an id twice"),
        ({"index": np.array([], np.int32)}, "ends must rise to the 0 ids of index"),
        (
            {"index": np.array([[0, 1], [2, 3]], np.int32)},
            r"index must be int32 .*got int32 of shape \(2, 2\)",
        ),
        ({"index": np.array([0, 1, 2], np.float32)}, "index must be int32 or int64 .*got float32"),
        ({"ends": np.array([2, 3], np.int32)}, "ends must be int64"),
        ({"ends": np.array([2, 5])}, "ends must rise to the 3 ids of index"),
        ({"ends": np.array([2, 2, 3])}, "ends must rise to the 3 ids of index"),
        ({"ends": np.array([5, 3])}, "ends must rise to the 3 ids of index"),
        ({"ends": np.array([-1, 3])}, "ends must rise to the 3 ids of index"),
        ({"ends": np.array([], np.int64)}, "ends must rise to the 3 ids of index"),
        ({"weight": np.ones(2, np.float32)}, r"weight must be float32 of shape \(3,\), got float32 of shape \(2,\)"),
        ({"weight": np.array([1, np.nan, 1], np.float32)}, "weight must be finite"),
        ({"weight": np.array([1, 1, -1], np.float32)}, "weight must be finite and at least 0"),
        ({"weight": np.ones(3)}, "weight must be float32"),
        ({"candidates": np.array([127, 224], np.uint8)}, "index contains an example that is not a candidate"),
        ({"masks": np.array([[224, 0]], np.uint8)}, "either index and ends, or masks"),
    ],
    ids=lambda x: str(x)[:30] if isinstance(x, dict) else "",
)
def test_an_order_that_is_damaged_is_refused(tmp_path, change, match):
    with pytest.raises(RunError, match="is damaged .*" + match):
        SelectionHistory.load(written(tmp_path / "history", ORDERED | change))


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({}, "either index and ends, or masks"),
        ({"masks": np.ones((1, 1), np.uint8)}, r"masks must be uint8 of shape \(1, 2\), got uint8 of shape \(1, 1\)"),
        ({"masks": np.ones((0, 2), np.uint8)}, "masks must have at least one epoch"),
        ({"masks": np.ones((1, 2), np.float32)}, "masks must be uint8 .*got float32"),
        (MASKS | {"candidates": np.ones(3, np.uint8)}, r"candidates must be uint8 of shape \(2,\)"),
        (MASKS | {"labels": np.zeros(3, np.int64)}, r"labels must be int64 of shape \(11,\)"),
        ({"masks": np.array([[128, 1]], np.uint8)}, "not a candidate"),
        (MASKS | {"candidates": np.array([1, 0], np.uint8)}, "not a candidate"),
        (MASKS | {"masks": np.array([[128, 0], [0, 0]], np.uint8)}, "every epoch at least one example"),
    ],
    ids=lambda x: str(x)[:30] if isinstance(x, dict) else "",
)
def test_masks_that_are_damaged_are_refused(tmp_path, arrays, match):
    with pytest.raises(RunError, match="is damaged .*" + match):
        SelectionHistory.load(written(tmp_path / "history", {**arrays, "x": np.ones(1)}))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n": 0}, r"damaged \(n: .*got 0"),
        ({"n": "4"}, r"damaged \(n: .*got '4'"),
        ({"n": None}, r"damaged \(n: .*got None"),
        ({"cost": -1}, r"damaged \(cost: .*got -1"),
        ({"cost": "much"}, r"damaged \(cost: .*got 'much'"),
        ({"first_epoch": -1}, r"damaged \(first_epoch: .*got -1"),
        ({"first_epoch": "0"}, r"damaged \(first_epoch: .*got '0'"),
        ({"made_by": 3}, r"damaged \(made_by: "),
        ({"fingerprint": ["x"]}, r"damaged \(fingerprint: "),
        ({"kind": "checkpoint"}, "does not hold a selection history, but checkpoint"),
        ({"metadata": "[1, 2]"}, "is not a JSON object"),
        ({"metadata": "null"}, "does not hold a selection history"),
        ({"metadata": "{"}, "is truncated or damaged"),
        ({"metadata": "[" * 100_000}, "is truncated or damaged"),
        ({"format": 99}, "written by a newer datawinnow"),
        ({"format": None}, "has no format version"),
    ],
    ids=lambda x: str(x)[:30] if isinstance(x, dict) else "",
)
def test_metadata_that_are_damaged_are_refused(tmp_path, change, match):
    for arrays in (ORDERED, MASKS):
        with pytest.raises(RunError, match=match):
            SelectionHistory.load(written(tmp_path / "history", arrays, **change))


def test_the_history_of_another_dataset_is_refused(tmp_path):
    path = written(tmp_path / "history", MASKS)
    with pytest.raises(RunError, match=r"to a different dataset \(fingerprint f\) than the run \(g\): remove it"):
        SelectionHistory.load(path, fingerprint="g", n=11)
    with pytest.raises(RunError, match="is of 11 examples, the run of 12: remove it"):
        SelectionHistory.load(path, fingerprint="f", n=12)


def test_other_files_are_not_read(tmp_path):
    with pytest.raises(RunError, match=r"no such file: .*missing"):
        SelectionHistory.load(tmp_path / "missing")
    with pytest.raises(RunError, match="is a folder, not a file: give a file"):
        SelectionHistory.load(tmp_path)
    (tmp_path / "pickle").write_bytes(pickle.dumps({"index": [1]}))
    with pytest.raises(RunError, match="is truncated or damaged"):
        SelectionHistory.load(tmp_path / "pickle")
    save_file({"index": np.arange(3)}, tmp_path / "other")
    with pytest.raises(RunError, match="does not hold a selection history"):
        SelectionHistory.load(tmp_path / "other")


def test_what_is_read_cannot_be_changed_by_who_trains_on_it():
    history = logged(N)
    history.ids(1)[:] = 0
    history.weights(1)[:] = 0
    assert float(history.weights(1).min()) >= 1
    assert len(set(history.ids(1).tolist())) == 16
