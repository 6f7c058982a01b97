"""The map that `auto` chooses by is that of the rows beside it, and leaves out what is no result."""

import json
from pathlib import Path

import pytest

from datawinnow.bench.suite import read_suite
from tests.benchmarks.test_scripts import FOLDER

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return __import__("contest_map")


def test_the_map_in_the_package_is_made_from_the_rows_in_the_repository(script):
    assert script.text_of(script.KEPT) == script.MAP.read_text(encoding="utf-8")


def test_no_place_is_of_the_arena_that_tuned_and_every_gain_is_of_its_rows(script):
    found = json.loads(script.MAP.read_text(encoding="utf-8"))["places"]
    assert bool(found) == any(script.KEPT.glob("*/rows.jsonl"))
    grids = read_suite(ROOT / "benchmarks" / "contest.toml")
    about = {grid.about: name for name, grid in grids.items() if name != script.TUNING}
    for place in found:
        rows = [json.loads(line) for line in (script.KEPT / about[place["arena"]] / "rows.jsonl").open()]
        longest = grids[about[place["arena"]]].train.epochs
        keep = place["passes"] / longest
        of = {
            label: {r["seed"]: r["accuracy"] for r in rows if r["label"] == label and abs(r["keep"] - keep) < 1e-6}
            for label in (place["label"], "all the data, fewer epochs")
        }
        mine, reference = of.values()
        gains = [mine[seed] - reference[seed] for seed in mine if seed in reference]
        assert place["seeds"] == len(gains)
        assert place["gain"] == pytest.approx(sum(gains) / len(gains), abs=1e-5)
