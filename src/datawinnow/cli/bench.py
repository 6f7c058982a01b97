"""``datawinnow bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from datawinnow import api
from datawinnow.cli.options import NoReport, Quiet
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.duration import seconds_of
from datawinnow.core.options import Option

if TYPE_CHECKING:
    from datawinnow.api.bench import GridResult


FILE = """
A whole file, which runs as it stands:

  name = "my-grid"        # the results go to results/my-grid
  methods = ["full", "shorter_full", "random", "dual_beta", "often"]
  keep = [0.5, "20%"]     # the fraction kept, or passed of a full training
  seeds = [0, 1, 2]
  scenarios = ["clean", "symmetric 0.2"]   # 20% of the labels are wrong

  [train]
  model = "resnet8"
  epochs = 30
  lr = 0.1

  # a method of one's own: name it in methods
  [[method]]
  name = "often"
  label = "UCB, 0.7 an epoch"
  policy = "ucb"          # or method = "dual"; or score and select
  options = { keep = 0.7, period = 1 }

  # one or more; a file without a setting has keep and [data] on top
  [[setting]]
  name = "all"
  data = { source = "digits" }   # or "my-images/", "hf:owner/name"

  [[setting]]
  name = "few"
  data = { source = "digits", limit = 600 }
  keep = [0.5]

All keys:

  top         name, about, methods, keep, seeds, scenarios
  [data]      source, limit, size, seed, image, label, flip, text, length,
              tokenizer, header, standardise, holdout, on_broken,
              test, decisions
  [train]     epochs, model, model_options, at, and those of dw.Recipe
  [score]     epochs, schedule_epochs, until_stable, model, model_options,
              size_schedule
  [[method]]  name, label; method, or score and select, with options,
              options_at, score_options, per_class and epochs; or policy
              with options and wrap; or batch, replay, baseline or
              selection; train, keep, levels
  [[setting]] name, about, passes or keep, methods, seeds, scenarios,
              data, train, score, method

Names of methods, policies and scenarios: datawinnow methods
What each key means: the classes in the file that is shown by
python -c "import datawinnow.bench.grid as g; print(g.__file__)"
"""
"""Below the examples of the help; a test runs the file, and holds the keys to those that are read."""


@verb(
    "datawinnow bench benchmarks/cifar10_cpu.toml --time-limit 90m",
    "datawinnow bench benchmarks/comparison.toml --setting cifar10 --time-limit 2h",
    "datawinnow bench my-grid.toml --out results/mine --jobs 2 --table markdown",
    "datawinnow bench benchmarks/paper/static.toml --shrink 50",
    docs=api.bench,
    file=FILE,
)
def bench(
    grid: Annotated[Path, Option("FILE.toml", positional=True, help="The grid: method x keep x seed x scenario.")],
    out: Annotated[Path | None, Option("FOLDER")] = None,
    setting: Annotated[Sequence[str], Option("NAME")] = (),
    models: Annotated[Sequence[str], Option("module:function", flags=("--model",))] = (),
    shrink: Annotated[int, Option("K", min=1)] = 1,
    time_limit: Annotated[
        str | None,
        Option("TIME", help="Stop after this time: 90m, 1.5h, 45s, or seconds. Default: run every cell."),
    ] = None,
    jobs: Annotated[int, Option("N", min=0)] = 0,
    threads: Annotated[int, Option("N", min=0)] = 0,
    table: Annotated[Literal["text", "markdown"], Option(help="Format of the printed table.")] = "text",
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Run a grid of methods, and put total cost beside every accuracy.

    Every method is compared with random choice and with all the data for as many examples passed. Only cells without a
    row are run, so you can stop at any moment and run the same command again. A cell whose training diverges gets a row
    that says so, and the others go on. Prints the table and writes an HTML page.
    """
    screen = Screen(quiet=quiet)
    limit = None if time_limit is None else seconds_of(time_limit)

    def on_grid(result: GridResult) -> None:
        show_results(screen, result.folder, result.rows, result.report, table=table)
        if not result.done:
            setting_name = f" of {result.setting}" if result.setting else ""
            screen.print(
                f"{len(result.rows)} of {result.num_cells} cells{setting_name} are done; run the same command again to "
                "resume"
            )

    with screen.stage() as stage:
        results = api.bench(
            grid,
            out=out,
            setting=setting,
            models=models,
            shrink=shrink,
            time_limit=limit,
            jobs=jobs,
            threads=threads,
            report=not no_report,
            progress=stage,
            on_row=lambda row: stage.detail(cell_line(row)),
            on_grid=on_grid,
        )
    if "" not in results.grids and results.report is not None:
        screen.print()
        screen.rows([("all settings", str(results.report))])


def cell_line(row: dict[str, Any]) -> str:
    """A result row in a line, for the progress display."""
    reached = f"failed: {row['failed']}" if row.get("failed") else f"{100 * row['accuracy']:.1f}%"
    return f"{row['label']} keep {row['keep']:g} seed {row['seed']} {row['scenario']}: {reached}"


def show_results(
    screen: Screen, folder: Path, rows: list[dict[str, Any]], page: Path | None, *, table: str = "text"
) -> None:
    """Print the table, the files, and the cells whose training diverged; nothing where there are no rows."""
    if not rows:
        return
    from datawinnow import report

    checked = report.rows(folder)
    screen.print(report.markdown_table(checked) if table == "markdown" else report.text_table(checked))
    screen.print()
    screen.rows([("rows", str(folder / "rows.jsonl")), *([("report", str(page))] if page is not None else [])])
    failed = [row for row in rows if row.get("failed")]
    if not failed:
        return
    screen.print()
    screen.print(f"training diverged in {len(failed)} cell{'' if len(failed) == 1 else 's'}:")
    for row in failed:
        screen.print(f"  {row['label']}, keep {row['keep']:g}, seed {row['seed']}, {row['scenario']}: {row['failed']}")
    screen.print(
        f"The same command does not run them again: remove their lines from {folder / 'rows.jsonl'} for that, and the "
        f"folders in {folder / 'recordings'} whose run.json says diverged"
    )
