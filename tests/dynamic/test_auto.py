"""`auto`: it sends nobody where nobody won, and says why."""

import json
import math
from dataclasses import asdict
from importlib import resources

import pytest
import torch
from scipy import stats

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.dynamic import POLICIES, UCB, LossPower, PolicySampler, auto, expected_fraction, recommend
from datawinnow.dynamic import auto as public
from datawinnow.dynamic.sampler.resume import policy_repr

module = __import__("sys").modules["datawinnow.dynamic.auto"]
WON = {"setting": "squares", "n": 10_000, "passes": 30.0, "noisy": False, "label": "UCB, keep 0.7", "policy": "ucb",
       "options": {"keep": 0.7, "period": 1}, "wrap": (), "gain": 0.01, "half": 0.004, "seeds": 5}  # fmt: skip


@pytest.fixture
def places(monkeypatch):
    """Sets the map."""

    def put(*changes):
        recommendation = tuple(module.MeasuredSetting(**{**WON, **change}) for change in changes)
        monkeypatch.setattr(module, "load_benchmarks", lambda: recommendation)

    return put


def test_a_winner_is_chosen_where_it_won_and_the_line_says_by_how_much(places):
    places({})
    recommendation = recommend(10_000, passes=30)
    assert recommendation.policy == UCB(keep=0.7, period=1)
    for fact in ("UCB, keep 0.7", "+1.0 ± 0.4 points", "squares at 30 passes", "5 seeds"):
        assert fact in recommendation.why, fact


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"half": 0.011}, "no policy beat it on squares at 30 passes"),
        ({"gain": -0.01}, "no policy beat it on squares"),
        ({"seeds": 3}, "no policy beat it with 5 seeds"),
        ({"seeds": 1, "half": None}, "no policy beat it with 5 seeds"),
        ({"noisy": True}, "no benchmark is close to n=10,000 images, 30 passes, clean labels"),
        ({"n": 50_000}, "no benchmark is close to"),
        ({"kind": "texts"}, "no policy was measured on images (n=10,000 images)"),
        ({"passes": 7.0}, "no benchmark is close to"),
    ],
)
def test_all_the_data_where_nothing_won(places, change, words):
    places(change)
    recommendation = recommend(10_000, passes=30)
    assert recommendation.policy is None
    assert recommendation.why.startswith("all the data for 30 epochs: ")
    assert words in recommendation.why


def test_a_place_reaches_four_times_as_far(places):
    places({})
    for n, passes in ((40_000, 30), (2_500, 30), (10_000, 120), (10_000, 7.5), (40_000, 7.5)):
        assert recommend(n, passes=passes).policy is not None, (n, passes)
    for n, passes in ((40_001, 30), (2_499, 30), (10_000, 121), (10_000, 7.4)):
        assert recommend(n, passes=passes).policy is None, (n, passes)


def test_the_nearest_place_decides(places):
    places({}, {"passes": 60.0, "gain": 0.0})
    assert recommend(10_000, passes=41).policy is not None
    assert recommend(10_000, passes=44).policy is None  # nearer to 60 by ratio, where nothing won


def test_of_two_winners_the_surer_is_sent(places):
    places({"gain": 0.02, "half": 0.019}, {"policy": "loss_power", "options": {"keep": 0.7}, "label": "by loss"})
    assert isinstance(recommend(10_000, passes=30).policy, LossPower)


def test_noise_is_asked_for(places):
    places({"noisy": True, "wrap": ("guarded",)})
    recommendation = recommend(10_000, passes=30, noisy=True).policy
    assert recommendation is not None
    assert policy_repr(recommendation).startswith("Guarded(policy=UCB(keep=0.7, period=1")


def test_wrappers_and_lengths_are_those_of_the_budget(places):
    places({"options": {"keep": 0.75, "period": 1}, "wrap": ("shrinking=0.5",)})
    recommendation = recommend(10_000, passes=30).policy
    assert (recommendation.epochs, recommendation.end) == (40, 0.5)
    places({"policy": "info_batch", "options": {}})
    assert recommend(10_000, passes=30).policy.epochs == 42  # of fewer examples each: as the comparison has made it
    places({"wrap": ("warm_up=2", "annealed=full")})
    recommendation = recommend(10_000, passes=30).policy
    assert policy_repr(recommendation).startswith("Annealed(policy=WarmUp(policy=UCB(keep=0.7, period=1")
    assert recommendation.epochs == 40  # two and five on everything, 33 on 0.7: 30.1


def test_a_policy_for_a_loop_that_says_what_it_is(places):
    places({})
    policy = auto(10_000, epochs=40)  # 28 passes
    assert "squares at 30 passes" in policy.why
    sampler, alike = (PolicySampler(each, 10_000, seed=0) for each in (policy, UCB(keep=0.7, period=1)))
    for each in (sampler, alike):
        each.set_epoch(0)
        each.observe(torch.arange(10_000), torch.rand(10_000, generator=stream(0, "loss")))
        each.set_epoch(1)
    assert list(sampler) == list(alike)
    assert len(sampler) == 7_000


def test_a_loop_passes_fewer_examples_than_its_epochs_say(places):
    places({}, {"passes": 43.0, "gain": 0.0})
    assert auto(10_000, epochs=43).policy.keep == 1.0  # where it is 43 passes nothing won
    assert auto(10_000, epochs=41).why.startswith("all the data")
    places({}, {"passes": 58.0})
    assert "at 30 passes" in auto(10_000, epochs=44).why  # 31 passes, though 44 is nearer to 58


def test_where_nothing_won_the_loop_trains_on_everything(places):
    places()
    policy = auto(8, epochs=3)
    plan, _ = policy.plan(2, policy.init(8), lambda *path: stream(0, *path))
    assert sorted(plan.index.tolist()) == list(range(8))
    assert policy.why.startswith("all the data for 3 epochs: no policy was measured on images")


@pytest.mark.parametrize("wrong", [{"n": 0, "passes": 3}, {"n": 10, "passes": 0}, {"n": 10, "passes": math.inf}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(ArgumentError, match=r"n must be|passes must be"):
        recommend(wrong["n"], passes=wrong["passes"])


def test_a_policy_that_loses_elsewhere_as_near_is_not_sent(places):
    places({}, {"setting": "circles", "gain": -0.01})  # as many examples and passes, another network or dataset
    recommendation = recommend(10_000, passes=30)
    assert recommendation.policy is None
    assert "no policy beat it on circles at 30 passes" in recommendation.why
    places({}, {"setting": "circles", "gain": -0.01}, {"policy": "loss_power", "options": {"keep": 0.7}, "gain": 0.006})
    assert isinstance(recommend(10_000, passes=30).policy, LossPower)  # less, but nowhere less than nothing
    places({}, {"setting": "circles", "gain": -0.01, "seeds": 2})  # too few seeds to speak, for or against
    assert "on squares at 30 passes" in recommend(10_000, passes=30).why
    assert recommend(10_000, passes=30).policy is not None
    places({}, {"policy": "loss_power", "options": {"keep": 0.7}, "gain": 0.005})
    assert "(5 seeds, the best of 2 policies)" in recommend(10_000, passes=30).why
    places({}, {"setting": "circles", "gain": 0.006})  # it wins on both: the less is told
    assert "+0.6 ± 0.4 points" in recommend(10_000, passes=30).why


def test_a_place_speaks_for_about_as_many_examples_a_class(places):
    places({"classes": 10}, {"setting": "many", "gain": -0.01, "classes": 100})  # a thousand of each, and a hundred
    assert recommend(10_000, passes=30, classes=10).policy is not None
    assert (
        recommend(10_000, passes=30, classes=25).policy is not None
    )  # 400 a class: within four times of both, nearer to 10
    crowded = recommend(10_000, passes=30, classes=100)
    assert crowded.policy is None
    assert "no policy beat it on many at 30 passes" in crowded.why
    assert recommend(10_000, passes=30).policy is None  # nobody says how many: the worst counts
    assert recommend(10_000, passes=20).policy is None
    places({"classes": 10, "passes": 15.0}, {"setting": "many", "gain": -0.01, "classes": 100})
    assert recommend(10_000, passes=15).policy is None  # also where the loss was measured farther off
    assert recommend(10_000, passes=15, classes=10).policy is not None
    assert recommend(10_000, passes=7.4).policy is not None  # 30 passes are too many to speak for 7.4
    places({"classes": 10}, {"setting": "many", "gain": -0.01, "classes": 100})
    assert auto(10_000, epochs=43, classes=10).why.startswith("UCB, keep 0.7")
    assert auto(10_000, epochs=43, classes=100).policy.keep == 1.0
    places({"classes": 10})
    assert recommend(10_000, passes=30, classes=41).why == (
        "all the data for 30 epochs: no benchmark is close to n=10,000 images of 41 classes, 30 passes, clean labels"
    )
    with pytest.raises(ArgumentError, match="classes must be"):
        recommend(10_000, passes=30, classes=0)


def test_the_best_of_several_policies_must_win_by_more(places):
    settings = [{"options": {"keep": keep, "period": 1}, "gain": 0.0} for keep in (0.3, 0.4, 0.5, 0.6)]
    places({"gain": 0.005}, *settings)  # +0.5 ± 0.4, the best of five
    assert recommend(10_000, passes=30).policy is None
    places({"gain": 0.005}, *({**other, "seeds": 4} for other in settings))  # too few to be rivals
    assert recommend(10_000, passes=30).policy is not None
    places({"gain": 0.007}, *settings)
    assert "(5 seeds, the best of 5 policies)" in recommend(10_000, passes=30).why


def place_of(one):
    return one["n"], one["passes"], one["noisy"], one.get("kind", "images"), one.get("classes")


def ten(k):
    return stats.t.ppf(1 - 0.025 / max(1, k), 9) / stats.t.ppf(0.975, 9)


def says_what_the_table_says(recommendation):
    """`recommend` held to a table of settings, read by hand; where it sent a policy and where it did not."""
    sent, kept = set(), set()
    for spot in {place_of(one) for one in recommendation}:
        worst = {}
        for one in recommendation:
            if place_of(one) == spot and one["seeds"] >= 5:
                key = json.dumps([one["policy"], one["options"], list(one["wrap"])])
                worst.setdefault(key, []).append(one)
        wider = stats.t.ppf(1 - 0.025 / max(1, len(worst)), 4) / stats.t.ppf(0.975, 4)
        assert {one["seeds"] for of in worst.values() for one in of} <= {5, 10}
        worst = {
            key: min(one["gain"] - one["half"] * (wider if one["seeds"] == 5 else ten(len(worst))) for one in of)
            for key, of in worst.items()
        }
        n, passes, noisy, kind, classes = spot
        advice = recommend(n, passes=passes, noisy=noisy, kind=kind, classes=classes)
        if max(worst.values(), default=-1.0) > 0:
            sent.add(spot)
            name, options, wrap = json.loads(max(worst, key=worst.get))
            policy = advice.policy
            for _ in wrap:
                policy = policy.policy
            assert type(policy) is POLICIES[name]
            assert all(getattr(policy, key) == value for key, value in options.items() if "shrinking" not in str(wrap))
        else:
            kept.add(spot)
            assert advice.policy is None, spot
            assert advice.why.startswith(f"all the data for {passes:g} epochs: no"), advice.why
    return sent, kept


def test_auto_says_shorter_full_run_where_the_map_in_the_package_says_so():
    raw = resources.files("datawinnow.dynamic").joinpath("benchmarks.json").read_text(encoding="utf-8")
    settings = json.loads(raw)["settings"]
    # a policy in a loop of one's own does not change the size of its inputs
    says_what_the_table_says([setting for setting in settings if not setting.get("size_schedule")])
    assert recommend(10**9, passes=3).policy is None  # nobody measured there
    assert public is auto


def test_auto_says_what_a_table_says(places):
    recommendation = [
        {},
        {"policy": "loss_power", "options": {"keep": 0.7}, "gain": 0.03, "half": 0.035},
        {"passes": 300.0, "gain": 0.001},
        {"passes": 300.0, "gain": 0.02, "seeds": 4, "label": "too few", "options": {"keep": 0.5, "period": 1}},
        {"passes": 5.0, "gain": 0.03, "setting": "a"},
        {"passes": 5.0, "gain": -0.03, "setting": "b"},
        {"noisy": True, "gain": -0.02},
        {"noisy": True, "gain": 0.01, "wrap": ("guarded",)},
        {"n": 500_000, "gain": -0.005},
        {"kind": "texts", "gain": -0.005},
    ]
    places(*recommendation)
    sent, kept = says_what_the_table_says([{**WON, **one} for one in recommendation])
    assert {(*spot, "images", None) for spot in ((10_000, 30.0, False), (10_000, 30.0, True))} == sent
    lost = ((10_000, 300.0, False), (10_000, 5.0, False), (500_000, 30.0, False))
    assert {(*spot, "images", None) for spot in lost} | {(10_000, 30.0, False, "texts", None)} == kept


def test_every_place_of_the_map_can_be_made():
    for place in module.load_benchmarks():
        built = place.build(place.passes)
        if built is None:  # small inputs first, on all the data
            assert place.size_schedule
            continue
        assert 0 < expected_fraction(built, max(1, round(place.passes))) <= 1
        assert json.loads(json.dumps(asdict(place)))["seeds"] >= 1


def test_kinds_never_stand_for_each_other(places):
    places({}, {"kind": "texts", "setting": "sentences"})
    for kind, where in (("images", "squares"), ("texts", "sentences")):
        assert f"on {where} at 30 passes" in recommend(10_000, passes=30, kind=kind).why
    vectors = recommend(10_000, passes=30, kind="vectors", classes=10, size=64)
    assert vectors.policy is None
    assert vectors.why == (
        "all the data for 30 epochs: no policy was measured on vectors (n=10,000 vectors (64 numbers) of 10 classes)"
    )
    policy = auto(10_000, epochs=30, kind="vectors", size=64)
    assert policy.policy.keep == 1.0
    with pytest.raises(ArgumentError, match="kind must be one of 'images', 'texts', 'vectors', got 'sounds'"):
        recommend(10_000, passes=30, kind="sounds")


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"channels": 3, "size": 32}, "colour"),
        ({"channels": 1, "size": 8}, "grey"),
        ({"channels": 1, "size": 28}, "colour"),  # 1.6 octaves of channels; 1.8 of size
        ({"channels": 3, "size": 9}, "grey"),
        ({"channels": 1, "size": 32}, "colour"),
    ],
)
def test_of_equal_counts_the_nearest_by_channels_and_size_decides(places, data, where):
    places(
        {"setting": "colour", "channels": 3, "size": 32, "classes": 10},
        {"setting": "grey", "channels": 1, "size": 8, "classes": 10},
    )
    assert f"on {where} at 30 passes" in recommend(10_000, passes=30, classes=10, **data).why


@pytest.mark.parametrize(
    ("data", "is_near"),
    [
        ({"size": 128}, True),
        ({"size": 129}, False),
        ({"size": 8}, True),
        ({"channels": 12}, True),
        ({"channels": 13}, False),
        ({"n": 40_000, "classes": 41}, False),  # 976 of each, and yet another task
        ({"n": 40_000, "classes": 40}, True),
    ],
)
def test_a_setting_reaches_four_times_as_far_in_each_respect(places, data, is_near):
    places({"channels": 3, "size": 32, "classes": 10})
    changed = {"n": 10_000, "classes": 10, "channels": 3, "size": 32} | data
    assert (recommend(changed.pop("n"), passes=30, **changed).policy is not None) == is_near


def test_every_image_setting_of_the_map_has_a_shape():
    for setting in module.load_benchmarks():
        assert (setting.channels is None) == (setting.size is None) == (setting.kind != "images"), setting.setting
