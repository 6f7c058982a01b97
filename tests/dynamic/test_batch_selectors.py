"""Batch selectors: what all must do, and each against its equations."""

import pytest
import torch

from datawinnow import dynamic
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.dynamic import divbs, rho_loss, selective_backprop
from tests.conformance.cases import cases, keys_of_files
from tests.reference import dynamic as literal

OPTIONS = {
    "divbs": [{}, {"pick": "sample"}],
    "rho_loss": [{}],
    "selective_backprop": [{}, {"form": "rank"}, {"beta": 1.0, "minimum": 0.1, "window": 5}],
}
every = pytest.mark.parametrize(
    ("method", "options"), cases(dynamic.BATCH_SELECTORS, OPTIONS, files=keys_of_files(dynamic, "batch selector"))
)


def batch(b, seed=0):
    """Every array that a batch selector may need."""
    g = stream(seed, "batch", b)
    return {
        "loss": torch.rand(b, generator=g) * 3,
        "irreducible_loss": torch.rand(b, generator=g),
        "features": torch.randn(b, 5, generator=g),
        "probs": torch.randn(b, 3, generator=g).softmax(1),
        "labels": torch.randint(0, 3, (b,), generator=g),
    }


def of(method, arrays):
    """The arrays that the method needs, in order."""
    return [arrays[name] for name in method.card.needs]


@every
@pytest.mark.parametrize(("b", "budget"), [(1, 1), (10, 1), (10, 4), (10, 10), (64, 7)])
def test_exactly_the_budget_once_each_with_weight_one(method, options, b, budget):
    positions, weight = method(*of(method, batch(b)), budget=budget, generator=stream(0, "g"), state={}, **options)
    assert positions.dtype == torch.int64
    assert len(set(positions.tolist())) == positions.numel() == budget
    assert 0 <= int(positions.min()) <= int(positions.max()) < b
    assert weight.dtype == torch.float32
    assert weight.tolist() == [1.0] * budget


@every
def test_the_same_generator_gives_the_same_and_nothing_is_modified(method, options):
    arrays, before = batch(20), batch(20)
    torch.manual_seed(3)
    global_before = torch.get_rng_state()
    first, second = (method(*of(method, arrays), budget=6, generator=stream(1, "g"), **options)[0] for _ in range(2))
    assert first.equal(second)
    assert all(arrays[name].equal(before[name]) for name in arrays)
    assert global_before.equal(torch.get_rng_state())


@every
def test_permuting_the_batch_permutes_the_choice(method, options):
    b, runs = 6, 400
    arrays = batch(b)
    moved = torch.tensor([3, 5, 0, 4, 2, 1])
    permuted = {name: value[moved] for name, value in arrays.items()}
    counts = torch.zeros(2, b)
    for seed in range(runs):
        for row, inputs in enumerate((arrays, permuted)):
            picked, _ = method(*of(method, inputs), budget=2, generator=stream(seed, row), **options)
            counts[row, picked if row == 0 else moved[picked]] += 1
    p = counts / runs
    spread = ((p * (1 - p)).sum(0) / runs).sqrt()
    assert bool(((p[0] - p[1]).abs() <= 4 * spread + 1e-6).all())


@every
def test_what_ties_is_drawn(method, options):
    b = 5
    same = {name: value[:1].expand(b, *value.shape[1:]) for name, value in batch(1).items()}
    counts = torch.zeros(b)
    for seed in range(300):
        counts[method(*of(method, same), budget=2, generator=stream(seed, "g"), **options)[0]] += 1
    assert bool(((counts / 300 - 0.4).abs() <= 4 * (0.24 / 300) ** 0.5).all())


@every
@pytest.mark.parametrize("budget", [0, 11, 2.5])
def test_a_budget_that_cannot_be_met_is_refused(method, options, budget):
    with pytest.raises(ArgumentError, match="budget must be"):
        method(*of(method, batch(10)), budget=budget, generator=stream(0, "g"), **options)


@every
def test_a_seed_is_no_generator_and_nan_is_no_number(method, options):
    with pytest.raises(ArgumentError, match=r"generator must be a torch\.Generator"):
        method(*of(method, batch(10)), budget=2, generator=3, **options)
    arrays = batch(10)
    name = method.card.needs[0]
    arrays[name][4] = torch.nan
    with pytest.raises(ArgumentError, match=rf"{name} is nan for example 4"):
        method(*of(method, arrays), budget=2, generator=stream(0, "g"), **options)


@every
def test_half_precision_and_lists_are_taken(method, options):
    arrays = {name: value.half().float() if value.is_floating_point() else value for name, value in batch(12).items()}
    arrays["probs"] = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]).repeat(6, 1)
    full = method(*of(method, arrays), budget=3, generator=stream(0, "g"), **options)[0]
    half = {name: value.half() if value.is_floating_point() else value for name, value in arrays.items()}
    lists = {name: value.tolist() for name, value in arrays.items()}
    for other in (half, lists):
        assert method(*of(method, other), budget=3, generator=stream(0, "g"), **options)[0].equal(full)


def test_a_reduced_loss_says_its_shape():
    with pytest.raises(ArgumentError, match=r"loss must have shape \(b,\), got \(\)"):
        rho_loss(torch.tensor(1.0), torch.tensor(1.0), budget=1, generator=stream(0, "g"))


@pytest.mark.parametrize("window", [1024, 12, 3])
@pytest.mark.parametrize("minimum", [0.0, 0.3])
def test_backprop_keeps_by_the_percentile_among_recent_losses(window, minimum):
    history = torch.rand(10, generator=stream(0, "history"))
    loss = torch.rand(6, generator=stream(1, "batch"))
    chance = torch.tensor(literal.backprop_chance(history.tolist(), loss.tolist(), window, 3.0, minimum))
    counts, runs = torch.zeros(6), 800
    for seed in range(runs):
        state = {"recent": history}
        picked, _ = selective_backprop(loss, minimum=minimum, window=window, generator=stream(seed, "g"), state=state)
        counts[picked] += 1
    assert bool(((counts / runs - chance).abs() <= 4 * (chance * (1 - chance) / runs).sqrt() + 1e-6).all())


def test_backprop_remembers_the_last_losses_in_the_state():
    state = {}
    for losses in ([1.0, 2.0], [3.0, 4.0], [5.0]):
        selective_backprop(losses, window=3, generator=stream(0, "g"), state=state)
    assert state["recent"].tolist() == [3.0, 4.0, 5.0]
    # an easy batch after hard ones: nothing in it is high
    kept = [
        selective_backprop([0.1, 0.2], window=9, generator=stream(s, "g"), state={"recent": torch.ones(7)})[0].numel()
        for s in range(50)
    ]
    assert sum(kept) <= 5


@pytest.mark.parametrize(("keep", "power"), [(None, 3), (0.25, 3), (0.4, 1.5)])
def test_backprop_by_rank_draws_in_proportion_to_a_power_of_the_rank(keep, power):
    """As composer: ranks from one half, the fraction that it was given in the power."""
    loss, runs = torch.tensor([0.3, 0.1, 0.9, 0.4]), 2000
    counts = torch.zeros(4)
    for seed in range(runs):
        chosen, _ = selective_backprop(loss, budget=1, form="rank", keep=keep, generator=stream(seed, "g"))
        counts[chosen] += 1
    weight = torch.tensor([1.5, 0.5, 3.5, 2.5]) ** power
    chance = weight / weight.sum()
    assert bool(((counts / runs - chance).abs() <= 4 * (chance * (1 - chance) / runs).sqrt()).all())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"form": "rank"}, 'form="rank" needs a budget'),
        ({"form": "rank", "budget": 1, "keep": 2}, r"keep must be a number in"),
        ({"keep": 0.5}, 'keep is the fraction in the power of form="rank"'),
        ({"form": "other"}, "form must be one of 'percentile', 'rank'"),
        ({"beta": -1}, r"beta must be a number in \[0, .*got -1"),
        ({"minimum": 2}, r"minimum must be a number in \[0, 1\], got 2"),
        ({"window": 0}, r"window must be a whole number in \[1, .*got 0"),
    ],
)
def test_backprop_checks_its_options(options, match):
    with pytest.raises(ArgumentError, match=match):
        selective_backprop([1.0, 2.0], generator=stream(0, "g"), **options)


def test_rho_takes_the_highest_reducible_loss():
    arrays = batch(30)
    reducible = (arrays["loss"] - arrays["irreducible_loss"]).tolist()
    picked, _ = rho_loss(arrays["loss"], arrays["irreducible_loss"], budget=8, generator=stream(0, "g"))
    assert picked.tolist() == sorted(range(30), key=lambda i: -reducible[i])[:8]


def test_rho_orders_what_ties_at_random():
    first = torch.zeros(3)
    for seed in range(150):
        picked, _ = rho_loss([1.0, 2.0, 1.0], [0.0, 1.0, 0.0], budget=3, generator=stream(seed, "g"))
        first[picked[0]] += 1
    assert bool(((first / 150 - 1 / 3).abs() <= 4 * (2 / 9 / 150) ** 0.5).all())


def test_rho_leaves_the_noisy_and_the_learnt():
    loss, floor = torch.tensor([5.0, 0.1, 2.0]), torch.tensor([4.9, 0.05, 0.3])  # noisy, learnt, worth learning
    assert rho_loss(loss, floor, budget=1, generator=stream(0, "g"))[0].tolist() == [2]
    with pytest.raises(ArgumentError, match="loss has 3, irreducible_loss has 2"):
        rho_loss(loss, floor[:2], budget=1, generator=stream(0, "g"))


@pytest.mark.parametrize("seed", range(6))
def test_divbs_is_gram_schmidt_on_the_gradients(seed):
    arrays = batch(12, seed)
    error = arrays["probs"] - torch.nn.functional.one_hot(arrays["labels"], 3)
    gradients = (error[:, :, None] * arrays["features"][:, None, :]).flatten(1).double()
    picked, _ = divbs(arrays["features"], arrays["probs"], arrays["labels"], budget=6, generator=stream(0, "g"))
    assert picked.tolist() == literal.div_bs(gradients.tolist(), 6)


@pytest.mark.parametrize("pick", ["greedy", "sample"])
def test_divbs_takes_no_duplicate_before_the_others_are_in(pick):
    arrays = batch(5)
    twice = {
        name: torch.cat([value, value[:4]]) for name, value in arrays.items() if name in ("features", "probs", "labels")
    }
    for seed in range(20):
        picked = divbs(*twice.values(), budget=5, pick=pick, generator=stream(seed, "g"))[0].tolist()
        assert {i % 5 for i in picked} == {0, 1, 2, 3, 4}


def test_divbs_samples_in_proportion_to_what_is_in_common():
    arrays, runs = batch(4), 1500
    error = arrays["probs"] - torch.nn.functional.one_hot(arrays["labels"], 3)
    gradients = (error[:, :, None] * arrays["features"][:, None, :]).flatten(1)
    common = (gradients @ gradients.mean(0)).abs()
    chance, counts = common / common.sum(), torch.zeros(4)
    for seed in range(runs):
        counts[divbs(*of(divbs, arrays), budget=1, pick="sample", generator=stream(seed, "g"))[0]] += 1
    assert bool(((counts / runs - chance).abs() <= 4 * (chance * (1 - chance) / runs).sqrt()).all())


def test_divbs_fills_up_at_random_when_no_gradient_is_left():
    features, probs, labels = torch.ones(6, 2), torch.eye(2)[[0] * 6], [0] * 6  # all learnt: gradients of zero
    seen = {tuple(divbs(features, probs, labels, budget=3, generator=stream(s, "g"))[0].tolist()) for s in range(20)}
    assert len(seen) > 5


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": torch.tensor([0, 1, 3])}, r"labels must be a whole number in \[0, 2\], got 3"),
        ({"labels": torch.tensor([0, 1])}, "labels"),
        ({"probs": torch.full((3, 3), 2.0)}, "give softmax outputs"),
        ({"probs": torch.full((2, 3), 0.3)}, "features has 3, probs has 2"),
        ({"features": torch.ones(3)}, r"features must have shape \(b, d\), got \(3,\)"),
    ],
)
def test_divbs_checks_its_arrays(change, match):
    arrays = batch(3) | change
    with pytest.raises(ArgumentError, match=match):
        divbs(*of(divbs, arrays), budget=1, generator=stream(0, "g"))
