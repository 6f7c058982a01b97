"""Size schedules: parts and views against literal forms, equal operations, resumes to the byte, errors."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datawinnow import SizeSchedule
from datawinnow.core.errors import ArgumentError, DataError, RunError
from datawinnow.core.rng import forked, stream
from datawinnow.data.examples import Augment
from datawinnow.dynamic import UCB, HideEasy, LossMass, StopMastered, build_policy, guarded, recorded
from datawinnow.record import Recorder
from datawinnow.train import fit
from datawinnow.train.ledger import Ledger
from datawinnow.train.size_schedule import SizePlan, smaller_view
from tests.train.helpers import PLAIN, blobs, image_net, images, vector_net, weights


class Watched(nn.Module):
    """A network that notes the size and number of the examples of each training step."""

    def __init__(self, net):
        super().__init__()
        self.net, self.steps = net, []

    def forward(self, x):
        if self.training:
            self.steps.append((x.shape[-1], len(x)))
        return self.net(x)


class OfTexts(nn.Module):
    """Mean of token embeddings, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 4, padding_idx=0), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.embedding(x).mean(1))


@pytest.mark.parametrize(
    ("schedule", "full", "expected"),
    [
        (SizeSchedule(start=16), 32, [(16, 0.15), (20, 0.15), (24, 0.15), (28, 0.15), (32, 0.4)]),
        (SizeSchedule(start=112), 224, [(112, 0.15), (140, 0.15), (168, 0.15), (196, 0.15), (224, 0.4)]),
        (SizeSchedule(start=8, share=0.8, num_smaller=2), 16, [(8, 0.4), (12, 0.4), (16, 0.2)]),
        (SizeSchedule(start=24), 28, [(24, 0.6), (28, 0.4)]),
        (SizeSchedule(start=8, share=1.0, num_smaller=1), 16, [(8, 1.0)]),
        (SizeSchedule(sizes=[16, 32], shares=[0.75, 0.25]), 32, [(16, 0.75), (32, 0.25)]),
        (SizeSchedule(start=0.5), 32, [(16, 0.15), (20, 0.15), (24, 0.15), (28, 0.15), (32, 0.4)]),
        (SizeSchedule(start=0.5), 28, [(16, 0.2), (20, 0.2), (24, 0.2), (28, 0.4)]),
        (SizeSchedule(start=0.1), 8, [(1, 0.3), (4, 0.3), (8, 0.4)]),
        (SizeSchedule.from_text("50%"), 224, list(SizeSchedule(start=112).stages(224))),
        (SizeSchedule.from_text("0.5"), 224, list(SizeSchedule(start=112).stages(224))),
    ],
)
def test_stages(schedule, full, expected):
    assert [(size, pytest.approx(share)) for size, share in schedule.stages(full)] == expected


def test_shares_of_cost_are_equal_in_operations():
    plan = SizeSchedule(sizes=(16, 24, 32), shares=(0.2, 0.4, 0.4), by="cost").plan(32, lambda s: (s / 32) ** 2)
    spent = [share * cost for share, cost in zip(plan.shares, plan.costs, strict=True)]
    assert [each / sum(spent) for each in spent] == pytest.approx([0.2, 0.4, 0.4])
    # schedules.md 2: 16/24/32 in 2:4:4 gives 1.91 passes a unit of cost
    assert 1 / plan.mean_cost == pytest.approx(1.91, abs=0.005)


def test_progress_at_cost_inverts_the_cost_of_the_steps():
    plan = SizePlan(32, (16, 20, 32), (0.3, 0.3, 0.4), (0.25, 0.4, 1.0))
    for progress in torch.linspace(0, 1, 21).tolist():
        spent = sum(
            cost * max(0.0, min(share, progress - start))
            for share, cost, start in zip(plan.shares, plan.costs, (0, 0.3, 0.6), strict=True)
        )
        assert plan.progress_at_cost(spent / plan.mean_cost) == pytest.approx(progress)


def test_views_of_images():
    x = torch.rand(5, 3, 12, 16)
    small = smaller_view(x, 6)
    assert torch.equal(small, F.interpolate(x, size=(6, 8), mode="bilinear", antialias=True))
    crops = smaller_view(x, 6, "crop", generator=stream(0))
    assert crops.shape == (5, 3, 6, 8)
    for image, crop in zip(x, crops, strict=True):
        windows = image.unfold(1, 6, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        assert any(torch.equal(window, crop) for window in windows)
    assert len({float(crop[0, 0, 0]) for crop in crops}) == 5  # a window of its own for each
    assert smaller_view(x, 12) is x


def test_views_of_texts():
    x = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 0, 0, 0]])
    assert smaller_view(x, 4, "start").tolist() == [[1, 2, 3, 4], [1, 2, 3, 0], [1, 2, 3, 4]]
    assert smaller_view(x, 4).tolist() == [[1, 2, 7, 8], [1, 2, 3, 0], [1, 2, 4, 5]]
    assert smaller_view(x, 3, "both_ends").tolist() == [[1, 2, 8], [1, 2, 3], [1, 2, 5]]
    starts = set()
    for seed in range(40):
        window = smaller_view(x, 4, "window", generator=stream(seed)).tolist()
        assert window[1] == [1, 2, 3, 0]
        first = window[0][0]
        assert window[0] == [first, first + 1, first + 2, first + 3]
        starts.add(first)
    assert starts == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("policy", [None, UCB(keep=0.7, period=1)], ids=["all", "ucb"])
@pytest.mark.parametrize("change", ["step", "epoch"])
def test_a_budget_is_of_operations(policy, change):
    data = images(90)
    model = Watched(image_net())
    schedule = SizeSchedule(start=4, change=change)
    _, history = fit(model, data, passes=6, policy=policy, size_schedule=schedule, **PLAIN)
    cost = dict(zip(*_costs(model.net, data, schedule), strict=True))
    spent = sum(count * cost[size] for size, count in model.steps)
    # within one step of 16 examples
    assert abs(spent - 6 * 90) <= 16
    assert history.cost.backward == pytest.approx(spent, abs=len(history.rows))
    assert sum(row["full_size_examples"] for row in history.rows) == pytest.approx(spent)
    sizes = [size for size, _ in model.steps]
    assert sizes == sorted(sizes)
    assert set(sizes) == {4, 8, 12}
    # 40% of the steps at full size, within an epoch where sizes change between epochs
    slack = 2 if change == "step" else math.ceil(90 / 16)
    assert abs(sizes.count(12) - 0.4 * len(sizes)) <= slack
    if change == "epoch":
        assert all(row["input_size"] in cost for row in history.rows)
        steps = iter(sizes)
        for row in history.rows:
            assert {next(steps) for _ in range(int(row["steps"]))} == {row["input_size"]}
    # more steps than a run at full size has
    assert len(sizes) > 6 * math.ceil(90 / 16)


def _costs(net, data, schedule):
    from datawinnow.train.network import size_plan

    plan = size_plan(schedule, net, data, torch.device("cpu"))
    return plan.sizes, plan.costs


def test_counted_costs_are_those_of_the_network():
    sizes, costs = _costs(image_net(), images(4, size=32), SizeSchedule(start=16))
    # a convolutional network up to its head: the square of the side
    assert costs == pytest.approx([(size / 32) ** 2 for size in sizes], rel=0.02)
    assert costs[-1] == 1


@pytest.mark.parametrize(("rest", "finished"), [(5, True), (7, True), (9, False)])
def test_a_rest_below_half_a_batch_is_left_out_at_small_sizes(rest, finished):
    plan = SizePlan(12, (4, 8), (0.5, 0.5), (0.1, 0.4))
    # of a budget of 100 examples at full size, what `rest` examples of the last size cost is left
    ledger = Ledger(
        batch=16, num_loaded=[96], schedule_epochs=1, schedule_steps=1, budget=100, num_epochs=1, planned=False,
        sizes=plan, charges=[100 - 0.4 * rest],
    )  # fmt: skip
    assert ledger.is_finished(1) == finished


def test_the_learning_rate_follows_the_steps():
    rates = []
    options = {**PLAIN, "schedule": lambda progress: rates.append(progress) or 1.0}
    fit(image_net(), images(96), passes=5, size_schedule=SizeSchedule(start=4), **options)
    gaps = torch.tensor(rates).diff()
    # equal gaps: a step is a step, however small its inputs; a cut last epoch has other batch sizes
    assert float(gaps.std() / gaps.mean()) < 0.05
    assert rates[0] == 0
    assert 0.97 < rates[-1] < 1


def test_epochs_stay_epochs_and_cost_less():
    _, history = fit(image_net(), images(48), epochs=5, size_schedule=SizeSchedule(start=4), **PLAIN)
    assert [row["examples"] for row in history.rows] == [48] * 5
    assert history.cost.backward < 0.8 * 5 * 48


def test_the_first_part_of_a_long_schedule_is_small():
    model = Watched(image_net())
    recorder = Recorder(48, 2)
    schedule = SizeSchedule(start=4, num_smaller=1)
    fit(model, images(48), epochs=2, schedule_epochs=10, recorder=recorder, size_schedule=schedule, **PLAIN)
    assert {size for size, _ in model.steps} == {4}
    assert not recorder["loss"].isnan().any()


def test_equal_to_a_loop_of_ones_own():
    data = images(40)
    with forked(0):
        expected = image_net()
    actual, _ = fit(
        image_net(), data, epochs=2, size_schedule=SizeSchedule(start=4), **PLAIN, momentum=0.0, weight_decay=0.0
    )
    sizes = SizeSchedule(start=4)
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (data.mean, data.std))
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    steps, step = 2 * math.ceil(40 / 16), 0
    expected.train()
    for epoch in range(2):
        order = torch.randperm(40, generator=stream(0, "order", epoch))
        for index in torch.tensor_split(order, 3):
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * 0.5 * (1 + math.cos(math.pi * step / steps))
            x = sizes((data.x[index].float() / 255 - mean) / std, progress=step / steps)
            F.cross_entropy(expected(x), data.labels[index]).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    torch.testing.assert_close(weights(actual), weights(expected), atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("change", ["step", "epoch"])
def test_a_policy_observes_the_size_that_a_signal_was_computed_at(change):
    seen = []

    class Watching(UCB):
        def observe(self, state, index, **signals):
            seen.append(signals["input_size"].unique().tolist())
            return super().observe(state, index, **signals)

    model = Watched(image_net())
    schedule = SizeSchedule(start=4, change=change)
    policy = Watching(keep=0.7, period=1, on_resize="reset")
    _, history = fit(model, images(90), passes=6, policy=policy, size_schedule=schedule, **PLAIN)
    steps = iter(size for size, _ in model.steps)
    assert seen == [sorted({next(steps) for _ in range(int(row["steps"]))}) for row in history.rows[:-1]]
    assert len({tuple(sizes) for sizes in seen}) >= 3


@pytest.mark.parametrize("keep", [0.5, "0.9..0.3"], ids=str)
@pytest.mark.parametrize("wrapped", [lambda policy: policy, recorded], ids=["plain", "recorded"])
def test_a_policy_plans_for_the_epochs_that_the_budget_buys(keep, wrapped):
    made_for_full_size = build_policy("random", passes=6, keep=keep, wrap=["annealed=full:0.6"])
    policy = wrapped(made_for_full_size)
    _, history = fit(image_net(), images(90), passes=6, policy=policy, size_schedule=SizeSchedule(start=4), **PLAIN)
    loaded = [int(row["examples"]) for row in history.rows]
    assert len(loaded) >= 1.25 * made_for_full_size.epochs  # smaller inputs buy more epochs
    # the last one is cut where the budget ends
    is_full = [count == 90 for count in loaded[:-1]]
    assert sorted(is_full) == is_full
    assert is_full.index(True) / len(loaded) == pytest.approx(0.6, abs=0.12)
    if isinstance(keep, str):
        shrinking = loaded[: is_full.index(True)]
        assert shrinking == sorted(shrinking, reverse=True)
    if policy is not made_for_full_size:
        assert [len(policy.history().ids(epoch)) for epoch in range(len(loaded) - 1)] == loaded[:-1]


def test_without_a_schedule_the_size_never_changes():
    kept = {}
    for on_resize in ("keep", "reset"):
        model = image_net()
        policy = UCB(keep=0.5, period=1, on_resize=on_resize)
        fit(model, images(48), epochs=4, policy=policy, **PLAIN)
        kept[on_resize] = weights(model)
    assert torch.equal(kept["keep"], kept["reset"])


@pytest.mark.parametrize("wrap", [lambda policy: policy, guarded], ids=["alone", "guarded"])
@pytest.mark.parametrize("policy", [StopMastered(), HideEasy(epochs=4)], ids=["stop_mastered", "hide_easy"])
def test_policies_of_fixed_thresholds_are_refused(policy, wrap):
    with pytest.raises(ArgumentError, match=r"is compared with .*: take a policy that ranks, such as ucb"):
        fit(image_net(), images(48), passes=2, policy=wrap(policy), size_schedule=SizeSchedule(start=4), **PLAIN)


@pytest.mark.parametrize(
    "policy",
    [
        None,
        UCB(keep=0.7, period=1),
        UCB(keep=0.7, period=1, on_resize="rank"),
        LossMass(on_resize="reset_variance"),
        build_policy("ucb", passes=4, keep="0.3..0.9:oscillating:2", options={"period": 1}, wrap=["annealed=full:0.8"]),
    ],
    ids=["all", "ucb", "ucb by rank", "loss mass", "a keep that changes"],
)
@pytest.mark.parametrize("view", ["resize", "crop"])
def test_resumed_in_the_middle_of_the_schedule(tmp_path, policy, view):
    data = images(60, augment=Augment(crop=2))
    kwargs = {"passes": 4, "policy": policy, "size_schedule": SizeSchedule(start=4, view=view), "seed": 3, **PLAIN}
    expected, unbroken = fit(image_net(), data, **kwargs)
    checkpoint = tmp_path / "checkpoint.safetensors"

    def interrupt(epoch, history):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(image_net(), data, checkpoint=checkpoint, on_epoch=interrupt, **kwargs)
    actual, history = fit(image_net(1), data, checkpoint=checkpoint, **kwargs)
    assert torch.equal(weights(actual), weights(expected))
    timings = ("seconds", "planning_seconds", "test_accuracy", "test_loss")
    assert [{k: v for k, v in row.items() if k not in timings} for row in history.rows] == [
        {k: v for k, v in row.items() if k not in timings} for row in unbroken.rows
    ]
    with pytest.raises(RunError, match="size_schedule"):
        fit(image_net(), data, checkpoint=checkpoint, **{**kwargs, "size_schedule": SizeSchedule(start=8)})


def test_batch_norm_is_recomputed_where_training_ends_below_full_size():
    data = images(48)
    schedule = SizeSchedule(sizes=(4,), shares=(1,))
    model, history = fit(image_net(), data, epochs=1, size_schedule=schedule, **PLAIN)
    mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (data.mean, data.std))
    first_norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    inputs = []
    handle = first_norm.register_forward_hook(lambda module, args, out: inputs.append(args[0]))
    model((data.x.float() / 255 - mean) / std)
    handle.remove()
    torch.testing.assert_close(first_norm.running_mean, inputs[0].mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    assert first_norm.momentum == 0.1
    assert any("batch norm" in note for note in history.notes)


def test_texts():
    tokens = torch.randint(1, 20, (40, 16), generator=stream(0))
    pairs = [(row, i % 2) for i, row in enumerate(tokens)]
    model = Watched(OfTexts())
    _, history = fit(model, pairs, passes=4, size_schedule=SizeSchedule(start=4), **PLAIN)
    assert (model.steps[0][0], model.steps[-1][0]) == (4, 16)
    assert history.cost.backward <= 4 * 40


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SizeSchedule(), "one of start"),
        (lambda: SizeSchedule(start=16, sizes=(16, 32)), "one of start"),
        (lambda: SizeSchedule(sizes=(16, 32), shares=(0.5, 0.4)), "sum to 1"),
        (lambda: SizeSchedule(sizes=(16, 32), shares=(1.0,)), "one share a size"),
        (lambda: SizeSchedule(start=0), "start"),
        (lambda: SizeSchedule(start=16.5), "start"),
        (lambda: SizeSchedule(start=0.95).stages(8), "start below"),
        (lambda: SizeSchedule.from_text("150%"), "below 100%"),
        (lambda: SizeSchedule.from_text("1.5"), "below 100%"),
        (lambda: SizeSchedule.from_text("0"), "a number such as 16"),
        (lambda: SizeSchedule.from_text("x%"), "50%"),
        (lambda: SizeSchedule(start=16, shares=(1.0,)), "shares go with sizes"),
        (lambda: SizeSchedule(start=32).stages(32), "start below"),
        (lambda: SizeSchedule(sizes=(16, 64), shares=(0.5, 0.5)).stages(32), "above"),
        (lambda: SizeSchedule.from_text("16:0.6"), "sum to 1"),
        (lambda: SizeSchedule.from_text("half"), "SIZE:SHARE"),
        (lambda: SizeSchedule.from_text("16:0.6,32"), "SIZE:SHARE"),
        (lambda: smaller_view(torch.zeros(2, 8), 4), "images"),
        (lambda: smaller_view(torch.zeros(2, 8, dtype=torch.int64), 4, "crop"), "texts"),
        (lambda: smaller_view(torch.zeros(2, 1, 8, 8), 4, "window"), "images"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_the_error_of_a_size_says_which_sizes_the_network_takes():
    # two unpadded convolutions and a pooling: nothing is left of images below 6 pixels
    layers = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(4, 3))
    with pytest.raises(ArgumentError, match=r"size 4 .*It takes 6, 8, 10: choose among them"):
        fit(model, images(), epochs=1, size_schedule=SizeSchedule(start=4, multiple=2), **PLAIN)


def test_errors_of_fit():
    schedule = SizeSchedule(start=4)
    with pytest.raises(ArgumentError, match="images"):
        fit(vector_net(), blobs(), epochs=1, size_schedule=schedule, **PLAIN)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 3))
    with pytest.raises(ArgumentError, match="cannot take inputs of size 4"):
        fit(flat, images(), epochs=1, size_schedule=schedule, **PLAIN)
    with pytest.raises(ArgumentError, match=r"none of 4, 8 either: .* train at full size"):
        fit(flat, images(), epochs=1, size_schedule=schedule, **PLAIN)
    with pytest.raises(ArgumentError, match="above the inputs' own, 12"):
        fit(image_net(), images(), epochs=1, size_schedule=SizeSchedule(sizes=(4, 64), shares=(0.5, 0.5)), **PLAIN)
    mixed = [(torch.rand(3, 8 + i % 2, 8), i % 2) for i in range(40)]
    with pytest.raises(DataError, match="differ in shape"):
        fit(image_net(), mixed, epochs=1, size_schedule=schedule, **PLAIN)
    with pytest.raises(ArgumentError, match="SizeSchedule"):
        fit(image_net(), images(), epochs=1, size_schedule=16, **PLAIN)
    with pytest.raises(ArgumentError, match="strat"):
        fit(image_net(), images(), epochs=1, size_schedule={"strat": 16}, **PLAIN)
