"""The estimate against what happens: memory within a factor of 2, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datawinnow.api import estimate
from datawinnow.core.errors import ArgumentError
from datawinnow.core.load_options import LoadOptions
from datawinnow.data import cache, images
from datawinnow.data.examples import Augment, Examples
from datawinnow.data.load import load, load_with
from datawinnow.data.sampled import SampledImages
from datawinnow.methods import create_method
from datawinnow.runs import estimate as estimate_module
from datawinnow.runs.estimate import StepCost
from datawinnow.train import Recipe, SizeSchedule

CHILD = """
import json, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from datawinnow.data.examples import Augment, Examples
from datawinnow.runs.estimate import process_bytes
from datawinnow.api import estimate, prune
from datawinnow.train import Recipe
n, side, model, batch, run = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), Path(sys.argv[5])
g = torch.Generator().manual_seed(0)
x = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=g)
train = Examples(x, torch.arange(n) % 4, ("a", "b", "c", "d"), augment=Augment())
recipe = Recipe(batch=batch, precision="fp32")
told = estimate(train, epochs=2, model=model, recipe=recipe, keep=0.5)
prune(train, keep=0.5, epochs=2, model=model, recipe=recipe, run=run, score="el2n")
# VmHWM, not ru_maxrss: that starts from what the process that started this one had in memory
peak = 1024 * int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])
print(json.dumps({"told": told["memory"], "peak": peak, "start": told["memory_by_part"]["process"]}))
"""


@pytest.mark.parametrize(
    ("n", "side", "model", "batch"),
    [
        pytest.param(256, 16, "mlp", 64, id="small"),
        pytest.param(60_000, 32, "mlp", 128, id="data", marks=pytest.mark.slow),
        pytest.param(256, 32, "resnet8", 256, id="activations", marks=pytest.mark.slow),
    ],
)
def test_memory_is_within_twice_and_half_of_the_peak(n: int, side: int, model: str, batch: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(n), str(side), model, str(batch), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["peak"] / 2 <= answer["told"] <= 2 * answer["peak"], answer


def examples(n: int, side: int = 8) -> Examples:
    x = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Examples(x, torch.arange(n) % 2, ("a", "b"), augment=Augment(crop=1))


def test_the_recording_grows_with_the_data_and_the_epochs() -> None:
    recipe = Recipe(precision="fp32", batch=16)
    small = estimate(examples(64), epochs=2, model="mlp", recipe=recipe)
    large = estimate(examples(640), epochs=4, model="mlp", recipe=recipe)
    assert large["disk"] == 20 * small["disk"]
    assert large["memory_by_part"]["recorder"] == 10 * small["memory_by_part"]["recorder"]
    # 64 uint8 images of 3 x 8 x 8, padded by one pixel on each side, as they are and mirrored
    assert small["memory_by_part"]["dataset on the device"] == 2 * 64 * 3 * 10 * 10


def test_seconds_are_those_of_the_steps_that_will_be_made(monkeypatch) -> None:
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(0.5, 0, 7.0))
    recipe = Recipe(precision="fp32", batch=10)
    seconds = estimate(examples(64), epochs=3, keep=0.5, train_epochs=4, model="mlp", recipe=recipe)["seconds_by_stage"]
    assert seconds["record"] == 7 + 0.5 * 7 * 3  # 7 steps an epoch of 64
    assert seconds["train"] == 7 + 0.5 * 4 * 4  # 4 of 32
    assert seconds["score"] == 4e-9 * 64 * 3  # DUAL reads one column


def test_steps_on_smaller_inputs_take_their_share_of_the_operations(monkeypatch) -> None:
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(0.5, 0, 7.0))
    schedule = SizeSchedule(sizes=(4, 8), shares=(0.5, 0.5))
    for sizes, share in ((None, 1.0), (schedule, (1 + 1 / 4) / 2)):
        recipe = Recipe(precision="fp32", batch=10, size_schedule=sizes)
        answer = estimate(examples(64), epochs=3, keep=0.5, train_epochs=4, model="resnet8", recipe=recipe)
        seconds = answer["seconds_by_stage"]
        # the head, whose operations do not follow the size, is one in a thousand
        assert seconds["record"] == pytest.approx(7 + share * 0.5 * 7 * 3, rel=0.01), sizes
        assert seconds["train"] == pytest.approx(7 + share * 0.5 * 4 * 4, rel=0.01), sizes


@pytest.mark.parametrize(
    ("method", "passes"),
    [("herding", 1 / 3), ("slo_curves", 1 / 3 + 2), ("grand_full", 1 / 3 + 1), ("deepfool", 1 / 3 + 2 * 2)],
)
def test_a_pass_over_the_recorded_network_is_counted(method, passes, monkeypatch) -> None:
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(0.5, 0, 7.0))
    recipe = Recipe(precision="fp32", batch=10)
    seconds = estimate(examples(60), epochs=3, keep=0.5, model="mlp", recipe=recipe, method=method)["seconds_by_stage"]
    assert seconds["probe"] == pytest.approx(7 + 0.5 * 6 * passes)
    assert "probe" not in estimate(examples(60), keep=0.5, model="mlp", recipe=recipe)["seconds_by_stage"]


def test_it_grows_with_the_epochs() -> None:
    recipe = Recipe(precision="fp32", batch=16)
    estimates = {
        epochs: estimate(examples(64), epochs=epochs, keep=0.5, model="mlp", recipe=recipe) for epochs in (2, 2000)
    }
    for stage in ("record", "train", "score"):
        assert estimates[2000]["seconds_by_stage"][stage] > 10 * estimates[2]["seconds_by_stage"][stage], stage
    assert estimates[2000]["seconds"] > 10 * estimates[2]["seconds"]
    assert estimates[2000]["disk"] == 1000 * estimates[2]["disk"]
    assert estimates[2000]["memory_by_part"]["scoring"] > estimates[2]["memory_by_part"]["scoring"]


def test_a_network_with_too_few_outputs_is_refused() -> None:
    with pytest.raises(ArgumentError, match="has 1 outputs, but the dataset 'data' has 2 classes: build it with"):
        estimate(examples(64), model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1)))


def test_a_method_that_reads_no_recording_is_charged_none() -> None:
    estimated = estimate(
        examples(64), keep=0.5, model="mlp", method=create_method("random"), recipe=Recipe(precision="fp32")
    )
    assert set(estimated["seconds_by_stage"]) == {"train"}
    assert estimated["disk"] == 0


def test_the_estimate_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    estimate(examples(32), model="mlp", recipe=Recipe(precision="auto", batch=16))
    assert torch.equal(before, torch.get_rng_state())


def seconds_of(text: str) -> float:
    """The last duration in a text, in seconds."""
    units = {"h": 3600.0, "min": 60.0, "s": 1.0}
    matches = re.findall(r"(\d+) (h|min|s)\b", text)
    assert matches, text
    return sum(float(number) * units[unit] for number, unit in matches)


def test_a_long_run_is_met_with_cheaper_options_by_name_and_with_their_times(monkeypatch) -> None:
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(10.0, 0, 0.0))
    calls = []
    recipe = Recipe(batch=16)
    answer = estimate(examples(96, side=64), epochs=30, recipe=recipe, progress=lambda *a: calls.append(a))
    options = dict(phrase.split(" takes ") for phrase in answer["cheaper"].removeprefix("cheaper: ").split(", "))
    by_size, by_model = options["`size=32`"], options["`model='resnet8'` with `model_options={'width': 8}`"]
    assert answer["seconds"] == pytest.approx(10 * 6 * 30, abs=1)
    # a quarter of the pixels; half of the channels keep half of the activations, with a quarter of the operations
    assert seconds_of(by_size) == pytest.approx(answer["seconds"] / 4, rel=0.02)
    assert seconds_of(by_model) == pytest.approx(answer["seconds"] / 2, rel=0.05)
    assert seconds_of(options["both"]) == pytest.approx(answer["seconds"] / 8, rel=0.05)
    assert seconds_of(options["`epochs=15`"]) == pytest.approx(answer["seconds"] / 2, rel=0.02)
    assert seconds_of(options["`limit=24`"]) == pytest.approx(answer["seconds"] / 3, rel=0.02), "2 steps of 6"
    assert [done for _, done, _ in calls] == [0, 1]
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(1.1, 0, 0.0))
    assert "`size=32`" in estimate(examples(96, side=64), epochs=30, recipe=recipe)["cheaper"], "over three minutes"
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(0.9, 0, 0.0))
    assert estimate(examples(96, side=64), epochs=30, recipe=recipe)["seconds"] < 180
    assert estimate(examples(96, side=64), epochs=30, recipe=recipe)["cheaper"] == "", "under three minutes"


def test_a_network_of_the_users_that_takes_one_size_gets_no_other_size(monkeypatch) -> None:
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(10.0, 0, 0.0))
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 2))
    cheaper = estimate(examples(96, side=64), model=network, recipe=Recipe(batch=16))["cheaper"]
    assert "`size=" not in cheaper
    assert "`epochs=15`" in cheaper


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """200 photos of two classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels).resize((120, 90), Image.Resampling.BICUBIC)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(100):
            photo.save(tmp_path / "photos" / name / f"{i:03d}.jpg")
    return tmp_path / "photos"


def test_few_images_are_decoded_and_the_others_are_counted(photos: Path, monkeypatch) -> None:
    decoded = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda raw, plan: (decoded.append(raw), decode(raw, plan))[1])
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(0.5, 0, 7.0))
    calls = []
    answer = estimate(str(photos), model="mlp", progress=lambda *a: calls.append(a), load=LoadOptions(size=64))
    assert 16 <= len(decoded) <= 64
    assert answer["n"] == 160
    # the held-out ones are decoded too
    assert answer["memory_by_part"]["decoded images"] == 200 * 3 * 64 * 64
    assert answer["memory_by_part"]["dataset on the device"] == 160 * 2 * 3 * 80 * 80
    assert answer["seconds_by_stage"]["decode"] > 0
    assert answer["seconds"] == sum(answer["seconds_by_stage"].values())
    assert {label.split()[0] for label, _, _ in calls} == {"decoding", "timing"}
    fewer = estimate(str(photos), model="mlp", load=LoadOptions(size=64, limit=40))
    assert (fewer["n"], fewer["memory_by_part"]["decoded images"]) == (40, 80 * 3 * 64 * 64)


def test_decoding_is_extrapolated_and_what_is_cached_costs_nothing(photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(0.5, 0, 7.0))
    train, test = load_with(photos, LoadOptions(size=64), only_sample=True)
    assert isinstance(train, SampledImages)
    assert (len(train), len(test), train.decoding.num_images) == (160, 40, 200)
    assert train.in_memory
    full, _ = load(photos, size=64)
    assert train.shape == full.shape
    assert torch.equal(train.labels, full.labels)
    assert torch.equal(train.first(5).x, full.x[:5])
    seconds = estimate_module.estimate_run(train, model="mlp")["seconds_by_stage"]["decode"]
    assert seconds == pytest.approx(200 * train.decoding.per_image)
    monkeypatch.setenv("DATAWINNOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTH_SECONDS", 0.0)
    load(photos, size=64)
    again, _ = load_with(photos, LoadOptions(size=64), only_sample=True)
    assert again.decoding.num_images == 0
    assert "decode" not in estimate_module.estimate_run(again, model="mlp")["seconds_by_stage"]


def test_images_that_do_not_fit_are_decoded_in_every_epoch(photos: Path, monkeypatch) -> None:
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: StepCost(0.5, 0, 7.0))
    monkeypatch.setattr("datawinnow.data.assemble.default_memory", lambda: 1000)
    train, _ = load_with(photos, LoadOptions(size=64), only_sample=True)
    answer = estimate_module.estimate_run(train, model="mlp", epochs=3, recipe=Recipe(batch=16))
    assert answer["memory_by_part"]["decoded images"] == 0
    expected = 7 + 3 * (10 * 0.5 + 160 * train.decoding.per_image)
    assert answer["seconds_by_stage"]["record"] == pytest.approx(expected)


def test_a_loss_of_the_users_on_targets_that_are_no_classes_is_timed() -> None:
    shapes = []

    def loss(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        shapes.append((tuple(outputs.shape), tuple(y.shape), y.dtype))
        return (outputs[:, None] - y).square().flatten(1).mean(1)

    x, y = torch.randn(64, 5), torch.rand(64, 2, 3)
    answer = estimate((x, y), model=lambda: torch.nn.Linear(5, 3), recipe=Recipe(loss=loss, batch=16), epochs=2)
    assert answer["seconds_by_stage"]["record"] > 0
    assert shapes
    assert {(out[1:], target[1:], dtype) for out, target, dtype in shapes} == {((3,), (2, 3), torch.float32)}
