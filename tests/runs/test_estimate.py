"""The estimate against what happens: memory within a factor of 2, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datawinnow.api import estimate
from datawinnow.core.errors import ArgumentError
from datawinnow.data.examples import Augment, Examples
from datawinnow.methods import create_method
from datawinnow.runs import estimate as estimate_module
from datawinnow.train import Recipe

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
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: (0.5, 0, 7.0))
    recipe = Recipe(precision="fp32", batch=10)
    seconds = estimate(examples(64), epochs=3, keep=0.5, train_epochs=4, model="mlp", recipe=recipe)["seconds_by_stage"]
    assert seconds["record"] == 7 + 0.5 * 7 * 3  # 7 steps an epoch of 64
    assert seconds["train"] == 7 + 0.5 * 4 * 4  # 4 of 32
    assert seconds["score"] == 4e-9 * 64 * 3  # DUAL reads one column


@pytest.mark.parametrize(
    ("method", "passes"),
    [("herding", 1 / 3), ("slo_curves", 1 / 3 + 2), ("grand_full", 1 / 3 + 1), ("deepfool", 1 / 3 + 2 * 2)],
)
def test_a_pass_over_the_recorded_network_is_counted(method, passes, monkeypatch) -> None:
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: (0.5, 0, 7.0))
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


def test_a_long_run_is_met_with_cheaper_options(monkeypatch) -> None:
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: (60.0, 0, 7.0))
    calls = []
    answer = estimate(
        examples(64, side=96), epochs=30, model="mlp", recipe=Recipe(batch=64), progress=lambda *a: calls.append(a)
    )
    for option in ("`size=48`", "`epochs=15`", "`limit=`"):
        assert option in answer["cheaper"]
    assert [done for _, done, _ in calls] == [0, 1]
    monkeypatch.setattr(estimate_module, "_measure", lambda *a: (0.1, 0, 1.0))
    assert estimate(examples(64), epochs=3, model="mlp", recipe=Recipe(batch=64))["cheaper"] == ""
