"""`fit` with a policy that gives weights: whose they are, in which epoch, and that what is observed has none."""

import copy
import math
from dataclasses import dataclass, field

import pytest
import torch

from datawinnow.core.selection import Selection
from datawinnow.data.kept import Kept
from datawinnow.train import fit
from tests.train.helpers import PLAIN, blobs, vector_net, weights

STEP = {**PLAIN, "batch": 64, "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "lr": 0.1}
"""One step of plain gradient descent an epoch."""


@dataclass(frozen=True)
class Weighed:
    """Ids and their weights for every epoch, told beforehand; writes down what it observes."""

    plans: tuple[dict[int, float], ...]
    needs: tuple[str, ...] = ("loss",)
    seen: list = field(default_factory=list, compare=False, repr=False)

    def init(self, n):
        return {"n": n}

    def observe(self, state, index, **signals):
        self.seen.append(dict(zip(index.tolist(), signals["loss"].tolist(), strict=True)))
        return state

    def plan(self, epoch, state, stream):
        plan = self.plans[epoch]
        return Selection(torch.tensor(list(plan)), torch.tensor(list(plan.values()))), state


PLANS = ({i: 1.0 + i / 5 for i in range(20)}, dict.fromkeys(range(59, 5, -1), 1.0), {8: 3.0, 3: 0.5, 11: 1.0})


def literal(plans, gamma=0.0):
    """Gradient descent on sum(w l) / b in float64; the weights of the network, and each epoch's losses by id."""
    model, data, seen = copy.deepcopy(vector_net()).double(), blobs(), []
    for plan in plans:
        total, losses = 0.0, {}
        for i, factor in plan.items():
            log_p = model(data.x[i].double()[None])[0].log_softmax(0)[int(data.labels[i])]
            total = total + factor * -log_p * (1 - log_p.exp()) ** gamma
            losses[i] = -float(log_p.detach())
        grads = torch.autograd.grad(total / len(plan), list(model.parameters()))
        with torch.no_grad():
            for p, grad in zip(model.parameters(), grads, strict=True):
                p -= 0.1 * grad
        seen.append(losses)
    return weights(model), seen


def test_the_weights_of_an_epoch_do_not_outlive_it():
    # the second plan has weights of one, as every annealing
    model, _ = fit(vector_net(), blobs(), epochs=3, policy=Weighed(PLANS), **STEP)
    torch.testing.assert_close(weights(model), literal(PLANS)[0], rtol=1e-4, atol=1e-6)
    stale = ({**PLANS[0]}, {i: PLANS[0].get(i, 1.0) for i in PLANS[1]}, PLANS[2])
    assert not torch.allclose(weights(model), literal(stale)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weight", [[1.0] * 5, [2.0, 0.5, 3.0, 4.0, 1.0]], ids=["of one", "weighted"])
def test_over_what_was_kept_weights_go_to_the_ids_that_the_positions_stand_for(weight):
    ids = [40, 3, 17, 58, 21]
    plans = ({3: 2.0, 0: 5.0}, {1: 1.0, 2: 4.0, 0: 0.5}, {1: 1.0, 4: 1.0, 2: 1.0})
    kept = Kept(blobs(), Selection(torch.tensor(ids), torch.tensor(weight)))
    model, _ = fit(vector_net(), kept, epochs=3, policy=Weighed(plans), **STEP)
    by_id = [{ids[k]: weight[k] * factor for k, factor in plan.items()} for plan in plans]
    torch.testing.assert_close(weights(model), literal(by_id)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 2.0], ids=["cross-entropy", "focal"])
def test_a_policy_observes_the_cross_entropy_whatever_is_trained_on(gamma):
    policy = Weighed(PLANS)
    model, _ = fit(vector_net(), blobs(), epochs=3, policy=policy, focal=gamma, **STEP)
    trained, seen = literal(PLANS, gamma)
    torch.testing.assert_close(weights(model), trained, rtol=1e-4, atol=1e-6)
    assert len(policy.seen) == 2  # of the last epoch nobody asks
    for epoch in range(2):
        assert policy.seen[epoch] == pytest.approx(seen[epoch], rel=1e-4)


def test_a_policy_follows_the_schedule_of_a_longer_run():
    options = {**STEP, "batch": 16, "schedule": "cosine"}
    _, history = fit(vector_net(), blobs(), epochs=2, schedule_epochs=5, policy=Weighed(PLANS), **options)
    # 20 and 54 examples: 2 and 4 steps; the rate of each epoch's last
    ends = [0.05 * (1 + math.cos(math.pi * t / 5)) for t in (1 / 2, 1 + 3 / 4)]
    assert [row["learning_rate"] for row in history.rows] == pytest.approx(ends, rel=1e-6)
