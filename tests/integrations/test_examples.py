"""The scripts for each framework run against the real package; their length is held by tests/test_examples."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("dynamic_plain.py", "passed 75% of the examples an epoch; accuracy "),
        ("dynamic_lightning.py", "passed 75% of the examples an epoch, in 35 steps"),
        ("dynamic_transformers.py", "passed 49% of the examples an epoch, in 22 steps"),
        ("dynamic_accelerate.py", "passed 75% of the examples an epoch"),
        # 46 steps: 60% of them at half the side
        ("sizes_plain.py", "passed 54% of the pixels; accuracy "),
        ("sizes_lightning.py", "steps by size: {4: 28, 8: 18}"),
        ("sizes_transformers.py", "steps by length: {8: 3, 12: 3, 16: 3, 20: 3, 24: 8}"),
    ],
)
def test_the_example_runs(
    script: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: starting Python and importing the frameworks anew takes longer than all the rest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, "2"])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert sentence in capsys.readouterr().out
