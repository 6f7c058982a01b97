"""The loop: seeds, resuming, turns, and how it stops."""

import itertools
import json

import pytest
import torch
from torch import nn

from datawinnow.condense import DivergedError, loop
from datawinnow.condense.loop import read_checkpoint
from datawinnow.condense.pixels import LearnedPixels
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic
from tests.condense.helpers import CLASSES, QUICK, build, make_images, run_condenser
from tests.reference import condense as reference

each = pytest.mark.parametrize("method", QUICK)


class Stop(Exception):
    """A kill."""


def killed_at(done):
    def on_iteration(iteration, loss, synthetic):
        if iteration == done:
            raise Stop

    return on_iteration


@each
def test_the_same_seed_gives_the_same_images_and_another_does_not(method):
    once = run_condenser(method)
    assert torch.equal(once.images, run_condenser(method).images)
    assert not torch.equal(once.images, run_condenser(method, seed=1).images)


@each
def test_a_run_that_was_killed_ends_in_the_same_images(method, tmp_path):
    unbroken = run_condenser(method, iterations=5)
    kwargs = {"iterations": 5, "checkpoint": tmp_path / "run.safetensors", "every": 1}
    with pytest.raises(Stop):
        run_condenser(method, on_iteration=killed_at(3), **kwargs)
    seen = []
    again = run_condenser(method, on_iteration=lambda done, *_: seen.append(done), **kwargs)
    assert seen == [3, 4, 5]
    assert torch.equal(again.images, unbroken.images)
    assert again.about["images_seen"] == unbroken.about["images_seen"]


def test_so_does_one_whose_networks_have_their_channels_side_by_side(tmp_path):
    kwargs = {"iterations": 3, "data": make_images(channels=3, side=16), "build": build(3, 16)}
    unbroken = run_condenser("idm", **kwargs)  # its networks are in the checkpoint
    with pytest.raises(Stop):
        run_condenser("idm", checkpoint=tmp_path / "i.safetensors", every=1, on_iteration=killed_at(2), **kwargs)
    assert torch.equal(
        run_condenser("idm", checkpoint=tmp_path / "i.safetensors", every=1, **kwargs).images, unbroken.images
    )


def test_more_iterations_can_be_asked_for_but_nothing_else(tmp_path):
    file = tmp_path / "run.safetensors"
    run_condenser("dm", iterations=2, checkpoint=file)
    assert torch.equal(
        run_condenser("dm", iterations=4, checkpoint=file).images, run_condenser("dm", iterations=4).images
    )
    with pytest.raises(RunError, match=r"started with lr=1.0, now it is 2.0"):
        run_condenser("dm", iterations=4, checkpoint=file, lr=2.0)
    with pytest.raises(RunError, match="started with data="):
        run_condenser("dm", iterations=4, checkpoint=file, data=make_images(seed=1))
    with pytest.raises(RunError, match="started with seed="):
        run_condenser("dm", iterations=4, checkpoint=file, seed=1)
    run_condenser("cafe", iterations=2, checkpoint=tmp_path / "cafe.safetensors")
    with pytest.raises(RunError, match="started with iterations=2"):  # its learning rate follows them
        run_condenser("cafe", iterations=3, checkpoint=tmp_path / "cafe.safetensors")


def test_checkpoints_that_are_none_are_refused(tmp_path):
    file = tmp_path / "run.safetensors"
    run_condenser("dm").save(file)
    with pytest.raises(RunError, match="does not hold a condensation checkpoint"):
        run_condenser("dm", checkpoint=file)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(RunError, match="truncated or damaged"):
        run_condenser("dm", checkpoint=file)


def test_turns_in_one_go_are_the_turns_one_after_the_other():
    start = torch.randn(6, 1, 2, 2, generator=stream(0, "x"))
    pull = torch.randn(3, 6, 1, 2, 2, generator=stream(1, "x"))

    def gradients_at(x, k):
        return torch.tanh(x) * pull[k]  # each image's own

    pixels = LearnedPixels(start, 3, 0.5, in_turns=True)
    for k in range(3):
        pixels.step(gradients_at(pixels.lookahead(0.2).detach(), k), 0.2)
    expected = reference.normalised_steps(start, gradients_at, 0.2, 0.5, 3, 3)
    torch.testing.assert_close(pixels.x, expected, rtol=1e-5, atol=1e-6)


def test_steps_at_once_are_those_of_torch():
    start = torch.randn(4, 1, 2, 2, generator=stream(0, "x"))
    pixels, x = LearnedPixels(start, 2, 0.5), start.clone().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=0.3, momentum=0.5)
    for k in range(4):
        x.grad = torch.sin(x.detach() + k)
        pixels.step(torch.sin(pixels.lookahead(0.3).detach() + k), 0.3)
        optimizer.step()
    torch.testing.assert_close(pixels.x, x.detach())
    assert torch.equal(start, torch.randn(4, 1, 2, 2, generator=stream(0, "x")))


@each
def test_matching_gets_nearer(method):
    losses = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = build()().state_dict()

    def same():
        net = build()()
        net.load_state_dict(weights)
        return net

    still = {"dc": {"outer": 1, "lr": 10.0}, "cafe": {"outer_most": 1}, "idm": {"trained": 0}}
    still["dsa"] = still["dc"]
    run_condenser(
        method, iterations=12, build=same, real_batch=12, augment=None, init="noise",
        on_iteration=lambda done, loss, _: losses.append(loss), **still.get(method, {}),
    )  # fmt: skip
    assert losses[0] is None
    assert sum(losses[-3:]) < 0.8 * sum(losses[1:4])


def test_nan_stops_with_the_last_good_images_saved(tmp_path):
    file = tmp_path / "run.safetensors"
    states = {}

    def keep(done, loss, synthetic):
        states[done] = synthetic().images

    with pytest.raises(DivergedError, match=r"iteration \d+: try a lower lr \(it was 1e\+09\).*last-good") as caught:
        run_condenser(
            "dm", iterations=50, lr=1e9, checkpoint=file, every=1, on_iteration=keep, build=build(norm="none")
        )
    last = max(states)
    assert last > 0
    assert caught.value.synthetic.images.isfinite().all()
    assert torch.equal(caught.value.synthetic.images, states[last])
    saved = Synthetic.load(tmp_path / "run-last-good.safetensors")
    assert torch.equal(saved.images, states[last])
    assert saved.about["done"] == last


@pytest.mark.parametrize("method", ["dm", "idm"])
def test_pixels_that_overflow_in_the_last_step_are_put_back(method, monkeypatch):
    """The loss and its gradient are numbers, and what they lead to is not."""
    states = {}

    def keep(done, loss, synthetic):
        states[done] = synthetic()

    step = LearnedPixels.step

    def far(self, gradient, lr):
        step(self, torch.full_like(gradient, 3e38) if max(states) == 2 else gradient, lr)

    monkeypatch.setattr(LearnedPixels, "step", far)
    with pytest.raises(DivergedError, match=r"pixels that are not finite\) in iteration 2") as caught:
        run_condenser(method, iterations=5, lr=10.0, on_iteration=keep)
    assert torch.equal(caught.value.synthetic.images, states[2].images)
    assert caught.value.synthetic.about["done"] == 2


def test_without_every_a_checkpoint_is_written_each_minute(tmp_path, monkeypatch):
    file, saved = tmp_path / "run.safetensors", {}

    def keep(done, loss, synthetic):
        saved[done] = read_checkpoint(file)[1]["done"] if file.exists() else 0

    for minute, expected in ((60.0, [0, 0, 0, 0, 4]), (0.0, [0, 1, 2, 3, 4])):
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", minute)
        file.unlink(missing_ok=True)
        run_condenser("dm", iterations=4, checkpoint=file, on_iteration=keep)
        assert list(saved.values()) == expected


def test_without_a_checkpoint_the_error_holds_the_images():
    with pytest.raises(DivergedError, match=r"finite images are in error.synthetic"):
        run_condenser("dm", iterations=50, lr=1e9, build=build(norm="none"))


def test_starts_are_real_images_or_noise():
    x, y = make_images()
    starts = {}
    for init in ("real", "noise"):
        kept = []
        run_condenser("dm", init=init, per_class=2, on_iteration=lambda done, _, s, kept=kept: kept.append(s()))
        starts[init] = kept[0]
    real = starts["real"]
    pixels = (real.pixels() * 255).round().to(torch.uint8)
    for image, label in zip(pixels, real.labels, strict=True):
        assert (x[y == label] == image).flatten(1).all(1).any()
    assert real.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert float(starts["noise"].images.std()) == pytest.approx(1, abs=0.15)


def test_tiles_start_as_real_images_made_small():
    x, y = make_images()
    kept = []
    run_condenser("idm", on_iteration=lambda done, _, s: kept.append(s()))
    small = nn.functional.interpolate(x.float(), scale_factor=0.5, mode="bilinear", align_corners=False)
    stored = kept[0].pixels()[:, :, 4:, :4] * 255  # bottom left
    for tile, label in zip(stored, kept[0].labels, strict=True):
        assert float((small[y == label] - tile).abs().flatten(1).amax(1).min()) < 0.01


def same_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()()


def losses_of(method, **kwargs):
    losses = []
    run_condenser(
        method, on_iteration=lambda done, loss, _: losses.append(loss), build=same_network, augment=None, **kwargs
    )
    return losses[1:]


def test_the_rate_of_cafe_is_halved_at_three_fifths_four_fifths_and_nine_tenths(monkeypatch):
    rates, step = [], LearnedPixels.step
    monkeypatch.setattr(LearnedPixels, "step", lambda self, g, lr: rates.append(lr) or step(self, g, lr))
    run_condenser("cafe", iterations=10, outer_most=1, lr=0.8)
    assert rates == [0.8] * 6 + [0.4] * 2 + [0.2, 0.1]
    rates.clear()
    run_condenser("dc", iterations=3, outer=1, lr=0.8)
    assert rates == [0.8] * 3


def test_the_loss_of_an_iteration_is_the_mean_of_its_steps():
    kwargs = {"iterations": 1, "inner": 0, "lr": 0.0, "real_batch": 12}  # all of every class, so that steps are alike
    assert losses_of("dc", outer=3, **kwargs) == pytest.approx(losses_of("dc", outer=1, **kwargs))


@pytest.mark.parametrize(("method", "options"), [("dm", {}), ("dc", {"outer": 1})], ids=["dm", "dc"])
def test_real_images_are_drawn_anew_each_iteration(method, options):
    full = losses_of(method, iterations=3, lr=0.0, real_batch=12, **options)
    assert full == pytest.approx([full[0]] * 3)
    draw = losses_of(method, iterations=3, lr=0.0, real_batch=4, **options)
    assert min(abs(a - b) for a, b in itertools.pairwise(draw)) > 1e-4 * full[0]


def test_floating_images_are_taken_as_they_are():
    x, y = make_images()
    mean, std = (0.3,), (0.2,)
    normalised = (x.float() / 255 - 0.3) / 0.2
    one = run_condenser("dm", mean=mean, std=std)
    other = run_condenser("dm", data=(normalised, y), mean=mean, std=std)
    torch.testing.assert_close(one.images, other.images, rtol=1e-4, atol=1e-5)
    assert (one.mean, one.std) == (mean, std)
    assert run_condenser("dm", data=(normalised, y)).mean == ()


def test_what_made_it_is_told_as_json():
    about = run_condenser("idm").about
    json.dumps(about)
    assert (about["method"], about["iterations"], about["done"], about["networks"]["steps"]) == ("idm", 2, 2, 2)
    assert about["objective"] == {"name": "regularised_matching", "ce_weight": 0.5}
    assert about["augment"]["strategy"] == "color_crop_cutout_flip_scale_rotate"
    # two iterations: 8 real images of each of 3 classes, 4 tiles of each, and 2 networks of 2 steps on 8
    assert about["images_seen"] == {"forward": 2 * 24, "backward": 2 * (12 + 2 * 2 * 8)}


def test_bf16_gives_nearly_the_same_images_and_is_refused_where_gradients_match():
    rounded, exact = run_condenser("dm", precision="bf16").images, run_condenser("dm").images
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)
    assert not torch.equal(rounded, exact)
    with pytest.raises(ArgumentError, match="dc matches gradients, which bf16 changes"):
        run_condenser("dc", precision="bf16")


@pytest.mark.parametrize("method", ["dc", "dsa"])
def test_activations_are_not_computed_again_where_that_saves_nothing(method):
    with pytest.raises(ArgumentError, match=f"{method} differentiates a gradient.* use at_once=1"):
        run_condenser(method, recompute=True)


@each
def test_own_size_channels_and_network_are_welcome(method):
    data = make_images(channels=3, side=12)
    synthetic = run_condenser(method, data=data, build=build(channels=3, side=12, norm="batch"), iterations=1)
    assert synthetic.images.shape == (CLASSES, 3, 12, 12)
    assert not torch.equal(
        synthetic.images, run_condenser(method, data=data, seed=1, build=build(channels=3, side=12)).images
    )
