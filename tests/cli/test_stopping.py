"""Ctrl-C and SIGTERM: the right exit code, and a run that goes on to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from datawinnow.cli import app
from datawinnow.cli.verb import Terminated, report_errors, terminate_cleanly
from datawinnow.core.bars import ProgressDisplay
from tests.cli.conftest import DUAL
from tests.runs.killing import content

PRUNE = ("prune", "digits", "--keep", "0.3", "--no-report", *DUAL)
TRAIN = ("train", "digits")


def options(epochs: int) -> tuple[str, ...]:
    """Of a training of 25 steps an epoch."""
    quick = ("--model", "mlp", "--precision", "fp32", "--threads", "1", "--quiet", "--limit", "400", "--batch", "16")
    return (*quick, "--epochs", str(epochs))


def stop_this_process(words, number: int, monkeypatch) -> tuple[int, str, str]:
    """Send this process ``number`` in the fifth epoch of the command; its exit code, stdout and stderr."""
    sent = []

    def progress(display, stage, done, total):
        if done == 110 and not sent:
            sent.append(done)
            signal.raise_signal(number)

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
    terminate_cleanly()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(ProgressDisplay, "__call__", progress)
            result = CliRunner().invoke(app, list(words))
    finally:
        for n, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(n, handler)
    assert sent
    return result.exit_code, result.stdout, result.stderr


def stop_a_process(words, number: int, ready) -> tuple[int, str, str]:
    """Send a process that runs the command ``number`` once ``ready()``; its exit code, stdout and stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "datawinnow", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # a test run in the background has SIGINT ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for _ in range(6000):
            if ready() or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, stdout, stderr


in_a_process = pytest.mark.parametrize(
    "in_a_process", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["this process", "a process"]
)


@in_a_process
def test_ctrl_c_exits_130_and_the_same_command_goes_on_to_the_same_bytes(call, monkeypatch, in_a_process):
    words = (*PRUNE, *options(epochs=40 if in_a_process else 6))
    if in_a_process:
        ended = stop_a_process(words, signal.SIGINT, Path("runs/digits/signals/epoch-0004.npz").exists)
    else:
        ended = stop_this_process(words, signal.SIGINT, monkeypatch)
    code, stdout, stderr = ended
    assert (code, stdout) == (130, ""), stderr
    assert stderr.endswith("interrupted; run the same command again to resume\n")
    assert "Traceback" not in stderr
    assert not Path("runs/digits/selection.parquet").exists()
    before = pq.read_table("runs/digits/history.parquet").to_pydict()["seconds"]
    call(*words)
    after = pq.read_table("runs/digits/history.parquet").to_pydict()["seconds"]
    assert (len(before) >= 3, len(after)) == (True, 40 if in_a_process else 6)
    assert after[: len(before)] == before, "it went on; it did not start over"
    call(*words, "--run", "runs/unbroken")
    for name in ("selection.parquet", "signals/p_label.npy", "signals/margin.npy", "model.safetensors"):
        assert content(Path("runs/digits", name)) == content(Path("runs/unbroken", name)), name


@in_a_process
def test_sigterm_exits_143_and_training_goes_on(call, monkeypatch, in_a_process):
    words = (*TRAIN, *options(epochs=40 if in_a_process else 6))
    if in_a_process:
        code, _, stderr = stop_a_process(words, signal.SIGTERM, Path("runs/digits-full/history.parquet").exists)
    else:
        code, _, stderr = stop_this_process(words, signal.SIGTERM, monkeypatch)
    assert code == 143, stderr
    assert stderr.endswith("terminated; run the same command again to resume\n")
    assert Path("runs/digits-full/history.parquet").exists()
    assert not Path("runs/digits-full/model.safetensors").exists()
    resumed = call(*words)
    unbroken = call(*words, "--run", "runs/unbroken")
    assert resumed.stdout.splitlines()[0] == unbroken.stdout.splitlines()[0]
    files = [Path(run, "model.safetensors") for run in ("runs/digits-full", "runs/unbroken")]
    assert content(files[0]) == content(files[1])


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to resume"),
        (Terminated(), 143, "terminated; run the same command again"),
        (MemoryError(), 2, "out of memory; try a smaller --batch"),
    ],
    ids=["ctrl-c", "sigterm", "memory"],
)
def test_ways_to_end(capsys, error, code, words):
    import typer

    with pytest.raises(typer.Exit) as ended, report_errors():
        raise error
    assert ended.value.exit_code == code
    assert words in capsys.readouterr().err


def test_progress_of_a_log_has_no_escape_codes(call):
    result = call("record", "digits", "--model", "mlp", "--epochs", "2", "--precision", "fp32", "--limit", "50")
    assert "\x1b" not in result.stdout + result.stderr
    assert "recording: done in" in result.stderr
