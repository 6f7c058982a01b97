"""What kind of examples a dataset has, by which `auto` chooses."""

import pytest
import torch

from datawinnow.api import train
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.examples import Examples


@pytest.mark.parametrize(
    ("shape", "vocabulary", "answer"),
    [
        ((3, 32, 32), None, ("images", 3, 32)),
        ((1, 16, 64), None, ("images", 1, 32)),
        ((20,), None, ("vectors", None, 20)),
        ((5, 4), None, ("vectors", None, 20)),
        ((30,), 1000, ("texts", None, None)),
    ],
)
def test_kind_channels_and_size(shape, vocabulary, answer):
    info = DatasetInfo("x", "0" * 16, 10, shape, ("a", "b"), vocabulary=vocabulary)
    assert (info.kind, info.channels, info.size) == answer


def test_auto_calls_vectors_vectors_and_trains_on_all(tmp_path):
    y = torch.arange(40) % 2
    x = torch.randn(40, 6) + y[:, None]
    data = Examples(x, y, ("a", "b"), "points", "train")
    messages = []
    train(data, epochs=1, policy="auto", test=data, run=tmp_path / "r", log=messages.append)
    assert any("auto: all the data for 1 epoch: no policy was measured on vectors (n=40" in line for line in messages)
    assert "texts" not in " ".join(messages)
