"""A run folder has one writer at a time, what a dead process left is removed, and a stopped --out is finished."""

from __future__ import annotations

import os
import threading
from functools import partial

import pytest
import torch

from datawinnow import api
from datawinnow.condense import METHODS
from datawinnow.condense.run_folder import CondenseRun, ExampleNames, Judging, condense_into_folder
from datawinnow.core.errors import ArgumentError, DataError, RunError
from datawinnow.core.files import atomic_folder, atomic_write
from datawinnow.core.lock import LOCK, only_writer
from datawinnow.data.examples import Examples
from datawinnow.instruct.indicators import compute_indicators
from datawinnow.instruct.options import IndicatorOptions
from datawinnow.instruct.pairs import read_pairs
from datawinnow.instruct.run import run_instruct
from datawinnow.models import build as build_named
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.select import selection_of
from tests.runs.conftest import FAST, make_blobs

QUICK = {"epochs": 2, "recipe": FAST, "model": "mlp"}


@pytest.fixture
def run(tmp_path):
    return api.record(make_blobs(), run=tmp_path / "run", **QUICK).path


def test_verbs_refuse_a_folder_that_another_command_writes_to(tmp_path, run):
    blobs, before = make_blobs(), sorted(run.rglob("*"))
    with only_writer(run):
        for verb in (
            lambda: api.record(blobs, run=run, **QUICK),
            lambda: api.train(blobs, run=run, **QUICK),
            lambda: api.prune(blobs, keep=0.5, score="el2n", run=run, **QUICK),
        ):
            with pytest.raises(
                RunError, match=rf"busy: another command \(process {os.getpid()}\).*another `run=` folder"
            ):
                verb()
        assert sorted(run.rglob("*")) == sorted([*before, run / LOCK])
    assert not (run / LOCK).exists()


def test_so_do_a_recording_by_itself_condense_and_instruct(tmp_path):
    digits, lines = make_blobs(), tmp_path / "pairs.jsonl"
    lines.write_text("".join(f'{{"instruction": "count to {i}", "output": "{i}"}}\n' for i in range(4)))
    images = (torch.zeros(20, 1, 8, 8), torch.arange(20) % 2)
    with only_writer(tmp_path / "run"):
        for verb in (
            lambda: api.record(digits, run=tmp_path / "run", **QUICK),
            lambda: api.condense(images, per_class=1, iterations=1, run=tmp_path / "run"),
            lambda: api.instruct(lines, keep=2, run=tmp_path / "run"),
        ):
            with pytest.raises(RunError, match=r"busy: another command .*another `run=` folder"):
                verb()


def test_so_do_the_functions_under_condense_and_instruct(tmp_path):
    lines = tmp_path / "pairs.jsonl"
    lines.write_text("".join(f'{{"instruction": "count to {i}", "output": "{i}"}}\n' for i in range(4)))
    pairs = compute_indicators(read_pairs(lines), IndicatorOptions(), None)
    images = Examples(torch.zeros(20, 1, 8, 8, dtype=torch.uint8), torch.arange(20) % 2, ("a", "b"), "images")
    build = partial(build_named, "convnet", shape=(1, 8, 8), classes=2)
    run = CondenseRun(
        method=METHODS["dm"],
        per_class=1,
        iterations=1,
        build=build,
        network="convnet",
        augment=None,
        device="cpu",
        seed=0,
        options={},
    )
    folder, names = tmp_path / "run", ExampleNames([str(i) for i in range(20)], torch.arange(20))
    for call in (
        lambda: condense_into_folder(run, images, None, folder, judging=Judging(networks=0), names=names),
        lambda: run_instruct(pairs, folder=folder, keep=2),
    ):
        with only_writer(folder), pytest.raises(RunError, match=r"busy: another command .*another `run=` folder"):
            call()
    assert not folder.exists()


def test_scores_at_once_are_all_there(run):
    blobs, names = make_blobs(), ["el2n", "aum", "entropy", "margin"]
    errors: list[Exception] = []

    def score(name):
        try:
            api.score(run, name, data=blobs)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=score, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(RunFolder.open(run).scores().column_names) == {"id", "label", *names}


def test_select_waits_for_a_folder_in_use(run, monkeypatch):
    monkeypatch.setattr("datawinnow.core.lock.SHORT_STAGE_WAIT", 0.0)
    with only_writer(run), pytest.raises(RunError, match="busy"):
        api.select(run, keep=0.5, method="random", data=make_blobs())
    assert len(api.select(run, keep=0.5, method="random", data=make_blobs())) == 30


def test_a_refused_run_leaves_no_folder(tmp_path):
    with pytest.raises(ArgumentError):
        api.record(make_blobs(), run=tmp_path / "new", model="nothing", epochs=1, recipe=FAST)
    assert list(tmp_path.iterdir()) == []


class TestPartialFiles:
    def test_those_of_the_dead_are_removed_and_those_of_the_living_are_not(self, tmp_path):
        (tmp_path / ".x.json.dead.part").write_text("half")
        (tmp_path / ".out.dead.part").mkdir()
        (tmp_path / ".out.dead.part" / "a.png").write_text("half")
        with atomic_write(tmp_path / "x.json") as first, atomic_folder(tmp_path / "out") as folder:
            first.write_text("first")
            (folder / "b.png").write_text("whole")
            with atomic_write(tmp_path / "x.json") as second:
                second.write_text("second")
            assert first.exists()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "x.json"]
        assert (tmp_path / "x.json").read_text() == "first"
        assert [file.name for file in (tmp_path / "out").iterdir()] == ["b.png"]


class TestOut:
    def prune(self, **changes):
        kwargs = {"keep": 0.5, "score": "el2n", "run": "run", "out": "kept", "report": True, **QUICK, **changes}
        return api.prune("digits", load=api.LoadOptions(limit=60), **kwargs)

    def test_a_prune_that_was_stopped_after_it_is_finished_by_the_same_call(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        first = self.prune()
        written = {file: file.read_bytes() for file in (tmp_path / "kept").iterdir()}
        (tmp_path / "run" / "report.html").unlink()
        again = self.prune()
        assert (tmp_path / "run" / "report.html").exists()
        assert again.selection.index.tolist() == first.selection.index.tolist()
        assert {file: file.read_bytes() for file in (tmp_path / "kept").iterdir()} == written

    def test_another_selection_or_folder_is_not_taken_for_it(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        first = self.prune(report=False)
        with pytest.raises(DataError, match=r"kept.* exists already"):
            self.prune(keep=0.2, report=False)
        assert selection_of(RunFolder.open(tmp_path / "run"))[0].index.tolist() == first.selection.index.tolist()
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.tex").write_text("x")
        with pytest.raises(DataError, match=r"mine.* exists already"):
            self.prune(out="mine", report=False)
        assert not (tmp_path / "run" / "report.html").exists()
