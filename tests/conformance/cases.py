"""Inputs for the methods of each folder: every method is run on them, with its defaults and with the options below."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

from datawinnow.core.arrays import TABLE
from datawinnow.core.rng import stream
from datawinnow.methods.method import random_array

EPOCHS = 12
CLASSES = 4
WIDTH = 6
HELD_OUT = 9
RUNS = 8


def recorded(n, seed=0):
    """Every array of the table and every score, for ``n`` examples.

    Arrays whose values depend on each other are made here; the others are random, by their row in the table.
    """
    g = stream(seed, "conformance", n)
    p = torch.rand(EPOCHS, n, generator=g)
    score = torch.rand(n, generator=g)
    arrays = {
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
    g = stream(seed, "conformance", "probed", n)
    margin = torch.rand(EPOCHS, n, generator=g) * 2 - 1
    held_out_generator = stream(seed, "conformance", "held out")  # the same whatever n
    arrays |= {
        "loss": -p.log(),
        "kl_step": torch.rand(EPOCHS - 1, n, generator=g),
        "margin_softmax": margin,
        "margin_top2": margin.abs(),
        "features": torch.randn(n, WIDTH, generator=g) + torch.eye(CLASSES, WIDTH)[arrays["labels"]],
        "probs": torch.randn(n, CLASSES, generator=g).softmax(1),
        "grad_norm": torch.rand(n, generator=g) * 5,
        "curvature": torch.rand(n, generator=g) * 2,
        "boundary_distance": torch.rand(n, generator=g),
        "cost": torch.rand(n, generator=g) + 0.5,
        "val_features": torch.randn(HELD_OUT, WIDTH, generator=held_out_generator),
        "val_probs": torch.randn(HELD_OUT, CLASSES, generator=held_out_generator).softmax(1),
        "val_labels": torch.arange(HELD_OUT) % CLASSES,
        "subset_mask": (torch.arange(n) + torch.arange(RUNS)[:, None] * 3) % RUNS < 5,
        "subset_correct": torch.rand(RUNS, n, generator=g) < 0.6,
    }
    sizes = {"epochs": EPOCHS, "n": n, "d": WIDTH, "c": CLASSES, "v": HELD_OUT, "runs": RUNS, "k": 3}
    for name in TABLE:
        if name not in arrays:
            arrays[name] = random_array(name, sizes, stream(seed, "conformance", name, n))
    return arrays


def axis_of(name):
    """Which axis of an array runs over the examples; None if none does."""
    axes = TABLE[name].axes if name in TABLE else ("n",)
    return axes.index("n") if "n" in axes else None


def at(arrays, index):
    """The arrays of the examples at ``index`` only, in that order."""
    index = torch.as_tensor(index)
    return {k: a if axis_of(k) is None else a.index_select(axis_of(k), index) for k, a in arrays.items()}


def constant(n):
    """The same for examples that cannot be told apart."""
    return at(recorded(n), torch.zeros(n, dtype=torch.int64))


def with_nan(arrays, i):
    """Copies with every number of example ``i`` not a number; ids and bits stay."""
    out = {}
    for name, array in arrays.items():
        out[name] = array.clone()
        if array.is_floating_point() and axis_of(name) is not None:
            out[name].select(axis_of(name), i).fill_(torch.nan)
    return out


def shape_error(name):
    """An array of a wrong shape, and what the error about it says."""
    axes = TABLE[name].axes if name in TABLE else ("n",)
    shown = "(" + ", ".join(axes) + ("," if len(axes) == 1 else "") + ")"
    wrong = torch.zeros(5) if len(axes) > 1 else torch.zeros(2, 5)
    return wrong, re.escape(f"{name} must have shape {shown}, got {tuple(wrong.shape)}")


SCORE_OPTIONS: dict[str, list[dict[str, object]]] = {
    "dual": [{"window": 3}],
    "dyn_unc": [{"window": 12}],
    "el2n": [{"first": 2, "last": 5}],
    "entropy": [{"epoch": 0}],
    "forgetting": [{"never_learned": "zero"}],
    "loss": [{"epoch": 3}, {"first": 2, "last": 5}],
    "margin": [{"epoch": 0}],
    "moderate": [{"metric": "cosine"}],
    "prototypes": [{"clusters": 3}, {"metric": "euclidean"}],
    "tdds": [{"window": 4, "decay": 0.5}],
}
"""Options with which a score is run besides its defaults."""
SELECTOR_OPTIONS: dict[str, list[dict[str, object]]] = {
    "boss": [{"a": 4.0, "b": 1.0, "form": "sparse", "neighbours": 5}],
    "cal": [{"neighbours": 3, "symmetric": True, "end": "low"}],
    "d2": [{"neighbours": 3, "gamma": 1.0, "power": 2}],
    "herding": [{"normalise": True}],
    "k_center": [{"outliers": 4}],
    "beta": [{"c_d": 2.0, "total": 16.0, "mu_top": 3}],
    "coverage": [{"bins": 7, "end": "high"}],
    "craig": [{"weights": False, "form": "sparse", "neighbours": 4}],
    "facility_location": [
        {"form": "sparse", "neighbours": 5, "similarity": "rbf"},
        {"form": "blocked", "greedy": "naive"},
    ],
    "glister": [{"refresh": 1, "step": 0.5}, {"reduce": "mean"}],
    "grad_match": [{"lam": 0.0}, {"weights": False}],
    "graph_cut": [{"lam": 2.0, "form": "sparse", "neighbours": 5}],
    "log_det": [{"ridge": 1.0, "greedy": "naive"}],
    "middle": [{"centre": 0.2}],
    "top": [{"end": "low"}, {"end": "middle"}],
}
"""Options with which a selector is run besides its defaults."""
CONDENSER_OPTIONS: dict[str, list[dict[str, object]]] = {
    "cafe": [{"window": 2, "query": 4, "outer_most": 3, "inner_most": 3}],
    "dc": [{"outer": 2, "inner": 2}, {"metric": "cos"}],
    "dm": [{}, {"augment": None, "init": "noise"}],
    "dsa": [{}, {"together": False}],
    "idm": [{"steps": 2, "net_batch": 8, "ce_weight": 0.5}, {"factor": 1, "steps": 1, "net_batch": 8}],
}
"""Options with which a condenser is run; without an entry, its defaults."""


def keys_of_files(package: ModuleType, kind: str) -> set[str]:
    """Keys of the methods of a kind by the files of a package, registered or not: a file is called as its method."""
    files = Path(package.__file__).parent.glob("*.py")
    return {file.stem for file in files if re.search(rf'^@card\(\s*"{kind}",', file.read_text(), re.MULTILINE)}


def cases(
    methods: dict[str, Callable[..., object]],
    options: dict[str, list[dict[str, object]]],
    *,
    defaults: bool = True,
    files: set[str] | None = None,
):
    """(method, options) of every method, with ids.

    Args:
        methods: key -> method.
        options: key -> further options to run it with.
        defaults: whether a method with an entry in ``options`` is run with its defaults too.
        files: of `keys_of_files`, each of which must have a case.

    Raises:
        LookupError: options of a method that does not exist, or a method in a file that has no case; at collection, so
            that no method goes untested.
    """
    import pytest

    if not set(options) <= set(methods):
        raise LookupError(f"options of no method: {sorted(set(options) - set(methods))} (tests/conformance/cases.py)")
    if not (files or set()) <= set(methods):
        raise LookupError(
            f"without a conformance case: {sorted(files - set(methods))}; import it where it is registered"
        )
    return [
        pytest.param(method, chosen, id="-".join([key, *(f"{k}={v}" for k, v in chosen.items())]))
        for key, method in methods.items()
        for chosen in [*([{}] if defaults or key not in options else []), *options.get(key, [])]
    ]
