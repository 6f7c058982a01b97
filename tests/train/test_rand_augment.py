"""Augmentation strength: against literal forms, rising with the size, resumed to the byte, refused for vectors."""

import pytest
import torch

from datawinnow import SizeSchedule
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import stream
from datawinnow.data.rand_augment import RAND_OPERATIONS, cut_out, rand_augment, recolored, warped
from datawinnow.train import fit
from datawinnow.train import state as state_module
from tests.train.helpers import PLAIN, blobs, image_net, images, vector_net, weights


def amounts(**changed):
    return {name: torch.tensor([changed.get(name, 0.0)]) for name in RAND_OPERATIONS}


def test_operations_against_literal_forms():
    x = torch.randn(1, 3, 8, 8, generator=stream(0))
    torch.testing.assert_close(recolored(x, amounts(brightness=-0.5)), x - 0.5)
    torch.testing.assert_close(recolored(x, amounts(contrast=1.0)), x.mean() + 1.9 * (x - x.mean()))
    grey = x.mean(1, keepdim=True)
    torch.testing.assert_close(recolored(x, amounts(color=-1.0)), grey + 0.1 * (x - grey))
    # 0.45 of a side of 8 at a strength of 2 / 3.6 are 2 pixels
    shifted = warped(x, amounts(translate_x=2 / 3.6))
    torch.testing.assert_close(shifted[..., :6], x[..., 2:], atol=1e-4, rtol=1e-4)
    assert shifted[..., 6:].abs().max() < 1e-4
    # three times 30 degrees is a quarter turn
    turned = warped(x, amounts(rotate=3.0))
    torch.testing.assert_close(turned, x.rot90(1, (2, 3)), atol=1e-4, rtol=1e-4)
    cut = cut_out(x, torch.tensor([1.0]), torch.tensor([[0.5], [0.5]]))
    assert bool((cut[..., 2:6, 2:6] == 0).all())
    assert int((cut != x).sum()) == 3 * 4 * 4


def test_strength_zero_draws_nothing_and_strength_grows():
    x, generator = torch.randn(256, 3, 8, 8, generator=stream(0)), stream(1)
    before = generator.get_state()
    assert rand_augment(x, 0.0, generator) is x
    assert torch.equal(generator.get_state(), before)
    changes = [(rand_augment(x, s, stream(1)) - x).abs().mean().item() for s in (0.2, 0.5, 1.0)]
    assert 0 < changes[0] < changes[1] < changes[2]


def test_it_rises_with_the_size(monkeypatch):
    seen = []
    monkeypatch.setattr(state_module, "rand_augment", lambda x, strength, generator: (seen.append(strength), x)[1])
    schedule = SizeSchedule(sizes=(4, 8, 12), shares=(0.25, 0.25, 0.5))
    fit(image_net(), images(64), epochs=1, size_schedule=schedule, augment_strength=0.8, **{**PLAIN, "batch": 16})
    assert seen == pytest.approx([0.0, 0.4, 0.8, 0.8])


def test_resumed_to_the_byte(tmp_path):
    kwargs = {"epochs": 4, "size_schedule": SizeSchedule(start=4), "augment_strength": 0.7, "seed": 3, **PLAIN}
    expected, _ = fit(image_net(), images(60), **kwargs)

    def interrupt(epoch, history):
        if epoch == 2:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(image_net(), images(60), checkpoint=checkpoint, on_epoch=interrupt, **kwargs)
    with pytest.raises(RunError, match="augment_strength"):
        fit(image_net(1), images(60), checkpoint=checkpoint, **{**kwargs, "augment_strength": 0.2})
    actual, _ = fit(image_net(1), images(60), checkpoint=checkpoint, **kwargs)
    assert torch.equal(weights(actual), weights(expected))
    without, _ = fit(image_net(), images(60), **{**kwargs, "augment_strength": 0.0})
    assert not torch.equal(weights(without), weights(expected))


def test_vectors_are_refused():
    with pytest.raises(ArgumentError, match="is for images"):
        fit(vector_net(), blobs(), epochs=1, augment_strength=0.5, **PLAIN)
    with pytest.raises(ArgumentError, match="augment_strength"):
        fit(image_net(), images(), epochs=1, augment_strength=1.5, **PLAIN)
