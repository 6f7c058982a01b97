"""Cells of policies: matched with the shorter full run by examples passed, whatever fraction the policy trains on."""

from __future__ import annotations

import json

import pytest
import torch

from datawinnow.bench import Cell, cells_of, read_grid, read_rows, run_grid
from datawinnow.bench import cell as cell_module
from datawinnow.bench.cell import datasets_of, run_cell
from datawinnow.bench.scenario import under_scenario
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import forked
from datawinnow.dynamic import UCB, InfoBatch, every
from datawinnow.models import build
from datawinnow.report import results
from datawinnow.report.table import table
from datawinnow.train import fit

METHODS = 'methods = ["full", "shorter_full", "random", "el2n", "aum", "short"]'
MORE = """
[[method]]
name = "ucb_7"
label = "UCB, keep 0.7"
policy = "ucb"
options = {{ keep = 0.7, period = 1 }}
wrap = ["every=2"]

[[method]]
name = "hot"
baseline = "shorter_full"
label = "all the data, lr 0.2"
train = {{ lr = 0.2 }}

[[method]]
name = "ucb_hot"
policy = "ucb"
train = {{ lr = 0.2 }}
"""
NAMES = ["full", "shorter_full", "ucb", "info_batch", "ucb_7", "hot", "ucb_hot"]


@pytest.fixture
def grid(write):
    return read_grid(write((METHODS, f"methods = {NAMES}".replace("'", '"')), ("epochs = 2\n", "epochs = 2\n" + MORE)))


def cell(grid, method: str, keep: float = 0.5, seed: int = 0, scenario: str = "clean") -> Cell:
    return Cell(kind=grid.kind(method), method=method, keep=keep, seed=seed, scenario=scenario)


@pytest.mark.parametrize(
    ("method", "keep", "passed", "epochs"),
    [
        ("ucb", 0.5, 90, 2),  # 60 and 30
        ("ucb", 0.2, 36, 1),  # of the first epoch on everything
        ("ucb_7", 0.5, 90, 2),  # all for two epochs, the second cut: `every` holds the first plan
        ("info_batch", 0.5, 90, 2),
        ("hot", 0.5, 90, 1.5),
    ],
)
def test_as_many_are_passed_as_by_the_shorter_full_run(grid, tmp_path, method, keep, passed, epochs):
    row = run_cell(grid, cell(grid, method, keep), tmp_path)
    shorter = run_cell(grid, cell(grid, "shorter_full", keep), tmp_path)
    assert row["passes"] == row["total_passes"] == shorter["passes"] == passed
    assert (row["trained_epochs"], row["kept"]) == (epochs, round(60 * keep) if method != "hot" else 60)
    assert row["cost"]["score"]["backward"] == row["cost"]["select"]["backward"] == 0
    assert row["cost"]["train"]["flops"] == pytest.approx(shorter["cost"]["train"]["flops"])


@pytest.mark.parametrize(("method", "lr"), [("ucb", 0.05), ("ucb_hot", 0.2)])
def test_a_cell_is_what_fit_gives(grid, tmp_path, method, lr):
    train, test = datasets_of(grid)
    with forked(1, "weights"):
        model = build("mlp", shape=train.shape, classes=3)
    recipe_options = {"batch": 20, "lr": lr, "precision": "fp32"}
    _, history = fit(model, train, passes=1.5, policy=UCB(0.5), seed=1, test=test, **recipe_options)
    row = run_cell(grid, cell(grid, method, seed=1), tmp_path)
    assert (row["accuracy"], row["test_loss"]) == (history.test_accuracy, pytest.approx(history.test_loss))


def test_the_policy_of_a_cell_has_its_own_keep_and_wrappers_or_the_cell_s(grid):
    assert grid.policy("ucb", 0.2) == UCB(0.2)
    assert grid.policy("ucb_7", 0.2) == every(UCB(0.7, period=1), 2)
    # 3 epochs at keep 0.5: 1.5 passes, in two epochs of a policy that has all of them in its first
    assert grid.policy("info_batch", 0.5) == InfoBatch(epochs=2)


def test_the_share_of_wrong_labels_is_of_all_that_was_passed(grid, tmp_path, monkeypatch):
    orders = []

    class Noted(cell_module.ExamplesSeen):
        def __call__(self, epoch, order):
            orders.append(order)
            super().__call__(epoch, order)

    monkeypatch.setattr(cell_module, "ExamplesSeen", Noted)
    row = run_cell(grid, cell(grid, "ucb", seed=1, scenario="symmetric 0.2"), tmp_path)
    _, changed = under_scenario(datasets_of(grid)[0], "symmetric 0.2", 1)
    passed = changed[torch.cat(orders)]
    assert len(passed) == 90
    assert 0 < row["changed_kept"] == pytest.approx(passed.float().mean().item()) != pytest.approx(0.2)


def test_rows_of_policies_go_into_the_table_and_are_compared(grid, tmp_path, in_process):
    out = tmp_path / "out"
    rows = run_grid(grid, out)
    assert len(rows) == len(cells_of(grid)) == 2 * 2 * (1 + 2 * 6)
    comparison = table(results.rows(out))
    (ucb_row,) = comparison.of("clean", keep=0.5, method="ucb_7")
    assert ucb_row.label == "UCB, keep 0.7"
    assert ucb_row.scoring_passes == 0
    assert ucb_row.to_shorter is not None
    assert {c.label for c in comparison.of("clean", keep=0.5)} >= {
        "UCB",
        "InfoBatch",
        "ucb_hot",
        "all the data, lr 0.2",
    }
    assert run_grid(grid, out) == read_rows(out / "rows.jsonl") == rows


def test_rows_made_before_there_were_policies_are_gone_on_with(write, tmp_path, in_process):
    out = tmp_path / "out"
    older = read_grid(write((METHODS, 'methods = ["full", "short"]')))
    run_grid(older, out)
    metadata = json.loads((out / "grid.json").read_text())
    for key in ("policy", "wrap", "baseline", "train"):
        del metadata["settings"]["methods"]["short"][key]
    (out / "grid.json").write_text(json.dumps(metadata))
    rows = run_grid(read_grid(write((METHODS, 'methods = ["full", "short", "ucb"]'))), out)
    assert {row["method"] for row in rows} == {"full", "short", "ucb"}
    metadata["settings"]["methods"]["short"]["epochs"] = 1
    (out / "grid.json").write_text(json.dumps(metadata))
    with pytest.raises(RunError, match=r"started with \[methods\] short.epochs=1, now it is 2"):
        run_grid(older, out)


def test_a_policy_that_is_made_of_no_name_is_refused(write):
    with pytest.raises(ArgumentError, match="static_subset"):
        read_grid(write((METHODS, 'methods = ["full", "static_subset"]')))
