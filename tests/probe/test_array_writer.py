"""Arrays in files: the same numbers, whole or not at all, and never those of another dataset or model."""

import errno
import json

import numpy as np
import pytest
import torch

from datawinnow.core.errors import RunError
from datawinnow.probe import ARRAYS, held_out, probe, read_probed
from datawinnow.probe.array_writer import ArrayWriter
from tests.probe.helpers import Backwards, build_network, mlp, vectors

BOTH = ("features", "probs", "labels")


def listed(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("batch", [4, 500], ids=["many batches", "one batch"])
def test_files_hold_what_memory_holds(tmp_path, batch):
    model, data = mlp(), vectors()
    expected = probe(model, data, arrays=ARRAYS, batch=batch)
    result = probe(model, data, arrays=ARRAYS, batch=batch, out=tmp_path / "p")
    assert listed(tmp_path / "p") == sorted([*(f"{name}.npy" for name in (*ARRAYS, "labels")), "probe.json"])
    again = read_probed(tmp_path / "p", fingerprint=data.fingerprint)
    assert set(result) == set(expected) == set(again)
    for name, array in expected.items():
        stored = np.load(tmp_path / "p" / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        assert torch.equal(result[name], array)
        assert torch.equal(again[name], array)
        assert result[name].dtype == array.dtype
        assert np.array_equal(stored, array.numpy())
    assert again.cost == result.cost
    assert again.head == result.head == "classifier"


def test_what_is_written_to_an_array_does_not_reach_its_file(tmp_path):
    result = probe(mlp(), vectors(), out=tmp_path)
    before = result["features"].clone()
    result["features"].zero_()
    assert torch.equal(read_probed(tmp_path)["features"], before)


def test_large_arrays_go_to_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model, data = mlp(), vectors()
    expected = probe(model, data)
    assert listed(tmp_path) == []
    result = probe(model, data, memory_limit=23 * 16 * 4 - 1)  # the features are one byte too large
    (folder,) = tmp_path.iterdir()
    assert listed(folder) == ["features.npy"]
    for name, array in expected.items():
        assert torch.equal(result[name], array)
    del result
    assert listed(tmp_path) == []


class Stop(Exception):
    pass


@pytest.mark.parametrize("existing", [False, True], ids=["new folder", "folder in use"])
def test_an_interrupted_pass_leaves_no_half_file(tmp_path, existing):
    model, data = mlp(), vectors()
    if existing:
        probe(model, data, arrays="probs", out=tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def stop(call, done, total):
        if done > 10:
            raise Stop

    with pytest.raises(Stop):
        probe(model, data, arrays=ARRAYS, out=tmp_path, batch=5, progress=stop)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    result = probe(model, data, arrays=ARRAYS, out=tmp_path)
    assert torch.equal(result["features"], probe(model, data)["features"])


def test_killed_between_two_files_the_folder_lists_neither(tmp_path, monkeypatch):
    model, data = mlp(), vectors()
    probe(model, data, arrays=("probs", "curvature"), out=tmp_path, h=1.0)

    def killed(self):
        raise Stop

    monkeypatch.setattr(ArrayWriter, "finish", killed)
    with pytest.raises(Stop):
        probe(model, data, arrays=("probs", "curvature"), out=tmp_path, h=2.0)
    assert set(read_probed(tmp_path)) == {"probs", "labels"}  # what was to be replaced is no longer told of
    monkeypatch.undo()
    result = probe(model, data, arrays="curvature", out=tmp_path, h=1.0)
    assert torch.equal(result["curvature"], probe(model, data, arrays="curvature", h=1.0)["curvature"])


def test_what_a_kill_has_left_is_removed(tmp_path):
    (tmp_path / ".features.npy.abc.part").write_bytes(b"half")
    probe(mlp(), vectors(), out=tmp_path)
    assert listed(tmp_path) == ["features.npy", "labels.npy", "probe.json", "probs.npy"]


def test_what_is_there_is_not_made_again(tmp_path):
    model, data, calls = mlp(), vectors(), []
    first = probe(model, data, out=tmp_path)
    again = probe(model, data, out=tmp_path, progress=lambda *call: calls.append(call))
    assert calls == []
    assert again.cost == first.cost
    second = probe(model, data, arrays=("features", "grad_norm"), out=tmp_path)
    assert set(second) == {"features", "grad_norm", "labels"}
    assert (second.cost.forward, second.cost.backward) == (23, 23)  # both passes
    assert torch.equal(second["features"], first["features"])
    assert set(read_probed(tmp_path)) == {*BOTH, "grad_norm"}


def test_other_options_make_an_array_anew(tmp_path):
    model, data = mlp(), vectors()
    for options in ({"h": 1.0}, {"h": 2.0}, {"mode": "rademacher"}, {"mode": "rademacher", "seed": 3}):
        result = probe(model, data, arrays="curvature", out=tmp_path, **options)
        assert torch.equal(result["curvature"], probe(model, data, arrays="curvature", **options)["curvature"])


def test_held_out_arrays_lie_beside_the_others(tmp_path):
    model, train, test = mlp(), vectors(), vectors(9, seed=5)
    probe(model, train, out=tmp_path)
    held_out(model, test, out=tmp_path)
    assert read_probed(tmp_path)["features"].shape == (23, 16)
    held = read_probed(tmp_path, prefix="val_", fingerprint=test.fingerprint)
    assert torch.equal(held["val_features"], probe(model, test)["features"])


def test_arrays_of_another_dataset_model_or_head_are_not_mixed(tmp_path):
    model, data = mlp(), vectors()
    probe(model, data, out=tmp_path)
    with pytest.raises(RunError, match=r"holds arrays of another dataset \(fingerprint [0-9a-f]+, this one has"):
        probe(model, vectors(seed=1), arrays="probs", out=tmp_path)
    with pytest.raises(RunError, match=r"another head .head classifier, this one has hidden.3.: give another folder"):
        probe(model, data, arrays="grad_norm", head="hidden.3", out=tmp_path)
    with torch.no_grad():
        model.classifier.bias[0] += 1e-6
    with pytest.raises(RunError, match=r"holds arrays of another model \(model [0-9a-f]+, this one has"):
        probe(model, data, arrays="grad_norm", out=tmp_path)
    with pytest.raises(RunError, match="another dataset"):
        read_probed(tmp_path, fingerprint="0" * 16)
    with pytest.raises(RunError, match=r"data is another dataset .* than it should be .fingerprint 0000"):
        probe(model, data, fingerprint="0000")
    assert set(probe(model, data, fingerprint=data.fingerprint)) == set(BOTH)


def test_batch_norms_statistics_are_part_of_the_model(tmp_path):
    model = build_network(Backwards)
    probe(model, vectors(), out=tmp_path)
    model.norm.running_mean += 1
    with pytest.raises(RunError, match="another model"):
        probe(model, vectors(), out=tmp_path)


def test_damaged_folders_are_named(tmp_path):
    model, data = mlp(), vectors()
    with pytest.raises(RunError, match=r"no such file: .*probe.json"):
        read_probed(tmp_path)
    probe(model, data, out=tmp_path)
    file = tmp_path / "features.npy"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunError, match=r"features.npy is truncated or damaged"):
        read_probed(tmp_path)
    np.save(file, np.ones((4, 16), np.float32))
    with pytest.raises(RunError, match=r"features.npy is about 4 examples, but the other arrays there about 23"):
        read_probed(tmp_path)
    file.unlink()
    assert torch.equal(probe(model, data, out=tmp_path)["features"], probe(model, data)["features"])
    metadata = json.loads((tmp_path / "probe.json").read_text())
    (tmp_path / "probe.json").write_text(json.dumps({**metadata, "kind": "signals"}))
    with pytest.raises(RunError, match=r"probe\.json is not a manifest of probed arrays"):
        probe(model, data, out=tmp_path)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"the disk is full: could not write .*npy"):
        probe(mlp(), vectors(), out=tmp_path)
    assert listed(tmp_path) == []


def test_a_disk_too_small_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("datawinnow.core.files.shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(RunError, match=r"the disk is full: .* needs 0.0 MB"):
        probe(mlp(), vectors(), out=tmp_path)
    assert listed(tmp_path) == []
