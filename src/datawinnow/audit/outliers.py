"""Outliers: examples that are far from every class in the features of a network, or by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.issues import Issue
from datawinnow.core.neighbours import centred, squared_norms
from datawinnow.core.rng import stream

NEIGHBOURS = 10
REFERENCE_ROWS = 10_000
"""Rows that distances are measured to, at most; a sample of them finds outliers as well as all rows do."""
REFERENCE_ENTRIES = 1 << 22
"""Entries of a block of distances: 16 MB of float32."""
MIN_SEVERITY = 0.5
"""Least severity of what is reported: less is to be expected of the farthest example of any dataset."""
MIN_RATIO = 1.5
"""How many times the usual distance an outlier is away at least: in many dimensions distances hardly differ."""
QUANTILES = ((0.8413, 1.0), (0.9772, 2.0))
"""Quantiles of a normal distribution, and how many standard deviations they are above the median."""


class Outlyingness(NamedTuple):
    """How far examples are from all others.

    Attributes:
        distance: (n,) mean distance to the nearest of the reference rows.
        severity: (n,) in [0, 1], see `tail_severity`.
        nearest: (n,) int64, the nearest reference row.
    """

    distance: np.ndarray
    severity: np.ndarray
    nearest: np.ndarray


def tail_severity(values: Any) -> np.ndarray:
    """How far positive values lie beyond the upper end of the others, in [0, 1].

    The severity of a value is the probability that the largest of n values is smaller, if their logs are normal with
    the median of these and a standard deviation read off their upper quantiles (which a few outliers do not move). So
    the largest of n unremarkable values has about 0.5 in the median, and 0.99 in one dataset of a hundred.

    Args:
        values: (n,) of 0 and above; NaN has the severity 0.

    Returns:
        (n,) float64.

    >>> severity = tail_severity([*np.linspace(1, 2, 99), 50])
    >>> round(float(severity[-1]), 2), round(float(severity[-2]), 2)
    (1.0, 0.0)
    """
    from scipy.stats import norm

    numbers = np.asarray(values, dtype=np.float64)
    severity = np.zeros(len(numbers))
    present = np.isfinite(numbers) & (numbers > 0)
    if present.sum() < 3:
        return severity
    logs = np.log(numbers[present])
    median = float(np.median(logs))
    # the wider of the two: a heavy tail makes no outlier of a tenth of the data
    spread = max((float(np.quantile(logs, q)) - median) / sigmas for q, sigmas in QUANTILES)
    spread = max(spread, 1e-6)
    severity[present] = np.exp(present.sum() * norm.logcdf((logs - median) / spread))
    return severity


def outlyingness(features: Any, *, k: int = NEIGHBOURS, reference: int = REFERENCE_ROWS, seed: int = 0) -> Outlyingness:
    """Mean distance of every example to its nearest others, and how far beyond the usual that is.

    Distances are measured to a sample of the rows, which is O(n) and as good as all of them (Sugiyama and Borgwardt
    2013, Rapid distance-based outlier detection via sampling).

    Args:
        features: (n, d) float, finite.
        k: number of neighbours; fewer where there are fewer other rows.
        reference: rows in the sample, at most.
        seed: of the sample.

    Returns:
        `Outlyingness`; all zeros with fewer than three rows.

    Raises:
        ArgumentError: another shape, NaN or infinity.
    """
    rows = check.matrix("features", features).float()
    check.number("k", k, 1, 10**9, integer=True)
    check.number("reference", reference, 1, 10**9, integer=True)
    n = len(rows)
    if n < 3:
        return Outlyingness(np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64))
    drawn = torch.randperm(n, generator=stream(seed, "outliers", "reference"))[:reference].sort().values
    points, squares = centred("features", rows)
    sample, sample_squares = points[drawn], squares[drawn]
    place = torch.full((n,), -1, dtype=torch.int64)
    place[drawn] = torch.arange(len(drawn))
    k = min(k, len(drawn) - 1)
    distance, nearest = torch.empty(n), torch.empty(n, dtype=torch.int64)
    step = max(1, REFERENCE_ENTRIES // len(drawn))
    for first in range(0, n, step):
        block = points[first : first + step]
        keys = torch.addmm(sample_squares, block, sample.T, alpha=-2)
        inside = torch.nonzero(place[first : first + step] >= 0).flatten()
        keys[inside, place[first + inside]] = torch.inf  # a row is no neighbour of itself
        values, columns = keys.topk(k, dim=1, largest=False)
        distance[first : first + step] = (values + squared_norms(block)[:, None]).clamp_min(0).sqrt().mean(1)
        nearest[first : first + step] = drawn[columns[:, 0]]
    return Outlyingness(distance.numpy(), tail_severity(distance.numpy()), nearest.numpy())


def standardised(x: Any) -> Tensor:
    """(n, d) columns with mean 0 and standard deviation 1, for vectors whose columns have different units."""
    rows = check.matrix("x", x).float()
    spread = rows.std(0, correction=0)
    return (rows - rows.mean(0)) / torch.where(spread > 0, spread, torch.ones_like(spread))


def outlier_issues(
    measured: Outlyingness,
    *,
    labels: Any = None,
    classes: Sequence[str] = (),
    n_train: int | None = None,
    min_severity: float = MIN_SEVERITY,
) -> list[Issue]:
    """A row for every outlier.

    Args:
        measured: of the train examples, followed by the test examples if ``n_train`` is given.
        labels: (n,) int, class ids, to name the class of the nearest example; None for unknown.
        classes: names of the classes.
        n_train: number of train examples; all by default.
        min_severity: least severity of a row.

    Returns:
        A list of `Issue`.
    """
    usual = float(np.median(measured.distance)) if len(measured.distance) else 0.0
    class_ids = None if labels is None else check.labels("labels", labels, len(measured.distance)).tolist()
    issues = []
    is_far = (measured.severity >= min_severity) & (measured.distance >= MIN_RATIO * usual)
    for i in np.flatnonzero(is_far).tolist():
        ratio = measured.distance[i] / usual if usual > 0 else float("inf")
        sentence = f"{ratio:.1f} times as far from its nearest examples as is usual"
        if class_ids is not None:
            number = class_ids[int(measured.nearest[i])]
            name = classes[number] if number < len(classes) else f"class {number}"
            sentence += f"; the nearest is of {name}"
        in_test = n_train is not None and i >= n_train
        issues.append(
            Issue(
                "outlier",
                i - n_train if n_train is not None and in_test else i,
                float(measured.severity[i]),
                sentence,
                split="test" if in_test else "train",
            )
        )
    return issues
