"""Who was chosen when: the shares of always, sometimes and never (arXiv 2111.12621), beside what chance would give."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datawinnow.core.reason import REASON_SENTENCES, Reason
from datawinnow.core.selection_history import FILE_NAME, SelectionHistory
from datawinnow.report import words
from datawinnow.report.selection_history_plots import counted, raster

MAX_PICKED_CLASSES = 20
"""Classes up to which each has its line; of more the ends are named."""
MAX_ROWS, MAX_COLUMNS = 120, 150
"""Cells of the image at most."""
CUT = " The last epoch was cut short by the budget and is not counted."


@dataclass(frozen=True, eq=False)
class Choices:
    """The choices of a policy, counted.

    Epochs on every candidate are no choices, nor is a last epoch that a budget cut. Epochs in a row on the same
    examples are one choice, held.

    Attributes:
        ids: (m,) int64, the candidates.
        times: (m,) int64, how many of the choices took each.
        fractions: (choices,) float64, what share of the candidates each took.
        epochs: how many epochs trained on a choice.
        cut: whether a budget cut the last epoch.
    """

    ids: np.ndarray
    times: np.ndarray
    fractions: np.ndarray
    epochs: int
    cut: bool

    def __len__(self) -> int:
        """Number of choices."""
        return len(self.fractions)

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the candidates that were taken always, sometimes and never."""
        always, never = float((self.times == len(self)).mean()), float((self.times == 0).mean())
        return always, 1 - always - never, never

    @property
    def chance(self) -> np.ndarray:
        """(choices + 1,) float64: the share taken so many times if each choice drew uniformly, on its own."""
        return by_chance(self.fractions)


def by_chance(fractions: np.ndarray) -> np.ndarray:
    """How often an example is taken by draws of the given shares that know nothing: Poisson-binomial.

    Args:
        fractions: (k,) probability of each draw to take it.

    Returns:
        (k + 1,) float64 probabilities of 0, 1, ... k times.

    >>> by_chance(np.array([0.5, 0.25])).tolist()
    [0.375, 0.5, 0.125]
    """
    picks = np.ones(1)
    for fraction in fractions:
        # Convolution with (1 - f, f): either not taken once more, or taken.
        picks = np.append(picks * (1 - fraction), 0.0) + np.append(0.0, picks * fraction)
    return picks


def choices(log: SelectionHistory, budgeted: bool) -> Choices | None:
    """The choices of the policy; None if every epoch is on all candidates.

    Args:
        log: who each epoch trained on.
        budgeted: whether training ended by examples passed: then a last epoch with fewer than the one before was cut.
    """
    ids = log.candidate_ids
    sizes = [int(log.mask(i).sum()) for i in range(len(log))]
    # A budget of passes may end an epoch early, which is no choice of the policy.
    cut = budgeted and len(log) > 1 and sizes[-1] < sizes[-2]
    times, fractions, before = np.zeros(log.n, dtype=np.int64), [], None
    chose = [i for i in range(len(log) - cut) if sizes[i] < len(ids)]
    for i in chose:
        if before is None or not np.array_equal(log.mask(i), log.mask(before)):
            times += log.mask(i)
            fractions.append(sizes[i] / len(ids))
        before = i
    if not fractions:
        return None
    return Choices(ids, times[ids], np.array(fractions), len(chose), cut)


def shades(
    log: SelectionHistory, picks: Choices, rows: int = MAX_ROWS, columns: int = MAX_COLUMNS
) -> tuple[np.ndarray, np.ndarray]:
    """The image's numbers: candidates in rows, those taken most often first, epochs in columns.

    Who was taken equally often stands in an order that means nothing, so that no pattern appears that is none.

    Args:
        log: who each epoch trained on.
        picks: the choices, counted.
        rows: at most so many, of equally many examples each (but one).
        columns: at most so many, of equally many epochs each (but the last).

    Returns:
        (r, c) float64, the share of the row's examples that an epoch of the column trained on; (c + 1,) int64, the
        epochs, from 0 in the log, at which the columns begin and end.
    """
    # Shuffled before the stable sort: datasets are often ordered by class, which would show as stripes.
    mixed = np.random.default_rng(0).permutation(len(picks.ids))
    ids = picks.ids[mixed[np.argsort(-picks.times[mixed], kind="stable")]]
    starts = np.array([share[0] for share in np.array_split(np.arange(len(ids)), min(rows, len(ids)))])
    sizes = np.diff(np.append(starts, len(ids)))
    wide = -(-len(log) // columns)
    edges = np.append(np.arange(0, len(log), wide), len(log))
    shares = np.zeros((len(starts), len(edges) - 1))
    for i in range(len(log)):
        # Sums of runs of rows at once; `starts` are their first positions.
        shares[:, i // wide] += np.add.reduceat(log.mask(i)[ids].astype(np.int64), starts) / sizes
    # The mean over the epochs of a column, of which the last may have fewer.
    return shares / np.diff(edges), edges


def section(folder: Path, metadata: dict[str, Any]) -> dict[str, Any] | None:
    """The section on who was chosen when; None without a recorded history.

    Raises:
        RunError: the file is truncated, newer, or of another dataset.
    """
    if not (folder / FILE_NAME).exists():
        return None
    dataset = metadata["dataset"]
    log = SelectionHistory.load(folder / FILE_NAME, fingerprint=str(dataset.get("fingerprint")), n=int(dataset["n"]))
    picks = choices(log, (metadata["options"].get("train") or {}).get("passes") is not None)
    lost = f" The first {words.many(log.first_epoch, 'epoch')} were not recorded." if log.first_epoch else ""
    if picks is None:
        sentence = (
            f"All examples were trained on in {words.many(len(log), 'epoch')}: the policy has not left any out yet."
        )
        return {"caption": sentence + lost, "figures": [], "classes": [], "by_class": "", "reasons": []}
    lines = _picks_by_class(log, picks, [str(name) for name in metadata["dataset"].get("classes", [])])
    few = len(lines) <= MAX_PICKED_CLASSES
    return {
        "caption": choices_sentence(picks) + lost,
        "figures": _history_figures(log, picks) if len(picks) > 1 else [],
        "classes": lines if few else [],
        "by_class": _by_class(lines),
        "reasons": reasons_by_share(log),
    }


def reasons_by_share(log: SelectionHistory) -> list[tuple[str, str]]:
    """The reasons for which epochs took examples or left them out, as sentences, with shares of all decisions."""
    counts: Counter[int] = Counter()
    for i in range(len(log)):
        codes = log.reason(i)
        if codes is not None:
            values, times = np.unique(codes[log.candidate_ids], return_counts=True)
            counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
    total = sum(counts.values())
    return [(REASON_SENTENCES[Reason(code)], words.share(count / total)) for code, count in counts.most_common()]


def choices_sentence(picks: Choices) -> str:
    """A sentence on how often examples were chosen."""
    always, sometimes, never = (words.share(share) for share in picks.shares)
    if len(picks) == 1:
        return (
            f"In {words.many(picks.epochs, 'epoch')} the policy made one choice: {always} of the examples. How often "
            "each example is chosen is shown from two choices on."
        )
    choice_count = f" ({len(picks):,} different choices)" if len(picks) < picks.epochs else ""
    chance = picks.chance
    by_luck, unlucky = words.share(chance[-1]), words.share(chance[0])
    return (
        f"In {picks.epochs:,} epochs that left examples out{choice_count}, {always} of the {len(picks.ids):,} examples "
        f"were always chosen, {sometimes} sometimes and {never} never. Random choice of as many would always choose "
        f"{by_luck} and never {unlucky}."
    )


def _history_figures(log: SelectionHistory, picks: Choices) -> list[dict[str, Any]]:
    shares, edges = shades(log, picks)
    each = len(picks.ids) / len(shares)
    row = "is an example" if each == 1 else f"is about {each:,.0f} examples"
    return [
        {
            "svg": raster(shares, edges + log.first_epoch, picks.shares, "chosen"),
            "title": "Epoch by epoch",
            "caption": f"Each row {row}, the most often chosen on top; the darker the blue, the more of them the epoch "
            f"trained on. A solid column is an epoch on all the data.{CUT if picks.cut else ''}",
        },
        {
            "svg": counted(picks.times, picks.chance, "times"),
            "title": "How often each example was chosen",
            "caption": "More examples than by chance at both ends mean that the policy prefers some and neglects "
            "others; a distribution like chance means that it spreads its choices evenly.",
        },
    ]


def _picks_by_class(log: SelectionHistory, picks: Choices, names: list[str]) -> list[dict[str, Any]]:
    """A line a class that has candidates: how many of them a choice took on average, and how many were never taken."""
    if log.labels is None:
        return []
    labels, lines = log.labels[picks.ids], []
    for label in np.unique(labels):
        times = picks.times[labels == label]
        name = names[label] if 0 <= label < len(names) else str(label)
        line = {"name": name, "of": len(times), "share": 100 * float(times.mean()) / len(picks)}
        ends = {"always": words.share((times == len(picks)).mean()), "never": words.share((times == 0).mean())}
        lines.append(line | ends)
    return lines


def _by_class(lines: list[dict[str, Any]]) -> str:
    """A sentence on the classes chosen least and most."""
    if len(lines) < 2:
        return ""
    lowest, highest = (end(lines, key=lambda line: line["share"]) for end in (min, max))
    return (
        f"Class {highest['name']} was chosen most (on average {words.share(highest['share'] / 100)} of its examples), "
        f"class {lowest['name']} least ({words.share(lowest['share'] / 100)})."
    )
