"""The levels in a training: the schedule by epoch, operations by epoch, resuming, the command line, a grid."""

from __future__ import annotations

import itertools
import json
import math

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import datawinnow as dw
from datawinnow import api, vit
from datawinnow.bench import cells_of, read_grid
from datawinnow.bench.cell import run_cell
from datawinnow.cli import app
from datawinnow.cli.spelling import as_flags
from datawinnow.core.artifacts import read_table
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import forked
from datawinnow.models import build
from datawinnow.runs.kept_patches import describe_sparsity
from datawinnow.train import Recipe, fit
from datawinnow.train.checkpoint import load_checkpoint
from tests.vit.networks import make_network

RECIPE = Recipe(precision="fp32", batch=16, optimizer="adamw")


@pytest.fixture(scope="module")
def digits():
    train, test = dw.load("digits", limit=64)
    return train, test.subset(torch.arange(40))


def network(seed=0):
    with forked(seed, "weights"):
        return build("vit", shape=(1, 8, 8), classes=10, width=16, depth=5)


def test_fit_follows_the_schedule_and_counts_what_each_epoch_costs(digits):
    model = vit.sparsify(network(), keep_tokens=0.5, at=(1, 3), schedule=vit.KeepSchedule(1, 2))
    seen, spent = [], [0.0]

    def plan(epoch, ids):
        seen.append((model.sparsity.training.tokens, model.training))

    model, history = fit(
        model, digits[0], epochs=5, test=digits[1], recipe=RECIPE, on_plan=plan,
        on_epoch=lambda epoch, history: spent.append(history.cost.flops),
    )  # fmt: skip
    assert [rate for rate, _ in seen] == [1, 1, 0.75, 0.5, 0.5]
    epochs = [b - a for a, b in itertools.pairwise(spent)]
    dense = fit(network(), digits[0], epochs=1, recipe=RECIPE)[1].cost.flops
    assert epochs[0] == epochs[1] == dense > epochs[2] > epochs[3] == epochs[4]
    final = {row.level: row for row in vit.level_costs(model, torch.zeros(1, 1, 8, 8))}["tokens and attention"]
    assert epochs[4] == 64 * final.flops == pytest.approx(dense * final.flops_ratio)
    assert 0 <= history.test_accuracy <= 1
    assert model.sparsity.kept[0].shape[1] == 8, "it was evaluated at the final rates"


def test_a_resumed_training_gives_the_same_network(digits, tmp_path):
    def trained(epochs, checkpoint=None):
        model = vit.sparsify(network(), at=(1, 3), schedule=vit.KeepSchedule(1, 2))
        return fit(model, digits[0], epochs=epochs, schedule_epochs=4, recipe=RECIPE, checkpoint=checkpoint)

    unbroken, history = trained(4)
    trained(2, tmp_path / "c.safetensors")
    resumed, again = trained(4, tmp_path / "c.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True))
    assert again.cost.flops == history.cost.flops
    plain = fit(network(), digits[0], epochs=4, recipe=RECIPE)[0]
    assert not all(torch.equal(a, b) for a, b in zip(unbroken.parameters(), plain.parameters(), strict=True))


def test_a_run_leaves_its_patches_and_refuses_other_levels(digits, tmp_path):
    train, test = digits
    train_kwargs = {
        "test": test,
        "epochs": 3,
        "model": "vit",
        "model_options": {"width": 16, "depth": 5},
        "recipe": RECIPE,
    }
    messages = []
    folder = api.train(
        train,
        run=tmp_path / "r",
        levels=vit.SparseLevels(keep_tokens=0.5, at=(2, 4)),
        log=messages.append,
        **train_kwargs,
    ).run
    assert any("keeps 0.5 of the patches at blocks 2, 4; " in line for line in messages)
    assert folder.metadata["options"]["train"]["levels"] == {"keep_tokens": 0.5, "at": [2, 4]}
    table, about = read_table(folder.path / "patches.parquet", "train")
    assert {key: about[key] for key in ("at", "rows", "columns", "keep")} == {
        "at": [2, 4],
        "rows": 4,
        "columns": 4,
        "keep": 0.5,
    }
    model = vit.SparseLevels(keep_tokens=0.5, at=(2, 4)).sparsify(network(), 3)
    load_checkpoint(folder.path / "model.safetensors", model, None)
    ids = {name: i for i, name in enumerate(str(i) for i in (test.ids if test.ids is not None else range(len(test))))}
    for line in table.to_pylist():
        i = ids[line["id"]]
        x = next(iter(dw.data.batches.batches_of(test.subset(torch.tensor([i])), torch.device("cpu")).test(1)))[1]
        assert line["kept"] == [kept[0].tolist() for kept in vit.kept_patches(model, x)]
        assert line["label_name"] == test.classes[int(test.labels[i])]
        assert line["guess"] == test.classes[int(model(x).argmax())]
        assert line["png"].startswith(b"\x89PNG")
    assert (
        api.train(
            train, run=tmp_path / "r", levels=vit.SparseLevels(keep_tokens=0.5, at=(2, 4)), **train_kwargs
        ).run.path
        == folder.path
    )


def test_a_killed_run_goes_on_and_ends_as_it_would_have(digits, tmp_path):
    train, test = digits
    train_kwargs = {
        "test": test,
        "epochs": 3,
        "model": "vit",
        "model_options": {"width": 16, "depth": 5},
        "recipe": RECIPE,
    }
    train_kwargs["levels"] = vit.SparseLevels(keep_tokens=0.5, keep_attention=0.5, at=(1, 3))
    unbroken = api.train(train, run=tmp_path / "whole", **train_kwargs).run
    stopped = []

    def stop(stage, done, total):
        stopped.append(done)
        if len(stopped) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.train(train, run=tmp_path / "killed", progress=stop, **train_kwargs)
    with pytest.raises(RunError, match="was started with levels="):
        api.train(train, run=tmp_path / "killed", **{**train_kwargs, "levels": None})
    killed = api.train(train, run=tmp_path / "killed", **train_kwargs).run
    for name in ("patches.parquet",):
        assert pq.read_table(killed.path / name).equals(pq.read_table(unbroken.path / name))
    assert killed.metadata["result"] == unbroken.metadata["result"]
    assert killed.metadata["cost"]["train"]["flops"] == unbroken.metadata["cost"]["train"]["flops"]


def test_what_a_step_takes_in_the_end_is_told_level_by_level():
    model = vit.SparseLevels(keep_tokens=0.5, keep_attention=0.1, form="gathered").sparsify(make_network("ours"), 30)
    shares = {row.level: f"{100 * row.flops_ratio:.0f}%" for row in vit.level_costs(model, torch.zeros(1, 3, 32, 32))}
    assert len(set(shares.values())) == 4
    line = describe_sparsity(model, (3, 32, 32))
    assert "keeps 0.5 of the patches and 0.1 of the keys at blocks 3, 6, 9;" in line
    assert f"a step takes {shares['tokens and attention']} of the dense network's operations" in line
    assert f"(patches alone {shares['tokens']}, keys alone {shares['attention']})" in line
    paying = vit.SparseLevels(keep_attention=0.1, form="paying", at=(3,)).sparsify(make_network("ours"), 30)
    line = describe_sparsity(paying, (3, 32, 32))
    assert "keeps 0.1 of the keys where that saves time at block 3;" in line
    assert line.endswith("100% of the dense network's operations")
    masked = vit.SparseLevels(keep_attention=0.1, form="fused", at=(3,)).sparsify(make_network("ours"), 30)
    line = describe_sparsity(masked, (3, 32, 32))
    assert "saves nothing here: `attention_form='paying'` would keep them" in line
    assert "--attention-form paying" in as_flags(line)


def test_levels_from_a_file_are_checked_and_written_back():
    with pytest.raises(ArgumentError, match="a sparse network has no option 'keep'; its options are: keep_tokens"):
        vit.SparseLevels.from_options({"keep": 0.7})
    with pytest.raises(ArgumentError, match="must be a supported vision transformer, got MLP"):
        vit.SparseLevels(keep_tokens=0.7).sparsify(build("mlp", shape=(3, 8, 8), classes=2), 30)
    model = vit.SparseLevels(keep_attention=0.5).sparsify(make_network("ours"), 30)
    assert (model.sparsity.final, model.sparsity.schedule) == (vit.Rates(1, 0.5), vit.KeepSchedule(1, 10))
    options = {"keep_tokens": 0.5, "at": [1, 2], "hold": 0, "over": 3, "form": "gathered"}
    levels = vit.SparseLevels.from_options(options)
    assert levels.to_options() == options
    sparsity = levels.sparsify(make_network("ours"), 30).sparsity
    assert (sparsity.schedule, sparsity.form, sparsity.at) == (vit.KeepSchedule(0, 3), "gathered", (1, 2))


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


QUICK = ("train", "digits", "--limit", 60, "--model", "vit", "--model-option", "width=16", "--precision", "fp32")


def test_train_with_all_three_levels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(
        *QUICK,
        "--epochs",
        3,
        "--levels",
        "examples,tokens,attention",
        "--keep-tokens",
        0.5,
        "--sparse-at",
        "2,5",
        "--attention-form",
        "paying",
        "--run",
        "t",
    )
    metadata = json.loads((tmp_path / "t" / "run.json").read_text())
    options = metadata["options"]["train"]
    assert options["levels"] == {"keep_tokens": 0.5, "keep_attention": 0.3, "form": "paying", "at": [2, 5]}
    assert options["policy"] == "ExampleSwap(keep=0.8, period=1, swap=0.05, swaps=5)"
    page = tmp_path / "t" / "report.html"
    run("report", "t")
    assert "Kept patches" in page.read_text()
    assert "of 16 patches it keeps 8, then 4" in page.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--levels", "token"), "--levels has no 'token': give some of examples, tokens, attention"),
        (("--levels", "tokens", "--keep-attention", 0.5), "--keep-attention requires the level attention"),
        (("--keep-tokens", 0.5), "--keep-tokens requires the level tokens"),
        (("--levels", "examples", "--sparse-at", "3"), "--sparse-at requires the level tokens or attention"),
        (("--levels", "tokens", "--attention-form", "paying"), "--attention-form requires the level attention"),
        (("--levels", "attention", "--attention-form", "quick"), "--attention-form must be one of 'auto', 'fused'"),
        (("--levels", "tokens", "--sparse-at", "3;6"), "--sparse-at must be like 3,6,9, got '3;6'"),
        (("--levels", "tokens", "--sparse-at", "30"), "--sparse-at must hold blocks of 0 to 11, since the model has"),
        (("--levels", "tokens", "--keep-tokens", 1.5), r"--keep-tokens must be in (0, 1]"),
        (("--levels", "examples", "--policy", "ucb"), "policy example_swap; it cannot stand beside --policy ucb"),
    ],
)  # fmt: skip
def test_words_that_do_not_go_together(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert message in " ".join(run(*QUICK, *words, "--run", "t", code=2).stderr.split())


GRID = """
name = "levels"
methods = ["dense", "tokens", "all_three"]
keep = [1.0, 0.8]
seeds = [0]
[data]
source = "digits"
limit = 60
[train]
model = "vit"
model_options = { width = 16, depth = 5 }
epochs = 3
batch = 16
[[method]]
name = "dense"
baseline = "shorter_full"
keep = [1.0]
[[method]]
name = "tokens"
baseline = "shorter_full"
keep = [1.0]
levels = { keep_tokens = 0.5, at = [2, 4] }
[[method]]
name = "all_three"
policy = "example_swap"
options = { period = 1 }
keep = [0.8]
levels = { keep_tokens = 0.5, keep_attention = 0.5, at = [2, 4] }
"""


def test_a_grid_has_levels_and_cells_at_a_methods_own_keeps(tmp_path):
    (tmp_path / "g.toml").write_text(GRID)
    grid = read_grid(tmp_path / "g.toml")
    cells = cells_of(grid)
    assert [(cell.method, cell.keep) for cell in cells] == [("dense", 1), ("tokens", 1), ("all_three", 0.8)]
    rows = {cell.method: run_cell(grid, cell, tmp_path / "out") for cell in cells}
    flops = {name: row["cost"]["train"]["flops"] for name, row in rows.items()}
    passed = {name: row["cost"]["train"]["backward"] for name, row in rows.items()}
    assert flops["all_three"] < flops["tokens"] < flops["dense"]
    assert passed["tokens"] == passed["dense"] == 180
    assert passed["all_three"] == 144
    assert flops["all_three"] / 144 != flops["dense"] / 180
    assert math.isfinite(rows["all_three"]["test_loss"])
    assert rows["tokens"]["test_loss"] != rows["dense"]["test_loss"]


def test_a_grid_with_wrong_levels_is_told_before_it_runs(tmp_path):
    (tmp_path / "g.toml").write_text(GRID.replace("keep_attention", "keep_keys"))
    with pytest.raises(ArgumentError, match="a sparse network has no option 'keep_keys'"):
        read_grid(tmp_path / "g.toml")
    (tmp_path / "g.toml").write_text(GRID.replace("keep = [0.8]\n", "keep = [0.7]\n"))
    with pytest.raises(ArgumentError, match=r"'all_three' has keep \[0\.7\].* the grid's \[1\.0, 0\.8\]"):
        read_grid(tmp_path / "g.toml")
