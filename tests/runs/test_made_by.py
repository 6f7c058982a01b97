"""Every artefact says of which dataset it is and what was spent for it; one of another dataset is refused by name."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch

from datawinnow import api
from datawinnow.bench.check import check
from datawinnow.core.artifacts import read_json, read_tensors, write_json, write_table, write_tensors
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.data.dataset_info import dataset_info
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.record import begin_run
from datawinnow.runs.score import score_run
from datawinnow.runs.select import select_run, selection_of
from datawinnow.train.build import check_outputs_for
from datawinnow.train.checkpoint import CHECKPOINT_KIND, read_metadata

from .conftest import FAST, Bare, make_blobs, make_images

STAGES = {
    "history.parquet": ["record"],
    "model.safetensors": ["record"],
    "scores.parquet": ["record", "score"],
    "selection.parquet": ["record", "score", "select"],
    "gallery.parquet": ["record", "score", "select"],
    "check.json": ["record", "score", "select", "check"],
}


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A run with all its artefacts, made twice over, so that what is left of the first time could show."""
    data, path = make_images(24), tmp_path_factory.mktemp("made") / "run"
    folder = api.record(data, run=path, epochs=3, recipe=FAST, model="mlp")
    for keep in (0.25, 0.5):
        score_run(folder, data, ["aum"])
        selection = select_run(folder, data, keep=keep, method="el2n")
        check(folder, data, make_images(8, seed=1), selection, keep=keep, epochs=1, recipe=FAST)
    return path


@pytest.fixture
def run(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


def about(path):
    if path.suffix == ".json":
        return read_json(path)
    if path.suffix == ".safetensors":
        return read_metadata(path)
    return json.loads(pq.read_schema(path).metadata[b"datawinnow"])


@pytest.mark.parametrize("name", STAGES)
def test_fingerprint_and_cost_of_the_stages_so_far(run, name):
    metadata = about(run.path / name)
    assert metadata["fingerprint"] == make_images(24).fingerprint
    assert list(metadata["cost"]) == STAGES[name]
    for stage, cost in metadata["cost"].items():
        assert set(cost) == {"seconds", "forward", "backward", "flops"}
        assert cost["seconds"] > 0
        # the check trains on 12 kept, 12 random and all 24 examples, and on all of them for half an epoch
        assert cost["backward"] == {"record": 72, "check": 12 + 12 + 24 + 12}.get(stage, 0)
    assert metadata["cost"]["record"] == run.metadata["cost"]["record"]


def test_a_training_says_what_it_cost(tmp_path, images):
    api.train(images, run=tmp_path / "t", epochs=2, recipe=FAST, model="mlp")
    for name in ("history.parquet", "model.safetensors"):
        metadata = about(tmp_path / "t" / name)
        assert metadata["fingerprint"] == images.fingerprint
        assert metadata["cost"]["train"]["backward"] == 96


def test_a_history_that_was_cut_short_says_what_its_rows_cost(tmp_path, images):
    def stop(stage, done, total):
        if done == 3:  # two steps an epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.record(images, run=tmp_path / "r", epochs=3, recipe=FAST, model="mlp", progress=stop)
    assert about(tmp_path / "r" / "history.parquet")["cost"]["record"]["backward"] == 48


def test_a_selection_written_elsewhere_says_it_too(run, tmp_path):
    select_run(run, make_images(24), keep=0.25, method="el2n", out=tmp_path / "other.parquet")
    assert list(about(tmp_path / "other.parquet")["cost"]) == ["record", "score", "select"]


class TestRefusals:
    def foreign(self, path):
        """The artefact, of another dataset."""
        if path.suffix == ".json":
            write_json(path, {**read_json(path), "fingerprint": "ab"})
        elif path.suffix == ".safetensors":
            tensors, metadata = read_tensors(path, kind=CHECKPOINT_KIND)
            write_tensors(path, tensors, {**metadata, "fingerprint": "ab"}, kind=CHECKPOINT_KIND)
        else:
            write_table(path, pq.read_table(path), {**about(path), "fingerprint": "ab"})

    @pytest.mark.parametrize(
        ("name", "verb"),
        [
            ("scores.parquet", lambda run, data: score_run(run, data, ["el2n"])),
            ("scores.parquet", lambda run, data: select_run(run, data, keep=0.5, method="el2n")),
            ("model.safetensors", lambda run, data: select_run(run, data, keep=0.5, method="moderate")),
            ("signals/about.json", lambda run, data: score_run(run, data, ["el2n"])),
        ],
        ids=["scores, by score", "scores, by select", "network, by select", "signals, by score"],
    )
    def test_another_datasets_is_refused_by_name(self, run, name, verb):
        self.foreign(run.path / name)
        with pytest.raises(RunError, match=rf"{name.split('/')[0]}.*(another|a different) dataset \(fingerprint ab\)"):
            verb(run, make_images(24))

    def test_another_datasets_selection_is_refused_by_name(self, run):
        self.foreign(run.path / "selection.parquet")
        with pytest.raises(RunError, match=r"selected from the dataset 'halves' \(fingerprint ab\), not from 'halves'"):
            selection_of(run)

    def test_a_damaged_network_is_named(self, run):
        path = run.path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(RunError, match=r"model.safetensors is truncated or damaged"):
            select_run(run, make_images(24), keep=0.5, method="moderate")

    def test_a_recording_goes_on_only_with_its_own_signals(self, tmp_path, blobs):
        def stop(stage, done, total):
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            api.record(blobs, run=tmp_path / "r", epochs=3, recipe=FAST, progress=stop)
        self.foreign(tmp_path / "r" / "signals" / "about.json")
        with pytest.raises(RunError, match=r"signals was recorded on another dataset \(fingerprint ab\)"):
            api.record(blobs, run=tmp_path / "r", epochs=3, recipe=FAST)


class TestOutputs:
    """A network with fewer outputs than the dataset has classes, and a dataset that does not tell how many it has."""

    @pytest.mark.parametrize("data", [make_blobs(), Bare(make_blobs())], ids=["with_classes", "without_classes"])
    @pytest.mark.parametrize("verb", [begin_run, api.record, api.train])
    def test_both_numbers_are_named_and_nothing_is_left_behind(self, tmp_path, data, verb):
        with pytest.raises(ArgumentError, match=r"Linear has 2 outputs, but .* has 3 classes: build it with classes=3"):
            verb(data, run=tmp_path / "run", model=lambda: torch.nn.Linear(4, 2))
        assert not (tmp_path / "run").exists()

    def test_more_outputs_than_classes_are_fine(self, tmp_path, blobs):
        run = api.record(blobs, run=tmp_path / "run", epochs=1, recipe=FAST, model=lambda: torch.nn.Linear(4, 5))
        assert run.metadata["status"] == {"record": "done"}

    def test_an_error_in_the_network_leaves_its_mode(self, blobs):
        model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(5, 3))
        with pytest.raises(ArgumentError, match="takes 5 features, an example has 4"):
            check_outputs_for(model, dataset_info(blobs))
        assert model.training

    def test_asking_changes_no_weight_and_no_mode(self, tmp_path, blobs):
        def build_network():
            return torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3))

        network = begin_run(blobs, tmp_path / "run", model=build_network).network
        assert network.training
        assert int(network[0].num_batches_tracked) == 0
        assert torch.equal(network[0].running_mean, torch.zeros(4))
