"""Cards and docstrings of every policy and batch selector, and no file forgotten."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

from datawinnow import dynamic
from datawinnow.core.arrays import TABLE
from datawinnow.core.card import Card, card_of, check_options, resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic import UCB
from datawinnow.dynamic.build import build_policy
from tests.conformance.test_cards import SOURCE, check_card
from tests.dynamic.helpers import bound

FILES = [file for file in sorted(Path(dynamic.__file__).parent.glob("*.py")) if file.stem != "__init__"]
every_method = pytest.mark.parametrize("method", dynamic.METHODS.values(), ids=dynamic.METHODS.keys())


def test_no_file_is_forgotten():
    cards = {}
    for file in FILES:
        module = importlib.import_module(f"{dynamic.__name__}.{file.stem}")
        carded = [m for m in vars(module).values() if isinstance(getattr(m, "card", None), Card)]
        carded = {m.card.key: m for m in carded if m.__module__ == module.__name__}
        assert set(carded) <= {file.stem}, f"{file.name} holds its policy under its own name"
        cards |= carded
    assert cards == dynamic.METHODS, "import the policy in registry.py"
    assert dynamic.METHODS == dynamic.POLICIES | dynamic.BATCH_SELECTORS
    assert {m.__name__ for m in cards.values()} <= set(dynamic.__all__), "import and name the policy in __init__.py"
    assert {m.card.kind for m in dynamic.POLICIES.values()} == {"policy"}
    assert {m.card.kind for m in dynamic.BATCH_SELECTORS.values()} == {"batch selector"}


@every_method
def test_the_card_is_complete(method):
    card = method.card
    check_card(card)
    assert set(card.needs) <= set(TABLE)
    assert "budget" in card.takes or card.kind == "policy"
    parameters = inspect.signature(method).parameters.values()
    assert set(card.options) | set(card.takes) | (set(card.needs) if card.kind != "policy" else set()) == {
        p.name for p in parameters
    }
    assert all(card.options[p.name] == p.default for p in parameters if p.name in card.options)


@every_method
def test_the_docstring_says_everything(method):
    doc = inspect.getdoc(method)
    for section in ("Args:", "Returns:", "Raises:", "References:"):
        assert f"\n{section}\n" in doc, f"{section} is missing"
    entries = re.findall(r"^    (\w+): ", doc.split("\nArgs:\n")[1].split("\nReturns:\n")[0], flags=re.MULTILINE)
    assert entries == list(inspect.signature(method).parameters)
    source = re.search(SOURCE, method.card.source).group()
    assert source.removeprefix("arXiv ") in doc.split("\nReferences:\n")[1]
    assert ">>> " in doc


@pytest.mark.parametrize("method", dynamic.POLICIES.values(), ids=dynamic.POLICIES.keys())
def test_policies_are_frozen_dataclasses_that_nothing_prunes_by_ratio(method):
    assert dataclasses.is_dataclass(method)
    assert method.__dataclass_params__.frozen
    names = {f.name for f in dataclasses.fields(method)}
    assert not names & {"ratio", "prune_ratio", "pruning_ratio", "r"}  # a name says whether it keeps or drops


@pytest.mark.parametrize(
    ("key", "defaults"),
    {
        "epsilon_greedy": {"epsilon": 0.1, "period": 10, "alpha": 0.8},
        "ucb": {"period": 10, "alpha": 0.8, "c": 1.0},
        "info_batch": {"drop": 0.5, "delta": 0.875, "form": "mean"},
        "hide_easy": {"confidence": 0.7, "rescale": "allowed"},
        "stop_mastered": {"delta": 1e-3},
        "middle_loss": {"times_loss": True},
        "seta": {"groups": 10, "window": 0.5, "drop": 0.0, "delta": 0.875, "rounding": "round"},
        "order_dp": {"pool": 0.75},
        "repeated_subset": {"replacement": False},
        "example_swap": {"keep": 0.8, "period": 30, "swap": 0.05, "swaps": 5},
        "selective_backprop": {"beta": 3.0, "minimum": 0.0, "window": 1024, "form": "percentile"},
    }.items(),
)
def test_defaults_are_the_published_ones(key, defaults):
    signature = inspect.signature(dynamic.METHODS[key]).parameters
    assert {name: signature[name].default for name in defaults} == defaults


def test_annealing_by_name_begins_where_published_annealing_does():
    for annealing in ("full", "partial"):
        policy = build_policy("random", epochs=8, keep=0.5, wrap=[f"annealed={annealing}"])
        sizes = [len(policy.plan(epoch, policy.init(8), bound(0))[0]) for epoch in range(8)]
        assert (policy.share, policy.mode, sizes) == (0.875, annealing, [4] * 7 + [8 if annealing == "full" else 4])
    assert build_policy("random", epochs=8, keep=0.5, wrap=["annealed"]) == dynamic.annealed(
        dynamic.RandomPruning(0.5), 8, 0.875, "full"
    )


def test_a_card_of_a_class_reads_its_fields():
    card = card_of(UCB)
    assert (card.key, card.needs, card.takes) == ("ucb", ("loss",), ("keep",))
    assert dict(card.options) == {
        "period": 10,
        "alpha": 0.8,
        "c": 1.0,
        "first": "all",
        "signal": "loss",
        "on_resize": "keep",
    }
    assert card_of(UCB(keep=0.5)) is card
    assert resolve("info-batch", dynamic.POLICIES, kind="policy") is dynamic.InfoBatch
    check_options(UCB, {"keep": 0.5, "period": 1})
    with pytest.raises(
        ArgumentError, match="ucb has no option 'epsilon'; its options are: period, alpha, c, first, signal"
    ):
        check_options(UCB, {"epsilon": 0.1})
