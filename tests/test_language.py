"""Names say what a value is, mean one thing each, and references go to papers."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "datawinnow"
FILES = [f for folder in (SOURCE, ROOT / "tests", ROOT / "benchmarks", ROOT / "examples") for f in folder.rglob("*.py")]

NOT_NAMES = frozenset(
    """asked begun beyond facts found given going here how known least looking made more most others own part parts said
    says some tell tells there told wanted way what which whole whose""".split()  # noqa: SIM905
)
"""Pronouns, participles and the like: they tell a word's role in a sentence, not what the value is."""
PUBLIC = {"most": {"condense/idm.py", "condense/published_settings.py"}}
"""Public parameters that keep such a name, with the files that declare them."""
SHARED = {
    "CAPTIONS accuracy_cost accuracy_keep changed_keep": "two renderings behind one interface (report.plots)",
    "deepfool": "the distance (probe) and the score (scores); both are public",
    "METHODS": "registries of the policies (dynamic) and of the static methods (methods)",
    "evaluate": "of a network (train) and of a synthetic set (condense); both are public",
}
"""Top-level names that two modules define, and why."""
NOTES = re.compile(r"\b(static|dynamic|condense|schedules|more|design|house|ecosystem|style)\.md|issue \[\d|LOG\.md")


def stored_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) of each variable, parameter, attribute, function and class that a module binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def words_that_are_no_names(source: str, file: str = "") -> list[str]:
    """``file:line name`` of the names in a module that say nothing of their value."""
    return [
        f"{file}:{line} {name}"
        for name, line in stored_names(ast.parse(source))
        if name.strip("_") in NOT_NAMES and file not in PUBLIC.get(name, set())
    ]


def top_level_names(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and constants of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def names_with_two_homes(files: list[Path], root: Path) -> dict[str, list[str]]:
    """Top-level names that more than one module defines; a verb's command and its function in ``api`` are one thing."""
    homes = defaultdict(list)
    for file in files:
        if file.name == "__init__.py":
            continue
        for name in top_level_names(ast.parse(file.read_text(encoding="utf-8"))):
            homes[name].append(str(file.relative_to(root)))
    allowed = {name for names in SHARED for name in names.split()} | {"__all__"}
    return {
        name: where
        for name, where in sorted(homes.items())
        if len(set(where)) > 1 and name not in allowed and set(where) != {f"api/{name}.py", f"cli/{name}.py"}
    }


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "examples"])
def test_names_say_what_the_value_is(folder: str) -> None:
    wrong: list[str] = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        short = str(file.relative_to(SOURCE if folder == "src" else ROOT))
        wrong += words_that_are_no_names(file.read_text(encoding="utf-8"), short)
    assert wrong == []


def test_a_top_level_name_has_one_meaning() -> None:
    assert names_with_two_homes(sorted(SOURCE.rglob("*.py")), SOURCE) == {}


def test_references_go_to_papers_and_not_to_notes() -> None:
    assert [
        f"{file.relative_to(SOURCE)}:{number}"
        for file in sorted(SOURCE.rglob("*.py"))
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if NOTES.search(line)
    ] == []


def test_planted_names_are_seen(tmp_path: Path) -> None:
    assert sorted(words_that_are_no_names("def f(how):\n    self._told = found = 1\n", "a.py")) == [
        "a.py:1 how",
        "a.py:2 _told",
        "a.py:2 found",
    ]
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("LIMIT = 1\ndef read(): pass\n")
    assert set(names_with_two_homes(sorted(tmp_path.glob("*.py")), tmp_path)) == {"LIMIT", "read"}
