"""The loop: seeds, resuming, turns, and how it stops."""

import json

import pytest
import torch
from torch import nn

from datawinnow import condense
from datawinnow.condense import DivergedError
from datawinnow.condense._pixels import Pixels
from datawinnow.condense._settings import dm_lr, idm_settings, loops
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic
from tests.condense.helpers import CLASSES, QUICK, build, made, pictures
from tests.reference import condense as reference

each = pytest.mark.parametrize("method", QUICK)


class Stop(Exception):
    """A kill."""


def killed_at(done):
    def on_iteration(here, loss, synthetic):
        if here == done:
            raise Stop

    return on_iteration


@each
def test_the_same_seed_gives_the_same_images_and_another_does_not(method):
    once = made(method)
    assert torch.equal(once.images, made(method).images)
    assert not torch.equal(once.images, made(method, seed=1).images)


@each
def test_a_run_that_was_killed_ends_in_the_same_images(method, tmp_path):
    whole = made(method, iterations=5)
    how = {"iterations": 5, "checkpoint": tmp_path / "run.safetensors", "every": 1}
    with pytest.raises(Stop):
        made(method, on_iteration=killed_at(3), **how)
    seen = []
    again = made(method, on_iteration=lambda done, *_: seen.append(done), **how)
    assert seen == [3, 4, 5]
    assert torch.equal(again.images, whole.images)
    assert again.about["passed"] == whole.about["passed"]


def test_more_iterations_can_be_asked_for_but_nothing_else(tmp_path):
    file = tmp_path / "run.safetensors"
    made("dm", iterations=2, checkpoint=file)
    assert torch.equal(made("dm", iterations=4, checkpoint=file).images, made("dm", iterations=4).images)
    with pytest.raises(RunError, match=r"begun with lr=1.0, and is asked to go on with 2.0"):
        made("dm", iterations=4, checkpoint=file, lr=2.0)
    with pytest.raises(RunError, match="begun with data="):
        made("dm", iterations=4, checkpoint=file, data=pictures(seed=1))
    with pytest.raises(RunError, match="begun with seed="):
        made("dm", iterations=4, checkpoint=file, seed=1)
    made("cafe", iterations=2, checkpoint=tmp_path / "cafe.safetensors")
    with pytest.raises(RunError, match="begun with iterations=2"):  # its learning rate follows them
        made("cafe", iterations=3, checkpoint=tmp_path / "cafe.safetensors")


def test_checkpoints_that_are_none_are_refused(tmp_path):
    file = tmp_path / "run.safetensors"
    made("dm").save(file)
    with pytest.raises(RunError, match="is no checkpoint of a condensation"):
        made("dm", checkpoint=file)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(RunError, match="truncated or damaged"):
        made("dm", checkpoint=file)


def test_turns_in_one_go_are_the_turns_one_after_the_other():
    start = torch.randn(6, 1, 2, 2, generator=stream(0, "x"))
    pull = torch.randn(3, 6, 1, 2, 2, generator=stream(1, "x"))

    def gradients_at(x, k):
        return torch.tanh(x) * pull[k]  # each image's own

    pixels = Pixels(start, 3, 0.5, in_turns=True)
    for k in range(3):
        pixels.step(gradients_at(pixels.ahead(0.2).detach(), k), 0.2)
    wanted = reference.normalised_steps(start, gradients_at, 0.2, 0.5, 3, 3)
    torch.testing.assert_close(pixels.x, wanted, rtol=1e-5, atol=1e-6)


def test_steps_at_once_are_those_of_torch():
    start = torch.randn(4, 1, 2, 2, generator=stream(0, "x"))
    pixels, x = Pixels(start, 2, 0.5), start.clone().requires_grad_()
    optimizer = torch.optim.SGD([x], lr=0.3, momentum=0.5)
    for k in range(4):
        x.grad = torch.sin(x.detach() + k)
        pixels.step(torch.sin(pixels.ahead(0.3).detach() + k), 0.3)
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
    made(
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
        made("dm", iterations=50, lr=1e9, checkpoint=file, every=1, on_iteration=keep, build=build(norm="none"))
    last = max(states)
    assert last > 0
    assert caught.value.synthetic.images.isfinite().all()
    assert torch.equal(caught.value.synthetic.images, states[last])
    saved = Synthetic.load(tmp_path / "run-last-good.safetensors")
    assert torch.equal(saved.images, states[last])
    assert saved.about["done"] == last


def test_without_a_checkpoint_the_error_holds_the_images():
    with pytest.raises(DivergedError, match=r"kept in error.synthetic"):
        made("dm", iterations=50, lr=1e9, build=build(norm="none"))


def test_starts_are_real_images_or_noise():
    x, y = pictures()
    starts = {}
    for init in ("real", "noise"):
        kept = []
        made("dm", init=init, per_class=2, on_iteration=lambda done, _, s, kept=kept: kept.append(s()))
        starts[init] = kept[0]
    real = starts["real"]
    pixels = (real.pixels() * 255).round().to(torch.uint8)
    for image, label in zip(pixels, real.labels, strict=True):
        assert (x[y == label] == image).flatten(1).all(1).any()
    assert real.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert float(starts["noise"].images.std()) == pytest.approx(1, abs=0.15)


def test_tiles_start_as_real_images_made_small():
    x, y = pictures()
    kept = []
    made("idm", on_iteration=lambda done, _, s: kept.append(s()))
    small = nn.functional.interpolate(x.float(), scale_factor=0.5, mode="bilinear", align_corners=False)
    stored = kept[0].pixels()[:, :, 4:, :4] * 255  # bottom left
    for tile, label in zip(stored, kept[0].labels, strict=True):
        assert float((small[y == label] - tile).abs().flatten(1).amax(1).min()) < 0.01


def test_floating_images_are_taken_as_they_are():
    x, y = pictures()
    mean, std = (0.3,), (0.2,)
    given = (x.float() / 255 - 0.3) / 0.2
    one = made("dm", mean=mean, std=std)
    other = made("dm", data=(given, y), mean=mean, std=std)
    torch.testing.assert_close(one.images, other.images, rtol=1e-4, atol=1e-5)
    assert (one.mean, one.std) == (mean, std)
    assert made("dm", data=(given, y)).mean == ()


def test_what_made_it_is_told_as_json():
    about = made("idm").about
    json.dumps(about)
    assert (about["method"], about["iterations"], about["done"], about["networks"]["steps"]) == ("idm", 2, 2, 2)
    assert about["objective"] == {"is": "regularised_matching", "ce_weight": 0.5}
    assert about["augment"]["strategy"] == "color_crop_cutout_flip_scale_rotate"
    # two iterations: 8 real images of each of 3 classes, 4 tiles of each, and 2 networks of 2 steps on 8
    assert about["passed"] == {"forward": 2 * 24, "backward": 2 * (12 + 2 * 2 * 8)}


def test_bf16_gives_nearly_the_same_images_and_is_refused_where_gradients_match():
    torch.testing.assert_close(made("dm", precision="bf16").images, made("dm").images, rtol=0.05, atol=0.05)
    with pytest.raises(ArgumentError, match="dc matches gradients, which bf16 changes"):
        made("dc", precision="bf16")


def test_settings_are_the_papers_by_images_a_class():
    # condense.md 1.4, 1.6 and 1.8
    assert [loops(n) for n in (1, 10, 20, 30, 40, 50)] == [(1, 1), (10, 50), (20, 25), (30, 20), (40, 15), (50, 10)]
    assert [dm_lr(n, 10) for n in (1, 10, 50, 100, 1250)] == [1, 1, 1, 10, 10]
    assert dm_lr(125, 100) == 1
    assert idm_settings(1, 10, 32)["real_batch"] == 5000
    assert (idm_settings(10, 100, 32)["steps"], idm_settings(10, 100, 32)["ce_weight"]) == (50, 0.1)
    defaults = {name: dict(m.card.options) for name, m in condense.METHODS.items()}
    assert {name: d["iterations"] for name, d in defaults.items()} == {
        "dc": 1000, "dsa": 1000, "dm": 20_000, "cafe": 2000, "idm": 20_000,
    }  # fmt: skip
    assert {name: d["lr"] for name, d in defaults.items()} == {
        "dc": 0.1, "dsa": 0.1, "dm": None, "cafe": 0.1, "idm": 0.2,
    }  # fmt: skip
    assert {name: d["init"] for name, d in defaults.items()} == {
        "dc": "noise", "dsa": "real", "dm": "real", "cafe": "noise", "idm": "real",
    }  # fmt: skip
    assert {name for name, d in defaults.items() if d["augment"] is None} == {"dc", "cafe"}
    assert (defaults["cafe"]["still"], defaults["cafe"]["moves"], defaults["cafe"]["window"]) == (0.04, 0.03, 10)


BAD = {
    "fewer images than asked for": ({"per_class": 13}, "begin from 13 real images of every class, but class 0 has 12"),
    "size": ({"build": build(side=16)}, "cannot take images of 1x8x8 .*Build it for that size"),
    "classes": ({"build": build(classes=2)}, r"an output for each of the 3 classes.* gave \(1, 2\)"),
    "no network": ({"build": lambda: 3}, r"build\(\) must return a torch.nn.Module, got int"),
    "a network": ({"build": nn.Linear(1, 1)}, "build must be a function that returns a fresh network, got Linear"),
    "build": ({"build": "convnet"}, "build must be a function that returns a fresh network, got str"),
    "no head": ({"build": lambda: nn.Conv2d(1, 3, 8)}, "gave a Conv2d without a linear layer"),
    "init": ({"init": "zeros"}, "init must be one of 'real', 'noise', got 'zeros'"),
    "iterations": ({"iterations": 0}, r"iterations must be a whole number in .*got 0"),
    "unknown": ({"learning_rate": 1}, "dm has no option 'learning_rate'; its options are: iterations, real_batch, lr"),
    "device": ({"device": "tpu9"}, "device must be 'auto', 'cpu'"),
    "precision": ({"precision": "fp8"}, "precision must be one of 'fp32', 'bf16', got 'fp8'"),
    "augment": ({"augment": "blur"}, "got 'blur'"),
    "names": ({"classes": ("a", "b")}, "classes must name all 3 classes, got 2 names"),
    "mean": ({"mean": (0.1, 0.2), "std": (1, 1)}, r"mean must have one number a channel \(1\), got 2"),
    "std": ({"mean": (0.1,)}, "give both of mean and std, or neither"),
    "momentum": ({"momentum": 1.0}, "momentum must be a number in"),
    "chunk": ({"chunk": 0}, "chunk must be a whole number"),
}


@pytest.mark.parametrize(("how", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_told(how, match):
    with pytest.raises(ArgumentError, match=match):
        made("dm", **how)


def test_bad_data_are_told():
    x, y = pictures()
    for data, match in (
        ((x[0], y), r"images must have shape \(n, channels, height, width\)"),
        ((x, y[:5]), "have different numbers of them"),
        ((x, y.float()), "labels must be integer class ids"),
        ((x, torch.where(y == 1, 3, y)), "class 1 has no image"),
        ((x.float() / 0, y), "not finite in image 0"),
    ):
        with pytest.raises(ArgumentError, match=match):
            made("dm", data=data)
    with pytest.raises(ArgumentError, match="9x9 smaller ones"):
        made("idm", factor=9)
    with pytest.raises(ArgumentError, match=r"of 2x2 real ones each begin from 16 real .* class 0 has 12"):
        made("idm", per_class=4)
    with pytest.raises(ArgumentError, match="metric must be one of 'rows', 'mse', 'cos', got 'l2'"):
        made("dc", metric="l2")
    with pytest.raises(ArgumentError, match="layers names 'conv9', but the network has: features"):
        made("cafe", layers=["conv9"])


@each
def test_own_size_channels_and_network_are_welcome(method):
    data = pictures(channels=3, side=12)
    found = made(method, data=data, build=build(channels=3, side=12, norm="batch"), iterations=1)
    assert found.images.shape == (CLASSES, 3, 12, 12)
    assert not torch.equal(found.images, made(method, data=data, seed=1, build=build(channels=3, side=12)).images)
