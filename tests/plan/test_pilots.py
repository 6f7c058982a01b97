"""Pilot trainings on digits: what they hold out, what they cost, and how they stop and go on."""

import json
import re
import time

import pytest
import torch

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.result_rows import PLAN_FILE
from datawinnow.plan.pilots import PilotSettings, fold_of
from datawinnow.train import Recipe

QUICK = {"model": "mlp", "recipe": Recipe(precision="fp32", batch=32, lr=0.05), "epochs": 24, "report": False}


@pytest.fixture(scope="module")
def digits():
    return dw.load("digits", limit=480)[0]


@pytest.fixture(scope="module")
def planned(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    return dw.plan(digits, folds=2, max_drop=5, out=folder, **QUICK)


def test_folds_are_stratified_and_differ_by_one():
    labels = torch.tensor([0] * 13 + [1] * 7 + [2])
    fold = fold_of(labels, 5, seed=3)
    assert fold[:20].bincount().tolist() == [4, 4, 4, 4, 4]
    assert fold[:13].bincount(minlength=5).max() <= 3
    assert fold[20] == -1  # the only one of its class is always trained on
    assert not torch.equal(fold, fold_of(labels, 5, seed=4))


def test_every_route_is_run_at_every_share_and_the_full_training_once_a_fold(planned):
    runs = {(row["method"], row["keep"], row["seed"]) for row in planned.rows}
    shares = (0.125, 0.25, 0.5)
    expected = {(name, share, seed) for name in ("random", "shorter_full") for share in shares for seed in (0, 1)}
    assert runs == expected | {("full", 1.0, 0), ("full", 1.0, 1)}
    # a fifth is held out: of 480 examples 96, which the pilots do not train on
    assert {row["n"] for row in planned.rows} == {384}
    assert {row["test_n"] for row in planned.rows} == {96}


def test_folds_hold_out_different_examples(planned):
    folders = [json.loads((planned.folder / f"fold-{i}" / "grid.json").read_text()) for i in (0, 1)]
    assert folders[0]["fingerprint"] != folders[1]["fingerprint"]
    assert folders[0]["test_fingerprint"] != folders[1]["test_fingerprint"]


def test_the_cost_is_that_of_all_pilots_in_full_trainings(planned):
    # 2 folds x (2 routes x 7/8 + 1), on four fifths of the examples
    assert planned.advice.pilots_cost == pytest.approx(2 * 2.75 * 0.8, rel=0.02)
    content = json.loads((planned.folder / PLAN_FILE).read_text())
    assert content["num_pilots"] == len(planned.rows) == 14
    assert content["pilots_cost"] == planned.advice.pilots_cost
    assert content["sentence"] == planned.sentence
    assert [len(route["pilots"]) for route in content["routes"]] == [3, 3]


def test_the_same_call_trains_nothing_and_says_the_same(planned, digits):
    new = []
    again = dw.plan(digits, folds=2, max_drop=5, out=planned.folder, on_row=new.append, **QUICK)
    assert new == []
    assert again.sentence == planned.sentence


def test_pilots_that_were_stopped_go_on(digits, tmp_path, planned):
    class Stopped(Exception):
        pass

    def stop_after_three(_):
        seen.append(1)
        if len(seen) == 3:
            raise Stopped

    seen = []
    with pytest.raises(Stopped):
        dw.plan(digits, folds=2, max_drop=5, out=tmp_path, on_row=stop_after_three, **QUICK)
    new = []
    resumed = dw.plan(digits, folds=2, max_drop=5, out=tmp_path, on_row=new.append, **QUICK)
    assert len(new) == 14 - 3
    assert resumed.sentence == planned.sentence


def test_more_folds_and_another_drop_train_only_what_is_new(planned, digits, tmp_path):
    new = []
    three = dw.plan(digits, folds=3, max_drop=20, out=planned.folder, on_row=new.append, **QUICK)
    assert len(new) == 7
    assert three.advice.num_folds == 3


def with_seconds(folder, share, seconds):
    """Rows of the share, as of pilots that took so long."""
    for path in folder.glob("fold-*/rows.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if row["keep"] == share:
                row["cost"]["train"]["seconds"] = seconds
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_no_time_at_all_runs_nothing(digits, tmp_path):
    result = dw.plan(digits, folds=2, at_most=1e-9, out=tmp_path, **QUICK)
    assert result.rows == []
    assert result.advice is None
    assert result.sentence.startswith("Nothing can be promised")
    assert "at_most" in result.sentence
    assert "12.5%" in result.notes[0]


class Stopped(Exception):
    pass


def stop_before(share, digits, folder):
    """Train the pilots below a share."""

    def stop(row):
        if row["keep"] == share:
            raise Stopped

    with pytest.raises(Stopped):
        dw.plan(digits, folds=2, out=folder, on_row=stop, **QUICK)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_pilots_of_an_earlier_call_count_for_the_time_that_larger_ones_take(digits, tmp_path, share):
    stop_before(share, digits, tmp_path)
    for path in tmp_path.glob("fold-*/rows.jsonl"):  # the one that stopped it
        lines = path.read_text().splitlines()
        path.write_text("".join(line + "\n" for line in lines if json.loads(line)["keep"] != share))
    with_seconds(tmp_path, share / 2, 1000.0)
    result = dw.plan(digits, folds=2, at_most="10m", out=tmp_path, **QUICK)
    assert max(row["keep"] for row in result.rows) == share / 2
    assert f"at {share:.0%} were not run" in result.notes[0]
    if share == 1:
        assert result.advice.has_full is False
        assert "extrapolated" in result.sentence or result.advice.chosen is None
    else:
        assert result.advice is None


def test_the_smallest_pilots_stop_at_the_limit_too(digits, tmp_path):
    def slow(row):
        time.sleep(2)

    result = dw.plan(digits, folds=2, at_most=2, out=tmp_path, on_row=slow, **QUICK)
    assert len(result.rows) == 1
    assert "at 12.5% were not all run within 2 s" in result.notes[0]


def test_a_static_method_is_charged_its_scores(digits, tmp_path):
    result = dw.plan(digits, folds=2, max_drop=5, methods=["el2n"], out=tmp_path, **QUICK)
    curves = {curve.route.name: curve.route for curve in result.advice.curves}
    assert curves["el2n"].overhead > 0.3
    assert curves["random"].overhead == 0
    # its scores come from the recording that is the full training, which is paid once
    assert result.advice.pilots_cost == pytest.approx(2 * (3 * 0.875 + 1) * 0.8, rel=0.05)


def test_a_network_of_your_own(digits, tmp_path):
    def tiny(*, classes, channels=1, size=8):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))

    result = dw.plan(digits, folds=2, out=tmp_path, **{**QUICK, "model": tiny})
    assert len(result.rows) == 14


def test_what_diverges_is_an_error(digits, tmp_path):
    recipe = Recipe(precision="fp32", lr=1e6)
    with pytest.raises(RunError, match=r"diverged.*lower `lr=`"):
        dw.plan(digits, folds=2, out=tmp_path, **{**QUICK, "recipe": recipe})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_drop": -1}, "max_drop"),
        ({"epochs": 1}, "epochs"),
        ({"folds": 1}, "folds"),
        ({"runs": 0}, "runs"),
        ({"methods": ["nothing"]}, "nothing"),
        ({"at_most": -1.0}, "at_most"),
    ],
)
def test_bad_options_are_an_error_before_anything_is_trained(digits, tmp_path, options, message):
    with pytest.raises(ArgumentError, match=message):
        dw.plan(digits, out=tmp_path / "out", **{**QUICK, **options})
    assert not (tmp_path / "out").exists()


def test_shares_are_checked():
    with pytest.raises(ArgumentError, match="3 or more different"):
        PilotSettings(10, shares=(0.5, 1.0))


def test_too_few_examples_are_an_error(tmp_path):
    x, y = torch.rand(3, 4), torch.tensor([0, 1, 2])
    with pytest.raises(ArgumentError, match=re.escape("3 examples are too few")):
        dw.plan(dw.Examples(x, y, ("a", "b", "c")), out=tmp_path, **QUICK)


def test_pilots_that_learned_nothing_are_left_out_of_the_curves_and_said(digits, tmp_path):
    with pytest.warns(Warning, match="Near chance"):
        result = dw.plan(digits, folds=2, out=tmp_path, **{**QUICK, "recipe": Recipe(precision="fp32", lr=1e-7)})
    assert result.advice is None
    assert result.sentence.startswith("Nothing can be promised")
    assert "near chance" in result.notes[0]
    assert "the full training" in result.notes[0]


@pytest.mark.parametrize("options", [{"seed": 1}, {"folds": 6}])
def test_other_folds_in_the_same_folder_are_refused_by_name(planned, digits, options):
    name = {"seed": r"seed=0, now it is 1", "folds": r"folds dealt=5, now it is 6"}[next(iter(options))]
    with pytest.raises(RunError, match=name):
        dw.plan(digits, out=planned.folder, **{"folds": 2, **QUICK, **options})


def test_a_plan_and_a_race_do_not_share_a_folder(planned, tmp_path):
    train, test = dw.load("digits", limit=100)
    quick = {key: QUICK[key] for key in ("model", "recipe", "report")}
    with pytest.raises(RunError, match="holds a plan"):
        dw.race(train, test=test, budget=1, out=planned.folder, **quick)
    dw.race(train, test=test, budget=1, out=tmp_path / "race", **quick)
    with pytest.raises(RunError, match="holds no plan"):
        dw.plan(train, out=tmp_path / "race", **QUICK)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="is a file"):
        dw.plan(train, out=tmp_path / "file", **QUICK)


def test_one_class_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match="only one class"):
        dw.plan(dw.Examples(torch.rand(40, 4), torch.zeros(40, dtype=torch.int64), ("a",)), out=tmp_path, **QUICK)
    assert not list(tmp_path.iterdir())


def test_two_plans_at_once_in_one_folder_are_refused(planned, digits):
    from datawinnow.core.lock import only_writer

    with only_writer(planned.folder), pytest.raises(RunError, match="another plan"):
        dw.plan(digits, folds=2, out=planned.folder, **QUICK)


def test_a_method_named_twice_or_random_is_tried_once(digits, tmp_path):
    result = dw.plan(digits, folds=2, methods=["random", "el2n", "el2n"], out=tmp_path, **QUICK)
    assert [r["method"] for r in result.rows if (r["seed"], r["keep"]) == (0, 0.125)] == [
        "random",
        "el2n",
        "shorter_full",
    ]
