"""``bench`` where training diverges: it goes on, says so, and ends well."""

from __future__ import annotations

import json
from pathlib import Path

from datawinnow.cli.ui import ProgressDisplay
from tests.cli.conftest import GRID

DIVERGING = GRID.replace("epochs = 2", "epochs = 4") + "batch = 10\nlr = 1e6\nweight_decay = 0.01\n"


def test_what_diverged_is_told_with_what_to_do_and_is_not_run_again(call, monkeypatch, in_process):
    details: list[str] = []
    monkeypatch.setattr(ProgressDisplay, "detail", lambda stage, text: details.append(text))
    Path("tiny.toml").write_text(DIVERGING)
    first = call("bench", "tiny.toml", "--jobs", "1", "--threads", "1", "--quiet")
    rows = [json.loads(line) for line in Path("results/tiny/rows.jsonl").read_text().splitlines()]
    assert [row["accuracy"] for row in rows] == [None, None]
    assert "training diverged in 2 cells:" in first.stdout
    assert f"  random, keep 0.5, seed 0, clean: {rows[1]['failed']}\n" in first.stdout
    assert "does not run them again: remove their lines from results/tiny/rows.jsonl for that" in first.stdout
    assert first.stdout.count("0 of 1 seed; 1 diverged") == 2
    assert details[1] == f"random keep 0.5 seed 0 clean: failed: {rows[1]['failed']}"
    before = Path("results/tiny/rows.jsonl").read_bytes()
    again = call("bench", "tiny.toml", "--jobs", "1", "--threads", "1")
    assert again.stdout == first.stdout
    assert Path("results/tiny/rows.jsonl").read_bytes() == before


def test_a_setting_of_many_is_run_into_a_folder_of_its_own(call, tmp_path, in_process):
    settings = "".join(
        f'[[setting]]\nname = "{name}"\npasses = [1]\ndata = {{ source = "digits", limit = {n} }}\ntrain = {{}}\n'
        for name, n in (("few", 60), ("more", 90))
    )
    head = 'name = "two"\nmethods = ["shorter_full"]\nseeds = [0]\n[train]\nmodel = "mlp"\n'
    (tmp_path / "suite.toml").write_text(head + settings)
    shown = call("bench", str(tmp_path / "suite.toml"), "--setting", "none", code=2).stderr
    assert "--setting none: the file has no such setting. There are: few, more" in " ".join(shown.split())
    call("bench", str(tmp_path / "suite.toml"), "--setting", "more", "--out", "r", "--jobs", "1")
    assert sorted(path.name for path in Path("r").iterdir()) == ["more", "report.html"]
    (row,) = [json.loads(line) for line in Path("r/more/rows.jsonl").read_text().splitlines()]
    assert (row["n"], row["passes"]) == (90, 90)
