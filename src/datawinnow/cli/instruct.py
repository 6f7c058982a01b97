"""``datawinnow instruct``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from datawinnow import api
from datawinnow.cli.options import OUTPUT_PANEL, NoReport, Quiet
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.options import Option
from datawinnow.instruct.options import ChoiceOptions, IndicatorOptions, JudgeOptions, PairFields

SCORER_PANEL = ChoiceOptions.PANEL
MAX_CLUSTERS_SHOWN = 30


@verb(
    "datawinnow instruct pairs.jsonl --subsets subsets.npz --mode paper --keep 200 --out kept.jsonl",
    "datawinnow instruct pairs.jsonl --keep 0.1 --score reward --clusters kmeans --duplicates 0.05",
    "datawinnow instruct alpaca.json --keep 1000 --lm path/to/model --score ifd --out kept.json",
    docs=api.instruct,
)
def instruct(
    pairs: Annotated[Path, Option("PAIRS", positional=True)],
    fields: PairFields,
    choice: ChoiceOptions,
    indicators: IndicatorOptions,
    judge: JudgeOptions,
    keep: Annotated[str, Option("N|FRACTION")] = "200",
    subsets: Annotated[Path | None, Option("FILE.npz", panel=SCORER_PANEL)] = None,
    mode: Annotated[Literal["paper", "default"], Option(panel=SCORER_PANEL)] = "default",
    score: Annotated[str | None, Option("NAME", panel=SCORER_PANEL)] = None,
    recipe_options: Annotated[dict[str, Any] | None, Option(flags=("--recipe-option",), panel=SCORER_PANEL)] = None,
    seed: Annotated[int | None, Option("N", panel=SCORER_PANEL)] = None,
    check: Annotated[bool, Option(flags=("--check/--no-check",), panel=SCORER_PANEL)] = True,
    run: Annotated[Path | None, Option("FOLDER", panel=OUTPUT_PANEL)] = None,
    out: Annotated[Path | None, Option("FILE", panel=OUTPUT_PANEL)] = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Choose which pairs of an instruction dataset to tune on, and test the choice on subsets left out.

    Pairs are scored by InstructionGPT-4's selector, which learns from subsets with the score of a model tuned on each
    (--subsets), or by indicators: fields of the data, or computed with models of yours (--clip, --reward-model, --lm,
    --judge). Each cluster gets its share. Errors on subsets left out show how reliable the choice is. Results are
    cached by content: stop it at any moment and run the same command again, and nothing is paid for twice.
    """
    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        result = api.instruct(
            pairs,
            keep=keep,
            subsets=subsets,
            mode=mode,
            score=score,
            choice=choice,
            indicators=indicators,
            judge=judge,
            fields=fields,
            seed=seed,
            check=check,
            recipe_options=recipe_options,
            run=run,
            out=out,
            report=not no_report,
            confirm=lambda _: sys.stdin.isatty() and typer.confirm("Go on?", err=True),
            progress=stage,
            log=screen.note,
        )
    _print_choice(screen, result.metadata, result.folder, None if no_report else result.folder / "report.html")


def _print_choice(screen: Screen, metadata: Mapping[str, Any], folder: Path, page: Path | None) -> None:
    n, budget = metadata["n"], metadata["budget"]
    screen.print(f"kept {budget:,} of {n:,} pairs ({100 * budget / n:.3g}%) by {metadata['label']}")
    rows = [("selection", str(folder / "selection.parquet"))]
    rows += [("reasons", f"{count:,} {sentence}") for sentence, count in metadata["reasons"].items()]
    rows += [("missing", f"{count:,} pairs lack {name}") for name, count in metadata["missing"].items()]
    rows.append(("clusters", metadata["clusters"]))
    if metadata["by_cluster"] and len(metadata["by_cluster"]) <= MAX_CLUSTERS_SHOWN:
        rows.append(("", "kept " + ", ".join(str(row["kept"]) for row in metadata["by_cluster"])))
    if "out" in metadata:
        rows.append(("out", f"{metadata['out']}: the kept pairs, in the layout they came in"))
    if page is not None:
        rows.append(("report", str(page)))
    screen.rows(rows)
    if metadata["means"]:
        screen.print()
        head = ["mean of", "chosen", "pool", "difference in standard deviations"]
        lines = [
            [row["name"], f"{row['chosen']:.4g}", f"{row['pool']:.4g}", f"{row['gap']:+.2f}"]
            for row in metadata["means"]
        ]
        screen.table(head, lines)
    if metadata["summary"]:
        screen.print()
        for line in metadata["summary"]:
            screen.print(line)
