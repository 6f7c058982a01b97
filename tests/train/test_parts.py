"""Schedules, evaluation, precision and the FLOP count, each by itself."""

import copy
import math
import pickle
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.selection import Selection
from datawinnow.data.batches import forward_batch
from datawinnow.data.examples import Examples
from datawinnow.data.kept import Kept
from datawinnow.train import evaluate
from datawinnow.train import precision as precision_module
from datawinnow.train.flops import flops_per_example
from datawinnow.train.precision import autocast, fastest_precision, float32_head
from datawinnow.train.schedule import constant, cosine, one_cycle, schedule_of
from tests.train.helpers import blobs, image_net, images, vector_net, weights

CPU = torch.device("cpu")


def test_cosine_is_the_literal_half_cosine():
    for k in range(101):
        assert cosine(k / 100) == pytest.approx(0.5 * (1 + math.cos(math.pi * k / 100)), abs=1e-14)
    assert cosine(1.0) == 0.0
    assert cosine(1.2) == 0.0


def test_one_cycle_starts_low_peaks_at_1_and_ends_at_0():
    values = [one_cycle(k / 1000) for k in range(1001)]
    assert values[0] == pytest.approx(1 / 25)
    assert max(values) == values[300] == 1.0
    assert values[:301] == sorted(values[:301])
    assert values[300:] == sorted(values[300:], reverse=True)
    assert values[-1] == 0.0
    assert one_cycle(0.15) == pytest.approx((1 + 1 / 25) / 2)
    assert one_cycle(0.65) == pytest.approx(0.5)


def test_schedules_by_name_or_as_they_are():
    assert schedule_of("one-cycle") is one_cycle
    assert schedule_of(math.sqrt) is math.sqrt
    assert {constant(k / 7) for k in range(8)} == {1.0}
    with pytest.raises(ArgumentError, match="no schedule is called 'linear'"):
        schedule_of("linear")


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_evaluate_matches_the_literal_mean_over_all_examples(batch):
    model, test = vector_net(dropout=0.9, norm=True).train(), blobs(20, seed=3)
    before = weights(model)
    accuracy, loss = evaluate(model, test, batch=batch)
    assert model.training
    assert torch.equal(weights(model), before)  # no statistics of batch norm were taken
    with torch.no_grad():
        log_p = model.eval()(test.x).double().log_softmax(1)
    right = [int(row.argmax()) == int(y) for row, y in zip(log_p, test.labels, strict=True)]
    losses = [-float(row[y]) for row, y in zip(log_p, test.labels, strict=True)]
    assert accuracy == pytest.approx(sum(right) / 20)
    assert loss == pytest.approx(sum(losses) / 20, rel=1e-5)


def test_large_images_are_evaluated_few_at_a_time():
    sizes = []

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            sizes.append(len(x))
            return self.head(x.mean(dim=(2, 3)))

    for side, largest in ((32, 500), (224, 40)):
        data = Examples(torch.zeros(100, 3, side, side, dtype=torch.uint8), torch.arange(100) % 2, ("a", "b"))
        sizes.clear()
        evaluate(Counts(), data)
        assert max(sizes) <= largest
        assert sum(sizes) == 100
    assert forward_batch(data, 16) == 16
    assert forward_batch([(torch.zeros(10**8), 0)], 500) == 1


def test_evaluate_normalises_a_selection_as_the_whole_is():
    data, model = images(), image_net()
    kept = Kept(data, Selection.of(torch.tensor([5, 2, 30, 11]), 48))
    assert evaluate(model, kept) == evaluate(model, data.subset(kept.selection.index))
    as_list = Kept([(x, int(y)) for x, y in data], kept.selection)
    assert evaluate(model, as_list)[1] != evaluate(model, kept)[1]  # there it has no mean to subtract


def test_evaluate_puts_the_mode_back_after_an_error():
    class Failing(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError

    model = Failing().train()
    with pytest.raises(ZeroDivisionError):
        evaluate(model, blobs())
    assert model.training
    with pytest.raises(DataError, match="holds no examples"):
        evaluate(model, [])


def test_evaluate_in_bf16_is_close_and_not_equal():
    model, data = image_net(), images()
    plain, rough = evaluate(model, data), evaluate(model, data, precision="bf16", channels_last=True)
    assert rough[1] == pytest.approx(plain[1], rel=0.02)
    assert rough[1] != plain[1]


def test_the_head_is_float32_under_autocast_and_only_then():
    model, x = vector_net(), torch.randn(256, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), autocast(CPU, "bf16"):
        rough = model(x)
        with float32_head(model):
            sharp = model(x)
            assert model[0].classifier(torch.randn(3, 10)).dtype is torch.bfloat16  # the others stay fast
        again = model(x)
    assert rough.dtype is again.dtype is torch.bfloat16
    assert torch.equal(rough, again)
    assert sharp.dtype is torch.float32
    assert sharp.unique().numel() > 1.2 * rough.unique().numel()


def test_the_head_of_plain_float32_is_unchanged():
    model, x = vector_net(), torch.randn(8, 5)
    with float32_head(model):
        inside = model(x)
    assert torch.equal(inside, model(x))


def test_the_head_is_put_back_after_errors_and_when_nested():
    model = vector_net()
    with pytest.raises(ZeroDivisionError), float32_head(model):  # noqa: PT012
        with float32_head(model):
            assert type(model[-1]) is not nn.Linear
        assert type(model[-1]) is not nn.Linear  # the inner one leaves it to the outer
        raise ZeroDivisionError
    assert type(model[-1]) is nn.Linear


def test_a_copy_made_inside_stands_on_its_own_feet():
    model, x = vector_net(), torch.randn(4, 5)
    with float32_head(model):
        twins = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    with torch.no_grad():
        expected = model(x)
        model[-1].weight.zero_()
        for twin in twins:
            assert torch.equal(twin(x), expected)


def test_a_subclass_of_linear_keeps_its_own_ways():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = nn.Sequential(nn.Linear(5, 4), Doubled(4, 3))
    x = torch.randn(2, 5)
    with torch.no_grad(), float32_head(model):
        assert torch.equal(model(x), 2 * F.linear(model[0](x), model[1].weight, model[1].bias))


def test_autocast_only_when_asked():
    a = torch.randn(4, 4)
    with autocast(CPU, "fp32"):
        assert (a @ a).dtype is torch.float32
    with autocast(CPU, "bf16"):
        assert (a @ a).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({("bf16", True): 0.5}, ("bf16", True)),
        ({("fp32", True): 0.5, ("bf16", False): 0.6}, ("fp32", True)),
        ({("bf16", True): 0.95}, ("fp32", False)),  # not faster by a tenth: noise must not choose
        ({("bf16", True): RuntimeError("no such kernel"), ("bf16", False): 0.8}, ("bf16", False)),
        ({}, ("fp32", False)),
    ],
    ids=["bf16 channels-last", "fp32 channels-last", "close", "does not run", "equal"],
)
def test_fastest_takes_what_is_clearly_faster(monkeypatch, times, expected):
    from datawinnow.train import precision

    def seconds(model, x, y, form, channels_last, rounds, loss=None, limit=None):
        result = times.get((form, channels_last), 1.0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(precision, "step_seconds", seconds)
    form, channels_last, note = fastest_precision(nn.Flatten(), torch.zeros(1, 3, 4, 4), torch.zeros(1))
    assert (form, channels_last) == expected
    assert note.startswith("measured per step: fp32 1000.0 ms, bf16 ")


def test_fastest_tries_no_channels_last_on_vectors_and_leaves_the_model_alone():
    model = vector_net(norm=True)
    before = weights(model)
    _, channels_last, note = fastest_precision(model, torch.randn(8, 5), torch.zeros(8, dtype=torch.int64), rounds=1)
    assert not channels_last
    assert "channels-last" not in note
    assert torch.equal(weights(model), before)
    assert all(p.grad is None for p in model.parameters())


def test_fastest_lets_a_real_mistake_through():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fastest_precision(nn.Linear(4, 2), torch.randn(8, 5), torch.zeros(8, dtype=torch.int64))


def test_flops_are_two_per_multiply_add():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(8 * 36, 4))
    forward, backward = flops_per_example(model, torch.randn(5, 3, 6, 6))
    conv, linear = 36 * 8 * 3 * 9, 8 * 36 * 4
    assert forward == 2 * (conv + linear)
    assert backward == 2 * (conv + 2 * linear)  # no gradient of the images
    assert all(p.grad is None for p in model.parameters())


def test_flops_of_what_cannot_be_counted_are_zero():
    class Odd(nn.Module):
        def forward(self, x):
            raise LookupError("only in training")

    assert flops_per_example(Odd(), torch.randn(2, 3)) == (0.0, 0.0)


class Slow(nn.Module):
    """A network that takes a time for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.sizes: list[int] = []

    def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        time.sleep(0.001 * len(x))
        return self.layer(x)


class SlowInBf16(Slow):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(torch.is_autocast_enabled("cpu"))
        time.sleep(0.03 if self.sizes[-1] else 0.001)
        return self.layer(x)


def test_a_form_that_is_far_slower_is_tried_twice_only():
    model = SlowInBf16()
    chosen = fastest_precision(model, torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))
    assert chosen[:2] == ("fp32", False)
    assert model.sizes.count(True) == 2


def test_trial_steps_take_few_examples_where_one_takes_long(monkeypatch):
    model = Slow()
    monkeypatch.setattr(precision_module, "TRIAL_SECONDS", 0.05)
    fastest_precision(model, torch.randn(64, 3), torch.zeros(64, dtype=torch.int64))
    assert len(model.sizes) >= 12  # two forms of six steps each
    assert max(model.sizes) <= 4
    monkeypatch.setattr(precision_module, "TRIAL_SECONDS", 1e4)
    fastest_precision(model, torch.randn(64, 3), torch.zeros(64, dtype=torch.int64), rounds=1)
    assert max(model.sizes) == 64
