"""The arithmetic of a run: measured once, written down before anything is trained, and never measured again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from datawinnow.bench.check import check
from datawinnow.core.selection import Selection
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.record import record_run
from datawinnow.runs.select import select_run
from datawinnow.runs.stage import resolve_arithmetic
from datawinnow.runs.train import train_run
from datawinnow.train import Recipe, network

from .conftest import FAST, make_blobs
from .killing import contents

AUTO = replace(FAST, precision="auto")


class Measurement:
    """Stands in for the stopwatch: what it finds, and how often it was asked."""

    def __init__(self, monkeypatch):
        self.found = ("bf16", False, "measured a step: bf16 is faster")
        self.asked = 0
        monkeypatch.setattr(network, "fastest_precision", self)

    def __call__(self, model, x, y):
        self.asked += 1
        return self.found


@pytest.fixture
def measurement(monkeypatch):
    return Measurement(monkeypatch)


def metadata(path):
    return json.loads((path / "run.json").read_text())


VERBS = {
    "record": lambda data, path, **how: record_run(data, path, epochs=3, **how),
    "train": lambda data, path, **how: train_run(data, path, epochs=3, selection=Selection.everything(60), **how).run,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("killed_at", [1, 3], ids=["before the first checkpoint", "after it"])
def test_a_killed_run_goes_on_with_the_arithmetic_it_was_begun_with(blobs, tmp_path, measurement, verb, killed_at):
    def stop(what, done, total):
        if done == killed_at:  # two steps an epoch
            raise KeyboardInterrupt

    VERBS[verb](blobs, tmp_path / "unbroken" / "run", recipe=AUTO)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        VERBS[verb](blobs, tmp_path / "run", recipe=AUTO, progress=stop, log=told.append)
    begun = metadata(tmp_path / "run")
    assert begun["arithmetic"]["precision"] == "bf16"
    assert begun["arithmetic"]["channels_last"] is False
    assert "bf16 is faster" in begun["arithmetic"]["note"]
    assert begun["options"][verb]["recipe"]["precision"] == "auto"  # what the user asked for
    assert any(line.startswith("arithmetic: bf16") for line in told)
    measurement.found = ("fp32", False, "another mood")
    asked = measurement.asked
    VERBS[verb](blobs, tmp_path / "run", recipe=AUTO)
    assert measurement.asked == asked
    assert metadata(tmp_path / "run")["arithmetic"] == begun["arithmetic"]
    assert contents(tmp_path / "run") == contents(tmp_path / "unbroken" / "run")


@pytest.mark.parametrize("verb", VERBS)
def test_it_is_written_before_anything_is_trained(blobs, tmp_path, measurement, verb):
    seen: list[dict] = []

    def first(what, done, total):
        seen.append(metadata(tmp_path / "run"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VERBS[verb](blobs, tmp_path / "run", recipe=AUTO, progress=first)
    assert seen[0]["arithmetic"]["precision"] == "bf16"
    assert seen[0]["status"] == {verb: "begun"}


def test_what_is_asked_for_is_not_measured(blobs, tmp_path, measurement):
    record_run(blobs, tmp_path / "run", epochs=1, recipe=FAST)
    assert measurement.asked == 0
    assert metadata(tmp_path / "run")["arithmetic"] == {"precision": "fp32", "channels_last": False, "note": ""}


def test_a_training_begun_with_another_network_is_measured_anew(blobs, tmp_path, measurement):
    def stop(what, done, total):
        raise KeyboardInterrupt

    for width, asked in ((8, 1), (16, 2), (16, 2)):  # before the first epoch all may change
        with pytest.raises(KeyboardInterrupt):
            train_run(blobs, tmp_path / "run", model="mlp", model_options={"width": width}, recipe=AUTO, progress=stop)
        assert measurement.asked == asked


def test_memory_format_of_the_user_stays(measurement):
    model, data = torch.nn.Linear(4, 3), make_blobs()
    recipe, told = resolve_arithmetic(model, data, Recipe(channels_last=True), None)
    assert (recipe.precision, recipe.channels_last) == ("bf16", True)
    assert resolve_arithmetic(model, data, Recipe(channels_last=True), told) == (recipe, told)
    assert measurement.asked == 1


class TestCheck:
    HOW = {"keep": 0.5, "epochs": 1}

    def run(self, data, path, recipe):
        folder = record_run(data, path, epochs=2, recipe=recipe)
        return folder, select_run(folder, data, keep=0.5, method="el2n")

    def test_it_is_that_of_the_run(self, blobs, tmp_path, measurement):
        folder, selection = self.run(blobs, tmp_path / "run", AUTO)
        measurement.found = ("fp32", False, "another mood")
        answer = check(folder, blobs, make_blobs(9), selection, recipe=AUTO, **self.HOW)
        assert measurement.asked == 1
        assert answer["arithmetic"] == folder.metadata["arithmetic"]
        measurement.found = ("bf16", False, "")
        plain = replace(FAST, precision="bf16")
        again = check(folder, blobs, make_blobs(9), selection, recipe=plain, **self.HOW)
        assert [r["test_loss"] for r in again["rows"]] == [r["test_loss"] for r in answer["rows"]]

    def test_another_network_is_measured_once_for_all_arms(self, blobs, tmp_path, measurement):
        folder, selection = self.run(blobs, tmp_path / "run", FAST)
        small = {"model": "mlp", "model_options": {"width": 8}, "recipe": AUTO, **self.HOW}
        answer = check(folder, blobs, make_blobs(9), selection, seeds=2, **small)
        assert measurement.asked == 1
        assert answer["arithmetic"]["precision"] == "bf16"
        assert RunFolder.open(folder.path).metadata["arithmetic"]["precision"] == "fp32"  # the run's own stays

    def test_a_killed_check_is_not_measured_again(self, blobs, tmp_path, measurement):
        folder, selection = self.run(blobs, tmp_path / "run", FAST)
        small = {"model": "mlp", "model_options": {"width": 8}, "recipe": AUTO, **self.HOW}

        def stop(what, done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            check(folder, blobs, make_blobs(9), selection, progress=stop, **small)
        measurement.found = ("fp32", False, "another mood")
        answer = check(folder, blobs, make_blobs(9), selection, **small)
        assert measurement.asked == 1
        assert answer["arithmetic"]["precision"] == "bf16"
