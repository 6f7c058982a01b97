"""`dw.bench` and `dw.race` in Python: on files, on grids, and on dataset objects and functions of this process."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import datawinnow as dw
from datawinnow.api.race import tried_sentence
from datawinnow.bench import Grid, GridData, run_grid, runner
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.verdict import compare
from datawinnow.models import mlp
from datawinnow.train import Recipe
from tests.bench.conftest import InProcess as FakeWorkers
from tests.bench.conftest import write_data
from tests.runs.conftest import Bare, make_blobs
from tests.train.helpers import images

FAST = Recipe(batch=32, lr=0.05, precision="fp32", workers=0)


def small_grid(**changes) -> Grid:
    raw = {
        "name": "blobs",
        "data": {"source": "blobs"},
        "train": {"epochs": 3, "batch": 20, "lr": 0.05},
        "methods": ["full", "shorter_full", "random", "el2n"],
        "keep": [0.5],
        "seeds": [0],
    }
    return Grid.model_validate({**raw, **changes})


def own_network(*, classes):
    return torch.nn.Linear(4, classes)


def test_a_grid_runs_on_dataset_objects_and_a_network_of_ones_own(tmp_path):
    data = GridData(Bare(make_blobs()), make_blobs(9, seed=1), model=own_network)
    steps: list[tuple[str, str]] = []
    rows = run_grid(
        small_grid(), tmp_path, data=data, on_step=lambda cell, stage, done, total: steps.append((cell.method, stage))
    )
    assert [row["method"] for row in rows] == ["full", "shorter_full", "random", "el2n"]
    assert {row["model"] for row in rows} == {"own_network"}
    assert [row["passes"] for row in rows] == [180, 90, 90, 90]
    assert {method for method, _ in steps} == {"full", "shorter_full", "random", "el2n"}
    assert run_grid(small_grid(), tmp_path, data=data) == rows  # nothing is trained again
    other = GridData(Bare(make_blobs(seed=5)), make_blobs(9), model=own_network)
    with pytest.raises(RunError, match="results about another dataset"):
        run_grid(small_grid(seeds=[0, 1]), tmp_path, data=other)
    with pytest.raises(RunError, match="results about another dataset"):
        run_grid(small_grid(), tmp_path, data=other)  # no cell is missing
    other_test = GridData(Bare(make_blobs()), make_blobs(9, seed=2), model=own_network)
    with pytest.raises(RunError, match="results about another test split"):
        run_grid(small_grid(), tmp_path, data=other_test)
    other_model = GridData(Bare(make_blobs()), make_blobs(9, seed=1), model=mlp)
    with pytest.raises(RunError, match=r"\[train\] model='own_network', now it is 'mlp'"):
        run_grid(small_grid(seeds=[0, 1]), tmp_path, data=other_model)


def test_a_method_whose_selection_is_not_given_is_refused(tmp_path):
    grid = small_grid(methods=["random", "mine"], method=[{"name": "mine", "selection": "abc"}])
    with pytest.raises(ArgumentError, match=r"'mine' has a selection that is not in data.selections"):
        run_grid(grid, tmp_path, data=GridData(make_blobs(), make_blobs(9)))


def test_bench_is_a_package_and_a_function(tmp_path):
    data = GridData(make_blobs(), make_blobs(9, seed=1), model=mlp)
    seen: list[str] = []
    result = dw.bench(small_grid(), out=tmp_path / "r", data=data, on_grid=lambda grid: seen.append(grid.setting))
    assert dw.bench.read_grid is not None
    assert seen == [""]
    assert result.grids[""].done
    assert len(result.grids[""].rows) == 4
    assert result.report == tmp_path / "r" / "report.html"
    assert result.report.exists()


def test_a_race_on_dataset_objects(tmp_path):
    train, test = make_blobs(), make_blobs(9, seed=1)
    kwargs = {"test": test, "budget": 2, "policy": "ucb", "keep": 0.5, "recipe": FAST, "out": tmp_path, "report": False}
    one = dw.race(train, **kwargs)
    assert [row["method"] for row in one.rows] == ["shorter_full", "policy"]
    assert {row["passes"] for row in one.rows} == {120}
    two = dw.race(train, seeds=2, **kwargs)
    assert two.rows[:2] == one.rows
    assert two.comparison is not None
    assert two.comparison.num_seeds == 2
    assert two.sentence.startswith(two.verdict)
    assert "with UCB, keep 0.5," in two.verdict
    assert "Total cost with scoring: 2.0 passes over all the data" in two.verdict
    assert two.report is None


def test_small_inputs_first_are_tried_with_and_without_the_policy_at_equal_operations(tmp_path):
    train, test = images(48), images(24, seed=1)
    options = {"test": test, "budget": 2, "policy": "ucb", "model": "resnet8", "model_options": {"width": 4}}
    results = {}
    for name, recipe in (("sizes", replace(FAST, size_schedule=dw.SizeSchedule(start=4))), ("full", FAST)):
        results[name] = dw.race(train, **options, recipe=recipe, out=tmp_path / name, report=False)
    sizes, full = ({row["method"]: row for row in results[name].rows} for name in ("sizes", "full"))
    assert list(full) == ["shorter_full", "policy"]
    assert list(sizes) == ["shorter_full", "small_first", "policy", "policy_small_first"]
    for run in full:  # these train at full size in either race
        assert sizes[run]["test_loss"] == full[run]["test_loss"]
    for run in sizes:
        assert abs(sizes[run]["cost"]["train"]["backward"] - 2 * 48) <= FAST.batch
    # more epochs for the same operations
    assert sizes["small_first"]["cost"]["train"]["flops"] == pytest.approx(
        sizes["shorter_full"]["cost"]["train"]["flops"], rel=0.1
    )
    assert sizes["small_first"]["test_loss"] != sizes["shorter_full"]["test_loss"]
    assert sizes["policy_small_first"]["trained_epochs"] > sizes["policy"]["trained_epochs"]
    assert sizes["small_first"]["trained_epochs"] > sizes["shorter_full"]["trained_epochs"] == 2
    result = results["sizes"]
    gains = {label: comparison.difference for label, comparison in result.comparisons.items()}
    assert gains == {
        row["label"]: row["accuracy"] - sizes["shorter_full"]["accuracy"] for row in sizes.values()
        if row["method"] != "shorter_full"
    }  # fmt: skip
    assert result.comparison == result.comparisons[result.label]
    assert result.comparison.difference == max(gains.values())


@pytest.mark.parametrize(("spread", "is_noise"), [(0.02, True), (0.001, False)])
def test_the_best_of_several_has_to_win_by_more(spread, is_noise):
    reference = dict.fromkeys(range(5), 0.5)
    deviations = dict(enumerate((-1, -0.5, 0, 0.5, 1)))
    comparisons = {
        name: compare({seed: 0.5 + gain + spread * deviations[seed] for seed in range(5)}, reference)
        for name, gain in (("a", 0.0), ("b", 0.0225), ("c", 0.01))
    }
    assert comparisons["b"].outcome == "wins"
    sentence = tried_sentence("b", comparisons)
    assert ("within noise" in sentence) is is_noise
    assert "b +2.2" in sentence or "b +2.3" in sentence


def test_a_race_needs_a_test_split(tmp_path):
    with pytest.raises(ArgumentError, match="race needs a test split"):
        dw.race(make_blobs(), budget=2, out=tmp_path)


def test_a_race_on_the_folder_of_another_dataset_is_refused(tmp_path):
    kwargs = {"budget": 2, "policy": "ucb", "keep": 0.5, "recipe": FAST, "out": tmp_path, "report": False}
    dw.race(make_blobs(), test=make_blobs(9, seed=1), **kwargs)
    with pytest.raises(RunError, match="results about another dataset"):
        dw.race(make_blobs(seed=5), test=make_blobs(9, seed=1), **kwargs)
    with pytest.raises(RunError, match="another test split"):
        dw.race(make_blobs(), test=make_blobs(9, seed=2), **kwargs)
    with pytest.raises(RunError, match="model"):
        dw.race(make_blobs(), test=make_blobs(9, seed=1), model=own_network, **kwargs)
    with pytest.raises(RunError, match=r"model_options\.width"):
        dw.race(make_blobs(), test=make_blobs(9, seed=1), model_options={"width": 8}, **kwargs)


def test_a_race_on_a_file_that_changed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "Workers", FakeWorkers)
    kwargs = {"budget": 2, "policy": "ucb", "keep": 0.5, "recipe": FAST, "out": tmp_path / "out", "report": False}
    data = write_data(tmp_path / "data.npz")
    rows = dw.race(data, **kwargs).rows
    assert dw.race(data, **kwargs).rows == rows
    with pytest.raises(RunError, match="results about another dataset"):
        dw.race(write_data(data, seed=1), **kwargs)


def test_races_of_objects_without_a_name_share_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    kwargs = {"test": make_blobs(9, seed=1), "budget": 1, "policy": "ucb", "keep": 0.5, "recipe": FAST, "report": False}
    folders = {dw.race(Bare(make_blobs(seed=seed)), **kwargs).folder for seed in (0, 5)}
    assert len(folders) == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"budget": 0}, "budget must be a whole number"),
        ({"seeds": 0}, "seeds must be a whole number"),
        ({"keep": 0.5, "policy_options": {"keep": 0.6}}, "not both; got 0.5 and 0.6"),
        ({"keep": 0.5, "wrap": "rescald"}, "rescald"),
    ],
    ids=["budget", "seeds", "keep twice", "a wrapper as a string"],
)
def test_arguments_of_a_race(kwargs, message, tmp_path):
    with pytest.raises(ArgumentError, match=message):
        dw.race(make_blobs(), **{"test": make_blobs(9), "budget": 2, "policy": "ucb", "out": tmp_path, **kwargs})


def test_a_wrapper_as_a_string_is_one_wrapper(tmp_path):
    kwargs = {"test": make_blobs(9), "budget": 1, "policy": "random", "keep": 0.5, "recipe": FAST, "report": False}
    assert dw.race(make_blobs(), wrap="rescaled", out=tmp_path, **kwargs).label.endswith("keep 0.5, rescaled")


@pytest.mark.parametrize("shrink", [0, -2])
def test_a_bench_shrunk_by_less_than_one(shrink, tmp_path):
    with pytest.raises(ArgumentError, match="shrink must be a whole number"):
        dw.bench(small_grid(), out=tmp_path, shrink=shrink)


def test_a_setting_as_a_string_is_one_setting(tmp_path):
    with pytest.raises(ArgumentError, match="`setting='abc'`"):
        dw.bench(small_grid(), out=tmp_path, setting="abc")
