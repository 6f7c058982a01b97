"""A dataset without a fingerprint is read for one once in each call."""

from __future__ import annotations

import pytest

import datawinnow as dw
from datawinnow.api import prune, race, record, score, select, train
from datawinnow.data import fingerprint as fingerprint_module
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.methods import create_method

from .conftest import FAST, Bare, make_blobs


@pytest.fixture
def computed(monkeypatch):
    """An item for each fingerprint that was computed."""
    draws, calls = fingerprint_module.derive, []
    monkeypatch.setattr(fingerprint_module, "derive", lambda *path: calls.append(path) or draws(*path))
    fingerprint_of(Bare(make_blobs(9)))
    assert len(calls) == 1
    calls.clear()
    return calls


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("random", {}, 1),
        ("el2n", {}, 1),
        ("herding", {"run": True}, 1),  # a probe
        ("el2n", {"check": True}, 2),  # of the test split too
        (create_method(select_by="glister"), {"val": Bare(make_blobs(9, seed=3))}, 2),
    ],
    ids=["random", "el2n", "probe", "check", "held-out data"],
)
def test_prune(tmp_path, computed, method, options, expected):
    options = {**options, "run": tmp_path / "run"} if options.pop("run", False) else options
    prune(
        Bare(make_blobs()), keep=0.3, method=method, epochs=2, recipe=FAST, test=Bare(make_blobs(9, seed=1)), **options
    )
    assert len(computed) == expected


def test_record_score_and_select(tmp_path, computed):
    data, run = Bare(make_blobs()), tmp_path / "run"
    record(data, epochs=2, recipe=FAST, test=Bare(make_blobs(9, seed=1)), run=run)
    assert len(computed) == 1
    score(run, scores=["grand_last"], data=data)
    assert len(computed) == 2
    select(run, keep=0.3, method="herding", data=data)
    assert len(computed) == 3


@pytest.mark.parametrize("policy", [None, "random_pruning"])
def test_train(tmp_path, computed, policy):
    train(
        Bare(make_blobs()), policy=policy, epochs=2, recipe=FAST, test=Bare(make_blobs(9, seed=1)), run=tmp_path / "run"
    )
    assert len(computed) == 1


def test_fit_with_a_network_by_name_and_a_checkpoint(tmp_path, computed):
    dw.fit("mlp", Bare(make_blobs()), epochs=1, recipe=FAST, checkpoint=tmp_path / "c.safetensors")
    assert len(computed) == 1


def test_race(tmp_path, computed):
    race(Bare(make_blobs()), budget=2, test=Bare(make_blobs(9, seed=1)), seeds=1, recipe=FAST, out=tmp_path / "race")
    assert len(computed) == 2
