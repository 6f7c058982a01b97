"""Pilot trainings: a few shares of the examples and of the epochs, each judged on a fold held out of training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.bench import GridData, grid_of, run_grid
from datawinnow.bench.grid import Grid
from datawinnow.core import check
from datawinnow.core.artifacts import read_json, require_same, write_json
from datawinnow.core.chance import Baseline
from datawinnow.core.duration import duration
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import require_folder
from datawinnow.core.lock import LOCK, only_writer
from datawinnow.core.progress import Progress
from datawinnow.core.result_rows import PILOTS_FILE, PLAN_FILE
from datawinnow.core.rng import stream
from datawinnow.core.verdict import ResultRow
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.data.objects import with_subsets
from datawinnow.plan.advice import MIN_SHARES, Axis, Route

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares of the examples, and of the epochs, that the pilots train on; 1 is the full training."""
MIN_FOLDS = 5
"""Folds that the examples are dealt into, at least: one of five is held out of a pilot, a fifth of the examples."""
FULL = "full"


@dataclass(frozen=True)
class RouteSpec:
    """A way to train for less, as the pilots run it.

    Attributes:
        name: of the method in the grid.
        axis: what a share is of, see `datawinnow.plan.Route`.
        method: the ``[[method]]`` of the grid; None for a name that the grid knows.
        ends_at_full: whether share 1 is the full training.
        label: for people; by default the method's.
    """

    name: str
    axis: Axis
    method: Mapping[str, Any] | None = None
    ends_at_full: bool = True
    label: str | None = None


@dataclass
class Pilots:
    """What the pilots measured.

    Attributes:
        routes: with the errors of every share that all folds have.
        full: error of the full training by fold; None where it was not run.
        rows: all result rows.
        cost: of all pilots, in full trainings on all the examples.
        stopped: why larger shares were not run; empty where all were.
        near_chance: pilots that learned nothing and are left out of the curves, in words.
        num_trained: examples of a fold that are trained on, on average.
        num_judged: held-out examples of all folds together.
    """

    routes: list[Route] = field(default_factory=list)
    full: list[float] | None = None
    rows: list[ResultRow] = field(default_factory=list)
    cost: float = 0.0
    stopped: str = ""
    near_chance: list[str] = field(default_factory=list)
    num_trained: int = 0
    num_judged: int = 0


def fold_of(labels: Tensor, folds: int, seed: int = 0) -> Tensor:
    """(n,) int64: the fold in which an example is held out, stratified by class; -1 for the only one of its class.

    Args:
        labels: (n,) int64.
        folds: how many.
        seed: of the draw.

    >>> import torch
    >>> fold_of(torch.tensor([0, 0, 0, 0, 1]), 2).bincount(minlength=2)  # doctest: +SKIP
    """
    fold = torch.full((len(labels),), -1, dtype=torch.int64)
    generator = stream(seed, "plan", "folds")
    start = 0
    for label in labels.unique().tolist():
        members = torch.nonzero(labels == label).flatten()
        if len(members) == 1:
            continue
        order = members[torch.randperm(len(members), generator=generator)]
        # each class goes on where the one before it ended, so that folds differ by one example at most
        fold[order] = (torch.arange(len(order)) + start) % folds
        start += len(order)
    return fold


@dataclass(frozen=True)
class PilotSettings:
    """How many pilots, and how long.

    Attributes:
        epochs: of the full training.
        shares: of the examples and of the epochs, in (0, 1]; at least `MIN_SHARES`.
        folds: pilots of each share.
        seed: of the folds.
        at_most: seconds that they may take: pilots that by those before would take longer are left out. None for
            no limit.

    Raises:
        ArgumentError: numbers out of range.
    """

    epochs: int
    shares: Sequence[float] = SHARES
    folds: int = 3
    seed: int = 0
    at_most: float | None = None

    def __post_init__(self) -> None:
        check.number("folds", self.folds, 2, 100, integer=True)
        if self.at_most is not None:
            check.number("at_most", self.at_most, 0, float("inf"))
        shares = sorted(set(self.shares))
        if len(shares) < MIN_SHARES or not 0 < shares[0] <= shares[-1] <= 1:
            raise ArgumentError(f"shares must be {MIN_SHARES} or more different numbers in (0, 1], got {shares}")
        object.__setattr__(self, "shares", tuple(shares))

    @property
    def num_folds(self) -> int:
        """Folds that the examples are dealt into, of which the first ``folds`` are used."""
        return max(MIN_FOLDS, self.folds)


GridOf = Callable[[DatasetInfo, int, Sequence[Mapping[str, Any]], Sequence[str]], Mapping[str, Any]]
"""From a fold's training examples, its number, the ``[[method]]`` tables and the names of methods: a grid's content."""


def run_pilots(
    info: DatasetInfo,
    out: Path,
    specs: Sequence[RouteSpec],
    settings: PilotSettings,
    *,
    grid: GridOf,
    network: Any = None,
    progress: Progress | None = None,
    on_row: Callable[[ResultRow], None] | None = None,
) -> Pilots:
    """Train each route at each share on each fold's training examples, the smallest shares first.

    Each fold holds out other examples, so that the spread over folds is that of the training and of the examples that
    judge it. Rows are written as they are made: pilots that were stopped go on with the same call.

    Args:
        info: the training split.
        out: folder of the results, a folder a fold.
        specs: the routes.
        settings: how many pilots.
        grid: makes the grid of a fold.
        network: function that returns the network; None for the one that the grid names.
        progress: called after each pilot.
        on_row: called with each new row.

    Raises:
        ArgumentError: too few examples, or ``out`` is a file.
        RunError: a pilot diverged; or ``out`` is busy, or holds something else, or pilots on another dataset or under
            other settings.
    """
    fold = fold_of(info.labels, settings.num_folds, settings.seed)
    if int((fold >= 0).sum()) < settings.num_folds:
        raise ArgumentError(f"{info.n} examples are too few to hold out a fold of them")
    require_folder(out)
    with only_writer(out, who="another plan"):
        _claim(out, info, settings)
        return _run_all(info, fold, out, specs, settings, grid=grid, network=network, progress=progress, on_row=on_row)


def _claim(out: Path, info: DatasetInfo, settings: PilotSettings) -> None:
    """Write what the pilots are made with, or refuse a folder of other ones or of something else."""
    file = out / PILOTS_FILE
    made_with = {"dataset": info.fingerprint, "seed": settings.seed, "folds dealt": settings.num_folds}
    if file.exists():
        remedy = "use another `out=` folder, or the same settings as before"
        require_same(read_json(file, remedy="give another `out=` folder")["settings"], made_with, out, remedy=remedy)
        return
    is_plan = (out / PLAN_FILE).exists() or (out / "fold-0").is_dir()
    if not is_plan and any(entry.name != LOCK for entry in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no plan; give another `out=` folder")
    write_json(file, {"kind": "pilots", "settings": made_with})


def _run_all(
    info: DatasetInfo,
    fold: Tensor,
    out: Path,
    specs: Sequence[RouteSpec],
    settings: PilotSettings,
    *,
    grid: GridOf,
    network: Any,
    progress: Progress | None,
    on_row: Callable[[ResultRow], None] | None,
) -> Pilots:
    """The pilots of `run_pilots`, in a folder that is theirs."""
    shares, folds, at_most = settings.shares, settings.folds, settings.at_most
    data = with_subsets(info.data)
    methods = [{"name": spec.name, **spec.method} for spec in specs if spec.method is not None]
    pilots = Pilots(rows=[])
    names = {share: _methods_at(specs, share) for share in shares}
    total = folds * sum(len(of) for of in names.values())
    done, start, seconds_of_share = 0, time.monotonic(), 0.0
    data_of_fold: dict[int, GridData] = {}
    for position, share in enumerate(shares):
        started = time.monotonic()
        if at_most is not None and position:
            growth = share * len(names[share]) / (shares[position - 1] * len(names[shares[position - 1]]))
            expected = seconds_of_share * growth
            if started - start + expected > at_most:
                pilots.stopped = (
                    f"pilots at {share:.0%} were not run: by those at {shares[position - 1]:.0%} they would take about "
                    f"{duration(expected, rough=True)}, more than is left of {duration(at_most, rough=True)}"
                )
                break
        for number in range(folds):
            if number not in data_of_fold:
                train = dataset_info(data.subset(torch.nonzero(fold != number).flatten()))
                data_of_fold[number] = GridData(train, data.subset(torch.nonzero(fold == number).flatten()), network)
            of_fold = data_of_fold[number]
            content = {**grid(of_fold.info, number, methods, names[share]), "keep": [share], "seeds": [number]}
            left = None if at_most is None else max(0.0, at_most - (time.monotonic() - start))
            folder = out / f"fold-{number}"
            rows = _run(grid_of("plan", content), folder, of_fold, names[share], share, left, on_row)
            pilots.rows += rows
            done += len(rows)
            if progress is not None:
                progress("pilots", done, total)
            if len(rows) < len(names[share]):
                assert at_most is not None  # nothing else leaves pilots out
                pilots.stopped = f"pilots at {share:.1%} were not all run within {duration(at_most, rough=True)}"
                break
        if pilots.stopped:
            break
        # pilots of an earlier call took no time in this one, which says nothing about larger ones
        trained = sum(row["cost"]["train"]["seconds"] for row in pilots.rows if row["keep"] == share)
        seconds_of_share = max(time.monotonic() - started, trained)
    used = list(data_of_fold.values())
    pilots.num_trained = round(sum(of.train.n for of in used) / len(used))
    pilots.num_judged = sum(len(of.test) for of in used)
    _collect(pilots, specs, folds, settings.epochs, info.n)
    return pilots


def _methods_at(specs: Sequence[RouteSpec], share: float) -> list[str]:
    """What runs at a share: at 1 the full training, and every route that does not end there is left at less."""
    return [FULL] if share == 1 else [spec.name for spec in specs]


def _run(
    grid: Grid,
    out: Path,
    data: GridData,
    names: Sequence[str],
    share: float,
    time_limit: float | None,
    on_row: Callable[[ResultRow], None] | None,
) -> list[ResultRow]:
    rows = run_grid(grid, out, data=data, time_limit=time_limit, on_row=on_row)
    rows = [row for row in rows if row["method"] in names and row["keep"] == share]
    for row in rows:
        if row.get("failed"):
            raise RunError(
                f"the pilot {row['label']} at {share:.0%} diverged ({row['failed']}): try a lower `lr=`, in another "
                "folder (`out=`)"
            )
    return rows


def _is_near_chance(row: ResultRow) -> bool:
    return Baseline(row["majority"], row["test_n"]).is_near_chance(row["accuracy"])


def _collect(pilots: Pilots, specs: Sequence[RouteSpec], folds: int, epochs: int, n: int) -> None:
    """Errors by route, and what the pilots cost."""
    by_key: dict[tuple[str, float], list[ResultRow]] = {}
    for row in sorted(pilots.rows, key=lambda row: int(row["seed"])):
        by_key.setdefault((row["method"], row["keep"]), []).append(row)
    labels = {spec.name: spec.label for spec in specs}
    complete = {key: rows for key, rows in by_key.items() if len(rows) == folds}
    for key in [key for key, rows in complete.items() if any(_is_near_chance(row) for row in rows)]:
        # a network that learned nothing lies on no curve
        rows = complete.pop(key)
        pilots.near_chance.append(
            "the full training" if key[0] == FULL else f"{labels.get(key[0]) or rows[0]['label']} at {key[1]:.1%}"
        )
    for spec in specs:
        rows_of = {share: rows for (name, share), rows in complete.items() if name == spec.name}
        if not rows_of:
            continue
        every = [row for rows in rows_of.values() for row in rows]
        pilots.routes.append(
            Route(
                name=spec.name,
                label=spec.label or every[0]["label"],
                axis=spec.axis,
                errors={share: [1 - row["accuracy"] for row in rows] for share, rows in rows_of.items()},
                ends_at_full=spec.ends_at_full,
                overhead=sum((row["total_passes"] - row["passes"]) / (epochs * row["n"]) for row in every) / len(every),
            )
        )
    if (FULL, 1.0) in complete:
        pilots.full = [1 - row["accuracy"] for row in complete[FULL, 1.0]]
    for route in list(pilots.routes):
        num_shares = len(route.errors) + (pilots.full is not None and route.ends_at_full)
        if num_shares < MIN_SHARES and pilots.near_chance:
            pilots.routes.remove(route)
            pilots.near_chance.append(f"every other pilot of {route.label}, too few for a curve")
    passes = sum(row["passes"] for row in pilots.rows)
    for number in {row["seed"] for row in pilots.rows}:
        of_fold = [row for row in pilots.rows if row["seed"] == number]
        if not any(row["method"] == FULL for row in of_fold):
            # one recording serves all scores of a fold; with a full training it is that training
            passes += max(row["total_passes"] - row["passes"] for row in of_fold)
    pilots.cost = passes / (epochs * n)
