"""A network that learned nothing is said by everything that rests on it."""

from __future__ import annotations

import warnings

import pytest
import torch

import datawinnow as dw
from datawinnow.report import text_table, write
from tests.train.helpers import PLAIN, blobs

from .conftest import Bare

RECIPE = dw.Recipe(**PLAIN)


def unscaled(n: int = 60) -> dw.Examples:
    """Separable classes in units of which no network learns at the default rate."""
    data = blobs(n)
    return dw.Examples(data.x * 1e5 + 3e6, data.labels, data.classes, "unscaled")


def test_recording_scoring_selecting_and_the_page_say_so(tmp_path):
    with pytest.warns(dw.LearningWarning, match=r"near chance: .*60 training examples.*columns are of one scale"):
        folder = dw.api.record(unscaled(), epochs=2, recipe=RECIPE, run=tmp_path / "run")
    with pytest.warns(dw.LearningWarning, match="near chance"):
        dw.api.score(folder, ["el2n"], data=unscaled(), options={"last": 2})
    with pytest.warns(dw.LearningWarning, match="near chance"):
        dw.api.select(folder, keep=0.5, method="el2n", data=unscaled())
    with pytest.warns(dw.LearningWarning, match="near chance"):  # a finished recording that is used again
        dw.api.record(unscaled(), epochs=2, recipe=RECIPE, run=tmp_path / "run")
    assert "near chance" in write(folder.path).read_text(encoding="utf-8")
    with warnings.catch_warnings():  # random reads no recording
        warnings.simplefilter("error", dw.LearningWarning)
        dw.api.select(folder, keep=0.5, method="random", data=unscaled())


def test_training_says_so_of_the_held_out_examples(tmp_path):
    shuffled = blobs(90).with_labels(torch.arange(90).div(7, rounding_mode="floor") % 3)
    with pytest.warns(dw.LearningWarning, match="90 held-out examples"):
        dw.api.train(blobs(), test=shuffled, epochs=3, recipe=RECIPE, run=tmp_path / "run")


def test_a_network_that_learned_is_not_warned_about(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", dw.LearningWarning)
        kept = dw.prune(blobs(), keep=0.5, method="el2n", epochs=3, recipe=RECIPE, run=tmp_path / "run", test=blobs(90))
        trained = dw.api.train(kept.dataset, test=blobs(90), epochs=3, recipe=RECIPE, run=tmp_path / "train")
    assert [run.metadata["result"]["near_chance"] for run in (kept.run, trained.run)] == ["", ""]


def test_a_check_says_it_once_after_the_recording_and_then_in_its_verdict(tmp_path):
    options = {"recipe": RECIPE, "model": "mlp", "test": unscaled(30), "epochs": 2, "check": True, "check_seeds": 1}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", dw.LearningWarning)
        kept = dw.prune(unscaled(), keep=0.5, score="loss", run=tmp_path / "run", **options)
    texts = {str(warning.message) for warning in caught if warning.category is dw.LearningWarning}
    assert len(texts) == 2  # of the scale of the columns and of the recording
    assert sum("near chance" in text for text in texts) == 1
    assert "Near chance" in kept.check["sentence"]
    # below the verdict on the command line the table does not say it again
    assert "Near chance" in text_table(kept.check["rows"])
    assert "Near chance" not in text_table(kept.check["rows"], near_chance=False)


def test_a_test_split_that_only_gives_items_is_compared_with_its_largest_class(tmp_path):
    kept = dw.prune(
        Bare(blobs()),
        keep=0.5,
        method="random",
        check=True,
        check_seeds=1,
        epochs=1,
        recipe=RECIPE,
        model="mlp",
        run=tmp_path / "run",
        test=Bare(blobs(90)),
    )
    assert {row["majority"] for row in kept.check["rows"]} == {1 / 3}


def test_a_race_and_a_check_of_such_networks_say_so(tmp_path):
    shuffled = blobs(90).with_labels(torch.arange(90).div(7, rounding_mode="floor") % 3)
    options = {"recipe": RECIPE, "model": "mlp", "test": shuffled}
    with pytest.warns(dw.LearningWarning, match="Near chance"):
        result = dw.race(blobs(), budget=1, policy="ucb", out=tmp_path / "race", **options)
    assert "Near chance, where always predicting the largest class has" in result.sentence
    assert "Near chance" in (tmp_path / "race" / "report.html").read_text(encoding="utf-8")
    with pytest.warns(dw.LearningWarning, match="Near chance"):
        kept = dw.prune(blobs(), keep=0.5, method="random", check=True, epochs=1, run=tmp_path / "run", **options)
    assert "Near chance" in kept.check["sentence"]
