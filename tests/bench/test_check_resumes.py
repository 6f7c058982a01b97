"""A check is written down training by training: the same one goes on, another one starts anew."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

from datawinnow import api
from datawinnow.bench import cell as cell_module
from datawinnow.bench.check import check
from datawinnow.core.artifacts import read_json, write_json
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.result_rows import read_rows
from datawinnow.core.selection import Selection
from datawinnow.report import results
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.select import select_run
from datawinnow.train import fit
from tests.runs.conftest import FAST, make_blobs
from tests.runs.killing import timeless

HOW = {"keep": 0.3, "epochs": 2, "recipe": FAST}


@pytest.fixture
def run(blobs, tmp_path):
    folder = api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST)
    return folder, select_run(folder, blobs, keep=0.3, method="el2n")


@pytest.fixture
def trained(monkeypatch):
    """Seed and number of examples of each training, as it begins."""
    seen: list[tuple[int, int]] = []

    def watched(model, data, *, seed, **kwargs):
        seen.append((seed, len(data)))
        return fit(model, data, seed=seed, **kwargs)

    monkeypatch.setattr(cell_module, "fit", watched)
    return seen


def plain(answer):
    return timeless(json.loads(re.sub(r"data and [\d.]+ s", "data", json.dumps(answer))))


def test_what_is_done_is_not_trained_again(blobs, run, trained):
    folder, selection = run
    test, events = make_blobs(9), []
    first = check(folder, blobs, test, selection, seeds=2, **HOW)
    assert len(trained) == 8
    again = check(RunFolder.open(folder.path), blobs, test, selection, seeds=2, on_row=events.append, **HOW)
    assert len(trained) == 8
    assert events == []
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(first))


def test_killed_in_any_training_it_goes_on_to_the_same_rows(blobs, run, tmp_path, trained):
    folder, selection = run
    test = make_blobs(9)
    uninterrupted = check(folder, blobs, test, selection, seeds=2, **HOW)
    expected = plain(uninterrupted)
    for at in range(8):
        folder.forget("check.json")
        before, done = len(trained), []

        def stop(stage, now, total, at=at, done=done):
            if len(done) == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            check(folder, blobs, test, selection, seeds=2, progress=stop, on_row=done.append, **HOW)
        stored = read_json(folder.path / "check.json")
        rows = read_rows(folder.path / "check" / "rows.jsonl")
        assert len(rows) == at
        assert stored["sentence"] == f"The check is not finished: {at} of 8 trainings are done."
        assert results.checked(rows, "check") == rows
        assert plain(check(folder, blobs, test, selection, seeds=2, **HOW)) == expected
        assert len(trained) == before + 9  # the one that was killed is trained again, and no other


def test_more_seeds_train_only_the_new_ones_and_fewer_lose_none(blobs, run, trained):
    folder, selection = run
    test = make_blobs(9)
    one = check(folder, blobs, test, selection, **HOW)
    three = check(folder, blobs, test, selection, seeds=3, **HOW)
    assert [seed for seed, _ in trained] == [0] * 4 + [1] * 4 + [2] * 4
    assert plain(three["rows"][:4]) == plain(one["rows"])
    assert check(folder, blobs, test, selection, seeds=1, **HOW)["sentence"] == three["sentence"]
    assert len(trained) == 12


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"epochs": 3}, "epochs=2, now it is 3"),
        ({"recipe": replace(FAST, lr=0.1)}, "recipe.lr=0.05, now it is 0.1"),
        ({"model": "mlp", "model_options": {"width": 8}}, "model_options.width=None, now it is 8"),
        ({"test": make_blobs(9, seed=3)}, "test="),
        ({"selection": Selection.of(torch.arange(18), 60)}, "selection="),
    ],
    ids=["epochs", "recipe", "network", "test split", "selection"],
)
def test_other_settings_start_anew_and_it_says_which(blobs, run, trained, change, difference):
    folder, selection = run
    named = {"test": make_blobs(9), "selection": selection, **HOW}
    messages: list[str] = []
    check(folder, blobs, **named, log=messages.append)
    assert messages == []
    changed = check(folder, blobs, **{**named, **change}, log=messages.append)
    assert len(messages) == 1
    assert difference in messages[0]
    assert len(trained) == 8
    assert len(changed["rows"]) == 4
    assert read_json(folder.path / "check.json")["settings"] == json.loads(json.dumps(changed["settings"]))


def test_workers_change_no_number(blobs, run, trained):
    folder, selection = run
    check(folder, blobs, make_blobs(9), selection, **HOW)
    check(folder, blobs, make_blobs(9), selection, **{**HOW, "recipe": replace(FAST, workers=4)})
    assert len(trained) == 4


def test_it_says_what_it_was_made_of_and_what_it_cost(blobs, run):
    folder, selection = run
    check(folder, blobs, make_blobs(9), selection, **HOW)
    stored = read_json(folder.path / "check.json")
    assert stored["fingerprint"] == blobs.fingerprint
    assert (stored["settings"]["method"], stored["settings"]["keep"], stored["settings"]["epochs"]) == ("el2n", 0.3, 2)
    assert set(stored["cost"]) == {"record", "score", "select", "check"}
    assert stored["cost"]["record"]["backward"] == 120
    assert stored["cost"]["check"]["backward"] == 3 * 36 + 120
    assert stored["cost"]["check"]["seconds"] == pytest.approx(
        sum(r["cost"]["train"]["seconds"] for r in read_rows(folder.path / "check" / "rows.jsonl"))
    )
    assert RunFolder.open(folder.path).metadata["cost"] == stored["cost"]


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (
            lambda stored_file: {**stored_file, "fingerprint": "ab"},
            r"check.json belongs to a different dataset \(fingerprint ab\)",
        ),
        (
            lambda stored_file: {**stored_file, "format": 99},
            r"check.json was written by a newer datawinnow \(format 99",
        ),
    ],
    ids=["another dataset", "newer"],
)
def test_a_file_that_is_not_its_own_is_named(blobs, run, damage, match):
    folder, selection = run
    check(folder, blobs, make_blobs(9), selection, **HOW)
    path = folder.path / "check.json"
    write_json(path, damage(read_json(path)))
    with pytest.raises(RunError, match=match):
        check(folder, blobs, make_blobs(9), selection, **HOW)


def test_damaged_rows_are_named(blobs, run):
    folder, selection = run
    check(folder, blobs, make_blobs(9), selection, **HOW)
    with (folder.path / "check" / "rows.jsonl").open("a") as file:
        file.write('{"format": 1, "seed": 0}\n')
    with pytest.raises(RunError, match=r"rows.jsonl, line 5"):
        check(folder, blobs, make_blobs(9), selection, **HOW)


def test_a_network_with_too_few_outputs_is_refused_before_anything_is_trained(blobs, run, trained):
    folder, selection = run
    with pytest.raises(ArgumentError, match="Linear has 2 outputs, but the dataset 'blobs' has 3 classes: build it"):
        check(folder, blobs, make_blobs(9), selection, model=lambda: torch.nn.Linear(4, 2), **HOW)
    assert trained == []
