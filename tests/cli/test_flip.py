"""``--no-flip`` is written into the run, comes back in every later verb, and cannot change under a recording."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import DUAL, QUICK
from tests.data.helpers import write_folder


@pytest.fixture
def signs(tmp_path):
    write_folder(tmp_path / "signs", 12)
    write_folder(tmp_path / "signs", 4, split="test", seed=1)
    return tmp_path / "signs"


@pytest.fixture
def mirrored(monkeypatch):
    """Whether what was loaded is mirrored, load by load."""
    seen: list[bool] = []
    module = sys.modules["datawinnow.data.load"]  # the package's own name for it is the function
    real = module.load_with

    def watched(*args, **options):
        train, test = real(*args, **options)
        seen.append(train.augment.flip)
        return train, test

    monkeypatch.setattr(module, "load_with", watched)
    return seen


def test_it_is_told_how_to_switch_it_off(call, signs):
    words = [word for word in QUICK if word != "--quiet"]
    sentence = "data: in training, images are mirrored left to right half of the time"
    assert sentence in call("record", signs, *words).stderr
    assert (
        "switch that off with `flip=False`"
        in json.loads(Path("runs/signs/run.json").read_text())["dataset"]["notes"][-1]
    )
    assert sentence not in call("record", signs, "--no-flip", "--run", "r", *words).stderr


def test_later_verbs_load_as_the_run_did(call, signs, mirrored):
    call("prune", signs, "--keep", "0.5", "--no-flip", "--no-report", "--check", *QUICK, *DUAL)
    metadata = json.loads(Path("runs/signs/run.json").read_text())
    assert metadata["options"]["load"] == {"flip": False}
    assert metadata["options"]["record"]["augment"] == {"crop": 1, "flip": False}
    call("score", "runs/signs", "--score", "aum", "--quiet")
    call("select", "runs/signs", "--keep", "0.5", "--out", "s.parquet", *DUAL, "--quiet")
    call("train", signs, "--select", "s.parquet", *QUICK)
    assert mirrored == [False] * 4
    trained = json.loads(next(Path("runs").glob("signs-*/run.json")).read_text())
    assert trained["options"]["train"]["augment"]["flip"] is False
    assert trained["options"]["load"] == {"flip": False}
    call("train", signs, "--select", "s.parquet", "--flip", "--run", "t", *QUICK)
    assert mirrored[-1] is True


def test_a_recording_is_not_mixed_of_both(call, signs, mirrored):
    call("record", signs, "--no-flip", *QUICK)
    before = Path("runs/signs/run.json").read_bytes()
    fails = call("record", signs, *QUICK, code=2)
    assert "was started with augment.flip=False, now it is augment.flip=True" in fails.stderr
    assert Path("runs/signs/run.json").read_bytes() == before
    call("select", "runs/signs", "--keep", "0.5", *DUAL, "--quiet")
    assert mirrored == [False, True, False]


def test_a_training_is_not_mixed_of_both(call, signs):
    call("train", signs, "--no-flip", "--run", "t", *QUICK)
    fails = call("train", signs, "--run", "t", *QUICK, code=2)
    assert "was started with augment.flip=False, now it is augment.flip=True" in fails.stderr


@pytest.mark.parametrize("verb", ["prune", "record", "train", "estimate"])
def test_every_verb_that_loads_has_it(call, verb):
    assert "--no-flip" in call(verb, "--help").stdout


def test_vectors_are_refused_by_name(call):
    import numpy as np

    np.savez("v.npz", x=np.eye(20, 5, dtype=np.float32), y=np.arange(20) % 2)
    assert "--flip, but v holds no images" in call("record", "v.npz", "--flip", *QUICK, code=2).stderr
