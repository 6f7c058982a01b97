"""A recorded plan: kept, saved, read again and trained on by another network."""

import pickle

import numpy as np
import pytest
import torch

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.selection import Selection
from datawinnow.core.selection_history import SelectionHistory
from datawinnow.dynamic import (
    UCB,
    InfoBatch,
    PolicySampler,
    RandomPruning,
    Replay,
    annealed,
    expected_fraction,
    recorded,
    warm_up,
)
from datawinnow.dynamic.sampler.resume import policy_repr
from tests.dynamic.helpers import bound, logged, run

N = 40


def plans_of(log):
    """(ids, weights) of every epoch."""
    return [(log.ids(e).tolist(), log.weights(e).tolist()) for e in range(len(log))]


@pytest.mark.parametrize(
    "inner",
    [RandomPruning(keep=0.3), UCB(keep=0.5, period=2), InfoBatch(epochs=8), annealed(UCB(keep=0.5), 8)],
    ids=str,
)
def test_a_replay_has_the_recorded_ids_in_the_recorded_order_with_their_weights(inner):
    policy = recorded(inner)
    before = [(plan.index.tolist(), plan.weight.tolist()) for plan, _, _ in run(policy, N)]
    replay = Replay(policy.history())
    for seed in (0, 7):  # another seed and other losses, as of another network
        after = [(p.index.tolist(), p.weight.tolist()) for p, _, _ in run(replay, N, seed=seed, loss=torch.ones(N))]
        assert after == before
    assert (policy.history().weight is None) == (not isinstance(inner, InfoBatch))


class Spy(torch.nn.Module):
    """A network that writes down which examples it trained on: their number is in the first pixel."""

    def __init__(self, width, seen):
        super().__init__()
        generator = torch.Generator().manual_seed(width)
        self.hidden, self.seen = torch.nn.Linear(4, width), seen
        self.out = torch.nn.Linear(width, 2)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.1

    def forward(self, x):
        if self.training:
            self.seen.append(x.flatten(1)[:, 0].mul(100).round().long().tolist())
        return self.out(torch.relu(self.hidden(x.flatten(1))))


def trained_on(width, policy, seed):
    """The ids of every batch of a training with `fit`."""
    from torch.utils.data import TensorDataset

    x = torch.rand(N, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    x[:, 0, 0, 0] = torch.arange(N) / 100
    data, seen = TensorDataset(x, (x[:, 0, 1, 1] > 0.5).long()), []
    dw.fit(Spy(width, seen), data, epochs=4, seed=seed, policy=policy, batch=8, precision="fp32")
    return seen


def test_another_network_trains_on_the_same_batches():
    first = recorded(UCB(keep=0.5, period=1))
    small = trained_on(3, first, seed=0)
    log = first.history()
    assert [i for batch in small for i in batch] == [i for e in range(4) for i in log.ids(e).tolist()]
    assert trained_on(9, Replay(log), seed=5) == small
    assert trained_on(9, UCB(keep=0.5, period=1), seed=5) != small


def test_a_sampler_records_and_replays():
    policy = recorded(warm_up(RandomPruning(keep=0.5), 1))
    sampler, order = PolicySampler(policy, N, seed=3), []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        order.append(list(sampler))
    replay = PolicySampler(Replay(policy.history()), N, seed=8, epochs=4, batch=10)
    assert replay.total_steps() == 4 + 3 * 2
    for epoch in range(4):
        replay.set_epoch(epoch)
        assert list(replay) == order[epoch]


def test_recording_changes_neither_plans_nor_what_a_saved_sampler_says():
    plain, policy = UCB(keep=0.5), recorded(UCB(keep=0.5))
    for (a, _, s), (b, _, t) in zip(run(plain, N), run(policy, N), strict=True):
        assert a.index.equal(b.index)
        assert s.keys() == t.keys()
    first, second = PolicySampler(recorded(plain), N), PolicySampler(recorded(plain), N)
    first.observe(torch.arange(N), torch.ones(N))
    first.set_epoch(1)
    second.load_state_dict(first.state_dict())
    assert second.plan.index.equal(first.plan.index)
    assert plans_of(pickle.loads(pickle.dumps(policy)).history()) == plans_of(policy.history())


def test_a_new_run_begins_a_new_log_and_a_resumed_one_says_what_is_missing():
    policy = recorded(RandomPruning(keep=0.5))
    with pytest.raises(RunError, match=r"plans of epochs \[0\] were not made by this object"):
        policy.history()
    run(policy, N, epochs=6)
    run(policy, N, epochs=3, seed=1)
    assert len(policy.history()) == 3
    again = recorded(RandomPruning(keep=0.5))
    for epoch in (2, 4):
        again.plan(epoch, again.init(N), bound(0))
    with pytest.raises(RunError, match=r"plans of epochs \[0, 1, 3\] were not made"):
        again.history()


def test_a_run_that_is_resumed_has_its_whole_log_where_it_keeps_it_in_a_folder(tmp_path):
    def policy(**kwargs):
        return recorded(warm_up(UCB(keep=0.5, period=1), 1), **kwargs)

    def train(kept, **kwargs):
        options = {"epochs": 6, "seed": 3, "policy": kept, "batch": 8, "precision": "fp32", **kwargs}
        from torch.utils.data import TensorDataset

        x = torch.rand(N, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        dw.fit(Spy(3, []), TensorDataset(x, (x[:, 0, 1, 1] > 0.5).long()), **options)

    def killed(epoch, history):
        if epoch == 3:
            raise KeyboardInterrupt

    unbroken, interrupted, file = policy(), tmp_path / "parts", tmp_path / "c.safetensors"
    train(unbroken)
    with pytest.raises(KeyboardInterrupt):
        train(policy(folder=interrupted), checkpoint=file, on_epoch=killed)
    assert len(list(interrupted.iterdir())) == 4
    train(policy(), checkpoint=tmp_path / "memory", epochs=1)
    again, lost = policy(folder=interrupted), policy()
    (tmp_path / "other").write_bytes(file.read_bytes())
    train(again, checkpoint=file)
    train(lost, checkpoint=tmp_path / "other")
    assert plans_of(again.history()) == plans_of(unbroken.history())
    assert again.history().made_by == unbroken.history().made_by
    with pytest.raises(RunError, match=r"plans of epochs \[1, 2\] were not made by this object.*folder="):
        lost.history()
    (interrupted / "000002.safetensors").write_bytes(b"cut")
    with pytest.raises(RunError, match=r"000002\.safetensors is truncated"):
        again.history()
    (interrupted / "000002.safetensors").unlink()
    with pytest.raises(RunError, match=r"plans of epochs \[2\] were not made"):
        again.history()


def test_what_a_longer_run_left_in_the_folder_is_not_in_the_log(tmp_path):
    run(recorded(RandomPruning(keep=0.5), folder=tmp_path), N, epochs=6)
    policy = recorded(RandomPruning(keep=0.25), folder=str(tmp_path))
    with pytest.raises(RunError, match="plans of epochs"):
        policy.history()
    plans = [(plan.index.tolist(), plan.weight.tolist()) for plan, _, _ in run(policy, N, epochs=3, seed=1)]
    assert plans_of(policy.history()) == plans
    # a folder does not change what is chosen
    assert policy_repr(policy) == policy_repr(recorded(RandomPruning(keep=0.25)))


def test_a_log_says_what_made_it_and_what_it_cost():
    policy = recorded(UCB(keep=0.25, period=1))
    run(policy, N, epochs=5)
    log = policy.history()
    assert log.made_by == repr(UCB(keep=0.25, period=1))
    assert log.num_passed == log.cost == 40 + 4 * 10
    assert (log.n, len(log), log.fingerprint) == (N, 5, None)
    assert log.index.dtype == np.int32
    assert log.mean_fraction == expected_fraction(Replay(log)) == 80 / 200
    with_cost = policy.history(cost=8.0, fingerprint="abc", made_by="a network of a tenth")
    assert (with_cost.cost, with_cost.fingerprint, with_cost.made_by) == (8.0, "abc", "a network of a tenth")


def test_after_the_last_epoch_it_stops_or_begins_again():
    log = logged(N, epochs=3)
    with pytest.raises(ArgumentError, match=r"the plan has 3 epochs, so there is none for epoch 3: .*cycle"):
        Replay(log).plan(3, {"n": N}, bound(0))
    again = Replay(log, after="cycle")
    for epoch in (0, 2, 3, 7):
        assert again.plan(epoch, {"n": N}, bound(0))[0].index.tolist() == log.ids(epoch % 3).tolist()
    with pytest.raises(ArgumentError, match=r"epoch must be in \[0, 2\], got 3"):
        log.ids(3)


def test_another_dataset_is_refused():
    with pytest.raises(ArgumentError, match="the plan is of n=40 examples, but there are n=41"):
        Replay(logged(N)).init(41)
    with pytest.raises(ArgumentError, match="the plan is of n=40 examples"):
        PolicySampler(Replay(logged(N)), 41)
    with pytest.raises(ArgumentError, match="fingerprint 7b5e, this one has 1234"):
        Replay(logged(N, fingerprint="7b5e"), fingerprint="1234")
    for source, other in (("7b5e", "7b5e"), (None, "1234"), ("7b5e", None)):
        assert Replay(logged(N, fingerprint=source), fingerprint=other).init(N) == {"n": N}


def test_a_saved_replay_knows_its_plan():
    first, other = PolicySampler(Replay(logged(N)), N), PolicySampler(Replay(logged(N, weighted=False)), N)
    PolicySampler(Replay(logged(N)), N).load_state_dict(first.state_dict())
    with pytest.raises(RunError, match="the saved sampler has the policy"):
        other.load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: Replay("plan.safetensors"),
            r"history must be a SelectionHistory with order, got 'plan.saf.*SelectionHistory.load",
        ),
        (lambda: Replay(logged(8), after="stop"), "after must be one of 'error', 'cycle', got 'stop'"),
        (lambda: SelectionHistory.of([], 4), "plans is empty"),
        (lambda: SelectionHistory.of([Selection.of(torch.tensor([5]), 8)], 4), "index must hold ids of 0 to 3, got 5"),
        (lambda: recorded("ucb"), "policy must be a policy such as"),
    ],
    ids=["path", "after", "empty", "ids", "name"],
)
def test_what_they_are_given_is_checked(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
