"""The studies of stability and of Toneva's windows: what they compare, what they leave out, and that they go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from datawinnow.core.errors import RunError
from tests.benchmarks.test_scripts import FOLDER, approx, smoke

Loaded = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """A script as a module; it finds `measuring` beside it."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)

    return load


@pytest.mark.slow
def test_stability_compares_every_pair_of_seeds_networks_and_epochs() -> None:
    result = smoke("stability")
    names = {"forgetting", "dual", "curvature"}
    assert set(result["across_seeds"]) == set(result["early"]) == {"resnet8", "convnet"}
    seeds, early = result["seeds"], {"2", "3", "4"}  # of 6 epochs: a third, a half, two thirds
    for network in result["across_seeds"]:
        assert {name: row["pairs"] for name, row in result["across_seeds"][network].items()} == dict.fromkeys(names, 1)
        for name in names:
            assert set(result["early"][network][name]) == early
            assert {row["pairs"] for row in result["early"][network][name].values()} == {seeds}
        curvature = result["early"][network]["curvature"]  # of weights that grow more like the last ones
        assert curvature["2"]["mean"] < curvature["4"]["mean"] < 1
    assert {name: row["pairs"] for name, row in result["across_networks"].items()} == dict.fromkeys(names, seeds**2)


def test_a_comparison_is_spearman_over_pairs(script: Loaded) -> None:
    draws = np.random.default_rng(0)
    pairs = [(draws.normal(size=30), draws.integers(0, 3, size=30)) for _ in range(3)]
    result = script("stability").compared([*pairs, (draws.normal(size=30), np.zeros(30))])
    each = [*(float(stats.spearmanr(a, b).statistic) for a, b in pairs), 0.0]  # a constant ranks nothing
    assert result == {"mean": approx(np.mean(each)), "min": approx(min(each)), "max": approx(max(each)), "pairs": 4}


def test_stability_tells_scores_by_seed_network_and_epoch(script: Loaded) -> None:
    study = script("stability")
    size = study.Size("digits", None, 30, 2, (study.Network("a", 0.1), study.Network("b", 0.1)), "fp32", 1.0)
    assert (size.ends, size.window) == ((10, 15, 20, 30), 10)
    up = np.arange(9.0)
    # seed 1 of network b ranks the other way, and epoch 10 of network a is upside down
    result = {
        (model, seed, name, end): -up if (model, seed) == ("b", 1) or (model, end) == ("a", 10) else up
        for model in "ab" for seed in range(2) for name in ("forgetting", "dual", "curvature") for end in size.ends
    }  # fmt: skip
    output = study.summary(size, result)
    assert output["across_seeds"]["a"]["dual"]["mean"] == 1
    assert output["across_seeds"]["b"]["dual"]["mean"] == -1
    assert output["across_networks"]["dual"] == {"mean": 0, "min": -1, "max": 1, "pairs": 4}
    assert {end: row["mean"] for end, row in output["early"]["a"]["dual"].items()} == {"10": -1, "15": 1, "20": 1}
    assert output["early"]["b"]["dual"]["10"]["mean"] == 1


def test_stability_goes_on_with_what_is_recorded(
    script: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = script("stability")
    size = study.Size("digits", 60, 6, 2, study.SMALL, "fp32", 1.0)
    first = study.measure(size, tmp_path)
    monkeypatch.setattr(study, "fit_recorded", None)  # nothing is trained again
    monkeypatch.setattr(study, "probe", None)
    assert study.measure(size, tmp_path) == first
    other = study.Size("digits", 60, 9, 2, study.SMALL, "fp32", 1.0)
    with pytest.raises(RunError, match="resnet8-seed0 holds a recording with other settings: remove it"):
        study.measure(other, tmp_path)


def test_the_last_weights_are_those_that_training_ended_with(
    script: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = script("stability")
    ended = []
    fit = study.fit_recorded
    monkeypatch.setattr(study, "fit_recorded", lambda *a, **k: ended.append(fit(*a, **k)) or ended[-1])
    size, network = study.Size("digits", 60, 3, 1, study.SMALL, "fp32", 1.0), study.SMALL[1]
    data = study.load("digits", limit=60)
    study.record(size, network, 0, data, tmp_path)
    again = study.fresh(network, data[0], 0)
    study.load_checkpoint(study.weights_file(tmp_path, 3), again, None)
    for key, value in ended[0][0].state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_windows_rise_in_forgetting_and_random_has_as_many(script: Loaded) -> None:
    study = script("toneva")
    score = torch.arange(1000).flip(0) // 4 * 1.0  # the last examples are the least forgotten
    result = study.removals(score, 0)
    assert list(result) == ["0", "0.175", "0.35", "0.525", "0.7", "random"]
    assert {len(ids.unique()) for ids in result.values()} == {300}
    for start, ids in list(result.items())[:-1]:
        first = round(1000 * float(start))
        rising = sorted(score.tolist())[first : first + 300]
        assert sorted(score[ids].tolist()) == rising
    assert float(score[result["random"]].mean()) == approx(float(score.mean()), abs=4 * float(score.std()) / 300**0.5)


def test_ties_are_in_random_order_and_not_in_that_of_the_classes(script: Loaded) -> None:
    study = script("toneva")
    result = study.removals(torch.zeros(1000), 0)
    mean = float(result["0"].double().mean())  # of ids: 149.5 if the first ones were taken
    assert mean == approx(499.5, abs=4 * 289 / 300**0.5)
    assert torch.equal(result["0"], study.removals(torch.zeros(1000), 0)["0"])
    assert not torch.equal(result["0"], study.removals(torch.zeros(1000), 1)["0"])


@pytest.mark.slow
def test_toneva_trains_every_condition_with_every_seed() -> None:
    result = smoke("toneva")
    assert set(result["removed"]) == {"0", "0.175", "0.35", "0.525", "0.7", "random"}
    assert {row["seeds"] for row in result["removed"].values()} == {result["seeds"]}
    forgotten = [result["removed"][name]["forgetting"] for name in ("0", "0.175", "0.35", "0.525", "0.7")]
    assert forgotten == sorted(forgotten)
    assert forgotten[0] < result["removed"]["random"]["forgetting"] < forgotten[-1]
    for name, row in result["removed"].items():
        if name != "random":
            assert row["to_random"] == approx(row["accuracy"] - result["removed"]["random"]["accuracy"], abs=1e-4)


def test_toneva_goes_on_and_takes_recordings_that_are_there(
    script: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = script("toneva")
    grid = study.grid_of("smoke")
    train = grid.train.model_copy(update={"epochs": 2})
    grid = grid.model_copy(update={"seeds": [0], "train": train})
    recordings, out = tmp_path / "bench", tmp_path / "out"
    study.recording(grid, 0, recordings, ())
    monkeypatch.setattr(study, "run_cell", None)  # no recording is made again
    first = study.measure(grid, out, (recordings,))
    assert first["recordings"] == str(recordings / "recordings")
    kept = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert {row["count"] for row in kept} == {90}
    assert {row["cost"]["backward"] for row in kept} == {2 * 210}  # 70% of 300 examples, for two epochs

    trained: list[Any] = []
    real = study.train_without
    monkeypatch.setattr(study, "train_without", lambda *a: trained.append(a) or real(*a))
    lines = (out / "rows.jsonl").read_text().splitlines(keepends=True)
    (out / "rows.jsonl").write_text("".join(lines[:-1]))  # as after a kill
    assert study.measure(grid, out, (recordings,)) == first
    assert len(trained) == 1
    other = grid.model_copy(update={"train": grid.train.model_copy(update={"epochs": 3})})
    with pytest.raises(RunError, match="line 1 was made under other settings"):
        study.measure(other, out, (recordings,))


def test_the_image_is_a_file_of_its_own(script: Loaded) -> None:
    study = script("toneva")
    rows = [
        {"removed": name, "seed": seed, "accuracy": 0.7 + 0.01 * i + 0.002 * seed, "forgetting": i / 2, "never": 0.0}
        for i, name in enumerate(["0", "0.175", "0.35", "0.525", "0.7", "random"])
        for seed in range(3)
    ]
    drawn = study.image({"full": [0.75, 0.76, 0.74], "removed": study.summary(rows)})
    from xml.etree import ElementTree

    root = ElementTree.fromstring(drawn)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = "".join(root.itertext())
    for phrase in ("everything", "at random", "52.5%", "prefers-color-scheme: dark"):
        assert phrase in text


def test_when_stable_tells_where_recordings_would_have_stopped(
    script: Loaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = script("when_stable")
    draws = np.random.default_rng(0)
    worth = draws.uniform(0.1, 0.9, size=300)
    noise = np.linspace(1, 0, 16)[:, None] ** 6  # the ranking comes out of it epoch by epoch
    swing = np.where(np.arange(16) % 2, 1.0, 0.5)[:, None]
    p_label = (worth * swing * (1 - noise) + noise * draws.uniform(size=(16, 300))).astype(np.float32)
    for name, rows in (("a", p_label), ("b", p_label[:9])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "p_label.npy", rows)
    course = study.course(torch.from_numpy(p_label))
    assert [at.epochs for at in course] == [*range(10, 17)]
    assert course[-1].end == 1
    assert [at.end for at in course] == sorted(at.end for at in course)
    assert course[0].past > course[0].halves + 0.3  # what it shares with its past looks stable from the start
    halves = [at.halves for at in course]
    assert study.stop(course, max(halves)) == 10 + halves.index(max(halves))
    assert study.stop(course, 1.01) is None
    study.main([str(tmp_path), "--enough", "0.1", "1"])
    output = capsys.readouterr().out
    assert f"would have stopped after, by agreement: 0.1: {study.stop(course, 0.1)}, 1: never" in output
    assert study.stop(course, 0.1) is not None
    assert f"{tmp_path / 'b'}: fewer than 10 epochs" in output
    with pytest.raises(SystemExit):
        study.main([str(tmp_path / "a" / "nothing")])


def test_what_a_plan_s_advice_loses_is_read_between_the_tenths_of_its_own_route(script: Loaded) -> None:
    study = script("plan_promise")
    drops = {"random examples": [9, 8, 7, 6, 5, 4, 3, 2, 1, 0.0], "fewer epochs": [90.0] * 9 + [0.0]}
    assert study.loss_of({"label": "random examples", "share": 0.35}, drops) == pytest.approx(6.5)
    assert study.loss_of({"label": "random examples", "share": 0.95}, drops) == pytest.approx(0.5)
    assert study.loss_of(None, drops) == 0


def test_a_trained_network_gets_a_new_head(script: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datawinnow.api import train
    from datawinnow.data.load import load
    from datawinnow.train import Recipe

    run = tmp_path / "run"
    train(load("digits", limit=40)[0], model="resnet8", epochs=1, recipe=Recipe(precision="fp32"), run=run)
    monkeypatch.setenv("DATAWINNOW_PRETRAINED", str(run))
    network = script("pretrained_resnet8").resnet8_of_cifar100(classes=3, channels=1)
    fresh = script("pretrained_resnet8").resnet8_of_cifar100(classes=3, channels=1)
    assert network.classifier.weight.shape[0] == 3
    state, other = network.state_dict(), fresh.state_dict()
    same = {name for name in state if torch.equal(state[name], other[name])}
    assert {name for name in state if name.startswith("features.")} <= same  # the trained weights
    assert "classifier.weight" not in same
