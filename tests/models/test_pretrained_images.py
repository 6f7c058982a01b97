"""Image classifiers of transformers: on the pixels that their own processor makes, at every size, with a new head."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from datawinnow import Recipe, SizeSchedule, fit
from datawinnow.core.errors import ArgumentError
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.examples import Examples
from datawinnow.text.image_processor import takes_images
from datawinnow.train.build import build_network
from datawinnow.train.network import size_plan
from tests.data.texts import write_model
from tests.models.image_models import write_image_model

KINDS = ("vit", "resnet", "convnext")


def images(n: int = 6, channels: int = 3, side: int = 32, classes: int = 3) -> Examples:
    g = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, (n, channels, side, side), generator=g, dtype=torch.uint8)
    return Examples(x, torch.arange(n) % classes, tuple(map(str, range(classes))))


def batch_of(data: Examples) -> torch.Tensor:
    """As the training gets it."""
    from datawinnow.data.batches import batches_of

    return next(iter(batches_of(data, torch.device("cpu")).test(len(data))))[1]


def theirs(folder, data: Examples) -> torch.Tensor:
    """Logits by transformers alone: its image processor on the pixels, then its model."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    pictures = [Image.fromarray(np.repeat(x.permute(1, 2, 0).numpy(), 3 // len(x), axis=2)) for x in data.x]
    pixels = AutoImageProcessor.from_pretrained(folder)(pictures, return_tensors="pt")
    with torch.no_grad():
        return AutoModelForImageClassification.from_pretrained(folder).eval()(**pixels).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_are_those_of_transformers_on_the_same_pixels(tmp_path, kind, channels):
    name = write_image_model(tmp_path / "tiny", kind)
    data = images(channels=channels)
    network, _, _ = build_network(name, dataset_info(data), 0)
    with torch.no_grad():
        ours = network.eval()(batch_of(data))
    expected = theirs(tmp_path / "tiny", data)
    assert expected.std() > 0.01  # the logits say something
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("side", [16, 48])
def test_images_of_another_size_are_resized_as_by_the_processor(tmp_path, side):
    name = write_image_model(tmp_path / "tiny", "vit")
    data = images(side=side)
    # smooth images: the processor rounds to whole pixel values
    data = Examples(data.x // 32 + 100, data.labels, data.classes)
    network, _, _ = build_network(name, dataset_info(data), 0)
    from transformers import AutoImageProcessor

    pictures = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in data.x]
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "tiny")(pictures, return_tensors="pt")["pixel_values"]
    ours = network.inputs(batch_of(data))["pixel_values"]
    assert ours.shape == pixels.shape
    # one pixel value of 255, divided by a standard deviation of 0.25
    assert torch.allclose(ours, pixels, atol=1.5 / 255 / 0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_classes_gives_a_new_head_from_the_seed(tmp_path, kind):
    name = write_image_model(tmp_path / "tiny", kind)
    info = dataset_info(images(classes=5))
    states = [build_network(name, info, seed)[0].state_dict() for seed in (0, 0, 1)]
    changed = [key for key in states[0] if not torch.equal(states[0][key], states[2][key])]
    assert changed
    assert all("classifier" in key for key in changed)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_floats_are_used_as_they_are(tmp_path):
    name = write_image_model(tmp_path / "tiny", "vit")
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data = Examples(x, torch.arange(4) % 3, ("a", "b", "c"))
    network, _, _ = build_network(name, dataset_info(data), 0)
    assert torch.equal(network.inputs(x)["pixel_values"], x)


def test_a_size_schedule_interpolates_the_positions_and_costs_less(tmp_path):
    data = images(12)
    network, _, _ = build_network(write_image_model(tmp_path / "tiny", "vit"), dataset_info(data), 0)
    plan = size_plan(SizeSchedule(sizes=(16, 32), shares=(0.5, 0.5)), network, data, torch.device("cpu"))
    assert 0.2 < plan.costs[0] < 0.35
    assert plan.costs[1] == 1
    _, history = fit(network, data, epochs=2, batch=4, size_schedule={"start": 16, "share": 0.5})
    assert [row["input_size"] for row in history.rows][-1] == 32


def test_a_network_that_cannot_interpolate_its_positions_refuses_the_schedule(tmp_path):
    data = images()
    network, _, _ = build_network(write_image_model(tmp_path / "tiny", "vit"), dataset_info(data), 0)
    network.interpolates = False
    with pytest.raises(ArgumentError, match="cannot take inputs of size 16"):
        fit(network, data, epochs=1, size_schedule=SizeSchedule(start=16))


def test_image_size_sets_the_side_and_keeps_the_weights(tmp_path):
    name = write_image_model(tmp_path / "tiny", "vit")
    data = images()
    small, _, _ = build_network(name, dataset_info(data), 0, {"image_size": 16})
    usual, _, _ = build_network(name, dataset_info(data), 0)
    assert small.inputs(batch_of(data))["pixel_values"].shape == (6, 3, 16, 16)
    assert torch.isfinite(small(batch_of(data))).all()
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), usual.parameters(), strict=True))


def test_a_sparse_file_has_the_usual_defaults(tmp_path):
    """As ViT's first checkpoints have it: a number for the size, nothing on rescaling."""
    name = write_image_model(tmp_path / "tiny", "vit")
    data = images()
    expected = build_network(name, dataset_info(data), 0)[0](batch_of(data))
    file = tmp_path / "tiny" / "preprocessor_config.json"
    full = json.loads(file.read_text())
    file.write_text(json.dumps({"size": 32, "image_mean": full["image_mean"], "image_std": full["image_std"]}))
    assert torch.allclose(build_network(name, dataset_info(data), 0)[0](batch_of(data)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (None, "no readable preprocessor_config.json"),
        ({"size": None}, "must have size"),
        ({"size": {"height": 0, "width": 4}}, "must have size"),
        ({"image_std": [0.0, 0.5, 0.5]}, "must have size"),
        ({"image_mean": [0.5, 0.5]}, "a mean of 2 channels"),
        ({"rescale_offset": True}, "normalises twice"),
    ],
)
def test_a_processor_that_says_too_little_is_refused(tmp_path, change, match):
    name = write_image_model(tmp_path / "tiny", "vit")
    file = tmp_path / "tiny" / "preprocessor_config.json"
    if change is None:
        file.unlink()
    else:
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ArgumentError, match=match):
        build_network(name, dataset_info(images()), 0)


def test_models_of_texts_and_of_images_are_told_apart(tmp_path):
    texts, pictures = write_model(tmp_path / "texts"), write_image_model(tmp_path / "images", "resnet")
    assert takes_images(pictures)
    assert not takes_images(texts)
    assert not takes_images("hf:./nowhere")
    with pytest.raises(ArgumentError, match=r"cannot load AutoModelForImageClassification|no readable preprocessor"):
        build_network(texts, dataset_info(images()), 0)
    with pytest.raises(ArgumentError, match="takes images of 3 channels, but these have 4"):
        build_network(pictures, dataset_info(images(channels=4)), 0)
    vectors = Examples(torch.randn(4, 5), torch.arange(4) % 2, ("a", "b"))
    with pytest.raises(ArgumentError, match="takes images or texts"):
        build_network(pictures, dataset_info(vectors), 0)


def test_an_option_that_is_none_of_the_configuration_is_refused(tmp_path):
    name = write_image_model(tmp_path / "tiny", "vit")
    with pytest.raises(ArgumentError, match="no option 'drop'"):
        build_network(name, dataset_info(images()), 0, {"drop": 0.1})


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    name = write_image_model(tmp_path / "tiny", "vit")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ArgumentError, match=r"pip install 'datawinnow\[transformers\]'"):
        build_network(name, dataset_info(images()), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(tmp_path, kind):
    """Brightness is the class."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    x = (torch.randint(0, 60, (64, 3, 16, 16), generator=g) + 150 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    data = Examples(x, labels, ("dark", "light"))
    recipe = Recipe(optimizer="adamw", lr=3e-3, batch=16, precision="fp32")
    _, history = fit(write_image_model(tmp_path / "tiny", kind), data, epochs=6, test=data, recipe=recipe)
    assert history.test_accuracy > 0.9
