"""Whatever a user gets wrong: exit code 2, the thing by name, no traceback."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import DUAL, QUICK

PRUNE = ("prune", "digits", "--keep", "0.3", "--no-report", *QUICK, *DUAL)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["pruen"], "No such command 'pruen'"),
        (["prune", "digits"], "Missing option '--keep'"),
        (["prune", "--keep", "0.3"], "Missing argument 'DATA'"),
        (["prune", "digits", "--keep", "much"], "Invalid value for '--keep'"),
        (["prune", "digits", "--keep", "0.3", "--kepe", "1"], "No such option:? '?--kepe"),
        (["prune", "digits", "--keep", "0"], r"keep must be in \(0, 1\], got 0.0"),
        (["prune", "digits", "--keep", "1.5"], r"keep must be in \(0, 1\], got 1.5"),
        (["prune", "digits", "--keep", "nan"], r"keep must be in \(0, 1\], got nan"),
        (["prune", "nowhere/at/all", "--keep", "0.3"], "no such file or folder: nowhere/at/all"),
        (["prune", "digits", "--keep", "0.3", "--method", "duel"], "no method is called 'duel'. Did you mean 'dual'"),
        (["prune", "digits", "--keep", "0.3", "--score", "dula"], "no score is called 'dula'"),
        (["prune", "digits", "--keep", "0.3", "--option", "c_d"], "--option must be KEY=VALUE"),
        (["prune", "digits", "--keep", "0.3", "--option", "bins=3"], "dual_beta has no option 'bins'"),
        (["prune", "digits", "--keep", "0.3", "--epochs", "2"], "window"),
        (["prune", "digits", "--keep", "0.3", "--check", "--check-seeds", "0"], "Invalid value for '--check-seeds'"),
        (["prune", "digits", "--keep", "0.3", "--batch", "0"], r"batch must be a whole number in \[1, "),
        (["prune", "digits", "--keep", "0.3", "--optimizer", "adam"], "Invalid value for '--optimizer'"),
        (["prune", "digits", "--keep", "0.3", "--model", "resnet9"], "no model is called 'resnet9'"),
        (["prune", "digits", "--keep", "0.3", "--model", "nothing_here:net"], "cannot import module 'nothing_here'"),
        (["prune", "digits", "--keep", "0.3", "--model-option", "depht=2"], "has no option 'depht'"),
        (["record", "digits", "--signals", "kl"], "no signal is called 'kl'.* There are: loss, .*kl_step"),
        (["record", "digits", "--model", "mlp", "--device", "cuda:7"], "cuda:7"),
        (["record", "digits", "--label", "y"], "--label y names a column, but digits has none"),
        (["score", "nowhere", "--score", "dual"], "nowhere is not a run folder"),
        (["select", "nowhere", "--keep", "0.3"], "nowhere is not a run folder"),
        (["train", "digits", "--select", "nowhere.parquet"], "no such file: nowhere.parquet"),
        (["bench", "nowhere.toml"], "no such file: nowhere.toml"),
        (["bench", "nowhere.toml", "--time-limit", "soon"], "--time-limit must be a time"),
        (["report", "nowhere"], "nowhere"),
        (["methods", "duel"], "no method is called 'duel'. Did you mean 'dual'"),
        (["methods", "--kind", "shape"], "Invalid value for '--kind'"),
        (["estimate", "digits", "--keep", "2"], r"keep must be in \(0, 1\], got 2.0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_named(call, words, match):
    result = call(*words, code=2)
    assert re.search(match, re.sub(r"\s+", " ", result.stderr)), result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_the_traceback_is_there_on_request(call, monkeypatch):
    assert "Traceback" in call("bench", "nowhere.toml", "--traceback", code=2).stderr
    monkeypatch.setenv("DATAWINNOW_TRACEBACK", "1")
    assert "Traceback" in call("bench", "nowhere.toml", code=2).stderr


def test_a_bug_is_no_message(call, monkeypatch):
    import datawinnow.bench

    monkeypatch.setattr(datawinnow.bench, "read_grids", lambda file, models=(): 1 / 0)
    with pytest.raises(ZeroDivisionError):
        raise call("bench", "x.toml", code=1).exception


def test_a_file_that_may_not_be_written_is_named(call, monkeypatch):
    import datawinnow.bench

    def refuse(file, models=()):
        raise PermissionError(13, "Permission denied", "/elsewhere/results")

    monkeypatch.setattr(datawinnow.bench, "read_grids", refuse)
    assert call("bench", "x.toml", code=2).stderr == "error: /elsewhere/results: Permission denied\n"


def test_another_datasets_run_is_refused_by_both_names(call, recorded, tmp_path):
    run = shutil.copytree(recorded, tmp_path / "run")
    np.savez("others.npz", x=np.eye(30, 8, dtype=np.float32), y=np.arange(30) % 2)
    result = call("prune", "others.npz", "--keep", "0.3", "--run", run, *QUICK, *DUAL, code=2)
    assert "belongs to the dataset 'digits'" in result.stderr
    assert "not 'others'" in result.stderr
    for words in (["score", run, "--score", "aum"], ["select", run, "--keep", "0.3"]):
        assert "belongs to the dataset 'digits'" in call(*words, "--data", "others.npz", code=2).stderr
    result = call("train", "others.npz", "--select", run, *QUICK, code=2)
    assert "selected from the dataset 'digits'" in result.stderr


def test_another_split_of_the_same_data_is_another_dataset(call, recorded, tmp_path):
    run = shutil.copytree(recorded, tmp_path / "run")
    message = "is of the data with the default of --split-seed, not with --split-seed 1: use another --run folder"
    assert message in call(*PRUNE, "--run", run, "--split-seed", "1", code=2).stderr


def test_other_options_than_the_run_was_begun_with_are_refused(call, recorded, tmp_path):
    run = shutil.copytree(recorded, tmp_path / "run")
    result = call(*PRUNE, "--run", run, "--lr", "0.5", code=2)
    assert re.search(r"was started with .*lr.*0\.5", result.stderr)


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda text: text[: len(text) // 2], "run.json is truncated or not JSON"),
        (lambda text: json.dumps({**json.loads(text), "format": 99}), r"newer datawinnow \(format 99"),
        (lambda text: "{}", "no format version"),
    ],
    ids=["truncated", "newer", "foreign"],
)
def test_a_damaged_run_is_named(call, recorded, tmp_path, damage, match):
    run = shutil.copytree(recorded, tmp_path / "run")
    (run / "run.json").write_text(damage((run / "run.json").read_text()))
    for words in (["score", run, "--score", "aum"], ["select", run, "--keep", "0.3"], [*PRUNE, "--run", run]):
        result = call(*words, code=2)
        assert re.search(match, result.stderr), result.stderr
        assert str(run) in result.stderr


def test_a_truncated_selection_is_named(call, recorded):
    content = (recorded / "selection.parquet").read_bytes()
    from pathlib import Path

    Path("half.parquet").write_bytes(content[: len(content) // 2])
    assert "half.parquet is truncated or damaged" in call("train", "digits", "--select", "half.parquet", code=2).stderr


def test_an_out_folder_that_is_not_empty_is_refused_before_anything_runs(call, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert "--out full exists already" in call(*PRUNE, "--out", "full", code=2).stderr
    assert not (tmp_path / "runs").exists()


def test_an_unfinished_recording_is_not_scored(call, recorded, tmp_path):
    run = shutil.copytree(recorded, tmp_path / "run")
    metadata = json.loads((run / "run.json").read_text())
    metadata["status"]["record"] = "epoch 1 of 2"
    (run / "run.json").write_text(json.dumps(metadata))
    result = call("score", run, "--score", "aum", code=2)
    assert "not recorded to the end (record: epoch 1 of 2)" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "digits", "--epochs", 0), "--epochs must be above 0, got 0"),
        (("train", "digits", "--epochs", -3), "--epochs must be above 0, got -3"),
        (("train", "digits", "--policy", "ucb", "--passes", 0), "--passes must be above 0, got 0"),
        (("train", "digits", "--device", "tpu"), "device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got 'tpu'"),
        (("train", "digits", "--model", "nope"), "no model is called 'nope'"),
        (("record", "digits", "--epochs", 0), "epochs must be a whole number in [1,"),
        (("record", "digits", "--model", "nope"), "no model is called 'nope'"),
        (("prune", "digits", "--keep", 0.5, "--epochs", 0), "epochs must be a whole number in [1,"),
        (("prune", "digits", "--keep", 0.5, "--device", "tpu"), "device must be"),
        (("race", "digits", "--budget", 2, "--model", "nope"), "no model is called 'nope'"),
        (("race", "digits", "--budget", 2, "--device", "tpu"), "device must be"),
        (("estimate", "digits", "--epochs", 0), "epochs must be a whole number in [1,"),
        (("estimate", "digits", "--model", "nope"), "no model is called 'nope'"),
        (("condense", "digits", "--per-class", 0), "per_class must be a whole number in [1,"),
        (("condense", "digits", "--iterations", 0), "iterations must be a whole number in [1,"),
        (("condense", "digits", "--model", "nope"), "no model is called 'nope'"),
        (("condense", "digits", "--device", "tpu"), "device must be"),
    ],
)
def test_what_is_wrong_without_the_data_is_said_before_they_are_read(call, monkeypatch, words, message):
    monkeypatch.setattr(
        importlib.import_module("datawinnow.data.load"), "load_with", lambda *_, **__: pytest.fail("the data are read")
    )
    assert message in " ".join(call(*words, code=2).stderr.split())
    assert not Path("runs").exists()


def test_a_score_that_does_not_exist_is_refused_before_the_data_are_read(call, recorded, monkeypatch):
    loading = importlib.import_module("datawinnow.data.load")
    monkeypatch.setattr(loading, "load_with", lambda *_, **__: pytest.fail("the data are read"))
    message = call("score", recorded, "--score", "eln2", code=2).stderr
    assert "no score is called 'eln2'. Did you mean 'el2n'?" in message


def test_a_keep_out_of_range_is_all_that_is_said(call):
    assert call("prune", "digits", "--keep", "1.5", code=2).stderr.startswith("error: keep must be in (0, 1], got 1.5")
