"""Recordings that are killed at a given moment each, in processes of their own; run by test_resume.py."""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from datawinnow.core.rng import forked
from datawinnow.data.examples import Examples
from datawinnow.models import mlp
from datawinnow.record import Recorder
from datawinnow.train import fit
from datawinnow.train.checkpoint import save_checkpoint

SIGNALS = ("loss", "p_label", "margin", "correct", "kl_step")
EPOCHS, N, BATCH = 4, 48, 8


def run(folder: Path, *, epochs: int = EPOCHS, progress=None) -> None:
    """Record a small MLP on small data, ending in columns and ``model.safetensors``."""
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(1)
    labels = torch.arange(N) % 3
    data = Examples(torch.randn(N, 5, generator=g) + labels[:, None], labels, ("a", "b", "c"))
    with forked(0, "weights"):
        model = torch.nn.Sequential(
            mlp(features=5, classes=16, width=8), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3)
        )
        model.append(torch.nn.Linear(16, 3))
    recorder = Recorder(N, epochs, signals=SIGNALS, path=folder / "signals", fingerprint="sha256:5eed")
    checkpoint = folder / "checkpoint.safetensors"
    options = {"optimizer": "adamw", "lr": 0.01, "batch": BATCH, "precision": "fp32", "device": "cpu"}
    fit(model, data, epochs=epochs, seed=3, recorder=recorder, checkpoint=checkpoint, progress=progress, **options)
    recorder.consolidate()
    save_checkpoint(folder / "model.safetensors", model, None, {})
    checkpoint.unlink()


def die(*_, **__):
    """Die as by `kill -9`: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str) -> dict:
    """Make the process die at ``moment``: ``step:7``; ``before NAME:k`` or ``after NAME:k``, the k-th file renamed;
    ``gone NAME:k``, the k-th file removed. ``time:0.1`` is left to the parent.
    """
    kind, _, number = moment.rpartition(":")
    if kind == "step":
        return {"progress": lambda stage, done, total: die() if done == int(number) else None}
    when, _, name = kind.partition(" ")
    count = 0
    rename, remove = Path.replace, Path.unlink

    def unlink(self, missing_ok=False):
        nonlocal count
        remove(self, missing_ok=missing_ok)
        count += self.name.startswith(name)
        if count == int(number):
            die()

    def replace(self, target):
        nonlocal count
        mine = Path(target).name.startswith(name)
        count += mine
        if mine and count == int(number) and when == "before":
            die()
        result = rename(self, target)
        if mine and count == int(number):
            die()
        return result

    if when == "gone":
        Path.unlink = unlink
    else:
        Path.replace = replace
    return {}


def end(folder: Path, moment: str) -> int:
    """Run a recording in a fork that dies at ``moment``; the signal that ended it, or minus its exit status."""
    pid = os.fork()  # torch is imported once for all; nothing has run in it yet
    if not pid:
        run(folder, **(arm(moment) if not moment.startswith("time:") else {}))
        os._exit(0)
    if moment.startswith("time:"):
        time.sleep(float(moment.partition(":")[2]))
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        place = Path(sys.argv[1]) / name.replace(" ", "-")
        place.mkdir()
        print(name, end(place, name), flush=True)
