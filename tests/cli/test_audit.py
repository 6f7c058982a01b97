"""``datawinnow audit``: counts first, the worst of each kind, files, and the next command."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import datawinnow as dw
from datawinnow.core.decisions import read_decisions
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
    assert again.stdout.splitlines()[:-1] == lines[:-1]
    assert again.stderr == ""
    python = dw.audit(tmp_path / "run")
    assert python.issues == table


def test_a_rate_that_was_assumed_is_not_printed_as_an_estimate(call, tmp_path):
    # no recording tells the labels of noise apart
    x = torch.randn(120, 8, generator=stream(0, "noise"))
    np.savez(tmp_path / "random.npz", x=x.numpy(), y=np.arange(120) % 2)
    shown = call("audit", "random.npz", "--model", "mlp", "--epochs", "6", "--run", "run", "--quiet").stdout
    assert not read_issues(tmp_path / "run")[1]["label_errors"]["is_separated"]
    assert "cannot be estimated" in shown
    assert "% of the labels" not in shown
    again = dw.audit(tmp_path / "run")
    assert again.counts()["never_learned"] > 1
    assert any(
        f"the {again.counts()['never_learned']} examples that were never learned" in note for note in again.notes
    )
    refused = call("audit", "run", "--decisions", "run/decisions.csv", code=2).stderr
    assert "--decisions needs --apply" in refused


def test_decisions_are_suggested_applied_and_taken_by_other_verbs(call, noisy, tmp_path):
    path, _ = noisy
    shown = call("audit", path, *QUICK_RECORDING, *LEARNING, "--run", "run")
    assert "--decisions run/decisions.csv --apply cleaned/" in shown.stderr
    counts = read_decisions(tmp_path / "run" / "decisions.csv").counts()
    assert counts["relabel"] + counts["drop"] > 10
    words = f"{counts['drop']:,} dropped, {counts['relabel']:,} relabelled"
    written = call("audit", "run", "--decisions", "run/decisions.csv", "--apply", "cleaned")
    assert words in written.stdout
    train, _ = dw.load(tmp_path / "cleaned")
    assert len(train) == 480 - counts["drop"]
    trained = call("train", path, "--decisions", "run/decisions.csv", *QUICK_RECORDING[:-2], "--run", "trained")
    assert f"decisions: {words}" in trained.stderr
    assert dw.RunFolder.open(tmp_path / "trained").n == len(train)
    assert "not an empty folder" in call("audit", "run", "--apply", "cleaned", code=2).stderr
    (tmp_path / "wrong.csv").write_text("id,action\n99999,drop\n")
    refused = call("train", path, "--decisions", "wrong.csv", "--run", "other", code=2).stderr
    assert "'99999'" in refused
    assert "--limit" in refused


def test_what_is_no_data_and_no_run_is_an_error(call, tmp_path):
    assert "no such file" in call("audit", "nothing", code=2).stderr
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    assert "run.json" in call("audit", "run", code=2).stderr


def test_prune_clean_says_its_order(call, noisy, tmp_path):
    path, _ = noisy
    shown = call("prune", path, "--keep", "0.4", "--clean", *QUICK_RECORDING, *LEARNING, "--run", "run", "--no-report")
    left_out, then = (line for line in shown.stderr.splitlines() if line.startswith("clean: "))
    assert "likely wrong label" in left_out
    assert "coverage" in then
    selected = dw.read_selection(tmp_path / "run")[0]
    assert len(selected) == 192
    assert int((selected.reason == 12).sum()) > 10
