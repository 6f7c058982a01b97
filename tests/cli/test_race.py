"""`datawinnow race`, and `train --policy auto`: who runs, on what budget, and what is said of it."""

import json
import re
import sys

import pytest
import torch

import datawinnow as dw
from datawinnow.core.errors import ArgumentError
from datawinnow.core.verdict import verdict
from tests.bench.conftest import write_data

QUICK = ("--model", "mlp", "--precision", "fp32", "--limit", "200", "--batch", "32", "--threads", "1", "--quiet")


@pytest.fixture
def won(monkeypatch):
    """A map on which UCB won near the digits."""
    import datawinnow.dynamic  # noqa: F401

    module = sys.modules["datawinnow.dynamic.auto"]
    options = {"keep": 0.5, "period": 1}
    setting = module.MeasuredSetting("squares", 200, 3, False, "UCB, half", "ucb", options, (), 0.02, 0.01, 5)
    monkeypatch.setattr(module, "load_benchmarks", lambda: (setting,))
    return setting


@pytest.fixture
def lost(monkeypatch):
    """An empty map."""
    import datawinnow.dynamic  # noqa: F401

    monkeypatch.setattr(sys.modules["datawinnow.dynamic.auto"], "load_benchmarks", lambda: ())


def rows_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("worker", ["in_process", pytest.param("process", marks=pytest.mark.slow)])
def test_both_pass_the_budget_and_the_difference_is_told(call, tmp_path, won, worker, request):
    if worker == "in_process":
        request.getfixturevalue("in_process")
    result = call("race", "digits", "--jobs", "1", "--budget", "3", "--seeds", "2", *QUICK)
    rows = rows_of(tmp_path / "runs" / "race-digits")
    assert [(row["method"], row["seed"]) for row in rows] == [
        (method, seed) for seed in (0, 1) for method in ("shorter_full", "policy")
    ]
    assert {row["passes"] for row in rows} == {3 * 200}
    assert {row["label"] for row in rows} == {"all the data, fewer epochs", "UCB, half"}
    of = {(row["method"], row["seed"]): row["accuracy"] for row in rows}
    mean = 50 * sum(of["policy", seed] - of["shorter_full", seed] for seed in (0, 1))
    assert re.search(rf"UCB, half (beats|ties with|loses to) all the data .*{abs(mean):.2f} ± ", result.stdout)
    assert "This is an indication (2 seeds): a result needs 5 paired seeds." in result.stdout
    assert (tmp_path / "runs" / "race-digits" / "report.html").exists()


def test_one_seed_is_no_result_and_more_go_on_from_it(call, tmp_path, won, in_process):
    first = call("race", "digits", "--jobs", "1", "--budget", "2", *QUICK)
    assert "This is an indication (1 seed): a result needs 5 paired seeds." in first.stdout
    assert "Add seeds (--seeds 5): the seed that is done is kept." in first.stdout
    file = tmp_path / "runs" / "race-digits" / "rows.jsonl"
    before = file.read_text()
    call("race", "digits", "--jobs", "1", "--budget", "2", "--seeds", "2", *QUICK)
    assert file.read_text().startswith(before)


def test_where_the_map_has_nobody_ucb_runs_and_that_is_said(call, tmp_path, lost, in_process):
    words = [word for word in QUICK if word != "--quiet"]
    result = call("race", "digits", "--jobs", "1", "--budget", "1", "--out", tmp_path / "r", *words)
    assert "auto: all the data for 1 epoch: no policy was measured on images (n=200 images" in result.stderr
    assert "so the race is against UCB, keep 0.7" in result.stderr
    assert {row["label"] for row in rows_of(tmp_path / "r")} == {"all the data, fewer epochs", "UCB, keep 0.7"}


def test_where_labels_are_noisy_and_the_map_has_nobody_what_looks_right_runs(call, tmp_path, lost, in_process):
    words = [word for word in QUICK if word != "--quiet"]
    options = ("--policy-option", "noisy=true", "--out", tmp_path / "r")
    result = call("race", "digits", "--jobs", "1", "--budget", "1", *options, *words)
    assert "n=200 images (8 pixels a side, 1 channel) of 10 classes" in result.stderr
    assert {row["label"] for row in rows_of(tmp_path / "r")} == {
        "all the data, fewer epochs",
        "all but likely wrong labels (guarded)",
    }


def test_a_policy_of_ones_own(call, tmp_path, in_process):
    named = ("--policy", "random", "--keep", "0.5", "--wrap", "rescaled", "--lr", "0.01")
    call("race", "digits", "--jobs", "1", "--budget", "2", *named, *QUICK)
    rows = rows_of(tmp_path / "runs" / "race-digits")
    assert rows[1]["trained_epochs"] == 4  # of half the data each
    assert re.search(r"\"lr\": 0.01\b", (tmp_path / "runs/race-digits/grid.json").read_text())


def test_columns_of_vectors_stay_as_they_are(call, tmp_path, in_process):
    named = ("--policy", "random", "--keep", "0.5", "--no-standardise", "--out", "r")
    call("race", write_data(tmp_path / "vectors.npz"), "--jobs", "1", "--budget", "1", *named, *QUICK)
    assert json.loads((tmp_path / "r/grid.json").read_text())["settings"]["data"]["standardise"] is False


def test_another_share_is_held_out(call, tmp_path, in_process):
    call("race", "digits", "--jobs", "1", "--budget", "1", "--policy", "random", "--keep", "0.5", "--holdout", "50%",
         "--out", "r", *QUICK)  # fmt: skip
    row = json.loads((tmp_path / "r/rows.jsonl").read_text().splitlines()[0])
    assert row["test_n"] == 898  # half of each class, by whole examples


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--policy", "ubc"), "no policy is called 'ubc'. Did you mean 'ucb'|no policy is called 'ubc'"),
        (("--policy", "ucb", "--keep", "70"), "keep must be in .*give 0.7 or 70%"),
        (("--policy", "ucb", "--keep", "x%"), "30%, got"),
        (("--keep", "0.5"), "name a policy with --policy"),
        (("--wrap", "guarded"), "name a policy with --policy"),
        (("--policy-option", "period=5"), "name a policy with --policy"),
        (("--policy-option", "noisy=3"), "noisy of --policy auto must be true or false, got 3"),
        (("--policy", "random", "--keep", "1.5"), "keep must be in"),
        (("--holdout", "1.5"), "holdout must be"),
    ],
)
def test_what_cannot_run_is_refused(call, words, message):
    assert re.search(message, call("race", "digits", "--jobs", "1", "--budget", "1", *words, *QUICK, code=2).stderr)


def race_rows(gains):
    about = {"n": 200, "keep": 1.0, "trained_epochs": 3.0, "total_passes": 600, "cost": {"train": {"seconds": 2.0}}}
    ours, reference = {"method": "policy", "label": "UCB"}, {"method": "shorter_full", "label": "all the data"}
    rows = [{**reference, **about, "seed": seed, "accuracy": 0.5} for seed in range(len(gains) or 1)]
    rows += [{**ours, **about, "seed": seed, "accuracy": 0.5 + gain} for seed, gain in enumerate(gains)]
    return rows if gains else [*rows, {**ours, **about, "seed": 0, "accuracy": None}]


@pytest.mark.parametrize(
    ("gains", "word", "phrase"),
    [
        ((0.02, 0.03, 0.025), "wins", "2.50 ± 1.24 points"),
        ((-0.02, -0.03, -0.025), "loses", "2.50 ± 1.24 points"),
        ((0.02, -0.03, 0.025), "ties", "UCB ties with all the data ("),
        ((), "none", "diverged"),
    ],
)
def test_the_verdict(gains, word, phrase):
    answer = verdict(race_rows(gains), "policy")
    assert answer.word == word
    assert phrase in str(answer)
    assert ("indication (3 seeds)" in str(answer)) == bool(gains)
    if gains:
        assert "with UCB, 50.0% on all the data for 3 epochs" in answer.line
        assert "3.0 passes over all the data and 2.0 s" in answer.line


def test_the_verdict_counts_the_seeds_that_both_have():
    rows = race_rows([seed / 100 for seed in range(1, 6)])
    assert "(53.00 against 50.00)" in verdict(rows, "policy").details
    assert "indication" not in str(verdict(rows, "policy"))
    rows[-1]["accuracy"] = None
    answer = verdict(rows, "policy")
    assert answer.comparisons["shorter_full"].num_seeds == 4
    assert answer.details.endswith("This is an indication (4 seeds): a result needs 5 paired seeds.")


def test_training_by_the_map_s_advice(call, tmp_path, won):
    words = [word for word in QUICK if word != "--quiet"]
    result = call("train", "digits", "--policy", "auto", "--passes", "3", *words)
    assert "auto: UCB, half: +2.0 ± 1.0 points" in result.stderr
    metadata = json.loads((tmp_path / "runs/digits-auto/run.json").read_text())
    assert metadata["options"]["train"]["policy"].startswith("UCB(keep=0.5, period=1")
    assert metadata["cost"]["train"]["backward"] == 600


@pytest.mark.parametrize(("length", "passed"), [("--epochs=2", 400), ("--passes=1.5", 300)])
def test_training_on_everything_where_nothing_wins(call, tmp_path, lost, length, passed):
    words = [word for word in QUICK if word != "--quiet"]
    result = call("train", "digits", "--policy", "auto", length, *words)
    assert "auto: all the data for" in result.stderr
    metadata = json.loads((tmp_path / "runs/digits-auto/run.json").read_text())
    assert metadata["options"]["train"]["policy"] is None
    assert metadata["cost"]["train"]["backward"] == passed


def test_auto_takes_no_keep_of_ones_own(call):
    stderr = call("train", "digits", "--policy", "auto", "--keep", "0.5", *QUICK, code=2).stderr
    assert "--policy auto chooses keep, options and wrappers itself" in stderr


def test_a_trial_runs_a_share_of_the_budget_in_a_folder_of_its_own(call, tmp_path, won, in_process):
    result = call("race", "digits", "--jobs", "1", "--budget", "8", "--trial", "25%", *QUICK)
    rows = rows_of(tmp_path / "runs" / "race-digits" / "trial-2")
    assert {row["passes"] for row in rows} == {2 * 200}
    assert "a trial of 2 of 8 epochs" in " ".join(result.stdout.split())
    # the race itself is not disturbed by it
    call("race", "digits", "--jobs", "1", "--budget", "8", *QUICK)
    assert {row["passes"] for row in rows_of(tmp_path / "runs" / "race-digits")} == {8 * 200}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trial", "0"), "share of the budget"),
        (("--trial", "100%"), "share of the budget"),
        (("--trial", "most"), "most"),
        (("--trial", "0.5", "--budget", "1"), "leave --trial out"),
        (("--trial", "0.5", "--budget", "2"), "leave --trial out"),
        (("--trial", "99%"), "a trial takes 8 epochs of a budget of 8"),
    ],
)
def test_a_trial_that_is_no_share_is_refused(call, words, message):
    assert message in call("race", "digits", "--budget", "8", *words, *QUICK, code=2).stderr


def test_a_trial_below_a_file_is_refused(call, tmp_path):
    (tmp_path / "notes").write_text("")
    words = ("--budget", "8", "--trial", "0.5", "--out", tmp_path / "notes")
    assert "notes is a file, not a folder" in call("race", "digits", *words, *QUICK, code=2).stderr


def test_one_class_is_refused():
    data = dw.Examples(torch.rand(40, 4), torch.zeros(40, dtype=torch.int64), ("a",))
    with pytest.raises(ArgumentError, match="only one class"):
        dw.race(data, test=data, budget=1, model="mlp", report=False)


def test_a_trial_says_how_often_what_won_held_at_a_larger_budget(monkeypatch):
    from datawinnow.api.race import trial_sentence

    module = sys.modules["datawinnow.dynamic.auto"]

    def measured(arm, passes, gain, half=0.01, seeds=5):
        return module.MeasuredSetting(arm, 200, passes, False, arm, "ucb", {"keep": 0.5}, (), gain, half, seeds)

    settings = [
        *(measured("gain, gain", 5, 0.03), measured("gain, gain", 10, -0.05), measured("gain, gain", 20, 0.02)),
        *(measured("gain, loss", 5, 0.03), measured("gain, loss", 20, -0.02)),
        *(measured("gain, noise", 5, 0.03), measured("gain, noise", 20, 0.01)),
        *(measured("noise, gain", 5, 0.005), measured("noise, gain", 20, 0.02)),
        *(measured("noise, loss", 5, -0.01), measured("noise, loss", 20, -0.02)),
        *(measured("few seeds", 5, 0.03, seeds=3), measured("few seeds", 20, 0.02)),
        measured("one budget", 5, 0.03),
    ]
    monkeypatch.setattr(module, "load_benchmarks", lambda: tuple(settings))
    assert module.count_at_larger_budgets() == module.LargerBudgets(3, 1, 1, 2, 1, 1)
    sentence = trial_sentence(6, 30)
    assert "a trial of 6 of 30 epochs" in sentence
    assert "of 3 gains beyond noise at the smaller one 1 held at the larger and 1 became losses" in sentence
