"""Commands on pretrained networks."""

from __future__ import annotations

import sys

import torch
from safetensors import safe_open

from datawinnow.runs.folder import RunFolder
from datawinnow.runs.selection_file import read_selection
from tests.models.image_models import write_image_model


def test_the_command_trains_a_pretrained_network_of_images(call, tmp_path):
    name = write_image_model(tmp_path / "tiny", "vit", labels=10)
    words = ("--limit", "60", "--epochs", "1", "--lr", "0.01", "--precision", "fp32")
    call("train", "digits", "--model", name, "--model-option", "image_size=16", *words, "--run", str(tmp_path / "run"))
    metadata = RunFolder.open(tmp_path / "run").metadata
    assert metadata["model"] == {**metadata["model"], "name": name, "options": {"image_size": 16}}
    assert metadata["status"]["train"] == "done"


TRAIN = ("train", "digits", "--limit", "60", "--epochs", "1", "--precision", "fp32", "--model", "resnet8")


def test_layers_are_frozen_and_slowed_and_another_run_is_refused(call, tmp_path):
    run = ("--run", str(tmp_path / "run"))
    groups = (
        "--freeze",
        "features.0",
        "--freeze",
        "features.1",
        "--lr-scale",
        "backbone=0.1",
        "--lr-scale",
        "classifier=2",
    )
    call(*TRAIN, *groups, *run)
    recipe = RunFolder.open(tmp_path / "run").metadata["options"]["train"]["recipe"]
    assert recipe["freeze"] == ["features.0", "features.1"]
    assert recipe["lr_scale"] == {"backbone": 0.1, "classifier": 2}
    assert "trained already" in call(*TRAIN, *groups, *run).stderr
    assert "freeze" in call(*TRAIN, *run, code=2).stderr
    assert "lr_scale" in call(*TRAIN, *groups[:4], *run, code=2).stderr


def test_a_run_with_a_size_schedule_is_not_one_without(call, tmp_path):
    run = ("--run", str(tmp_path / "run"))
    call(*TRAIN, "--progressive-resizing", "4", *run)
    assert "size_schedule" in call(*TRAIN, *run, code=2).stderr


def test_a_module_that_is_not_there_is_refused_by_the_flag(call, tmp_path):
    shown = call(*TRAIN, "--freeze", "layer9", "--run", str(tmp_path / "run"), code=2).stderr
    assert "layer9" in shown
    assert "freeze=" not in shown


def test_an_embedding_chooses_images_without_training(call, tmp_path):
    name = write_image_model(tmp_path / "tiny", "vit")
    run = tmp_path / "run"
    words = ("--keep", "0.5", "--method", "k_center", "--embedding", name)
    call("prune", "digits", "--limit", "40", *words, "--run", str(run), "--no-report")
    assert "record" not in RunFolder.open(run).metadata["status"]
    before = read_selection(run / "selection.parquet")[0].index
    call("select", str(run), *words)
    assert torch.equal(read_selection(run / "selection.parquet")[0].index, before)
    call("score", str(run), "--score", "prototypes", "--embedding", name)
    shown = call("select", str(run), "--keep", "0.5", "--method", "dual_beta", "--embedding", name, code=2).stderr
    assert "herding" in shown


def test_a_function_is_imported_from_the_working_directory(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "colours.py").write_text("def embed(x):\n    return x.flatten(1)\n")
    words = ("--keep", "0.5", "--method", "herding", "--embedding", "colours:embed", "--run", "run", "--no-report")
    call("prune", "digits", "--limit", "40", *words)
    shown = call("prune", "digits", "--limit", "40", *words[:5], "colours:other", "--run", "other", code=2).stderr
    assert "has no function 'other'" in shown
    sys.modules.pop("colours", None)


def test_a_head_is_trained_on_cached_features_and_the_network_is_written(call, tmp_path):
    run = ("--run", str(tmp_path / "run"))
    call(*TRAIN, "--freeze", "backbone", "--cache-features", *run)
    metadata = RunFolder.open(tmp_path / "run").metadata
    assert metadata["options"]["train"]["recipe"]["cache_features"] is True
    assert metadata["cost"]["train"]["forward"] == 60
    with safe_open(tmp_path / "run" / "model.safetensors", "pt") as file:
        assert any("features." in key for key in file.keys())  # noqa: SIM118
    assert "--freeze" in call(*TRAIN, "--cache-features", "--run", str(tmp_path / "other"), code=2).stderr
