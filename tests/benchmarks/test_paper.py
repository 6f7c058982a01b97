"""The papers' grids: the protocol they say, each of them run end to end at 1/50, the script that resumes, the table."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from datawinnow.bench import cell as cell_module
from datawinnow.bench import cells_of, read_grids, shrunk
from datawinnow.bench.cell import run_cell
from datawinnow.core.result_rows import row_key

FOLDER = Path(__file__).parents[2] / "benchmarks"
FILES = ("dual", "static", "dynamic", "cross", "robust")
GRIDS = {
    f"{file} {setting}": g for file in FILES for setting, g in read_grids(FOLDER / "paper" / f"{file}.toml")[1].items()
}
every_grid = pytest.mark.parametrize("key", GRIDS)


def load(path: Path):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


paper, table = load(FOLDER / "gpu" / "paper.py"), load(FOLDER / "paper_table.py")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A hundred coloured squares of 8x8 in ten classes, as CIFAR-10 and as CIFAR-100."""
    g = np.random.default_rng(0)
    for name in ("cifar10", "cifar100"):
        (tmp_path / name).mkdir()
        for split, n in (("train", 100), ("test", 20)):
            y = np.arange(n) % 10
            x = (g.integers(0, 128, (n, 8, 8, 3)) + (y % 8)[:, None, None, None] * 16).astype(np.uint8)
            np.savez(tmp_path / name / f"{split}.npz", x=x, y=y)
    monkeypatch.setenv("DATAWINNOW_DATA", str(tmp_path))
    cell_module._load_splits.cache_clear()
    return tmp_path


def small(key: str, **changes):
    """The grid at 1/50, read again so that it finds the data of the test, with fewer keeps and seeds."""
    file, setting = key.split(" ")
    grid = shrunk(read_grids(FOLDER / "paper" / f"{file}.toml")[1][setting], 50)
    return grid.model_copy(update={"keep": [0.1], "seeds": [0], **changes})


@every_grid
def test_the_protocol_is_the_papers(key):
    grid = GRIDS[key]
    recipe = grid.recipe("random", 0.5)
    assert (grid.train.epochs, recipe.batch, recipe.peak_lr, recipe.momentum, recipe.weight_decay) == (
        200,
        128,
        0.1,
        0.9,
        5e-4,
    )
    assert (recipe.optimizer, recipe.schedule, recipe.label_smoothing) == ("sgd", "cosine", 0.0)
    assert grid.seeds == [0, 1, 2]
    if "dynamic" not in key:
        assert [grid.recipe("random", keep).batch for keep in (0.3, 0.1)] == [128, 32]
        assert grid.recipe("shorter_full", 0.1).batch == 128
    if key.split(" ")[0] in ("dual", "static"):
        assert grid.keep == [0.7, 0.5, 0.3, 0.2, 0.1]
        assert grid.recipe("random", 0.2).batch == 64
    if key.split(" ")[0] in ("dual", "cross"):
        assert (grid.score.epochs, grid.score.schedule_epochs) == (30, 200)
    if "cifar100" in key and "dual_beta" in grid.methods:
        assert grid.method_of("dual_beta")[0].at(0.3).options["c_d"] == 4.0


@pytest.mark.parametrize(
    ("method", "keep", "charged"),
    [
        ("el2n", 0.3, 21),
        ("tdds", 0.7, 90),
        ("tdds", 0.1, 10),
        ("aum", 0.3, 200),
        ("ccs", 0.3, 200),
        ("dyn_unc", 0.3, 200),
    ],
)
def test_each_score_is_charged_what_it_reads(method, keep, charged):
    assert GRIDS["static cifar10"].method_of(method)[0].at(keep).epochs_charged(200) == charged


def test_ccs_drops_what_was_published_on_each_dataset():
    published = {"cifar10": [0, 0, 0.1, 0.1, 0.3], "cifar100": [0.1, 0.2, 0.2, 0.4, 0.5]}
    for name, cutoffs in published.items():
        method = GRIDS[f"static {name}"].method_of("ccs")[0]
        at = [method.at(keep).options for keep in (0.7, 0.5, 0.3, 0.2, 0.1)]
        assert [options["cutoff"] for options in at] == cutoffs
        assert {options["end"] for options in at} == {"low"}


def run_all(grid, out):
    rows = [run_cell(grid, cell, out) for cell in cells_of(grid)]
    assert len({row_key(row) for row in rows}) == len(rows) == len(cells_of(grid))
    for row in rows:
        assert row["accuracy"] is not None, row
        assert json.loads(json.dumps(row, allow_nan=False)) == row
    return {(row["method"], row["scenario"]): row for row in rows}


QUICK = ("dual cifar10", "static cifar100", "dynamic cifar10", "cross cifar10_by_resnet8", "cross cifar10_as_vgg16")
"""One of each kind; the others differ in their data, and run in the long sweep."""


@pytest.mark.parametrize(
    "key",
    [key if key in QUICK else pytest.param(key, marks=pytest.mark.slow) for key in GRIDS if "robust" not in key],
)
def test_a_grid_runs_end_to_end_at_a_fiftieth(key, data, tmp_path):
    rows = run_all(small(key, keep=[0.7 if "dynamic" in key else 0.1]), tmp_path / "out")
    assert {row["epochs"] for row in rows.values()} == {4}
    if "static" in key:
        # of 4 recorded epochs a fiftieth: EL2N to its 21st, at least 3; the others all
        assert rows["el2n", "clean"]["cost"]["score"]["backward"] == 300
        assert rows["aum", "clean"]["cost"]["score"]["backward"] == 400
        assert rows["full", "clean"]["passes"] == 400
    if "dynamic" in key:
        passed = {method: row["passes"] for (method, _), row in rows.items() if method != "full"}
        assert passed.pop("shorter_full") == 280
        assert all(280 - 64 < passes <= 280 for passes in passed.values())  # less than half a batch may be left out
    if "cross" in key:
        assert rows["dual_beta", "clean"]["scored_by"] == GRIDS[key].score.model != GRIDS[key].train.model


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        (
            "robust cifar10",
            {
                "methods": ["random", "dual_beta"],
                "scenarios": ["symmetric 0.2", "corruption 0.4", "fog 0.2", "long_tail 0.9", "duplicates 0.2"],
            },
        ),
        pytest.param("robust cifar10", {}, marks=pytest.mark.slow),
        pytest.param("robust cifar100", {}, marks=pytest.mark.slow),
    ],
    ids=["short", "cifar10", "cifar100"],
)
def test_every_scenario_runs_end_to_end_and_tells_what_is_kept_of_the_changed(key, changes, data, tmp_path):
    rows = run_all(small(key, **changes), tmp_path / "out")
    for (method, scenario), row in rows.items():
        assert 0 <= row["changed_kept"] <= 1, (method, scenario)
        name, rate = scenario.split()
        if name == "long_tail":
            assert row["n"] < 100
            assert row["fingerprint"] == rows["random", "fog 0.2"]["fingerprint"]
        else:
            assert (row["n"], row["changed"]) == (100, float(np.float32(rate)))


def rows_of(folder, name="paper_dual_shrunk_50_cifar10"):
    return [json.loads(text) for text in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_the_script_wants_a_gpu_unless_it_lists_or_shrinks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    command = ["--results", str(tmp_path / "kept"), "--out", str(tmp_path / "runs"), "--time-limit", "0"]
    assert paper.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "CUDA" in line
    assert paper.main([*command, "--list"]) == 0
    assert paper.main([*command, "--shrink", "50"]) == 0
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert paper.main(command) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_script_runs_the_telling_rows_first_stops_in_time_and_goes_on(data, tmp_path, monkeypatch, capsys):
    from datawinnow.bench import runner
    from tests.bench.conftest import InProcess

    monkeypatch.setattr(runner, "Workers", InProcess)
    monkeypatch.setattr(paper, "run_grid", runner.run_grid)
    first_run = ["--shrink", "50", "--out", str(tmp_path / "runs"), "--results", str(tmp_path / "kept"), "--jobs", "1"]
    assert paper.main([*first_run, "--time-limit", "0", "--stages", "1"]) == 0
    assert "the same command goes on from here" in capsys.readouterr().out
    assert not (tmp_path / "kept").exists()
    assert paper.main([*first_run, "--stages", "1"]) == 0
    first = rows_of(tmp_path / "kept")
    assert [(row["method"], row["keep"]) for row in first] == [
        ("random", 0.3), ("dual_beta", 0.3), ("random", 0.1), ("dual_beta", 0.1),
    ]  # fmt: skip
    assert all(row["seed"] == 0 and row["commit"] and row["versions"]["torch"] for row in first)

    # a fresh machine has the rows and none of the runs
    monkeypatch.setattr(paper, "RESULTS", tmp_path / "kept")
    second_run = [
        "--shrink",
        "50",
        "--out",
        str(tmp_path / "fresh"),
        "--results",
        str(tmp_path / "new"),
        "--stages",
        "2",
        "--jobs",
        "1",
    ]
    capsys.readouterr()
    assert paper.main([*second_run, "--list"]) == 0
    assert [line.split()[1:4] for line in capsys.readouterr().out.splitlines()] == [["4", "of", "4"], ["2", "of", "5"]]
    assert paper.main(second_run) == 0
    assert "3 cells" in capsys.readouterr().out
    assert [(row["method"], row["keep"]) for row in rows_of(tmp_path / "new")[4:]] == [
        ("random", k) for k in (0.7, 0.5, 0.2)
    ]
    assert rows_of(tmp_path / "new")[:4] == first


def test_every_stage_is_a_part_of_its_grid_and_together_they_are_everything():
    cells = {key: {cell.key for cell in cells_of(grid)} for key, grid in GRIDS.items()}
    done = {key: set() for key in GRIDS}
    for stage in paper.stages():
        stage_cells = {cell.key for cell in cells_of(stage.of(GRIDS[f"{stage.file} {stage.setting}"]))}
        assert stage_cells, stage.title
        assert stage_cells <= cells[f"{stage.file} {stage.setting}"], stage.title
        done[f"{stage.file} {stage.setting}"] |= stage_cells
    assert done == cells


def row(method, keep, seed, accuracy, scenario="clean", **metadata):
    cost = {"seconds": 1.0, "forward": 0, "backward": 0, "flops": 0.0}
    return {
        "format": 1, "method": method, "label": method.upper(), "keep": keep, "seed": seed, "scenario": scenario,
        "accuracy": accuracy, "n": 50_000, "epochs": 200, "passes": 3e6, "total_passes": 4.5e6, "device": "cuda",
        "commit": "abc", "card": "H200", "cost": dict.fromkeys(("score", "select", "train"), cost), **metadata,
    }  # fmt: skip


def write(folder, name, rows):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_the_table_from_whatever_rows_there_are(tmp_path, capsys):
    assert table.main(["--results", str(tmp_path)]) == 1
    assert "make some with: python benchmarks/gpu/paper.py" in capsys.readouterr().err
    write(tmp_path, "paper_dual_cifar10", [
        row("dual_beta", 0.3, 0, 0.930), row("dual_beta", 0.3, 1, 0.932), row("dual_beta", 0.3, 2, None, failed="nan"),
        row("random", 0.1, 0, 0.80, total_passes=3e6),
    ])  # fmt: skip
    write(tmp_path, "paper_dual_shrunk_50_cifar10", [row("random", 0.7, 0, 0.1)])
    write(tmp_path, "paper_robust_cifar100", [row("ccs", 0.3, 0, 0.5, "fog 0.2", changed_kept=0.125)])
    assert table.main(["--results", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (ours,) = (line for line in lines if line.startswith("| DUAL_BETA"))
    assert ours == (
        "| DUAL_BETA | 15.0% | - / 95.51 | - / 95.23 | 93.10 ± 0.14 (2) / 93.04 / +0.06 | - / 91.42 | - / 87.09 |"
    )
    (chance,) = (line for line in lines if line.startswith("| RANDOM"))
    assert chance.endswith("| - / 88.28 | 80.00 (1) / 83.73 / -3.73 |")
    assert "1 of the 2 entries that both have are within 0.5 points." in lines
    assert "| fog 0.2 | CCS | 50.00 (1), 12.5 |" in lines
    assert "| paper_dual cifar10 | 4 | 60 |" in lines
    assert any(line.startswith("Published: DUAL, arXiv 2502.06905") and "H200; commits abc" in line for line in lines)


def test_published_figures_are_of_methods_and_keeps_that_the_grids_have():
    for figures in table.published():
        for method in filter(table.is_method, figures):
            grids = [GRIDS[f"{name.removeprefix('paper_')} {figures['dataset']}"] for name in figures["grids"]]
            (grid,) = (grid for grid in grids if method in grid.methods)
            assert figures["keep"] == grid.keep
            assert len(figures[method]) == len(figures["keep"])
            assert all(np.isnan(accuracy) or 10 < accuracy < 100 for accuracy in figures[method])
