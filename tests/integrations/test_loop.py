"""A loop of one's own: one line for the loss, a learning rate that ends where it should, ids in dictionaries."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Subset

from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic import InfoBatch, reduce
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.integrations import ProgressLR, weighted_loss, with_index
from datawinnow.integrations.ids import IndexCollator
from datawinnow.train.schedule import cosine
from tests.dynamic.sampler_cases import InOrder, Worst, train


@pytest.mark.parametrize(
    "reduction", ["mean", "self_normalised", "none", reduce.mean], ids=["mean", "self_normalised", "none", "function"]
)
def test_one_line_observes_weighs_and_reduces(reduction: Any) -> None:
    sampler = PolicySampler(InOrder(4, weight=3.0), n=8)
    loss = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    out = weighted_loss(sampler, torch.tensor([1, 3, 6]), loss, reduction)
    weighted = torch.tensor([3.0, 6.0, 5.0])
    expected = {"self_normalised": weighted.sum() / 7, "none": weighted}.get(str(reduction), weighted.mean())
    torch.testing.assert_close(out.detach(), expected)
    out.sum().backward()
    per = {"self_normalised": 7.0, "none": 1.0}.get(str(reduction), 3.0)
    torch.testing.assert_close(loss.grad, torch.tensor([3.0, 3.0, 1.0]) / per)
    assert sampler.state_dict()["observed"]["index"].tolist() == [1, 3, 6]


def test_what_is_observed_has_no_weights_and_other_signals_come_along() -> None:
    sampler = PolicySampler(InOrder(4, weight=3.0, needs=("loss", "correct")), n=8)
    weighted_loss(sampler, torch.tensor([1, 3]), torch.tensor([1.0, 2.0]), correct=torch.tensor([1.0, 0.0]))
    weighted_loss(sampler, torch.tensor([0]), torch.tensor([7.0]), "none", correct=torch.tensor([1.0]))
    observed = sampler.state_dict()["observed"]
    assert {name: values.tolist() for name, values in observed.items()} == {
        "index": [0, 1, 3],
        "loss": [7.0, 1.0, 2.0],
        "correct": [1.0, 1.0, 0.0],
    }
    with pytest.raises(ArgumentError, match="InOrder needs correct observed, got loss"):
        weighted_loss(sampler, torch.tensor([2]), torch.tensor([1.0]))


def test_an_unknown_reduction_is_refused_before_anything_is_observed() -> None:
    sampler = PolicySampler(InOrder(4), n=8)
    with pytest.raises(ArgumentError, match="one of mean, self_normalised, none, got 'sum'"):
        weighted_loss(sampler, torch.arange(2), torch.ones(2), "sum")
    assert not sampler.observations


def test_mean_lengthens_the_step_by_n_over_the_kept_and_the_others_do_not() -> None:
    """The table of `datawinnow.dynamic.reduce`, in numbers: InfoBatch on losses half of which are low."""
    n, draws = 2000, 60
    loss = torch.cat([torch.full((n // 2,), 0.5), torch.full((n // 2,), 2.0)])
    lengths: dict[str, list[float]] = {"mean": [], "self_normalised": [], "by b n / S": []}
    for seed in range(draws):
        sampler = PolicySampler(InfoBatch(epochs=10), n=n, seed=seed)
        sampler.observe(torch.arange(n), loss)
        sampler.set_epoch(1)
        index = torch.tensor(list(sampler))
        for name in ("mean", "self_normalised"):
            lengths[name].append(float(reduce.resolve_reduction(name)(loss[index], sampler.weight[index])))
        lengths["by b n / S"].append(float(reduce.none(loss[index], sampler.weight[index]).sum() / n))
    full, kept = float(loss.mean()), 0.75
    means = {name: sum(values) / draws for name, values in lengths.items()}
    assert means["mean"] == pytest.approx(full / kept, rel=0.01)
    assert means["self_normalised"] == pytest.approx(full, rel=0.01)
    assert means["by b n / S"] == pytest.approx(full, rel=0.01)


def test_micro_batches_summed_over_the_window_are_the_whole_batch() -> None:
    net, x, y = nn.Linear(4, 3), torch.randn(12, 4), torch.randint(3, (12,))
    sampler = PolicySampler(InOrder(5, weight=2.0), n=12)

    def loss_of(ids: torch.Tensor, reduction: str) -> torch.Tensor:
        return weighted_loss(sampler, ids, F.cross_entropy(net(x[ids]), y[ids], reduction="none"), reduction)

    loss_of(torch.arange(12), "mean").backward()
    expected = net.weight.grad.clone()
    net.zero_grad()
    for ids in torch.arange(12).split(5):  # unequal parts
        (loss_of(ids, "none").sum() / 12).backward()
    torch.testing.assert_close(net.weight.grad, expected)


def test_a_rate_by_progress_reaches_its_end_and_resumes() -> None:
    def rates(stop: int | None = None, state: Any = None) -> tuple[list[float], Any]:
        sampler = PolicySampler(Worst(20), n=50, batch=8, epochs=4)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        schedule = ProgressLR(optimizer, sampler, cosine)
        if state is not None:
            for stateful, saved in zip((sampler, optimizer, schedule), state, strict=True):
                stateful.load_state_dict(saved)
        out = []
        for epoch in range(sampler.epoch, 4):
            for _ in range(-(-len(train(sampler, epoch)) // 8)):
                out.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                schedule.step()
            if stop == epoch:
                stateful_objects = (sampler, optimizer, schedule)
                state = pickle.loads(pickle.dumps([stateful.state_dict() for stateful in stateful_objects]))
        return [*out, optimizer.param_groups[0]["lr"]], state

    unbroken, state = rates(stop=1)
    assert len(unbroken) == 7 + 3 * 3 + 1
    assert unbroken[0] == 0.5
    assert unbroken[7] == pytest.approx(0.5 * cosine(1 / 4))
    assert unbroken[8] == pytest.approx(0.5 * cosine((1 + 1 / 3) / 4))
    assert unbroken[-1] == 0.0
    resumed, _ = rates(state=state)
    assert resumed == unbroken[10:]


def test_dictionaries_carry_their_ids_through_pickles_and_subsets() -> None:
    rows = [{"x": torch.tensor([float(i)])} for i in range(9)]
    dataset = pickle.loads(pickle.dumps(with_index(Subset(rows, [8, 7, 6]))))
    assert [(item["index"], int(item["x"])) for item in dataset.__getitems__([2, 0])] == [(2, 6), (0, 8)]
    assert (dataset[1]["index"], int(dataset[1]["x"]), len(dataset)) == (1, 7, 3)
    batch = IndexCollator(lambda items: {"keys": [sorted(i) for i in items]})(dataset.__getitems__([70_000 % 3, 2]))
    assert batch["index"].dtype == torch.int64
    assert (batch["index"].tolist(), batch["keys"]) == ([1, 2], [["x"], ["x"]])


def test_what_has_no_room_for_ids_is_refused() -> None:
    with pytest.raises(ArgumentError, match="already has a column 'index'"):
        with_index([{"index": 3}])[0]
    with pytest.raises(ArgumentError, match="map-style dataset that is not empty, got list"):
        with_index([])
    with pytest.raises(ArgumentError, match="must be mappings, got int"):
        with_index([{"x": 1}, 7])[1]
