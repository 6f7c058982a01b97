"""Commands on pretrained networks."""

from __future__ import annotations

from datawinnow.runs.folder import RunFolder
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
    call(*TRAIN, *run, code=2)


def test_a_module_that_is_not_there_is_refused_by_the_flag(call, tmp_path):
    shown = call(*TRAIN, "--freeze", "layer9", "--run", str(tmp_path / "run"), code=2).stderr
    assert "layer9" in shown
    assert "freeze=" not in shown
