"""`demo`: a bench on the embedded digits, and a run to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datawinnow.api.bench import GridResult, bench
from datawinnow.api.dataset import RUNS
from datawinnow.core.bars import with_progress
from datawinnow.core.progress import ProgressOption, named_progress

if TYPE_CHECKING:
    from datawinnow.core.verdict import ResultRow

DEMO_FOLDER = RUNS / "demo"
KEEP, METHOD = 0.3, "dual_beta"


@dataclass(frozen=True)
class DemoResult:
    """The result of `demo`.

    Attributes:
        bench: rows and page of the comparison.
        run_page: page of a run with the data map and the gallery.
        verdict: on DUAL with Beta sampling at keep 0.3, with its references.
    """

    bench: GridResult
    run_page: Path
    verdict: str


@with_progress
def demo(
    *,
    out: Path | str = DEMO_FOLDER,
    jobs: int = 0,
    progress: ProgressOption = None,
    on_row: Callable[[ResultRow], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> DemoResult:
    """Compare ways of pruning on the embedded digits, and write two pages.

    A demo that was stopped resumes with the same call.

    Args:
        out: folder of results and pages.
        jobs: trainings at a time; 0 for one a core.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        on_row: called with each new row.
        log: called with a sentence on the comparison.
    """
    import importlib.resources

    from datawinnow import report
    from datawinnow.bench import read_grid
    from datawinnow.bench.cell import datasets_of
    from datawinnow.core.lock import only_writer
    from datawinnow.core.verdict import verdict
    from datawinnow.data.dataset_info import dataset_info
    from datawinnow.runs.record import RecordSettings, begin_run, run_recording
    from datawinnow.runs.select import select_run

    with importlib.resources.as_file(importlib.resources.files("datawinnow.bench") / "demo.toml") as file:
        grid = read_grid(file)
    if log is not None:
        log(f"demo: {grid.about}")
    result = bench(grid, out=out, jobs=jobs, progress=progress, on_row=on_row)
    train, test = datasets_of(grid)
    folder = Path(out) / "prune"
    settings = RecordSettings(grid.train.epochs, recipe=grid.train.recipe())
    with only_writer(folder, option="out", who="another command"):
        setup = begin_run(
            dataset_info(train, grid.data.source),
            folder,
            model=grid.train.model,
            model_options=grid.train.model_options,
        )
        run = run_recording(setup, settings, test=test, progress=named_progress(progress, "recording for the gallery"))
        select_run(run, train, keep=KEEP)
    rows = [row for row in result.grids[""].rows if row["keep"] in (KEEP, 1.0)]
    return DemoResult(result.grids[""], report.write(folder), str(verdict(rows, METHOD)))
