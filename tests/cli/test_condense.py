"""``datawinnow condense``: what is told, what is left in the folder, and that it goes on."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from datawinnow import Synthetic, condense
from datawinnow.cli import app
from datawinnow.condense import _run

QUICK = (
    "--per-class", "1", "--iterations", "4", "--option", "real_batch=8", "--model-option", "width=4", "--threads", "1",
    "--networks", "2", "--snapshots", "3", "--judge-epochs", "3", "--limit", "200", "--run", "made",
)  # fmt: skip


@pytest.fixture
def folder(call, tmp_path):
    call("condense", "digits", *QUICK)
    return tmp_path / "made"


def test_it_estimates_first_and_says_what_came_of_it(call, tmp_path):
    told = call("condense", "digits", *QUICK)
    lines = told.stderr.splitlines()
    order = [
        next(i for i, line in enumerate(lines) if word in line) for word in ("network: ", "estimate: ", "condensing")
    ]
    assert order == sorted(order)
    assert "all but flip, since these data are not mirrored" in told.stderr
    assert "4 iterations of " in told.stderr
    assert "accuracy " in told.stdout
    assert "with as many random real images" in told.stdout
    made = Synthetic.load(tmp_path / "made" / "synthetic.safetensors")
    assert made.labels.tolist() == list(range(10))
    assert made.classes == tuple("0123456789")
    assert made.about["augment"]["strategy"] == "color_crop_cutout_scale_rotate"


def test_the_folder_holds_states_a_curve_and_a_page(folder):
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == {"condense": "done"}
    sets = {row["set"]: len(row["accuracies"]) for row in facts["result"]["curve"]}
    assert sets == {"iteration 0": 1, "iteration 2": 1, "iteration 4": 2, "random": 2}
    assert sorted(f.name for f in (folder / "snapshots").glob("*.png")) == ["0000000.png", "0000002.png", "0000004.png"]
    last = Synthetic.load(folder / "snapshots" / "0000004.safetensors")
    assert torch.equal(last.images, Synthetic.load(folder / "synthetic.safetensors").images)
    page = (folder / "report.html").read_text()
    for said in (
        "digits, 1 a class",
        "At the start",
        "After 2 iterations",
        "At the end",
        "Accuracy by iteration",
        "plane",
    ):
        assert said in page, said
    assert page.count("data:image/png;base64,") == 3
    assert "<script" not in page
    assert not (folder / "checkpoint.safetensors").exists()


def test_a_killed_one_goes_on_to_the_same_images_and_judges_nothing_twice(call, folder, tmp_path, monkeypatch):
    class Stop(BaseException):
        pass

    whole = Synthetic.load(folder / "synthetic.safetensors").images
    judged = []
    real = _run.evaluate
    monkeypatch.setattr(_run, "evaluate", lambda *a, **k: judged.append(1) or real(*a, **k))
    again = [*QUICK[:-1], "again"]
    save = Synthetic.save_grid

    def killed(self, path, **how):
        if path.name == "0000004.png":
            raise Stop
        return save(self, path, **how)

    monkeypatch.setattr(Synthetic, "save_grid", killed)
    with pytest.raises(Stop):
        CliRunner().invoke(app, ["condense", "digits", *again], catch_exceptions=False)
    assert len(judged) == 3
    monkeypatch.setattr(Synthetic, "save_grid", save)
    call("condense", "digits", *again)
    assert len(judged) == 4  # only the random images are left to judge
    assert torch.equal(Synthetic.load(tmp_path / "again" / "synthetic.safetensors").images, whole)


def test_the_same_command_again_changes_nothing_and_another_is_refused(call, folder):
    before = (folder / "synthetic.safetensors").read_bytes()
    call("condense", "digits", *QUICK)
    assert torch.equal(Synthetic.load(folder / "synthetic.safetensors").images, _images(before))
    told = call("condense", "digits", *QUICK, "--seed", "1", code=2)
    assert "begun with seed=0, now it is 1" in told.stderr
    assert call("report", str(folder)).stdout.strip().endswith("report.html")


def _images(data):
    from safetensors.torch import load

    return load(data)["images"]


@pytest.mark.parametrize("method", condense.METHODS)
def test_every_method_runs_from_the_command_line(call, method):
    own = {"cafe": ["--option", "outer_most=2", "--option", "inner_most=2", "--option", "query=4"],
           "idm": ["--option", "steps=1", "--option", "net_batch=8"]}.get(method, [])  # fmt: skip
    words = ["--method", method, "--iterations", "1", "--networks", "0", "--no-report", "--quiet", *own]
    told = call("condense", "digits", *QUICK, *words)
    assert "synthetic.safetensors" in told.stdout
    assert "accuracy" not in told.stdout
    assert told.stderr == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "dmm"), "no condenser is called 'dmm'. Did you mean 'dm'?"),
        (("--option", "speed=2"), "dm has no option 'speed'; its options are: "),
        (("--option", "checkpoint=x"), "--option checkpoint=... is not for the command line"),
        (("--augment", "blur"), "got 'blur'"),
        (("--model", "convnett"), "no model is called 'convnett'"),
        (("--per-class", "500"), "per_class=500 images begin from 500 real images of every class"),
        (("--model-option", "depth=5"), "a ConvNet of depth 5 halves the picture 5 times"),
    ],
    ids=["method", "option", "taken", "augment", "model", "per-class", "network"],
)
def test_what_cannot_be_is_told(call, words, told):
    assert told in call("condense", "digits", *QUICK, *words, code=2).stderr


def test_methods_lists_condensers(call):
    shown = call("methods", "--kind", "condenser").stdout
    for name in condense.METHODS:
        assert name in shown
    assert "distribution matching" in call("methods", "dm").stdout.lower()
