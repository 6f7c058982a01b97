"""Evidence of a few labels: errors on subsets left out, with intervals, and the agreement of seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.interval import Interval, interval
from datawinnow.core.progress import Progress
from datawinnow.core.verdict import Outcome, compare
from datawinnow.instruct.ridge_model import ridge
from datawinnow.instruct.selector import SelectorRecipe, network_seeds, predict, train_selectors

MEAN_LABEL = "mean of the other labels"
"""Name of the constant prediction that every scorer is compared with."""


@dataclass(frozen=True)
class LeaveOneOut:
    """Predictions of subsets that a scorer was not trained on, and their errors.

    Attributes:
        name: of the scorer.
        predicted: a number a subset, each from all the other subsets.
        error: mean squared error, in squared units of the labels, with its 95% interval over subsets. Two predictions
            share most of their training sets, so the true interval is wider.
        difference: squared error minus that of `MEAN_LABEL`, paired by subset; None for `MEAN_LABEL` itself.
        correlation: Pearson's, of predictions and labels; NaN if one of them is constant.
        outcome: against `MEAN_LABEL`: ``"wins"``, ``"loses"`` or ``"ties"``; empty for `MEAN_LABEL` itself.
    """

    name: str
    predicted: tuple[float, ...]
    error: Interval
    difference: Interval | None
    correlation: float
    outcome: Outcome | Literal[""]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "correlation": None if np.isnan(self.correlation) else self.correlation}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> LeaveOneOut:
        """From `as_dict`."""
        difference = None if row["difference"] is None else Interval(**row["difference"])
        correlation = float("nan") if row["correlation"] is None else float(row["correlation"])
        error = Interval(**row["error"])
        return cls(row["name"], tuple(row["predicted"]), error, difference, correlation, row["outcome"])


def leave_one_out(name: str, predicted: Any, labels: Any) -> LeaveOneOut:
    """The errors of predictions, compared with predicting the mean label of the other subsets.

    Args:
        name: of the scorer.
        predicted: (s,) numbers, each made without the label of its subset.
        labels: (s,).

    >>> leave_one_out("guess", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).error.mean
    0.0
    """
    y, predictions = np.asarray(labels, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    errors = (predictions - y) ** 2
    row = tuple(predictions.tolist())
    if name == MEAN_LABEL:
        return LeaveOneOut(name, row, interval(errors.tolist()), None, float("nan"), "")
    reference = (mean_of_others(y) - y) ** 2
    # `compare` takes more as better, so errors are negated; subsets play the part of seeds.
    comparison = compare(dict(enumerate((-errors).tolist())), dict(enumerate((-reference).tolist())))
    assert comparison is not None
    is_constant = predictions.std() == 0 or y.std() == 0
    correlation = float("nan") if is_constant else float(np.corrcoef(predictions, y)[0, 1])
    difference = interval((errors - reference).tolist())
    return LeaveOneOut(name, row, interval(errors.tolist()), difference, correlation, comparison.outcome)


def mean_of_others(labels: np.ndarray) -> np.ndarray:
    """(s,) for each subset the mean label of the others."""
    means: np.ndarray = (labels.sum() - labels) / (len(labels) - 1)
    return means


def network_predictions(
    x: Tensor,
    labels: Tensor,
    *,
    recipe: SelectorRecipe,
    seed: int,
    mask: Tensor | None,
    progress: Progress | None = None,
) -> list[float]:
    """Labels of subsets predicted by networks that were not trained on them, the mean of several networks.

    With ``across="pool"`` a subset is scored together with the others, as its pairs attend to theirs: its features
    are used, not its label.

    Args:
        x: (s, m, d) features.
        labels: (s,).
        recipe: how to train.
        seed: of the networks, the same for every subset left out.
        mask: (s, m) bool, False for padding.
        progress: called as ``progress("leaving subsets out", done, total)``.
    """
    seeds = network_seeds(recipe, seed)
    s, networks = len(labels), len(seeds)

    def report(done: int) -> None:
        if progress is not None:
            progress("leaving subsets out", done, s * networks)

    # Subset by subset, its networks together: the order of the view(s, networks, s) below.
    left_out: list[int | None] = [i for i in range(s) for _ in seeds]
    trained = train_selectors(x, labels, recipe=recipe, seeds=seeds * s, mask=mask, left_out=left_out, progress=report)
    predicted = predict(trained, x, recipe=recipe, mask=mask).view(s, networks, s)
    # Of the networks that did not see subset i, their prediction of subset i.
    return [float(predicted[i, :, i].double().mean()) for i in range(s)]


def ridge_predictions(means: Tensor, labels: Tensor) -> list[float]:
    """Labels of subsets predicted by ridge regression on the others, its penalty chosen without that subset too."""
    index = torch.arange(len(labels))
    return [float(ridge(means[index != i], labels[index != i])(means[i])) for i in range(len(labels))]


def seed_agreement(scores: Tensor, choose: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Agreement of runs with different seeds.

    Args:
        scores: (k, n), a row a seed.
        choose: returns the positions that a row of scores chooses.

    Returns:
        ``correlation`` (k, k) of scores, Pearson's; ``overlap`` (k, k), the fraction of the chosen that two have in
        common; ``seeds``, k; and of both ``..._between`` with the smallest, mean and largest over pairs of seeds.
    """
    rows = scores.double().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        # corrcoef returns a scalar for a single row.
        correlation = np.atleast_2d(np.corrcoef(rows))
    chosen = [set(choose(row).tolist()) for row in scores]
    # Every row chooses equally many, so the matrix is symmetric.
    overlap = np.array([[len(a & b) / len(a) for b in chosen] for a in chosen])
    agreement: dict[str, Any] = {
        "correlation": [[float(v) if np.isfinite(v) else None for v in row] for row in correlation],
        "overlap": overlap.tolist(),
        "seeds": len(rows),
    }
    # Each pair of seeds once, without the diagonal of ones.
    index = np.triu_indices(len(rows), 1)
    for name, matrix in (("correlation", correlation), ("overlap", overlap)):
        values = matrix[index]
        values = values[np.isfinite(values)]
        if len(values):
            low, mean, high = (float(f(values)) for f in (np.min, np.mean, np.max))
            agreement[f"{name}_between"] = {"low": low, "mean": mean, "high": high}
    return agreement


_COMPARED: dict[Outcome, tuple[str, str]] = {
    "wins": ("which is better", "better than"),
    "loses": ("which is worse", "worse than"),
    "ties": ("which is within noise", "within noise of"),
}
"""Of an outcome: a clause, and a comparison with a name behind it."""


def summarise(scorers: Sequence[LeaveOneOut], chosen: str, agreement: Mapping[str, Any]) -> list[str]:
    """Sentences on the evidence of the labels.

    Args:
        scorers: `MEAN_LABEL` and every scorer that was tested.
        chosen: name of the scorer that was used.
        agreement: of `seed_agreement`.
    """
    by_name = {scorer.name: scorer for scorer in scorers}
    used, reference, baseline = by_name[chosen], by_name[MEAN_LABEL], by_name.get("ridge")
    n = len(used.predicted)
    assert used.difference is not None
    assert used.outcome
    lines = [
        f"On {n} subsets, each left out in turn, the mean squared error of {chosen} is {_plus_minus(used.error)}, and "
        f"that of the {MEAN_LABEL} is {_plus_minus(reference.error)}: a difference of "
        f"{_plus_minus(used.difference, sign=True)}, {_COMPARED[used.outcome][0]}."
    ]
    if used.outcome != "wins":
        lines.append(
            f"These {n} labels do not show that the scores separate good pairs from others: treat the result as a "
            "choice by indicators and clusters, and test it by training on it and on the same number of random pairs."
        )
    if baseline is not None and chosen != "ridge":
        errors = (_squared_errors(scorer, reference) for scorer in (used, baseline))
        gaps = [a - b for a, b in zip(*errors, strict=True)]
        outcome = compare(dict(enumerate(-gap for gap in gaps)), dict.fromkeys(range(n), 0.0))
        assert outcome is not None
        lines.append(
            f"It is {_COMPARED[outcome.outcome][1]} ridge regression on the mean features "
            f"({_plus_minus(baseline.error)}, difference {_plus_minus(interval(gaps), sign=True)})."
        )
    correlation, overlap = agreement.get("correlation_between"), agreement.get("overlap_between")
    if correlation and overlap:
        lines.append(
            f"Between {agreement['seeds']} seeds, scores correlate by {correlation['low']:.2f} to "
            f"{correlation['high']:.2f}, and {100 * overlap['low']:.0f}% to {100 * overlap['high']:.0f}% of the chosen "
            "pairs are the same."
        )
    return lines


def _squared_errors(scorer: LeaveOneOut, reference: LeaveOneOut) -> list[float]:
    """Squared error of each subset. Its label follows from the mean of the others and the mean of all."""
    s = len(reference.predicted)
    total = sum(reference.predicted)  # the means of the others sum to the sum of the labels
    return [(p - (total - (s - 1) * m)) ** 2 for p, m in zip(scorer.predicted, reference.predicted, strict=True)]


def _plus_minus(value: Interval, *, sign: bool = False) -> str:
    mean = f"{value.mean:+.2f}" if sign else f"{value.mean:.2f}"
    return mean if value.half is None else f"{mean} ± {value.half:.2f}"
