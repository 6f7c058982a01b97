"""Label noise: exactly so many, never to itself; uniform over the others, or to the next class."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.scenarios import instance_dependent, pair, symmetric


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 200),
    classes=st.integers(2, 12),
    rate=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_exactly_the_rate_changes_and_never_to_itself(n, classes, rate, seed):
    labels = torch.randint(0, classes, (n,), generator=stream(seed, "labels"))
    before = labels.clone()
    x = torch.zeros(n)
    same, noisy, changed = symmetric(x, labels, rate=rate, generator=stream(seed, "noise"), classes=classes)
    assert same is x
    assert torch.equal(labels, before)
    assert int(changed.sum()) == int(rate * n + 0.5 + 1e-9)
    assert torch.equal(noisy != labels, changed)
    assert noisy.dtype == torch.int64
    assert 0 <= int(noisy.min()) <= int(noisy.max()) < classes


def test_new_labels_are_uniform_over_the_other_classes():
    n, classes = 30_000, 5
    labels = torch.full((n,), 2)
    _, noisy, _ = symmetric(None, labels, rate=1.0, generator=stream(0, "noise"), classes=classes)
    share = torch.bincount(noisy, minlength=classes) / n
    q = 1 / (classes - 1)
    error = (q * (1 - q) / n) ** 0.5
    assert share[2] == 0
    assert ((share[[0, 1, 3, 4]] - q).abs() <= 4 * error).all(), share


def test_which_examples_change_is_uniform():
    trials, n = 2000, 10
    counts = torch.zeros(n)
    generator = stream(0, "which")
    labels = torch.arange(n) % 2
    for _ in range(trials):
        counts += symmetric(None, labels, rate=0.3, generator=generator)[2]
    error = (0.3 * 0.7 / trials) ** 0.5
    assert ((counts / trials - 0.3).abs() <= 4 * error).all(), counts / trials


def test_same_generator_same_noise_and_no_global_state():
    labels = torch.arange(50) % 4
    state = torch.random.get_rng_state()
    a = symmetric(None, labels, rate=0.4, generator=stream(3, "noise"))
    b = symmetric(None, labels, rate=0.4, generator=stream(3, "noise"))
    c = symmetric(None, labels, rate=0.4, generator=stream(4, "noise"))
    assert torch.equal(a[1], b[1])
    assert not torch.equal(a[1], c[1])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_bad_arguments_are_named():
    with pytest.raises(ArgumentError, match=r"rate must be a number in \[0, 1\], got 1\.5"):
        symmetric(None, [0, 1], rate=1.5, generator=stream(0))
    with pytest.raises(ArgumentError, match="at least 2 classes, got 1"):
        symmetric(None, [0, 0], rate=0.5, generator=stream(0))
    with pytest.raises(ArgumentError, match="labels has class 3, but classes=3"):
        symmetric(None, [0, 3], rate=0.5, generator=stream(0), classes=3)
    with pytest.raises(ArgumentError, match="labels must be integer class ids"):
        symmetric(None, [0.5, 1.0], rate=0.5, generator=stream(0))
    with pytest.raises(ArgumentError, match=r"generator must be a torch\.Generator, got 7"):
        symmetric(None, [0, 1], rate=0.5, generator=7)


def test_pair_noise_goes_to_the_next_class_around_the_circle():
    labels = torch.arange(200) % 4
    _, noisy, changed = pair(None, labels, rate=0.25, generator=stream(0, "noise"), classes=4)
    assert int(changed.sum()) == 50
    assert torch.equal(noisy, torch.where(changed, (labels + 1) % 4, labels))
    # of the classes that are there: without classes= the last one goes back to the first
    assert pair(None, [0, 1], rate=1.0, generator=stream(0))[1].tolist() == [1, 0]
    assert pair(None, [0, 1], rate=1.0, generator=stream(0), classes=3)[1].tolist() == [1, 2]
    with pytest.raises(ArgumentError, match="at least 2 classes, got 1"):
        pair(None, [0, 0], rate=0.5, generator=stream(0))


def test_instance_noise_changes_exactly_the_rate_and_similar_examples_alike():
    draws = stream(1, "vectors")
    # two tight groups of one class, far apart: each is given one wrong label nearly always
    centre = torch.tensor([[40.0, 0.0], [0.0, 40.0]]).repeat_interleave(200, 0)
    x = centre + torch.randn(400, 2, generator=draws)
    labels = torch.zeros(400, dtype=torch.int64)
    shares = []
    for seed in range(5):
        _, noisy, changed = instance_dependent(x, labels, rate=0.4, generator=stream(seed, "noise"), classes=4)
        assert int(changed.sum()) == 160
        assert torch.equal(noisy != labels, changed)
        first = torch.bincount(noisy[:200][changed[:200]], minlength=4)
        second = torch.bincount(noisy[200:][changed[200:]], minlength=4)
        assert first[0] == second[0] == 0
        shares.append(float((first / first.sum() - second / second.sum()).abs().sum()))
    # symmetric noise of 80 each differs by about 0.2
    assert sum(shares) / 5 > 0.4
    with pytest.raises(ArgumentError, match="x must be finite"):
        instance_dependent([[float("nan")], [1.0]], [0, 1], rate=0.5, generator=stream(0))


def test_instance_noise_at_a_lower_rate_gives_the_same_wrong_labels():
    x = torch.randn(300, 3, generator=stream(2, "vectors"))
    labels = torch.arange(300) % 3
    low, high = (instance_dependent(x, labels, rate=rate, generator=stream(0, "n"))[1:] for rate in (0.1, 0.4))
    both = low[1] & high[1]
    assert int(both.sum()) > 10
    assert torch.equal(low[0][both], high[0][both])
