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
