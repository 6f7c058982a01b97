"""What every policy, wrapped or not, must do."""

import random

import numpy as np
import pytest
import torch

from datawinnow import dynamic
from datawinnow.core.budget import budget_of
from datawinnow.core.errors import ArgumentError, MissingArrayError
from datawinnow.core.reason import Reason
from tests.dynamic.helpers import (
    EPOCHS,
    bound,
    copied,
    every_policy,
    hardness,
    ids,
    of_loss,
    other_values,
    policy_cases,
    quick_first,
    run,
    same,
    signals,
    sizes,
)

every = pytest.mark.parametrize("make", every_policy())
plain = pytest.mark.parametrize("make", every_policy(wrapped=False))
# tests of many runs: by default each method with its defaults and in each wrapper, with `make full` every case
every_quick_first = pytest.mark.parametrize("make", quick_first(every_policy()))
plain_quick_first = pytest.mark.parametrize("make", quick_first(every_policy(wrapped=False)))
EXACT = {key: method for key, method in dynamic.POLICIES.items() if "keep" in method.card.takes}


def names_its_ids(policy):
    """Whether a policy was given the ids to train on, so that chances are none of its business."""
    return isinstance(policy, dynamic.StaticSubset | dynamic.Replay)


def layers(policy):
    """A policy and those that it wraps, from the outside in."""
    while policy is not None:
        yield policy
        policy = getattr(policy, "policy", None)


@every
@pytest.mark.parametrize("n", [1, 2, 40])
def test_every_plan_is_well_formed(make, n):
    for plan, _, _ in run(make(n), n):
        assert plan.index.dtype == torch.int64
        assert len(plan) == len(ids(plan)) > 0
        assert max(ids(plan)) < n
        assert plan.weight.dtype == torch.float32
        assert bool((plan.weight > 0).all())
        assert plan.reason.shape == (n,)
        assert {i for i in range(n) if Reason(int(plan.reason[i])).kept} == ids(plan)


@every
def test_planning_and_observing_change_nothing_that_was_given(make):
    n = 40
    policy = make(n)
    for epoch, (plan, before, planned) in enumerate(run(policy, n)):
        kept, kept_planned, index = copied(before), copied(planned), plan.index.clone()
        again, state = policy.plan(epoch, before, bound(0))
        assert same(before, kept)
        assert same(state, planned)
        assert again.index.equal(plan.index)
        assert again.weight.equal(plan.weight)
        twice, state = policy.plan(epoch, planned, bound(0))  # from the state that remembers the decision
        assert twice.index.equal(plan.index)
        assert twice.weight.equal(plan.weight)
        assert same(state, planned)
        policy.observe(planned, plan.index, **signals(epoch, plan.index, hardness(n)))
        assert same(planned, kept_planned)
        assert plan.index.equal(index)


@every
def test_a_seed_is_a_run_and_another_seed_another(make):
    a, b, c = (run(make(40), 40, seed=seed) for seed in (3, 3, 4))
    assert all(x[0].index.equal(y[0].index) for x, y in zip(a, b, strict=True))
    other = [not x[0].index.equal(y[0].index) for x, y in zip(a, c, strict=True)]
    assert any(other) != isinstance(make(40), dynamic.Replay)  # which has nothing left to draw


@every
def test_the_order_is_random_and_another_every_epoch(make):
    plans = [plan for plan, _, _ in run(make(40), 40)]
    assert all(not plan.index.equal(plan.index.sort().values) for plan in plans)
    assert len({tuple(plan.index.tolist()) for plan in plans}) == len(plans)


@every_quick_first
def test_the_place_in_the_order_says_nothing_about_an_example(make):
    # hard examples that come early, or drawn ones that do, would be a curriculum that nobody asked for
    n, places, hard = 12, [], []
    if isinstance(make(n), dynamic.Replay):  # has the order that was recorded
        assert len({tuple(run(make(n), n, seed=seed)[3][0].index.tolist()) for seed in range(5)}) == 1
        return
    for seed in range(60):
        for plan, _, _ in run(make(n), n, seed=seed, epochs=4)[1:]:
            place = (torch.arange(len(plan)) + 0.5) / len(plan) - 0.5
            weight = hardness(n)[plan.index]
            places.append(float((place * (weight - weight.mean())).sum()))
            hard.append(float((place * (plan.weight - plan.weight.mean())).sum()))
    for values in (torch.tensor(places), torch.tensor(hard)):
        assert abs(values.mean()) <= 4 * values.std() / len(values) ** 0.5 + 1e-6


@every
def test_global_random_state_is_left_alone(make):
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    run(make(40), 40)
    assert before[0].equal(torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert before[2] == random.getstate()


@every
def test_state_is_flat_small_and_on_the_cpu(make):
    n = 4000
    # an every() within another holds a plan of its own, of 5 bytes an example: the one excess over 16 there is
    nested_every = max(0, sum(isinstance(policy, dynamic.every) for policy in layers(make(n))) - 1)
    for _, _, state in run(make(n), n, epochs=3):
        assert all(isinstance(value, torch.Tensor | int | float) for value in state.values())
        tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
        assert all(value.shape == (n,) and value.device.type == "cpu" for value in tensors)
        assert sum(value.nbytes for value in tensors) <= (16 + 5 * nested_every) * n


@plain_quick_first
def test_permuting_the_examples_permutes_the_chances(make):
    n, seeds = 8, 120
    swap = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])  # example i of the first run is swap[i] of the second
    policy, losses = make(n), hardness(n)
    if names_its_ids(policy):
        assert ids(policy.plan(0, policy.init(n), bound(0))[0]) == ids(policy.plan(0, policy.init(n), bound(1))[0])
        return
    moved = losses.clone()
    moved[swap] = losses

    def chances(loss, at):
        seen = torch.zeros(seeds, n)
        for seed in range(seeds):
            state = policy.init(n)
            for epoch in range(3):
                plan, state = policy.plan(epoch, state, bound(seed * 2 + (at is None)))
                who = plan.index if at is None else at[plan.index]
                right = {"correct": ((who * 3 + epoch) % 4 > 1).float(), "input_size": sizes(who, 2 * epoch)}
                state = policy.observe(state, plan.index, **of_loss(loss[plan.index]), **right)
            plan, _ = policy.plan(3, state, bound(seed * 2 + (at is None)))
            seen[seed, plan.index] = plan.weight
        return seen

    back = torch.empty_like(swap)
    back[swap] = torch.arange(n)
    first, second = chances(losses, None), chances(moved, back)[:, swap]
    spread = ((first.var(0) + second.var(0)) / seeds).sqrt()
    assert bool(((first.mean(0) - second.mean(0)).abs() <= 4.5 * spread + 1e-6).all())


@pytest.mark.parametrize(
    ("method", "options"),
    policy_cases(EXACT),
)
@pytest.mark.parametrize(("n", "keep"), [(1, 0.4), (7, 1e-6), (7, 0.5), (40, 0.73), (41, 0.5)])
def test_budgets_are_exact(method, options, n, keep):
    required = {"epochs": EPOCHS} if "epochs" in method.card.takes else {}
    policy = method(**{"keep": keep, **required, **options})
    for epoch, (plan, _, _) in enumerate(run(policy, n)):
        if epoch == 0 and policy.needs and policy.first == "all":
            assert len(plan) == n
        else:
            assert len(plan) == budget_of(keep, n)


@pytest.mark.parametrize("make", every_policy(wrapped=False))
def test_the_last_part_is_on_all_with_any_policy(make):
    n = 40
    plans = [plan for plan, _, _ in run(dynamic.annealed(make(n), EPOCHS, share=0.75), n)]
    before = [plan for plan, _, _ in run(make(n), n)]
    assert [ids(plan) for plan in plans[:6]] == [ids(plan) for plan in before[:6]]
    assert [len(plan) for plan in plans[6:]] == [n, n]
    assert all(plan.weight.tolist() == [1.0] * n for plan in plans[6:])


@plain_quick_first
def test_what_was_never_observed_is_never_decided_by_id(make):
    # the published first period drops the first ids: all scores tie
    n, plans = 20, []
    for seed in range(60):
        policy = make(n)
        state = policy.init(n)
        for epoch in range(4):  # and nothing is ever observed
            plan, state = policy.plan(epoch, state, bound(seed))
        plans.append(plan)
    if names_its_ids(policy):
        assert all(ids(plan) == ids(plans[0]) for plan in plans)
        return
    counts = torch.stack([plan.mask(n) for plan in plans]).float()
    share = counts.mean()
    assert bool(((counts.mean(0) - share).abs() <= 4 * (share * (1 - share) / 60) ** 0.5 + 1e-6).all())


@plain_quick_first
def test_constant_losses_favour_nobody(make):
    n, runs = 12, 60
    policy = make(n)
    if names_its_ids(policy) or "correct" in policy.needs:  # no loss to be constant, or not that alone
        return
    last = torch.stack(
        [run(policy, n, epochs=4, seed=s, loss=torch.full((n,), 0.1))[3][0].mask(n) for s in range(runs)]
    ).float()
    share = last.mean()
    assert bool(((last.mean(0) - share).abs() <= 4 * (share * (1 - share) / runs) ** 0.5 + 1e-6).all())


observing = pytest.mark.parametrize("make", [p for p in every_policy() if p.values[0](4).needs])
plain_observing = pytest.mark.parametrize("make", [p for p in every_policy(False) if p.values[0](4).needs])


@observing
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda i, x: (i, {}), MissingArrayError, "needs the signal '{name}' observed"),
        (lambda i, x: (i.float(), x), ArgumentError, "index must be int64 ids"),
        (lambda i, x: (i[:, None], x), ArgumentError, "index must be int64 ids of shape"),
        (lambda i, x: (i + 3, x), ArgumentError, "index must hold ids of 0 to 4, got 7"),
        (lambda i, x: (i - 1, x), ArgumentError, "index must hold ids of 0 to 4, got -1"),
        (lambda i, x: (i * 0 + 1, x), ArgumentError, "index has an id twice"),
        (
            lambda i, x: (i, {k: v.mean() for k, v in x.items()}),
            ArgumentError,
            r'{name} must hold one .*reduction="none"',
        ),
        (lambda i, x: (i, {k: v / 0 for k, v in x.items()}), ArgumentError, r"{name} of example \d is (nan|inf)"),
    ],
    ids=["missing", "float ids", "two axes", "too large", "negative", "twice", "reduced", "not finite"],
)
def test_what_cannot_be_observed_is_refused(make, change, error, match):
    policy = make(5)
    index = torch.tensor([0, 2, 4])
    index, observed = change(index, {name: torch.tensor([1.0, 0.0, 1.0]) for name in policy.needs})
    with pytest.raises(error, match=match.format(name=policy.needs[0])):
        policy.observe(policy.init(5), index, **observed)


@plain_observing
def test_half_precision_losses_keep_their_ids(make):
    n = 66_000
    policy = make(n)
    index = torch.tensor([4097, 65_537, 2049])
    values = torch.tensor([1.0, 0.0, 1.0])
    half = policy.observe(policy.init(n), index, **dict.fromkeys(policy.needs, values.half()))
    full = policy.observe(policy.init(n), index, **dict.fromkeys(policy.needs, values))
    assert same(half, full)
    assert not same(half, policy.init(n))


@every
def test_epochs_and_sizes_are_checked(make):
    policy = make(6)
    with pytest.raises(ArgumentError, match=r"epoch must be a whole number in \[0, .*got -1"):
        policy.plan(-1, policy.init(6), bound(0))
    with pytest.raises(ArgumentError, match=r"n must be a whole number in \[1, .*got 0"):
        policy.init(0)


def test_values_of_options_follow_from_their_types():
    assert other_values(dynamic.LossPower) == [{"weighted": True}, {"first": "random"}, {"on_resize": "reset"}]
    assert other_values(dynamic.InfoBatch) == [{"form": "percentile"}]
    assert other_values(dynamic.ExampleSwap) == []
