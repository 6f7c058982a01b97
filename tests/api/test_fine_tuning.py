"""Pretrained networks in the verbs."""

from __future__ import annotations

import torch

import datawinnow as dw
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import network_of_run
from datawinnow.train import Recipe
from datawinnow.train.checkpoint import load_checkpoint
from tests.models.image_models import write_image_model

QUICK = Recipe(precision="fp32", lr=0.01, batch=64)


def test_a_pretrained_network_of_images_is_recorded_and_probed(tmp_path):
    name = write_image_model(tmp_path / "tiny", "resnet", labels=10)
    load = dw.api.LoadOptions(limit=60)
    run = tmp_path / "run"
    dw.api.prune("digits", keep=0.5, method="k_center", epochs=1, model=name, recipe=QUICK, load=load, run=run)
    folder = RunFolder.open(run)
    assert folder.metadata["model"]["name"] == name
    assert folder.metadata["options"]["load"] == {"limit": 60}
    # without the dataset: its normalisation is restored with the weights
    network = network_of_run(folder)
    load_checkpoint(run / "model.safetensors", network, None)
    train, _ = dw.load("digits", limit=60)
    assert torch.allclose(network.scale[0], torch.tensor(train.std[0] / 0.2), atol=1e-5)
    assert torch.allclose(network.shift[1], torch.tensor((train.mean[0] - 0.4) / 0.25), atol=1e-5)
