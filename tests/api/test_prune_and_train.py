"""`datawinnow.api.prune` and `train`: DATA by name, with all that the command can do."""

from __future__ import annotations

import pytest
import torch

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.data.examples import Examples
from datawinnow.train import Recipe

QUICK = {"epochs": 2, "model": "mlp", "recipe": Recipe(precision="fp32", batch=64), "load": dw.LoadOptions(limit=120)}


def test_prune_checks_writes_and_reports_and_train_reads_its_selection(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = dw.prune("digits", keep=0.5, score="el2n", check=True, out="kept", report=True, **QUICK)
    assert kept.run.path.as_posix() == "runs/digits"
    assert len(kept) == 60
    assert kept.report.is_file()
    assert "points" in kept.check["sentence"]
    assert [len(split) for split in dw.load("kept")] == [60, len(dw.load("digits")[1])]  # tested on what digits is
    trained = dw.api.train("digits", select="runs/digits", epochs=1, model="mlp", recipe=QUICK["recipe"])
    assert trained.selection_metadata["method"] == "el2n_top"
    assert trained.run.path.as_posix() == "runs/digits-el2n_top-0.5"
    assert trained.accuracy is not None


def test_what_belongs_to_data_or_to_an_object_only_is_refused():
    train, _ = dw.load("digits", limit=120)
    with pytest.raises(ArgumentError, match=r"load= \(for DATA, a name"):
        dw.prune(train, keep=0.5, method="random", load=dw.LoadOptions(limit=10))
    with pytest.raises(ArgumentError, match="must be a path"):
        dw.prune("digits", keep=0.5, method="random", test=train)
    with pytest.raises(ArgumentError, match="`check=True` needs a test split"):
        dw.prune(train, keep=0.5, method="random", check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs must be"),
        ({"epochs": 2.5}, "epochs must be"),
        ({"epochs": True}, "epochs must be"),
        ({"epochs": "3"}, "epochs must be"),
        ({"train_epochs": 5.5}, "train_epochs must be"),
        ({"schedule_epochs": 0}, "schedule_epochs must be"),
        ({"check_seeds": 0}, "check_seeds must be"),
        ({"recipe": {"lr": 0.1}}, "recipe must be a dw.Recipe"),
        ({"load": {"limit": 3}}, "load must be dw.api.LoadOptions"),
        ({"report": True}, "`report=True` writes the page into the run folder"),
    ],
    ids=str,
)
def test_what_would_fail_later_is_refused_before_anything_is_trained(monkeypatch, arguments, message):
    monkeypatch.setattr("datawinnow.runs.record.begin_run", lambda *_, **__: pytest.fail("a run was begun"))
    train, _ = dw.load("digits", limit=120)
    with pytest.raises(ArgumentError, match=message):
        dw.prune(train, keep=0.5, method="el2n", **arguments)


def test_a_dataset_that_cannot_be_written_is_refused_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setattr("datawinnow.runs.record.begin_run", lambda *_, **__: pytest.fail("a run was begun"))
    data = torch.utils.data.TensorDataset(torch.rand(40, 4), torch.arange(40) % 2)
    with pytest.raises(ArgumentError, match="`out=` writes datasets that datawinnow loaded, not a TensorDataset"):
        dw.prune(data, keep=0.5, method="el2n", out=tmp_path / "kept")


def test_one_name_may_stand_for_a_list_of_one(tmp_path):
    train, _ = dw.load("digits", limit=120)
    kept = dw.prune(train, keep=0.5, method="el2n", run=tmp_path / "run", epochs=2, model="mlp")
    assert list(dw.api.score(str(kept.run.path), "aum", data=train)) == ["aum"]
    with pytest.raises(ArgumentError, match="no score is called 'nope'"):
        dw.api.score(kept.run, ["all", "nope"], data=train)


def test_train_takes_a_selection_as_well_as_its_file(tmp_path):
    kept = dw.prune("digits", keep=0.25, method="random", run=tmp_path / "run", **QUICK)
    arguments = {**QUICK, "load": dw.LoadOptions(limit=120)}
    by_file = dw.api.train("digits", select=tmp_path / "run", run=tmp_path / "a", **arguments)
    by_object = dw.api.train("digits", select=kept.selection, run=tmp_path / "b", **arguments)
    assert by_object.accuracy == by_file.accuracy
    assert by_object.run.metadata["cost"]["train"]["backward"] == 2 * 30


def test_select_fits_beta_sampling_to_the_training_that_prune_planned(tmp_path):
    recipe = Recipe(precision="fp32", batch=64)
    load = dw.LoadOptions(limit=120)
    pruned = dw.prune(
        "digits", keep=0.3, train_epochs=300, epochs=10, model="mlp", recipe=recipe, load=load, run=tmp_path / "r"
    )

    def ids(**options):
        return dw.api.select(tmp_path / "r", keep=0.3, options=options).selection.index.tolist()

    assert ids() == ids(train_epochs=300) == pruned.selection.index.tolist()
    assert ids() != ids(train_epochs=10) == ids(train_epochs=10)


def test_select_fits_beta_to_as_many_epochs_as_are_published_where_prune_was_told_to(tmp_path):
    options = {"model": "mlp", "recipe": Recipe(precision="fp32", batch=64), "load": dw.LoadOptions(limit=60)}
    arguments = {"keep": 0.3, "epochs": 10, "schedule_epochs": 200, **options}
    for name, planned in (("fitted", {"train_epochs": 200}), ("published", {})):
        pruned = dw.prune("digits", run=tmp_path / name, **arguments, **planned)
        kept = dw.api.select(tmp_path / name, keep=0.3)
        assert kept.selection.index.tolist() == pruned.selection.index.tolist(), name


def test_held_out_data_of_unknown_classes_are_refused_before_the_recording(tmp_path):
    train, val = (
        Examples(torch.randn(12, 4), torch.arange(12) % 3, classes) for classes in (("a", "b", "c"), ("a", "b", "z"))
    )
    with pytest.raises((ArgumentError, DataError), match="z"):
        dw.prune(train, keep=0.5, method="glister", val=val, run=tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()
