"""What every selector must do."""

import random

import numpy as np
import pytest
import torch

from datawinnow import select
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.select import METHODS, per_class
from tests.conformance.cases import SELECTOR_OPTIONS, at, axis_of, cases, constant, keys_of_files, recorded, with_nan

PLAIN = cases(METHODS, SELECTOR_OPTIONS, files=keys_of_files(select, "selector"))
every_selector = pytest.mark.parametrize(("method", "options"), PLAIN)
N = 37


def is_random(method):
    return "generator" in method.card.takes


def choose(method, arrays, options, budget, seed=0):
    extra = {"generator": stream(seed, "select")} if is_random(method) else {}
    return method(*[arrays[name] for name in method.card.needs], budget=budget, **extra, **options)


def balanced(method):
    """The selector wrapped by `per_class`, with the labels of the case."""
    wrapped = per_class(method)

    def call(*arrays, **kwargs):
        axis = axis_of(method.card.needs[0])
        n = arrays[0].shape[axis]
        return wrapped(*arrays, labels=recorded(n)["labels"], **kwargs)

    call.card = wrapped.card
    return call


@every_selector
@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "per_class"])
@pytest.mark.parametrize("arrays", [recorded(N), constant(N)], ids=["varied", "constant"])
@pytest.mark.parametrize(
    "budgets",
    [(1, 2, 3, 4, 5, 9, 18, 24, N - 2, N - 1, N), pytest.param(range(1, N + 1), marks=pytest.mark.slow)],
    ids=["some budgets", "every budget"],
)
def test_exactly_budget_unique_ids_with_reasons(method, options, wrapped, arrays, budgets):
    method = balanced(method) if wrapped else method
    for budget in budgets:
        selection = choose(method, arrays, options, budget)
        assert selection.index.dtype == torch.int64
        assert selection.index.unique().numel() == selection.index.numel() == budget
        assert int(selection.index.min()) >= 0
        assert int(selection.index.max()) < N
        if options.get("weights", method.card.options.get("weights", False)):  # weights that the method defines
            assert float(selection.weight.mean()) == pytest.approx(1, abs=1e-5)
        else:
            assert torch.equal(selection.weight, torch.ones(budget))
        kept = torch.tensor([Reason(int(r)).kept for r in selection.reason])
        assert torch.equal(kept, selection.mask(N))


@every_selector
def test_same_generator_same_answer_and_another_differs(method, options):
    arrays = recorded(N)
    one = choose(method, arrays, options, 10)
    assert torch.equal(one.index, choose(method, arrays, options, 10).index)
    other_ids = [choose(method, arrays, options, 10, seed=s).index.tolist() for s in range(1, 5)]
    if is_random(method):
        assert any(o != one.index.tolist() for o in other_ids)
    else:
        assert all(o == one.index.tolist() for o in other_ids)


@every_selector
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_and_global_randomness_are_untouched(method, options, dtype):
    arrays = {k: a.to(dtype) if a.is_floating_point() else a for k, a in recorded(N).items()}
    before = {k: a.clone() for k, a in arrays.items()}
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    choose(method, arrays, options, 9)
    assert all(torch.equal(arrays[k], before[k]) for k in arrays)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


@every_selector
@pytest.mark.parametrize("trials", [200, pytest.param(800, marks=pytest.mark.slow)])
def test_permuting_the_examples_permutes_the_selection(method, options, trials):
    """Exactly where nothing is drawn; how often each example is drawn otherwise, within 4 sigma of the difference."""
    n, budget = 12, 5
    arrays = recorded(n)
    order = torch.randperm(n, generator=stream(0, "order"))
    permuted = at(arrays, order)
    if not is_random(method):
        straight = choose(method, arrays, options, budget).index
        assert torch.equal(order[choose(method, permuted, options, budget).index], straight)
        return
    counts = torch.zeros(2, n)
    for seed in range(trials):
        counts[0, choose(method, arrays, options, budget, seed=seed).index] += 1
        counts[1, order[choose(method, permuted, options, budget, seed=trials + seed).index]] += 1
    share = counts / trials
    pooled = share.mean(0)
    error = (2 * pooled * (1 - pooled) / trials).sqrt()
    assert ((share[0] - share[1]).abs() <= 4 * error + 1e-9).all(), share


@every_selector
def test_one_example_one_class(method, options):
    arrays = at(recorded(N), [0])
    assert choose(method, arrays, options, 1).index.tolist() == [0]
    assert choose(balanced(method), arrays, options, 1).index.tolist() == [0]
    one_class = recorded(N) | {"labels": torch.zeros(N, dtype=torch.int64)}
    assert len(choose(method, one_class, options, 8)) == 8
    extra = {"generator": stream(0, "x")} if is_random(method) else {}
    inputs = [one_class[name] for name in method.card.needs]
    wrapped = per_class(method)(*inputs, labels=one_class["labels"], budget=8, **extra, **options)
    assert len(wrapped) == 8
    if not is_random(method):
        assert torch.equal(wrapped.index, choose(method, one_class, options, 8).index)


@every_selector
def test_a_budget_that_cannot_be_is_refused(method, options):
    arrays = recorded(N)
    for budget in (0, -3, N + 1):
        with pytest.raises(ArgumentError, match=rf"budget must be between 1 and the {N} .* got {budget}"):
            choose(method, arrays, options, budget)
    for budget in (0.3, True, "5"):
        with pytest.raises(ArgumentError, match="budget must be an integer number of examples"):
            choose(method, arrays, options, budget)


@every_selector
def test_memory_maps_lists_and_half_precision(method, options, tmp_path):
    arrays = {k: a.half() if a.is_floating_point() else a for k, a in recorded(N).items() if k in method.card.needs}
    expected = choose(method, {k: a.float() if a.is_floating_point() else a for k, a in arrays.items()}, options, 11)
    assert torch.equal(choose(method, arrays, options, 11).index, expected.index)
    mapped = {}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array.numpy())
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    assert torch.equal(choose(method, mapped, options, 11).index, expected.index)
    listed = {k: a.tolist() for k, a in arrays.items()}
    assert torch.equal(choose(method, listed, options, 11).index, expected.index)


@every_selector
def test_nan_names_the_example_unless_skipped(method, options):
    arrays = recorded(N)
    floating = [name for name in method.card.needs if arrays[name].is_floating_point()]
    if not floating:
        assert "missing" not in method.card.takes, "a method that reads no numbers needs no missing="
        return
    arrays = with_nan(arrays, 5)
    with pytest.raises(ArgumentError, match=r"\w+ is nan for example 5\b.*missing=\"skip\""):
        choose(method, arrays, options, 10)
    selection = choose(method, arrays, options | {"missing": "skip"}, N - 1)
    assert 5 not in selection.index.tolist()
    assert Reason(int(selection.reason[5])) is Reason.UNSCORED
    with pytest.raises(ArgumentError, match=f"at most {N - 1}"):
        choose(method, arrays, options | {"missing": "skip"}, N)


@pytest.mark.parametrize("method", [m for m in METHODS.values() if is_random(m)], ids=lambda m: m.card.key)
def test_a_generator_must_be_given(method):
    arrays = recorded(N)
    inputs = [arrays[name] for name in method.card.needs]
    with pytest.raises(ArgumentError, match=r"generator must be a torch\.Generator, got 3"):
        method(*inputs, budget=3, generator=3)
    with pytest.raises(TypeError, match="generator"):
        method(*inputs, budget=3)
