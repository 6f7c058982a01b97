"""The estimate of what a condensation costs."""

import pytest

from datawinnow.condense import METHODS, cost
from datawinnow.condense.cost import estimate_condensation
from datawinnow.condense.run_folder import CondenseRun, Judging
from datawinnow.data.examples import Examples
from tests.condense.helpers import build, make_images


def test_judging_is_estimated_with_what_each_network_costs_once(monkeypatch):
    x, labels = make_images()
    train = Examples(x, labels, tuple(str(c) for c in range(int(labels.max()) + 1)))
    now = [0.0]

    def evaluate(_images, test, _labels, *, networks, epochs, **_options):
        now[0] += networks * (0.5 + 0.25 * epochs + 0.01 * len(test))

    monkeypatch.setattr(cost, "evaluate", evaluate)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])
    run = CondenseRun(
        method=METHODS["dm"],
        per_class=1,
        iterations=1,
        build=build(),
        network="",
        augment=None,
        device="cpu",
        seed=0,
        options={"real_batch": 4},
    )
    judging = Judging(networks=2, watched=1, snapshots=2, epochs=40)
    expected = judging.num_networks * (0.5 + 0.25 * 40 + 0.01 * len(train))
    assert estimate_condensation(run, train, train, judging).judging_seconds == pytest.approx(expected)
    assert estimate_condensation(run, train, None, judging).judging_seconds == 0
