"""The cheapest way to train that keeps a promise about the accuracy, from the errors of pilot trainings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from datawinnow.core import check
from datawinnow.core.counts import many
from datawinnow.core.errors import ArgumentError
from datawinnow.plan.curve import Floats, ScalingCurves, fit_curves

CONFIDENCE = 0.95
"""Probability of a promise."""
REPLICATES = 4000
"""Replicates of the bootstrap; their 95% quantile is then known to 0.3 of a percent."""
MIN_SHARES = 3
"""Shares that a curve of three parameters needs."""
LABELS = 1000
"""Labels of which it is said what they would bring."""

Axis = Literal["examples", "epochs"]


@dataclass(frozen=True)
class Route:
    """A way to train for less, and its errors at a few shares of the cost.

    Attributes:
        name: of the method in the grid of pilots.
        label: for people, as ``"random examples"``.
        axis: what a share is of: ``"examples"`` kept, trained on for all epochs; or ``"epochs"`` on all the examples,
            with the operations that they have at full size.
        errors: share -> error on held-out examples, in [0, 1], fold by fold; every share has the same folds.
        ends_at_full: whether share 1 is the full training.
        overhead: cost before the first training, such as scoring, in full trainings.
    """

    name: str
    label: str
    axis: Axis
    errors: Mapping[float, Sequence[float]]
    ends_at_full: bool = True
    overhead: float = 0.0


@dataclass(frozen=True, eq=False)
class RouteCurve:
    """The fitted curve of a route.

    Attributes:
        route: the route.
        curve: least squares on the mean errors, one replicate.
        shares: (k,) shares in steps of a percent, rising.
        drops: (m, k) accuracy lost against the full training, of the bootstrap's replicates.
        share: the smallest share whose drop stays within the promise; None if none does.
        is_extrapolated: whether ``share`` or the full training lies beyond the pilots.
    """

    route: Route
    curve: ScalingCurves
    shares: Floats
    drops: Floats
    share: float | None
    is_extrapolated: bool

    def drop_at(self, share: float) -> tuple[float, float, float]:
        """Median, 2.5% and 97.5% quantile of the accuracy lost at one of ``shares``, as fractions."""
        column = self.drops[:, int(np.abs(self.shares - share).argmin())]
        low, median, high = np.quantile(column, [0.025, 0.5, 0.975])
        return float(median), float(low), float(high)

    def confidence_at(self, share: float, max_drop: float) -> float:
        """Share of the replicates in which the accuracy lost is within ``max_drop``."""
        return float((self.drops[:, int(np.abs(self.shares - share).argmin())] <= max_drop).mean())


@dataclass(frozen=True, eq=False)
class PlanAdvice:
    """What to do, with its promise.

    Attributes:
        curves: of all routes.
        chosen: the cheapest route that keeps the promise; None where none does.
        max_drop: accuracy that may be lost, a fraction.
        runs: trainings over which scoring is spread.
        pilots_cost: in full trainings.
        full_error: error of the full training: its estimate, with the ends of its 95% interval.
        labels_gain: accuracy that `LABELS` more labels would bring, likewise; None without a curve over examples.
        num_folds: folds behind the pilots.
        has_full: whether the full training was among the pilots.
    """

    curves: tuple[RouteCurve, ...]
    chosen: RouteCurve | None
    max_drop: float
    runs: int
    pilots_cost: float
    full_error: tuple[float, float, float]
    labels_gain: tuple[float, float, float] | None
    num_folds: int
    has_full: bool

    @property
    def cost(self) -> float:
        """Cost of one training by the advice, its share of the scoring included, in full trainings."""
        return 1.0 if self.chosen is None else cost_of(self.chosen, self.runs)

    @cached_property
    def break_even(self) -> float:
        """Trainings by the advice after which pilots and scoring are paid for; infinite where nothing is saved."""
        if self.chosen is None or self.chosen.share is None:
            return math.inf
        return (self.pilots_cost + self.chosen.route.overhead) / (1 - self.chosen.share)


def cost_of(curve: RouteCurve, runs: int) -> float:
    """Cost of one of ``runs`` trainings at the smallest share that keeps the promise, in full trainings."""
    return math.inf if curve.share is None else curve.share + curve.route.overhead / runs


def advise(
    routes: Sequence[Route],
    full: Sequence[float] | None,
    *,
    n: int,
    max_drop: float,
    pilots_cost: float,
    runs: int = 10,
    seed: int = 0,
    num_trained: int | None = None,
    num_judged: int | None = None,
) -> PlanAdvice:
    """The cheapest route and share whose accuracy is within ``max_drop`` of the full training, with 95% confidence.

    The errors are taken apart into a mean of each pilot, an effect of each fold, which all pilots of a fold share, and
    noise, whose variance is pooled over the routes at a share. Each replicate of the bootstrap draws the variances and
    the means anew and fits every curve again; a curve that the pilots do not follow gets the misfit as noise too, in
    its pilots and again at the shares between them. No drop is surer than by one held-out example in each of its two
    means. A promise holds where it does in 95% of the replicates, shared out over the routes (Bonferroni), since the
    cheapest of them is taken. It is about means over trainings: a single one varies more.

    Args:
        routes: at least one; one that ends at full size and whose axis is ``"epochs"`` gives the full training where
            ``full`` is None.
        full: error of the full training, fold by fold; None if it was not run.
        n: number of examples of the whole training split.
        max_drop: accuracy that may be lost against the full training, a fraction in [0, 1).
        pilots_cost: of all pilots, in full trainings.
        runs: trainings over which scoring is spread.
        seed: of the bootstrap.
        num_trained: examples of a fold that pilots at share 1 train on; default: ``n``.
        num_judged: held-out examples of all folds together, which limit how sure a mean can be; None for no limit.

    Raises:
        ArgumentError: no routes, fewer than three shares, fewer than two folds, or folds that differ.
    """
    check.number("max_drop", max_drop, 0, 1)
    check.number("runs", runs, 1, 1 << 40, integer=True)
    folds = _num_folds(routes, full)
    errors = {(route.name, share): np.asarray(of) for route in routes for share, of in sorted(route.errors.items())}
    if full is not None:
        errors["full", 1.0] = np.asarray(full)
    generator = np.random.default_rng(seed)
    noise = _noise(errors, folds, generator)
    resolution = 0.0 if num_judged is None else 1 / num_judged
    points = {route.name: _pilot_keys(route, full is not None) for route in routes}
    fitted: dict[str, tuple[ScalingCurves, ScalingCurves]] = {}
    misses: dict[str, Floats] = {}
    replicates: dict[tuple[str, float], Floats] = {
        key: of.mean() + noise[key[1]].draws * generator.standard_normal(REPLICATES) for key, of in errors.items()
    }
    for route in routes:
        keys = points[route.name]
        shares = np.array([share for _, share in keys])
        weights = np.array([1 / max(noise[share].variance, 1e-12) for share in shares])
        means = np.array([[errors[key].mean() for key in keys]])
        curve = fit_curves(shares, means, weights)
        drawn = np.stack([replicates[key] for key in keys], 1)
        misfit = _misfit(curve, shares, means[0], weights)
        drawn = drawn + misfit * generator.standard_normal(drawn.shape)
        fitted[route.name] = curve, fit_curves(shares, drawn, weights)
        # the drop is of two means: what they vary by less than one example each is luck
        lacking = 2 * max(0.0, resolution**2 - float((1 / weights).mean()))
        misses[route.name] = math.sqrt(misfit**2 + lacking) * generator.standard_normal(REPLICATES)
    reference = next((route for route in routes if route.ends_at_full and route.axis == "epochs"), routes[0])
    if not reference.ends_at_full:
        raise ArgumentError("one route must end at the full training, which the others are compared with")
    full_errors = fitted[reference.name][1].at(1.0)
    confidence = 1 - (1 - CONFIDENCE) / len(routes)
    curves = tuple(
        _route_curve(
            route,
            *fitted[route.name],
            full_errors,
            misses[route.name],
            max_drop,
            confidence,
            has_full=full is not None,
        )
        for route in routes
    )
    best = min(curves, key=lambda curve: cost_of(curve, runs))
    examples = next((route for route in routes if route.axis == "examples" and route.ends_at_full), None)
    gain = None
    if examples is not None:
        by_examples = fitted[examples.name][1]
        of_fold = num_trained or n  # shares of the curve are of these
        gain = _with_ends(by_examples.at(n / of_fold) - by_examples.at((n + LABELS) / of_fold))
    return PlanAdvice(
        curves=curves,
        chosen=None if cost_of(best, runs) >= 1 else best,
        max_drop=max_drop,
        runs=runs,
        pilots_cost=pilots_cost,
        full_error=_with_ends(full_errors),
        labels_gain=gain,
        num_folds=folds,
        has_full=full is not None,
    )


def _num_folds(routes: Sequence[Route], full: Sequence[float] | None) -> int:
    if not routes:
        raise ArgumentError("no way to train has pilots enough for a curve")
    counts = {len(of) for route in routes for of in route.errors.values()}
    counts |= {len(full)} if full is not None else set()
    if len(counts) != 1:
        raise ArgumentError(f"every pilot must have the same folds, got {sorted(counts)} of them")
    [folds] = counts
    if folds < 2:
        raise ArgumentError("advice needs two or more folds: the noise of one training cannot be seen in one")
    for route in routes:
        num_shares = len(route.errors) + (full is not None and route.ends_at_full)
        if num_shares < MIN_SHARES:
            raise ArgumentError(f"{route.label}: a curve needs {MIN_SHARES} or more shares, got {num_shares}")
    return folds


def _pilot_keys(route: Route, has_full: bool) -> list[tuple[str, float]]:
    """Keys of the pilots that a route's curve goes through, by share."""
    keys = [(route.name, share) for share in sorted(route.errors)]
    return [*keys, ("full", 1.0)] if has_full and route.ends_at_full and 1.0 not in route.errors else keys


@dataclass(frozen=True)
class _Noise:
    """Variance of the mean error at one share.

    Attributes:
        variance: its estimate.
        draws: (m,) standard errors of the replicates, whose variances are drawn.
    """

    variance: float
    draws: Floats


def _noise(
    errors: Mapping[tuple[str, float], Floats], folds: int, generator: np.random.Generator
) -> dict[float, _Noise]:
    """Share -> noise of the means at it.

    Two-way analysis of variance without interaction: what remains after the means of pilots and of folds, pooled over
    the pilots at a share. The variance of a replicate is drawn from its scaled inverse chi-squared distribution.
    """
    keys = list(errors)
    values = np.stack([errors[key] for key in keys], 1)  # (folds, pilots)
    rest = values - values.mean(0)[None, :] - values.mean(1)[:, None] + values.mean()
    count = len(keys)
    freedom_of_pilot = (folds - 1) * (count - 1) / count
    shares = sorted({share for _, share in keys})
    columns_of = {share: [i for i, (_, s) in enumerate(keys) if s == share] for share in shares}
    noise: dict[float, _Noise] = {}
    for i, share in enumerate(shares):
        columns = columns_of[share]
        if len(columns) == 1:
            # one pilot in two or three folds says next to nothing about its variance, which falls with the share
            columns = [*columns, *columns_of[shares[i - 1 if i else 1]]]
        freedom = freedom_of_pilot * len(columns)
        squares = float((rest[:, columns] ** 2).sum())
        variance = squares / generator.chisquare(freedom, REPLICATES)
        noise[share] = _Noise(squares / freedom / folds, np.sqrt(variance / folds))
    return noise


def _misfit(curve: ScalingCurves, shares: Floats, means: Floats, weights: Floats) -> float:
    """Standard deviation by which means miss the curve beyond their noise; 0 where three points leave none to see."""
    freedom = len(shares) - MIN_SHARES
    if freedom < 1:
        return 0.0
    residuals = means - curve.at(shares)[0]
    excess = float((residuals**2).sum()) / freedom - float((1 / weights).mean())
    return math.sqrt(max(0.0, excess))


def _route_curve(
    route: Route,
    curve: ScalingCurves,
    replicates: ScalingCurves,
    full_errors: Floats,
    misses: Floats,
    max_drop: float,
    confidence: float,
    *,
    has_full: bool,
) -> RouteCurve:
    measured = sorted(route.errors)
    first = math.ceil(100 * measured[0] - 1e-9)
    shares = np.arange(first, 101) / 100
    # what is added for the misfit may leave the range of errors
    drops = np.clip(replicates.at(shares) + misses[:, None], 0, 1) - full_errors[:, None]
    kept = (drops <= max_drop).mean(0) >= confidence
    # the smallest share from which on all keep it
    broken = np.flatnonzero(~kept)
    start = int(broken[-1]) + 1 if len(broken) else 0
    share = float(shares[start]) if start < len(shares) and shares[start] < 1 else None
    is_outside = share is not None and share > measured[-1] and not (route.ends_at_full and has_full)
    return RouteCurve(route, curve, shares, drops, share, is_outside or not has_full)


def _with_ends(values: Floats) -> tuple[float, float, float]:
    low, median, high = np.quantile(values, [0.025, 0.5, 0.975])
    return float(median), float(low), float(high)


def advice_sentence(advice: PlanAdvice, epochs: int, n: int) -> str:
    """The advice in one sentence with its confidence, and one on its cost."""
    limit = 100 * advice.max_drop
    within = f"within {limit:g} point{'' if limit == 1 else 's'} of the full training"
    pilots = f"the pilots cost {_times(advice.pilots_cost)} full training"
    if advice.chosen is None or advice.chosen.share is None:
        nearest = min(advice.curves, key=lambda one: one.drop_at(_cheap_share(one))[0])
        share = _cheap_share(nearest)
        median, low, high = nearest.drop_at(share)
        return (
            f"Nothing cheaper can be promised to stay {within} with {CONFIDENCE:.0%} confidence: train on everything "
            f"for {many(epochs, 'epoch')}. Nearest to it is {nearest.route.label} at {share:.0%} of the cost, which "
            f"loses {_points_text(median, low, high)}; more folds or a larger drop may let it through ({pilots})."
        )
    chosen, share = advice.chosen, advice.chosen.share
    median, low, high = chosen.drop_at(share)
    if chosen.route.axis == "examples":
        action = f"Keep {share:.0%} of the examples ({math.ceil(share * n):,} of {n:,}): {chosen.route.label}"
        action += f", trained on for {many(epochs, 'epoch')}"
    else:
        passes = math.ceil(share * epochs - 1e-9)
        action = (
            f"Do not prune: {chosen.route.label}, for the operations of {many(passes, 'epoch')} instead of {epochs}"
        )
    break_even = math.ceil(advice.break_even)
    paid = f"paid back after {many(break_even, 'training')}"
    if advice.break_even > advice.runs:
        paid += f", more than the {advice.runs:,} that will follow (`runs=`)"
    unseen = "" if advice.has_full else " The full training was not run: its accuracy is extrapolated from the pilots."
    if advice.has_full and chosen.is_extrapolated:
        unseen = f" Its pilots end at {max(chosen.route.errors):.0%}: what it loses at {share:.0%} is extrapolated."
    return (
        f"{action}. Its mean accuracy stays {within} with {CONFIDENCE:.0%} confidence (it loses "
        f"{_points_text(median, low, high)}) and costs {advice.cost:.0%} of it; {pilots}, {paid}.{unseen}"
    )


def _cheap_share(curve: RouteCurve) -> float:
    """The share that is shown of a route which keeps no promise: half the cost, or the nearest that was measured."""
    return float(curve.shares[int(np.abs(curve.shares - 0.5).argmin())])


def _points_text(median: float, low: float, high: float) -> str:
    return f"{100 * median:.1f} points, 95% of {100 * low:.1f} to {100 * high:.1f}"


def _times(cost: float) -> str:
    return f"{cost:.1f} times a" if cost >= 1.05 else f"{cost:.0%} of a"
