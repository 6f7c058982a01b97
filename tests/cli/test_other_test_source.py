"""``--test``: the test split from another source, in every verb that reads a dataset."""

from __future__ import annotations

import json

import numpy as np
import pytest

import datawinnow as dw

QUICK = ("--model", "mlp", "--epochs", "2", "--precision", "fp32", "--threads", "1")


@pytest.fixture
def two_sources(tmp_path):
    """Digits with their names in an .npz each: 400 to train on, 90 to test on, of which 3 are in both."""
    train, _ = dw.load("digits")
    names = np.array([f"digit {int(y)}" for y in train.labels])
    x = train.x[:, 0].numpy()
    np.savez(tmp_path / "a.npz", x=x[:400], y=names[:400])
    rows = np.r_[5, 6, 7, 400:487]
    np.savez(tmp_path / "b.npz", x=x[rows], y=names[rows])


def test_an_audit_finds_leakage_from_another_source_and_a_run_keeps_it(call, two_sources, tmp_path):
    shown = call("audit", "a.npz", "--test", "b.npz", *QUICK, "--run", "run", "--no-report")
    assert " in 400 train and 90 test examples" in shown.stdout.splitlines()[0]
    issues = dw.audit(tmp_path / "run").issues
    assert {row.id for row in issues.of_kind("leakage").rows if row.split == "train"} == {"5", "6", "7"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["load"]["test"] == str(tmp_path / "b.npz")
    assert str(tmp_path / "b.npz") in shown.stderr
    written = call("audit", "run", "--apply", "cleaned", "--no-report")
    assert f"next: datawinnow train cleaned --test {tmp_path / 'b.npz'}" in written.stderr
    call("estimate", "a.npz", "--test", "b.npz", "--keep", "0.5")


def test_a_training_is_tested_on_another_source(call, two_sources, tmp_path):
    call("train", "a.npz", "--test", "b.npz", *QUICK, "--run", "trained")
    trained = json.loads((tmp_path / "trained" / "run.json").read_text())
    assert trained["dataset"]["n"] == 400
    call(
        "prune",
        "a.npz",
        "--test",
        "b.npz",
        "--keep",
        "0.5",
        "--method",
        "el2n",
        *QUICK,
        "--run",
        "pruned",
        "--no-report",
    )
    # the selection says how its data were read
    call("train", "a.npz", "--select", "pruned", *QUICK, "--run", "on-kept")
    assert json.loads((tmp_path / "on-kept" / "run.json").read_text())["dataset"]["n"] == 400


def test_options_that_exclude_each_other_are_named_as_flags(call, two_sources):
    shown = call("train", "a.npz", "--test", "b.npz", "--holdout", "0.1", *QUICK, code=2)
    assert "--test" in shown.stderr
    assert "leave --holdout out" in shown.stderr
