"""Every example script runs, is short, and says what it did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    ("script", "says"),
    [("prune_digits.py", "trained on 431 of 1438 examples"), ("own_loop.py", "kept 431 of 1438")],
)
def test_the_example_runs(script: str, says: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), "2"], capture_output=True, text=True, cwd=tmp_path, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert says in done.stdout


def test_a_network_of_ones_own_is_found_by_module_and_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from datawinnow.models import build

    monkeypatch.syspath_prepend(str(EXAMPLES.parent))
    built = build("examples.your_network:network", shape=(1, 8, 8), classes=10)
    assert sum(p.numel() for p in built.parameters()) == (9 * 32 + 32) + (32 * 16 * 10 + 10)


def test_every_example_is_under_40_lines() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert scripts
    assert {s.name: len(s.read_text().splitlines()) for s in scripts if len(s.read_text().splitlines()) > 40} == {}
