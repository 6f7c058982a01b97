"""Recording: what it costs, that it goes on after a kill at any moment, and what it refuses to go on with."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow import api
from datawinnow.api import prune
from datawinnow.core.errors import RunError, TrainingError
from datawinnow.record import Recorder
from datawinnow.record.files import IDENTITY_KEY
from datawinnow.runs import record as recording_module
from datawinnow.runs.folder import RunFolder
from datawinnow.train import fit

from .conftest import FAST, make_blobs, make_images
from .killing import Killed, contents, every_moment, killed_at


def test_what_it_costs_and_leaves(blobs, tmp_path):
    test = make_blobs(30, seed=1)
    messages: list[str] = []
    folder = api.record(blobs, run=tmp_path / "run", test=test, epochs=3, recipe=FAST, log=messages.append)
    metadata = RunFolder.open(tmp_path / "run").metadata
    cost = metadata["cost"]["record"]
    assert (cost["backward"], cost["forward"]) == (3 * 60, 0)
    # an MLP 4-128-128-3: forward 2 per multiply-add, and backward twice that but for the first layer's input
    forward = 2 * (4 * 128 + 128 * 128 + 128 * 3)
    assert cost["flops"] == (3 * forward - 2 * 4 * 128) * 3 * 60
    assert metadata["status"] == {"record": "done"}
    assert metadata["dataset"]["fingerprint"] == blobs.fingerprint
    assert metadata["model"] == {"name": "mlp", "parameters": 4 * 128 + 128 + 128 * 128 + 128 + 387, "options": {}}
    assert metadata["device"] == "cpu"
    assert "network: an MLP, since the examples are vectors" in messages
    history = pq.read_table(folder.path / "history.parquet").to_pylist()
    assert [row["epoch"] for row in history] == [0, 1, 2]
    assert [math.isnan(row["test_accuracy"]) for row in history] == [True, True, False]
    assert [row["examples"] for row in history] == [60, 60, 60]
    assert sorted(p.name for p in folder.path.iterdir()) == [
        "history.parquet",
        "model.safetensors",
        "run.json",
        "signals",
    ]


def test_the_columns_are_those_of_fit_with_a_recorder(blobs, tmp_path):
    folder = api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST, seed=5)
    model, _, _ = recording_module.build_network("mlp", folder.dataset, 5)
    recorder = Recorder(60, 2)
    fit(model, blobs, epochs=2, seed=5, recipe=FAST, recorder=recorder)
    arrays = folder.arrays()
    assert set(arrays) == set(recorder.columns)
    for name in arrays:
        assert torch.equal(arrays[name], recorder[name]), name


def test_a_finished_recording_is_taken_as_it_is(blobs, tmp_path, monkeypatch):
    api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST)
    before = contents(tmp_path / "run")
    monkeypatch.setattr(recording_module, "fit", lambda *a, **k: pytest.fail("trained again"))
    messages: list[str] = []
    api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST, log=messages.append)
    assert contents(tmp_path / "run") == before
    assert any("is recorded already; using it" in line for line in messages)


def test_columns_without_their_checkpoint_are_kept_and_the_network_is_trained_again(blobs, tmp_path):
    folder = api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST)
    before = contents(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    folder.update(status={"record": "begun"})
    api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST)
    assert contents(tmp_path / "run") == before


def small(*, classes, features):
    return torch.nn.Linear(features, classes)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": 1}, "`epochs=2`, now it is `epochs=1`"),
        ({"schedule_epochs": 9}, "`schedule_epochs=2`, now it is `schedule_epochs=9`"),
        ({"seed": 1}, "`seed=0`, now it is `seed=1`"),
        ({"model": small}, "`model='mlp'`, now it is `model='small'`"),
        ({"model": "mlp", "model_options": {"width": 8}}, "no model_options.width, now it is model_options.width=8"),
        ({"recipe": replace(FAST, lr=0.5)}, "`lr=0.05`, now it is `lr=0.5`"),
        ({"recipe": replace(FAST, batch=16)}, "`batch=32`, now it is `batch=16`"),
        ({"signals": ("kl_step",)}, r"`signals=.*now it is `signals=\['loss', .*'kl_step'\]`"),
    ],
    ids=["epochs", "schedule_epochs", "seed", "model", "model options", "lr", "batch", "signals"],
)
@pytest.mark.parametrize("stage", ["done", "unfinished"])
def test_options_changed_since_are_refused_by_name(blobs, tmp_path, options, named, stage):
    def stop(_: str, done: int, total: int) -> None:
        if stage == "unfinished" and done > total / 2:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST, progress=stop)
    assert RunFolder.open(tmp_path / "run").metadata["status"]["record"] in ("done", "epoch 1 of 2")
    with pytest.raises(RunError, match=f"was started with {named}: use another `run=` folder, or the same options"):
        api.record(blobs, run=tmp_path / "run", **{"epochs": 2, "recipe": FAST, **options})


@pytest.mark.parametrize(
    "options",
    [{"recipe": replace(FAST, workers=4)}, {"signals": ("p_label", "correct")}],
    ids=["workers", "fewer signals of a finished recording"],
)
def test_options_that_change_no_number_may_change(blobs, tmp_path, options):
    first = api.record(blobs, run=tmp_path / "run", epochs=2, recipe=FAST)
    again = api.record(blobs, run=tmp_path / "run", **{"epochs": 2, "recipe": FAST, **options})
    assert again.metadata == first.metadata


def test_a_loss_that_is_no_number_stops_and_keeps_the_epochs_before(tmp_path):
    data = make_blobs()

    def spoil(stage, done, total):
        if done == 4:  # 2 steps an epoch: the last of the second
            data.x[:] = float("nan")

    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 2: .*The 2 epochs before it are kept"):
        api.record(data, run=tmp_path / "run", epochs=4, recipe=FAST, progress=spoil)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.metadata["status"]["record"] == "epoch 2 of 4"
    assert pq.read_table(tmp_path / "run" / "history.parquet").num_rows == 2
    recorder = Recorder(60, 4, path=folder.signals)
    assert recorder.finished == 2
    assert bool(recorder["loss"][:2].isfinite().all())


@every_moment
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path, monkeypatch, stride):
    """The renames and removals of a `prune`, one after the other, are where the process dies."""
    data, test = make_images(24), make_images(8, seed=1)
    monkeypatch.setattr("os.fsync", lambda handle: None)

    def run(path):
        prune(
            data,
            keep=0.5,
            epochs=2,
            recipe=FAST,
            model="mlp",
            test=test,
            run=path,
            method="dual_beta",
            score_options={"window": 2},
        )

    with killed_at(monkeypatch, None) as operations:
        run(tmp_path / "run")
        total = operations()
    expected = contents(tmp_path / "run")
    assert total > 30
    assert "gallery.parquet" in expected
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


def test_it_goes_on_where_it_was_and_not_from_the_start(blobs, tmp_path, monkeypatch):
    steps: list[int] = []

    def stop(stage, done, total):
        if done == 5:  # in the third epoch of two steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.record(blobs, run=tmp_path / "run", epochs=4, recipe=FAST, progress=stop)
    assert RunFolder.open(tmp_path / "run").metadata["status"]["record"] == "epoch 2 of 4"
    api.record(
        blobs, run=tmp_path / "run", epochs=4, recipe=FAST, progress=lambda stage, done, total: steps.append(done)
    )
    assert steps == [5, 6, 7, 8]
    api.record(blobs, run=tmp_path / "other", epochs=4, recipe=FAST)
    left, right = RunFolder.open(tmp_path / "run").arrays(), RunFolder.open(tmp_path / "other").arrays()
    for name in right:
        assert np.array_equal(left[name].numpy(), right[name].numpy()), name
    assert RunFolder.open(tmp_path / "run").metadata["cost"]["record"]["backward"] == 240


@pytest.mark.parametrize(("batch", "is_said"), [(61, True), (60, False)])
def test_a_batch_of_more_than_all_examples_is_noted(blobs, tmp_path, batch, is_said):
    messages: list[str] = []
    api.record(blobs, run=tmp_path / "run", epochs=1, recipe=replace(FAST, batch=batch), log=messages.append)
    assert any("61 is more than the 60 examples" in line for line in messages) is is_said


@pytest.mark.parametrize("other", [{"seed": 1}, {"recipe": replace(FAST, lr=0.011)}, {"model_options": {"width": 64}}])
def test_an_epoch_of_another_training_is_refused(blobs, tmp_path, other):
    """The same data, names, shapes and number: only what the file says of itself tells them apart."""

    def stop(_stage, done, _total):
        if done == 5:
            raise KeyboardInterrupt

    options = {"epochs": 4, "recipe": FAST, "model": "mlp"}
    for name, changes in (("run", {}), ("other", other)):
        with suppress(KeyboardInterrupt):
            api.record(blobs, run=tmp_path / name, progress=stop, **{**options, **changes})
    file = tmp_path / "run" / "signals" / "epoch-0001.npz"
    original = file.read_bytes()
    file.write_bytes((tmp_path / "other" / "signals" / "epoch-0001.npz").read_bytes())
    with pytest.raises(RunError, match=r"epoch-0001.npz is of another training than this one"):
        api.record(blobs, run=tmp_path / "run", **options)
    file.write_bytes((tmp_path / "run" / "signals" / "epoch-0000.npz").read_bytes())
    with pytest.raises(RunError, match=r"epoch-0001.npz is of .* another epoch"):
        api.record(blobs, run=tmp_path / "run", **options)
    file.write_bytes(original)
    again = api.record(blobs, run=tmp_path / "run", **options)
    unbroken = api.record(blobs, run=tmp_path / "whole", **options)
    assert contents(again.signals) == contents(unbroken.signals)


def test_epochs_that_say_nothing_of_their_training_still_go_on(blobs, tmp_path):
    """An earlier version wrote none."""
    recorder = Recorder(3, 2, path=tmp_path)
    recorder.write(0, torch.arange(3), torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))
    recorder.flush()
    file = tmp_path / "epoch-0000.npz"
    arrays = dict(np.load(file))
    np.savez(file, **{name: array for name, array in arrays.items() if name != IDENTITY_KEY})
    assert Recorder(3, 2, path=tmp_path, training="new").finished == 1
    np.savez(file, **arrays)
    with pytest.raises(RunError, match="another training"):
        Recorder(3, 2, path=tmp_path, training="new")
