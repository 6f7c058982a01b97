"""From result rows to one table: accuracy, cost and comparison with the references of each method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from datawinnow.core.cost import break_even
from datawinnow.core.interval import Interval, interval
from datawinnow.core.verdict import Comparison, ResultRow, compare, num_test

FULL, SHORTER, RANDOM = "full", "shorter_full", "random"
REFERENCES = (FULL, SHORTER, RANDOM)
"""The methods that others are compared with; listed first at every keep."""

CLEAN = "clean"
ROW_STAGES = ("record", "score", "select")
"""Stages that find the selection; ``train`` is the training run on it."""


@dataclass(frozen=True)
class TableCell:
    """One (scenario, keep, method) over its seeds; accuracy and costs are means over the seeds that did not diverge.

    Attributes:
        scenario: name of the scenario.
        keep: fraction of examples kept; 1.0 for full training.
        method: key of the method.
        label: its name for people.
        seeds: those with an accuracy, sorted.
        accuracy: fraction right on the test split after the last epoch.
        to_full: accuracy minus that of full training, paired by the seeds that both have; None without any.
        to_random: accuracy minus that of ``random`` at this keep, paired by the seeds that both have; None without any.
        to_shorter: likewise to ``shorter_full``, all the data for as many training passes.
        passes: examples passed in training.
        total_passes: scoring included.
        seconds: of ``score`` (scoring and selecting) and ``train``, wall clock.
        flops: of both together.
        relative_passes: total passes over those of ``full`` in the scenario; None without full.
        relative_seconds: likewise of seconds.
        relative_flops: likewise of FLOPs; None also where full counted none.
        break_even: runs after which scoring is paid back, counted in passes; infinite for never; None for full itself
            and where there is no full.
        break_even_seconds: likewise, counted in seconds.
        changed_kept: share of changed (noisy) examples among the kept; None where the scenario changes nothing.
        diverged: seeds whose training diverged, sorted; they count in no number here.
    """

    scenario: str
    keep: float
    method: str
    label: str
    seeds: tuple[int, ...]
    accuracy: Interval
    to_full: Comparison | None
    to_random: Comparison | None
    to_shorter: Comparison | None
    passes: float
    total_passes: float
    seconds: dict[str, float]
    flops: float
    relative_passes: float | None
    relative_seconds: float | None
    relative_flops: float | None
    break_even: float | None
    break_even_seconds: float | None
    changed_kept: Interval | None
    diverged: tuple[int, ...] = ()

    @property
    def scoring_passes(self) -> float:
        """Passes of scoring and selecting."""
        return self.total_passes - self.passes

    @property
    def loses(self) -> tuple[str, ...]:
        """Names of the references to which it loses, beyond noise."""
        pairs = ((self.to_random, "random"), (self.to_shorter, "the shorter full run"))
        return tuple(name for comparison, name in pairs if comparison is not None and comparison.outcome == "loses")

    @property
    def is_reference(self) -> bool:
        """Whether this is full, the shorter full run or random."""
        return self.method in REFERENCES


@dataclass(frozen=True)
class Lost:
    """One (scenario, keep, method) that diverged with every seed, so that it has no accuracy; as in `TableCell`."""

    scenario: str
    keep: float
    method: str
    label: str
    diverged: tuple[int, ...]
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """All cells: clean first, then keep from high to low, references first, methods in the order they were run.

    Attributes:
        cells: the rows of the table.
        about: dataset, model, n, test_n, epochs, benchmark, device, threads, versions and commit as far as given.
        lost: methods that diverged with every seed, in the same order.
        sizes: examples of the train split, by scenario; one with long-tailed classes has fewer than ``about`` says.
        changed: share of these that the scenario changed, by scenario, mean over seeds; no entry where it changed none.
    """

    cells: tuple[TableCell, ...]
    about: dict[str, Any]
    lost: tuple[Lost, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    changed: dict[str, float] = field(default_factory=dict)

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Names of the scenarios, in order."""
        names = [cell.scenario for cell in self.cells] + [cell.scenario for cell in self.lost]
        return tuple(sorted(dict.fromkeys(names), key=lambda name: name != CLEAN))

    @property
    def methods(self) -> tuple[str, ...]:
        """Keys of all methods, in order."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    def of(self, scenario: str, *, keep: float | None = None, method: str | None = None) -> tuple[TableCell, ...]:
        """The cells of a scenario, of one keep or of one method."""
        return tuple(
            cell
            for cell in self.cells
            if cell.scenario == scenario and keep in (None, cell.keep) and method in (None, cell.method)
        )

    def lines(self, scenario: str) -> list[TableCell | Lost]:
        """All methods of a scenario, in order; those without an accuracy come last at their keep."""
        cells: list[TableCell | Lost] = [
            *self.of(scenario),
            *(cell for cell in self.lost if cell.scenario == scenario),
        ]
        return sorted(cells, key=lambda cell: (cell.method != FULL, -cell.keep))

    def keeps(self, scenario: str) -> tuple[float, ...]:
        """The keeps of a scenario other than full training, from high to low."""
        return tuple(dict.fromkeys(cell.keep for cell in self.of(scenario) if cell.method != FULL))

    def full(self, scenario: str) -> TableCell | None:
        """Full training, where it was run."""
        return next(iter(self.of(scenario, method=FULL)), None)


def table(rows: Sequence[ResultRow]) -> Table:
    """Group result rows by (scenario, keep, method) and compare each group with its references.

    Args:
        rows: as `datawinnow.report.rows` returns them.

    Returns:
        A `Table`.
    """
    groups: dict[tuple[str, float, str], list[ResultRow]] = {}
    for row in rows:
        groups.setdefault((row["scenario"], row["keep"], row["method"]), []).append(row)
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    methods = list(dict.fromkeys([*REFERENCES, *(row["method"] for row in rows)]))
    # Clean first, scenarios as they were run, full training, high keeps before low, references before methods.
    order = sorted(
        groups,
        key=lambda key: (key[0] != CLEAN, scenarios.index(key[0]), key[2] != FULL, -key[1], methods.index(key[2])),
    )
    last = rows[-1] if rows else {}
    keys = ("benchmark", "dataset", "model", "n", "test_n", "epochs", "device", "threads", "versions", "commit")
    about = {key: last[key] for key in keys if last.get(key) is not None}
    sizes = {row["scenario"]: int(row["n"]) for row in rows}
    if sizes:
        # A scenario with long-tailed classes has fewer; the dataset itself is the largest.
        about["n"] = max(sizes.values())
    changed_shares = {
        name: [r["changed"] for r in rows if r["scenario"] == name and r.get("changed")] for name in scenarios
    }
    changed = {name: _exact_mean(shares) for name, shares in changed_shares.items() if shares}
    reached = {key: [row for row in group if row["accuracy"] is not None] for key, group in groups.items()}
    diverged = {key: _seeds(row for row in group if row["accuracy"] is None) for key, group in groups.items()}
    labels = {key: group[-1]["label"] for key, group in groups.items()}
    cells = tuple(_table_cell(key, reached, labels[key], diverged[key]) for key in order if reached[key])
    lost = tuple(Lost(*key, labels[key], diverged[key]) for key in order if not reached[key])
    return Table(cells, about, lost, sizes, changed)


def _seeds(rows: Iterable[ResultRow]) -> tuple[int, ...]:
    return tuple(sorted(row["seed"] for row in rows))


def _table_cell(
    key: tuple[str, float, str],
    groups: dict[tuple[str, float, str], list[ResultRow]],
    label: str,
    diverged: tuple[int, ...],
) -> TableCell:
    """``groups`` hold the rows with an accuracy only."""
    scenario, keep, method = key
    rows_of_cell = sorted(groups[key], key=lambda row: row["seed"])
    accuracy = _accuracy(rows_of_cell)
    # Full training is at keep 1, whatever the keep of this cell.
    full = next((group for (where, _, name), group in groups.items() if where == scenario and name == FULL), [])
    # all the data at keep 1, as in a race, are a full training too
    full = full or groups.get((scenario, 1.0, SHORTER), [])
    passes, total = (
        _exact_mean(row["passes"] for row in rows_of_cell),
        _exact_mean(row["total_passes"] for row in rows_of_cell),
    )
    seconds = {
        "score": _mean_cost(rows_of_cell, "seconds", *ROW_STAGES),
        "train": _mean_cost(rows_of_cell, "seconds", "train"),
    }
    flops = _mean_cost(rows_of_cell, "flops", *ROW_STAGES, "train")
    pays = pays_seconds = None
    if full and method not in (FULL, full[0]["method"]) and (total > passes or keep < 1):
        # In passes: scoring once, against what each training on the selection saves.
        pays = break_even(total - passes, full=_exact_mean(row["passes"] for row in full), pruned=passes)
        pays_seconds = break_even(seconds["score"], full=_mean_cost(full, "seconds", "train"), pruned=seconds["train"])
    changed = [row["changed_kept"] for row in rows_of_cell if row.get("changed_kept") is not None]
    return TableCell(
        scenario=scenario,
        keep=keep,
        method=method,
        label=label,
        seeds=_seeds(rows_of_cell),
        diverged=diverged,
        accuracy=interval(list(accuracy.values())),
        to_full=None if method == FULL or not full else _to(accuracy, rows_of_cell, full),
        to_random=None
        if method in (FULL, RANDOM)
        else _to(accuracy, rows_of_cell, groups.get((scenario, keep, RANDOM))),
        to_shorter=None
        if method in (FULL, SHORTER)
        else _to(accuracy, rows_of_cell, groups.get((scenario, keep, SHORTER))),
        passes=passes,
        total_passes=total,
        seconds=seconds,
        flops=flops,
        relative_passes=_ratio(total, _exact_mean(row["total_passes"] for row in full) if full else None),
        relative_seconds=_ratio(
            sum(seconds.values()), _mean_cost(full, "seconds", *ROW_STAGES, "train") if full else None
        ),
        relative_flops=_ratio(flops, _mean_cost(full, "flops", *ROW_STAGES, "train") if full else None),
        break_even=pays,
        break_even_seconds=pays_seconds,
        changed_kept=interval(changed) if changed else None,
    )


def _accuracy(rows: Sequence[ResultRow]) -> dict[int, float]:
    return {row["seed"]: float(row["accuracy"]) for row in rows}


def _to(
    accuracy: dict[int, float], rows: Sequence[ResultRow], reference: Sequence[ResultRow] | None
) -> Comparison | None:
    if reference is None:
        return None
    return compare(accuracy, _accuracy(reference), test_n=num_test([*rows, *reference]))


def _mean_cost(rows: Sequence[ResultRow], unit: str, *stages: str) -> float:
    """Mean over rows of a cost, summed over stages; a stage that a method does not have costs nothing."""
    return _exact_mean(math.fsum(row["cost"].get(stage, {}).get(unit, 0.0) for stage in stages) for row in rows)


def _exact_mean(values: Any) -> float:
    numbers = list(values)
    # fsum is exact, so that the table does not depend on the order of the rows.
    return math.fsum(numbers) / len(numbers)


def _ratio(value: float, reference: float | None) -> float | None:
    return value / reference if reference else None
