"""Files of a run name the rows of the user's own dataset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.datasets import load_digits

import datawinnow as dw
from datawinnow import api
from datawinnow.core.artifacts import write_npy
from datawinnow.core.errors import ArgumentError, MissingArrayError, RunError
from datawinnow.core.selection_history import FILE_NAME, SelectionHistory
from datawinnow.data.source_positions import source_rows
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.score import score_run

from .conftest import FAST


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "digits"
    load = dw.LoadOptions(limit=300)
    return dw.prune("digits", keep=0.2, method="el2n", epochs=1, model="mlp", recipe=FAST, run=run, load=load)


def test_selection_names_the_rows_of_scikit_learns_digits(pruned):
    x, y = load_digits(return_X_y=True)
    path = pruned.run.path / "selection.parquet"
    expected = pruned.indices_in((x, y))
    pixels = (torch.tensor(x[expected]) * 255 / 16).round().to(torch.uint8)
    assert torch.equal(pixels, pruned.dataset.x[pruned.selection.index].flatten(1))
    assert torch.equal(dw.indices_in(path, (x, y)), expected)
    assert torch.equal(dw.indices_in(str(pruned.run.path), (x, y)), expected)
    table = pq.read_table(path)
    kept = [(row["order"], row["row"], row["id"]) for row in table.to_pylist() if row["kept"]]
    assert [row for _, row, _ in sorted(kept)] == expected.tolist()
    assert [int(name) for _, _, name in sorted(kept)] == expected.tolist()
    with pytest.raises(ArgumentError, match="1,797"):
        dw.indices_in(path, (x[:300], y[:300]))


def test_a_sorted_or_filtered_file_names_the_same_rows(pruned, tmp_path):
    x, y = load_digits(return_X_y=True)
    table = pq.ParquetFile(pruned.run.path / "selection.parquet").read()
    expected = pruned.indices_in((x, y))
    pq.write_table(table.sort_by([("row", "descending")]), tmp_path / "sorted.parquet")
    pq.write_table(table.filter(table.column("kept")), tmp_path / "kept.parquet")
    for name in ("sorted", "kept"):
        assert torch.equal(dw.indices_in(tmp_path / f"{name}.parquet", (x, y)), expected)
    pq.write_table(table.set_column(1, "row", table.column("position")), tmp_path / "other.parquet")
    with pytest.raises(RunError, match="do not say what was written"):
        dw.indices_in(tmp_path / "other.parquet", (x, y))


def test_scores_have_the_rows_too(pruned):
    score_run(pruned.run, pruned.dataset, ["el2n"])
    table = pq.read_table(pruned.run.path / "scores.parquet")
    assert table.column("row").to_pylist() == pruned.dataset.origin.rows.tolist()
    assert pruned.run.scores().column_names == ["id", "label", "el2n"]
    assert (load_digits().target[table.column("row").to_numpy()] == np.array(table.column("label"))).all()


def test_histories_and_recorded_plans_have_the_rows_too(tmp_path):
    x, y = load_digits(return_X_y=True)
    load = dw.LoadOptions(limit=100)
    arguments = {"policy": "random", "keep": 0.3, "epochs": 2, "model": "mlp", "recipe": FAST, "load": load}
    trained = dw.api.train("digits", run=tmp_path / "run", record_plan=tmp_path / "plan.safetensors", **arguments)
    train, _ = dw.load("digits", limit=100)
    plan = SelectionHistory.load(tmp_path / "plan.safetensors")
    history = SelectionHistory.load(trained.run.path / FILE_NAME)
    for epoch in range(2):
        rows = plan.source_rows(epoch)
        pixels = (torch.tensor(x[rows]) * 255 / 16).round().to(torch.uint8)
        assert torch.equal(pixels, train.x[plan.ids(epoch)].flatten(1))
        assert sorted(rows) == history.source_rows(epoch).tolist()
        assert sorted(rows) != sorted(plan.ids(epoch))
        assert (y[rows] == train.labels[plan.ids(epoch)].numpy()).all()
    with pytest.raises(ArgumentError, match="has no rows of the source"):
        replace(plan, rows=None).source_rows(0)


def test_recorded_columns_have_the_rows_too(pruned, tmp_path):
    train = pruned.dataset
    run = RunFolder.open(pruned.run.path)
    assert torch.equal(run.rows, source_rows(train))
    assert not torch.equal(run.rows, torch.arange(len(train)))
    # of a dataset of the user's own, and after a resume
    x, y = torch.randn(60, 4), torch.arange(60) % 3
    api.record(dw.load((x, y), holdout=0.2)[0], run=tmp_path / "own", epochs=1, recipe=FAST)
    users = RunFolder.open(tmp_path / "own")
    loss = users.arrays()["loss"][0]
    labels = y[users.rows]
    assert len(loss) == len(labels) == 48
    assert torch.equal(labels, dw.load((x, y), holdout=0.2)[0].labels)
    other = users.rows.flip(0).numpy()
    write_npy(users.signals / "row.npy", other)
    with pytest.raises(RunError, match="is not the file that was written here"):
        _ = users.rows
    for wrong in (other[:5], other.astype(np.int32), -other):
        write_npy(users.signals / "row.npy", wrong)
        with pytest.raises(RunError, match="holds no places of 48 examples"):
            _ = users.rows
    (users.signals / "row.npy").unlink()
    with pytest.raises(MissingArrayError, match="does not know the rows"):
        _ = users.rows


def test_a_history_has_no_rows_below_zero():
    history = SelectionHistory(n=2, index=np.array([1]), ends=np.array([1]), rows=np.array([4, 7]))
    assert history.source_rows(0).tolist() == [7]
    with pytest.raises(ArgumentError, match="rows must be places"):
        replace(history, rows=np.array([-4, 7]))
