"""Scores and selections of a recorded run: what they are charged, which epochs they read, what they leave behind."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch

from datawinnow import api
from datawinnow.core.errors import ArgumentError, MissingArrayError
from datawinnow.methods import create_method
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.score import score_run
from datawinnow.runs.select import select_run, selection_of
from datawinnow.runs.stage import arithmetic_of

from .conftest import FAST, make_blobs, make_images


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Recorded once; each test has a copy."""
    path = tmp_path_factory.mktemp("recorded") / "run"
    api.record(make_blobs(), run=path, epochs=30, recipe=FAST)
    return path


@pytest.fixture
def run(recorded, tmp_path):
    shutil.copytree(recorded, tmp_path / "run")
    return RunFolder.open(tmp_path / "run")


def tdds(kl_step, *, window=1):
    return kl_step[-window:].mean(0)


class TestCharge:
    """60 examples recorded for 30 epochs: 1,800 passes; each method pays for the epochs that it reads."""

    @pytest.mark.parametrize(
        ("method", "options", "epochs", "charge"),
        [
            ("dual_beta", {}, None, 1800),
            ("dual", {}, None, 1800),
            ("dual", {}, 12, 720),
            ("el2n", {}, None, 600),
            ("el2n", {"last": 3}, None, 180),
            ("el2n", {}, 4, 240),
            ("entropy", {"epoch": 4}, None, 300),
            ("entropy", {"epoch": 4}, 12, 300),
            ("entropy", {"epoch": -1}, 12, 720),
            ("random", {}, None, 0),
        ],
        ids=[
            "dual_beta",
            "dual",
            "dual of 12",
            "el2n",
            "el2n to 3",
            "el2n of 4",
            "entropy",
            "entropy of 12",
            "last",
            "random",
        ],
    )
    def test_of_a_selection(self, run, blobs, method, options, epochs, charge):
        select_run(run, blobs, keep=0.5, method=create_method(method, score_options=options), epochs=epochs)
        meta = RunFolder.open(run.path).metadata["options"]["select"]
        assert meta["charge"] == charge
        assert meta["epochs"] == charge // 60
        assert selection_of(run)[1]["charge"] == charge

    def test_of_a_score(self, run, blobs):
        score_run(run, blobs, ["el2n", "aum"], epochs=12)
        fields = {f.name: f.metadata for f in run.scores().schema}
        assert (fields["el2n"][b"charge"], fields["el2n"][b"epochs"]) == (b"600", b"10")
        assert (fields["aum"][b"charge"], fields["aum"][b"epochs"]) == (b"720", b"12")

    def test_stages_pass_no_examples_of_their_own(self, run, blobs):
        select_run(run, blobs, keep=0.5)
        cost = RunFolder.open(run.path).metadata["cost"]
        assert set(cost) == {"record", "score", "select"}
        for stage in ("score", "select"):
            assert cost[stage]["seconds"] > 0
            assert (cost[stage]["forward"], cost[stage]["backward"], cost[stage]["flops"]) == (0, 0, 0)


class TestEpochs:
    def test_the_first_epochs_give_what_a_shorter_recording_would(self, run, blobs, tmp_path):
        short = api.record(blobs, run=tmp_path / "short", epochs=12, schedule_epochs=30, recipe=FAST)
        for method in ("dual_beta", "aum"):
            cut = select_run(run, blobs, keep=0.3, method=method, epochs=12)
            assert cut.index.tolist() == select_run(short, blobs, keep=0.3, method=method).index.tolist()
            assert cut.index.tolist() != select_run(run, blobs, keep=0.3, method=method).index.tolist()

    @pytest.mark.parametrize("epochs", [0, -1, 31])
    def test_others_than_were_recorded_are_refused(self, run, blobs, epochs):
        with pytest.raises(ArgumentError, match=rf"epochs must be a whole number in \[1, 30\], got {epochs}"):
            select_run(run, blobs, keep=0.3, epochs=epochs)
        with pytest.raises(ArgumentError, match=r"epochs must be"):
            score_run(run, blobs, ["aum"], epochs=epochs)


class TestScore:
    def test_options_are_for_one_score(self, run, blobs):
        with pytest.raises(ArgumentError, match=r"options \{'last': 2\} are for one score, but there are 2"):
            score_run(run, blobs, ["el2n", "aum"], options={"last": 2})
        with pytest.raises(ArgumentError, match="aum has no option 'last'"):
            score_run(run, blobs, ["aum"], options={"last": 2})
        with pytest.raises(ArgumentError, match="name at least one score"):
            score_run(run, blobs, [])

    def test_an_array_that_was_not_recorded(self, run, blobs):
        for verb in (
            lambda: score_run(run, blobs, [tdds]),
            lambda: select_run(run, blobs, keep=0.3, method=create_method(score=tdds)),
        ):
            with pytest.raises(MissingArrayError, match=r"tdds needs the array 'kl_step'.*signals='kl_step'"):
                verb()
        assert not (run.path / "scores.parquet").exists()

    def test_a_score_of_ones_own_is_written_beside_the_others(self, run, blobs):
        def sure(p_label, labels):
            return p_label.mean(0) - labels

        scores = score_run(run, blobs, [sure])["sure"]
        expected = run.arrays()["p_label"].mean(0) - blobs.labels
        assert torch.allclose(scores, expected)
        assert run.scores().column("sure").to_pylist() == scores.tolist()


class TestSelect:
    def test_the_file_says_how_it_was_made(self, run, blobs):
        select_run(run, blobs, keep=0.1, method=create_method("ccs", per_class=True), seed=3)
        _, meta = selection_of(run)
        assert meta.pop("cost") == {stage: run.metadata["cost"][stage] for stage in ("record", "score", "select")}
        assert meta == {
            "format": 1,
            "method": "ccs",
            "label": "CCS",
            "options": {"cutoff": 0.3, "end": "low"},
            "score": "aum_softmax",
            "score_options": {},
            "per_class": True,
            "keep": 0.1,
            "seed": 3,
            "budget": 6,
            "n": 60,
            "fingerprint": blobs.fingerprint,
            "dataset": "blobs",
            "epochs": 30,
            "charge": 1800,
            "load": {},
            "source": {"classes": ["a", "b", "c"], "is_folder": False, "num_rows": 60},
            "recorded": arithmetic_of(run),
        }
        stored = RunFolder.open(run.path).metadata["options"]["select"]
        assert stored == {k: v for k, v in meta.items() if k not in ("format", "source", "recorded")}

    def test_the_evidence_stands_beside_each_example(self, run, blobs):
        selection = select_run(run, blobs, keep=0.3, method="dual")
        rows = pq.read_table(run.path / "selection.parquet").to_pylist()
        p = run.arrays()["p_label"].double()
        for i in (0, 17, 59):
            assert rows[i]["p_mean"] == pytest.approx(float(p[:, i].mean()), abs=1e-6)
            assert rows[i]["p_std"] == pytest.approx(float(p[:, i].std(correction=0)), abs=1e-6)
            assert f"; p(label) {float(p[:, i].mean()):.2f} ± " in rows[i]["note"]
            assert rows[i]["kept"] == (i in selection.index.tolist())
            assert rows[i]["reason"] == ("ranked" if rows[i]["kept"] else "below_cut")

    def test_another_selection_takes_the_check_and_the_images_of_the_old_with_it(self, tmp_path):
        data = make_images(24)
        run = api.record(data, run=tmp_path / "run", epochs=2, recipe=FAST, model="mlp")
        select_run(run, data, keep=0.5, method="el2n")
        (run.path / "check.json").write_text("{}")
        select_run(run, data, keep=0.5, method="el2n")  # the same again
        assert (run.path / "check.json").exists()
        select_run(run, data, keep=0.25, method="el2n", gallery=False)
        assert not (run.path / "check.json").exists()
        assert not (run.path / "gallery.parquet").exists()

    def test_a_selection_to_another_file_leaves_the_run_as_it_is(self, tmp_path):
        data = make_images(24)
        run = api.record(data, run=tmp_path / "run", epochs=2, recipe=FAST, model="mlp")
        select_run(run, data, keep=0.5, method="el2n")
        before = {name: (run.path / name).read_bytes() for name in ("selection.parquet", "gallery.parquet")}
        other = select_run(run, data, keep=0.25, method="aum", out=tmp_path / "other.parquet")
        assert {name: (run.path / name).read_bytes() for name in before} == before
        assert RunFolder.open(run.path).metadata["options"]["select"]["method"] == "el2n"
        table = pq.read_table(tmp_path / "other.parquet")
        assert sum(table.column("kept").to_pylist()) == len(other) == 6
        assert json.loads(table.schema.metadata[b"datawinnow"])["method"] == "aum"
