"""`write`: one self-contained page of a run or of a bench's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from datawinnow.core.chance import rows_sentence
from datawinnow.core.errors import RunError
from datawinnow.core.files import write_bytes
from datawinnow.core.option_spelling import spelled
from datawinnow.core.result_rows import ROWS_FILE
from datawinnow.core.verdict import ResultRow, verdict
from datawinnow.report import plots, plots_many_methods, words
from datawinnow.report.comparison import comparison_context, is_comparison
from datawinnow.report.condense import condense_context, is_condensed
from datawinnow.report.instruct import instruct_context, is_instruct
from datawinnow.report.plan import is_plan, plan_context
from datawinnow.report.results import rows
from datawinnow.report.run_page import run_context
from datawinnow.report.svg import PALETTE
from datawinnow.report.table import SHORTER, Table, table

PAGE_FILE = "report.html"


def write(path: Path | str, out: Path | str | None = None) -> Path:
    """Write the page of a run folder, or of the results of a bench.

    Args:
        path: a run folder (it has ``run.json``), a results folder, its ``rows.jsonl``, or a folder of settings.
        out: the page; ``report.html`` in that folder when None.

    Returns:
        Where the page is.

    Raises:
        RunError: neither a run nor results, or a file in it is truncated, newer, or of another dataset.
    """
    path = Path(path)
    # The most specific first: a condensation has a run.json too.
    if is_condensed(path):
        name, context = "condense.html", condense_context(path)
    elif is_instruct(path):
        name, context = "instruct.html", instruct_context(path)
    elif is_plan(path):
        name, context = "plan.html", plan_context(path)
    elif (path / "run.json").is_file():
        name, context = "run.html", run_context(path)
    elif path.is_file() or (path / ROWS_FILE).is_file():
        name, context = "results.html", results_context(rows(path))
    elif is_comparison(path):
        newest = max(
            (rows(file)[-1] for file in path.glob(f"*/{ROWS_FILE}")), key=lambda row: str(row.get("finished", ""))
        )
        name, context = "comparison.html", {**comparison_context(path), "made": words.provenance(newest)}
    else:
        raise RunError(
            f"there is no run and there are no results at {path} (no run.json, no {ROWS_FILE}); make one with: "
            "datawinnow prune DATA --keep 0.3, or datawinnow bench FILE.toml"
        )
    folder = path if path.is_dir() else path.parent
    target = Path(out) if out is not None else folder / PAGE_FILE
    write_bytes(target, render(name, context).encode())
    return target


def render(name: str, context: dict[str, Any]) -> str:
    """A template of ``templates/`` with the helpers that all of them use; everything is escaped."""
    return _environment().get_template(name).render(words=words, palette=PALETTE, **context)


def template_source(name: str) -> str:
    """The text of a file of ``templates/`` as it is, such as a script."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("datawinnow.report"),
        autoescape=True,
        # A missing variable is an error and not an empty place in the page.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # what is escaped already is a plot, or the user's own text, in which nothing is respelled
        finalize=lambda value: spelled(value) if type(value) is str else value,
    )


def results_context(result_rows: Sequence[ResultRow]) -> dict[str, Any]:
    """The values of the template for results."""
    results = table(result_rows)
    return {
        "title": str(results.about.get("benchmark", "results")),
        "about": " ".join(filter(None, [_results_description(results), rows_sentence(result_rows)])),
        "made": words.provenance(result_rows[-1]),
        "sections": [
            _section(results, [row for row in result_rows if row["scenario"] == scenario], scenario, i)
            for i, scenario in enumerate(results.scenarios)
        ],
    }


def _results_description(results: Table) -> str:
    about = results.about
    phrases = [f"{about['dataset']}, {words.count(about['n'])} training examples, {about['model']}"]
    if "epochs" in about:
        phrases.append(f"a full run is {words.many(about['epochs'], 'epoch')}")
    if "test_n" in about:
        phrases.append(f"accuracy after the last epoch on {words.count(about['test_n'])} test examples")
    return "; ".join(phrases) + "."


def _section(results: Table, result_rows: Sequence[ResultRow], scenario: str, i: int) -> dict[str, Any]:
    cells = results.of(scenario)
    best = _best_by_keep(results, scenario)
    verdicts = {
        keep: verdict([row for row in result_rows if row["keep"] in (keep, 1.0)], method) for keep, method in best
    }
    headline = words.headline(results, scenario)
    diverged = words.diverged(results, scenario)
    if len(verdicts) == 1 and not diverged and len({cell.method for cell in cells if not cell.is_reference}) == 1:
        headline, verdicts = str(*verdicts.values()), {}
    return {
        "name": scenario,
        "headline": headline,
        "by_keep": [
            *(f"Keep {keep:g}, the method of highest mean: {answer.line}" for keep, answer in verdicts.items()),
            *filter(None, [words.changed(results, scenario)]),
        ],
        "cells": cells,
        "noisy": any(cell.changed_kept is not None for cell in cells),
        "figures": _results_figures(results, scenario, i),
    }


def _best_by_keep(results: Table, scenario: str) -> list[tuple[float, str]]:
    """The method of highest mean accuracy at each keep, references apart."""
    groups = (
        (keep, [c for c in results.of(scenario, keep=keep) if not c.is_reference]) for keep in results.keeps(scenario)
    )
    return [(keep, max(cells, key=lambda cell: cell.accuracy.mean).method) for keep, cells in groups if cells]


def _plot_caption(captions: Mapping[str, str], key: str, *, has_shorter: bool) -> str:
    """The caption of a plot; the line of the shorter full run is mentioned where it is drawn."""
    return f"{captions[key]} {captions['shorter']}" if key == "keep" and has_shorter else captions[key]


def _results_figures(results: Table, scenario: str, i: int) -> list[dict[str, Any]]:
    many = plots_many_methods.crowded(results, scenario)
    # over a single keep there is no line to draw: rows of methods
    single = len(results.keeps(scenario)) == 1
    cost, keep = (plots_many_methods if many else plots), (plots_many_methods if many or single else plots)
    has_shorter = bool(results.of(scenario, method=SHORTER))
    drawn = (
        ("cost", "Accuracy against total cost", cost, cost.accuracy_cost(results, scenario, f"cost{i}")),
        (
            "keep",
            "Accuracy of each method" if single else "Accuracy against keep",
            keep,
            keep.accuracy_keep(results, scenario, f"keep{i}"),
        ),
        ("changed", "Changed examples among the kept", keep, keep.changed_keep(results, scenario, f"changed{i}")),
    )
    return [
        {"svg": svg, "title": title, "caption": _plot_caption(draw.CAPTIONS, key, has_shorter=has_shorter)}
        for key, title, draw, svg in drawn
        if svg is not None
    ]
