"""Every benchmark runs at smoke size, and what it says hangs together; no timing is judged."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

approx = pytest.approx

FOLDER = Path(__file__).parents[2] / "benchmarks"
QUICK = (
    "loading",
    "scores",
    "condense",
    "condense_grid",
    "estimate",
    "vit",
    "text_padding",
    "near_duplicates",
    "audit_speed",
)
SLOW = (
    "audit_labels",
    "recording",
    "beta",
    "selection",
    "select_submodular",
    "dynamic",
    "stability",
    "toneva",
    "instruct",
    "plan_promise",
    "readers",
)
"""Scripts whose smoke run takes more than a few seconds; `make full` runs them."""
METADATA = {
    "benchmark",
    "size",
    "command",
    "goal",
    "threads",
    "cores",
    "load",
    "machine",
    "versions",
    "commit",
    "finished",
}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def smoke(name: str) -> dict[str, Any]:
    """The JSON line of one smoke run; one thread, since tests share their cores."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--smoke"],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def check_ratio(ratio: dict[str, float]) -> None:
    assert set(ratio) == {"median", "low", "high"}
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_script_tells_what_ran_and_on_what(name: str) -> None:
    result = smoke(name)
    assert set(result) >= METADATA
    assert (result["benchmark"], result["size"], result["threads"]) == (name, "smoke", 1)
    assert result["command"] == f"python benchmarks/{name}.py --smoke"
    assert set(result["versions"]) >= {"python", "torch", "numpy", "datawinnow"}


def test_every_script_is_listed_here_and_in_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    scripts = {f.stem for f in FOLDER.glob("*.py")} - {"measuring"}
    # those that have a test of their own
    assert scripts - {
        "behaviour",
        "results_tables",
        "comparison_map",
        "paper_table",
        "when_stable",
        "text_defaults",
        "pretrained_resnet8",  # a network, not a study
    } == set(QUICK + SLOW)
    assert [name for name in scripts if f"python benchmarks/{name}.py" not in readme] == []


@pytest.mark.slow
def test_recording_counts_the_write_out_once_an_epoch() -> None:
    result = smoke("recording")
    steps = result["n"] / result["batch"]
    assert set(result["models"]) == {"resnet8", "resnet18"}
    for row in result["models"].values():
        check_ratio(row["on_over_off"])
        assert row["write_share"] == approx(row["write_us"] / (1000 * row["step_ms"]), rel=1e-3)
        assert row["flush_share"] == approx(row["flush_ms"] / (steps * row["step_ms"]), rel=1e-3)
        assert row["share"] == approx(row["write_share"] + row["flush_share"], rel=1e-3)
        assert row["write_share"] < 1  # the write stands inside the step


def test_loading_gives_the_same_images_by_both_ways_and_every_id_once() -> None:
    result = smoke("loading")
    assert result["largest_difference"] < 1e-5
    assert result["distinct_ids"] == {"resident": result["n"], "dataloader": result["n"]}
    check_ratio(result["ratio"])
    rate = result["examples_per_second"]  # one round at smoke size, so the median of the ratios is that of the medians
    assert result["ratio"]["median"] == approx(rate["resident"] / rate["dataloader"], rel=1e-3)


def test_the_audit_that_is_timed_finds_what_was_made() -> None:
    result = smoke("audit_speed")
    assert result["n"] == 1000
    assert set(result["stages"]) == {"contents", "outliers", "labels"}
    assert result["issues"]["leakage"] >= 10
    assert 0.5 * result["wrong"] <= result["issues"]["label"] <= 2 * result["wrong"]


def test_every_kind_of_near_duplicate_planted_is_told() -> None:
    result = smoke("near_duplicates")
    assert result["images"].pop("exact") == 1
    assert min(result["images"].values()) >= 0.9
    assert result["embeddings"]["recall"] >= 0.99
    assert result["embeddings"]["brute_force_pairs"] >= 50
    assert result["texts"]["near before anything is planted"] == 0
    assert min(result["texts"][kind] for kind in ("exact", "upper case", "other punctuation", "other spaces")) == 1
    assert min(result["vectors"][f"{d} columns"] for d in (4, 16, 64)) >= 0.99


def test_texts_are_dealt_in_less_time() -> None:
    result = smoke("text_padding")
    assert set(result["ratio"]) == {"longest", "similar"}
    for each in (*result["ratio"].values(), *result["ratio_cpu"].values()):
        check_ratio(each)
    assert result["mean_tokens"] < result["tokens"]


def test_the_estimate_is_compared_with_a_run_of_its_own_process() -> None:
    (row,) = smoke("estimate")["rows"]
    for name in ("seconds", "memory"):
        assert row[f"{name}_ratio"] == approx(row[f"{name}_predicted"] / row[name], rel=1e-3)
    assert 100e6 < row["memory"] < 4e9
    assert 0.5 < row["memory_ratio"] < 2


def test_scores_count_the_bytes_that_they_read() -> None:
    result = smoke("scores")
    n, epochs, rows = result["n"], result["epochs"], result["scores"]
    assert {name: row["bytes"] // n for name, row in rows.items()} == {
        "dual": 4 * epochs,
        "dyn_unc": 4 * epochs,
        "forgetting": 2 * epochs,  # bool: correct and seen
        "el2n": 4 * 10,
        "aum": 4 * epochs,
        "entropy": 4,
        "all": 4 * epochs + 2 * epochs + 4 * 10 + 4 * epochs + 4,  # p_label once, for two scores
    }
    assert result["finite"] is True
    assert rows["all"]["seconds"] == approx(sum(row["seconds"] for k, row in rows.items() if k != "all"), rel=1e-3)
    for row in rows.values():
        check_ratio(row["ratio"])
        assert row["gb_per_second"] == approx(row["bytes"] / row["seconds"] / 1e9, rel=1e-3)
    assert 50 < result["peak_mb"] < 4000


@pytest.mark.slow
def test_beta_keeps_its_share_and_draws_what_numpy_draws() -> None:
    result = smoke("beta")
    assert result["kept"] == int(result["keep"] * result["rows"])
    assert result["rows_per_second"] == approx(result["rows"] / result["seconds"], rel=1e-3)
    assert 50 < result["inputs_mb"] <= 1.2 * result["peak_mb"]
    against = result["against_choice"]
    check_ratio(against["ratio"])
    assert against["ratio"]["median"] == approx(against["seconds"]["choice"] / against["seconds"]["beta"], rel=1e-3)
    drawn = against["mean_of_drawn"]
    # both mean 1,500 draws of a standard deviation below 0.2: 4 sigma of their difference
    assert drawn["beta"] == approx(drawn["choice"], abs=4 * 0.2 * (2 / (result["keep"] * against["rows"])) ** 0.5)
    assert drawn["beta"] > 0.51  # the weight leans away from the uniform mean


def test_condensing_compares_forms_of_equal_loss() -> None:
    result = smoke("condense")
    for table in result["tables"]:
        assert set(table["methods"]) == {"dm", "dsa"}
        for row in table["methods"].values():
            assert row["loss"] > 0
            assert row["loss_difference"] < 1e-4
            check_ratio(row["ratio"])
            check_ratio(row["cpu_ratio"])


def grid_script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "condense_grid", raising=False)
    return __import__("condense_grid")


def test_condensing_digits_counts_every_network_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = smoke("condense_grid")["sets"]["1"]
    assert set(result) == {"random", "dm"}
    assert {row["networks"] for row in result.values()} == {1}
    script = grid_script(monkeypatch)
    train, test = script.load("digits", limit=100)
    judge = {name: {**options, "epochs": 2} for name, options in script.read(script.DIGITS, smoke=True).judge.items()}
    grid = replace(script.read(script.DIGITS, smoke=True), syntheses=2, judge=judge)
    first = script.run(grid, tmp_path, train, test)
    assert [(row["method"], row["seed"]) for row in first] == [("random", 0), ("dm", 0), ("random", 1), ("dm", 1)]
    file = tmp_path / "rows.jsonl"
    file.write_text(file.read_text()[:-9])  # as after a kill
    again = script.run(grid, tmp_path, train, test)
    assert [row["plain"] for row in again] == [row["plain"] for row in first]
    assert len(file.read_text().splitlines()) == 4
    summary = script.summary(first, list(grid.judge))
    assert summary["1"]["dm"]["networks"] == 2
    assert (
        script.table(grid, summary)
        .splitlines()[3]
        .startswith(f"| 1 | dm | {100 * summary['1']['dm']['plain']['mean']:.1f}")
    )
    with pytest.raises(SystemExit, match="has dm at 1 with other settings"):
        script.run(replace(grid, method={"dm": {"iterations": 11}}), tmp_path, train, test)


def test_grids_of_condensing_have_what_their_papers_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = grid_script(monkeypatch)
    digits, cifar = (script.read(FOLDER / f"condense_{name}.toml") for name in ("digits", "cifar10"))
    for grid in (digits, cifar):
        assert set(grid.methods) >= {"dc", "dsa", "dm", "cafe", "idm", "random", "herding", "k_center"}
        assert (grid.per_class, grid.syntheses, grid.networks) == ([1, 10], 3, 5)
    assert (digits.options("dc", 1)["iterations"], digits.options("dc", 10)["iterations"]) == (200, 15)
    assert cifar.method == {}, "the papers' settings"
    assert {m: list(cifar.published[m].values()) for m in ("dc", "dsa", "dm", "cafe", "idm")} == {
        "dc": [28.3, 44.9], "dsa": [28.8, 52.1], "dm": [26.0, 48.9], "cafe": [30.3, 46.3], "idm": [45.6, 58.6],
    }  # fmt: skip
    assert cifar.judges("dc") == {"dc": {"epochs": 300}}
    assert cifar.judges("idm")["siamese"]["epochs"] == 1000
    file = tmp_path / "wrong.toml"
    for line, wrong in (
        ("speed = 3", "key 'speed'"),
        ("[method.dd]", "method 'dd'"),
        ('judged.dm = ["a"]', "judge 'a'"),
    ):
        text = (FOLDER / "condense_digits.toml").read_text()
        file.write_text(f"{line}\n{text}" if "[" not in line[:1] else f"{text}\n{line}")
        with pytest.raises(SystemExit, match=f"has an unknown {wrong}"):
            script.read(file)


@pytest.mark.slow
def test_readers_and_writers_give_the_same_and_ours_leaves_nothing_in_a_cache() -> None:
    result = smoke("readers")
    assert len(result["readers"]) == 11
    for name, row in result["readers"].items():
        assert len(row["same"]) > 1, name
        assert set(row["same"].values()) == {True}, name
    for name, row in result["writers"].items():
        assert {each["rows"] for each in row["same"].values()} == {True}, name
    for row in (*result["readers"].values(), *result["writers"].values()):
        assert row["cached"]["ours"] == 0
        assert set(row["ratio"]) == set(row["seconds"]) - {"ours"}
        for ratio in row["ratio"].values():
            check_ratio(ratio)
    assert result["split"]["deterministic"]


def test_rounds_take_turns_and_warm_rounds_are_not_counted() -> None:
    calls: list[str] = []
    actions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    wall, cpu = load("measuring").interleaved(actions, 3, warm=1)
    assert "".join(calls) == "ba" + "ab" + "ba" + "ab"
    assert {name: len(seconds) for name, seconds in wall.items()} == {"a": 3, "b": 3}
    assert {name: len(seconds) for name, seconds in cpu.items()} == {"a": 3, "b": 3}


def test_sleep_takes_wall_time_and_no_cpu() -> None:
    wall, cpu = load("measuring").interleaved({"sleep": lambda: time.sleep(0.05)}, 1, warm=0)
    assert wall["sleep"][0] >= 0.05
    assert cpu["sleep"][0] < 0.04


def test_a_ratio_is_the_median_of_pairs_and_not_of_sides() -> None:
    result = load("measuring").ratio([2.0, 30.0, 4.0], [1.0, 10.0, 8.0])
    assert result == {"median": 2.0, "low": 0.5, "high": 3.0}
    many = load("measuring").ratio([float(i) for i in range(1, 101)], [1.0] * 100)
    assert (many["low"], many["high"]) == (41.0, 60.0)  # ranks 50 - 9.8 and its mirror


def test_memory_of_a_child_is_its_own() -> None:
    measuring = load("measuring")
    sys.modules[measuring.__name__] = measuring  # so that its functions can be pickled by name
    try:
        assert measuring.with_peak(bytearray, (200_000_000,))[1] > 200
    finally:
        del sys.modules[measuring.__name__]
    assert measuring.rounded({"a": [1.23456789, 2]}) == {"a": [1.2346, 2]}


def test_vit_tells_what_share_of_the_saving_shows() -> None:
    result = smoke("vit")
    (row,) = result["networks"]
    assert row["tokens"]["flops_ratio"] < 0.7 < 0.99 < row["attention"]["flops_ratio"]
    for level in ("tokens", "attention", "tokens and attention"):
        check_ratio(row[level]["ratio"])
    saved = (1 - row["tokens"]["ratio"]["median"]) / (1 - row["tokens"]["flops_ratio"])
    assert row["tokens"]["shown"] == approx(saved, rel=0.01, abs=0.01)
    assert row["attention"]["shown"] is None
    for name in ("fused", "gathered", "dense"):
        check_ratio(result["attention"][0][name])
