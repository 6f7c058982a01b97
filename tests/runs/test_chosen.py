"""Who each epoch trained on: kept bit by bit, written before the epoch, the same bytes after a kill."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from datawinnow import dynamic
from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import FILE, ChosenLog, read_chosen
from datawinnow.runs.selection_history import Chosen
from datawinnow.runs.train import train_run
from datawinnow.train import Recipe
from tests.runs.killing import Killed, contents, killed_at
from tests.train.helpers import blobs

RECIPE = Recipe(precision="fp32", batch=16)
HOW = {"recipe": RECIPE, "model": "mlp"}
PLANS = [[0, 1, 2, 8], [10, 3], [8], [5, 0]]


def written(path, plans=PLANS, first=0, **how):
    chosen = Chosen(path, 11, fingerprint="f", **how)
    for epoch, ids in enumerate(plans, first):
        chosen(epoch, torch.tensor(ids))
    return chosen


def test_what_is_kept_is_what_was_told(tmp_path):
    written(tmp_path / FILE, candidates=torch.tensor([10, 8, 5, 3, 2, 1, 0]), labels=torch.arange(11) % 3)
    log = read_chosen(tmp_path / FILE, "f", 11)
    assert [np.flatnonzero(log.row(i)).tolist() for i in range(len(log))] == [sorted(ids) for ids in PLANS]
    assert np.flatnonzero(log.candidates).tolist() == [0, 1, 2, 3, 5, 8, 10]
    assert log.labels.tolist() == [i % 3 for i in range(11)]
    assert log.first == 0
    assert log.bits.shape == (4, 2)  # one bit an example and epoch


def test_who_goes_on_leaves_the_bytes_of_who_was_never_stopped(tmp_path):
    written(tmp_path / "whole")
    written(tmp_path / FILE, [*PLANS[:3], [9]])  # killed in the fourth epoch, which is planned otherwise in a moment
    again = Chosen(tmp_path / FILE, 11, fingerprint="f")
    for epoch in (2, 3):
        again(epoch, torch.tensor(PLANS[epoch]))
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "whole").read_bytes()
    written(tmp_path / FILE)  # from the start, over what is there
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("there", [None, PLANS[:1]], ids=["lost", "a gap"])
def test_epochs_that_nobody_kept_are_told_and_not_made_up(there, tmp_path):
    if there:
        written(tmp_path / FILE, there)
    written(tmp_path / FILE, PLANS[2:], first=2)
    log = read_chosen(tmp_path / FILE, "f", 11)
    assert (log.first, len(log)) == (2, 2)
    assert np.flatnonzero(log.row(1)).tolist() == [0, 5]
    written(tmp_path / FILE, [[7]], first=4)
    log = read_chosen(tmp_path / FILE, "f", 11)
    assert (log.first, len(log)) == (2, 3)


def test_a_run_from_the_start_does_not_mind_what_is_there(tmp_path):
    (tmp_path / FILE).write_bytes(b"of another time")
    written(tmp_path / FILE)
    assert len(read_chosen(tmp_path / FILE, "f", 11)) == 4


def about(**change):
    return {"format": 1, "kind": "chosen", "n": 11, "first": 0, "fingerprint": "f", **change}


def file(about, **change):
    arrays = {"bits": np.array([[224, 0]], np.uint8), "candidates": np.array([255, 224], np.uint8), **change}
    kept = {key: value for key, value in arrays.items() if value is not None}
    return save(kept, metadata={"datawinnow": json.dumps(about)})


HOSTILE = {
    "truncated": (file(about())[:-3], "truncated or damaged"),
    "empty": (b"", "truncated or damaged"),
    "no safetensors": (b"\x80\x04K\x01.", "truncated or damaged"),
    "something else": (file({"format": 1, "kind": "plan"}), "does not say that it holds who was chosen"),
    "no facts": (file(None), "does not say that it holds who was chosen"),
    "newer": (file(about(format=99)), "newer datawinnow"),
    "another dataset": (file(about(fingerprint="g")), r"of another dataset \(fingerprint g\) than the run \(f\)"),
    "another number": (file(about(n=12)), "is of 12 examples, the run of 11"),
    "first": (file(about(first=-1)), "first epoch is -1"),
    "first is text": (file(about(first="0")), "first epoch is '0'"),
    "no bits": (file(about(), bits=None), r"bits must be uint8 of \(epochs, 2\), got nothing"),
    "narrow bits": (file(about(), bits=np.ones((1, 1), np.uint8)), r"bits must be .* got uint8 of \(1, 1\)"),
    "no epoch": (file(about(), bits=np.ones((0, 2), np.uint8)), r"bits must be .* got uint8 of \(0, 2\)"),
    "float bits": (file(about(), bits=np.ones((1, 2), np.float32)), "bits must be .* got float32"),
    "candidates": (file(about(), candidates=np.ones(3, np.uint8)), r"candidates must be uint8 of \(2,\)"),
    "labels": (file(about(), labels=np.zeros(3, np.int64)), r"labels must be int64 of \(11,\)"),
    "beyond the end": (file(about(), bits=np.array([[128, 1]], np.uint8)), "somebody who could not be chosen"),
    "no candidate": (file(about(), candidates=np.array([1, 0], np.uint8)), "somebody who could not be chosen"),
    "nobody": (file(about(), bits=np.array([[128, 0], [0, 0]], np.uint8)), "trained on nobody"),
}


@pytest.mark.parametrize("which", HOSTILE)
def test_what_is_no_such_file_is_refused(which, tmp_path):
    data, match = HOSTILE[which]
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(RunError, match=match):
        read_chosen(tmp_path / FILE, "f", 11)
    with pytest.raises(RunError, match=match):
        Chosen(tmp_path / FILE, 11, fingerprint="f")(1, torch.tensor([3]))


def test_the_file_that_the_hostile_ones_are_made_of_is_read(tmp_path):
    (tmp_path / FILE).write_bytes(file(about(), labels=np.zeros(11, np.int64)))
    assert isinstance(read_chosen(tmp_path / FILE, "f", 11), ChosenLog)


def test_a_training_keeps_who_its_policy_chose_among_the_selected(tmp_path):
    selected = Selection.of(torch.arange(59, 19, -1), 60)
    policy = dynamic.recorded(dynamic.UCB(0.5, period=1))
    folder = train_run(blobs(), tmp_path / "run", selection=selected, policy=policy, epochs=4, **HOW)
    log = read_chosen(folder.path / FILE, folder.metadata["dataset"]["fingerprint"], 60)
    assert np.flatnonzero(log.candidates).tolist() == list(range(20, 60))
    assert [int(log.row(i).sum()) for i in range(4)] == [40, 20, 20, 20]
    plans = policy.log()
    for epoch in range(4):  # positions among the selected
        ids = selected.index[plans.plan(epoch).index]
        assert np.flatnonzero(log.row(epoch)).tolist() == sorted(ids.tolist())
    assert torch.equal(torch.from_numpy(log.labels), blobs().labels)


def test_it_is_written_before_the_epoch_trains(tmp_path):
    seen = []

    def step(what, done, total):
        seen.append(len(np.frombuffer((tmp_path / "run" / FILE).read_bytes(), np.uint8)) > 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(blobs(), tmp_path / "run", policy=dynamic.RandomPruning(0.5), epochs=2, progress=step, **HOW)
    assert seen == [True]
    train_run(blobs(), tmp_path / "run", epochs=2, **HOW)  # before the first epoch all may change
    assert not (tmp_path / "run" / FILE).exists()


def test_killed_at_any_moment_a_training_by_policy_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    """Every rename and every removal, one after the other, is where the process dies."""
    monkeypatch.setattr("os.fsync", lambda handle: None)

    def run(path):
        train_run(blobs(), path, policy=dynamic.UCB(0.5, period=1), passes=2, **HOW)

    with killed_at(monkeypatch, None) as operations:
        run(tmp_path / "run")
        total = operations()
    expected = contents(tmp_path / "run")
    assert FILE in expected
    (tmp_path / "run").rename(tmp_path / "unbroken")
    for at in range(total):
        path = tmp_path / str(at) / "run"
        with pytest.raises(Killed), killed_at(monkeypatch, at):
            run(path)
        run(path)
        found = contents(path)
        assert sorted(found) == sorted(expected), f"killed at {at}"
        for name, content in expected.items():
            assert found[name] == content, f"{name}, killed at {at}"
