"""`PolicySampler`, by the checklist of dynamic.md section 6 (what the field's released samplers get wrong).

Here: an epoch ends with torch's current BatchSampler and two iterators are one plan; len is exact after set_epoch; the
plan is made once an epoch; observations (half precision, ids beyond 65,536, duplicates, micro-batches, prefetchers,
non-finite losses); weights, also after the annealing; padding, dropping, fixed steps; schedules; progress; no
global generator. `test_sampler_data`: Subset, Hugging Face datasets, custom collate, pickles, spawned workers.
`test_sampler_resume`: kill and resume. `test_sampler_processes`: two processes on gloo. `test_sampler_gpu`: no sync.
"""

from __future__ import annotations

import itertools
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

import datawinnow as dw
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.rng import stream
from datawinnow.dynamic import UCB, InfoBatch, RandomPruning, reduce
from datawinnow.dynamic.sampler import PolicySampler, observations
from tests.dynamic.sampler_cases import InOrder, Pairs, Worst, loss_of, train


@pytest.mark.parametrize("drop_last", [False, True], ids=["whole", "drop_last"])
def test_an_epoch_ends_and_two_iterators_are_one_plan(drop_last: bool) -> None:
    sampler = PolicySampler(RandomPruning(keep=0.5), n=100)
    sampler.set_epoch(3)
    batches = list(itertools.islice(BatchSampler(sampler, 8, drop_last), 200))
    assert len(batches) == (6 if drop_last else 7)
    assert batches == list(BatchSampler(sampler, 8, drop_last))
    assert list(sampler) == list(iter(sampler)) == sampler.plan.index.tolist()
    assert sampler.epoch == 3


def test_iterators_run_side_by_side() -> None:
    sampler = PolicySampler(InOrder(6), n=6)
    assert list(zip(sampler, sampler, strict=True)) == [(i, i) for i in range(6)]


def test_an_iterator_keeps_its_epoch() -> None:
    sampler = PolicySampler(RandomPruning(keep=0.5), n=20)
    before = iter(sampler)
    expected = sampler.plan.index.tolist()
    sampler.set_epoch(1)
    assert list(before) == expected != list(sampler)


def test_no_framework_wraps_it_and_len_is_exact_after_set_epoch() -> None:
    sampler = PolicySampler(Worst(30), n=100)
    assert isinstance(sampler, DistributedSampler)
    loader = DataLoader(dw.indexed(Pairs(100)), batch_size=8, sampler=sampler)
    assert (len(sampler), len(loader)) == (100, 13)
    train(sampler, 0)
    sampler.set_epoch(1)
    assert (len(sampler), len(loader), len(list(loader))) == (30, 4, 4)
    assert (sampler.num_samples, sampler.total_size, len(sampler.dataset)) == (30, 30, 100)  # type: ignore[arg-type]
    assert sampler.realised == [1.0, 0.3]


def test_set_epoch_twice_changes_nothing_and_merges_once() -> None:
    sampler = PolicySampler(Worst(30), n=100)
    train(sampler, 0)
    sampler.set_epoch(1)
    order, plan = list(sampler), sampler.plan
    sampler.set_epoch(1)
    assert sampler.plan is plan
    assert list(sampler) == order
    assert sampler.state_dict()["state"]["merges"] == 1
    expected = loss_of(torch.arange(100)).argsort(descending=True, stable=True)[:30]
    assert sorted(order) == sorted(expected.tolist())


def test_going_back_is_refused_and_says_what_accelerate_needs() -> None:
    sampler = PolicySampler(RandomPruning(keep=0.5), n=10)
    sampler.set_epoch(4)
    with pytest.raises(RunError, match=r"at epoch 4 and cannot go back to 0.*loader.set_epoch"):
        sampler.set_epoch(0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_ids_beyond_65536_survive_half_precision_losses(dtype: torch.dtype) -> None:
    n = 70_000
    sampler = PolicySampler(Worst(3), n=n)
    index = torch.tensor([4097, 65_537, 69_999, 2049])
    sampler.observe(index, torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=dtype))
    sampler.set_epoch(1)
    assert sorted(sampler) == [4097, 65_537, 69_999]
    assert sampler.state_dict()["state"]["loss"][index].tolist() == [1.0, 2.0, 3.0, 0.5]


@pytest.mark.parametrize("batches", [1, 2, 700], ids=["in a batch", "in two", "over many"])
def test_of_two_visits_the_later_counts(batches: int) -> None:
    sampler = PolicySampler(Worst(5), n=50)
    visits = torch.randint(50, (1400,), generator=stream(0, "visits"))
    values = torch.rand(1400, generator=stream(0, "values"))
    for index, loss in zip(visits.tensor_split(batches), values.tensor_split(batches), strict=True):
        sampler.observe(index, loss)
    expected = torch.zeros(50)
    for i, value in zip(visits.tolist(), values.tolist(), strict=True):
        expected[i] = value
    sampler.set_epoch(1)
    assert torch.equal(sampler.state_dict()["state"]["loss"], expected)


def test_micro_batches_and_other_orders_of_observing_give_the_same_plan() -> None:
    at_once, in_batches = PolicySampler(Worst(20), n=64), PolicySampler(Worst(20), n=64)
    train(at_once, 0, batch=16)
    for index in torch.tensor(list(in_batches)).split(16):
        for micro in reversed(index.split(3)):
            in_batches.observe(micro.to(torch.int32), loss_of(micro))
    for sampler in (at_once, in_batches):
        sampler.set_epoch(1)
    assert list(at_once) == list(in_batches)


def test_what_the_user_does_to_loss_and_ids_afterwards_does_not_reach_it() -> None:
    sampler = PolicySampler(Worst(2), n=4)
    index, loss = torch.arange(4), torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    scaled = loss * 1.0
    sampler.observe(index, scaled)
    with torch.no_grad():
        scaled.mul_(-1)
        index.zero_()
    sampler.set_epoch(1)
    assert sorted(sampler) == [2, 3]
    assert not sampler.state_dict()["state"]["loss"].requires_grad


def test_losses_that_are_not_finite_count_as_not_observed_and_are_told() -> None:
    sampler = PolicySampler(Worst(2), n=4)
    sampler.observe(torch.arange(4), torch.tensor([1.0, torch.nan, torch.inf, 0.5]))
    with pytest.warns(UserWarning, match="2 observed losses were not finite"):
        sampler.set_epoch(1)
    assert sorted(sampler) == [0, 3]


def test_each_epoch_tells_its_own_losses_that_were_not_finite() -> None:
    sampler = PolicySampler(Worst(4), n=4)
    messages = []
    for epoch, bad in enumerate([2, 0, 1, 0]):
        values = torch.ones(4)
        values[:bad] = torch.nan
        sampler.observe(torch.arange(4), values)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sampler.set_epoch(epoch + 1)
        messages.append([str(one.message).split()[0] for one in caught])
    assert messages == [["2"], [], ["1"], []]


def test_forgetting_to_observe_is_told_once() -> None:
    sampler = PolicySampler(UCB(keep=0.5), n=10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch in (1, 2, 3):
            sampler.set_epoch(epoch)
    assert len(caught) == 1
    assert re.search("UCB plans from loss, but nothing was observed in epoch 0", str(caught[0].message))
    assert len(sampler) == 10


@pytest.mark.parametrize("batches", [300, 600])
def test_what_is_staged_is_bounded(batches: int) -> None:
    sampler = PolicySampler(Worst(5), n=50)
    max_staged = 0
    for k in range(batches):
        sampler.observe(torch.tensor([k % 50]), torch.tensor([float(k)]))
        max_staged = max(max_staged, len(sampler.observations.staged))
    assert 16 <= max_staged <= 256
    table = sampler.observations.table
    assert table is not None
    written = batches - len(sampler.observations.staged)
    assert table[0].tolist() == [float(max(k for k in range(written) if k % 50 == i)) for i in range(50)]


def test_a_policy_without_needs_is_told_nothing() -> None:
    class Deaf(InOrder):
        def observe(self, state: Any, index: torch.Tensor, **signals: torch.Tensor) -> Any:
            raise AssertionError("it asked for nothing")

    sampler = PolicySampler(Deaf(6), n=8)
    for epoch in range(3):
        assert train(sampler, epoch) == list(range(6))
        assert sampler.position == 6
    assert set(sampler.state_dict()["observed"]) == {"index"}


def test_observing_checks_what_it_is_given() -> None:
    sampler = PolicySampler(Worst(2), n=4)
    two = torch.arange(2)
    with pytest.raises(ArgumentError, match=r'scalar.*reduction="none"'):
        sampler.observe(two, torch.tensor(1.0))
    with pytest.raises(ArgumentError, match=r"shape \(2, 5\).*per_example"):
        sampler.observe(two, torch.ones(2, 5))
    with pytest.raises(ArgumentError, match=r"index's shape \(2,\), got \(3,\)"):
        sampler.observe(two, torch.ones(3))
    with pytest.raises(ArgumentError, match=r"integer ids.*float16"):
        sampler.observe(two.half(), torch.ones(2))
    with pytest.raises(ArgumentError, match=r"integer ids.*torch\.bool"):  # a mask is no list of ids
        sampler.observe(torch.tensor([True, False]), torch.ones(2))
    with pytest.raises(ArgumentError, match="ids of 0 to 3, got 4"):
        sampler.observe(torch.tensor([0, 4]), torch.ones(2))
    with pytest.raises(ArgumentError, match="Worst needs loss observed, got correct"):
        sampler.observe(two, correct=torch.ones(2))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n": 0}, "n must be"),
        ({"steps": 3}, "give batch="),
        ({"rank": 0}, "num_replicas and rank together"),
        ({"num_replicas": 2, "rank": 2}, "rank must be"),
        ({"epochs": 0}, "epochs must be"),
    ],
    ids=["n", "steps", "rank alone", "rank", "epochs"],
)
def test_arguments_are_checked(options: dict[str, int], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        PolicySampler(RandomPruning(keep=0.5), **{"n": 10, **options})


def test_a_policy_that_plans_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"InOrder planned id 11 of n=10 for epoch 0"):
        len(PolicySampler(InOrder(12), n=10))


def test_weights_are_looked_up_by_id_and_do_not_outlive_their_epoch() -> None:
    sampler = PolicySampler(InOrder(4, weight=2.0), n=6)
    assert sampler.weight[torch.tensor([3, 0, 5], dtype=torch.int32)].tolist() == [2.0, 2.0, 1.0]
    held = sampler.weight
    sampler.set_epoch(1)
    assert sampler.weight[[3, 0, 5]].tolist() == [1.0, 1.0, 1.0]
    assert held[[3]].tolist() == [2.0]


def test_weights_are_on_the_device_of_the_loss_wherever_the_ids_are() -> None:
    # "meta" has shapes and no numbers, and so can stand for a GPU
    for needs in ((), ("loss",)):
        sampler = PolicySampler(InOrder(4, weight=2.0, needs=needs), n=6)
        assert sampler.weight[torch.arange(3)].device.type == "cpu"
        sampler.observe(torch.arange(3), torch.ones(3, device="meta"))
        assert sampler.weight[torch.arange(3)].device.type == "meta"


def test_weights_are_one_in_the_annealing_at_a_boundary_that_is_no_integer() -> None:
    sampler = PolicySampler(InfoBatch(epochs=10, delta=0.75), n=64, epochs=10)  # 7.5 epochs prune
    for epoch in range(10):
        train(sampler, epoch)
        weight = sampler.weight[torch.arange(64)]
        assert (len(sampler) == 64) == (epoch in (0, 8, 9))
        assert bool((weight != 1).any()) == (epoch in range(1, 8))


def test_the_sum_of_weighted_losses_is_that_of_all_within_four_standard_errors() -> None:
    n, draws = 400, 200
    loss = torch.empty(n).exponential_(generator=stream(0, "losses"))
    sums = []
    for seed in range(draws):
        sampler = PolicySampler(InfoBatch(epochs=10), n=n, seed=seed)
        sampler.observe(torch.arange(n), loss)
        sampler.set_epoch(1)
        index = torch.tensor(list(sampler))
        sums.append(reduce.none(loss[index], sampler.weight[index]).sum())
    estimates = torch.stack(sums)
    assert estimates.std() > 0
    assert abs(float(estimates.mean() - loss.sum())) < 4 * float(estimates.std()) / draws**0.5


@pytest.mark.parametrize("drop_last", [False, True], ids=["pad", "drop"])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_shards_are_equal_and_cover_and_what_is_repeated_or_dropped_rotates(world: int, drop_last: bool) -> None:
    n, odd_ones = 10, []
    samplers = [
        PolicySampler(InOrder(n), n, num_replicas=world, rank=rank, drop_last=drop_last) for rank in range(world)
    ]
    for epoch in range(n):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        shards = [list(sampler) for sampler in samplers]
        together = [i for shard in shards for i in shard]
        assert {len(shard) for shard in shards} == {len(s) for s in samplers} == {len(together) // world}
        times = torch.bincount(torch.tensor(together), minlength=n)
        odd = (times != 1).nonzero().flatten().tolist()
        assert set(times[odd].tolist()) <= {0 if drop_last else 2}
        assert len(odd) == (n % world if drop_last else -n % world)
        odd_ones += odd
    assert odd_ones == [] if n % world == 0 else set(odd_ones) == set(range(n))


def test_fewer_examples_than_processes_still_give_each_one() -> None:
    shards = [list(PolicySampler(InOrder(2), 2, num_replicas=5, rank=r, drop_last=True)) for r in range(5)]
    assert [len(s) for s in shards] == [1] * 5
    assert {i for s in shards for i in s} == {0, 1}


@pytest.mark.parametrize(("drop_last", "steps"), [(False, 3), (True, 2)], ids=["pad", "drop"])
def test_steps_are_those_of_one_process(drop_last: bool, steps: int) -> None:
    for needs in ((), ("loss",)):
        policy = InOrder(9, needs=needs)
        sampler = PolicySampler(policy, 9, num_replicas=2, rank=1, batch=2, epochs=4, drop_last=drop_last)
        assert len(sampler) == (4 if drop_last else 5)
        assert len(list(BatchSampler(sampler, 2, drop_last=False))) == steps
        assert sampler.total_steps() == 4 * steps
        assert sampler.total_steps(batch=1, epochs=3) == 3 * len(sampler)
        assert sampler.progress(0, 1) == pytest.approx(1 / steps / 4)


@pytest.mark.parametrize(("m", "steps"), [(10, 2), (10, 6)], ids=["cut", "repeated"])
def test_fixed_steps_are_exact_whatever_the_plan_and_rotate(m: int, steps: int) -> None:
    sampler = PolicySampler(InOrder(m), n=12, batch=4, steps=steps, epochs=5)
    seen = []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        batches = list(BatchSampler(sampler, 4, drop_last=False))
        assert [len(b) for b in batches] == [4] * steps
        times = torch.bincount(torch.tensor(batches).flatten(), minlength=m)
        assert int(times.max() - times.min()) <= 1
        seen.append(times)
    assert int(torch.stack(seen).sum(0).max() - torch.stack(seen).sum(0).min()) <= 1
    assert sampler.total_steps() == 5 * steps
    assert sampler.realised == [steps * 4 / 12] * 5


def test_one_cycle_is_not_overrun_by_the_last_epoch() -> None:
    for options, policy in (({}, Worst(20)), ({"steps": 4}, Worst(20)), ({}, RandomPruning(keep=0.3))):
        sampler = PolicySampler(policy, n=50, batch=8, epochs=6, **options)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=sampler.total_steps())
        steps = 0
        for epoch in range(6):
            for _ in range(-(-len(train(sampler, epoch)) // 8)):
                optimizer.step()
                steps += 1
                if steps < sampler.total_steps():
                    schedule.step()  # one step too many raises
        assert steps <= schedule.total_steps
        if options or isinstance(policy, RandomPruning):
            assert steps == schedule.total_steps
        assert sampler.total_steps() == steps  # by now all epochs are known


def test_progress_ends_at_one_however_many_examples_ran() -> None:
    sampler = PolicySampler(Worst(20), n=50, batch=8, epochs=4)
    points = []
    for epoch in range(4):
        steps = -(-len(train(sampler, epoch)) // 8)
        points += [sampler.progress(epoch, step) for step in range(steps + 1)]
    assert points[0] == 0.0
    assert points[-1] == 1.0
    assert points == sorted(points)
    assert points[8:12] == pytest.approx([1.0 / 4, (1 + 1 / 3) / 4, (1 + 2 / 3) / 4, 2 / 4])
    assert sampler.progress(3, steps + 5) == 1.0
    with pytest.raises(ArgumentError, match="is at epoch 3, not 2"):
        sampler.progress(2, 0)
    with pytest.raises(ArgumentError, match="with epochs="):
        PolicySampler(Worst(20), n=50, batch=8).progress(0, 0)
    with pytest.raises(ArgumentError, match="batch is unknown"):
        PolicySampler(Worst(20), n=50, epochs=1).progress(0, 0)


def test_progress_never_passes_the_end_of_an_epoch_or_of_the_run() -> None:
    sampler = PolicySampler(RandomPruning(keep=0.5), n=40, batch=8, epochs=4)
    assert sampler.progress(0, 3) == sampler.progress(0, 50) == 1 / 4
    sampler.set_epoch(6)
    assert sampler.progress(6, 0) == 1.0


def test_no_global_generator_is_touched_and_seeds_differ() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    orders = []
    for seed in (0, 0, 1):
        sampler = PolicySampler(RandomPruning(keep=0.5), n=40, seed=seed)
        train(sampler, 0)
        sampler.set_epoch(1)
        orders.append(list(sampler))
    assert orders[0] == orders[1] != orders[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_reader_that_runs_ahead_changes_neither_ids_nor_position() -> None:
    sampler = PolicySampler(Worst(20), n=64)
    loader = DataLoader(dw.indexed(Pairs(64)), batch_size=8, sampler=sampler)
    ahead = iter(loader)
    waiting = [next(ahead), next(ahead), next(ahead)]
    index, x, _ = waiting[0]
    assert index.tolist() == x.flatten().long().tolist()
    sampler.observe(index, loss_of(index))
    assert sampler.position == 8
    assert sampler.state_dict()["observed"]["index"].tolist() == sorted(index.tolist())


def test_ids_outside_the_plan_are_told_once() -> None:
    sampler = PolicySampler(UCB(keep=0.5, period=1), n=20)
    for epoch in range(4):
        sampler.set_epoch(epoch) if epoch < 2 else None
        if epoch >= 2:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                sampler.set_epoch(epoch)
            texts = [str(w.message) for w in caught]
            assert len(texts) == (epoch == 2)
            if texts:
                assert "10 examples were observed in epoch 1 that were not in its plan" in texts[0]
        sampler.observe(torch.arange(20), torch.rand(20))  # as a loader without the sampler does


def test_an_epoch_that_begins_again_without_set_epoch_is_told_once() -> None:
    sampler = PolicySampler(UCB(keep=0.5), n=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(sampler)
        sampler.observe(torch.tensor(list(sampler))[:19], torch.rand(19))
        list(sampler)  # looked at while the epoch runs
        sampler.observe(torch.tensor(list(sampler))[19:], torch.rand(1))
    with pytest.warns(UserWarning, match=r"all examples of epoch 0 were observed already.*call sampler\.set_epoch"):
        list(sampler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(sampler)
        sampler.set_epoch(1)
        list(sampler)


def test_signals_may_be_arrays_and_lists() -> None:
    sampler = PolicySampler(UCB(keep=0.5, period=1), n=4)
    sampler.observe([0, 1], [0.5, 2.0])
    sampler.observe(np.array([2, 3]), np.array([0.1, 1.0]))
    sampler.set_epoch(1)
    assert sorted(sampler) == [1, 3]
    with pytest.raises(ArgumentError, match="loss must be an array of numbers"):
        sampler.observe([0], "no")


def test_what_the_others_saw_does_not_stay_when_a_checkpoint_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two processes, the other acted out: it saw example 1 at 9."""
    other = torch.full((1, 4), observations.NOT_SEEN)
    other[0, 1] = 9.0
    monkeypatch.setattr(observations, "is_distributed", lambda: True)
    monkeypatch.setattr(observations, "communication_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(observations.dist, "all_reduce", lambda t, op: t.copy_(torch.maximum(t, other)))
    seen = observations.Observations(4, ["loss"])
    seen.add(torch.tensor([0, 1]), [torch.tensor([5.0, 3.0])], torch.device("cpu"))
    seen.pool()
    index, signals = seen.read()
    assert (index.tolist(), signals["loss"].tolist()) == ([0, 1], [5.0, 9.0])
    seen.add(torch.tensor([0, 1]), [torch.tensor([2.0, 1.0])], torch.device("cpu"))
    assert not seen.pooled
    assert seen.read()[1]["loss"].tolist() == [2.0, 1.0]  # of two visits here the later counts
    seen.pool()
    assert seen.take()[1]["loss"].tolist() == [2.0, 9.0]
    assert seen.read()[0].tolist() == []
