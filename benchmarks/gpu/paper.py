"""The grids of ``benchmarks/paper`` on a GPU within a time limit, the most informative rows first; resumes.

    python benchmarks/gpu/paper.py --time-limit 25m                      # here
    python benchmarks/gpu/paper.py --time-limit 9m --results $OUT --commit $(git rev-parse --short HEAD)
    python benchmarks/gpu/paper.py --list                                # what is done, what is owed
    python benchmarks/gpu/paper.py --shrink 50 --stages 2                # does it run? on a CPU

Every row is written as a small JSON line as soon as it is there: to ``--results``, a file for each grid. Rows that
stand there already, or in ``benchmarks/results``, are not run again, so a fresh machine goes on where the last one
stopped; only a recording, which is too large to keep, is made again there. The table is made by
``python benchmarks/paper_table.py``.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datawinnow.bench import Cell, Grid, cells_of, read_grids, read_rows, run_grid, shrunk
from datawinnow.core.duration import seconds_of
from datawinnow.core.errors import DatawinnowError
from datawinnow.core.provenance import commit
from datawinnow.core.result_rows import row_key, write_rows

HERE = Path(__file__).parents[1]
PAPER, RESULTS = HERE / "paper", HERE / "results"


@dataclass(frozen=True)
class Stage:
    """A part of a grid; what is None is taken as the grid has it."""

    file: str
    setting: str
    methods: tuple[str, ...] | None = None
    keep: tuple[float, ...] | None = None
    seeds: tuple[int, ...] | None = None
    scenarios: tuple[str, ...] | None = None

    def of(self, grid: Grid) -> Grid:
        """That part of the grid, its methods and keeps in the stage's order."""
        changes = {key: getattr(self, key) for key in ("methods", "keep", "seeds", "scenarios")}
        return grid.model_copy(update={key: list(value) for key, value in changes.items() if value is not None})

    @property
    def title(self) -> str:
        """What it is, in a line."""
        subsets = (self.methods, self.keep, None if self.seeds is None else [f"seed {s}" for s in self.seeds])
        words = [", ".join(map(str, (*values, *(self.scenarios or ())))) for values in subsets if values is not None]
        return "; ".join([f"{self.file} {self.setting}", *words])


BOTH = ("cifar10", "cifar100")
RANDOM, DUAL = ("random",), ("dual_beta",)
FIRST: tuple[Stage, ...] = (
    # half an hour: the trainer and the method, at the two ends that tell most
    Stage("dual", "cifar10", (*RANDOM, *DUAL), (0.3, 0.1), (0,)),
    *(Stage("dual", name, method, None, (0,)) for name in BOTH for method in (RANDOM, DUAL)),
    *(Stage("dual", name, (*RANDOM, *DUAL), None, (seed,)) for seed in (1, 2) for name in BOTH),
    *(Stage("dual", name, ("shorter_full",), None, (0,)) for name in BOTH),
    # all its methods at a time: their recording holds what any of them reads
    *(Stage("static", name, None, (0.3,), (0,)) for name in BOTH),
    *(Stage("dynamic", name, None, None, (0,)) for name in BOTH),
    *(Stage("static", name, None, None, (0,)) for name in BOTH),
    *(
        Stage("robust", "cifar100", ("random", "dual_beta", "ccs"), (0.3,), (0,), (scenario,))
        for scenario in ("symmetric 0.2", "corruption 0.2", "long_tail 0.9", "duplicates 0.2")
    ),
    Stage("cross", "cifar10_by_resnet20", None, None, (0,)),
    Stage("cross", "cifar10_as_vgg16", None, None, (0,)),
)
FILES = ("dual", "static", "dynamic", "robust", "cross")


def stages() -> Iterator[Stage]:
    """Everything, in order: what is named above, then each file a seed at a time."""
    yield from FIRST
    grids = {file: read_grids(PAPER / f"{file}.toml")[1] for file in FILES}
    for seed in sorted({seed for settings in grids.values() for grid in settings.values() for seed in grid.seeds}):
        for file, settings in grids.items():
            yield from (Stage(file, setting, seeds=(seed,)) for setting, grid in settings.items() if seed in grid.seeds)


class Kept:
    """The rows of one setting, wherever they stand.

    Args:
        name: of the file, without its suffix.
        results: folder where new rows go.
    """

    def __init__(self, name: str, results: Path) -> None:
        self.file = results / f"{name}.jsonl"
        self.rows: dict[Any, dict[str, Any]] = {}
        for file in dict.fromkeys((RESULTS / self.file.name, self.file)):
            self.rows |= {row_key(row): row for row in read_rows(file)}

    def add(self, row: dict[str, Any], by: str) -> None:
        """Write a row down, with the card and the commit, which the row does not know outside a checkout."""
        import torch

        card = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
        row = {**row, "commit": row["commit"] or by, **({"card": card} if card else {})}
        self.rows[row_key(row)] = row
        write_rows(self.file, list(self.rows.values()))

    def give(self, folder: Path) -> None:
        """Put the rows where a run looks for those that are done."""
        existing = {row_key(row): row for row in read_rows(folder / "rows.jsonl")}
        if set(self.rows) - set(existing):
            folder.mkdir(parents=True, exist_ok=True)
            write_rows(folder / "rows.jsonl", list({**self.rows, **existing}.values()))


def main(arguments: list[str] | None = None) -> int:
    """Run what fits; 0 when nothing failed, 1 when a cell did, with the rows before it written."""
    options = parsed(arguments)
    if not (options.list or options.shrink > 1 or torch.cuda.is_available()):
        print("these grids need a CUDA GPU, and torch finds none: --shrink 50 runs them small", file=sys.stderr)
        return 2
    end = None if options.time_limit is None else time.monotonic() + options.time_limit
    settings: dict[tuple[str, str], tuple[Grid, Kept, Path]] = {}
    for number, stage in enumerate(stages()):
        if options.stages is not None and number >= options.stages:
            break
        if options.only and stage.file not in options.only:
            continue
        if (stage.file, stage.setting) not in settings:
            settings[stage.file, stage.setting] = opened(stage, options)
        grid, kept, folder = settings[stage.file, stage.setting]
        stage_grid = stage.of(grid)
        owed = [cell for cell in cells_of(stage_grid) if cell.key not in kept.rows]
        if options.list:
            cells = len(cells_of(stage_grid))
            print(f"{number:3d}  {cells - len(owed):4d} of {cells:4d}  {stage.title}")
            continue
        if not owed:
            continue
        if end is not None and time.monotonic() >= end:
            print("the time is over; the same command goes on from here")
            return 0
        print(f"{stage.title}: {len(owed)} cells", flush=True)
        try:
            run(stage_grid, kept, folder, end, options)
        except DatawinnowError as error:
            print(f"{stage.title}: {error}", file=sys.stderr)
            return 1
    return 0


def opened(stage: Stage, options: argparse.Namespace) -> tuple[Grid, Kept, Path]:
    """The grid of a stage's setting, its rows, and the folder that it runs in."""
    name, grids = read_grids(PAPER / f"{stage.file}.toml")
    grid = shrunk(grids[stage.setting], options.shrink)
    name += f"_shrunk_{options.shrink}" if options.shrink > 1 else ""
    return grid, Kept(f"{name}_{stage.setting}", options.results), options.out / name / stage.setting


def run(grid: Grid, kept: Kept, folder: Path, end: float | None, options: argparse.Namespace) -> None:
    """Run the missing cells of a grid until the time is over."""

    def on_row(row: dict[str, Any]) -> None:
        kept.add(row, options.commit or commit())
        reached = row.get("failed") or f"{100 * row['accuracy']:.2f}%"
        seconds = sum(stage["seconds"] for stage in row["cost"].values())
        title = Cell(kind="static", **{key: row[key] for key in ("method", "keep", "seed", "scenario")}).title
        print(f"  {title}: {reached}, {seconds:.0f} s", flush=True)

    kept.give(folder)
    left = None if end is None else max(0.0, end - time.monotonic())
    run_grid(grid, folder, jobs=options.jobs, threads=options.threads, time_limit=left, on_row=on_row)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-limit", type=seconds_of, default=None, help="stop cleanly by then: 25m, 1.5h, 300")
    parser.add_argument("--results", type=Path, default=None, help="folder of the JSON lines; benchmarks/results")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the runs and recordings")
    parser.add_argument("--commit", default="", help="hash to write into rows made outside a checkout")
    parser.add_argument("--only", action="append", choices=FILES, default=[], help="this file only (repeatable)")
    parser.add_argument("--stages", type=int, default=None, help="only the first so many stages")
    parser.add_argument("--jobs", type=int, default=0, help="cells side by side; 0 for one on a GPU")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each cell")
    parser.add_argument("--shrink", type=int, default=1, help="divide examples, epochs and channels by this")
    parser.add_argument("--list", action="store_true", help="say what is done and what is owed, and run nothing")
    options = parser.parse_args(arguments)
    if options.results is None:
        options.results = RESULTS if options.shrink == 1 else options.out
    return options


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that workers are stopped on the way out
    sys.exit(main())
