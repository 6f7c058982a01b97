"""Size schedules that cannot be: the same answer from every verb that trains, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datawinnow.bench import read_rows
from datawinnow.train.state import TrainState

GRID = """
name = "sizes"
methods = ["{method}"]
keep = [0.5]
seeds = [0]
[data]
source = "{data}"
[train]
epochs = 2
precision = "fp32"
{model}
size_schedule = {{ {schedule} }}
{table}
"""
VERBS = ("train", "record", "prune", "race", "bench")


def write_images(folder: str, sizes: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(0)
    for i in range(40):
        label = i % 2
        file = Path(folder) / "ab"[label] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        width, height = sizes[i % len(sizes)]
        pixels = rng.integers(0, 100, (height, width, 3)) + 100 * label
        Image.fromarray(pixels.astype(np.uint8)).save(file)


@pytest.fixture(autouse=True)
def _data(tmp_path, monkeypatch):
    monkeypatch.setenv("DATAWINNOW_CACHE", "")
    write_images("images", [(16, 16)])
    write_images("mixed", [(16, 12), (17, 13), (20, 14)])
    rng = np.random.default_rng(0)
    np.savez("vectors.npz", x=rng.normal(size=(40, 5)).astype(np.float32), y=np.arange(40) % 2)


def as_toml(schedule: str) -> str:
    if ":" not in schedule:
        return f"start = {schedule}"
    sizes, shares = zip(*(entry.split(":") for entry in schedule.split(",")), strict=True)
    return f"sizes = [{', '.join(sizes)}], shares = [{', '.join(shares)}]"


def words_of(verb: str, data: str, schedule: str, model: str = "", policy: str = "") -> list[str]:
    """The command of a verb for a schedule; of bench, with its grid in a file."""
    if verb == "bench":
        table = f'[[method]]\nname = "chosen"\npolicy = "{policy}"' if policy else ""
        fields = {"data": data, "schedule": as_toml(schedule), "table": table}
        method, network = "chosen" if policy else "random", f'model = "{model}"' if model else ""
        Path("grid.toml").write_text(GRID.format(method=method, model=network, **fields))
        return ["bench", "grid.toml", "--out", "out", "--jobs", "1"]
    words = {
        "train": ["train", data, "--epochs", "2", "--run", "out"],
        "record": ["record", data, "--epochs", "2", "--run", "out"],
        "prune": ["prune", data, "--epochs", "2", "--run", "out", "--keep", "0.5", "--method", "el2n"],
        "race": ["race", data, "--budget", "2", "--out", "out"],
    }[verb]
    words += ["--progressive-resizing", schedule, "--precision", "fp32", "--threads", "1"]
    chosen = policy or ("ucb" if verb == "race" else "")
    return [*words, *(["--model", model] if model else []), *(["--policy", chosen] if chosen else [])]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("data", "schedule", "model", "message"),
    [
        ("images", "4:0.5,16:0.4", "", "the shares must sum to 1, got 0.9"),
        ("images", "4:1.5,16:-0.5", "", "shares must be a number in [0, 1], got 1.5"),
        ("images", "64", "", "starts at size 64, but the inputs have size 16: start below that"),
        ("images", "16", "", "starts at size 16, but the inputs have size 16: start below that"),
        ("images", "8:0.5,64:0.5", "", "above the inputs' own, 16"),
        ("images", "8", "lenet", "LeNet cannot take inputs of size 8"),
        ("images", "8", "mlp", "choose a network that pools over positions, such as resnet8, or train at full size"),
        ("vectors.npz", "2", "", "a size schedule is for images (b, channels, height, width) or token ids"),
    ],
)
def test_what_cannot_be_is_said_by_every_verb(call, verb, data, schedule, model, message):
    shown = call(*words_of(verb, data, schedule, model), code=2)
    assert message in " ".join(shown.stderr.split())
    assert not list(Path().rglob("*.safetensors"))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("verb", ["train", "race", "bench"])
@pytest.mark.parametrize(("policy", "option"), [("hide_easy", "confidence=0.7"), ("stop_mastered", "delta=0.001")])
def test_policies_of_fixed_thresholds_are_refused_by_every_verb(call, verb, policy, option):
    shown = " ".join(call(*words_of(verb, "images", "8", policy=policy), code=2).stderr.split())
    assert option in shown
    assert "take a policy that ranks, such as ucb with" in shown


def test_the_option_is_named_as_it_is_typed(call):
    shown = call(*words_of("train", "images", "8", policy="hide_easy"), code=2).stderr
    assert "--progressive-resizing changes what a loss means" in shown
    assert "size_schedule" not in shown


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("verb", VERBS)
def test_images_of_several_sizes_are_brought_to_one_before_the_schedule(call, verb):
    call(*words_of(verb, "mixed", "8"))
    assert Path("out").is_dir()


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("verb", ["race", "bench"])
def test_batch_norm_is_recomputed_in_cells_that_end_below_full_size(call, monkeypatch, verb):
    """Without it the same weights are tested with the statistics of small images."""
    losses = []
    for recomputed in (True, False):
        with monkeypatch.context() as patch:
            if not recomputed:
                patch.setattr(TrainState, "finish_at_full_size", lambda self: None)
            words = words_of(verb, "images", "4:0.5,12:0.5", "resnet8")
            words[words.index("--out") + 1] = f"out-{recomputed}"
            call(*words)
        rows = read_rows(Path(f"out-{recomputed}") / "rows.jsonl")
        losses.append({row["method"]: row["test_loss"] for row in rows})
    scheduled = {"race": {"small_first", "policy_small_first"}, "bench": {"random"}}[verb]
    assert scheduled <= set(losses[0])
    assert {method for method in losses[0] if losses[0][method] != losses[1][method]} == scheduled
