"""``datawinnow audit``: counts first, the worst of each kind, files, and the next command."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import datawinnow as dw
from datawinnow.core.issues import read_issues
from datawinnow.core.rng import stream

QUICK_RECORDING = ("--model", "mlp", "--epochs", "25", "--precision", "fp32", "--threads", "1", "--batch", "64")
LEARNING = ("--lr", "0.05")


@pytest.fixture
def noisy(tmp_path):
    """A .npz of digits of which a tenth is mislabelled."""
    train, _ = dw.load("digits", limit=600)
    _, labels, wrong = dw.scenarios.symmetric(None, train.labels, rate=0.1, generator=stream(0, "noise"))
    noisy = replace(train, labels=labels)
    np.savez(tmp_path / "noisy.npz", x=noisy.x[:, 0].numpy(), y=labels.numpy())
    return tmp_path / "noisy.npz", wrong


def test_it_prints_counts_then_rows_and_gives_the_same_as_python(call, noisy, tmp_path):
    path, _ = noisy
    shown = call("audit", path, *QUICK_RECORDING, *LEARNING, "--run", "run", "--csv")
    lines = shown.stdout.splitlines()
    table, metadata = read_issues(tmp_path / "run")
    assert lines[0].startswith(f"{len(table):,} issues in 480 train and 120 test examples")
    assert f"{metadata['counts']['label']:,}: " in next(line for line in lines if line.strip().startswith("label"))
    first = table.of_kind("label").rows[0]
    at = lines.index("label:")
    assert f"{first.id} ({first.label}) {first.severity:.2f}: {first.evidence} -> {first.action}" in lines[at + 1]
    assert len(lines) < 60
    assert (tmp_path / "run" / "issues.csv").exists()
    assert "next: datawinnow " in shown.stderr
    again = call("audit", "run", "--quiet")
    assert again.stdout.splitlines()[:-2] == lines[:-2]
    assert again.stderr == ""
    python = dw.audit(tmp_path / "run")
    assert python.issues == table


def test_what_is_no_data_and_no_run_is_an_error(call, tmp_path):
    assert "no such file" in call("audit", "nothing", code=2).stderr
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    assert "run.json" in call("audit", "run", code=2).stderr
