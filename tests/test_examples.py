"""Every example script runs, is short, and says what it did."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("prune_digits.py", "trained on 431 of 1438 examples"),
        ("own_loop.py", "kept 431 of 1438"),
        # against the real packages
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


def test_a_network_of_ones_own_is_found_by_module_and_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from datawinnow.models import build

    monkeypatch.syspath_prepend(str(EXAMPLES.parent))
    built = build("examples.your_network:network", shape=(1, 8, 8), classes=10)
    assert sum(p.numel() for p in built.parameters()) == (9 * 32 + 32) + (32 * 16 * 10 + 10)


def test_every_example_is_under_40_lines() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert scripts
    assert {s.name: len(s.read_text().splitlines()) for s in scripts if len(s.read_text().splitlines()) > 40} == {}
