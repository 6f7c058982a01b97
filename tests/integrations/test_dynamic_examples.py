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
