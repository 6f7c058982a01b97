"""Decisions applied to a dataset, and the cleaned dataset written in the layout it came in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import datawinnow as dw
from datawinnow.core.decisions import Decision, Decisions, write_decisions
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data import load, write_kept
from datawinnow.data.decisions import apply_decisions
from tests.data.test_write_splits import LAYOUTS, NAMES, make, make_labelled


def contents(split):
    """What the examples are and how they are labelled, in any order."""
    texts = getattr(split, "texts", None)
    xs = list(texts) if texts is not None else [row.numpy().tobytes() for row in split.x]
    return sorted((x, split.classes[y]) for x, y in zip(xs, split.labels.tolist(), strict=True))


def other_class(split, i):
    """A class that example ``i`` does not have."""
    return split.classes[(int(split.labels[i]) + 1) % len(split.classes)]


def decide(train, test=None):
    """One example dropped, two relabelled, one kept; one of the test split relabelled."""
    rows = [
        Decision(train.id_of(3), "train", "drop"),
        Decision(train.id_of(0), "train", f"relabel:{other_class(train, 0)}"),
        Decision(train.id_of(5), "train", f"relabel:{other_class(train, 5)}"),
        Decision(train.id_of(6), "train", "keep"),
    ]
    if test is not None:
        rows.append(Decision(test.id_of(1), "test", f"relabel:{other_class(test, 1)}"))
    return Decisions(tuple(rows), train.fingerprint)


def test_they_drop_and_relabel_and_nothing_else():
    train, test = load("digits")
    decided, tested = apply_decisions(train, test, decide(train, test))
    index = torch.tensor([i for i in range(len(train)) if i != 3])
    assert decided.x.equal(train.x[index])
    changed = torch.nonzero(decided.labels != train.labels[index]).flatten().tolist()
    assert changed == [0, 4]
    assert decided.labels[0] == (train.labels[0] + 1) % 10
    assert decided.id_of(3) == train.id_of(4)
    assert int((tested.labels != test.labels).sum()) == 1
    assert len(tested) == len(test)
    assert "1 dropped, 3 relabelled" in decided.notes[-1]
    assert decided.fingerprint != train.fingerprint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_cleaned_dataset_goes_back_into_its_layout(tmp_path, layout):
    source = make(tmp_path / "in", layout, "all")
    before = {path: path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file()}
    train, test = load(source)
    decisions = decide(train, test)
    write_decisions(tmp_path / "decisions.csv", decisions.rows, decisions.fingerprint)
    decided, tested = load(source, decisions=tmp_path / "decisions.csv")
    assert len(decided) == len(train) - 1
    assert int((tested.labels != test.labels).sum()) == 1
    out = write_kept(decided, torch.arange(len(decided)), tmp_path / "out", test=tested)
    again, test_again = load(out)
    assert contents(again) == contents(decided)
    assert contents(test_again) == contents(tested)
    assert contents(again) != contents(train)
    assert before == {path: path.read_bytes() for path in (tmp_path / "in").rglob("*") if path.is_file()}


@pytest.mark.parametrize("labels", NAMES)
@pytest.mark.parametrize("layout", ["folder", "table", "saved", "images", "texts", "jsonl", "tsv", "csv", "npz"])
def test_labels_of_any_kind_are_written_as_the_source_writes_them(tmp_path, layout, labels):
    train, test = load(make_labelled(tmp_path / "in", layout, NAMES[labels]), seed=1)
    decided, _ = apply_decisions(train, test, decide(train))
    few = decided.subset(torch.arange(1, len(decided)))  # a selection of what was decided
    again, _ = load(write_kept(few, torch.arange(len(few)), tmp_path / "out", test=test))
    assert contents(again) == contents(few)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((Decision("nobody", "train", "drop"),), "1 example that the train split of digits does not have: 'nobody'"),
        ((Decision("0", "train", "relabel:cat"),), "'cat', which is no class of digits"),
        (tuple(Decision(f"no {i}", "train", "drop") for i in range(9)), "and 6 more"),
    ],
)
def test_what_is_not_there_is_named(rows, message):
    train, test = load("digits", limit=50)
    if "relabel" in rows[0].action:
        rows = (Decision(train.id_of(0), "train", rows[0].action),)
    with pytest.raises(DataError) as error:
        apply_decisions(train, test, Decisions(rows, source="d.csv"))
    assert message in str(error.value)
    assert "d.csv" in str(error.value)


@pytest.mark.parametrize(("name", "right"), [("train", "test"), ("test", "train")])
def test_an_example_of_the_other_split_is_not_called_one_of_other_data(name, right):
    train, test = load("digits", limit=50)
    split = {"train": train, "test": test}[right]
    with pytest.raises(DataError) as error:
        apply_decisions(train, test, Decisions((Decision(split.id_of(7), name, "drop"),)))
    assert f"of the {right} split" in str(error.value)
    assert "column split" in str(error.value)
    assert "other data" not in str(error.value)


def test_decisions_of_another_dataset_are_refused():
    train, test = load("digits", limit=50)
    other, _ = load("digits", limit=51)
    with pytest.raises(DataError, match=f"fingerprint {other.fingerprint}"):
        apply_decisions(train, test, decide(other))


def test_all_dropped_no_test_split_and_ids_that_several_have():
    train, _ = load("digits", limit=12)
    everything = tuple(Decision(train.id_of(i), "train", "drop") for i in range(12))
    with pytest.raises(DataError, match="drops all 12 examples"):
        apply_decisions(train, None, Decisions(everything))
    with pytest.raises(DataError, match="no test split"):
        apply_decisions(train, None, Decisions((Decision("0", "test", "drop"),)))
    twice = train.subset(torch.tensor([0, 1, 1]))
    with pytest.raises(DataError, match="ids that several examples have"):
        apply_decisions(twice, None, Decisions((Decision(train.id_of(1), "train", "drop"),)))


def test_kept_examples_are_known_in_the_users_own_data_after_relabelling(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.savez(tmp_path / "b.npz", x=x + 1, y=y)
    (tmp_path / "d.csv").write_text("id,action\n1,drop\n2,relabel:1\n5,relabel:0\n")
    train, _ = load(tmp_path / "a.npz", test=tmp_path / "b.npz", decisions=tmp_path / "d.csv")
    kept = dw.Kept(train, dw.Selection.everything(len(train)))
    assert kept.indices_in((x, y)).tolist() == [0, *range(2, 12)]
    with pytest.raises(ArgumentError, match="another one, or in another order"):
        kept.indices_in((x, y[::-1].copy()))
