"""Killed at any moment and run again, a recording ends in the same bytes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.record import killed

ROOT = Path(__file__).parents[2]
MOMENTS = {
    "before about.json:1": 0,
    "after about.json:1": 0,
    "step:3": 0,
    "step:15": 2,
    "before epoch-:2": 1,
    "after softmax-:3": 2,  # its epoch's rows are not there yet: the epoch is repeated
    "after epoch-:3": 3,  # the checkpoint is one epoch behind
    "after checkpoint:4": 4,
    "after loss.npy:1": 4,
    "before seen.npy:1": 4,
    "before model:1": 0,  # the columns stand, the network is half written
    "gone epoch-:2": 2,  # the columns stand, half of the epochs are removed
}
"""When to die, and how many epochs stand on the disk then."""
TIMES = ["time:0.02", "time:0.1", "time:0.25"]


def artefacts(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    threads = torch.get_num_threads()
    killed.run(folder)
    torch.set_num_threads(threads)
    return artefacts(folder)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A folder with one killed recording a moment."""
    folder = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    command = [sys.executable, "-m", "tests.record.killed", str(folder), *MOMENTS, *TIMES]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    signals = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    assert {signals[moment] for moment in MOMENTS} == {str(int(signal.SIGKILL))}, done.stdout + done.stderr
    assert {signals[moment] for moment in TIMES} <= {str(int(signal.SIGKILL)), "0"}, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(("moment", "epochs_left"), MOMENTS.items(), ids=[m.replace(" ", "-") for m in MOMENTS])
def test_killed_and_resumed_ends_in_the_same_bytes(ended, unbroken, moment, epochs_left):
    folder = ended / moment.replace(" ", "-")
    assert len(list((folder / "signals").glob("epoch-*.npz"))) == epochs_left
    assert not (folder / "model.safetensors").exists()
    taken = []
    killed.run(folder, progress=lambda stage, done, total: taken.append(done))
    assert artefacts(folder) == unbroken
    steps = killed.N // killed.BATCH
    assert len(taken) <= steps * (killed.EPOCHS - max(0, epochs_left - 1))  # at most one whole epoch is repeated


@pytest.mark.parametrize("moment", TIMES)
def test_killed_whenever_it_happens_and_resumed(ended, unbroken, moment):
    folder = ended / moment
    if not (folder / "model.safetensors").exists():
        killed.run(folder)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)  # killed just before its removal
    assert artefacts(folder) == unbroken


def test_another_seed_is_not_the_same_bytes(tmp_path, unbroken, monkeypatch):
    real = killed.fit
    monkeypatch.setattr(killed, "fit", lambda *a, **k: real(*a, **{**k, "seed": 4}))
    killed.run(tmp_path)
    result = artefacts(tmp_path)
    assert result.keys() == unbroken.keys()
    assert result["signals/p_label.npy"] != unbroken["signals/p_label.npy"]
    assert result["model.safetensors"] != unbroken["model.safetensors"]
