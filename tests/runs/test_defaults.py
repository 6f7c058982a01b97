"""What a run takes where nothing is given: policies by name, Beta sampling for the training planned, fractions."""

from __future__ import annotations

import pytest

import datawinnow as dw
from datawinnow.core.budget import budget_of, parse_fraction
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.build import build_policy, policy_of_run
from datawinnow.instruct.choose import pairs_budget
from datawinnow.methods import create_method
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
    for text, shown in (("130%", "got 1.3 (130%; at most 100%)"), (1.5, "got 1.5 (150%; at most 100%)")):
        with pytest.raises(ArgumentError) as error:
            budget_of(parse_fraction(text), 10)
        assert shown in str(error.value)
        assert "in a hundred" not in str(error.value), "1.3% was not meant"
    with pytest.raises(ArgumentError, match=r"for 30 in a hundred give 0\.3 or 30%"):
        budget_of(30, 100)


def test_every_verb_and_option_takes_percentages(tmp_path):
    kwargs = {"epochs": 1, "model": vector_net(), "recipe": RECIPE}
    half = dw.api.train(blobs(), policy="random", keep="50%", run=tmp_path / "half", **kwargs)
    assert half.run.history().column("examples").to_pylist() == [30]
    by_option = {"policy": "random", "policy_options": {"keep": "50%"}}
    same = dw.api.train(blobs(), **by_option, run=tmp_path / "same", **kwargs)
    assert same.run.metadata["options"]["train"] == half.run.metadata["options"]["train"]
    seconds = [dw.api.estimate(blobs(), keep=keep, train_epochs=3, **kwargs)["disk"] for keep in ("50%", 0.5)]
    assert seconds[0] == seconds[1]
    race = dw.race(blobs(), budget=1, test=blobs(), policy="random", keep="50%", model=vector_net, recipe=RECIPE,
                   out=tmp_path / "race", report=False)  # fmt: skip
    assert race.label.endswith("keep 0.5")
    assert create_method("ccs", options={"cutoff": "20%"}).options["cutoff"] == 0.2
    assert build_policy("ucb", keep="40%", epochs=4, wrap=["shrinking=50%:90%"]).end == 0.5
    assert dw.vit.SparseLevels(keep_tokens="70%").keep_tokens == 0.7
    assert dw.LoadOptions(holdout="25%").to_dict() == {"holdout": 0.25}
    assert len(dw.load("digits", holdout="25%")[1]) == len(dw.load("digits", holdout=0.25)[1])
    assert pairs_budget("30%", 10) == pairs_budget("3", 10) == 3
