"""A policy by name, and a training with one in a run folder."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from datawinnow import api, dynamic
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.dynamic.budget import expected_fraction
from datawinnow.dynamic.build import build_policy
from datawinnow.train import Recipe
from tests.dynamic.helpers import logged
from tests.train.helpers import blobs

RECIPE = Recipe(precision="fp32", batch=16)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("ucb", {"keep": 0.5, "options": {"period": 3}}, dynamic.UCB(0.5, period=3)),
        ("random", {"keep": 0.3}, dynamic.RandomPruning(0.3)),
        ("rs2", {"keep": 0.3}, dynamic.RepeatedSubset(0.3)),
        ("InfoBatch", {}, dynamic.InfoBatch(8)),
        ("example-swap", {"keep": 0.7}, dynamic.ExampleSwap(keep=0.7)),
        ("example_swap", {}, dynamic.ExampleSwap()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_name_the_fraction_and_options_make_a_policy(name, options, expected):
    assert build_policy(name, epochs=8, **options) == expected


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("ucb", {}, "the policy 'ucb' needs the fraction kept of an epoch"),
        (
            "info_batch",
            {"keep": 0.5},
            "'info_batch' sets the number of examples itself.* its options are: drop, delta, form",
        ),
        ("ucbb", {"keep": 0.5}, "no policy is called 'ucbb'. Did you mean 'ucb'"),
        ("static_subset", {}, "the policy .static_subset. needs selection"),
        ("ucb", {"keep": 0.5, "options": {"peroid": 1}}, "ucb has no option 'peroid'; its options are: period"),
        ("ucb", {"keep": 1.5}, "keep"),
        ("nope", {}, r"There are: auto, .*replay, .*ucb"),
        ("auto", {}, r"auto chooses by the data: call datawinnow.dynamic.auto"),
        ("replay", {}, "the policy 'replay' needs history"),
        ("ucb", {"keep": 0.5, "passes": 3}, "give `epochs=` or `passes=`, not both"),
    ],
)
def test_what_makes_none_is_named(name, options, match):
    with pytest.raises(ArgumentError, match=match):
        build_policy(name, epochs=8, **options)


def test_a_length_is_asked_for_where_the_policy_depends_on_it():
    assert build_policy("ucb", keep=0.5) == dynamic.UCB(0.5)
    with pytest.raises(ArgumentError, match="the policy 'info_batch' needs the length of the run"):
        build_policy("info_batch")
    with pytest.raises(ArgumentError, match="the wrapper 'annealed' needs the length of the run"):
        build_policy("ucb", keep=0.5, wrap=["annealed"])


def test_a_replay_is_built_like_any_policy():
    history = logged(12, epochs=3)
    policy = build_policy("replay", options={"history": history, "after": "cycle"}, wrap=["warm_up=1"])
    assert policy == dynamic.warm_up(dynamic.Replay(history, after="cycle"), 1)


def test_the_fraction_of_an_epoch_is_a_method_of_the_policy():
    ucb = dynamic.UCB(keep=0.5)
    assert [ucb.fraction(epoch) for epoch in (0, 1)] == [1.0, 0.5]
    assert dynamic.UCB(keep=0.5, first="random").fraction(0) == 0.5
    assert [dynamic.annealed(ucb, 8).fraction(epoch) for epoch in (0, 6, 7)] == [1.0, 0.5, 1.0]
    assert [dynamic.every(ucb, 3).fraction(epoch) for epoch in (2, 3)] == [1.0, 0.5]
    assert dynamic.annealed(ucb, 8).run_epochs == dynamic.guarded(dynamic.annealed(ucb, 8)).run_epochs == 8
    assert dynamic.warm_up(ucb, 2).run_epochs is None


def test_a_training_by_policy_tells_the_fractions_and_is_not_mixed_with_another(tmp_path):
    train_kwargs = {"epochs": 4, "recipe": RECIPE, "model": "mlp", "test": blobs(seed=1)}
    folder = api.train(blobs(), run=tmp_path / "run", policy=dynamic.RandomPruning(0.25), **train_kwargs).run
    history = pq.read_table(folder.path / "history.parquet")
    assert history.column("fraction").to_pylist() == [0.25] * 4
    assert folder.metadata["cost"]["train"]["backward"] == 60
    assert folder.metadata["options"]["train"]["policy"] == "RandomPruning(keep=0.25)"
    with pytest.raises(
        RunError, match=r"with `policy='RandomPruning\(keep=0\.25\)'`, now it is the default of `policy=`"
    ):
        api.train(blobs(), run=tmp_path / "run", **train_kwargs)
    train_kwargs["policy"] = dynamic.RandomPruning(0.25)
    with pytest.raises(RunError, match=r"was started with `batch=16`, now it is `batch=8`: use another `run=`"):
        api.train(blobs(), run=tmp_path / "run", **{**train_kwargs, "recipe": replace(RECIPE, batch=8)})
    # workers change no result
    train_kwargs["recipe"] = replace(RECIPE, workers=2)
    assert api.train(blobs(), run=tmp_path / "run", **train_kwargs).run.metadata == folder.metadata


@pytest.mark.parametrize(
    ("name", "passes", "options", "epochs"),
    [
        # all for one epoch, then half: 1 + 18 / 2
        ("ucb", 10, {"keep": 0.5}, 19),
        ("random", 10, {"keep": 0.5}, 20),
        ("rs2", 6, {"keep": 0.5, "wrap": ["warm_up=2"]}, 10),
    ],
)
def test_a_budget_becomes_the_epochs_that_what_ends_them_is_told(name, passes, options, epochs):
    wrap = [*options.pop("wrap", []), "annealed=partial:0.5"]
    policy = build_policy(name, passes=passes, wrap=wrap, **options)
    assert (policy.epochs, policy.share, policy.mode) == (epochs, 0.5, "partial")


def test_a_budget_of_a_policy_that_anneals_to_everything_is_met():
    policy = build_policy("info_batch", passes=21)
    assert policy.epochs * expected_fraction(policy) == pytest.approx(21, abs=0.7)
    bare = build_policy("random", passes=21, keep=0.5, wrap=["annealed"])
    assert bare.epochs * expected_fraction(bare) == pytest.approx(21, abs=0.7)


def test_wrappers_stand_inside_out():
    policy = build_policy("random", epochs=8, keep=0.5, wrap=["rescaled", "every=2", "warm_up=1"])
    assert policy == dynamic.warm_up(dynamic.every(dynamic.rescaled(dynamic.RandomPruning(0.5)), 2), 1)
    policy = build_policy("ucb", epochs=8, keep=0.7, wrap=["shrinking=0.5:0.9", "guarded"])
    assert policy == dynamic.guarded(dynamic.shrinking(dynamic.UCB(0.7), 8, end=0.5, start=0.9))
    assert build_policy("random", passes=6, keep=1.0, wrap=["shrinking=0.5"]).epochs == 8  # three quarters on average


@pytest.mark.parametrize(
    "text",
    ["rescaled=2", "every=x", "warm_up=", "annealed=often", "annealed=full:x", "other", "guarded=1", "shrinking=x"],
)
def test_a_wrapper_that_is_none_is_named(text):
    with pytest.raises(ArgumentError, match=text.partition("=")[0]):
        build_policy("random", epochs=8, keep=0.5, wrap=[text])
