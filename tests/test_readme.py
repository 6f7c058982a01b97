"""The README says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from datawinnow.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def methods_table() -> str:
    """What ``datawinnow methods --markdown`` prints for all but whole methods and scenarios, as one table."""
    parts = []
    for kind in ("score", "selector", "policy", "batch-selector"):
        answer = CliRunner().invoke(app, ["methods", "--kind", kind, "--markdown"])
        assert answer.exit_code == 0, answer.output
        lines = [line for line in answer.output.splitlines() if line.startswith("|")]
        parts += lines if not parts else lines[2:]
    return "\n".join(parts)


def test_the_table_of_methods_is_the_cards() -> None:
    found = re.search(r"<!-- methods[^>]*-->\n(.*?)\n<!-- /methods -->", README, re.DOTALL)
    assert found is not None
    assert found.group(1) == methods_table()


def test_it_is_under_200_lines() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("verb", re.findall(r"^\| `datawinnow (\w+)", README, re.MULTILINE))
def test_every_verb_of_the_table_is_there(verb: str) -> None:
    assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


def test_every_file_it_links_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
