"""Stopping once the ranking has settled: what agreement is, when a recording ends, and that a killed one ends alike."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow import api
from datawinnow.api import prune
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.methods import create_method
from datawinnow.record import Recorder
from datawinnow.report import run_page
from datawinnow.runs.early_stopping import RankStability, split_half_agreement, stability_for
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.record import RecordSettings
from datawinnow.runs.select import select_run
from datawinnow.scores import dual
from datawinnow.select import beta

from .conftest import FAST, make_blobs
from .killing import Killed, contents, every_moment, killed_at


def literal(p_label, window):
    """Ranks with their mean where they tie, of the DUAL of each half, and Pearson's formula."""
    halves = []
    for rows in (p_label[-window : -(window // 2)], p_label[-(window // 2) :]):
        values = []
        for example in range(len(rows[0])):
            column = [float(row[example]) for row in rows]
            mean = sum(column) / len(column)
            spread = math.sqrt(sum((p - mean) ** 2 for p in column) / (len(column) - 1))
            values.append((1 - mean) * spread)
        ranks = [sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]
        middle = sum(ranks) / len(ranks)
        halves.append([rank - middle for rank in ranks])
    a, b = halves
    top = sum(x * y for x, y in zip(a, b, strict=True))
    return top / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


@pytest.mark.parametrize("window", [4, 6, 10])
def test_agreement_is_the_rank_correlation_of_the_halves(window):
    generator = torch.Generator().manual_seed(window)
    worth = torch.rand(40, generator=generator)
    p_label = (worth * torch.rand(14, 40, generator=generator)).double()
    p_label[:, :5] = 0.25  # ties at a DUAL of 0
    agreement = split_half_agreement(p_label, window=window)
    assert agreement == pytest.approx(literal(p_label, window), abs=1e-9)
    assert 0.1 < agreement < 0.999


def test_epochs_before_the_window_do_not_count_and_the_halves_share_none():
    generator = torch.Generator().manual_seed(0)
    p_label = torch.rand(12, 400, generator=generator)
    last = p_label[-10:]
    assert split_half_agreement(p_label) == split_half_agreement(last)
    # noise without any worth: DUAL of a window agrees with that of three quarters of it, the halves do not agree
    assert abs(split_half_agreement(last)) < 0.15
    nested = np.corrcoef(dual(last, window=10).argsort().argsort(), dual(last[:8], window=8).argsort().argsort())
    assert nested[0, 1] > 0.5


@pytest.mark.parametrize(
    "p_label",
    [torch.rand(9, 20), torch.full((10, 20), 0.5), torch.rand(10, 1)],
    ids=["too few epochs", "all alike", "one example"],
)
def test_where_agreement_is_not_defined_nothing_has_settled(p_label):
    assert math.isnan(split_half_agreement(p_label))
    assert not RankStability()(p_label)


@pytest.mark.parametrize("epochs", [9, 10])
def test_what_is_no_probability_is_refused(epochs):
    with pytest.raises(ArgumentError, match="p_label"):
        split_half_agreement(torch.full((epochs, 5), 7.0))


def test_settled_asks_enough_and_never_before_its_first_epoch():
    worth = torch.rand(200, generator=torch.Generator().manual_seed(0))
    p_label = torch.stack([worth * (0.2 + epoch % 2) / 1.2 for epoch in range(20)])
    p_label += 0.05 * torch.rand(20, 200, generator=torch.Generator().manual_seed(1)) * (1 - p_label)
    agreement = split_half_agreement(p_label)
    assert 0.5 < agreement < 1
    assert RankStability(agreement - 0.01)(p_label)
    assert not RankStability(agreement + 0.001)(p_label)
    recorder = Recorder(200, 20, signals=("p_label",))
    for epoch, row in enumerate(p_label.double()):
        logits = torch.stack([(row / (1 - row)).log(), 0 * row], 1)
        recorder.write(epoch, torch.arange(200), logits, torch.zeros(200).long())
    recorder.flush()
    assert RankStability(agreement - 0.01).is_reached(recorder, 20)
    assert RankStability(agreement - 0.01, min_epochs=20).is_reached(recorder, 20)
    assert not RankStability(agreement - 0.01, min_epochs=21).is_reached(recorder, 20)
    assert not RankStability(1e-9).is_reached(recorder, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0}, "until_stable must be above 0"),
        ({"threshold": 1.1}, "until_stable must be"),
        ({"window": 3}, "window must be"),
        ({"min_epochs": 0}, "min_epochs must be"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        RankStability(**options)


def test_it_waits_for_as_many_epochs_as_the_method_reads():
    assert stability_for(create_method("dual_beta"), keep=0.3, epochs=30).min_epochs == 10
    wide = create_method("dual_beta", score_options={"window": 14})
    assert stability_for(wide, keep=0.3, epochs=30).min_epochs == 14
    assert stability_for(wide, keep=0.3, epochs=14).min_epochs == 14
    assert stability_for(create_method("el2n"), keep=0.3, epochs=6).min_epochs == 6


RECORD_KWARGS = {"epochs": 12, "recipe": FAST, "schedule_epochs": 40}
EARLY = RankStability(0.2, min_epochs=6, window=4)
"""Met by the blobs in their eighth epoch."""


def test_a_recording_ends_at_the_first_epoch_whose_ranking_has_settled(tmp_path):
    data, messages = make_blobs(), []
    unbroken = api.record(data, run=tmp_path / "whole", **RECORD_KWARGS)
    p_label = unbroken.arrays()["p_label"]
    end = next(t for t in range(6, 13) if EARLY(p_label[:t]))
    assert 6 < end < 12, "the example does not show what it should"
    folder = api.record(
        data,
        run=tmp_path / "run",
        test=make_blobs(30, seed=1),
        until_stable=EARLY,
        log=messages.append,
        **RECORD_KWARGS,
    )
    arrays = folder.arrays()
    assert arrays["p_label"].shape == (end, 60)
    for name in arrays:
        assert torch.equal(arrays[name], unbroken.arrays()[name][:end]), name
    metadata = RunFolder.open(tmp_path / "run").metadata
    assert metadata["recorded"]["epochs"] == end
    assert metadata["recorded"]["agreement"] == pytest.approx(split_half_agreement(p_label[:end], window=4))
    assert metadata["cost"]["record"]["backward"] == end * 60
    rows = pq.read_table(tmp_path / "run" / "history.parquet").to_pylist()
    assert [math.isnan(row["test_accuracy"]) for row in rows] == [True] * (end - 1) + [False]
    assert any(f"the ranking was stable after {end} of up to 12 epochs" in line for line in messages)
    assert select_run(
        folder, data, keep=0.5, method=create_method("dual_beta", score_options={"window": 4})
    ).index.shape == (30,)
    assert f"{end} epochs recorded of up to 12, until the ranking had settled" in run_page.run_description(metadata)


def test_a_ranking_that_does_not_settle_is_recorded_to_the_end_and_that_is_told(tmp_path):
    messages = []
    folder = api.record(
        make_blobs(), run=tmp_path / "run", epochs=11, recipe=FAST, until_stable=1.0, log=messages.append
    )
    assert folder.epochs == 11
    agreed = split_half_agreement(folder.arrays()["p_label"])
    assert folder.metadata["recorded"] == {"epochs": 11, "agreement": pytest.approx(agreed)}
    assert any("was not stable after 11 epochs" in line for line in messages)
    assert "11 epochs recorded." in run_page.run_description(folder.metadata)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 9, "until_stable": 0.5}, "compares two halves of 10 epochs, and only 9 are to be recorded"),
        ({"epochs": 12, "until_stable": "0.5"}, "until_stable must be"),
        ({"epochs": 12, "until_stable": 7}, "until_stable must be"),
    ],
)
def test_what_could_never_act_is_refused_before_there_is_a_run(tmp_path, options, message):
    with pytest.raises(ArgumentError, match=message):
        api.record(make_blobs(), run=tmp_path / "run", recipe=FAST, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("done", [True, False], ids=["done", "unfinished"])
@pytest.mark.parametrize(
    ("first", "again"), [(0.3, None), (None, 0.3), (0.3, 0.4)], ids=["without", "with", "with another"]
)
def test_a_run_is_not_gone_on_with_by_another_rule(tmp_path, first, again, done):
    def run(until):
        return api.record(make_blobs(), run=tmp_path / "run", epochs=11, recipe=FAST, until_stable=until)

    folder = run(first)
    if not done:
        folder.update(status={"record": "epoch 3 of 11"})
    words = {None: "None", 0.3: "0.3 after at least 10 epochs", 0.4: "0.4 after at least 10 epochs"}
    with pytest.raises(RunError, match=f"with until_stable={words[first]}, now it is until_stable={words[again]}"):
        run(again)


def test_one_recording_serves_methods_that_read_more_of_it_if_it_has_it(tmp_path):
    def run(method, until=0.999):
        return prune(make_blobs(), keep=0.5, run=tmp_path / "run", epochs=14, recipe=FAST, until_stable=until, **method)

    wide = {"score": "dual", "score_options": {"window": 12}}
    run({})
    assert RunFolder.open(tmp_path / "run").epochs == 14  # it never settled
    before = (tmp_path / "run" / "signals" / "p_label.npy").stat().st_mtime_ns
    run(wide)  # as long as this one would have it
    assert (tmp_path / "run" / "signals" / "p_label.npy").stat().st_mtime_ns == before
    with pytest.raises(
        RunError, match=r"started with until_stable=0\.999 after at least 10 epochs, now it is until_stable=0\.5 after"
    ):
        run(wide, until=0.5)
    folder = RunFolder.open(tmp_path / "run")
    folder.update(recorded={"epochs": 11, "agreement": 0.9995})  # as if it had ended before
    with pytest.raises(RunError, match=r"now it is until_stable=0\.999 after at least 12 epochs"):
        run(wide)


def test_without_until_stable_nothing_is_said_of_it(tmp_path):
    folder = api.record(make_blobs(), run=tmp_path / "run", epochs=2, recipe=FAST)
    assert "recorded" not in folder.metadata


def test_it_needs_the_probabilities():
    with pytest.raises(ArgumentError, match="until_stable ranks by p_label: add it to the signals"):
        RecordSettings(10, signals=("loss",), until_stable=0.7)


@every_moment
def test_killed_at_any_moment_it_ends_in_the_same_epoch_and_bytes(tmp_path, monkeypatch, stride):
    data = make_blobs()
    monkeypatch.setattr("os.fsync", lambda handle: None)

    def run(path):
        api.record(data, run=path, test=make_blobs(30, seed=1), until_stable=EARLY, **RECORD_KWARGS)

    with killed_at(monkeypatch, None) as operations:
        run(tmp_path / "run")
        total = operations()
    expected = contents(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "unbroken")
    assert total > 40
    for at in range(stride // 2, total, stride):
        path = tmp_path / str(at) / "run"
        with pytest.raises(Killed), killed_at(monkeypatch, at):
            run(path)
        run(path)
        assert contents(path) == expected, f"killed at {at}"


def test_prune_stops_too(tmp_path):
    recipe = replace(FAST, lr=0.01)
    for enough, end in ((0.2, 12), (0.8, 13)):
        run = tmp_path / f"{enough}"
        kept = prune(make_blobs(), keep=0.5, run=run, epochs=14, schedule_epochs=40, recipe=recipe, until_stable=enough)
        assert len(kept) == 30
        assert RunFolder.open(run).epochs == end
    assert RunFolder.open(run).metadata["recorded"]["agreement"] == pytest.approx(0.82, abs=0.01)
    with pytest.raises(ArgumentError, match="until_stable must be"):
        prune(make_blobs(), keep=0.5, method="random", until_stable=7)


@pytest.mark.parametrize("method", [None, {"score": "dual", "select_by": beta}], ids=["by name", "a callable"])
def test_prune_fits_beta_sampling_to_the_training_that_is_planned(tmp_path, method):
    def kept(**options):
        prune_kwargs = {"keep": 0.3, "run": tmp_path / "run", "epochs": 11, "recipe": FAST, **(method or {})}
        return sorted(prune(make_blobs(), **prune_kwargs, **options).selection.index.tolist())

    assert kept(train_epochs=2) == kept(options={"train_epochs": 2}) != kept()
    assert kept(train_epochs=11) == kept()  # as many as are recorded
    assert kept(train_epochs=2, options={"c_d": 5.5}) == kept(options={"c_d": 5.5}) == kept(train_epochs=1000) != kept()
    with pytest.raises(ArgumentError, match="train_epochs must be"):
        prune(make_blobs(), keep=0.5, method="random", train_epochs=-3)
