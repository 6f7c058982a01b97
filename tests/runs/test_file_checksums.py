"""``run.json`` has the checksum of each column and of the network: another valid file in its place is refused."""

from __future__ import annotations

import json
import shutil
import zlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from datawinnow import api
from datawinnow.core import artifacts
from datawinnow.core.errors import RunError
from datawinnow.probe import read_probed
from datawinnow.record import files
from datawinnow.runs import stage
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.stage import Stage

from .conftest import FAST, make_blobs

CONSTANT = replace(FAST, schedule="constant")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Two recordings of the same data, options and shapes, that differ by their seed."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        api.record(make_blobs(), run=folder / f"{seed}", epochs=3, recipe=CONSTANT, seed=seed)
    return folder


@pytest.fixture
def runs(two_runs, tmp_path):
    shutil.copytree(two_runs, tmp_path / "runs")
    return tmp_path / "runs"


def test_every_column_and_the_network_are_named(runs):
    metadata = json.loads((runs / "0" / "run.json").read_text())
    columns = {f"signals/{file.name}" for file in (runs / "0" / "signals").glob("*.npy")}
    assert len(columns) > 4
    assert set(metadata["files"]) == {*columns, "model.safetensors", "checkpoint/record.safetensors"}
    other = json.loads((runs / "1" / "run.json").read_text())
    assert metadata["files"]["signals/loss.npy"] != other["files"]["signals/loss.npy"]


@pytest.mark.parametrize("name", ["signals/p_label.npy", "signals/seen.npy", "signals"])
def test_a_column_of_another_recording_is_refused(runs, name):
    if name == "signals":
        shutil.rmtree(runs / "0" / name)
        shutil.copytree(runs / "1" / name, runs / "0" / name)
    elif name == "signals/seen.npy":  # of both runs the same: all were seen
        artifacts.write_npy(runs / "0" / name, np.zeros((3, 60), dtype=bool))
    else:
        shutil.copy(runs / "1" / name, runs / "0" / name)
    arrays = RunFolder.open(runs / "0").arrays()
    with pytest.raises(RunError, match=r"\.npy is not the file that was written here"):
        arrays[{"signals/seen.npy": "seen"}.get(name, "p_label")]
    if name != "signals/seen.npy":  # which this method does not read
        with pytest.raises(RunError, match="is not the file that was written here"):
            api.select(runs / "0", data=make_blobs(), keep=0.5, method="dual")


def test_one_that_numpy_wrote_is_refused_too(runs):
    file = runs / "0" / "signals" / "p_label.npy"
    np.save(file, artifacts.read_npy(file))
    with pytest.raises(RunError, match="is not the file that was written here"):
        RunFolder.open(runs / "0").arrays()["p_label"]


def test_the_network_of_another_recording_is_neither_probed_nor_asked(runs):
    shutil.copy(runs / "1" / "model.safetensors", runs / "0" / "model.safetensors")
    with pytest.raises(RunError, match=r"model\.safetensors is not the file that was written here"):
        api.select(runs / "0", data=make_blobs(), keep=0.5, method="k_center")


def test_a_probed_array_of_another_network_is_refused(runs):
    for seed in (0, 1):
        api.select(runs / f"{seed}", data=make_blobs(), keep=0.5, method="k_center")
    folder, other = (runs / f"{seed}" / "probe" / "features" for seed in (0, 1))
    assert len(read_probed(folder)) == 3
    shutil.copy(other / "features.npy", folder)
    with pytest.raises(RunError, match="is not the file that was written here"):
        read_probed(folder)


@pytest.mark.parametrize("name", ["signals/loss.npy", "model.safetensors", "checkpoint/record.safetensors"])
def test_nothing_is_added_to_files_of_another_recording(runs, name):
    shutil.copy(runs / "1" / name, runs / "0" / name)
    before = {file: file.read_bytes() for file in (runs / "0").rglob("*.npy")}
    with pytest.raises(RunError, match="is not the file that was written here"):
        api.record(make_blobs(), run=runs / "0", epochs=5, recipe=CONSTANT)
    assert {file: file.read_bytes() for file in (runs / "0").rglob("*.npy")} == before


@pytest.mark.parametrize(
    "moment", ["splitting", "removing", "training", "consolidating", "before run.json", "not at all"]
)
def test_an_extended_recording_has_its_checksums_through_any_kill(runs, tmp_path, monkeypatch, moment):
    data, run = make_blobs(), runs / "0"
    counts = {"write_epoch": 0, "write_column": 0, "unlink": 0}

    def stop_after(count, name, function):
        def stopping(*arguments, **kwargs):
            counts[name] += name != "unlink" or arguments[0].match("signals/*.npy")
            if counts[name] > count:
                raise KeyboardInterrupt
            return function(*arguments, **kwargs)

        return stopping

    def stop(_, done, total):
        if moment == "training" and done > 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        if moment == "splitting":
            patch.setattr(files, "write_epoch", stop_after(1, "write_epoch", files.write_epoch))
        elif moment == "removing":
            patch.setattr("pathlib.Path.unlink", stop_after(2, "unlink", type(run).unlink))
        elif moment == "consolidating":
            patch.setattr(files, "write_column", stop_after(3, "write_column", files.write_column))
        elif moment == "before run.json":
            patch.setattr(Stage, "finish", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        api.record(data, run=run, epochs=5, recipe=CONSTANT, progress=stop)
    is_done = RunFolder.open(run).metadata["status"]["record"] == "done"
    assert is_done == (moment == "not at all")
    extended = api.record(data, run=run, epochs=5, recipe=CONSTANT)
    expected = api.record(data, run=tmp_path / "whole", epochs=5, recipe=CONSTANT)
    names = [name for name in expected.metadata["files"] if name.startswith("signals")]
    assert {name: extended.metadata["files"][name] for name in names} == {
        name: expected.metadata["files"][name] for name in names
    }
    assert extended.arrays()["loss"].equal(expected.arrays()["loss"])
    api.select(run, data=data, keep=0.5, method="k_center")


def test_nothing_is_read_a_second_time_to_sum_it(tmp_path, monkeypatch):
    sums, by_call, crc32 = [], [], zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda data, start=0: sums.append(len(data)) or crc32(data, start))

    def counted(path):
        before = len(sums)
        checksum = artifacts.file_checksum(path)
        by_call.append(sum(sums[before:]))
        return checksum

    monkeypatch.setattr(stage, "file_checksum", counted)
    run = api.record(make_blobs(), run=tmp_path / "run", epochs=2, recipe=FAST)
    assert len(by_call) == len(run.metadata["files"])
    assert not any(by_call)
