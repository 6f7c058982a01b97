"""Why a policy trained on each example in each epoch, in words: in the history, in its table and on the page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import datawinnow as dw
from datawinnow import api, report
from datawinnow.core.artifacts import read_table, read_tensors, write_tensors
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.reason import Reason
from datawinnow.core.row_checks import in_dataset_order
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import (
    FILE_NAME,
    HISTORY_KIND,
    SelectionHistory,
    pack_reasons,
    unpack_reasons,
)
from datawinnow.data.source_positions import source_rows
from datawinnow.dynamic import Replay, recorded
from datawinnow.runs.selection_history import NOTES_FILE

from .conftest import FAST, make_blobs

CODES = np.array(list(Reason), dtype=np.int8)


def plan(kept, dropped, n=5):
    """A plan of the ids of ``kept`` (reason -> ids); ``dropped`` is the reason of the rest."""
    codes = torch.full((n,), int(dropped), dtype=torch.int8)
    for reason, ids in kept.items():
        codes[ids] = int(reason)
    index = torch.cat([torch.tensor(ids) for ids in kept.values()])
    return Selection(index, torch.ones(len(index)), codes)


@pytest.fixture
def history():
    return SelectionHistory.of(
        [
            plan({Reason.RANKED: [0, 1], Reason.DRAWN: [2]}, Reason.NOT_DRAWN),
            plan({Reason.RANKED: [0], Reason.DRAWN: [1]}, Reason.BELOW_CUT),
            plan({Reason.RANKED: [0]}, Reason.BELOW_CUT),
        ],
        5,
    )


@pytest.mark.parametrize("n", [1, 2, 11, 22])
def test_every_reason_survives_packing(n):
    codes = np.resize(CODES, n)
    assert pack_reasons(codes).shape == (-(-n // 2),)
    assert unpack_reasons(pack_reasons(codes), n).tolist() == codes.tolist()


def test_notes_say_how_often_and_why(history):
    assert history.notes() == [
        "trained on in 3 of 3 epochs (3 ranked inside the budget)",
        "trained on in 2 of 3 epochs (1 ranked inside the budget, 1 drawn), left out in 1 (1 ranked past the budget)",
        "trained on in 1 of 3 epochs (1 drawn), left out in 2 (2 ranked past the budget)",
        "left out in 3 of 3 epochs (2 ranked past the budget, 1 not drawn)",
        "left out in 3 of 3 epochs (2 ranked past the budget, 1 not drawn)",
    ]
    losses = replace(history, losses=np.array([0.5, 4.0, np.nan, 1.0, 2.0], np.float32)).notes()
    assert [note.split("; ")[1] for note in losses] == [
        "loss 0.5, above that of 0% of them",
        "loss 4, above that of 75% of them",
        "its loss was not seen",
        "loss 1, above that of 25% of them",
        "loss 2, above that of 50% of them",
    ]
    candidates = np.array([True, True, True, True, False])
    assert replace(history, candidates=candidates).notes()[4] == "not among the examples that the policy chose from"
    assert replace(history, reasons=None).notes()[3] == "left out in 3 of 3 epochs (3 ranked past the budget)"


def test_reasons_go_through_files_cuts_and_selections(history, tmp_path):
    history.save(tmp_path / "plan.safetensors")
    read = SelectionHistory.load(tmp_path / "plan.safetensors")
    assert read.notes() == history.notes()
    assert read.reason(0).tolist() == [1, 1, 2, 11, 11]
    # a budget ends the second epoch after one example
    cut = history.truncated(4)
    assert cut.reason(1).tolist() == [1, 10, 10, 10, 10]
    selection = plan({Reason.COVERS: [8, 6, 4, 2, 0]}, Reason.DUPLICATE, n=9)
    mapped = history.mapped_through(selection, 9)
    assert mapped.reason(0).tolist() == [11, 13, 11, 13, 2, 13, 1, 13, 1]
    assert mapped.notes()[1] == "left out in 3 of 3 epochs (3 near-duplicate of a kept example)"
    planned = Replay(history).plan(1, {"n": 5}, lambda *_: None)[0]
    assert planned.reason.tolist() == history.reason(1).tolist()
    one = replace(history, reasons=None)
    assert Replay(one).plan(1, {"n": 5}, lambda *_: None)[0].reason.tolist() == [0, 0, 10, 10, 10]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda reasons: reasons[:2], r"reasons must be uint8 of shape \(3, 3\)"),
        (lambda reasons: reasons.astype(np.int16), "reasons must be uint8"),
        (lambda reasons: reasons | 0xF0, "is no reason"),
        (lambda reasons: np.stack([pack_reasons(np.full(5, int(Reason.SUSPECT)))] * 3), "drop an example"),
    ],
)
def test_reasons_that_do_not_fit_are_refused(history, tmp_path, change, match):
    with pytest.raises(ArgumentError, match=match):
        replace(history, reasons=change(history.reasons))
    file = tmp_path / "plan.safetensors"
    history.save(file)
    tensors, metadata = read_tensors(file, kind=HISTORY_KIND)
    wrong = torch.from_numpy(np.ascontiguousarray(change(history.reasons)))
    write_tensors(file, {**tensors, "reasons": wrong}, metadata, kind=HISTORY_KIND)
    with pytest.raises(RunError, match=r"plan\.safetensors is damaged"):
        SelectionHistory.load(file)


POLICIES = ["ucb", "epsilon_greedy", "info_batch", "loss_power", "order_dp", "seta", "random_pruning", "rs2"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_training_says_why_of_every_example(tmp_path, policy):
    load = dw.LoadOptions(limit=60)
    keep = {} if policy in ("info_batch", "seta") else {"keep": 0.5}
    options = {"policy": policy, "model": "mlp", "recipe": FAST, "epochs": 4, "load": load, **keep}
    run = api.train("digits", run=tmp_path / "run", record_plan=tmp_path / "plan.safetensors", **options).run
    history = SelectionHistory.load(run.path / FILE_NAME)
    plans = SelectionHistory.load(tmp_path / "plan.safetensors")
    for epoch in range(4):
        assert history.reason(epoch).tolist() == plans.reason(epoch).tolist()
        assert ((history.reason(epoch) < 10) == history.mask(epoch)).all()
    file = run.path / NOTES_FILE
    table, metadata = read_table(file, "train")
    assert metadata["fingerprint"] == run.dataset.fingerprint
    train, _ = dw.load("digits", limit=60)
    assert table.column("row").to_pylist() == source_rows(train).tolist()
    assert table.column("epochs").to_pylist() == sum(history.mask(i).astype(int) for i in range(4)).tolist()
    notes = table.column("note").to_pylist()
    assert notes == history.notes()
    assert all(" epochs (" in note for note in notes)
    if policy in ("ucb", "info_batch", "loss_power", "order_dp", "seta"):
        assert all("loss" in note for note in notes)
        assert len(set(notes)) > 20
    # sorted rows say the same, others are refused
    pq.write_table(table.take(list(range(59, -1, -1))), tmp_path / "sorted.parquet")
    assert (
        in_dataset_order(pq.read_table(tmp_path / "sorted.parquet"), file, 60, "").column("note").to_pylist() == notes
    )
    changed = table.set_column(4, "note", table.column("id"))
    with pytest.raises(RunError, match="do not say what was written"):
        in_dataset_order(changed, file, 60, "")
    html = report.write(run.path).read_text()
    assert "share of all choices" in html
    assert any(sentence in html for sentence in ("kept: ranked inside the budget", "kept: drawn"))


def test_among_the_selected_only(tmp_path):
    data = make_blobs()
    selection = Selection.of(torch.arange(1, 60, 2), 60)
    run = api.train(data, select=selection, policy="ucb", keep=0.5, run=tmp_path / "run", epochs=3, recipe=FAST).run
    history = SelectionHistory.load(run.path / FILE_NAME)
    notes = history.notes()
    assert set(notes[::2]) == {"not among the examples that the policy chose from"}
    assert all("loss" in note and "epochs (" in note for note in notes[1::2])
    assert np.isnan(history.losses[::2]).all()


def test_watching_changes_neither_plans_nor_the_name(tmp_path):
    data = make_blobs()
    policy = dw.dynamic.UCB(keep=0.5)
    watched = api.train(data, policy=policy, run=tmp_path / "run", epochs=3, recipe=FAST).run
    assert watched.metadata["options"]["train"]["policy"] == dw.dynamic.sampler.resume.policy_repr(policy)
    assert "plan" not in vars(policy)


def test_a_recorded_policy_keeps_the_reasons():
    policy = recorded(dw.dynamic.RandomPruning(keep=0.5))
    for epoch in range(2):
        policy.plan(epoch, {"n": 4}, lambda *path: dw.core.rng.stream(0, *path))
    assert sorted(policy.history().reason(1).tolist()) == [2, 2, 11, 11]
