"""Metrics of each epoch to the loggers of lightning-fabric."""

from __future__ import annotations

import csv

import pytest
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.logger import Logger

import datawinnow as dw
from datawinnow.core.errors import ArgumentError
from tests.train.helpers import PLAIN, blobs

RECIPE = dw.Recipe(**PLAIN)


def read(folder):
    with next(folder.rglob("metrics.csv")).open() as file:
        return list(csv.DictReader(file))


def test_each_epoch_is_a_row_of_the_csv_file(tmp_path):
    run = dw.api.record(
        blobs(), test=blobs(), epochs=3, recipe=RECIPE, model="mlp", run=tmp_path / "run", log_dir=tmp_path / "logs"
    )
    rows, history = read(tmp_path / "logs" / "run"), run.history().to_pylist()
    assert [int(row["step"]) for row in rows] == [0, 1, 2]
    assert [float(row["loss"]) for row in rows] == pytest.approx([row["loss"] for row in history])
    assert rows[0]["test_accuracy"] == ""  # not evaluated
    assert float(rows[2]["test_accuracy"]) == pytest.approx(history[2]["test_accuracy"])


class Memory(Logger):
    """A logger that keeps what it gets."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    name = version = "memory"

    def log_metrics(self, metrics, step=None) -> None:
        self.steps.append(step)

    def log_hyperparams(self, *args, **kwargs) -> None:
        """Nothing."""


def test_prune_and_train_take_loggers(tmp_path):
    memory = Memory()
    kept = dw.prune(blobs(), keep=0.5, score="el2n", epochs=2, recipe=RECIPE, run=tmp_path / "a", logger=memory)
    options = {"epochs": 1, "recipe": RECIPE, "run": tmp_path / "b"}
    dw.api.train(kept.dataset, logger=[memory, CSVLogger(tmp_path / "csv", name="b")], **options)
    assert memory.steps == [0, 1, 0]
    assert len(read(tmp_path / "csv")) == 1
    with pytest.raises(ArgumentError, match="must be a logger of lightning-fabric"):
        dw.api.train(blobs(), **{**options, "run": tmp_path / "c"}, logger=print)
