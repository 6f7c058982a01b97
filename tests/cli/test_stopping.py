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

from datawinnow.cli.verb import Terminated, report_errors
from tests.cli.conftest import DUAL
from tests.runs.killing import content

LONG = ("--model", "mlp", "--epochs", "40", "--precision", "fp32", "--threads", "1", "--quiet", "--limit", "400")
SLOW = ("--batch", "16")
PRUNE = ("prune", "digits", "--keep", "0.3", "--no-report", *LONG, *SLOW, *DUAL)


def stopped(words, number: int, ready) -> subprocess.CompletedProcess[str]:
    """Run the command, send it ``number`` once ``ready()``, and wait for its end."""
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
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def test_ctrl_c_exits_130_and_the_same_command_goes_on_to_the_same_bytes(call):
    done = stopped(PRUNE, signal.SIGINT, Path("runs/digits/signals/epoch-0004.npz").exists)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert done.stderr.endswith("interrupted; run the same command again to resume\n")
    assert "Traceback" not in done.stderr
    assert not Path("runs/digits/selection.parquet").exists()
    before = pq.read_table("runs/digits/history.parquet").to_pydict()["seconds"]
    call(*PRUNE)
    after = pq.read_table("runs/digits/history.parquet").to_pydict()["seconds"]
    assert (len(before) >= 3, len(after)) == (True, 40)
    assert after[: len(before)] == before, "it went on; it did not start over"
    call(*PRUNE, "--run", "runs/whole")
    for name in ("selection.parquet", "signals/p_label.npy", "signals/margin.npy", "model.safetensors"):
        assert content(Path("runs/digits", name)) == content(Path("runs/whole", name)), name


def test_sigterm_exits_143_and_training_goes_on(call):
    words = ("train", "digits", *LONG, *SLOW)
    history = Path("runs/digits-full/history.parquet")
    done = stopped(words, signal.SIGTERM, history.exists)
    assert done.returncode == 143, done.stderr
    assert done.stderr.endswith("terminated; run the same command again to resume\n")
    assert not Path("runs/digits-full/model.safetensors").exists()
    resumed = call(*words)
    whole = call(*words, "--run", "runs/whole")
    assert resumed.stdout.splitlines()[0] == whole.stdout.splitlines()[0]
    files = [Path(run, "model.safetensors") for run in ("runs/digits-full", "runs/whole")]
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
