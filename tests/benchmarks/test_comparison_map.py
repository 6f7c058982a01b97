"""The map that `auto` chooses by is that of the rows beside it, and leaves out what is no result."""

import itertools
import json
import sys
from pathlib import Path

import pytest

import datawinnow.dynamic  # noqa: F401
from datawinnow.bench.grid_file import read_suite
from datawinnow.dynamic.sampler.resume import policy_repr
from tests.benchmarks.test_scripts import FOLDER

ROOT = Path(__file__).parent.parent.parent
module = sys.modules["datawinnow.dynamic.auto"]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return __import__("comparison_map")


def test_the_map_in_the_package_is_made_from_the_rows_in_the_repository(script):
    assert script.map_text(script.KEPT) == script.MAP.read_text(encoding="utf-8")
    assert script.map_image(script.KEPT) == script.IMAGE.read_text(encoding="utf-8")


def test_the_table_of_the_results_page_is_of_those_rows(script):
    text = script.PAGE.read_text(encoding="utf-8")
    assert f"{script.START}\n{script.results_table(script.KEPT)}\n{script.END}" in text


def line(method, passes, seed, accuracy, *, label=None, longest=60, scenario="clean", n=10_000):
    """A row of a setting."""
    none = {"seconds": 0.0, "forward": 0, "backward": 0, "flops": 0.0}
    spent = {**none, "backward": passes * n}
    return {
        "format": 1, "benchmark": "comparison", "dataset": "x", "fingerprint": "0" * 16, "n": n, "test_n": 100,
        "model": "resnet8", "epochs": longest, "method": method, "label": label or method, "keep": passes / longest,
        "seed": seed, "scenario": scenario, "trained_epochs": passes, "accuracy": accuracy, "test_loss": 1.0,
        "changed_kept": None, "cost": {"score": none, "select": none, "train": spent}, "passes": passes * n,
        "total_passes": passes * n, "device": "cpu", "threads": 1, "versions": {}, "commit": "", "finished": "",
    }  # fmt: skip


def setting(folder, name, gains, *, longest=60, scenario="clean", seeds=range(5)):
    """Rows in which methods gain so much, by passes and method."""
    lines = []
    for passes, by_method in gains.items():
        for seed in seeds:
            changes = {"longest": longest, "scenario": scenario}
            lines.append(line("shorter_full", passes, seed, 0.7 + seed / 100, **changes))
            for method, gain in by_method.items():
                lines.append(line(method, passes, seed, 0.7 + seed / 100 + gain + (seed % 2) / 1000, **changes))
    (folder / name).mkdir(parents=True)
    (folder / name / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def test_from_rows_to_advice(script, tmp_path, monkeypatch):
    won = {
        "ucb_7": 0.02,
        "ucb_7_lr_8": 0.07,
        "focal_1": 0.05,
        "replay_again": 0.06,
        "replay": 0.06,
        "half_by_proxy": 0.06,
    }
    setting(tmp_path, "cifar10", {15: won, 60: {"ucb_7": -0.02, "ucb_7_every_5": -0.001}})
    setting(tmp_path, "tuning", {30: {"ucb_7": 0.2, "ucb_7_lr_8": 0.2}}, longest=30)
    setting(tmp_path, "sst2_tuning", {10: {"ucb_7": 0.2}}, longest=10)
    setting(tmp_path, "cifar10_noise", {30: {"ucb_7_guarded": 0.03}}, longest=30, scenario="symmetric 0.2")
    settings = json.loads(script.map_text(tmp_path))["settings"]
    assert {(one["label"], one["passes"], one["noisy"]) for one in settings} == {
        ("ucb_7", 15, False),
        ("ucb_7", 60, False),
        ("ucb_7_every_5", 60, False),
        ("ucb_7_guarded", 30, True),
    }
    assert settings[0]["gain"] == pytest.approx(0.0204)
    measured = tuple(module.MeasuredSetting(**{**one, "wrap": tuple(one["wrap"])}) for one in settings)
    monkeypatch.setattr(module, "load_benchmarks", lambda: measured)
    assert policy_repr(module.recommend(10_000, passes=15).policy).startswith("UCB(keep=0.7, period=1")
    long = module.recommend(10_000, passes=60)
    assert long.policy is None
    assert long.why.startswith("all the data for 60 epochs: no policy beat it on CIFAR-10, 10,000 images")
    noisy = module.recommend(10_000, passes=30, noisy=True).policy
    assert policy_repr(noisy).startswith("Guarded(policy=UCB(keep=0.7, period=1")


def test_small_inputs_first_are_candidates_at_every_size(script, tmp_path, monkeypatch):
    setting(tmp_path, "cifar10_15", {15: {"ucb_7": 0.02, "views": 0.03, "views_ucb_7": 0.05}}, longest=15)
    settings = json.loads(script.map_text(tmp_path))["settings"]
    assert [(one["policy"], one.get("size_schedule")) for one in settings] == [
        ("ucb", None), ("", {"start": 0.5}), ("ucb", {"start": 0.5}),
    ]  # fmt: skip
    measured = tuple(module.MeasuredSetting(**{**one, "wrap": tuple(one["wrap"])}) for one in settings)
    monkeypatch.setattr(module, "load_benchmarks", lambda: measured)
    advice = module.recommend(10_000, passes=15, classes=10, channels=3, size=64, size_schedules=True)
    assert advice.size_schedule == {"start": 0.5}
    assert policy_repr(advice.policy).startswith("UCB(keep=0.7")
    assert module.recommend(10_000, passes=15, classes=10, channels=3, size=64).size_schedule is None


def test_a_policy_counts_by_its_confirmation_and_not_by_the_trial_that_it_won(script, tmp_path):
    setting(tmp_path, "cifar10", {30: {"ucb_7": 0.05, "ucb_8": 0.02}, 60: {"ucb_7": 0.04}})
    setting(tmp_path, "cifar10_again", {30: {"ucb_7": 0.01}})
    settings = [(one["label"], one["passes"], one["gain"]) for one in json.loads(script.map_text(tmp_path))["settings"]]
    assert sorted(settings) == [("ucb_7", 30, 0.0104), ("ucb_7", 60, 0.0404), ("ucb_8", 30, 0.0204)]


def test_auto_hands_out_the_policy_that_the_comparison_ran(monkeypatch):
    monkeypatch.setenv("DATAWINNOW_DATA", "/nowhere")
    grid = read_suite(ROOT / "benchmarks" / "comparison.toml")["cifar10"]
    arms = [spec for spec in grid.method if spec.policy is not None]
    assert len(arms) >= 10
    metadata = {"setting": "", "n": 1, "noisy": False, "gain": 0.0, "half": None, "seeds": 1}
    for spec, passes in itertools.product(arms, (15, 60)):
        shown = {"label": spec.name, "policy": spec.policy, "options": spec.options, "wrap": tuple(spec.wrap)}
        place = module.MeasuredSetting(passes=passes, **shown, **metadata)
        assert policy_repr(place.build(passes)) == policy_repr(grid.policy(spec.name, passes / 60)), spec.name


def test_no_place_is_of_the_setting_that_tuned_and_every_gain_is_of_its_rows(script):
    settings = json.loads(script.MAP.read_text(encoding="utf-8"))["settings"]
    assert bool(settings) == any(script.KEPT.glob("*/rows.jsonl"))
    grids = script.all_grids()
    about = {
        (grid.about, round(keep * grid.train.epochs, 6)): name
        for name, grid in grids.items()
        for keep in grid.keep
        if not name.endswith(script.TUNING)
    }
    for place in settings:
        name = about[place["setting"], place["passes"]]
        rows = [json.loads(line) for line in (script.KEPT / name / "rows.jsonl").open()]
        longest = grids[name].train.epochs
        keep = place["passes"] / longest
        mine = {r["seed"]: r["accuracy"] for r in rows if r["label"] == place["label"] and abs(r["keep"] - keep) < 1e-6}
        shorter = {}
        for r in rows:
            if r["method"] == "shorter_full" and r["keep"] < keep + 1e-6 and r["seed"] in mine:
                shorter.setdefault(r["keep"], {})[r["seed"]] = r["accuracy"]
        best = max((of for of in shorter.values() if len(of) == len(mine)), key=lambda of: sum(of.values()))
        gains = [mine[seed] - best[seed] for seed in mine]
        assert place["seeds"] == len(gains)
        assert place["gain"] == pytest.approx(sum(gains) / len(gains), abs=1e-5)
