"""Small inputs first as a default: `race` tries them on images, `auto` takes them where they won."""

import itertools
import json
import math
import sys

import pytest

import datawinnow as dw
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic import UCB, recommend
from tests.train.helpers import blobs, images

FAST = dw.Recipe(batch=16, lr=0.05, precision="fp32", device="cpu")
SMALL = {"model": "resnet8", "model_options": {"width": 4}}


def setting(**change):
    values = {
        "setting": "squares", "n": 48, "passes": 2.0, "noisy": False, "label": "small first, UCB", "policy": "ucb",
        "options": {"keep": 0.5, "period": 1}, "wrap": (), "gain": 0.05, "half": 0.01, "seeds": 5, "classes": 2,
        "channels": 3, "size": 32, "size_schedule": {"start": 0.5},
    }  # fmt: skip
    return sys.modules["datawinnow.dynamic.auto"].MeasuredSetting(**{**values, **change})


@pytest.fixture
def measured(monkeypatch):
    """Sets the measured settings."""

    def put(*settings):
        monkeypatch.setattr(sys.modules["datawinnow.dynamic.auto"], "load_benchmarks", lambda: settings)

    return put


def race(data, tmp_path, **options):
    options = {"test": images(24, 16, 1), "budget": 2, "recipe": FAST, **SMALL, **options}
    return dw.race(data, out=tmp_path / "race", report=False, **options)


def row_of(method, epochs, seed, accuracy):
    none = {"seconds": 0.0, "forward": 0, "backward": 0, "flops": 0.0}
    return {
        "method": method, "label": method, "epochs": epochs, "keep": 1.0, "seed": seed, "scenario": "clean", "n": 48,
        "test_n": 1000, "accuracy": accuracy, "trained_epochs": epochs, "passes": 48 * epochs, "dataset": "images",
        "total_passes": 48 * epochs, "cost": {"score": none, "select": none, "train": none}, "model": "resnet8",
    }  # fmt: skip


class TestRecommend:
    squares = {"passes": 2, "classes": 2, "channels": 3, "size": 32}

    def test_only_where_the_training_can_follow(self, measured):
        measured(setting(), setting(gain=0.03, size_schedule=None, label="UCB"))
        assert recommend(48, **self.squares).size_schedule is None
        assert "UCB: +3.0" in recommend(48, **self.squares).why
        advice = recommend(48, **self.squares, size_schedules=True)
        assert advice.size_schedule == {"start": 0.5}
        assert advice.policy == UCB(keep=0.5, period=1)
        assert "small first, UCB: +5.0" in advice.why

    def test_without_a_policy(self, measured):
        measured(setting(policy="", options={}))
        advice = recommend(48, **self.squares, size_schedules=True)
        assert (advice.policy, advice.size_schedule) == (None, {"start": 0.5})
        assert recommend(48, **self.squares).why.startswith("all the data for 2 epochs: no policy was measured")

    def test_with_and_without_small_inputs_are_different_candidates(self, measured):
        measured(setting(gain=0.01, half=0.02), setting(gain=0.04, size_schedule=None))
        assert recommend(48, **self.squares, size_schedules=True).size_schedule is None


class TestTrain:
    def train(self, tmp_path, data=None, **options):
        notes = []
        data = images(size=32) if data is None else data
        options = {**SMALL, "recipe": FAST, **options}
        trained = dw.api.train(data, policy="auto", passes=2, run=tmp_path / "run", log=notes.append, **options)
        return trained.run.metadata, "\n".join(notes)

    @pytest.mark.parametrize("policy", ["ucb", ""])
    def test_auto_takes_small_images_first_where_they_won(self, tmp_path, measured, policy):
        measured(setting(policy=policy, options={"keep": 0.5, "period": 1} if policy else {}))
        metadata, notes = self.train(tmp_path)
        assert metadata["options"]["train"]["recipe"]["size_schedule"]["start"] == 0.5
        assert (metadata["options"]["train"]["policy"] is None) == (policy == "")
        assert "small first, UCB: +5.0" in notes
        # at half the side and more steps for as many operations
        assert abs(metadata["cost"]["train"]["backward"] - 2 * 48) <= FAST.batch

    def test_a_network_of_one_size_trains_at_full_size(self, tmp_path, measured):
        measured(setting(), setting(gain=0.03, size_schedule=None, label="UCB"))
        metadata, notes = self.train(tmp_path, model="mlp", model_options={})
        assert "size_schedule" not in metadata["options"]["train"]["recipe"]
        assert "UCB: +3.0" in notes
        assert "this network does not take them" in notes

    def test_the_users_schedule_stays(self, tmp_path, measured):
        measured(setting(), setting(gain=0.03, size_schedule=None))
        mine = dw.SizeSchedule(start=24)
        metadata, _ = self.train(tmp_path, recipe=dw.Recipe(**{**vars(FAST), "size_schedule": mine}))
        assert metadata["options"]["train"]["recipe"]["size_schedule"]["start"] == 24


class TestRace:
    def test_four_trainings_on_images(self, tmp_path, measured):
        measured()
        result = race(images(size=16), tmp_path)
        assert [row["method"] for row in result.rows] == [
            "shorter_full", "small_first", "policy", "policy_small_first",
        ]  # fmt: skip
        assert len(result.comparisons) == 3

    def test_two_without_small_inputs(self, tmp_path, measured):
        measured()
        result = race(images(size=16), tmp_path, small_first="no")
        assert [row["method"] for row in result.rows] == ["shorter_full", "policy"]

    @pytest.mark.parametrize(
        ("data", "test", "model"),
        [(images(size=12), images(24, 12, 1), SMALL), (images(size=16), images(24, 16, 1), {"model": "mlp"}),
         (blobs(), blobs(), {"model": "mlp"})],
        ids=["small images", "a network of one size", "vectors"],
    )  # fmt: skip
    def test_two_where_there_are_none(self, tmp_path, measured, data, test, model):
        measured()
        options = {"test": test, "model_options": {}, **model}
        assert len(race(data, tmp_path, **options).rows) == 2

    @pytest.mark.parametrize("data", [images(size=16), blobs()], ids=["a network of one size", "vectors"])
    def test_asked_for_where_there_are_none(self, tmp_path, measured, data):
        measured()
        with pytest.raises(ArgumentError, match="inputs of one size only"):
            race(data, tmp_path, test=data, model="mlp", model_options={}, small_first="yes")

    def test_what_won_alone_runs_beside_the_best_policy(self, tmp_path, measured):
        won = {"keep": 0.6, "period": 1}
        measured(
            setting(policy="", options={}, label="small first", size_schedule={"start": 0.75}),
            setting(gain=0.02, options=won, label="UCB, keep 0.6", size_schedule=None),
        )
        result = race(images(size=32), tmp_path, test=images(24, 32, 1))
        assert [row["label"] for row in result.rows[2:]] == ["UCB, keep 0.6", "UCB, keep 0.6, small inputs first"]
        methods = json.loads((tmp_path / "race/grid.json").read_text())["settings"]["methods"]
        starts = {name: method["train"].get("size_schedule", {}).get("start") for name, method in methods.items()}
        assert starts == {"small_first": 0.75, "policy": None, "policy_small_first": 0.75}

    def test_how_many_times_the_budget_all_the_data_need(self, tmp_path, measured, monkeypatch):
        measured()
        accuracy = {("shorter_full", 2): 0.70, ("shorter_full", 4): 0.80, ("policy", 2): 0.75}

        def run_grid(grid, folder, **_):
            rows = []
            for seed, method in itertools.product(grid.seeds, grid.methods):
                reached = accuracy[method, grid.train.epochs] + seed / 100
                rows.append(row_of(method, grid.train.epochs, seed, reached))
            return rows

        monkeypatch.setattr("datawinnow.bench.run_grid", run_grid)
        options = {"small_first": "no", "longer_reference": True, "seeds": 3}
        result = race(images(size=16), tmp_path, **options)
        assert result.factor == pytest.approx(2**0.5)
        assert "all the data need about 2.8 epochs, 1.41 times the budget, 95%: 1.4 to 1.4" in result.sentence
        accuracy["policy", 2] = 0.85
        result = race(images(size=16), tmp_path, **options)
        assert result.factor == math.inf
        assert "saves more than half the cost: all the data for 4 epochs reach 81.0%" in result.sentence
        accuracy["policy", 2] = 0.65
        assert race(images(size=16), tmp_path, **options).factor is None

    def test_the_longer_reference_is_run(self, tmp_path, measured):
        measured()
        result = race(images(size=16), tmp_path, small_first="no", longer_reference=True)
        assert [row["method"] for row in result.rows] == ["shorter_full", "policy"]
        [longer] = [json.loads(line) for line in (tmp_path / "race/twice-the-budget/rows.jsonl").open()]
        assert (longer["method"], longer["passes"]) == ("shorter_full", 4 * 48)

    def test_contradictions(self, tmp_path):
        recipe = dw.Recipe(**{**vars(FAST), "size_schedule": dw.SizeSchedule(start=8)})
        with pytest.raises(ArgumentError, match="contradict"):
            race(images(size=16), tmp_path, recipe=recipe, small_first="no")
        with pytest.raises(ArgumentError, match="small_first"):
            race(images(size=16), tmp_path, small_first="maybe")
