"""A working directory of its own for every test, and a way to call the command line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from datawinnow.bench import runner
from datawinnow.cli import app
from tests.bench.conftest import InProcess

QUICK = ("--model", "mlp", "--epochs", "2", "--precision", "fp32", "--threads", "1", "--quiet")
"""Recording in a fraction of a second, without the estimate."""
DUAL = ("--option", "window=2")
"""DUAL's window is 10 epochs unless told."""
GRID = """
name = "tiny"
methods = ["shorter_full", "random"]
keep = [0.5]
seeds = [0]
[data]
source = "digits"
limit = 100
[train]
model = "mlp"
epochs = 2
precision = "fp32"
"""
"""A benchmark of two cells in a second; its last table is that of the training, to be added to."""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATAWINNOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("DATAWINNOW_TRACEBACK", raising=False)


@pytest.fixture
def call():
    """``call("prune", "digits", code=0)``: a result with stdout and stderr, once it exited with that code."""

    def run(*words, code=0):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
        return result

    return run


@pytest.fixture
def in_process(monkeypatch):
    """`bench` runs its cells in this process: a worker process imports torch first."""
    monkeypatch.setattr(runner, "Workers", InProcess)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A run folder of digits, recorded and selected from; a test that writes to it copies it first."""
    run = tmp_path_factory.mktemp("recorded") / "digits"
    words = ["prune", "digits", "--keep", "0.3", "--run", str(run), "--no-report", *QUICK, *DUAL]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    return run
