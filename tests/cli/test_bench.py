"""``bench`` where training diverges: it goes on, says so, and ends well."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer import rich_utils

from datawinnow.bench import cells_of, grid, grid_file, read_grids
from datawinnow.cli.spelling import as_flags
from datawinnow.core.bars import ProgressDisplay
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
    assert f"  random, keep 0.5, seed 0, clean: {as_flags(rows[1]['failed'])}\n" in first.stdout
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
    # beside itself alone the reference is compared with nothing, so there is no page of all settings
    assert sorted(path.name for path in Path("r").iterdir()) == ["more"]
    assert Path("r/more/report.html").is_file()
    (row,) = [json.loads(line) for line in Path("r/more/rows.jsonl").read_text().splitlines()]
    assert (row["n"], row["passes"]) == (90, 90)


@pytest.fixture
def help_of_bench(call, monkeypatch):
    """What a terminal of 80 columns shows."""
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 80)
    return call("bench", "--help").stdout


@pytest.fixture
def file_of_help(help_of_bench):
    """The TOML in the help, as somebody would copy it."""
    path = Path("copied.toml")
    path.write_text(re.search(r"which runs as it stands:(.*?)All keys:", help_of_bench, re.DOTALL)[1])
    return path


def test_the_file_in_the_help_is_a_grid(help_of_bench, file_of_help):
    assert max(map(len, help_of_bench.splitlines())) <= 80
    name, grids = read_grids(file_of_help)
    assert (name, list(grids)) == ("my-grid", ["all", "few"])
    assert (grids["all"].keep, grids["few"].keep) == ([0.5, 0.2], [0.5])
    assert (grids["all"].data.limit, grids["few"].data.limit) == (None, 600)
    assert grids["all"].policy("often", 0.5).keep == 0.7
    assert {cell.scenario for cell in cells_of(grids["few"])} == {"clean", "symmetric 0.2"}


@pytest.mark.slow
def test_the_file_in_the_help_runs(call, file_of_help):
    call("bench", file_of_help, "--setting", "few", "--shrink", "12", "--out", "r", "--jobs", "1", "--no-report")
    rows = [json.loads(line) for line in Path("r/few/rows.jsonl").read_text().splitlines()]
    assert len(rows) == len(cells_of(read_grids(file_of_help)[1]["few"]))
    assert not any(row.get("failed") for row in rows)


def test_the_help_has_every_key_of_a_file(help_of_bench):
    keys = re.search(r"All keys:(.*?)Names of", help_of_bench, re.DOTALL)[1]
    blocks = dict(re.findall(r"^\s+(top|\[+\w+\]+)\s(.*?)(?=^\s+\[|\Z)", keys, re.DOTALL | re.MULTILINE))
    classes = {
        "[data]": grid.Data,
        "[train]": grid.Train,
        "[score]": grid.Scoring,
        "[[method]]": grid.MethodSpec,
        "[[setting]]": grid_file.Setting,
    }
    for block, spec in classes.items():
        assert set(spec.model_fields) - set(re.findall(r"\w+", blocks[block])) == set(), block
    tables = {block.strip("[]") for block in classes}
    assert set(grid_file.Suite.model_fields) - tables == set(re.findall(r"\w+", blocks["top"]))
