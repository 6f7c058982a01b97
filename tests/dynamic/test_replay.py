"""A recorded plan: kept, saved, read again and trained on by another network."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.selection import Selection
from datawinnow.dynamic import (
    UCB,
    InfoBatch,
    PlanLog,
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
    return [(log.plan(e).index.tolist(), log.plan(e).weight.tolist()) for e in range(len(log))]


@pytest.mark.parametrize(
    "inner",
    [RandomPruning(keep=0.3), UCB(keep=0.5, period=2), InfoBatch(epochs=8), annealed(UCB(keep=0.5), 8)],
    ids=str,
)
def test_a_replay_has_the_recorded_ids_in_the_recorded_order_with_their_weights(inner):
    policy = recorded(inner)
    before = [(plan.index.tolist(), plan.weight.tolist()) for plan, _, _ in run(policy, N)]
    replay = Replay(policy.log())
    for seed in (0, 7):  # another seed and other losses, as of another network
        after = [(p.index.tolist(), p.weight.tolist()) for p, _, _ in run(replay, N, seed=seed, loss=torch.ones(N))]
        assert after == before
    assert (policy.log().weight is None) == (not isinstance(inner, InfoBatch))


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
    log = first.log()
    assert [i for batch in small for i in batch] == [i for e in range(4) for i in log.plan(e).index.tolist()]
    assert trained_on(9, Replay(log), seed=5) == small
    assert trained_on(9, UCB(keep=0.5, period=1), seed=5) != small


def test_a_sampler_records_and_replays():
    policy = recorded(warm_up(RandomPruning(keep=0.5), 1))
    sampler, order = PolicySampler(policy, N, seed=3), []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        order.append(list(sampler))
    replay = PolicySampler(Replay(policy.log()), N, seed=8, epochs=4, batch=10)
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
    assert pickle.loads(pickle.dumps(policy)).log().index.equal(policy.log().index)


def test_a_new_run_begins_a_new_log_and_a_resumed_one_says_what_is_missing():
    policy = recorded(RandomPruning(keep=0.5))
    with pytest.raises(RunError, match=r"plans of epochs \[0\] were not made by this object"):
        policy.log()
    run(policy, N, epochs=6)
    run(policy, N, epochs=3, seed=1)
    assert len(policy.log()) == 3
    again = recorded(RandomPruning(keep=0.5))
    for epoch in (2, 4):
        again.plan(epoch, again.init(N), bound(0))
    with pytest.raises(RunError, match=r"plans of epochs \[0, 1, 3\] were not made"):
        again.log()


def test_a_run_that_is_resumed_has_its_whole_log_where_it_keeps_it_in_a_folder(tmp_path):
    def policy(**how):
        return recorded(warm_up(UCB(keep=0.5, period=1), 1), **how)

    def train(kept, **how):
        options = {"epochs": 6, "seed": 3, "policy": kept, "batch": 8, "precision": "fp32", **how}
        from torch.utils.data import TensorDataset

        x = torch.rand(N, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        dw.fit(Spy(3, []), TensorDataset(x, (x[:, 0, 1, 1] > 0.5).long()), **options)

    def killed(epoch, history):
        if epoch == 3:
            raise KeyboardInterrupt

    whole, parts, file = policy(), tmp_path / "parts", tmp_path / "c.safetensors"
    train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(policy(folder=parts), checkpoint=file, on_epoch=killed)
    assert len(list(parts.iterdir())) == 4
    train(policy(), checkpoint=tmp_path / "memory", epochs=1)
    again, lost = policy(folder=parts), policy()
    (tmp_path / "other").write_bytes(file.read_bytes())
    train(again, checkpoint=file)
    train(lost, checkpoint=tmp_path / "other")
    assert plans_of(again.log()) == plans_of(whole.log())
    assert again.log().made_by == whole.log().made_by
    with pytest.raises(RunError, match=r"plans of epochs \[1, 2\] were not made by this object.*folder="):
        lost.log()
    (parts / "000002.safetensors").write_bytes(b"cut")
    with pytest.raises(RunError, match=r"000002\.safetensors is truncated"):
        again.log()
    (parts / "000002.safetensors").unlink()
    with pytest.raises(RunError, match=r"plans of epochs \[2\] were not made"):
        again.log()


def test_what_a_longer_run_left_in_the_folder_is_not_in_the_log(tmp_path):
    run(recorded(RandomPruning(keep=0.5), folder=tmp_path), N, epochs=6)
    policy = recorded(RandomPruning(keep=0.25), folder=str(tmp_path))
    with pytest.raises(RunError, match="plans of epochs"):
        policy.log()
    plans = [(plan.index.tolist(), plan.weight.tolist()) for plan, _, _ in run(policy, N, epochs=3, seed=1)]
    assert plans_of(policy.log()) == plans
    # a folder does not change what is chosen
    assert policy_repr(policy) == policy_repr(recorded(RandomPruning(keep=0.25)))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_first_of_a_log_ends_where_the_budget_ended(weighted):
    log = logged(N, epochs=3, weighted=weighted, cost=7.0, fingerprint="7b5e")  # 16 an epoch
    for passed, sizes in ((48, [16, 16, 16]), (40, [16, 16, 8]), (32, [16, 16]), (1, [1])):
        first = log.first(passed)
        assert [len(first.plan(e)) for e in range(len(first))] == sizes
        assert [i for ids, _ in plans_of(first) for i in ids] == log.index[:passed].tolist()
        assert [w for _, ws in plans_of(first) for w in ws] == [w for _, ws in plans_of(log) for w in ws][:passed]
        assert (first.cost, first.fingerprint, first.n) == (7.0, "7b5e", N)
    for wrong in (0, 49):
        with pytest.raises(ArgumentError, match=r"passed must be a whole number in \[1, 48\]"):
            log.first(wrong)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_log_over_a_selection_is_one_over_everything(weighted):
    log = logged(4, epochs=2, fraction=0.5, weighted=weighted)
    selection = Selection(torch.tensor([9, 2, 5, 7]), torch.tensor([1.0, 2.0, 1.0, 0.5]))
    out = log.outward(selection, 10)
    assert out.n == 10
    for epoch in range(2):
        before, after = log.plan(epoch), out.plan(epoch)
        assert after.index.tolist() == [[9, 2, 5, 7][i] for i in before.index]
        assert after.weight.tolist() == [
            float(w) * [1.0, 2.0, 1.0, 0.5][i] for i, w in zip(before.index, before.weight, strict=True)
        ]
    plain = Selection(torch.tensor([9, 2, 5, 7]), torch.ones(4))
    assert (log.outward(plain, 10).weight is None) == (log.weight is None)
    with pytest.raises(ArgumentError, match="the plan is about n=4 examples, but the selection has 2"):
        log.outward(Selection(torch.tensor([1, 2]), torch.ones(2)), 10)


def test_a_log_says_what_made_it_and_what_it_cost():
    policy = recorded(UCB(keep=0.25, period=1))
    run(policy, N, epochs=5)
    log = policy.log()
    assert log.made_by == repr(UCB(keep=0.25, period=1))
    assert log.passed == log.cost == 40 + 4 * 10
    assert (log.n, len(log), log.fingerprint) == (N, 5, None)
    assert log.index.dtype == torch.int32
    assert log.expected == Replay(log).expected == expected_fraction(Replay(log)) == 80 / 200
    told = policy.log(cost=8.0, fingerprint="abc", made_by="a network of a tenth")
    assert (told.cost, told.fingerprint, told.made_by) == (8.0, "abc", "a network of a tenth")


def test_break_even_is_counted_by_hand():
    log = logged(N, epochs=10, fraction=0.5, cost=60.0)
    assert log.passed == 200
    assert log.break_even(full=230) == 2.0  # each replay saves 30
    assert log.break_even(full=400) == 0.3
    assert log.break_even(full=200) is None
    assert log.break_even(full=100) is None


@pytest.mark.parametrize("weighted", [False, True])
def test_a_log_survives_the_disk(tmp_path, weighted):
    log = logged(N, weighted=weighted, fingerprint="7b5e", made_by="UCB", cost=1.5)
    log.save(tmp_path / "deep" / "plan.safetensors")
    read = PlanLog.load(str(tmp_path / "deep" / "plan.safetensors"))
    assert plans_of(read) == plans_of(log)
    assert (read.n, read.fingerprint, read.made_by, read.cost) == (N, "7b5e", "UCB", 1.5)
    assert (read.weight is None) == (not weighted)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["plan.safetensors"]


def test_many_examples_take_wide_ids(tmp_path):
    plan = Selection(torch.tensor([2**31 + 5, 3]), torch.ones(2))
    log = PlanLog.of([plan], 2**32)
    assert log.index.dtype == torch.int64
    log.save(tmp_path / "wide")
    assert PlanLog.load(tmp_path / "wide").index.tolist() == [2**31 + 5, 3]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    from pathlib import Path

    path = tmp_path / "plan"
    logged(N, cost=1.0).save(path)

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match="the disk is full"):
        logged(N, cost=2.0).save(path)
    assert PlanLog.load(path).cost == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["plan"]


GOOD = {"format": 1, "kind": "plan", "n": 4, "fingerprint": None, "made_by": "", "cost": 0.0}


def written(path, index=(0, 1, 2), ends=(2, 3), types=(torch.int32, torch.int64), weight=None, about=None, **metadata):
    """A file such as `save` writes, with whatever is wrong with it."""
    tensors = {"index": torch.tensor(index, dtype=types[0]), "ends": torch.tensor(ends, dtype=types[1])}
    if weight is not None:
        tensors["weight"] = weight
    text = json.dumps(GOOD | metadata) if about is None else about
    save_file(tensors, path, metadata={"datawinnow": text})
    return path


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99], ids=str)
def test_a_truncated_file_is_an_error(tmp_path, part):
    logged(N).save(tmp_path / "plan")
    data = (tmp_path / "plan").read_bytes()
    (tmp_path / "plan").write_bytes(data[: int(part * len(data))])
    with pytest.raises(RunError, match="plan is truncated or no plan"):
        PlanLog.load(tmp_path / "plan")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"index": (0, 1, 4)}, "damaged: index must hold ids of 0 to 3, got 4"),
        ({"index": (0, -1, 2)}, "damaged: index must hold ids of 0 to 3, got -1"),
        ({"index": (1, 1, 2)}, "damaged: epoch 0 of the plan: Selection.index has an id twice"),
        ({"index": ()}, "damaged: index must be int32 or int64 of one axis, with at least one number"),
        ({"index": ((0, 1), (2, 3))}, r"damaged: index must be .*got torch.int32 of shape \(2, 2\)"),
        ({"types": (torch.float32, torch.int64)}, "damaged: index must be int32 or int64 .*got torch.float32"),
        ({"types": (torch.int32, torch.int32)}, "damaged: ends must be int64"),
        ({"ends": (2, 5)}, "damaged: ends must rise to the 3 ids of index"),
        ({"ends": (2, 2, 3)}, "damaged: ends must rise to the 3 ids of index"),
        ({"ends": (5, 3)}, "damaged: ends must rise to the 3 ids of index"),
        ({"ends": (-1, 3)}, "damaged: ends must rise to the 3 ids of index"),
        ({"weight": torch.ones(2)}, "damaged: weight must have index's 3 numbers, got 2"),
        ({"weight": torch.tensor([1.0, torch.nan, 1.0])}, "damaged: epoch 0 .*weight must be finite"),
        ({"weight": torch.tensor([1.0, 1.0, -1.0])}, "damaged: epoch 1 .*weight must be finite and at least 0"),
        ({"weight": torch.ones(3, dtype=torch.float64)}, "damaged: weight must be float32"),
        ({"n": 0}, r"damaged: n must be a whole number in \[1, "),
        ({"n": "4"}, "damaged: n must be a whole number .*got '4'"),
        ({"n": None}, "damaged: n must be a whole number .*got None"),
        ({"cost": -1}, "damaged: cost must be a number .*got -1"),
        ({"cost": "much"}, "damaged: cost must be a number .*got 'much'"),
        ({"made_by": 3}, "damaged: made_by and fingerprint must be text"),
        ({"fingerprint": ["x"]}, "damaged: made_by and fingerprint must be text"),
        ({"kind": "checkpoint"}, "is no plan that datawinnow saved"),
        ({"about": "[1, 2]"}, "is no plan that datawinnow saved"),
        ({"about": "{"}, "is truncated or no plan"),
        ({"about": "[" * 100_000}, "is truncated or no plan"),
        ({"format": 99}, "written by a newer datawinnow"),
        ({"format": None}, "has no format version"),
    ],
    ids=lambda x: str(x)[:40] if isinstance(x, dict) else "",
)
def test_a_file_that_is_none_or_lies_is_an_error(tmp_path, wrong, match):
    assert len(PlanLog.load(written(tmp_path / "good"))) == 2
    with pytest.raises(RunError, match=match):
        PlanLog.load(written(tmp_path / "plan", **wrong))


def test_other_files_are_not_read(tmp_path):
    with pytest.raises(RunError, match=r"no such file: .*missing"):
        PlanLog.load(tmp_path / "missing")
    with pytest.raises(RunError, match="no such file"):
        PlanLog.load(tmp_path)
    (tmp_path / "pickle").write_bytes(pickle.dumps({"index": [1]}))
    with pytest.raises(RunError, match="is truncated or no plan"):
        PlanLog.load(tmp_path / "pickle")
    save_file({"index": torch.arange(3)}, tmp_path / "other")
    with pytest.raises(RunError, match="is no plan that datawinnow saved"):
        PlanLog.load(tmp_path / "other")


def test_after_the_last_epoch_it_stops_or_begins_again():
    log = logged(N, epochs=3)
    with pytest.raises(ArgumentError, match=r"the plan has 3 epochs, and epoch 3 was asked for: .*cycle"):
        Replay(log).plan(3, {"n": N}, bound(0))
    again = Replay(log, after="cycle")
    for epoch in (0, 2, 3, 7):
        assert again.plan(epoch, {"n": N}, bound(0))[0].index.equal(log.plan(epoch % 3).index)
    with pytest.raises(ArgumentError, match=r"epoch must be a whole number in \[0, 2\], got 3"):
        log.plan(3)


def test_another_dataset_is_refused():
    with pytest.raises(ArgumentError, match="the plan is about n=40 examples, but there are n=41"):
        Replay(logged(N)).init(41)
    with pytest.raises(ArgumentError, match="the plan is about n=40 examples"):
        PolicySampler(Replay(logged(N)), 41)
    with pytest.raises(ArgumentError, match="fingerprint 7b5e, this one has 1234"):
        Replay(logged(N, fingerprint="7b5e"), fingerprint="1234")
    for own, other in (("7b5e", "7b5e"), (None, "1234"), ("7b5e", None)):
        assert Replay(logged(N, fingerprint=own), fingerprint=other).init(N) == {"n": N}


def test_a_saved_replay_knows_its_plan():
    first, other = PolicySampler(Replay(logged(N)), N), PolicySampler(Replay(logged(N, weighted=False)), N)
    PolicySampler(Replay(logged(N)), N).load_state_dict(first.state_dict())
    with pytest.raises(RunError, match="the saved sampler has the policy"):
        other.load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Replay("plan.safetensors"), r"log must be a PlanLog, got 'plan.safetensors'; .*PlanLog.load"),
        (lambda: Replay(logged(8), after="stop"), "after must be one of 'error', 'cycle', got 'stop'"),
        (lambda: PlanLog.of([], 4), "plans is empty"),
        (lambda: PlanLog.of([Selection.of(torch.tensor([5]), 8)], 4), "index must hold ids of 0 to 3, got 5"),
        (lambda: recorded("ucb"), "policy must be a policy such as"),
    ],
    ids=["path", "after", "empty", "ids", "name"],
)
def test_what_they_are_given_is_checked(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()


def test_what_is_read_cannot_be_changed_by_who_trains_on_it():
    log = logged(N)
    plan = log.plan(1)
    plan.weight.zero_()
    plan.index.zero_()
    assert float(log.plan(1).weight.min()) >= 1
    assert len(set(log.plan(1).index.tolist())) == 16
