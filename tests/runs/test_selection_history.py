"""Who each epoch trained on: kept bit by bit, written before the epoch, the same bytes after a kill."""

import numpy as np
import pytest
import torch

from datawinnow import api, dynamic
from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import FILE_NAME, SelectionHistory
from datawinnow.runs.selection_history import SelectionHistoryWriter
from datawinnow.train import Recipe
from tests.runs.killing import Killed, contents, every_moment, killed_at
from tests.train.helpers import blobs

RECIPE = Recipe(precision="fp32", batch=16)
TRAIN_KWARGS = {"recipe": RECIPE, "model": "mlp"}
PLANS = [[0, 1, 2, 8], [10, 3], [8], [5, 0]]


def written(path, plans=PLANS, first=0, **kwargs):
    chosen = SelectionHistoryWriter(path, 11, fingerprint="f", **kwargs)
    for epoch, ids in enumerate(plans, first):
        chosen(epoch, torch.tensor(ids))
    return chosen


def test_what_is_kept_is_what_was_told(tmp_path):
    written(tmp_path / FILE_NAME, candidates=torch.tensor([10, 8, 5, 3, 2, 1, 0]), labels=torch.arange(11) % 3)
    log = SelectionHistory.load(tmp_path / FILE_NAME, fingerprint="f", n=11)
    assert [np.flatnonzero(log.mask(i)).tolist() for i in range(len(log))] == [sorted(ids) for ids in PLANS]
    assert log.candidate_ids.tolist() == [0, 1, 2, 3, 5, 8, 10]
    assert log.labels.tolist() == [i % 3 for i in range(11)]
    assert log.first_epoch == 0
    assert log.masks.shape == (4, 2)  # one bit an example and epoch


def test_who_goes_on_leaves_the_bytes_of_who_was_never_stopped(tmp_path):
    written(tmp_path / "whole")
    written(tmp_path / FILE_NAME, [*PLANS[:3], [9]])  # killed in the fourth epoch, planned otherwise next
    again = SelectionHistoryWriter(tmp_path / FILE_NAME, 11, fingerprint="f")
    for epoch in (2, 3):
        again(epoch, torch.tensor(PLANS[epoch]))
    assert (tmp_path / FILE_NAME).read_bytes() == (tmp_path / "whole").read_bytes()
    written(tmp_path / FILE_NAME)  # from the start, over what is there
    assert (tmp_path / FILE_NAME).read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("plans_before", [None, PLANS[:1]], ids=["lost", "a gap"])
def test_epochs_that_nobody_kept_are_told_and_not_made_up(plans_before, tmp_path):
    if plans_before:
        written(tmp_path / FILE_NAME, plans_before)
    written(tmp_path / FILE_NAME, PLANS[2:], first=2)
    log = SelectionHistory.load(tmp_path / FILE_NAME, fingerprint="f", n=11)
    assert (log.first_epoch, len(log)) == (2, 2)
    assert np.flatnonzero(log.mask(1)).tolist() == [0, 5]
    written(tmp_path / FILE_NAME, [[7]], first=4)
    log = SelectionHistory.load(tmp_path / FILE_NAME, fingerprint="f", n=11)
    assert (log.first_epoch, len(log)) == (2, 3)


def test_a_run_from_the_start_does_not_mind_what_is_there(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b"of another time")
    written(tmp_path / FILE_NAME)
    assert len(SelectionHistory.load(tmp_path / FILE_NAME, fingerprint="f", n=11)) == 4


def test_a_damaged_or_foreign_file_is_refused_on_a_resume(tmp_path):
    written(tmp_path / FILE_NAME)
    with pytest.raises(RunError, match=r"a different dataset \(fingerprint f\) than the run \(g\)"):
        SelectionHistoryWriter(tmp_path / FILE_NAME, 11, fingerprint="g")(1, torch.tensor([3]))
    (tmp_path / FILE_NAME).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(RunError, match="truncated or damaged"):
        SelectionHistoryWriter(tmp_path / FILE_NAME, 11, fingerprint="f")(1, torch.tensor([3]))


def test_a_training_keeps_who_its_policy_chose_among_the_selected(tmp_path):
    selected = Selection.of(torch.arange(59, 19, -1), 60)
    policy = dynamic.recorded(dynamic.UCB(0.5, period=1))
    folder = api.train(blobs(), run=tmp_path / "run", select=selected, policy=policy, epochs=4, **TRAIN_KWARGS).run
    log = SelectionHistory.load(folder.path / FILE_NAME, fingerprint=folder.metadata["dataset"]["fingerprint"], n=60)
    assert log.candidate_ids.tolist() == list(range(20, 60))
    assert [int(log.mask(i).sum()) for i in range(4)] == [40, 20, 20, 20]
    plans = policy.history()
    for epoch in range(4):  # positions among the selected
        ids = selected.index[torch.from_numpy(plans.ids(epoch))]
        assert np.flatnonzero(log.mask(epoch)).tolist() == sorted(ids.tolist())
    assert torch.equal(torch.from_numpy(log.labels), blobs().labels)


def test_it_is_written_before_the_epoch_trains(tmp_path):
    seen = []

    def step(stage, done, total):
        seen.append(len(np.frombuffer((tmp_path / "run" / FILE_NAME).read_bytes(), np.uint8)) > 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.train(
            blobs(), run=tmp_path / "run", policy=dynamic.RandomPruning(0.5), epochs=2, progress=step, **TRAIN_KWARGS
        )
    assert seen == [True]
    api.train(blobs(), run=tmp_path / "run", epochs=2, **TRAIN_KWARGS)  # before the first epoch all may change
    assert not (tmp_path / "run" / FILE_NAME).exists()


@every_moment
def test_killed_at_any_moment_a_training_by_policy_goes_on_to_the_same_bytes(tmp_path, monkeypatch, stride):
    """The renames and removals, one after the other, are where the process dies."""
    monkeypatch.setattr("os.fsync", lambda handle: None)

    def run(path):
        api.train(blobs(), run=path, policy=dynamic.UCB(0.5, period=1), passes=2, **TRAIN_KWARGS)

    with killed_at(monkeypatch, None) as operations:
        run(tmp_path / "run")
        total = operations()
    expected = contents(tmp_path / "run")
    assert FILE_NAME in expected
    (tmp_path / "run").rename(tmp_path / "unbroken")
    for at in range(stride // 2, total, stride):
        path = tmp_path / str(at) / "run"
        with pytest.raises(Killed), killed_at(monkeypatch, at):
            run(path)
        run(path)
        resumed = contents(path)
        assert sorted(resumed) == sorted(expected), f"killed at {at}"
        for name, content in expected.items():
            assert resumed[name] == content, f"{name}, killed at {at}"
