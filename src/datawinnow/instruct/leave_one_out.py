"""What a few labels can and cannot know: errors on subsets left out, with intervals, and agreement between seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.interval import Interval, interval
from datawinnow.core.progress import Progress
from datawinnow.instruct.learn import Recipe, learn, predict, seeds_of
from datawinnow.instruct.ridge import ridge

CONSTANT = "the mean of the others"


@dataclass(frozen=True)
class LeftOut:
    """How one way of predicting does on subsets that it has not seen.

    Attributes:
        name: of the way.
        predicted: a number a subset, each from all the other subsets.
        error: mean of the squared errors, in squared units of the labels, with its 95% interval over subsets. Squared
            errors of different subsets share most of their training sets, so the true interval is rather wider.
        against: squared error less that of predicting `CONSTANT`, paired by subset; None for that itself.
        correlation: Pearson's, of predictions and labels; NaN for a constant.
        verdict: ``"better"``, ``"worse"`` or ``"within noise"``; empty for the reference.
    """

    name: str
    predicted: tuple[float, ...]
    error: Interval
    against: Interval | None
    correlation: float
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "correlation": None if np.isnan(self.correlation) else self.correlation}


def left_out(name: str, predicted: Any, labels: Any) -> LeftOut:
    """`LeftOut` of predictions, compared with predicting the mean label of the other subsets.

    Args:
        name: of the way.
        predicted: (s,) numbers, each made without the label of its subset.
        labels: (s,).

    Returns:
        The errors; better or worse only where the 95% interval of the paired difference excludes 0.

    >>> left_out("guess", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).error.mean
    0.0
    """
    y, found = np.asarray(labels, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    errors = (found - y) ** 2
    if name == CONSTANT:
        return LeftOut(name, tuple(found.tolist()), interval(errors.tolist()), None, float("nan"), "")
    reference = (constant(y) - y) ** 2
    against = interval((errors - reference).tolist())
    flat = found.std() == 0 or y.std() == 0
    verdict = "better" if against.high < 0 else "worse" if against.low > 0 else "within noise"
    correlation = float("nan") if flat else float(np.corrcoef(found, y)[0, 1])
    return LeftOut(name, tuple(found.tolist()), interval(errors.tolist()), against, correlation, verdict)


def constant(labels: np.ndarray) -> np.ndarray:
    """(s,) for each subset the mean label of the others."""
    others: np.ndarray = (labels.sum() - labels) / (len(labels) - 1)
    return others


def network_left_out(
    x: Tensor, labels: Tensor, *, recipe: Recipe, seed: int, there: Tensor | None, progress: Progress | None = None
) -> list[float]:
    """What networks expect of each subset that they were not trained on; their mean where several are averaged.

    With ``across="pool"`` a subset is scored together with the others, as its pairs attend to theirs: their features
    are used, not its label.

    Args:
        x: (s, m, d) features.
        labels: (s,).
        recipe: how to train.
        seed: of the networks, the same for every subset left out.
        there: (s, m) bool, False for padding.
        progress: called with what is done, how far, of how many.
    """
    seeds = seeds_of(recipe, seed)
    s, each = len(labels), len(seeds)

    def log(done: int) -> None:
        if progress is not None:
            progress("leaving subsets out", done, s * each)

    left: list[int | None] = [i for i in range(s) for _ in seeds]
    learned = learn(x, labels, recipe=recipe, seeds=seeds * s, there=there, without=left, progress=log)
    found = predict(learned, x, recipe=recipe, there=there).view(s, each, s)
    return [float(found[i, :, i].double().mean()) for i in range(s)]


def ridge_left_out(means: Tensor, labels: Tensor) -> list[float]:
    """What ridge regression expects of each subset left out; its penalty is chosen anew without that subset."""
    s = len(labels)
    others = [torch.tensor([j for j in range(s) if j != i]) for i in range(s)]
    return [float(ridge(means[seen], labels[seen])(means[i])) for i, seen in enumerate(others)]


def agreement(scores: Tensor, choose: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """How far runs with different seeds agree.

    Args:
        scores: (k, n), a row a seed.
        choose: which positions such scores choose.

    Returns:
        ``correlation`` (k, k) of scores, Pearson's; ``overlap`` (k, k), the share of the chosen that two have in
        common; and of both the smallest, mean and largest over pairs of seeds.
    """
    rows = scores.double().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.atleast_2d(np.corrcoef(rows))
    sets = [set(choose(row).tolist()) for row in scores]
    overlap = np.array([[len(a & b) / len(a) for b in sets] for a in sets])
    out: dict[str, Any] = {"correlation": _listed(correlation), "overlap": overlap.tolist(), "seeds": len(rows)}
    if len(rows) > 1:
        pairs = np.triu_indices(len(rows), 1)
        for name, matrix in (("correlation", correlation), ("overlap", overlap)):
            values = matrix[pairs]
            values = values[np.isfinite(values)]
            if len(values):
                low, mean, high = (float(f(values)) for f in (np.min, np.mean, np.max))
                out[f"{name}_between"] = {"low": low, "mean": mean, "high": high}
    return out


def _listed(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if not np.isfinite(v) else float(v) for v in row] for row in matrix]


def says(ways: Sequence[LeftOut], used: str, between: Mapping[str, Any]) -> list[str]:
    """What the labels can and cannot know, in sentences.

    Args:
        ways: `CONSTANT` and every way that was tried.
        used: name of the way that chose.
        between: of `agreement`.
    """
    by_name = {way.name: way for way in ways}
    own, base = by_name[used], by_name[CONSTANT]
    n = len(own.predicted)
    assert own.against is not None
    sure = own.verdict != "within noise"
    lines = [
        f"On subsets left out, one of {n} at a time, {used} has a mean squared error of {_plus(own.error)}, {CONSTANT} "
        f"has {_plus(base.error)}: a difference of {_plus(own.against, sign=True)}, "
        + (f"{own.verdict} than knowing nothing." if sure else "which is within noise.")
    ]
    if own.verdict != "better":
        lines.append(
            f"So {n} labels do not show that these scores tell good pairs from others: read the choice as one by its "
            "indicators and clusters, and check it by training on it and on as many pairs at random."
        )
    rival = by_name.get("ridge")
    if rival is not None and used != "ridge":
        gap = interval([a - b for a, b in zip(_errors(own, base), _errors(rival, base), strict=True)])
        word = "beats" if gap.high < 0 else "loses to" if gap.low > 0 else "is not told apart from"
        lines.append(
            f"It {word} ridge regression on the mean features ({_plus(rival.error)}, difference "
            f"{_plus(gap, sign=True)})."
        )
    between_scores, overlap = between.get("correlation_between"), between.get("overlap_between")
    if between_scores and overlap:
        lines.append(
            f"Between {between['seeds']} seeds scores correlate by {between_scores['low']:.2f} to "
            f"{between_scores['high']:.2f}, and {100 * overlap['low']:.0f}% to {100 * overlap['high']:.0f}% of the "
            "chosen are the same."
        )
    return lines


def _errors(way: LeftOut, base: LeftOut) -> list[float]:
    """Squared errors; the labels follow from what the mean of the others was and their mean."""
    s = len(base.predicted)
    total = sum(base.predicted)  # the mean of the others sums to the sum of the labels
    return [(p - (total - (s - 1) * b)) ** 2 for p, b in zip(way.predicted, base.predicted, strict=True)]


def _plus(found: Interval, *, sign: bool = False) -> str:
    shown = f"{found.mean:+.2f}" if sign else f"{found.mean:.2f}"
    return shown if found.half is None else f"{shown} ± {found.half:.2f}"
