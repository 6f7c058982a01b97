"""Arms that choose inside a batch or by a plan made once: what they pass, by hand, and that plans serve other seeds."""

import dataclasses

import pytest
import torch

from datawinnow.bench import Cell, GridData, read_grid
from datawinnow.bench import cell as cell_module
from datawinnow.bench.cell import datasets_of, run_cell
from datawinnow.bench.planning import next_cells
from datawinnow.bench.policy_runs import plan_file
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import forked
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.source_positions import source_rows
from datawinnow.dynamic import UCB, SelectionHistory
from datawinnow.models import build
from datawinnow.train import fit
from datawinnow.train.network import check_forward
from tests.runs.conftest import Bare

MORE = """
[[method]]
name = "own"
label = "hardest half, own losses"
batch = {{ keep = 0.5 }}

[[method]]
name = "proxy"
batch = {{ keep = 0.5, model = "mlp", model_options = {{ width = 4 }}, every = 2 }}

[[method]]
name = "replay"
replay = {{ model = "mlp", model_options = {{ width = 4 }}, policy = "ucb", options = {{ keep = 0.5, period = 1 }} }}

[[method]]
name = "again"
[method.replay]
model = "mlp"
model_options = {{ width = 4 }}
policy = "ucb"
options = {{ keep = 0.5 }}
charged = false
"""
NAMES = '["full", "shorter_full", "own", "proxy", "replay", "again"]'


@pytest.fixture
def grid(write):
    changed = ("epochs = 2\n", "epochs = 2\n" + MORE)
    small = ('model = "mlp"\nepochs = 3', 'model = "mlp"\nmodel_options = {{ width = 12 }}\nepochs = 3')
    return read_grid(write(('methods = ["full", "shorter_full", "random", "el2n", "aum", "short"]',
                            f"methods = {NAMES}"), changed, small))  # fmt: skip


def cell(grid, method, keep=0.5, seed=0, scenario="clean"):
    return Cell(kind=grid.kind(method), method=method, keep=keep, seed=seed, scenario=scenario)


def share(grid):
    """FLOPs of the small network over those of the main one."""
    train, _ = datasets_of(grid)
    kwargs = {"shape": train.shape, "classes": len(train.classes)}
    main = build(grid.train.model, **kwargs, **grid.train.model_options)
    return check_forward(build("mlp", **kwargs, width=4), train, torch.device("cpu")) / check_forward(
        main, train, torch.device("cpu")
    )


def test_by_its_own_losses_a_third_of_what_is_loaded_is_charged(grid, tmp_path):
    row = run_cell(grid, cell(grid, "own"), tmp_path)
    shorter = run_cell(grid, cell(grid, "shorter_full"), tmp_path)
    loaded, trained = row["cost"]["train"]["forward"], row["cost"]["train"]["backward"]
    assert trained == pytest.approx(loaded / 2, abs=2)
    assert shorter["passes"] == 90
    assert 90 - grid.train.recipe().batch < trained + loaded / 3 <= 90
    assert row["total_passes"] == pytest.approx(trained + loaded / 3, abs=1)
    assert row["label"] == "hardest half, own losses"


def test_a_proxy_costs_less_to_ask_so_more_is_trained_on(grid, tmp_path):
    in_own_loss, proxy = (run_cell(grid, cell(grid, name), tmp_path) for name in ("own", "proxy"))
    assert share(grid) < 0.5
    assert proxy["cost"]["train"]["backward"] > in_own_loss["cost"]["train"]["backward"]
    assert 90 - grid.train.recipe().batch < proxy["total_passes"] <= 92


def test_the_plan_of_a_small_network_is_trained_by_and_paid_for(grid, tmp_path):
    row = run_cell(grid, cell(grid, "replay", seed=3), tmp_path)
    log = SelectionHistory.load(plan_file(grid, cell(grid, "replay", seed=3), tmp_path))
    assert row["cost"]["train"]["backward"] == log.num_passed
    assert row["cost"]["score"]["backward"] == round(share(grid) * log.num_passed)
    assert row["cost"]["score"]["seconds"] > 0
    assert row["cost"]["score"]["flops"] == pytest.approx(share(grid) * row["cost"]["train"]["flops"])
    assert row["total_passes"] == pytest.approx(90, abs=grid.train.recipe().batch / 2 + 1)
    assert log.num_passed < 90  # the rest went to the small network
    assert row["trained_epochs"] == len(log)
    # what it replays is what the small network trained on by that policy
    train, _ = datasets_of(grid)
    with forked(3, "proxy"):
        small = build("mlp", shape=train.shape, classes=len(train.classes), width=4)
    orders = []
    kwargs = {"recipe": grid.train.recipe(), "seed": 3, "passes": 1.5 / (1 + share(grid))}
    fit(small, train, policy=UCB(keep=0.5, period=1), on_plan=lambda _, order: orders.append(order), **kwargs)
    assert [log.ids(epoch).tolist() for epoch in range(len(log))] == [o.tolist() for o in orders]
    assert log.source_rows(0).tolist() == source_rows(train)[log.ids(0)].tolist()


def test_a_plan_not_charged_leaves_the_whole_budget_and_its_cost_is_told(grid, tmp_path):
    row = run_cell(grid, cell(grid, "again"), tmp_path)
    assert row["passes"] == pytest.approx(90, abs=grid.train.recipe().batch / 2)
    assert row["total_passes"] == row["passes"] + round(share(grid) * row["passes"])


def test_one_plan_serves_all_seeds_but_not_other_labels(grid, tmp_path):
    run_cell(grid, cell(grid, "again", seed=4), tmp_path)
    file = plan_file(grid, cell(grid, "again"), tmp_path)
    before = file.read_bytes()
    a, b = (run_cell(grid, cell(grid, "again", seed=seed), tmp_path) for seed in (1, 2))
    assert file.read_bytes() == before
    assert a["passes"] == b["passes"]
    assert a["cost"]["score"] == b["cost"]["score"]
    assert a["test_loss"] != b["test_loss"]  # other weights, other augmentation
    noisy = plan_file(grid, cell(grid, "again", seed=1, scenario="symmetric 0.2"), tmp_path)
    assert noisy not in (file, plan_file(grid, cell(grid, "again", seed=2, scenario="symmetric 0.2"), tmp_path))


def test_a_plan_that_the_arm_pays_for_is_its_own(grid, tmp_path):
    files = {plan_file(grid, cell(grid, "replay", seed=seed), tmp_path) for seed in (1, 2)}
    assert len(files) == 2
    for seed in (1, 2):
        run_cell(grid, cell(grid, "replay", seed=seed), tmp_path)
    one, other = (SelectionHistory.load(file).index.tolist() for file in files)
    assert one != other


def test_a_plan_whose_cost_was_lost_is_made_again(grid, tmp_path):
    first = run_cell(grid, cell(grid, "again"), tmp_path)
    plan_file(grid, cell(grid, "again"), tmp_path).with_suffix(".json").unlink()
    second = run_cell(grid, cell(grid, "again"), tmp_path)
    assert first["total_passes"] == second["total_passes"]
    assert first["test_loss"] == second["test_loss"]


def test_two_cells_never_make_the_same_plan_at_once(grid, tmp_path):
    cells = [cell(grid, "again", seed=seed) for seed in range(3)] + [cell(grid, "shorter_full")]
    assert next_cells(cells, [], grid, tmp_path, 4) == [cells[0], cells[3]]
    assert next_cells(cells[1:], [cells[0]], grid, tmp_path, 4) == [cells[3]]
    run_cell(grid, cells[0], tmp_path)
    assert next_cells(cells[1:], [], grid, tmp_path, 4) == cells[1:]
    replay_cells = [cell(grid, "replay", seed=seed) for seed in range(3)]
    assert next_cells(replay_cells, [], grid, tmp_path, 4) == replay_cells  # each makes its own


ARMS = (
    """
[[method]]
name = "focal"
baseline = "shorter_full"
train = {{ focal = 1.0 }}

[[method]]
name = "ucb"
policy = "ucb"
options = {{ keep = 0.7, period = 1 }}

[[method]]
name = "ucb_5"
policy = "ucb"
options = {{ keep = 0.5, period = 5 }}

[[method]]
name = "warm"
policy = "ucb"
options = {{ keep = 0.7, period = 1 }}
wrap = ["warm_up=2"]

[[method]]
name = "guarded"
policy = "ucb"
options = {{ keep = 0.7, period = 1 }}
wrap = ["guarded"]

[[method]]
name = "shrinking"
policy = "ucb"
options = {{ keep = 0.75, period = 1 }}
wrap = ["shrinking=0.5"]

[[method]]
name = "weighted"
policy = "loss_power"
options = {{ keep = 0.7, weighted = true }}
"""
    + MORE
)
EVERY = ["focal", "ucb", "ucb_5", "warm", "guarded", "shrinking", "weighted", "info_batch", "own", "proxy", "replay",
         "again"]  # fmt: skip


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("keep", [0.9, 0.5])
def test_every_arm_passes_what_the_reference_passes_and_its_rate_goes_to_zero(
    method, keep, write, tmp_path, monkeypatch
):
    """At most half a batch less, and never more; from the same weights, evaluated once, at the end."""
    names = ", ".join(f'"{name}"' for name in ["shorter_full", *EVERY])
    grid = read_grid(write(('methods = ["full", "shorter_full", "random", "el2n", "aum", "short"]',
                            f"methods = [{names}]"), ("epochs = 2\n", "epochs = 2\n" + ARMS),
                           ("[0.5, 0.2]", "[0.9, 0.5]"),
                           ('model = "mlp"\nepochs = 3', 'model = "mlp"\nmodel_options = {{ width = 12 }}\nepochs = 6'),
                           ("batch = 20", 'batch = 10\nschedule = "one_cycle"')))  # fmt: skip
    runs = {}

    def noted(network, data, **kwargs):
        initial = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
        network, history = fit(network, data, **kwargs)
        runs[name] = (initial, history)
        return network, history

    monkeypatch.setattr(cell_module, "fit", noted)
    rows = {}
    for name in ("shorter_full", method):
        rows[name] = run_cell(grid, cell(grid, name, keep), tmp_path)
    budget, policy_row = 6 * keep * 60, rows[method]
    assert rows["shorter_full"]["total_passes"] == budget
    paid = policy_row["total_passes"] if method != "again" else policy_row["passes"]
    assert budget - 10 / 2 <= paid <= budget + 1  # a plan's cost is rounded
    (before, _), (initial, history) = runs["shorter_full"], runs[method]
    assert torch.equal(before, initial)
    assert history.rows[-1]["learning_rate"] < 0.05 * (0.03 if keep == 0.9 else 0.1)  # of the last step, before its end
    assert [row["test_accuracy"] == row["test_accuracy"] for row in history.rows] == [False] * (
        len(history.rows) - 1
    ) + [True]
    steps = sum(row["steps"] for row in history.rows)  # batches of an epoch are alike: one more in it at most
    assert steps <= sum(row["steps"] for row in runs["shorter_full"][1].rows) + len(history.rows)
    assert policy_row["test_n"] == rows["shorter_full"]["test_n"]


def test_a_plan_left_from_another_dataset_is_refused(grid, tmp_path):
    run_cell(grid, cell(grid, "again"), tmp_path)
    file = plan_file(grid, cell(grid, "again"), tmp_path)
    dataclasses.replace(SelectionHistory.load(file), fingerprint="another").save(file)
    with pytest.raises(ArgumentError, match="fingerprint another"):
        run_cell(grid, cell(grid, "again", seed=1), tmp_path)


def test_a_dataset_that_tells_nothing_but_its_items_is_trained_on_by_a_plan(grid, tmp_path):
    train, test = datasets_of(grid)
    run_cell(grid, cell(grid, "replay"), tmp_path, data=GridData(Bare(train), test))
    row = run_cell(grid, cell(grid, "proxy"), tmp_path, data=GridData(Bare(train), test))
    assert row["accuracy"] is not None
    plan = SelectionHistory.load(plan_file(grid, cell(grid, "replay"), tmp_path))
    assert plan.fingerprint == fingerprint_of(Bare(train))
