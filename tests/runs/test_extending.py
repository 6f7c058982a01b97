"""A recording that goes on with more epochs, and a run folder that was left before anything was made of it."""

from contextlib import suppress
from dataclasses import replace

import pytest
from safetensors.torch import load_file

import datawinnow as dw
from datawinnow import api
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.load_options import LoadOptions
from datawinnow.record import files
from datawinnow.runs.folder import RunFolder

from .conftest import FAST, make_blobs, make_images

CONSTANT = replace(FAST, schedule="constant")


def signals_of(folder):
    return {name: values.clone() for name, values in folder.arrays().items()}


def assert_same_recording(one, other):
    first, second = signals_of(one), signals_of(other)
    assert set(first) == set(second)
    assert all(first[name].equal(second[name]) for name in first)
    weights, expected_weights = (load_file(run.path / "model.safetensors") for run in (one, other))
    assert all(weights[name].equal(expected_weights[name]) for name in expected_weights)
    assert one.metadata["cost"]["record"]["backward"] == other.metadata["cost"]["record"]["backward"]


@pytest.mark.parametrize(
    ("options", "longer"),
    [({"schedule_epochs": 8}, {"schedule_epochs": 8}), ({"recipe": CONSTANT}, {"recipe": CONSTANT})],
    ids=["longer schedule", "constant schedule"],
)
def test_more_epochs_follow_as_if_they_had_been_recorded_at_once(tmp_path, options, longer):
    data, base = make_blobs(), {"recipe": FAST}
    api.record(data, run=tmp_path / "run", epochs=3, **{**base, **options})
    extended = api.record(data, run=tmp_path / "run", epochs=5, **{**base, **longer})
    assert extended.epochs == 5
    assert_same_recording(extended, api.record(data, run=tmp_path / "whole", epochs=5, **{**base, **longer}))
    assert len(api.select(extended, data=data, keep=0.5, method="el2n").selection) == 30


def test_up_to_the_end_of_the_schedule_and_no_further(tmp_path):
    data = make_blobs()
    api.record(data, run=tmp_path / "run", epochs=2, schedule_epochs=4, recipe=FAST)
    ended = api.record(data, run=tmp_path / "run", epochs=4, recipe=FAST)
    assert not (tmp_path / "run" / "checkpoint").exists()
    before = signals_of(ended)
    with pytest.raises(RunError, match=r"finished recording of 4 epochs.*`epochs=6` into another `run=` folder"):
        api.record(data, run=tmp_path / "run", epochs=6, recipe=FAST)
    assert signals_of(RunFolder.open(tmp_path / "run"))["loss"].equal(before["loss"])


def test_a_schedule_that_is_too_short_leaves_the_recording_and_its_selection(tmp_path):
    data = make_blobs()
    run = api.record(data, run=tmp_path / "run", epochs=2, schedule_epochs=4, recipe=FAST)
    api.select(run, data=data, keep=0.5, method="el2n")
    with pytest.raises(ArgumentError, match="schedule_epochs"):
        api.record(data, run=tmp_path / "run", epochs=6, schedule_epochs=4, recipe=FAST)
    assert (tmp_path / "run" / "selection.parquet").exists()
    assert len(api.select(tmp_path / "run", data=data, keep=0.25, method="el2n").selection) == 15


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": replace(CONSTANT, size_schedule=dw.SizeSchedule(start=4))},
        {"recipe": CONSTANT, "signals": ("kl_step",)},
    ],
    ids=["sizes by shares of the length", "changes of the probabilities"],
)
def test_what_depends_on_the_length_is_not_extended(tmp_path, options):
    options = {"run": tmp_path / "run", "model": "resnet8", **options}
    api.record(make_images(), epochs=2, **options)
    with pytest.raises(RunError, match=r"`epochs=3` into another `run=` folder"):
        api.record(make_images(), epochs=3, **options)
    assert RunFolder.open(tmp_path / "run").epochs == 2


@pytest.mark.parametrize("moment", ["splitting", "training"])
def test_a_kill_while_it_is_extended_loses_nothing(tmp_path, monkeypatch, moment):
    data, options = make_blobs(), {"schedule_epochs": 6, "recipe": FAST}
    api.record(data, run=tmp_path / "run", epochs=3, **options)

    def stop(*arguments):
        if moment == "training" and arguments[1] < 9:
            return
        raise KeyboardInterrupt

    write = files.write_epoch

    def write_two(folder, epoch, rows, labels, training):
        if epoch == 0:
            raise KeyboardInterrupt
        write(folder, epoch, rows, labels, training)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        if moment == "splitting":
            patch.setattr(files, "write_epoch", write_two)
        api.record(data, run=tmp_path / "run", epochs=5, progress=stop, **options)
    assert RunFolder.open(tmp_path / "run").metadata["status"]["record"] != "done"
    again = api.record(data, run=tmp_path / "run", epochs=5, **options)
    assert_same_recording(again, api.record(data, run=tmp_path / "whole", epochs=5, **options))


def test_what_was_made_of_the_shorter_recording_goes(tmp_path):
    data, options = make_blobs(), {"recipe": CONSTANT}
    runs = [tmp_path / "run", tmp_path / "whole"]
    api.record(data, run=runs[0], epochs=3, **options)
    api.score(runs[0], "el2n", data=data)
    api.score(runs[0], "memorization", data=data, subset_runs=3)
    api.select(runs[0], data=data, keep=0.5, method="k_center")
    logged = []
    run = api.record(data, run=runs[0], epochs=5, log=logged.append, **options)
    assert not {"scores.parquet", "selection.parquet", "probe", "subsets"} & {file.name for file in run.path.iterdir()}
    assert set(run.metadata["status"]) == set(run.metadata["cost"]) == {"record"}
    assert "select" not in run.metadata["options"]
    assert any("from 3 to 5 epochs" in line for line in logged)
    # the network is another one now: a probe of the old is neither used nor in the way
    api.record(data, run=runs[1], epochs=5, **options)
    chosen, expected = (api.select(path, data=data, keep=0.5, method="k_center").selection for path in runs)
    assert chosen.index.equal(expected.index)
    # networks on subsets train for as many epochs as the recording
    memorised = [api.score(path, "memorization", data=data, subset_runs=3)["memorization"] for path in runs]
    assert memorised[0].equal(memorised[1])


def stop_at_once(*_):
    raise KeyboardInterrupt


def test_where_nothing_was_recorded_all_options_may_change(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        api.record("digits", run=path, epochs=2, model="mlp", recipe=FAST, progress=stop_at_once)
    for load in (LoadOptions(limit=50), LoadOptions(limit=60)):
        with pytest.raises(KeyboardInterrupt):
            api.record("digits", run=path, load=load, epochs=3, model="mlp", seed=2, recipe=FAST, progress=stop_at_once)
    run = api.record("digits", run=path, load=LoadOptions(limit=40), epochs=1, model="mlp", recipe=FAST)
    assert (run.n, run.epochs, run.metadata["seed"]) == (40, 1, 0)
    assert run.metadata["options"]["load"] == {"limit": 40}
    assert len(dw.api.select(run, keep=0.5, method="el2n").selection) == 20


def test_other_data_are_refused_by_the_option_that_makes_them_others(tmp_path):
    options = {"run": tmp_path / "run", "epochs": 1, "model": "mlp", "recipe": FAST}
    api.record("digits", load=LoadOptions(limit=40), **options)
    with pytest.raises(RunError, match=r"of the data with `limit=40`, not with `limit=50`: use another `run=` folder"):
        api.record("digits", load=LoadOptions(limit=50), **options)
    with pytest.raises(RunError, match=r"of the data with `limit=40`, not with the default of `limit=`"):
        api.record("digits", **options)
