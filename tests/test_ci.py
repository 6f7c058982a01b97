"""The rule that CI skips nothing, tried on a test that skips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRIAL = """
import pytest

def test_quiet():
    pytest.skip("no browser here")

@pytest.mark.gpu
def test_gpu():
    pytest.skip("no GPU here")
"""

STAND_IN = """
def get_num_threads():
    return 1

def set_num_threads(threads):
    pass
"""
"""What conftest.py uses of torch, which takes seconds to import."""


@pytest.mark.parametrize(("ci", "failed"), [("true", True), ("", False)])
def test_a_skip_fails_on_ci_only_and_never_for_a_gpu(ci: str, failed: bool, tmp_path: Path) -> None:
    (tmp_path / "test_trial.py").write_text(TRIAL)
    (tmp_path / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: x\n    slow: x\n")
    (tmp_path / "torch.py").write_text(STAND_IN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        timeout=120,
    )
    assert (done.returncode != 0) == failed, done.stdout
    assert ("1 failed, 1 skipped" in done.stdout) == failed
    assert ("2 skipped" in done.stdout) != failed
