"""The arithmetic of a run: measured once, written down before anything is trained, and never measured again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from datawinnow import api
from datawinnow.bench.check import check
from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.select import select_run
from datawinnow.runs.selection_file import read_selection
from datawinnow.runs.stage import resolve_arithmetic
from datawinnow.train import Recipe, network

from .conftest import FAST, make_blobs
from .killing import contents

AUTO = replace(FAST, precision="auto")


class Measurement:
    """Stands in for the stopwatch: what it finds, and how often it was asked."""

    def __init__(self, monkeypatch):
        self.answer = ("bf16", False, "measured per step: bf16 is faster")
        self.num_calls = 0
        monkeypatch.setattr(network, "fastest_precision", self)

    def __call__(self, model, x, y):
        self.num_calls += 1
        return self.answer


@pytest.fixture
def measurement(monkeypatch):
    return Measurement(monkeypatch)


def metadata(path):
    return json.loads((path / "run.json").read_text())


VERBS = {
    "record": lambda data, path, **kwargs: api.record(data, run=path, epochs=3, **kwargs),
    "train": lambda data, path, **kwargs: (
        api.train(data, run=path, epochs=3, select=Selection.everything(60), **kwargs).run
    ),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("killed_at", [1, 3], ids=["before the first checkpoint", "after it"])
def test_a_killed_run_goes_on_with_the_arithmetic_it_was_begun_with(blobs, tmp_path, measurement, verb, killed_at):
    def stop(stage, done, total):
        if done == killed_at:  # two steps an epoch
            raise KeyboardInterrupt

    VERBS[verb](blobs, tmp_path / "unbroken" / "run", recipe=AUTO)
    messages: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        VERBS[verb](blobs, tmp_path / "run", recipe=AUTO, progress=stop, log=messages.append)
    first_metadata = metadata(tmp_path / "run")
    assert first_metadata["arithmetic"]["precision"] == "bf16"
    assert first_metadata["arithmetic"]["channels_last"] is False
    assert "bf16 is faster" in first_metadata["arithmetic"]["note"]
    assert first_metadata["options"][verb]["recipe"]["precision"] == "auto"  # what the user asked for
    assert any(line.startswith("arithmetic: bf16") for line in messages)
    measurement.answer = ("fp32", False, "another mood")
    num_calls = measurement.num_calls
    VERBS[verb](blobs, tmp_path / "run", recipe=AUTO)
    assert measurement.num_calls == num_calls
    assert metadata(tmp_path / "run")["arithmetic"] == first_metadata["arithmetic"]
    assert contents(tmp_path / "run") == contents(tmp_path / "unbroken" / "run")


@pytest.mark.parametrize("verb", VERBS)
def test_it_is_written_before_anything_is_trained(blobs, tmp_path, measurement, verb):
    seen: list[dict] = []

    def first(stage, done, total):
        seen.append(metadata(tmp_path / "run"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VERBS[verb](blobs, tmp_path / "run", recipe=AUTO, progress=first)
    assert seen[0]["arithmetic"]["precision"] == "bf16"
    assert seen[0]["status"] == {verb: "begun"}


def test_what_is_asked_for_is_not_measured(blobs, tmp_path, measurement):
    api.record(blobs, run=tmp_path / "run", epochs=1, recipe=FAST)
    assert measurement.num_calls == 0
    assert metadata(tmp_path / "run")["arithmetic"] == {"precision": "fp32", "channels_last": False, "note": ""}


def test_a_training_begun_with_another_network_is_measured_anew(blobs, tmp_path, measurement):
    def stop(stage, done, total):
        raise KeyboardInterrupt

    for width, num_calls in ((8, 1), (16, 2), (16, 2)):  # before the first epoch all may change
        with pytest.raises(KeyboardInterrupt):
            api.train(
                blobs, run=tmp_path / "run", model="mlp", model_options={"width": width}, recipe=AUTO, progress=stop
            )
        assert measurement.num_calls == num_calls


def test_memory_format_of_the_user_stays(measurement):
    model, data = torch.nn.Linear(4, 3), make_blobs()
    recipe, note = resolve_arithmetic(model, data, Recipe(channels_last=True), None)
    assert (recipe.precision, recipe.channels_last) == ("bf16", True)
    assert resolve_arithmetic(model, data, Recipe(channels_last=True), note) == (recipe, note)
    assert measurement.num_calls == 1


class TestCheck:
    PRUNE_KWARGS = {"keep": 0.5, "epochs": 1}

    def run(self, data, path, recipe):
        folder = api.record(data, run=path, epochs=2, recipe=recipe)
        return folder, select_run(folder, data, keep=0.5, method="el2n")

    def test_it_is_that_of_the_run(self, blobs, tmp_path, measurement):
        folder, selection = self.run(blobs, tmp_path / "run", AUTO)
        measurement.answer = ("fp32", False, "another mood")
        answer = check(folder, blobs, make_blobs(9), selection, recipe=AUTO, **self.PRUNE_KWARGS)
        assert measurement.num_calls == 1
        assert answer["arithmetic"] == folder.metadata["arithmetic"]
        measurement.answer = ("bf16", False, "")
        plain = replace(FAST, precision="bf16")
        again = check(folder, blobs, make_blobs(9), selection, recipe=plain, **self.PRUNE_KWARGS)
        assert [r["test_loss"] for r in again["rows"]] == [r["test_loss"] for r in answer["rows"]]

    def test_another_network_is_measured_once_for_all_arms(self, blobs, tmp_path, measurement):
        folder, selection = self.run(blobs, tmp_path / "run", FAST)
        small = {"model": "mlp", "model_options": {"width": 8}, "recipe": AUTO, **self.PRUNE_KWARGS}
        answer = check(folder, blobs, make_blobs(9), selection, seeds=2, **small)
        assert measurement.num_calls == 1
        assert answer["arithmetic"]["precision"] == "bf16"
        assert RunFolder.open(folder.path).metadata["arithmetic"]["precision"] == "fp32"  # the run's own stays

    def test_a_killed_check_is_not_measured_again(self, blobs, tmp_path, measurement):
        folder, selection = self.run(blobs, tmp_path / "run", FAST)
        small = {"model": "mlp", "model_options": {"width": 8}, "recipe": AUTO, **self.PRUNE_KWARGS}

        def stop(stage, done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            check(folder, blobs, make_blobs(9), selection, progress=stop, **small)
        measurement.answer = ("fp32", False, "another mood")
        answer = check(folder, blobs, make_blobs(9), selection, **small)
        assert measurement.num_calls == 1
        assert answer["arithmetic"]["precision"] == "bf16"


class TestOneChoice:
    """The stopwatch would give another answer each time: what follows a choice does not ask again."""

    @pytest.fixture
    def recorded(self, blobs, tmp_path, measurement):
        run = api.record(blobs, run=tmp_path / "run", epochs=2, recipe=AUTO)
        select_run(run, blobs, keep=0.5, method="el2n")
        measurement.answer = ("fp32", False, "measured per step: fp32 is faster")
        return run.path

    @pytest.mark.parametrize("place", ["the run", "its file", "a copy elsewhere", "the run was moved away"])
    def test_a_training_on_the_selection_of_a_run_takes_its_arithmetic(
        self, blobs, tmp_path, measurement, recorded, place
    ):
        messages = []
        file = selection = recorded / "selection.parquet"
        if place == "the run":
            selection = recorded
        elif place != "its file":
            selection = tmp_path / "copy.parquet"
            selection.write_bytes(file.read_bytes())
        if place == "the run was moved away":
            recorded.rename(tmp_path / "moved")
        trained = api.train(blobs, select=selection, run=tmp_path / "t", epochs=1, recipe=AUTO, log=messages.append)
        assert trained.run.metadata["arithmetic"]["precision"] == "bf16"
        assert measurement.num_calls == 1
        assert any(line.startswith("arithmetic: bf16, as") for line in messages)

    @pytest.mark.parametrize("change", [{"batch": 16}, {"precision": "fp32"}], ids=["another batch", "typed"])
    def test_not_of_another_recipe_nor_against_what_was_typed(self, blobs, tmp_path, measurement, recorded, change):
        trained = api.train(blobs, select=recorded, run=tmp_path / "t", epochs=1, recipe=replace(AUTO, **change))
        assert trained.run.metadata["arithmetic"]["precision"] == "fp32"

    @pytest.mark.parametrize("change", [{"batch": 16}, {"channels_last": True}, {"weight_decay": 0.1}])
    def test_a_check_with_another_recipe_is_measured_anew(self, blobs, measurement, recorded, change):
        measurement.answer = ("fp32", False, "measured per step: fp32 is faster")
        folder, recipe = RunFolder.open(recorded), replace(AUTO, **change)
        selection = read_selection(recorded)[0]
        answer = check(folder, blobs, make_blobs(9), selection, keep=0.5, epochs=1, recipe=recipe)["arithmetic"]
        assert (answer["precision"], answer["channels_last"]) == ("fp32", "channels_last" in change)

    @pytest.mark.parametrize("verb", ["check", "train"])
    def test_nor_of_another_device(self, blobs, tmp_path, measurement, recorded, verb):
        folder = RunFolder.open(recorded)
        folder.update(device="cuda")  # where this selection is made again; the tests run on a CPU
        selection = select_run(folder, blobs, keep=0.5, method="el2n")
        if verb == "check":
            answer = check(folder, blobs, make_blobs(9), selection, keep=0.5, epochs=1, recipe=AUTO)["arithmetic"]
        else:
            trained = api.train(blobs, select=recorded, run=tmp_path / "t", epochs=1, recipe=AUTO)
            answer = trained.run.metadata["arithmetic"]
        assert answer["precision"] == "fp32"

    def test_the_memory_format_typed_for_a_race_is_not_that_of_an_earlier_one(self, blobs, tmp_path, measurement):
        options = {"test": make_blobs(9), "budget": 1, "policy": "ucb", "out": tmp_path, "report": False}
        api.race(blobs, **options, recipe=AUTO)
        with pytest.raises(RunError, match="channels_last"):
            api.race(blobs, **options, recipe=replace(AUTO, channels_last=True))

    def test_all_trainings_of_a_race_share_one_also_when_it_goes_on(self, blobs, tmp_path, measurement):
        options = {
            "test": make_blobs(9),
            "budget": 1,
            "policy": "ucb",
            "recipe": AUTO,
            "out": tmp_path,
            "report": False,
        }
        messages = []
        api.race(blobs, **options, log=messages.append)
        measurement.answer = ("fp32", False, "measured per step: fp32 is faster")
        result = api.race(blobs, **options, seeds=2)
        assert json.loads((tmp_path / "grid.json").read_text())["settings"]["train"]["precision"] == "bf16"
        assert len(result.rows) == 4
        assert measurement.num_calls == 1
        assert sum(line.startswith("arithmetic: bf16") for line in messages) == 1


@pytest.mark.parametrize("verb", ["select", "memorization"])
def test_a_run_that_says_nothing_of_its_arithmetic_is_used_all_the_same(blobs, tmp_path, verb):
    api.record(blobs, run=tmp_path / "run", epochs=1, recipe=FAST)
    file = tmp_path / "run" / "run.json"
    file.write_text(json.dumps({key: value for key, value in metadata(file.parent).items() if key != "arithmetic"}))
    if verb == "select":
        api.select(file.parent, data=blobs, keep=0.5, method="el2n")
        trained = api.train(blobs, select=file.parent, run=tmp_path / "t", epochs=1, recipe=FAST)
        assert trained.run.metadata["arithmetic"]["precision"] == "fp32"
    else:
        api.score(file.parent, "memorization", data=blobs, subset_runs=2)
