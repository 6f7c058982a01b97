"""Pretrained networks in the verbs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import datawinnow as dw
from datawinnow.bench import read_grid
from datawinnow.core.errors import ArgumentError
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import network_of_run
from datawinnow.train import Recipe
from datawinnow.train.checkpoint import load_checkpoint
from tests.bench.conftest import GRID
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


def first_pixels(x):
    return x.flatten(1)[:, 10:40]


@pytest.mark.parametrize("method", ["k_center", "herding", "moderate"])
def test_a_selection_by_an_embedding_needs_no_training(tmp_path, method):
    data, _ = dw.load("digits", limit=80)
    run = tmp_path / "run"
    kept = dw.api.prune(data, keep=0.5, method=method, embedding=first_pixels, run=run)
    folder = RunFolder.open(run)
    assert len(kept.selection) == 40
    assert "record" not in folder.metadata["status"]
    assert folder.metadata["cost"]["probe"]["forward"] == 80
    assert folder.metadata["cost"]["probe"]["backward"] == 0
    # by the array itself
    features = torch.as_tensor((data.x.float() / 255 - data.mean[0]) / data.std[0]).flatten(1)[:, 10:40]
    assert torch.allclose(torch.tensor(np.load(next(run.glob("probe/*/features.npy")))), features, atol=1e-5)
    again = dw.api.select(run, keep=0.5, method=method, embedding=first_pixels, data=data)
    assert torch.equal(again.selection.index, kept.selection.index)


def test_a_score_by_an_embedding(tmp_path):
    data, _ = dw.load("digits", limit=80)
    run = tmp_path / "run"
    dw.api.prune(data, keep=0.5, method="k_center", embedding=first_pixels, run=run)
    values = dw.api.score(run, "prototypes", embedding=first_pixels, data=data)["prototypes"]
    features = torch.tensor(np.load(next(run.glob("probe/*/features.npy"))))
    assert torch.allclose(values, dw.scores.prototypes(features, data.labels))


def counting(calls):
    def count(x):
        calls.append(len(x))
        return x.flatten(1)

    return count


def test_the_same_function_of_another_process_finds_its_features(tmp_path):
    data, _ = dw.load("digits", limit=80)
    first, second = [], []
    functions = [counting(first), counting(second)]  # at two places in memory
    dw.api.prune(data, keep=0.5, method="k_center", embedding=functions[0], run=tmp_path / "run")
    dw.api.select(tmp_path / "run", keep=0.4, method="herding", embedding=functions[1], data=data)
    assert (sum(first), second) == (80, [])


@pytest.mark.parametrize("method", ["dual_beta", "random", "el2n"])
def test_a_method_that_reads_no_features_lists_those_that_do(method):
    data, _ = dw.load("digits", limit=80)
    with pytest.raises(ArgumentError, match=r"no features, so it takes no `embedding=`.*herding.*k_center"):
        dw.api.prune(data, keep=0.5, method=method, embedding=first_pixels)


@pytest.mark.parametrize("embedding", ["vit", "hf", ":embed", "module:", 3])
def test_what_is_no_embedding_is_refused(embedding):
    data, _ = dw.load("digits", limit=80)
    with pytest.raises(ArgumentError, match=r"embedding must be a transformers model, hf:PATH, or module:function"):
        dw.api.prune(data, keep=0.5, method="k_center", embedding=embedding)


def test_a_file_of_a_grid_names_no_function_as_an_embedding(tmp_path):
    file = tmp_path / "grid.toml"
    grid = GRID.format(source="digits") + '\n[[method]]\nname = "near"\nselect = "k_center"\n'
    file.write_text(grid + 'options = { embedding = "colours:embed" }\n')
    with pytest.raises(ArgumentError, match=r"'colours:embed' of a file must be hf:PATH"):
        read_grid(file)
    file.write_text(grid + 'options = { embedding = "hf:tiny" }\n')
    assert read_grid(file).method_of("near")[0].embedding == "hf:tiny"
