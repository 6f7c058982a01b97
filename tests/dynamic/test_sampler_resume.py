"""Kill and resume: at the end of an epoch, in the middle of one, and never into another run's state."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.selection import Selection
from datawinnow.dynamic import UCB, InfoBatch, RandomPruning, StaticSubset, every, warm_up
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.dynamic.sampler.resume import plan_digest, policy_repr, to_plain
from datawinnow.integrations.files import load_state, save_state
from tests.dynamic.sampler_cases import InOrder, Turning, Worst, train

EPOCHS, N = 5, 64
POLICIES = {
    "random": RandomPruning(keep=0.4),
    "ucb": UCB(keep=0.5, period=2),
    "infobatch": InfoBatch(epochs=EPOCHS),
    "own": Worst(20),
    "turning": Turning(20),
}


def sampler_of(policy: Any, **options: Any) -> PolicySampler:
    return PolicySampler(policy, **{"n": N, "seed": 1, "epochs": EPOCHS, "batch": 8, "fingerprint": "abc", **options})


def through_a_file(state: dict[str, Any], path: Path) -> dict[str, Any]:
    """Written and read as datawinnow does it, and as a checkpoint of torch without unpickling."""
    save_state(path / "state.safetensors", state)
    buffer = io.BytesIO()
    torch.save(load_state(path / "state.safetensors"), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("stop", [None, 0, 1, 3], ids=["end of epoch", "start", "1 batch", "3 batches"])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_the_order_after_a_resume_is_that_of_an_unbroken_run(policy: Any, stop: int | None, tmp_path: Path) -> None:
    uninterrupted = sampler_of(policy)
    unbroken = [train(uninterrupted, epoch) for epoch in range(EPOCHS)]
    killed = sampler_of(policy)
    done = [train(killed, 0), train(killed, 1), train(killed, 2, stop=stop)]
    state = through_a_file(killed.state_dict(), tmp_path)
    resumed = sampler_of(policy)
    resumed.load_state_dict(state)
    assert resumed.epoch == 2
    assert len(resumed) == len(unbroken[2])
    done[2] = done[2] + train(resumed, 2)
    done += [train(resumed, epoch) for epoch in range(3, EPOCHS)]
    assert done == unbroken
    assert resumed.realised == uninterrupted.realised


def test_a_process_killed_in_mid_epoch_goes_on_where_it_was(tmp_path: Path) -> None:
    script = """
import sys, os, signal
from pathlib import Path
from tests.dynamic.sampler_cases import train
from tests.dynamic.test_sampler_resume import POLICIES, sampler_of
from datawinnow.integrations.files import save_state
sampler = sampler_of(POLICIES["ucb"])
print(train(sampler, 0), flush=True)
print(train(sampler, 1, stop=2), flush=True)
save_state(Path(sys.argv[1]), sampler.state_dict())
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "state")], capture_output=True, text=True, cwd=root, timeout=200
    )
    assert done.returncode == -9, done.stderr[-2000:]
    before = [eval(line) for line in done.stdout.splitlines()]
    resumed, uninterrupted = sampler_of(POLICIES["ucb"]), sampler_of(POLICIES["ucb"])
    resumed.load_state_dict(load_state(tmp_path / "state"))
    unbroken = [train(uninterrupted, epoch) for epoch in range(3)]
    assert [before[0], before[1] + train(resumed, 1), train(resumed, 2)] == unbroken


def test_a_loop_that_skips_by_itself_loads_with_position_zero() -> None:
    killed = sampler_of(POLICIES["ucb"])
    train(killed, 0, stop=3)
    resumed = sampler_of(POLICIES["ucb"])
    resumed.load_state_dict(killed.state_dict(), position=0)
    assert list(resumed) == list(killed)
    assert resumed.state_dict()["observed"]["index"].numel() == 24
    resumed.start_at(24)
    assert list(resumed) == list(killed)[24:]
    assert resumed.position == 24  # before anything new is observed
    with pytest.raises(ArgumentError, match="position must be"):
        resumed.start_at(65)


def test_a_position_told_counts_though_nobody_was_observed() -> None:
    sampler = sampler_of(POLICIES["ucb"])
    sampler.start_at(24)
    assert sampler.position == 24
    assert sampler.state_dict()["position"] == 24
    order = list(sampler)
    sampler.observe(order[:8], torch.ones(8))
    assert sampler.position == 32


def test_the_position_counts_repetitions_of_a_short_plan_too() -> None:
    killed = sampler_of(InOrder(10), steps=3)
    first_ids = train(killed, 0, stop=2)
    assert killed.position == 16
    resumed = sampler_of(InOrder(10), steps=3)
    resumed.load_state_dict(killed.state_dict())
    rest = list(resumed)
    assert first_ids + rest == list(killed)
    assert resumed.position == 16
    resumed.observe(rest, torch.ones(8))
    assert resumed.position == 24  # of an epoch in which everybody was observed, only the count tells


def test_a_position_beyond_the_epoch_of_fewer_processes_is_its_end() -> None:
    for rank in range(3):  # 4 each of 10, so that 12 are behind the three
        killed = sampler_of(InOrder(10), n=10, num_replicas=3, rank=rank)
        train(killed, 0)
        killed.observations.pooled = True
        assert killed.position == 4
        one = sampler_of(InOrder(10), n=10)
        one.load_state_dict(killed.state_dict())
        assert one.position == 10
        assert list(one) == []


@pytest.mark.parametrize("stop", [0, 2], ids=["nothing observed", "2 batches"])
@pytest.mark.parametrize("times", [1, 300], ids=["staged", "in the table"])
def test_loading_forgets_what_was_observed_before(stop: int, times: int) -> None:
    killed, other = sampler_of(Worst(20)), sampler_of(Worst(20))
    train(killed, 0, stop=stop)
    saved = killed.state_dict()
    missing = sorted(set(range(N)) - set(saved["observed"]["index"].tolist()))
    for _ in range(times):
        other.observe(missing[:3], torch.tensor([1.0, 2.0, torch.nan]))
    other.load_state_dict(saved)
    observed_state = other.state_dict()["observed"]
    assert observed_state["index"].tolist() == saved["observed"]["index"].tolist()
    assert observed_state["loss"].tolist() == saved["observed"]["loss"].tolist()
    train(other, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is the loss that was no number told
        other.set_epoch(1)


def test_another_number_of_processes_goes_on_without_a_gap() -> None:
    two = [sampler_of(RandomPruning(keep=0.5), num_replicas=2, rank=rank) for rank in (0, 1)]
    interrupted = [i for sampler in two for i in train(sampler, 0, stop=1)]
    for sampler in two:
        sampler.observations.pooled = True
    one = sampler_of(RandomPruning(keep=0.5))
    one.load_state_dict(two[0].state_dict())
    rest = list(one)
    assert sorted(interrupted + rest) == sorted(one.plan.index.tolist())


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"n": N + 1}, "n=64 examples, this one for n=65"),
        ({"fingerprint": "xyz"}, "fingerprint abc, this one for xyz"),
        ({"policy": UCB(keep=0.4)}, r"'keep': 0.5.*this one.*'keep': 0.4"),
        ({"policy": RandomPruning(keep=0.5)}, r"'name': 'UCB'.*this one.*'name': 'RandomPruning'"),
        ({"seed": 2}, "has seed 1, this one 2"),
    ],
    ids=["n", "fingerprint", "option", "policy", "seed"],
)
def test_the_state_of_another_run_is_refused_by_name(other: dict[str, Any], match: str) -> None:
    state = sampler_of(UCB(keep=0.5)).state_dict()
    options = {"policy": UCB(keep=0.5), **other}
    with pytest.raises(RunError, match=match):
        sampler_of(options.pop("policy"), **options).load_state_dict(state)


def test_what_is_no_state_of_this_version_is_refused() -> None:
    sampler = sampler_of(UCB(keep=0.5))
    state = sampler.state_dict()
    with pytest.raises(RunError, match="version 9, this datawinnow reads up to 1"):
        sampler.load_state_dict({**state, "version": 9})
    with pytest.raises(RunError, match="it has no version, n"):
        sampler.load_state_dict({"epoch": 3})
    with pytest.raises(RunError, match="the plan of epoch 0 differs from the one that was saved"):
        sampler.load_state_dict({**state, "plan": state["plan"] ^ 1})


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\x08" + bytes(20))
    with pytest.raises(RunError, match=r"no such file: .*missing; the checkpoint was not written by"):
        load_state(tmp_path / "missing")
    with pytest.raises(RunError, match="junk is truncated or damaged"):
        load_state(tmp_path / "junk")


def test_a_digest_tells_order_and_weights_apart() -> None:
    index, weight = torch.tensor([3, 1, 2]), torch.tensor([1.0, 2.0, 1.0])
    plans = [Selection(index, weight), Selection(index.flip(0), weight), Selection(index, weight.roll(1))]
    assert len({plan_digest(plan) for plan in plans}) == 3
    assert plan_digest(plans[0]) == plan_digest(Selection(index.clone(), weight.clone()))


def test_policies_are_described_in_plain_values() -> None:
    assert to_plain(Worst(3)) == {"name": "Worst", "options": {"m": 3, "needs": ["loss"]}}
    assert to_plain({"inner": (InOrder(2), None)})["inner"][0]["name"] == "InOrder"
    same = to_plain(torch.arange(3)), to_plain(np.arange(3))
    assert same[0] == same[1] != to_plain(np.arange(1, 4))
    assert to_plain(train) == "tests.dynamic.sampler_cases.train"


def test_policies_are_spelled_with_what_they_hold_and_never_with_an_address() -> None:
    one, other = (StaticSubset(Selection.of(torch.randperm(6000)[:5000], 6000)) for _ in range(2))
    assert policy_repr(one) != policy_repr(other)
    assert policy_repr(one) == policy_repr(
        StaticSubset(Selection(one.selection.index.clone(), torch.ones(5000), one.selection.reason))
    )
    wrapped = warm_up(every(UCB(keep=0.5, first="random"), 3), 2)
    inner = "UCB(keep=0.5, period=10, alpha=0.8, c=1.0, first='random', signal='loss', on_resize='keep')"
    assert policy_repr(wrapped) == f"WarmUp(policy=Every(policy={inner}, k=3), epochs=2)"
    assert "0x" not in policy_repr(Turning(20))


@pytest.mark.parametrize(
    ("saved", "sampler_kwargs"),
    [({"steps": 3, "batch": 5}, {"steps": 2, "batch": 2}), ({"drop_last": True}, {}), ({"steps": 3}, {})],
)
def test_epochs_of_another_length_are_refused(saved: dict[str, Any], sampler_kwargs: dict[str, Any]) -> None:
    state = sampler_of(UCB(0.5), **saved).state_dict()
    with pytest.raises(RunError, match=r"the saved sampler has epochs of .* give the same steps, batch and drop_last"):
        sampler_of(UCB(0.5), **sampler_kwargs).load_state_dict(state)


def test_another_batch_without_steps_is_the_same_order() -> None:
    sampler = sampler_of(UCB(0.5), batch=4)
    sampler.load_state_dict(sampler_of(UCB(0.5), batch=8).state_dict())
    assert sampler.epoch == 0


def test_a_refused_state_leaves_the_sampler_as_it_was() -> None:
    later, fresh = sampler_of(UCB(0.5, period=1)), sampler_of(UCB(0.5, period=1))
    train(later, 0)
    train(later, 1)
    expected = list(fresh)
    with pytest.raises(RunError, match="the plan of epoch 1 differs from the one that was saved"):
        fresh.load_state_dict({**later.state_dict(), "plan": 7})
    assert (fresh.epoch, list(fresh), fresh.realised) == (0, expected, [1.0])
