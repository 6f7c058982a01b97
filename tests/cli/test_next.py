"""The proposed next command runs as it stands, and leads on."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import QUICK

LOUD = tuple(word for word in QUICK if word != "--quiet")


def proposed(result: Any) -> list[str]:
    """The words of the proposed command, without ``datawinnow``."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("next: ")]
    assert len(lines) == 1, result.stderr
    return shlex.split(lines[0])[2:]


def kept_by_class(file: Path | str) -> list[int]:
    table = pq.read_table(file)
    labels, kept = (table.column(name).to_numpy(zero_copy_only=False) for name in ("label", "kept"))
    return np.bincount(labels[kept], minlength=3).tolist()


@pytest.fixture
def lopsided(tmp_path: Path) -> Path:
    """Vectors of three classes: two that cannot be told apart, and an easy one of 10 examples."""
    y = np.repeat([0, 1, 2], [60, 60, 10])
    x = np.random.default_rng(0).normal(size=(130, 6)).astype(np.float32)
    x[y == 2, 0] += 50
    np.savez(tmp_path / "d.npz", x=x, y=y)
    return tmp_path / "d.npz"


@pytest.mark.parametrize("epochs", [1, 2, 9, 10])
def test_what_record_proposes_runs_on_recordings_of_any_length(call: Callable[..., Any], epochs: int) -> None:
    words = [*LOUD[:2], "--epochs", epochs, *LOUD[4:]]
    next_words = proposed(call("record", "digits", "--limit", "60", *words))
    assert next_words[0] == "select"
    assert (len(next_words) == 4) == (epochs == 10), "the default method where it can be had"
    training = proposed(call(*next_words))
    if training[0] == "select":  # a class was lost
        training = proposed(call(*training))
    assert training[0] == "train"
    call(*training)


def test_where_a_class_is_lost_the_same_share_of_every_class_is_proposed(
    call: Callable[..., Any], lopsided: Path
) -> None:
    choosing = ["--score", "el2n", "--select", "bottom"]
    shown = call("prune", lopsided, "--keep", "0.3", "--run", "r", "--no-report", *choosing, *LOUD)
    assert kept_by_class("r/selection.parquet")[2] == 0
    assert "(2)" in shown.stderr, "the class by name"
    words = proposed(shown)
    assert words[0] == "select"
    # select proposes the same, for a file of its own too
    for flags, file in (([], "r/selection.parquet"), (["--out", "o.parquet", "--seed", "3"], "o.parquet")):
        selected = call("select", "r", "--keep", "0.3", *choosing, *flags)
        assert kept_by_class(file)[2] == 0
        again = proposed(selected)
        assert set(flags) <= set(again)
        mended = call(*again)
        assert min(kept_by_class(file)) > 0
        assert proposed(mended)[0] == "train"
    training = proposed(call(*words))
    assert training[0] == "train"
    call(*training)


def test_a_class_too_small_for_the_fraction_gets_a_larger_one(call: Callable[..., Any], lopsided: Path) -> None:
    shown = call("prune", lopsided, "--keep", "0.02", "--run", "r", "--no-report", "--per-class", "--method", "random",
                 *LOUD)  # fmt: skip
    assert kept_by_class("r/selection.parquet")[2] == 0
    call(*proposed(shown))
    assert min(kept_by_class("r/selection.parquet")) > 0


def test_one_is_singular_and_what_is_not_whole_has_a_decimal(call: Callable[..., Any]) -> None:
    words = ["train", "digits", "--limit", "60", *LOUD[:2], "--epochs", "1", *LOUD[4:]]
    assert " of 1 epoch\n" in call(*words).stdout
    recording = call("record", "digits", "--limit", "60", *LOUD[:2], "--epochs", "1", *LOUD[4:])
    assert "recorded 1 epoch of 60 examples" in recording.stdout
    policy = ["--policy", "random_pruning", "--keep", "0.75", "--run", "p"]
    shown = call("train", "digits", "--limit", "60", *LOUD[:2], "--epochs", "2", *LOUD[4:], *policy).stdout
    assert "equal cost (1.5 epochs on all the data, rounded): datawinnow train" in shown


def test_label_and_guess_of_a_selection_are_read_by_the_same_names(call: Callable[..., Any], tmp_path: Path) -> None:
    y = np.repeat(["ant", "bee"], 30)
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32) + 9 * (y == "bee")[:, None].astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    words = [*LOUD[:2], "--epochs", "5", *LOUD[4:], "--option", "window=5"]
    call("prune", "d.npz", "--keep", "0.5", "--run", "r", "--no-report", *words)
    table = pq.read_table("r/selection.parquet").to_pydict()
    assert table["label_name"] == [("ant", "bee")[label] for label in table["label"]]
    agree = [name == guess for name, guess in zip(table["label_name"], table["guess"], strict=True)]
    assert sum(agree) > 40
