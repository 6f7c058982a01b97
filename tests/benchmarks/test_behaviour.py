"""Behaviour that is frozen is the same when it is frozen again, and what differs is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datawinnow.cli.app import VERB_NAMES
from datawinnow.methods import METHODS
from tests.benchmarks.test_scripts import FOLDER, load

PARTS = ("wrong", "show", "instruct", "python")


@pytest.fixture(scope="module")
def script():
    return load("behaviour")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The quick parts, frozen twice."""
    files = [tmp_path_factory.mktemp("frozen") / f"{name}.json" for name in ("before", "after")]
    for file in files:
        only = [word for name in PARTS for word in ("--only", name)]
        words = [sys.executable, str(FOLDER / "behaviour.py"), "--out", str(file), *only]
        done = subprocess.run(words, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.endswith("; 0 failed\n"), done.stdout
    return files


@pytest.mark.slow
def test_the_same_code_gives_the_same_to_the_last_bit(script, files, capsys):
    assert script.main(["--compare", *map(str, files)]) == 0
    assert capsys.readouterr().out.startswith("equal: ")


def test_what_differs_is_told_by_name(script, tmp_path, capsys):
    values = {"score dual": {"first": [0.5, float("nan")]}, "score aum": [1, 2], "wrong: no keep": 2}
    (tmp_path / "first.json").write_text(json.dumps(values))
    values["score dual"]["first"][0] += 1e-6
    values["a new one"] = 1
    del values["wrong: no keep"]
    (tmp_path / "other.json").write_text(json.dumps(values))
    words = ["--compare", str(tmp_path / "first.json"), str(tmp_path / "other.json")]
    assert script.main(words) == 1
    shown = capsys.readouterr().out
    assert "differs: score dual\n  before {" in shown
    assert "only after: a new one" in shown
    assert "only before: wrong: no keep" in shown
    assert shown.endswith(f"3 differ, of {len(values) + 1:,} values\n")
    assert script.main([*words, "--without", "score dual", "--without", "new one", "--without", "no keep"]) == 0


@pytest.mark.slow
def test_wrong_commands_end_with_code_2_and_nothing_else_fails(files):
    values = json.loads(files[0].read_text())
    assert {value for name, value in values.items() if name.startswith("wrong: ")} == {2}


@pytest.mark.slow
def test_nothing_in_it_is_of_one_run_or_names_an_option(files):
    text = files[0].read_text()
    for word in (str(Path.home()), "behaviour-", "seconds", "commit", " --"):
        assert word not in text, word


def test_every_verb_and_every_method_is_in_the_tables(script):
    tables = ("RECORDING", "PRUNING", "TRAINING", "PICTURES", "TEXTS", "CONDENSING", "INSTRUCT", "BENCH", "SHOWING")
    rows = [row for table in tables for row in getattr(script, table)]
    assert {words.split()[0] for _, words, _ in rows} == set(VERB_NAMES)
    assert set(script.METHODS) == set(METHODS)
    assert len({label for label, _, _ in rows}) == len(rows)


def test_a_command_that_fails_is_an_entry_and_the_others_go_on(script, monkeypatch):
    fine = ("fine", "methods --kind scenario --markdown", "second column")
    monkeypatch.setattr(script, "SHOWING", [("bad", "select nowhere --keep 0.3", ""), fine])
    values = script.freeze(["show"])
    assert "nowhere" in values["bad"]["failed"]
    assert "symmetric" in values["fine | second column"]
