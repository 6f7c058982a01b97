"""Wrappers of scores: the mean over independent runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.card import Card, card_of
from datawinnow.core.check import Missing
from datawinnow.core.errors import ArgumentError


def over_runs(score: Callable[..., Tensor], *, by: Literal["score", "rank"] = "score") -> OverRuns:
    """``score`` averaged over runs (networks trained from other seeds), as GraNd and EL2N are in their paper.

    Args:
        score: any score, for example `el2n`.
        by: ``"score"`` averages the scores; ``"rank"`` averages ranks, so that no run counts more for having larger
            scores: rank r of m examples is (r - 1/2) / m, in (0, 1), ties share their mean rank, and the lowest score
            still has the lowest rank, so the same end is kept.

    Returns:
        A score called as ``over_runs(el2n)([norms of run 0, norms of run 1], first=20, last=21)``; see `OverRuns`.

    Raises:
        ArgumentError: not callable, or an unknown ``by``.

    >>> from datawinnow.scores.grand_full import grand_full
    >>> over_runs(grand_full)([[1.0, 4.0], [3.0, 4.0]]).tolist()
    [2.0, 4.0]
    """
    check.one_of("by", by, ("score", "rank"))
    return OverRuns(score, by)


class OverRuns:
    """A score averaged over runs; made by `over_runs`.

    Every positional array is a list (or tuple) with one array a run; a tensor or numpy array is used for all
    runs (``labels``, for example). Options are those of the score.

    Attributes:
        card: the score's card, under another name and key.
    """

    card: Card

    def __init__(self, score: Callable[..., Tensor], by: Literal["score", "rank"]) -> None:
        score_card = card_of(score)
        self._score, self._by, self._score_card = score, by, score_card
        self.card = replace(score_card, name=f"{score_card.name}, over runs", key=f"over_runs_{score_card.key}")
        self.__name__ = self.card.key
        self.__doc__ = f"{score_card.summary} The mean over runs."

    def __call__(self, *arrays: Any, missing: Missing = "raise", **options: Any) -> Tensor:
        """The mean over the runs: `with_error` without the error."""
        return self.with_error(*arrays, missing=missing, **options)[0]

    def with_error(self, *arrays: Any, missing: Missing = "raise", **options: Any) -> tuple[Tensor, Tensor]:
        """The mean over the runs, and its standard error.

        Args:
            *arrays: what the score needs, each a list of one array a run, or one tensor or numpy array for all runs.
            missing: ``"raise"``, or ``"skip"`` to average over the runs in which an example has a score.
            **options: options of the score.

        Returns:
            (n,) mean and (n,) standard error (unbiased standard deviation over the runs by the root of their number),
            of the score's dtype. The mean is NaN for an example without a score in any run, the error for one with
            fewer than two.

        Raises:
            ArgumentError: no list among the arrays, lists of different lengths, runs about different numbers of
                examples, or what the score raises, with the run's number before it.
        """
        check.one_of("missing", missing, ("raise", "skip"))
        extra = {"missing": missing} if "missing" in self._score_card.takes else {}
        state: list[Tensor] | None = None
        for run, run_arrays in enumerate(self._runs(arrays)):
            try:
                values = self._score(*run_arrays, **extra, **options)
                check.finite("the score", values, missing)
            except ArgumentError as error:
                raise ArgumentError(f"run {run}: {error}") from error
            if state is None:
                # The accumulators are float64 whatever the score's dtype; the result is converted back once.
                kind = values.dtype
                state = [torch.zeros(values.shape, dtype=torch.float64) for _ in range(3)]
            elif values.shape != state[0].shape:
                raise ArgumentError(
                    f"run {run} is about {values.numel()} examples, but run 0 about {state[0].numel()}: give the same "
                    "examples in the same order for every run"
                )
            _add(state, _ranks(values) if self._by == "rank" else values.to(torch.float64))
        assert state is not None  # `_runs` gives at least one
        count, mean, squares = state
        mean = torch.where(count > 0, mean, torch.nan)
        # Standard error of the mean: sqrt(M2 / (m - 1)) / sqrt(m).
        standard = torch.where(count > 1, (squares / (count - 1) / count).sqrt(), torch.nan)
        return mean.to(kind), standard.to(kind)

    def _runs(self, arrays: tuple[Any, ...]) -> list[list[Any]]:
        names = [*self._score_card.needs, *self._score_card.optional_needs]
        lengths = {
            names[i] if i < len(names) else f"array {i}": len(array)
            for i, array in enumerate(arrays)
            if isinstance(array, list | tuple)
        }
        if not lengths or min(lengths.values()) == 0:
            raise ArgumentError(
                f"{self.card.key} takes a list with one array a run for at least one of {', '.join(names)}, got "
                + (", ".join(f"{name} of {size} runs" for name, size in lengths.items()) or "no list")
            )
        if len(set(lengths.values())) != 1:
            raise ArgumentError(
                "these must be lists of as many runs, but have "
                + ", ".join(f"{size} ({name})" for name, size in lengths.items())
                + ": a list holds one array a run; give an array that serves all runs as a tensor or numpy array"
            )
        runs = next(iter(lengths.values()))
        return [[a[run] if isinstance(a, list | tuple) else a for a in arrays] for run in range(runs)]


def _add(state: list[Tensor], values: Tensor) -> None:
    """Update count, mean and sum of squared deviations by one run (Welford 1962), NaN left out."""
    count, mean, squares = state
    present = ~values.isnan()
    count += present
    away = torch.where(present, values - mean, 0.0)
    mean += away / count.clamp_min(1)
    # Welford's update: the difference from the old mean times the one from the new.
    squares += away * torch.where(present, values - mean, 0.0)


def _ranks(values: Tensor) -> Tensor:
    """(n,) float64 (rank - 1/2) / m among the m values that are not NaN; ties share their mean rank."""
    out = torch.full(values.shape, torch.nan, dtype=torch.float64)
    present = ~values.isnan()
    _, inverse, count = torch.unique(values[present], return_inverse=True, return_counts=True)
    # A group of c equal values that ends at rank u covers ranks u - c + 1 to u, whose mean less 1/2 is u - c / 2.
    upto = count.cumsum(0).to(torch.float64)
    out[present] = ((upto - count / 2) / max(1, int(present.sum())))[inverse]
    return out
