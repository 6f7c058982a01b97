"""`fit` with a policy: what it trains on, what is observed, where the schedule ends, going on after a kill."""

from dataclasses import dataclass, field

import pytest
import safetensors.torch
import torch

from datawinnow import dynamic
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.selection import Selection
from datawinnow.data.kept import Kept
from datawinnow.record import Recorder
from datawinnow.train import fit
from tests.train.helpers import PLAIN, blobs, vector_net, weights


@dataclass(frozen=True)
class Told:
    """Plans given beforehand; writes down what it observes."""

    plans: tuple[tuple[int, ...], ...]
    weight: float = 1.0
    needs: tuple[str, ...] = ("loss", "correct")
    seen: list = field(default_factory=list, compare=False, repr=False)

    def init(self, n):
        return {"n": n}

    def observe(self, state, index, **signals):
        self.seen.append((index, signals))
        return state

    def plan(self, epoch, state, stream):
        index = torch.tensor(self.plans[epoch])
        return Selection(index, torch.full((len(index),), self.weight)), state


PLANS = (tuple(range(20)), tuple(range(59, 10, -1)), (5, 3, 4, 8, 7, 6, 1, 0))


def test_each_epoch_trains_on_its_plan_in_its_order_and_is_observed_once():
    policy, recorder, order = Told(PLANS), Recorder(60, 3), []

    class Ordered(Recorder):
        def write(self, epoch, index, logits, labels):
            order.extend(index.tolist())
            return super().write(epoch, index, logits, labels)

    recorder = Ordered(60, 3)
    _, history = fit(vector_net(), blobs(), epochs=3, policy=policy, recorder=recorder, **PLAIN)
    assert tuple(order) == sum(PLANS, ())
    assert [row["examples"] for row in history.rows] == [20, 49, 8]
    assert history.cost.backward == 77
    # what came of the last epoch is no plan's concern any more
    for epoch, (index, signals) in enumerate(policy.seen[:2]):
        assert index.tolist() == sorted(PLANS[epoch])
        torch.testing.assert_close(signals["loss"], recorder["loss"][epoch, index], rtol=1e-5, atol=1e-6)
        assert torch.equal(signals["correct"].bool(), recorder["correct"][epoch, index])
    assert len(policy.seen) == 2
    # 16 a step: 2, 4 and 1 steps; the learning rate goes by epochs, and by steps within each
    ends = [
        0.1 * torch.tensor(0.5).item() * (1 + torch.cos(torch.tensor(torch.pi * t / 3)).item()) for t in (0.5, 1.75, 2)
    ]
    assert [row["learning_rate"] for row in history.rows] == pytest.approx(ends, rel=1e-5)


def test_signals_are_those_that_a_recorder_writes_of_the_same_steps():
    names = ("error_norm", "entropy", "margin_softmax", "margin", "p_label", "correct")
    policy, recorder = Told(PLANS, needs=names), Recorder(60, 3)
    fit(vector_net(), blobs(), epochs=3, policy=policy, recorder=recorder, **PLAIN)
    for epoch, (index, signals) in enumerate(policy.seen):
        assert set(signals) == set(names)
        for name in names:
            torch.testing.assert_close(
                signals[name], recorder[name][epoch, index].float(), rtol=2e-3, atol=1e-3, msg=f"{name} {epoch}"
            )
    assert not torch.allclose(policy.seen[0][1]["entropy"], policy.seen[0][1]["error_norm"], atol=0.1)


def test_a_signal_of_classes_needs_classes():
    options = {"loss": lambda out, y: (out[:, 0] - y.float()).square(), **PLAIN}
    with pytest.raises(ArgumentError, match="the policy UCB observes error_norm, which is of classes"):
        fit(
            torch.nn.Linear(5, 1),
            (blobs().x, blobs().labels.float()),
            epochs=2,
            policy=dynamic.UCB(0.5, signal="error_norm"),
            **options,
        )


def test_weights_of_a_plan_scale_the_losses():
    chosen = torch.arange(59, 20, -1)
    everything = tuple(chosen.tolist())
    options = {**PLAIN, "batch": 64, "momentum": 0.0}
    heavy, policy = vector_net(), Told((everything, everything), weight=2.0)
    fit(heavy, blobs(), epochs=2, policy=policy, **options)
    static = vector_net()
    fit(static, Kept(blobs(), Selection(chosen, torch.full((39,), 2.0))), epochs=2, **options)
    light = vector_net()
    fit(light, blobs(), epochs=2, policy=Told((everything, everything)), **options)
    torch.testing.assert_close(weights(heavy), weights(static))
    assert not torch.allclose(weights(light), weights(static))


def test_weights_of_a_selection_and_of_a_policy_multiply():
    ids = torch.arange(59, 19, -1)
    uneven = Selection(ids, torch.linspace(0.2, 3, 40))
    everything = (tuple(range(40)),) * 2  # positions among the kept
    options = {**PLAIN, "batch": 64, "momentum": 0.0}

    def trained(selection, policy=None):
        model = vector_net()
        fit(model, Kept(blobs(), selection), epochs=2, policy=policy, **options)
        return weights(model)

    torch.testing.assert_close(trained(uneven, Told(everything)), trained(uneven))
    twice = Selection(ids, 2 * uneven.weight)
    torch.testing.assert_close(trained(uneven, Told(everything, weight=2.0)), trained(twice))
    assert not torch.allclose(trained(uneven, Told(everything)), trained(Selection.of(ids, 60)))


def test_the_history_tells_steps_and_what_choosing_took():
    _, history = fit(vector_net(), blobs(), epochs=3, policy=Told(PLANS), **PLAIN)
    assert [row["steps"] for row in history.rows] == [2, 4, 1]
    assert all(0 < row["planning_seconds"] < row["seconds"] for row in history.rows)


def test_a_policy_over_what_was_kept_sees_positions_among_the_kept():
    kept = Kept(blobs(), Selection.of(torch.tensor([40, 3, 17, 58]), 60))
    policy, recorder = Told(((3, 0), (1, 2, 0))), Recorder(60, 2)
    fit(vector_net(), kept, epochs=2, policy=policy, recorder=recorder, **PLAIN)
    assert torch.nonzero(recorder["seen"][0]).flatten().tolist() == [40, 58]
    assert torch.nonzero(recorder["seen"][1]).flatten().tolist() == [3, 17, 40]
    assert policy.seen[0][0].tolist() == [0, 3]


@pytest.mark.parametrize(
    "policy",
    [
        dynamic.UCB(0.5, period=2),
        dynamic.EpsilonGreedy(0.5),
        dynamic.InfoBatch(6),
        dynamic.RandomPruning(0.3),
        dynamic.HideEasy(6, drop=0.6, confidence=0.3, signal="error_norm"),
        dynamic.StopMastered(delta=10.0, look=3),
        dynamic.LossMass(signal="entropy"),
        dynamic.MiddleLoss(0.4, on_resize="reset"),
        dynamic.build_policy("ucb", epochs=6, keep="0.3..0.9:oscillating:2", options={"period": 1}),
        dynamic.build_policy("loss_power", epochs=6, keep="1..0.2:step", wrap=["annealed=full:0.7"]),
    ],
    ids=lambda policy: type(policy).__name__,
)
@pytest.mark.parametrize("stop", [1, 3])
def test_killed_and_gone_on_ends_in_the_same_bytes(policy, stop, tmp_path):
    def kill(epoch, history):
        if epoch == stop:
            raise KeyboardInterrupt

    options = {"epochs": 6, "seed": 3, "policy": policy, **PLAIN}
    _, unbroken = fit(vector_net(norm=True), blobs(), checkpoint=tmp_path / "whole.safetensors", **options)
    with pytest.raises(KeyboardInterrupt):
        fit(vector_net(norm=True), blobs(), checkpoint=tmp_path / "c.safetensors", on_epoch=kill, **options)
    _, again = fit(vector_net(norm=True), blobs(), checkpoint=tmp_path / "c.safetensors", **options)
    assert [row["loss"] for row in again.rows] == [row["loss"] for row in unbroken.rows]
    left, right = (safetensors.torch.load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "c"))
    assert left.keys() == right.keys()
    assert any(key.startswith("policy.") for key in left) or not policy.needs
    for key in left:
        assert torch.equal(left[key].nan_to_num(-9), right[key].nan_to_num(-9)), key
    assert unbroken.cost.backward < 6 * 60


def rates_of(counts, budget):
    """The learning rate of each epoch's last step, where the schedule follows the examples."""
    behind, ends = 0, []
    for count in counts:
        steps = -(-count // 16)
        share = torch.tensor((behind + (steps - 1) / steps * count) / budget * torch.pi)
        ends.append(0.05 * (1 + torch.cos(share).item()))
        behind += count
    return ends


def test_a_budget_of_passes_ends_at_its_last_example_with_the_schedule():
    policy, seen = Told((PLANS[0], PLANS[1], PLANS[0], PLANS[1])), []
    progress = lambda stage, done, total: seen.append((done, total))  # noqa: E731
    _, history = fit(vector_net(), blobs(), passes=1.75, policy=policy, test=blobs(), progress=progress, **PLAIN)
    assert [row["examples"] for row in history.rows] == [20, 49, 20, 16]  # 105 of 60 * 1.75; the last plan is cut
    assert history.cost.backward == 105
    assert [row["learning_rate"] for row in history.rows] == pytest.approx(rates_of([20, 49, 20, 16], 105), rel=1e-5)
    assert [row["test_accuracy"] >= 0 for row in history.rows] == [False, False, False, True]
    assert [done for done, _ in seen] == list(range(1, 10))
    assert seen[-1] == (9, 9)


def test_a_rest_of_less_than_half_a_batch_is_left_out_of_a_budget():
    policy = Told((PLANS[0], PLANS[1], PLANS[0]))
    _, history = fit(vector_net(), blobs(), passes=1.25, policy=policy, **PLAIN)
    assert [row["examples"] for row in history.rows] == [20, 49]  # of 75: six are no batch of 16


@pytest.mark.parametrize("stop", [1, 3])
def test_a_budget_killed_and_gone_on_ends_in_the_same_bytes(stop, tmp_path):
    def kill(epoch, history):
        if epoch == stop:
            raise KeyboardInterrupt

    options = {"passes": 3.5, "seed": 3, "policy": dynamic.UCB(0.5, period=1), **PLAIN}
    unbroken, history_before = fit(vector_net(norm=True), blobs(), checkpoint=tmp_path / "whole.safetensors", **options)
    with pytest.raises(KeyboardInterrupt):
        fit(vector_net(norm=True), blobs(), checkpoint=tmp_path / "c.safetensors", on_epoch=kill, **options)
    again, history = fit(vector_net(norm=True), blobs(), checkpoint=tmp_path / "c.safetensors", **options)
    assert torch.equal(weights(again), weights(unbroken))
    assert [row["examples"] for row in history.rows] == [60, 30, 30, 30, 30, 30]
    assert [row["loss"] for row in history.rows] == [row["loss"] for row in history_before.rows]
    with pytest.raises(RunError, match="started with budget=210, now it is 240"):
        fit(vector_net(norm=True), blobs(), checkpoint=tmp_path / "c.safetensors", **{**options, "passes": 4})
    done, history = fit(vector_net(norm=True), blobs(), checkpoint=tmp_path / "c.safetensors", **options)
    assert len(history.rows) == 6
    assert torch.equal(weights(done), weights(unbroken))


def test_without_a_policy_passes_are_epochs():
    one, left = fit(vector_net(), blobs(), passes=2.5, seed=4, **PLAIN)
    other, right = fit(vector_net(), blobs(), epochs=2.5, seed=4, **PLAIN)
    assert torch.equal(weights(one), weights(other))
    assert left.cost.backward == right.cost.backward == 150


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "give one of `epochs=` and `passes=`, got None and None"),
        ({"epochs": 2, "passes": 2}, "give one of `epochs=` and `passes=`"),
        ({"passes": 0}, "passes must be above 0, got 0"),
        ({"passes": -1}, "passes must be .*-1"),
        ({"passes": 2, "schedule_epochs": 3, "policy": Told(PLANS)}, "`schedule_epochs=` requires `epochs=`"),
        ({"passes": 2, "policy": Told(PLANS), "recorder": Recorder(60, 2)}, "a recorder counts epochs"),
    ],
)
def test_a_length_that_cannot_be_is_named(options, match):
    with pytest.raises(ArgumentError, match=match):
        fit(vector_net(), blobs(), **options, **PLAIN)


def test_what_cannot_be_is_named(tmp_path):
    with pytest.raises(ArgumentError, match=r"a policy plans full epochs, got epochs=1\.5"):
        fit(vector_net(), blobs(), epochs=1.5, policy=Told(PLANS), **PLAIN)
    with pytest.raises(ArgumentError, match="the policy Told observes 'reward', but fit gives it loss, p_label"):
        fit(vector_net(), blobs(), epochs=2, policy=Told(PLANS, needs=("reward",)), **PLAIN)
    at = tmp_path / "c.safetensors"
    fit(vector_net(), blobs(), epochs=1, policy=dynamic.UCB(0.5), checkpoint=at, **PLAIN)
    for other in (None, dynamic.UCB(0.7)):
        with pytest.raises(
            RunError, match=r"was started with policy=.UCB\(keep=0\.5.*now it is .(none|UCB\(keep=0\.7)"
        ):
            fit(vector_net(), blobs(), epochs=2, policy=other, checkpoint=at, **PLAIN)
