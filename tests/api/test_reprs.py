"""What Python prints of results: a summary, and never tensors."""

from __future__ import annotations

import pytest
import torch

import datawinnow as dw
from datawinnow.core.selection import Selection
from datawinnow.data import load
from datawinnow.data.kept import Kept
from datawinnow.runs.prune import Pruned
from tests.data.test_write_splits import LAYOUTS, make
from tests.runs.conftest import make_blobs


def test_a_selection_is_a_summary() -> None:
    selection = Selection.of(torch.arange(1000), 5000)
    assert "1,000 kept" in repr(selection)
    assert "tensor" not in repr(selection)


def test_kept_examples_say_their_number_and_the_verdict() -> None:
    blobs = make_blobs()
    selection = Selection.of(torch.arange(18), 60)
    assert repr(Kept(blobs, selection)) == "Kept(18 of 60 examples of blobs)"
    line = "Accuracy 95.0% ... Verdict: ahead."
    pruned = Pruned(blobs, selection, check={"verdict": line})
    assert repr(pruned).splitlines() == ["Pruned(18 of 60 examples of blobs)", line]
    assert pruned.verdict == line


def test_a_dataset_is_a_line():
    train, _ = dw.load("digits")
    assert repr(train) == "Examples(digits, train: 1,438 examples of shape (1, 8, 8), 10 classes)"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_dataset_that_is_loaded_prints_what_it_holds(tmp_path, layout):
    for split in load(make(tmp_path / "in", layout, "all")):
        shown = repr(split)
        assert len(shown) < 200
        assert f"{len(split)} example" in shown
        assert "tensor" not in shown


def test_dir_shows_the_public_names_only() -> None:
    assert dir(dw) == sorted(dw.__all__)
