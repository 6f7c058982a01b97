"""What a run takes where nothing is given: policies by name, Beta sampling for the training planned, fractions."""

from __future__ import annotations

import pytest

import datawinnow as dw
from datawinnow.core.budget import budget_of, parse_fraction
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.build import build_policy, policy_of_run
from tests.train.helpers import PLAIN, blobs, vector_net, weights

RECIPE = dw.Recipe(**PLAIN)


def test_a_policy_by_name_keeps_seven_tenths_and_ucb_plans_each_epoch():
    assert policy_of_run("ucb", 3) == dw.dynamic.UCB(keep=0.7, period=1)
    assert policy_of_run("ucb", 3, keep=0.4, options={"period": 5}) == dw.dynamic.UCB(keep=0.4, period=5)
    assert policy_of_run("random", 2.5) == dw.dynamic.RandomPruning(keep=0.7)
    assert policy_of_run("info_batch", 4).epochs == 4
    assert build_policy("ucb", keep=0.7).period == 10  # a grid takes what is published
    with pytest.raises(ArgumentError, match="Did you mean 'warm_up'"):
        policy_of_run("ucb", 3, wrap=["warmup=2"])


def test_fit_takes_a_policy_by_name():
    by_name, history = dw.fit(vector_net(), blobs(), epochs=3, policy="ucb", **PLAIN)
    by_object, _ = dw.fit(vector_net(), blobs(), epochs=3, policy=dw.dynamic.UCB(keep=0.7, period=1), **PLAIN)
    assert weights(by_name).equal(weights(by_object))
    assert [row["examples"] for row in history.rows] == [60, 42, 42]


def test_beta_sampling_is_fitted_to_the_training_planned(tmp_path):
    kwargs = {"keep": 0.5, "epochs": 12, "recipe": RECIPE}

    def settings(**options):
        return dw.prune(blobs(), run=tmp_path / str(options), **kwargs, **options).run.metadata["options"]["select"][
            "options"
        ]

    assert settings()["train_epochs"] == 12
    assert settings(train_epochs=40)["train_epochs"] == 40
    assert settings(schedule_epochs=60)["train_epochs"] == 60
    assert "train_epochs" not in settings(schedule_epochs=200)  # what c_d is published for
    assert settings(options={"c_d": 4})["c_d"] == 4
    kept = dw.api.select(tmp_path / "{}", keep=0.5, data=blobs(), out=tmp_path / "again.parquet")
    first, _ = dw.read_selection(tmp_path / "{}")
    assert kept.selection.index.equal(first.index)


def test_fractions_may_be_percentages():
    assert parse_fraction(" 30 %") == 0.3
    assert len(dw.prune(blobs(), keep="50%", method="random")) == 30
    with pytest.raises(ArgumentError, match="30%, got 'half'"):
        parse_fraction("half")
    with pytest.raises(ArgumentError, match=r"for 30 in a hundred give 0\.3 or 30%"):
        budget_of(30, 100)
