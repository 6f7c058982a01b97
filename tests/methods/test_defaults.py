"""Defaults that decide what is kept: a changed one changes every result without a word."""

from datawinnow import scores, select
from datawinnow.core.card import card_of

GREEDY = {"greedy": "lazy", "epsilon": 0.1, "sample_seed": 0}
DEFAULTS = {
    "score dual": {"window": 10},
    "score dyn_unc": {"window": 10},
    "score el2n": {"first": 0, "last": 10},
    "score entropy": {"epoch": -1},
    "score forgetting": {"never_learned": "max"},
    "score loss": {"epoch": -1, "first": None, "last": None},
    "score margin": {"epoch": -1},
    "score moderate": {"metric": "euclidean"},
    "score prototypes": {"clusters": None, "metric": "cosine"},
    "score tdds": {"window": 10, "decay": 0.9},
    "selector beta": {"c_d": None, "train_epochs": None, "total": 15.0, "mu_top": 10},
    "selector boss": {"a": 2.0, "b": 2.0, "form": "auto", "neighbours": 128},
    "selector cal": {"neighbours": 10, "symmetric": False, "end": "high"},
    "selector contextual_diversity": {"first": None},
    "selector coverage": {"bins": 50, "cutoff": 0.0, "end": "low"},
    "selector craig": {"weights": True, "mean_weight_one": True, "form": "auto", "neighbours": 32, **GREEDY},
    "selector d2": {"neighbours": 5, "gamma": 0.1, "gamma_forward": 1.0, "power": 1},
    "selector facility_location": {"similarity": "cosine", "gamma": None, "form": "auto", "neighbours": 32, **GREEDY},
    "selector glister": {"step": 0.01, "refresh": None, "reduce": "sum"},
    "selector grad_match": {"lam": 0.5, "tolerance": 0.0001, "weights": True, "mean_weight_one": True},
    "selector graph_cut": {
        "lam": 0.5,
        "similarity": "cosine",
        "gamma": None,
        "form": "auto",
        "neighbours": 32,
        **GREEDY,
    },
    "selector herding": {"normalise": False},
    "selector k_center": {"first": None, "outliers": 0},
    "selector log_det": {"similarity": "dot", "ridge": 0.01, **GREEDY},
    "selector middle": {"centre": 0.5},
    "selector top": {"end": "high"},
}


def test_defaults_are_those_that_were_published_or_chosen() -> None:
    actual = {
        f"{card_of(function).kind} {name}": dict(card_of(function).options)
        for registry in (scores.METHODS, select.METHODS)
        for name, function in registry.items()
        if card_of(function).options
    }
    assert actual == DEFAULTS
