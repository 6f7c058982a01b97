"""Options: parsed, typed, handed to the part that has them."""

from __future__ import annotations

import pytest

from datawinnow.api import LoadOptions
from datawinnow.cli.options import MethodOptions, TrainingOptions
from datawinnow.cli.verb import parse_pairs
from datawinnow.core.duration import seconds_of
from datawinnow.core.errors import ArgumentError


@pytest.mark.parametrize(
    ("text", "value"),
    [("32", 32), ("5.5", 5.5), ("1e-3", 1e-3), ("true", True), ("False", False), ("None", None), ("batch", "batch")],
)
def test_a_value_has_the_type_it_looks_like(text, value):
    parsed = parse_pairs([f"some-key={text}"], "--option")["some_key"]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        (["width"], "--option must be KEY=VALUE.*'width'"),
        (["=3"], "KEY=VALUE"),
        (["a=1", "a=2"], "'a' twice: 1 and '2'"),
    ],
)
def test_what_is_no_pair_is_refused(texts, match):
    with pytest.raises(ArgumentError, match=match):
        parse_pairs(texts, "--option")


def test_an_option_goes_to_the_part_that_has_it():
    method = MethodOptions(options={"window": 5, "c_d": 4}).to_method()
    assert dict(method.score_options) == {"window": 5}
    assert dict(method.options) == {"c_d": 4}


def test_an_option_of_neither_part_is_refused_with_those_there_are():
    with pytest.raises(ArgumentError, match=r"dual_beta has no option 'bins'.*c_d.*window"):
        MethodOptions(options={"bins": 4}).to_method()


def test_a_method_and_a_score_at_once_are_refused():
    with pytest.raises(ArgumentError, match=r"either --method .dual. or --score"):
        MethodOptions(method="dual", score="aum").to_method()


def test_only_what_was_set_is_handed_to_load():
    assert LoadOptions().to_dict() == {}
    assert LoadOptions(size=16, split_seed=3, skip_broken=True).to_dict() == {
        "size": 16,
        "seed": 3,
        "on_broken": "skip",
    }


def test_the_network_is_named_again_in_the_next_command():
    training = TrainingOptions(model="mlp", model_options={"width": 32, "depth": 2})
    assert training.network_flags() == ["--model", "mlp", "--model-option", "width=32", "--model-option", "depth=2"]


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("1.5h", 5400), ("45s", 45), ("3600", 3600), ("0", 0)])
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["soon", "5 days", "-3", "1h30m", ""])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ArgumentError, match="`time_limit=` must be a time such as 90m"):
        seconds_of(text)
