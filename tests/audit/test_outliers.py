"""Outliers: equal to distances measured one by one, calibrated, and planted ones come first."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from datawinnow.audit import outliers as module
from datawinnow.audit.outliers import Outlyingness, outlier_issues, outlyingness, standardised, tail_severity
from datawinnow.core.errors import ArgumentError


def literal_distances(x: torch.Tensor, k: int) -> list[float]:
    """Mean distance to the k nearest others, in a loop."""
    rows = x.double().tolist()
    means = []
    for i, u in enumerate(rows):
        distances = sorted(math.dist(u, v) for j, v in enumerate(rows) if j != i)
        means.append(sum(distances[:k]) / len(distances[:k]))
    return means


@pytest.mark.parametrize(("n", "d", "k", "offset"), [(40, 3, 5, 0.0), (12, 7, 30, 0.0), (50, 2, 10, 300.0)])
def test_distances_are_those_measured_one_by_one(n: int, d: int, k: int, offset: float) -> None:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(n)) + offset
    measured = outlyingness(x, k=k)
    assert measured.distance == pytest.approx(literal_distances(x, k), rel=1e-3)
    distances = torch.cdist(x.double(), x.double()).fill_diagonal_(torch.inf)
    assert measured.nearest.tolist() == distances.argmin(1).tolist()


def test_planted_outliers_come_first_also_with_a_sample_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(0)
    centres = 4 * torch.randn(10, 16, generator=g)
    x = centres[torch.randint(10, (3000,), generator=g)] + torch.randn(3000, 16, generator=g)
    # far from every class, each in a direction of its own
    x[:20] = 30 * torch.nn.functional.normalize(torch.randn(20, 16, generator=g), dim=1)
    together = outlyingness(x)
    assert set(np.argsort(-together.severity, kind="stable")[:20].tolist()) == set(range(20))
    assert together.severity[:20].min() > 0.99
    assert (together.severity[20:] >= 0.5).sum() <= 3
    monkeypatch.setattr(module, "REFERENCE_ENTRIES", 7000)
    sampled = outlyingness(x, reference=500)
    assert set(np.argsort(-sampled.severity, kind="stable")[:20].tolist()) == set(range(20))


def test_a_pair_of_outliers_does_not_hide_each_other() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(500, 8, generator=g)
    x[0] = x[1] = torch.full((8,), 9.0)
    assert (outlyingness(x).severity[:2] > 0.9).all()


def test_the_severity_of_the_largest_is_uniform_over_datasets() -> None:
    rng = np.random.default_rng(0)
    largest = [tail_severity(np.exp(rng.normal(size=400))).max() for _ in range(300)]
    # half of clean datasets have one above 0.5, give or take 4 standard errors and the spread's own error
    assert 0.3 <= np.mean(np.array(largest) >= 0.5) <= 0.6
    assert np.mean(np.array(largest) >= 0.99) <= 0.06


def test_the_severity_follows_its_definition() -> None:
    logs = norm.ppf((np.arange(1000) + 0.5) / 1000)
    values = np.append(np.exp(3 + 0.5 * logs), np.exp(3 + 0.5 * 4.0))
    assert tail_severity(values)[-1] == pytest.approx(norm.cdf(4.0) ** 1001, abs=0.01)
    assert tail_severity(values)[0] == 0.0


def test_values_that_are_none_have_no_severity() -> None:
    severity = tail_severity([1.0, 1.2, float("nan"), 0.0, 1.1, 90.0, 1.3, 1.1, 1.0, 1.2])
    assert severity[2] == severity[3] == 0.0
    assert severity[5] > 0.9
    assert tail_severity([1.0, 5.0]).tolist() == [0.0, 0.0]
    assert tail_severity([]).tolist() == []


def test_few_rows_and_nan() -> None:
    assert outlyingness(torch.zeros(2, 3)).severity.tolist() == [0.0, 0.0]
    assert outlyingness(torch.ones(5, 3)).severity.tolist() == [0.0] * 5
    with pytest.raises(ArgumentError, match="features is nan for example 1"):
        outlyingness([[0.0], [float("nan")], [1.0]])


def test_units_do_not_matter_to_standardised_columns() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    x[:, 2] = 5.0
    scaled = x * torch.tensor([1.0, 1000.0, 3.0])
    assert torch.allclose(standardised(x), standardised(scaled), atol=1e-5)
    assert standardised(x)[:, 2].abs().max() == 0


def test_rows_name_the_ratio_and_the_nearest_class() -> None:
    measured = Outlyingness(np.array([1.0, 1.0, 5.0, 3.0]), np.array([0.0, 0.1, 0.95, 0.7]), np.array([1, 0, 1, 0]))
    rows = outlier_issues(measured, labels=[0, 1, 0, 0], classes=("cat", "dog"), n_train=3)
    assert [(row.split, row.example, row.severity) for row in rows] == [("train", 2, 0.95), ("test", 0, 0.7)]
    assert rows[0].evidence == "2.5 times as far from its nearest examples as is usual; the nearest is of dog"
    assert rows[1].evidence.endswith("the nearest is of cat")
    assert len(outlier_issues(measured, min_severity=0.9)) == 1
    near = measured._replace(distance=np.array([1.0, 1.0, 1.4, 3.0]))
    assert [row.example for row in outlier_issues(near)] == [3]
