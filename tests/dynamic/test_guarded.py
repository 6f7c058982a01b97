"""The guard against wrong labels: it sees them where they are and nothing where they are not, and keeps budgets."""

import numpy as np
import pytest
import torch

from datawinnow.core.budget import budget_of
from datawinnow.core.errors import ArgumentError
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.core.two_normals import fit_two_normals, log_odds
from datawinnow.dynamic import (
    UCB,
    EpsilonGreedy,
    ExampleSwap,
    InfoBatch,
    LossPower,
    OrderDP,
    PolicySampler,
    RandomPruning,
    RepeatedSubset,
    Replay,
    SeTa,
    StaticSubset,
    annealed,
    every,
    guarded,
    recorded,
    rescaled,
    shrinking,
    warm_up,
)
from datawinnow.dynamic.noise import suspected_of_wrong_label
from tests.dynamic.helpers import bound, copied, ids, logged, same, static
from tests.reference import dynamic as literal

N = 1000


class Training:
    """Losses of a training that learns right labels and, slower, wrong ones; log-odds are bell-shaped.

    At epoch e an example's log-odds are its own ease plus what ``e`` epochs taught plus noise of the visit. Wrong
    labels start below and are unlearned as the rest is learned; trained on long enough they are memorised.
    """

    def __init__(self, noise=0.2, n=N, seed=0, hard=0.1, speed=0.5):
        g = stream(seed, "training", f"{noise}", n)
        self.n, self.speed = n, speed
        self.wrong = torch.zeros(n, dtype=torch.bool)
        self.wrong[torch.randperm(n, generator=g)[: round(noise * n)]] = True
        self.ease = torch.randn(n, generator=g)
        self.ease[torch.rand(n, generator=g) < hard] -= 1.5  # hard, but right
        self.visits = torch.zeros(n)
        self.seed = seed

    def loss(self, epoch, index):
        taught = self.speed * min(epoch, 12)
        wrong = -2.2 - 0.1 * min(epoch, 12) + 0.3 * self.visits[index]
        z = torch.where(self.wrong[index], wrong + 0.8 * self.ease[index], -2.0 + taught + self.ease[index])
        z = z + 0.5 * torch.randn(index.numel(), generator=stream(self.seed, "visit", epoch))
        self.visits[index] += self.wrong[index] * 0.1
        return torch.nn.functional.softplus(-z)

    def run(self, policy, epochs=30):
        """(plan, state) of every epoch."""
        state, out = policy.init(self.n), []
        for epoch in range(epochs):
            plan, state = policy.plan(epoch, state, bound(self.seed))
            out.append((plan, state))
            state = policy.observe(state, plan.index, loss=self.loss(epoch, plan.index))
        return out


def picked(mean, separation=2.0, max_fraction=0.5):
    """`suspected_of_wrong_label` with everybody in the sample."""
    return suspected_of_wrong_label(mean, torch.arange(mean.numel()), separation, max_fraction)


def dropped(state):
    """(n,) bool."""
    return state["suspect"]


@pytest.mark.parametrize("noise", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("inner", [RandomPruning(keep=0.7), UCB(keep=0.7, period=1), UCB(keep=1.0)], ids=str)
def test_most_planted_noise_is_caught_and_little_else(noise, inner):
    training = Training(noise)
    _, state = training.run(guarded(inner))[-1]
    suspect, wrong = dropped(state), training.wrong
    assert float(suspect[wrong].float().mean()) > 0.8
    assert float(wrong[suspect].float().mean()) > 0.8


@pytest.mark.parametrize("hard", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("inner", [RandomPruning(keep=0.7), UCB(keep=0.5, period=1)], ids=str)
def test_of_clean_data_nothing_is_dropped_however_hard(hard, seed, inner):
    training = Training(0.0, hard=hard, seed=seed)
    assert not any(bool(dropped(state).any()) for _, state in training.run(guarded(inner)))


def test_without_evidence_plans_are_those_of_the_policy_but_for_the_looks():
    policy = guarded(UCB(keep=0.5))
    for epoch, (plan, state) in enumerate(Training(0.0).run(policy, 12)):
        inner = {k.removeprefix("policy."): v for k, v in state.items() if k.startswith("policy.")}
        alone, _ = policy.policy.plan(epoch, inner, bound(0))
        looks = set(policy.revisited(N, epoch, bound(0)).tolist())
        assert len(plan) == len(alone)
        assert ids(plan) - ids(alone) == looks - ids(alone)
        assert not any(plan.reason[i] != alone.reason[i] for i in ids(plan) & ids(alone))
    full_runs = Training(0.0).run(guarded(UCB(keep=1.0)), 3), Training(0.0).run(UCB(keep=1.0), 3)
    assert all(a.index.equal(b.index) for (a, _), (b, _) in zip(*full_runs, strict=True))


def test_clean_but_two_piles_are_not_wrong_labels():
    # late in training: learned and nearly learned lie apart, and both are right
    g = stream(0, "piles")
    z = torch.cat([torch.randn(300, generator=g) + 3, torch.randn(700, generator=g) + 8])
    mean = torch.nn.functional.softplus(-z)
    _, centre, spread, _ = fit_two_normals(log_odds(mean))
    assert float(centre[1] - centre[0]) > 2 * float(spread.square().mean().sqrt())
    assert not bool(picked(mean, 2.0, 0.5).any())
    assert float(picked(torch.nn.functional.softplus(4.5 - z), 2.0, 0.5)[:300].float().mean()) > 0.9


def test_the_fit_is_that_of_the_literal_loop():
    g = stream(0, "bells")
    z = torch.cat([torch.randn(60, generator=g) * 0.8 - 3, torch.randn(140, generator=g) * 1.2 + 1]).double()
    share, centre, spread, _ = fit_two_normals(z)
    want = literal.two_bells(z.tolist(), rounds=300)
    # on a histogram of bins a twentieth wide
    np.testing.assert_allclose(share, want[0], atol=0.01)
    np.testing.assert_allclose(centre, want[1], atol=0.05)
    np.testing.assert_allclose(spread, want[2], atol=0.05)


def test_the_fit_is_that_of_scikit_learn():
    from sklearn.mixture import GaussianMixture

    g = stream(1, "bells")
    z = torch.cat([torch.randn(600, generator=g) * 0.8 - 3, torch.randn(1400, generator=g) * 1.2 + 1]).double()
    share, centre, _, gain = fit_two_normals(z)
    model = GaussianMixture(2, random_state=0, tol=1e-6, max_iter=500).fit(z[:, None].numpy())
    order = model.means_[:, 0].argsort()
    np.testing.assert_allclose(centre, model.means_[order, 0], atol=0.05)
    np.testing.assert_allclose(share, model.weights_[order], atol=0.02)
    one = GaussianMixture(1).fit(z[:, None].numpy())
    assert gain == pytest.approx(model.score(z[:, None].numpy()) - one.score(z[:, None].numpy()), abs=0.005)
    mine = picked(torch.nn.functional.softplus(-z).float(), 2.0, 0.5)
    theirs = torch.from_numpy(model.predict(z[:, None].numpy()) == order[0])
    assert float((mine == theirs).float().mean()) > 0.99


def test_log_odds_of_probabilities():
    p = torch.tensor([0.5, 0.9, 0.01])
    assert log_odds(-p.log()).tolist() == pytest.approx([0.0, 2.19722, -4.59512], abs=1e-4)
    assert log_odds(torch.tensor([0.0, 1e4, -1.0])).nan_to_num(nan=12.0).abs().max() <= 12


def test_nothing_is_decided_before_the_first_and_between_the_periods():
    policy, training = guarded(RandomPruning(keep=0.9), first=8, period=3), Training(0.3)
    out = [dropped(state) for _, state in training.run(policy, 16)]
    assert not any(bool(s.any()) for s in out[:8])
    assert bool(out[8].any())
    changes = [e for e in range(9, 16) if not out[e].equal(out[e - 1])]
    assert changes
    assert set(changes) <= {11, 14}


@pytest.mark.parametrize("look", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "inner",
    [
        RandomPruning(keep=0.5),
        RepeatedSubset(keep=0.5),
        UCB(keep=0.5, period=1),
        UCB(keep=0.5, period=7),
        EpsilonGreedy(keep=0.5, period=3),
        LossPower(keep=0.5),
        OrderDP(keep=0.5, first="all"),
        OrderDP(keep=0.75, first="all"),
        every(UCB(keep=0.5, period=1), 3),
        warm_up(UCB(keep=0.5, period=1), 2),
        annealed(UCB(keep=0.5, period=1), 30, share=1.0),
    ],
    ids=str,
)
def test_the_number_is_that_of_the_policy_alone(inner, look):
    training = Training(0.3)
    keep = 0.75 if "0.75, pool" in repr(inner) else 0.5
    hit = 0
    for plan, state in training.run(guarded(inner, look=look), 18)[3:]:
        suspect = dropped(state)
        assert len(plan) == len(ids(plan)) == min(budget_of(keep, N), N - int(suspect.sum()))
        hit += int(suspect.sum())
        assert (plan.reason[~plan.mask(N)] >= 10).all()
        assert (plan.reason[plan.index] < 10).all()
        assert bool((plan.reason[suspect & ~plan.mask(N)] == int(Reason.SUSPECT)).all())
        assert int(suspect[plan.index].sum()) <= -(-N // look)
    assert hit


def test_all_that_are_left_where_the_policy_wants_more():
    for plan, state in Training(0.4).run(guarded(RandomPruning(keep=0.9)), 20)[-3:]:
        clear = N - int(dropped(state).sum())
        assert len(plan) == clear < 900
        assert int(dropped(state)[plan.index].sum()) == pytest.approx((N - clear) / 10, rel=0.5)


def test_a_shrinking_keep_goes_on_shrinking():
    policy = guarded(shrinking(UCB(keep=1.0, period=1), 20, end=0.3))
    for epoch, (plan, state) in enumerate(Training(0.3).run(policy, 20)):
        keep = 1 - 0.7 * epoch / 19
        assert len(plan) == min(budget_of(keep, N), N - int(dropped(state).sum()))


@pytest.mark.parametrize("inner", [InfoBatch(epochs=20), SeTa(epochs=20)], ids=lambda p: type(p).__name__)
def test_policies_that_go_by_the_losses_do_so_among_the_rest(inner):
    out = Training(0.3).run(guarded(inner), 20)
    for plan, state in out[-5:]:
        assert 0 < len(plan) <= N - int(dropped(state).sum()) < N
        assert int(dropped(state)[plan.index].sum()) <= 100


@pytest.mark.parametrize("look", [2, 5, 7])
def test_every_example_gets_its_look_in_turn(look):
    policy = guarded(UCB(keep=0.3, period=1), look=look)
    out = Training(0.3).run(policy, 3 * look)
    for start in (look, 2 * look):
        turns = [set(policy.revisited(N, e, bound(0)).tolist()) for e in range(start, start + look)]
        assert set.union(*turns) == set(range(N))
        assert {len(turn) for turn in turns} == {-(-N // look)}
        for turn, (plan, _) in zip(turns, out[start : start + look], strict=True):
            assert len(turn - ids(plan)) == max(0, len(turn) - len(plan))
    assert policy.revisited(N, 0, bound(0)).tolist() != policy.revisited(N, look, bound(0)).tolist()


def test_who_was_chosen_for_a_high_loss_is_no_evidence():
    # half of the data was seen again and learned, half has losses of the beginning: piles, but of no wrong labels
    n = 4000
    policy = guarded(RandomPruning(keep=0.5), first=8, alpha=1.0)
    state = policy.observe(policy.init(n), torch.arange(n), loss=torch.empty(n).uniform_(2.4, 4, generator=stream(0)))
    again = torch.arange(0, n, 2)
    for epoch in range(8):
        _, state = policy.plan(epoch, state, bound(0))
        state = policy.observe(state, again, loss=torch.empty(n // 2).uniform_(0.1, 0.6, generator=stream(epoch)))
    assert bool(picked(state["mean"]).any())
    _, state = policy.plan(8, state, bound(0))
    assert not bool(dropped(state).any())


def test_the_hardest_seen_every_time_are_no_evidence_beside_a_few_of_the_rest():
    n = 4000
    z = torch.randn(n, generator=stream(0, "one pile")) - 1
    loss, hardest = torch.nn.functional.softplus(-z), z < -3
    policy = guarded(RandomPruning(keep=0.5), first=8, look=20)
    state = policy.init(n)
    for epoch in range(8):
        _, state = policy.plan(epoch, state, bound(0))
        looks = torch.isin(torch.arange(n), policy.revisited(n, epoch, bound(0)))
        state = policy.observe(state, where := (looks | hardest).nonzero().flatten(), loss=loss[where])
    recent = state["last"] >= 5
    assert bool(picked(state["mean"].masked_fill(~recent, torch.nan)).any())
    _, state = policy.plan(8, state, bound(0))
    assert not bool(dropped(state).any())


def test_one_suspected_wrongly_comes_back():
    n = 1000
    policy = guarded(RandomPruning(keep=0.9), first=3, period=3, look=3)
    loss, state = torch.cat([torch.linspace(0.1, 0.6, 750), torch.linspace(3.0, 5.0, 250)]), policy.init(n)
    for epoch in range(7):
        _, state = policy.plan(epoch, state, bound(0))
        assert dropped(state).nonzero().flatten().tolist() == list(range(750 + (epoch == 6), n if epoch > 2 else 750))
        if epoch == 5:
            loss[750] = 0.3  # learned without being trained on
        state = policy.observe(state, torch.arange(n), loss=loss)


def test_once_some_are_suspected_less_evidence_is_enough_to_go_on():
    n, g = 4000, stream(0, "latch")
    wrong = torch.arange(n) < 800

    def seen(policy, state, apart):
        z = torch.randn(n, generator=g) + torch.where(wrong, -3.0, -3.0 + apart)
        return policy.observe(state, torch.arange(n), loss=torch.nn.functional.softplus(-z))

    # means 4 apart: between three quarters of the separation asked for and all of it
    policy = guarded(RandomPruning(keep=0.5), first=1, period=1, alpha=1.0, look=2, separation=4.8)
    _, none = policy.plan(1, seen(policy, policy.init(n), 4.0), bound(0))
    assert not bool(dropped(none).any())
    _, first_suspects = policy.plan(1, seen(policy, policy.init(n), 8.0), bound(0))
    assert int(dropped(first_suspects).sum()) > 700
    _, still = policy.plan(2, seen(policy, first_suspects, 4.0), bound(0))
    assert int(dropped(still).sum()) > 600
    _, over = policy.plan(2, seen(policy, first_suspects, 2.0), bound(0))
    assert not bool(dropped(over).any())


@pytest.mark.parametrize("seeds", [range(13), pytest.param(range(13, 40), marks=pytest.mark.slow)], ids=["13", "27"])
def test_a_small_sample_that_parts_by_accident_is_no_evidence(seeds):
    num_parted = 0
    for seed in seeds:
        z = torch.randn(60, generator=stream(seed, "accident")) - 3
        mean = torch.nn.functional.softplus(-z)
        _, centre, spread, _ = fit_two_normals(log_odds(mean))
        num_parted += float(centre[1] - centre[0]) > 2 * float(spread.square().mean().sqrt())
        assert not bool(picked(mean).any())
    assert num_parted > len(seeds) / 8


def test_a_tail_of_a_few_is_no_evidence():
    z = torch.cat([torch.randn(970, generator=stream(0, "tail")) + 1, torch.randn(30, generator=stream(1, "tail")) - 6])
    assert not bool(picked(torch.nn.functional.softplus(-z)).any())
    z = torch.cat(
        [torch.randn(900, generator=stream(0, "tail")) + 1, torch.randn(100, generator=stream(1, "tail")) - 6]
    )
    assert int(picked(torch.nn.functional.softplus(-z)).sum()) == 100


def test_running_means_go_by_epochs_and_a_look_counts_whole():
    policy = guarded(RandomPruning(keep=0.5), alpha=0.25, first=100)
    state = policy.init(3)
    for epoch, x in ((0, 2.0), (1, 1.0), (4, 5.0)):
        state = policy.observe(state | {"epoch": epoch}, torch.tensor([1]), loss=torch.tensor([x]))
    mean = 0.75 * 2 + 0.25 * 1
    assert float(state["mean"][1]) == pytest.approx(0.75**3 * mean + (1 - 0.75**3) * 5)
    assert state["mean"].isnan().tolist() == [True, False, True]
    state |= {"suspect": torch.tensor([False, True, False]), "epoch": 5}
    assert float(policy.observe(state, torch.tensor([1]), loss=torch.tensor([0.125]))["mean"][1]) == 0.125


def test_no_more_than_most_are_suspected_and_those_of_highest_loss():
    mean = torch.cat([torch.linspace(0.1, 0.6, 50), torch.linspace(3.0, 5.0, 50)])
    assert picked(mean, 2.0, 0.5).nonzero().flatten().tolist() == list(range(50, 100))
    assert picked(mean, 2.0, 0.1).nonzero().flatten().tolist() == list(range(90, 100))
    tied = torch.cat([torch.linspace(0.1, 0.6, 50), torch.full((50,), 4.0)])
    assert int(picked(tied, 2.0, 0.1).sum()) == 0  # not the first ids
    assert int(picked(tied, 2.0, 0.5).sum()) == 50
    assert int(picked(mean, 2.0, 0.0).sum()) == 0


def test_the_unobserved_are_never_suspected_and_constant_losses_neither():
    mean = torch.cat([torch.linspace(0.1, 0.6, 50), torch.linspace(3.0, 5.0, 30), torch.full((10,), torch.nan)])
    assert picked(mean, 2.0, 0.5).nonzero().flatten().tolist() == list(range(50, 80))
    for value in (0.0, 0.7, 5.0, 1e30):
        assert not bool(picked(torch.full((20,), value), 2.0, 0.5).any())
    assert not bool(picked(torch.full((20,), torch.nan), 2.0, 0.5).any())
    assert not bool(picked(torch.tensor([5.0]), 2.0, 0.5).any())


def test_the_policys_own_state_stays_with_its_examples():
    policy = guarded(UCB(keep=0.5, period=1), look=20, first=10, period=100)
    plan, state = Training(0.3).run(policy, 14)[-1]
    assert int(dropped(state).sum()) > 200
    score = (state["policy.mean"] + state["policy.variance"]).masked_fill(dropped(state), -1)
    best, looks = set(score.topk(500).indices.tolist()), set(policy.revisited(N, 13, bound(0)).tolist())
    assert ids(plan) - looks < best
    assert len(ids(plan) & best) >= 500 - len(looks)


def test_weights_stay_with_their_examples_and_a_look_weighs_one():
    policy, training = guarded(LossPower(keep=0.5, weighted=True, floor=0.5), look=20, first=8), Training(0.3)
    plan, state = training.run(policy, 14)[-1]
    looks = torch.isin(plan.index, policy.revisited(N, 13, bound(0)))
    mean = state["policy.mean"][plan.index]
    order = mean[~looks].argsort()
    assert bool((plan.weight[~looks][order].diff() <= 1e-5).all())  # a higher loss weighs less
    assert float(plan.weight[~looks].max()) > 1.2
    assert set(plan.weight[dropped(state)[plan.index]].tolist()) == {1.0}


def test_a_held_decision_ends_where_the_suspected_change():
    policy = guarded(UCB(keep=0.5, period=100), look=20, first=10, period=100)
    out, training = Training(0.3).run(policy, 14), []
    for plan, state in out:
        looks = set(policy.revisited(N, len(training), bound(0)).tolist())
        training.append(set(((state["policy.reason"] < 10) & ~dropped(state)).nonzero().flatten().tolist()))
        assert ids(plan) - looks <= training[-1] or len(plan) == N
    assert training[1] == training[9] != training[10] == training[13]
    assert [len(held) for held in training[1:]] == [500] * 13


def test_it_needs_the_loss_and_what_the_policy_needs():
    assert guarded(RandomPruning(keep=0.5)).needs == ("loss",)
    assert guarded(UCB(keep=0.5)).needs == ("loss",)
    assert recorded(guarded(RandomPruning(keep=0.5))).needs == ("loss",)
    with pytest.raises(ArgumentError, match=r"known chance .*got Guarded"):
        rescaled(guarded(RandomPruning(keep=0.5)))


def test_a_saved_sampler_goes_on_as_it_would_have():
    policy, n = guarded(UCB(keep=0.5, period=2), first=9, period=2, look=3), 600

    def epochs(sampler, training, first, last):
        out = []
        for epoch in range(first, last):
            sampler.set_epoch(epoch)
            index = torch.tensor(list(sampler))
            sampler.observe(index, training.loss(epoch, index))
            out.append(index.tolist())
        return out

    full_runs, training = PolicySampler(policy, n), Training(0.3, n=n)
    first = epochs(full_runs, training, 0, 12)
    full_runs.set_epoch(12)
    saved, visits = full_runs.state_dict(), training.visits.clone()
    rest = epochs(full_runs, training, 12, 15)
    again, training.visits = PolicySampler(policy, n), visits
    again.load_state_dict(saved)
    assert epochs(again, training, 12, 15) == rest
    assert bool(saved["state"]["suspect"].any())
    assert len(first[0]) == n


def test_planning_with_suspects_changes_nothing_that_was_given():
    policy = guarded(every(UCB(keep=0.5, period=1), 2))
    for epoch, (_, state) in enumerate(Training(0.3).run(policy, 12)):
        before = copied(state)
        a, after = policy.plan(epoch, state, bound(0))
        b, _ = policy.plan(epoch, after, bound(0))
        assert same(state, before)
        assert a.index.equal(b.index)
        assert same(after, before)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: guarded(StaticSubset(static(8))), "can choose among any examples, got StaticSubset"),
        (lambda: guarded(warm_up(ExampleSwap(), 1)), "can choose among any examples, got WarmUp"),
        (lambda: guarded(Replay(logged(8))), "can choose among any examples, got Replay"),
        (lambda: guarded(recorded(UCB(keep=0.5))), r"recorded\(\) goes around guarded\(\)"),
        (lambda: guarded(UCB), "policy must be a policy such as"),
        (lambda: guarded(UCB(0.5), first=0), r"first must be a whole number in \[1, .*got 0"),
        (lambda: guarded(UCB(0.5), period=0), r"period must be a whole number in \[1, .*got 0"),
        (lambda: guarded(UCB(0.5), separation=-1), r"separation must be a number in \[0, .*got -1"),
        (lambda: guarded(UCB(0.5), max_fraction=1.5), r"max_fraction must be a number in \[0, 1\], got 1.5"),
        (lambda: guarded(UCB(0.5), alpha=0), r"alpha must be a number in .*got 0"),
        (lambda: guarded(UCB(0.5), look=1), r"look must be a whole number in \[2, .*got 1"),
    ],
    ids=["static", "swap", "replay", "recorded", "class", "first", "period", "separation", "most", "alpha", "look"],
)
def test_what_it_is_given_is_checked(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
