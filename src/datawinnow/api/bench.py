"""`bench`: run a grid of methods, and put total cost beside every accuracy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datawinnow.core.bars import with_progress
from datawinnow.core.errors import ArgumentError
from datawinnow.core.progress import ProgressOption, named_progress

if TYPE_CHECKING:
    from datawinnow.bench import Grid, GridData
    from datawinnow.core.verdict import ResultRow


RESULTS = Path("results")


@dataclass(frozen=True)
class GridResult:
    """The results of a grid, as far as it was run.

    Attributes:
        setting: name of the ``[[setting]]``; ``""`` where the file has none.
        folder: where the rows are.
        rows: result rows, in the order of the grid.
        num_cells: number of cells of the grid.
        report: the HTML page; None where there are no rows or none was asked for.
    """

    setting: str
    folder: Path
    rows: list[ResultRow]
    num_cells: int
    report: Path | None

    @property
    def done(self) -> bool:
        """Whether every cell has a row."""
        return len(self.rows) == self.num_cells

    def __repr__(self) -> str:
        return f"GridResult({len(self.rows)} of {self.num_cells} cells in {self.folder})"


@dataclass(frozen=True)
class BenchResult:
    """The results of a file of grids.

    Attributes:
        folder: where everything is.
        grids: results by the name of the setting.
        report: the HTML page; of a file with settings the one that compares them.
    """

    folder: Path
    grids: dict[str, GridResult]
    report: Path | None


@with_progress
def bench(
    grid: Path | str | Grid,
    *,
    out: Path | str | None = None,
    data: GridData | None = None,
    setting: Sequence[str] = (),
    models: Sequence[str] = (),
    shrink: int = 1,
    time_limit: float | None = None,
    jobs: int = 0,
    threads: int = 0,
    report: bool = True,
    progress: ProgressOption = None,
    on_row: Callable[[ResultRow], None] | None = None,
    on_grid: Callable[[GridResult], None] | None = None,
) -> BenchResult:
    """Run the cells of a grid that have no row yet.

    Every method is compared with random choice and with all the data for as many examples passed. A bench that was
    stopped resumes with the same call. A cell whose training diverges gets a row that says so, and the others go on.

    Args:
        grid: a TOML file of one grid or of several settings, or a `datawinnow.bench.Grid`.
        out: folder of the results; cells that have a row in it are not run again. Default: results/<name of the grid>.
        data: datasets and functions of this process to use instead of those that the grid names; its cells then run in
            this process.
        setting: run only this setting of the file (repeatable). Default: all, in order.
        models: ``"module:function"`` that the file names as a network and that may be imported (repeatable): nothing is
            imported because a file names it. Default: none.
        shrink: divide examples, epochs and channels by this number, to see that a file runs; its accuracies mean
            nothing.
        time_limit: seconds after which no cell is started or continued. Default: run every cell.
        jobs: cells at a time; 0 for one a core on a CPU and one on a GPU.
        threads: CPU threads of each cell; 0 for its share of the cores.
        report: write an HTML page beside the rows.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``("bench NAME", cells done, cells)``. Default: no progress is shown.
        on_row: called with each new row.
        on_grid: called with the result of each grid when it ends.

    Returns:
        The rows by setting, and where they and the page are.

    Raises:
        ArgumentError: the file or an option is wrong, or a grid cannot run.
        RunError: the folder is busy, or holds rows of another dataset or test split, or made under other settings; a
            cell failed.
    """
    from datawinnow import report as reports
    from datawinnow.bench import Grid, cells_of, read_grids, run_grid, shrunk
    from datawinnow.core import check
    from datawinnow.report.comparison import is_compared, read_runs

    start = time.monotonic()
    check.number("shrink", shrink, 1, 10**6, integer=True)
    setting = (setting,) if isinstance(setting, str) else setting
    models = (models,) if isinstance(models, str) else models
    name, grids = (grid.name, {"": grid}) if isinstance(grid, Grid) else read_grids(Path(grid), models=models)
    for chosen in setting:
        if chosen not in grids:
            names = ", ".join(filter(None, grids)) or "none: it is a single grid"
            raise ArgumentError(f"`setting={chosen!r}`: the file has no such setting. There are: {names}")
    grids = {key: value for key, value in grids.items() if not setting or key in setting}
    if shrink > 1:
        name = f"{name}_shrunk_{shrink}"
        grids = {key: shrunk(value, shrink) for key, value in grids.items()}
    folder = RESULTS / name if out is None else Path(out)
    results: dict[str, GridResult] = {}
    for key, value in grids.items():
        left = None if time_limit is None else max(0.0, time_limit - (time.monotonic() - start))
        rows = run_grid(
            value,
            folder / key,
            data=data,
            jobs=jobs,
            threads=threads,
            time_limit=left,
            progress=named_progress(progress, f"bench {value.name}"),
            on_row=on_row,
        )
        page: Path | None = reports.write(folder / key) if rows and report else None
        results[key] = GridResult(key, folder / key, rows, len(cells_of(value)), page)
        if on_grid is not None:
            on_grid(results[key])
    if "" in results:
        return BenchResult(folder, results, results[""].report)
    has_rows = any(result.rows for result in results.values())
    # without runs beside shorter full ones there is nothing to compare, and each setting has its page
    has_page = has_rows and report and is_compared(read_runs(folder))
    return BenchResult(folder, results, reports.write(folder) if has_page else None)
