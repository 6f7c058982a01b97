"""The README and docs/ say what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from datawinnow.cli.app import VERB_NAMES, app
from datawinnow.data import cache

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def load_script(file: Path) -> ModuleType:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_methods_is_generated_from_the_cards() -> None:
    script = load_script(ROOT / "docs" / "generate.py")
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run: python docs/generate.py"


def test_the_page_of_results_is_generated_from_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = load_script(ROOT / "benchmarks" / "results_tables.py")
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run: python benchmarks/results_tables.py"


def test_the_readme_is_at_most_100_lines() -> None:
    assert len(README.splitlines()) <= 100


def test_the_readme_names_every_verb_and_each_has_help() -> None:
    named = re.findall(r"^\| `datawinnow (\w+)", README, re.MULTILINE)
    assert sorted(named) == sorted(VERB_NAMES)
    for verb in named:
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_linked_file_is_there(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_file_that_contributing_names_is_there() -> None:
    """Except those to be written, whose names have a part in capitals (`tests/scores/test_NAME.py`)."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w./]+/\w+\.(?:py|toml|md))`", text) if not re.search("NAME|VERB", name)}
    assert len(named) > 20
    folders = (ROOT, ROOT / "src" / "datawinnow")
    assert [name for name in sorted(named) if not any((folder / name).exists() for folder in folders)] == []


def test_every_environment_variable_is_in_the_readme() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py")]
    variables = {name for text in sources for name in re.findall(r"\"\$?(DATAWINNOW_\w+)", text)}
    assert {"DATAWINNOW_CACHE", "DATAWINNOW_CACHE_GB", "DATAWINNOW_TRACEBACK"} <= variables
    documented = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [name for name in sorted(variables) if f"`{name}" not in documented] == []
    assert f"{cache.GIGABYTES:g} GB" in README


def test_the_options_in_the_readme_exist() -> None:
    """Each command of the README is understood up to its options."""
    for verb, words in re.findall(r"`datawinnow (\w+)([^`\n]*)`", README):
        help_text = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
        for option in re.findall(r"--[a-z-]+", words):
            assert option in help_text, (verb, option)


def python_blocks() -> list[tuple[str, str]]:
    """(page, code) of each Python block in docs/."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    blocks = [
        (page.name, re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)) for page in pages
    ]
    return [(name, code) for name, codes in blocks for code in codes]


@pytest.mark.parametrize(("page", "code"), python_blocks())
def test_the_python_of_docs_runs(page: str, code: str) -> None:
    names: dict[str, object] = {}
    exec(compile(code, page, "exec"), names)
    assert "dw" in names


def test_the_options_in_docs_exist() -> None:
    """Each command in a block of docs/ is understood up to its options."""
    commands = []
    for page in (ROOT / "docs").glob("*.md"):
        for block in re.findall(r"```\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            commands += re.findall(r"^datawinnow (\w+)(.*)$", block, re.MULTILINE)
    assert len(commands) >= 5
    for verb, words in commands:
        help_text = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output
        assert [option for option in re.findall(r"--[a-z-]+", words) if option not in help_text] == [], verb
