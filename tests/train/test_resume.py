"""Stopped and gone on, a training run ends in the same bytes; a checkpoint of another run is refused by name."""

import errno
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from datawinnow.core.errors import RunError, TrainingError
from datawinnow.core.selection import Selection
from datawinnow.data.examples import Augment
from datawinnow.data.kept import Kept
from datawinnow.record import Recorder
from datawinnow.train import fit
from datawinnow.train.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from tests.train.helpers import PLAIN, blobs, image_net, images, vector_net, weights


def stopping_after(steps):
    def progress(stage, done, total):
        if done == steps:
            raise KeyboardInterrupt

    return progress


def loader_of(data):
    return [(x, int(y)) for x, y in data]


CASES = {
    "sgd, batch norm, dropout": ({}, lambda: vector_net(dropout=0.4, norm=True), blobs),
    "adamw, batch norm, dropout": ({"optimizer": "adamw"}, lambda: vector_net(dropout=0.4, norm=True), blobs),
    "no momentum": ({"momentum": 0.0}, vector_net, blobs),
    "bf16, channels-last, augmented": (
        {"precision": "bf16", "channels_last": True},
        image_net,
        lambda: images(60, augment=Augment(crop=2)),
    ),
    "through a DataLoader": ({"workers": 2}, vector_net, lambda: loader_of(blobs())),
    "weighted selection": ({}, vector_net, lambda: Kept(blobs(), Selection(torch.arange(50), torch.rand(50) * 0 + 2))),
}


STOPS = {"in the first epoch": 1, "in the second": 6, "in the third": 10}
QUICK = {"sgd, batch norm, dropout"}
"""Stopped at each place by default; the other cases in the second epoch only."""


@pytest.mark.parametrize(
    ("case", "stop"),
    [
        pytest.param(
            case,
            stop,
            id=f"{case}-{name}",
            marks=[] if case in QUICK or name == "in the second" else [pytest.mark.slow],
        )
        for case in CASES
        for name, stop in STOPS.items()
    ],
)
def test_interrupted_and_gone_on_ends_in_the_same_bytes(tmp_path, case, stop):
    options, net, make = CASES[case]
    data = make()
    n = len(data.dataset) if isinstance(data, Kept) else len(data)
    kwargs = {"epochs": 3, "seed": 2, **PLAIN, **options}
    unbroken = Recorder(n, 3, path=tmp_path / "whole")
    expected, history_before = fit(net(), data, recorder=unbroken, checkpoint=tmp_path / "whole.safetensors", **kwargs)
    checkpoint = tmp_path / "broken.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(
            net(),
            data,
            recorder=Recorder(n, 3, path=tmp_path / "broken"),
            checkpoint=checkpoint,
            progress=stopping_after(stop),
            **kwargs,
        )
    recorder = Recorder(n, 3, path=tmp_path / "broken")
    calls = []
    result, history = fit(
        net(), data, recorder=recorder, checkpoint=checkpoint, progress=lambda *c: calls.append(c), **kwargs
    )
    assert torch.equal(weights(result), weights(expected))
    assert [row["loss"] for row in history.rows] == [row["loss"] for row in history_before.rows]
    assert history.cost.backward == history_before.cost.backward
    steps = history_before.rows and calls[-1][2] // 3
    assert len(calls) == 3 * steps - (stop - 1) // steps * steps
    for name in recorder.columns:
        assert torch.equal(recorder[name].nan_to_num(-9), unbroken[name].nan_to_num(-9)), name
    left, right = (safetensors.torch.load_file(tmp_path / f"{k}.safetensors") for k in ("whole", "broken"))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[k], right[k]) for k in left)  # the optimiser's state too


def test_a_finished_checkpoint_trains_no_more_and_more_epochs_go_on(tmp_path):
    checkpoint = tmp_path / "c.safetensors"
    done, history_before = fit(
        vector_net(), blobs(), epochs=2, schedule_epochs=4, test=blobs(), checkpoint=checkpoint, **PLAIN
    )
    calls = []
    again, history = fit(
        vector_net(),
        blobs(),
        epochs=2,
        schedule_epochs=4,
        checkpoint=checkpoint,
        progress=lambda *c: calls.append(c),
        **PLAIN,
    )
    assert calls == []
    assert torch.equal(weights(again), weights(done))
    assert history.rows == history_before.rows or history.test_accuracy == history_before.test_accuracy
    assert not again.training
    longer, _ = fit(vector_net(), blobs(), epochs=4, checkpoint=checkpoint, **PLAIN)
    expected, _ = fit(vector_net(), blobs(), epochs=4, **PLAIN)
    assert torch.equal(weights(longer), weights(expected))


def test_precision_is_as_begun_and_not_measured_again(tmp_path, monkeypatch):
    from datawinnow.train import network

    checkpoint = tmp_path / "c.safetensors"
    monkeypatch.setattr(network, "fastest_precision", lambda *a: ("bf16", True, "first"))
    auto = {**PLAIN, "precision": "auto", "batch": 24}
    fit(image_net(width=16), images(), epochs=1, schedule_epochs=2, checkpoint=checkpoint, **auto)
    monkeypatch.setattr(network, "fastest_precision", lambda *a: pytest.fail("measured again"))
    result, history = fit(image_net(width=16), images(), epochs=2, checkpoint=checkpoint, **auto)
    assert (history.precision, history.channels_last) == ("bf16", True)
    forced = {**auto, "precision": "bf16", "channels_last": True}
    expected, _ = fit(image_net(width=16), images(), epochs=2, **forced)
    assert torch.equal(weights(result), weights(expected))


SOME = Selection.of(torch.arange(30), 60)


@pytest.mark.parametrize(
    ("other", "match"),
    [
        (
            {"data": blobs(seed=1)},
            r"c.safetensors belongs to a different dataset \(fingerprint [0-9a-f]{16}, this one "
            "has",
        ),
        ({"model": torch.nn.Linear(5, 3)}, r"c.safetensors holds another network than this one"),
        ({"seed": 1}, r"c.safetensors was started with seed=0, now it is 1"),
        ({"data": Kept(blobs(), SOME)}, r"started with selection='all examples', now it is '[0-9a-f]{16}"),
        ({"epochs": 1}, r"has 2 finished epochs, more than `epochs=1`"),
    ],
    ids=["dataset", "network", "seed", "selection", "longer"],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, other, match):
    checkpoint = tmp_path / "c.safetensors"
    fit(vector_net(), blobs(), epochs=2, schedule_epochs=3, checkpoint=checkpoint, **PLAIN)
    before = checkpoint.read_bytes()
    arguments = {"model": vector_net(), "data": blobs(), "epochs": 3, **PLAIN, **other}
    with pytest.raises(RunError, match=match):
        fit(arguments.pop("model"), arguments.pop("data"), checkpoint=checkpoint, **arguments)
    assert checkpoint.read_bytes() == before


def test_a_damaged_checkpoint_or_none_at_all_is_told(tmp_path):
    checkpoint = tmp_path / "c.safetensors"
    fit(vector_net(), blobs(), epochs=1, checkpoint=checkpoint, **PLAIN)
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    with pytest.raises(
        RunError, match=r"c.safetensors is truncated or damaged .*remove it and run the command that writes it again"
    ):
        fit(vector_net(), blobs(), epochs=2, checkpoint=checkpoint, **PLAIN)
    save_checkpoint(checkpoint, vector_net(), None, {"model": "mine"})
    with pytest.raises(RunError, match="holds a network but is not a checkpoint of a training run"):
        fit(vector_net(), blobs(), epochs=2, checkpoint=checkpoint, **PLAIN)
    safetensors.torch.save_file({"a": torch.zeros(1)}, checkpoint, metadata={"datawinnow": '{"format": 99}'})
    with pytest.raises(RunError, match="was written by a newer datawinnow"):
        fit(vector_net(), blobs(), epochs=2, checkpoint=checkpoint, **PLAIN)
    safetensors.torch.save_file({"a": torch.zeros(1)}, checkpoint)
    with pytest.raises(RunError, match="does not hold a checkpoint: it was not written by datawinnow"):
        load_checkpoint(checkpoint, vector_net(), None)


def test_recorded_epochs_that_are_missing_are_told(tmp_path):
    checkpoint = tmp_path / "c.safetensors"
    fit(vector_net(), blobs(), epochs=2, schedule_epochs=3, checkpoint=checkpoint, **PLAIN)
    with pytest.raises(RunError, match=r"cannot resume at epoch 2: only 0 epochs are recorded in memory"):
        fit(vector_net(), blobs(), epochs=3, checkpoint=checkpoint, recorder=Recorder(60, 3), **PLAIN)


def test_a_nan_loss_keeps_the_epochs_before_and_a_lower_lr_goes_on(tmp_path):
    checkpoint, path = tmp_path / "c.safetensors", tmp_path / "signals"

    def explode(progress):
        return 0.1 if progress < 0.5 else 1e30

    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch 2.*The 2 epochs before it are kept"):
        fit(
            vector_net(),
            blobs(),
            epochs=4,
            checkpoint=checkpoint,
            recorder=Recorder(60, 4, path=path),
            schedule=explode,
            **PLAIN,
        )
    recorder = Recorder(60, 4, path=path)
    assert recorder.finished == 2
    assert recorder["loss"][:2].isfinite().all()
    assert read_metadata(checkpoint)["epoch"] == 2
    _, history = fit(vector_net(), blobs(), epochs=4, checkpoint=checkpoint, recorder=recorder, **PLAIN)
    recorder.consolidate()
    assert len(history.rows) == 4
    assert recorder["loss"].isfinite().all()


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["epoch", "checkpoint"])
def test_a_full_disk_keeps_what_was_there_and_goes_on(tmp_path, monkeypatch, where):
    import numpy as np

    kwargs = {"epochs": 3, "seed": 1, **PLAIN}
    expected = weights(fit(vector_net(), blobs(), **kwargs)[0])
    checkpoint, path = tmp_path / "c.safetensors", tmp_path / "signals"

    def fill(epoch, history):
        if epoch == 0:
            monkeypatch.setattr(*((np, "savez", full) if where == "epoch" else (Path, "write_bytes", full)))

    with pytest.raises(RunError, match=r"the disk is full: could not write .*(epoch-0001.npz|c.safetensors)"):
        fit(vector_net(), blobs(), checkpoint=checkpoint, recorder=Recorder(60, 3, path=path), on_epoch=fill, **kwargs)
    monkeypatch.undo()
    assert read_metadata(checkpoint)["epoch"] == 1
    recorder = Recorder(60, 3, path=path)
    assert recorder.finished == (1 if where == "epoch" else 2)
    result, _ = fit(vector_net(), blobs(), checkpoint=checkpoint, recorder=recorder, **kwargs)
    assert torch.equal(weights(result), expected)
    assert not list(tmp_path.rglob("*.part"))


def test_leftovers_of_a_kill_beside_the_checkpoint_are_removed(tmp_path):
    (tmp_path / ".c.safetensors.x1.part").write_bytes(b"half")
    (tmp_path / ".d.safetensors.x1.part").write_bytes(b"somebody else's")
    fit(vector_net(), blobs(), epochs=1, checkpoint=tmp_path / "c.safetensors", **PLAIN)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".d.safetensors.x1.part", "c.safetensors"]


def test_a_finished_recording_is_not_recorded_over(tmp_path):
    recorder = Recorder(60, 1, path=tmp_path)
    fit(vector_net(), blobs(), epochs=1, recorder=recorder, **PLAIN)
    recorder.consolidate()
    before = (tmp_path / "loss.npy").read_bytes()
    with pytest.raises(RunError, match="is finished: give another path"):
        fit(vector_net(), blobs(), epochs=1, seed=1, recorder=Recorder(60, 1, path=tmp_path), **PLAIN)
    assert (tmp_path / "loss.npy").read_bytes() == before


def test_epochs_of_a_run_without_a_checkpoint_are_recorded_anew(tmp_path):
    fit(vector_net(), blobs(), epochs=3, recorder=Recorder(60, 3, path=tmp_path), **PLAIN)
    recorder = Recorder(60, 3, path=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(vector_net(), blobs(), epochs=3, seed=1, recorder=recorder, progress=stopping_after(5), **PLAIN)
    assert Recorder(60, 3, path=tmp_path).finished == 1  # epochs of another seed are gone


def test_a_checkpoint_gives_back_network_and_optimiser_to_the_bit(tmp_path):
    model = vector_net(norm=True)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(8, 5)).sum().backward()
    optimizer.step()
    optimizer.state[next(model.parameters())]["count"] = 7  # other optimisers keep plain numbers
    save_checkpoint(tmp_path / "c.safetensors", model, optimizer, {"epoch": 3})
    other = vector_net(seed=1, norm=True)
    restored = torch.optim.AdamW(other.parameters())
    assert load_checkpoint(tmp_path / "c.safetensors", other, restored)[0]["epoch"] == 3
    assert torch.equal(weights(other), weights(model))
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert optimizer.state[p].keys() == restored.state[q].keys()
        for key, value in optimizer.state[p].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(restored.state[q][key])), key


def test_a_run_that_ended_in_a_part_of_an_epoch_is_not_gone_on_with(tmp_path):
    at = tmp_path / "c.safetensors"
    fit(vector_net(), blobs(), epochs=1.5, checkpoint=at, **PLAIN)
    with pytest.raises(RunError, match=r"finished epochs of \[60, 30\] examples, where this run has \[60, 60\]"):
        fit(vector_net(), blobs(), epochs=3, checkpoint=at, **PLAIN)
