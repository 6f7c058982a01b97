"""Inputs for each method of each folder; a method without a case fails at collection."""

from collections.abc import Callable

import torch

from datawinnow.core.rng import stream

EPOCHS = 12
CLASSES = 4


def recorded(n, seed=0):
    """Every array that a method may need, for ``n`` examples, all consistent in shape and range."""
    g = stream(seed, "conformance", n)
    p = torch.rand(EPOCHS, n, generator=g)
    score = torch.rand(n, generator=g)
    return {
        "labels": torch.randint(0, CLASSES, (n,), generator=g),
        "p_label": p,
        "margin": torch.randn(EPOCHS, n, generator=g) * 3,
        "error_norm": torch.rand(EPOCHS, n, generator=g) * 1.4,
        "entropy": torch.rand(EPOCHS, n, generator=g),
        "correct": p > 0.5,
        "seen": torch.ones(EPOCHS, n, dtype=torch.bool),
        "score": score,
        "dual": score * 0.3,
    }


def constant(n):
    """The same for examples that cannot be told apart."""
    return {name: array[..., :1].expand(*array.shape[:-1], n).clone() for name, array in recorded(n).items()}


# option sets with which a method is run beside its defaults
SCORES: dict[str, list[dict[str, object]]] = {
    "aum": [{}],
    "dual": [{}, {"window": 3}],
    "dyn_unc": [{}, {"window": 12}],
    "el2n": [{}, {"first": 2, "last": 5}],
    "entropy": [{}, {"epoch": 0}],
    "forgetting": [{}, {"never_learned": "zero"}],
}
SELECTORS: dict[str, list[dict[str, object]]] = {
    "beta": [{}, {"c_d": 2.0, "total": 16.0, "mu_top": 3}],
    "coverage": [{}, {"bins": 7, "end": "high"}],
    "random": [{}],
    "top": [{}, {"end": "low"}, {"end": "middle"}],
}


def cases(methods: dict[str, Callable[..., object]], options: dict[str, list[dict[str, object]]]):
    """(method, options) of every method, with ids.

    Raises:
        LookupError: a method without a case, or a case without a method; at collection, so no test can be forgotten.
    """
    import pytest

    if set(methods) != set(options):
        raise LookupError(
            f"methods without a conformance case: {sorted(set(methods) - set(options))}; "
            f"cases without a method: {sorted(set(options) - set(methods))} (tests/conformance/cases.py)"
        )
    return [
        pytest.param(methods[key], chosen, id="-".join([key, *(f"{k}={v}" for k, v in chosen.items())]))
        for key, sets in options.items()
        for chosen in sets
    ]
