"""Behaviour that is frozen is the same when it is frozen again, and what differs is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from datawinnow.cli.app import VERBS
from datawinnow.methods import METHODS
from tests.benchmarks.test_scripts import FOLDER, load

PARTS = ("wrong", "show", "instruct", "python")


@pytest.fixture(scope="module")
def script():
    return load("behaviour")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The quick parts, frozen twice."""
    made = [tmp_path_factory.mktemp("frozen") / f"{name}.json" for name in ("before", "after")]
    for file in made:
        only = [word for part in PARTS for word in ("--only", part)]
        words = [sys.executable, str(FOLDER / "behaviour.py"), "--out", str(file), *only]
        done = subprocess.run(words, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.endswith("; 0 failed\n"), done.stdout
    return made


def test_the_same_code_gives_the_same_to_the_last_bit(script, files, capsys):
    assert script.main(["--compare", *map(str, files)]) == 0
    assert capsys.readouterr().out.startswith("equal: ")


def test_what_differs_is_told_by_name(script, files, tmp_path, capsys):
    found = json.loads(files[0].read_text())
    found["score dual"]["first"][0] += 1e-6
    found["a new one"] = 1
    del found["wrong: no keep"]
    (tmp_path / "other.json").write_text(json.dumps(found))
    words = ["--compare", str(files[0]), str(tmp_path / "other.json")]
    assert script.main(words) == 1
    shown = capsys.readouterr().out
    assert "differs: score dual\n  before {" in shown
    assert "only after: a new one" in shown
    assert "only before: wrong: no keep" in shown
    assert shown.endswith(f"3 differ, of {len(found) + 1:,} values\n")
    assert script.main([*words, "--without", "score dual", "--without", "new one", "--without", "no keep"]) == 0


def test_wrong_commands_end_with_code_2_and_nothing_else_fails(files):
    found = json.loads(files[0].read_text())
    assert {value for name, value in found.items() if name.startswith("wrong: ")} == {2}


def test_nothing_in_it_is_of_one_run_or_names_an_option(files):
    text = files[0].read_text()
    for word in (str(Path.home()), "behaviour-", "seconds", "commit", " --"):
        assert word not in text, word


def test_every_verb_and_every_method_is_in_the_tables(script):
    tables = ("RECORDING", "PRUNING", "TRAINING", "PICTURES", "TEXTS", "CONDENSING", "INSTRUCT", "BENCH", "SHOWING")
    rows = [row for table in tables for row in getattr(script, table)]
    assert {words.split()[0] for _, words, _ in rows} == {verb.__name__ for verbs in VERBS.values() for verb in verbs}
    assert set(script.METHODS) == set(METHODS)
    assert len({label for label, _, _ in rows}) == len(rows)


def test_a_command_that_fails_is_an_entry_and_the_others_go_on(script, monkeypatch):
    fine = ("fine", "methods --kind scenario --markdown", "second column")
    monkeypatch.setattr(script, "SHOWING", [("bad", "select nowhere --keep 0.3", ""), fine])
    found = script.freeze(["show"])
    assert "nowhere" in found["bad"]["failed"]
    assert "symmetric" in found["fine | second column"]
