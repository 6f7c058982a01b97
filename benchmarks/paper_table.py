"""Our rows of the papers' grids against the published figures, from the rows so far.

    python benchmarks/paper_table.py                       # Markdown, from benchmarks/results/paper_*.jsonl
    python benchmarks/paper_table.py --results FOLDER

An entry is our mean over seeds, (how many seeds), then the published figure and the difference in points. Nothing here
rests on fewer seeds than it says, and what is missing is counted at the end.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datawinnow.bench import cells_of, read_grids, read_rows
from datawinnow.core.result_rows import row_key

HERE = Path(__file__).parent
BAND = 0.5
"""Points within which a row of ours is held to agree with the published one."""

Rows = list[dict[str, Any]]


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 where there are no rows at all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of paper_*.jsonl")
    options = parser.parse_args(arguments)
    rows = rows_in(options.results)
    if not rows:
        print(
            f"no rows of the papers' grids in {options.results}; make some with: python benchmarks/gpu/paper.py "
            "--time-limit 25m",
            file=sys.stderr,
        )
        return 1
    print("\n".join([*against_published(rows), *ours_alone(rows), *owed(rows)]))
    return 0


def rows_in(folder: Path) -> Rows:
    """Every row of the papers' grids at full size, each with the name of its file's grid under ``grid``."""
    rows: Rows = []
    for file in sorted(folder.glob("paper_*.jsonl")):
        if "_shrunk_" not in file.name:
            grid = "_".join(file.stem.split("_")[:2])
            setting = file.stem.removeprefix(f"{grid}_")
            rows += [{**row, "grid": grid, "setting": setting} for row in read_rows(file)]
    return rows


def published() -> list[dict[str, Any]]:
    """The tables of ``published.toml``."""
    tables: list[dict[str, Any]] = tomllib.loads((HERE / "paper" / "published.toml").read_text())["table"]
    return tables


def against_published(rows: Rows) -> Iterable[str]:
    """A table for each published one of which we have rows."""
    for table in published():
        table_rows = [
            r for r in rows if r["grid"] in table["grids"] and r["setting"] == table["dataset"] and is_clean(r)
        ]
        if not table_rows:
            continue
        keeps, agree, compared = table["keep"], 0, 0
        yield f"### {table['dataset']}: {', '.join(table['grids'])}"
        yield f"\nPublished: {table['source']}. {origin(table_rows)}\n"
        yield from heading(["method", "cost of scoring", *(f"keep {keep:g}" for keep in keeps)])
        for method in dict.fromkeys(
            ["full", "shorter_full", *(k for k in table if is_method(k)), *methods(table_rows)]
        ):
            mine = [row for row in table_rows if row["method"] == method]
            if method == "full":
                yield line(
                    [label(mine, method), "-", entry(mine, table.get("full", math.nan)), *[""] * (len(keeps) - 1)]
                )
                continue
            cells = [[row for row in mine if math.isclose(row["keep"], keep)] for keep in keeps]
            known_figures = table.get(method, [math.nan] * len(keeps))
            for cell, figure in zip(cells, known_figures, strict=True):
                if (accuracy := mean(cell)) is not None and not math.isnan(figure):
                    compared += 1
                    agree += abs(accuracy - figure) <= BAND
            entries = [entry(cell, figure) for cell, figure in zip(cells, known_figures, strict=True)]
            yield line([label(mine, method), scoring(mine), *entries])
        yield f"\n{agree} of the {compared} entries that both have are within {BAND} points.\n"


def is_method(key: str) -> bool:
    """Whether a key of a published table names a method."""
    return key not in ("grids", "dataset", "source", "keep", "full")


def ours_alone(rows: Rows) -> Iterable[str]:
    """Robustness and cross-architecture, of which no published table was found."""
    for grid in ("paper_robust", "paper_cross"):
        table_rows = [row for row in rows if row["grid"] == grid]
        for setting in dict.fromkeys(row["setting"] for row in table_rows):
            of = [row for row in table_rows if row["setting"] == setting]
            keeps = sorted({row["keep"] for row in of if row["method"] != "full"}, reverse=True)
            yield f"### {grid} {setting}\n\n{origin(of)} After the accuracy: changed examples among the kept, %.\n"
            yield from heading(["scenario", "method", *(f"keep {keep:g}" for keep in keeps)])
            for scenario in dict.fromkeys(row["scenario"] for row in of):
                for method in methods([row for row in of if row["scenario"] == scenario]):
                    mine = [row for row in of if (row["scenario"], row["method"]) == (scenario, method)]
                    cells = [[row for row in mine if row["keep"] == keep] for keep in keeps]
                    yield line([scenario, label(mine, method), *(with_changed(cell) for cell in cells)])
            yield ""


def owed(rows: Rows) -> Iterable[str]:
    """How many cells of each grid have no row yet."""
    yield "### Owed\n"
    yield from heading(["grid", "done", "of"])
    for file in sorted((HERE / "paper").glob("*.toml")):
        if file.stem == "published":
            continue
        name, grids = read_grids(file)
        for setting, grid in grids.items():
            cells = {cell.key for cell in cells_of(grid)}
            done = {row_key(row) for row in rows if (row["grid"], row["setting"]) == (name, setting)}
            yield line([f"{name} {setting}", str(len(cells & done)), str(len(cells))])


def is_clean(row: dict[str, Any]) -> bool:
    """Whether a row is of the data as they are."""
    return bool(row["scenario"] == "clean")


def methods(rows: Rows) -> list[str]:
    """Methods in the order of their rows."""
    return list(dict.fromkeys(row["method"] for row in rows))


def label(rows: Rows, method: str) -> str:
    """The method's name for people."""
    return rows[-1]["label"] if rows else method


def mean(rows: Rows) -> float | None:
    """Mean accuracy in %, over the seeds that did not diverge."""
    accuracies = [100 * row["accuracy"] for row in rows if row["accuracy"] is not None]
    return statistics.fmean(accuracies) if accuracies else None


def entry(rows: Rows, figure: float) -> str:
    """Our mean, its seeds, the published figure and the difference."""
    accuracy = mean(rows)
    if accuracy is None:
        return "" if math.isnan(figure) else f"- | {figure:g}".replace("|", "/")
    reached = [100 * row["accuracy"] for row in rows if row["accuracy"] is not None]
    spread = f" ± {statistics.stdev(reached):.2f}" if len(reached) > 1 else ""
    ours = f"{accuracy:.2f}{spread} ({len(reached)})"
    return ours if math.isnan(figure) else f"{ours} / {figure:g} / {accuracy - figure:+.2f}"


def with_changed(rows: Rows) -> str:
    """Our mean, its seeds, and the share of changed examples among the kept."""
    changed = [100 * row["changed_kept"] for row in rows if row.get("changed_kept") is not None]
    return entry(rows, math.nan) + (f", {statistics.fmean(changed):.1f}" if changed else "")


def scoring(rows: Rows) -> str:
    """Examples passed for finding the selection, over those of the full run."""
    if not rows:
        return ""
    row = rows[-1]
    share = (row["total_passes"] - row["passes"]) / (row["epochs"] * row["n"])
    return f"{100 * share:.1f}%" if share else "-"


def origin(rows: Rows) -> str:
    """On what and by which code the rows were made."""
    devices = sorted({row.get("card") or row["device"] for row in rows})
    commits = sorted({row["commit"] or "unknown" for row in rows})
    return f"Ours: {', '.join(devices)}; commits {', '.join(commits)}."


def heading(names: Sequence[str]) -> Iterable[str]:
    """The first two lines of a table."""
    yield line(names)
    yield line(["---"] * len(names))


def line(fields: Sequence[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(fields) + " |"


if __name__ == "__main__":
    sys.exit(main())
