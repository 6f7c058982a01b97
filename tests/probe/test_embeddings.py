"""Features by a pretrained model or a function of the user's, in one forward pass."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.data.examples import Examples
from datawinnow.probe.embeddings import probe_embedding
from tests.data.texts import write_texts
from tests.models.image_models import write_image_model
from tests.models.test_pretrained_images import images


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_images_get_the_pooled_output_of_their_model(tmp_path, kind):
    """A ViT that was trained to classify has no weights of a pooling layer: its class token then."""
    from transformers import AutoModel
    from transformers import ViTImageProcessorPil as Processor

    name, data = write_image_model(tmp_path / "tiny", kind), images(5)
    probed = probe_embedding(data, name, out=tmp_path / "probe")
    pixels = Processor.from_pretrained(tmp_path / "tiny")(
        [x.permute(1, 2, 0).numpy() for x in data.x], return_tensors="pt"
    )
    with torch.no_grad():
        output = AutoModel.from_pretrained(tmp_path / "tiny").eval()(**pixels)
    expected = output.last_hidden_state[:, 0] if kind == "vit" else output.pooler_output.flatten(1)
    assert expected.std(0).mean() > 0.01
    assert torch.allclose(torch.as_tensor(probed["features"]), expected, atol=1e-4)
    assert (probed.cost.forward, probed.cost.backward) == (5, 0)
    assert probed.cost.passes == 5 / 3
    assert probed.cost.flops > 0


def test_the_second_time_nothing_is_run_and_other_weights_are_refused(tmp_path, monkeypatch):
    name, data = write_image_model(tmp_path / "tiny", "vit"), images(5)
    first = probe_embedding(data, name, out=tmp_path / "probe")
    with monkeypatch.context() as patch:
        patch.setattr("datawinnow.probe.embeddings.PooledImages.forward", None)
        again = probe_embedding(data, name, out=tmp_path / "probe")
    assert torch.equal(torch.as_tensor(again["features"]), torch.as_tensor(first["features"]))
    assert again.cost.forward == 5
    write_image_model(tmp_path / "tiny", "vit", labels=4)
    with pytest.raises(RunError, match="arrays of another model"):
        probe_embedding(data, name, out=tmp_path / "probe")


def test_damaged_features_are_not_read(tmp_path):
    data = images(5)
    probe_embedding(data, mean_colour, out=tmp_path / "probe")
    file = tmp_path / "probe" / "features.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match="probe again"):
        probe_embedding(data, mean_colour, out=tmp_path / "probe")


def mean_colour(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3))


def test_a_function_gets_the_pixels_that_are_trained_on(tmp_path):
    data = images(7)
    features = torch.as_tensor(probe_embedding(data, mean_colour, out=tmp_path / "probe")["features"])
    x = data.x.float() / 255
    mean, std = (torch.tensor(each).view(1, 3) for each in (data.mean, data.std))
    assert torch.allclose(features, (x.mean((2, 3)) - mean) / std, atol=1e-5)


def test_a_function_gets_texts_as_strings(tmp_path):
    write_texts(tmp_path / "reviews.tsv", 40)
    train, _ = dw.load(tmp_path / "reviews.tsv")

    def lengths(texts):
        return torch.tensor([[len(text), text.count("a")] for text in texts])

    features = torch.as_tensor(probe_embedding(train, lengths, out=tmp_path / "probe")["features"])
    assert features.tolist() == [[len(text), text.count("a")] for text in train.texts]


def test_a_network_runs_in_evaluation_mode_and_keeps_its_mode(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(192))
    data = images(6, side=8)
    mean = network[2].running_mean.clone()
    features = torch.as_tensor(probe_embedding(data, network, out=tmp_path / "probe")["features"])
    assert (features != 0).all()
    assert torch.equal(network[2].running_mean, mean)
    assert network.training
    network[2].running_mean += 1
    with pytest.raises(RunError, match="another model"):
        probe_embedding(data, network, out=tmp_path / "probe")


def test_a_function_that_was_changed_is_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for factor in (1, 20):
        (tmp_path / "colours.py").write_text(f"def embed(x):\n    return {factor} * x.mean((2, 3))\n")
        sys.modules.pop("colours", None)
        if factor == 1:
            probe_embedding(images(5), "colours:embed", out=tmp_path / "probe")
        else:
            with pytest.raises(RunError, match="another model"):
                probe_embedding(images(5), "colours:embed", out=tmp_path / "probe")
    sys.modules.pop("colours", None)


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: x, r"one row an example, \(5, d\), got \(5, 3, 32, 32\): return features.flatten"),
        (lambda x: x.mean((0, 2, 3)), r"got \(3,\)"),
        (lambda x: x[:2].flatten(1), r"\(5, d\), got \(2, 3072\)"),
        (lambda x: "features", "must return a tensor"),
        (lambda x: x.flatten(1).log(), "not finite at example 0"),
    ],
)
def test_what_is_no_row_an_example_is_refused(tmp_path, function, match):
    with pytest.raises(ArgumentError, match=match):
        probe_embedding(images(5), function, out=tmp_path / "probe")
    assert not (tmp_path / "probe" / "features.npy").exists()


def test_a_model_for_other_data_is_refused(tmp_path):
    vectors = Examples(torch.randn(4, 5), torch.arange(4) % 2, ("a", "b"))
    with pytest.raises(ArgumentError, match="takes images or texts"):
        probe_embedding(vectors, write_image_model(tmp_path / "tiny", "vit"), out=tmp_path / "probe")


def test_a_file_that_lacks_weights_is_refused(tmp_path):
    """Transformers would draw them at random."""
    from safetensors.torch import load_file, save_file

    name = write_image_model(tmp_path / "tiny", "vit")
    file = tmp_path / "tiny" / "model.safetensors"
    weights = load_file(file)
    save_file({k: v for k, v in weights.items() if "cls_token" not in k}, file, metadata={"format": "pt"})
    with pytest.raises(ArgumentError, match=r"lacks weights of the model: .*cls_token"):
        probe_embedding(images(5), name, out=tmp_path / "probe")
