"""SeTa: a window that slides over groups of similar loss, from easy to hard."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import budget_of
from datawinnow.core.card import card
from datawinnow.core.reason import Reason
from datawinnow.core.selection import Selection
from datawinnow.dynamic.plan import plan_from_reasons, plan_uniform, reason_codes, sample_without_replacement
from datawinnow.dynamic.policy import State, Stream
from datawinnow.dynamic.signal import SignalNeeds, check_signal, observed_hardness
from datawinnow.dynamic.state import (
    any_observed,
    check_num_examples,
    get_tensor,
    num_examples,
    unobserved,
    with_values,
)

MAX_START_GROUPS = 64
"""Groups up to which the start of k-means is the best division; more start from groups of equal size."""
START_RUNS = 512
"""Runs of values that this division puts together."""
MAX_ITERATIONS = 300
"""Of k-means, which nearly always converges much earlier."""


@card(
    "policy",
    "SeTa",
    "Zhou et al. 2025, Scale Efficient Training for Large Datasets, arXiv 2503.13385",
    cost="time O(n log n) a plan, memory O(n): 4 bytes an example",
    key="seta",
)
@dataclass(frozen=True)
class SeTa:
    """Random pruning, then the groups of similar loss in a window that slides from easy to hard.

    Each epoch before ``delta * epochs``: a random 1 - r of all ids, split by k-means on the loss of their last visit
    into ``groups``, sorted by loss; trained on is a window of w = round(groups * window) of them that starts at group
    ``epoch mod (groups - w + 1)``. Before there are losses all groups, and from ``delta * epochs`` on a random 1 - r
    of everything ("partial annealing"). No weights. The position of the window is a function of the epoch, where
    published code counts calls and restarts on a resume. Ids never visited are kept with the random share. Where the
    losses have too few distinct values for so many groups, the window covers the same fraction of fewer groups.

    Args:
        epochs: length of the run.
        groups: k, the number of groups; the paper's code takes 10, its scripts 5.
        window: fraction of the groups in the window, in (0, 1].
        drop: the paper's r, the fraction in [0, 1) **dropped** at random before grouping.
        delta: fraction of the run with the window, in [0, 1].
        rounding: ``"round"`` as in the paper's code (4.5 becomes 4), or ``"ceil"``, with which 5 groups and 0.9 have no
            window (all groups).
        signal: what ranks the examples: ``"loss"``, or another signal observed of them: ``"error_norm"`` (L2 norm of
            softmax minus one-hot), ``"entropy"``, ``"margin_softmax"``, any of `record`, or a name of your own (high
            for hard examples), such as ``"reward"``.

    Returns:
        A policy. The number of ids in a plan depends on the losses; weights of one.

    Raises:
        ArgumentError: an option out of range.

    References:
        Zhou et al. 2025, arXiv 2503.13385, section 3.

    >>> from datawinnow.core.rng import stream
    >>> policy = SeTa(epochs=10, groups=2)
    >>> state = policy.observe(policy.init(4), torch.arange(4), loss=torch.tensor([0.1, 2.0, 0.2, 3.0]))
    >>> [sorted(policy.plan(e, state, lambda *path: stream(0, *path))[0].index.tolist()) for e in (2, 3)]
    [[0, 2], [1, 3]]
    """

    epochs: int
    groups: int = 10
    window: float = 0.5
    drop: float = 0.0
    delta: float = 0.875
    rounding: Literal["round", "ceil"] = "round"
    signal: str = "loss"
    needs: ClassVar[Any] = SignalNeeds()

    def __post_init__(self) -> None:
        check.number("epochs", self.epochs, 1, 2**31, integer=True)
        check.number("groups", self.groups, 1, 10**4, integer=True)
        check.number("window", self.window, 1e-9, 1)
        check.number("drop", self.drop, 0, 1 - 1e-6)
        check.number("delta", self.delta, 0, 1)
        check.one_of("rounding", self.rounding, ("round", "ceil"))
        check_signal(self.signal)

    @property
    def run_epochs(self) -> int:
        """Length of the run."""
        return self.epochs

    def fraction(self, epoch: int) -> float:
        """The random share, times the fraction under the window if losses are exponentially distributed."""
        keep = 1 - self.drop
        if epoch == 0 or epoch >= self.delta * self.epochs - 1e-9:
            return keep
        ends, losses = _exponential_clusters(self.groups)
        low, high = self._window(epoch, ends)
        return keep * float(((losses >= low) & (losses < high)).double().mean())

    def init(self, n: int) -> State:
        """``loss`` (n,) float32: the ``signal`` of the last visit, NaN where there was none."""
        return {"n": check_num_examples(n), "loss": unobserved(n)}

    def observe(self, state: State, index: Tensor, **signals: Any) -> State:
        """Remember the ``signal`` of the visited."""
        ids, values = observed_hardness(state, index, self.signal, signals)
        return with_values(state, ids, loss=values)

    def plan(self, epoch: int, state: State, stream: Stream) -> tuple[Selection, State]:
        """A random share and the window of this epoch."""
        n, draws = num_examples(epoch, state), stream("seta", epoch)
        share = budget_of(1 - self.drop, n)
        # The tolerance meets a boundary that is whole on paper, such as 0.7 * 10.
        if epoch >= self.delta * self.epochs - 1e-9 or not any_observed(state, "loss"):
            return plan_uniform(n, share, draws), state
        sample = sample_without_replacement(torch.arange(n), share, draws)
        loss = get_tensor(state, "loss")[sample]
        unseen = loss.isnan()
        codes = reason_codes(n, Reason.NOT_DRAWN, below_cut=sample, kept=sample[unseen])
        sample, loss = sample[~unseen], loss[~unseen]
        if loss.numel():
            low, high = self._window(epoch, kmeans_1d(loss, self.groups))
            codes[sample[(loss >= low) & (loss < high)]] = int(Reason.RANKED)
        return plan_from_reasons(codes, draws), state

    def _window(self, epoch: int, ends: Tensor) -> tuple[float, float]:
        """Lower bound (included) and upper bound (excluded) of the losses in the window."""
        groups = ends.numel()
        # Python's round() goes to even, as the paper's code does: 4.5 becomes 4.
        width = round(groups * self.window) if self.rounding == "round" else math.ceil(groups * self.window - 1e-9)
        width = min(groups, max(1, width))
        # The window slides by one group an epoch and jumps back to the easy end.
        start = epoch % (groups - width + 1)
        # `ends` holds lower ends only: the last group has no upper one.
        return float(ends[start]), float(ends[start + width]) if start + width < groups else math.inf


@lru_cache(maxsize=16)
def _exponential_clusters(k: int) -> tuple[Tensor, Tensor]:
    """Ends of the ``k`` clusters of exponentially distributed losses, and those losses: 10,000 even quantiles."""
    losses = -torch.log1p(-(torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000)
    return kmeans_1d(losses, k), losses


def kmeans_1d(values: Tensor, k: int) -> Tensor:
    """Lower ends of the clusters of k-means in one dimension.

    Lloyd's algorithm, started from the best division of a few hundred runs of values (from groups of equal size it ends
    far from the best where losses have a heavy tail). Up to `START_RUNS` values, and 64 groups, it is the best division
    itself. On sorted values each iteration costs O(k log n) rather than a pass over the data.

    Args:
        values: (m,) float without NaN.
        k: number of groups wanted.

    Returns:
        (g,) float64, rising, g <= k: group j holds the values from entry j up to below entry j + 1. Fewer than k
        where there are fewer distinct values; equal values are never in two groups.
    """
    line = np.sort(values.numpy()).astype(np.float64)
    # Prefix sums: the mean of any run of sorted values costs two look-ups.
    sums = np.concatenate([[0.0], np.cumsum(line)])
    breaks = _start_of_clusters(line, k)
    # The median of each group.
    centres = line[np.minimum((breaks[:-1] + breaks[1:]) // 2, line.size - 1)]
    for turn in range(MAX_ITERATIONS):
        sizes = np.diff(breaks)
        means = np.diff(sums[breaks]) / np.maximum(sizes, 1)
        # an empty group keeps its centre: it may catch something in a later round
        centres = np.sort(np.where(sizes > 0, means, centres))
        # In one dimension clusters are intervals: values up to the midpoint of two centres go to the lower.
        new = np.concatenate([[0], np.searchsorted(line, (centres[:-1] + centres[1:]) / 2, side="right"), [line.size]])
        if turn and np.array_equal(new, breaks):
            break
        breaks = new
    # Empty groups are left out, so that ends rise strictly.
    starts = breaks[:-1][np.diff(breaks) > 0]
    return torch.from_numpy(line[starts])


def _start_of_clusters(line: np.ndarray[Any, Any], k: int) -> np.ndarray[Any, Any]:
    """(k + 1,) positions in sorted values at which clusters begin and end, by dynamic programming over runs of them."""
    equal = np.linspace(0, line.size, k + 1).astype(np.int64)
    if k > MAX_START_GROUPS or k >= line.size or line[0] == line[-1]:
        return equal
    if line.size <= START_RUNS:
        edges = np.arange(line.size + 1)
    else:
        # Runs of equal number resolve the bulk, runs of equal width the tail.
        half = START_RUNS // 2
        widths = np.searchsorted(line, np.linspace(line[0], line[-1], half + 1)[1:-1])
        edges = np.unique(np.concatenate([np.linspace(0, line.size, half + 1).astype(np.int64), widths]))
    runs = len(edges) - 1
    if runs <= k:
        return equal
    # About the mean, so that sums of squares do not cancel.
    values = line - line.mean()
    count = edges.astype(np.float64)
    first, second = (np.concatenate([[0.0], np.cumsum(power)])[edges] for power in (values, values**2))
    size = count[None] - count[:, None]
    # spread[i, j]: squared distances to their mean of the values of runs i to j - 1; infinite for j <= i.
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = second[None] - second[:, None] - (first[None] - first[:, None]) ** 2 / size
    spread = np.where(size > 0, np.maximum(spread, 0.0), np.inf)
    best, before = spread[0], []
    for _ in range(1, k):
        total = best[:, None] + spread
        origin = total.argmin(axis=0)
        before.append(origin)
        best = total[origin, np.arange(runs + 1)]
    ends = [runs]
    for origin in reversed(before):
        ends.append(int(origin[ends[-1]]))
    breaks: np.ndarray[Any, Any] = edges[np.array([0, *ends[::-1]])]
    return breaks
