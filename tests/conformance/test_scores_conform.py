"""What every score must do."""

import random

import numpy as np
import pytest
import torch

from datawinnow import scores
from datawinnow.core.errors import ArgumentError
from datawinnow.scores import METHODS
from tests.conformance.cases import (
    SCORE_OPTIONS,
    at,
    axis_of,
    cases,
    constant,
    keys_of_files,
    recorded,
    shape_error,
    with_nan,
)

every_score = pytest.mark.parametrize(
    ("method", "options"), cases(METHODS, SCORE_OPTIONS, files=keys_of_files(scores, "score"))
)
N = 37


def needs(method, arrays):
    return [arrays[name] for name in method.card.needs]


@every_score
def test_one_finite_number_an_example(method, options):
    score = method(*needs(method, recorded(N)), **options)
    assert score.shape == (N,)
    assert score.dtype == torch.float32
    assert score.isfinite().all()
    assert score.unique().numel() > 1, "a score that is the same for all says nothing"


@every_score
def test_permuting_the_examples_permutes_the_scores(method, options):
    arrays = recorded(N)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    straight = method(*needs(method, arrays), **options)
    permuted = method(*needs(method, at(arrays, order)), **options)
    # sums over other examples may round differently
    torch.testing.assert_close(permuted, straight[order], rtol=1e-5, atol=1e-6)


@every_score
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_and_global_randomness_are_untouched(method, options, dtype):
    arrays = [a.to(dtype) if a.is_floating_point() else a for a in needs(method, recorded(N))]
    before = [a.clone() for a in arrays]
    states = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    score = method(*arrays, **options)
    score.zero_()  # the answer is no view of an input either
    assert all(torch.equal(a, b) for a, b in zip(arrays, before, strict=True))
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


@every_score
def test_one_example_and_constant_examples(method, options):
    arrays = recorded(N)
    expected = method(*needs(method, arrays), **options)
    one = method(*needs(method, at(arrays, [0])), **options)
    assert one.shape == (1,)
    assert one.isfinite().all()
    if "features" not in method.card.needs:  # those look at the other examples too
        torch.testing.assert_close(one, expected[:1], rtol=1e-6, atol=1e-7)
    same = method(*needs(method, constant(N)), **options)
    assert same.isfinite().all()
    assert same.unique().numel() == 1


@every_score
def test_memory_maps_lists_and_double_precision_give_the_same(method, options, tmp_path):
    arrays = needs(method, recorded(N))
    expected = method(*arrays, **options)
    mapped = []
    for i, array in enumerate(arrays):
        np.save(tmp_path / f"{i}.npy", array.numpy())
        mapped.append(np.load(tmp_path / f"{i}.npy", mmap_mode="r", allow_pickle=False))
    assert torch.equal(method(*mapped, **options), expected)
    listed = method(*[a.tolist() for a in arrays], **options)
    torch.testing.assert_close(listed.float(), expected, rtol=1e-6, atol=1e-7)
    double = method(*[a.double() if a.is_floating_point() else a for a in arrays], **options)
    torch.testing.assert_close(double.float(), expected, rtol=1e-6, atol=1e-7)
    floating = any(a.is_floating_point() for a in arrays)
    assert double.dtype == (torch.float64 if floating else torch.float32)


@every_score
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_to_single(method, options, dtype):
    half = [a if a.dtype is torch.int64 else a.to(dtype) for a in needs(method, recorded(N))]
    score = method(*half, **options)
    assert score.dtype == torch.float32
    torch.testing.assert_close(
        score, method(*[a if a.dtype is torch.int64 else a.float() for a in half], **options), rtol=0, atol=0
    )


@every_score
def test_nan_names_the_example_unless_skipped(method, options):
    arrays = {k: a.float() if k in ("correct", "seen") else a for k, a in recorded(N).items()}
    clean, broken = method(*needs(method, arrays), **options), needs(method, with_nan(arrays, 5))
    with pytest.raises(ArgumentError, match=r"missing must be .*got 'drop'"):
        method(*broken, missing="drop", **options)
    if not any(a.is_floating_point() for a in broken):
        return  # bits only: nothing can be NaN
    with pytest.raises(ArgumentError, match=r"example 5\b.*missing=\"skip\""):
        method(*broken, **options)
    score = method(*broken, missing="skip", **options)
    assert score[5].isnan()
    is_other = torch.arange(N) != 5
    assert score[is_other].isfinite().all()
    if "features" in method.card.needs:  # the others as if it were not there
        clean[is_other] = method(*needs(method, at(arrays, torch.nonzero(is_other).flatten())), **options)
    torch.testing.assert_close(score[is_other], clean[is_other], rtol=1e-6, atol=1e-7)


@every_score
def test_wrong_shapes_are_named(method, options):
    name, *rest = method.card.needs
    wrong, words = shape_error(name)
    other_arrays = [recorded(N)[other] for other in rest]
    with pytest.raises(ArgumentError, match=words):
        method(wrong, *other_arrays, **options)
    empty = recorded(N)[name].narrow(axis_of(name), 0, 0)
    with pytest.raises(ArgumentError, match=f"{name} holds no examples"):
        method(empty, *other_arrays, **options)
    with pytest.raises(ArgumentError, match=f"{name} must be an array of numbers"):
        method([["a"]], *other_arrays, **options)
