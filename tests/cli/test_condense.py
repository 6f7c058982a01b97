"""``datawinnow condense``: what is told, what is left in the folder, and that it goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from datawinnow import Synthetic, condense
from datawinnow.cli import app
from datawinnow.condense import loop, run_folder

QUICK = (
    "--per-class", "1", "--iterations", "4", "--option", "real_batch=8", "--model-option", "width=4", "--threads", "1",
    "--networks", "2", "--snapshots", "3", "--judge-epochs", "3", "--limit", "200", "--run", "made",
)  # fmt: skip


@pytest.fixture(scope="module")
def condensed(tmp_path_factory):
    """The folder of a finished condensation; a test that writes to it has a copy."""
    root = tmp_path_factory.mktemp("condensed")
    result = CliRunner().invoke(app, ["condense", "digits", *QUICK[:-1], str(root / "made")])
    assert result.exit_code == 0, result.stderr
    return root / "made"


@pytest.fixture
def folder(condensed, tmp_path):
    return shutil.copytree(condensed, tmp_path / "made")


def test_it_estimates_first_and_says_what_came_of_it(call, tmp_path):
    result = call("condense", "digits", *QUICK)
    lines = result.stderr.splitlines()
    order = [
        next(i for i, line in enumerate(lines) if word in line) for word in ("network: ", "estimate: ", "condensing")
    ]
    assert order == sorted(order)
    assert "augmentation: all operations but flip" in result.stderr
    assert "4 iterations of " in result.stderr
    assert re.search(r"; judging by 6 networks .* \(--judge-epochs shortens it, --networks 0 skips it\)", result.stderr)
    assert "accuracy " in result.stdout
    assert "with as many random real images" in result.stdout
    synthetic = Synthetic.load(tmp_path / "made" / "synthetic.safetensors")
    assert synthetic.labels.tolist() == list(range(10))
    assert synthetic.classes == tuple("0123456789")
    assert synthetic.about["augment"]["strategy"] == "color_crop_cutout_scale_rotate"


def test_the_folder_holds_states_a_curve_and_a_page(folder):
    metadata = json.loads((folder / "run.json").read_text())
    assert metadata["status"] == {"condense": "done"}
    sets = {row["set"]: len(row["accuracies"]) for row in metadata["result"]["curve"]}
    assert sets == {"iteration 0": 1, "iteration 2": 1, "iteration 4": 2, "random": 2}
    assert sorted(f.name for f in (folder / "snapshots").glob("*.png")) == ["0000000.png", "0000002.png", "0000004.png"]
    last = Synthetic.load(folder / "snapshots" / "0000004.safetensors")
    assert torch.equal(last.images, Synthetic.load(folder / "synthetic.safetensors").images)
    page = (folder / "report.html").read_text()
    for text in (
        "digits, 1 a class",
        "At the start",
        "After 2 iterations",
        "At the end",
        "Accuracy by iteration",
        "plane",
    ):
        assert text in page, text
    assert page.count("data:image/png;base64,") == 3
    assert "1 image a class" in page
    assert "Class by class. Pixels outside" in page
    alone = next(row for row in metadata["result"]["curve"] if row["set"] == "iteration 2")["accuracies"][0]
    assert f"<td>{100 * alone:.1f}%</td>" in page, "one network has no deviation"
    with Image.open(folder / "snapshots" / "0000000.png") as sheet:
        assert sheet.size == (4 * (10 * 9 - 1), 4 * 8), "ten classes in a row"
    assert "<script" not in page
    assert not (folder / "checkpoint.safetensors").exists()


def test_a_killed_one_goes_on_to_the_same_images_and_judges_nothing_twice(call, folder, tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    expected = Synthetic.load(folder / "synthetic.safetensors").images
    judged = []
    real = run_folder.evaluate
    monkeypatch.setattr(run_folder, "evaluate", lambda *a, **k: judged.append(1) or real(*a, **k))
    again = [*QUICK[:-1], "again"]
    save = Synthetic.save_grid

    def killed(self, path, *args, **kwargs):
        if path.name == "0000004.png":
            raise Stop
        return save(self, path, *args, **kwargs)

    monkeypatch.setattr(Synthetic, "save_grid", killed)
    with pytest.raises(Stop):
        CliRunner().invoke(app, ["condense", "digits", *again], catch_exceptions=False)
    assert len(judged) == 3
    monkeypatch.setattr(Synthetic, "save_grid", save)
    call("condense", "digits", *again)
    assert len(judged) == 4  # only the random images are left to judge
    assert torch.equal(Synthetic.load(tmp_path / "again" / "synthetic.safetensors").images, expected)


def test_the_same_command_again_condenses_nothing_and_another_is_refused(call, folder, monkeypatch):
    before = {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}
    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "evaluate", None)
        patched.setattr(loop.Condensation, "iterate", None)
        result = call("condense", "digits", *QUICK)
    assert "with as many random real images" in result.stdout
    assert {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()} == before
    result = call("condense", "digits", *QUICK, "--seed", "1", code=2)
    assert "seed=0, now it is 1" in result.stderr
    assert call("report", str(folder)).stdout.strip().endswith("report.html")


KILLED = """
import os, signal, sys
from datawinnow.cli import main
from datawinnow.condense import loop
save = loop.Condensation.save_checkpoint
def last(run):
    save(run)
    if run.done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
loop.Condensation.save_checkpoint = last
main()
"""


def kill_a_process(words, monkeypatch):
    """Run the command in a process that is killed at its third checkpoint."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, *words], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr


def stop_this_process(words, monkeypatch):
    """Run the command until nothing catches what its third checkpoint raises."""

    class Stop(BaseException):
        pass

    save = loop.Condensation.save_checkpoint

    def save_or_stop(run):
        save(run)
        if run.done == 3:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(loop.Condensation, "save_checkpoint", save_or_stop)
        with pytest.raises(Stop):
            CliRunner().invoke(app, list(words), catch_exceptions=False)


@pytest.mark.parametrize("stop", [stop_this_process, pytest.param(kill_a_process, marks=pytest.mark.slow)])
def test_what_is_killed_goes_on_to_the_same_images(call, folder, tmp_path, monkeypatch, stop):
    words = ("condense", "digits", *QUICK[:-1], "killed", "--option", "every=1", "--quiet")
    stop(words, monkeypatch)
    assert (tmp_path / "killed" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "killed" / "synthetic.safetensors").exists()
    iterated = []
    real = loop.Condensation.iterate
    monkeypatch.setattr(loop.Condensation, "iterate", lambda self, k: iterated.append(k) or real(self, k))
    call(*words)
    assert iterated == [0, 1, 2, 3], "three of the estimate, and the one that was left"
    again = Synthetic.load(tmp_path / "killed" / "synthetic.safetensors")
    assert torch.equal(again.images, Synthetic.load(folder / "synthetic.safetensors").images)


def test_what_diverges_says_so_and_leaves_the_last_good_images(call, tmp_path):
    words = ("condense", "digits", *QUICK, "--option", "lr=1e9", "--augment", "none", "--model-option", "norm=none")
    result = call(*words, code=2)
    assert "try a lower lr" in result.stderr
    assert "Traceback" not in result.stderr
    kept = tmp_path / "made" / "checkpoint-last-good.safetensors"
    assert kept.name in result.stderr
    assert Synthetic.load(kept).images.isfinite().all()


@pytest.mark.parametrize("method", condense.METHODS)
def test_every_method_runs_from_the_command_line(call, tmp_path, method):
    method_words = {"cafe": ["--option", "outer_most=2", "--option", "inner_most=2", "--option", "query=4"],
           "idm": ["--option", "steps=1", "--option", "net_batch=8"]}.get(method, [])  # fmt: skip
    words = ["--method", method, "--iterations", "1", "--networks", "0", "--no-report", "--quiet", *method_words]
    result = call("condense", "digits", *QUICK, *words)
    assert "synthetic.safetensors" in result.stdout
    assert "accuracy" not in result.stdout
    assert result.stderr == ""
    assert json.loads((tmp_path / "made" / "curve.json").read_text())["rows"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "dmm"), "no condenser is called 'dmm'. Did you mean 'dm'?"),
        (("--option", "speed=2"), "dm has no option 'speed'; its options are: "),
        (("--option", "checkpoint=x"), "options has 'checkpoint', which is a parameter of its own"),
        (("--iterations", "0"), "iterations must be a whole number in"),
        (("--networks", "-1"), "networks must be a whole number in [0, "),
        (("--snapshots", "1"), "snapshots must be a whole number in [2, "),
        (("--judge-epochs", "0"), "judge_epochs must be a whole number in [1, "),
        (("--augment", "blur"), "got 'blur'"),
        (("--model", "convnett"), "no model is called 'convnett'"),
        (("--per-class", "500"), "--per-class 500 images begin from 500 real images of every class"),
        (("--model-option", "depth=5"), "a ConvNet of depth 5 halves the image 5 times"),
    ],
    ids=[
        "method",
        "option",
        "taken",
        "iterations",
        "networks",
        "snapshots",
        "epochs",
        "augment",
        "model",
        "per-class",
        "network",
    ],
)
def test_what_cannot_be_is_told(call, words, message):
    assert message in call("condense", "digits", *QUICK, *words, code=2).stderr


def test_methods_lists_condensers(call):
    shown = call("methods", "--kind", "condenser").stdout
    for name in condense.METHODS:
        assert name in shown
    assert "distribution matching" in call("methods", "dm").stdout.lower()
