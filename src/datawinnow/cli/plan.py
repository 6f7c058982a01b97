"""``datawinnow plan``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from datawinnow import api
from datawinnow.api import LoadOptions
from datawinnow.cli.bench import cell_line
from datawinnow.cli.options import DataArgument, NoReport, Quiet, TrainingOptions
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.options import Option


@verb(
    "datawinnow plan my-images/ --max-drop 0.5 --epochs 30",
    "datawinnow plan digits --max-drop 1 --epochs 20 --at-most 10m",
    "datawinnow plan my-images/ --method dual_beta --folds 5",
    docs=api.plan,
)
def plan(
    data: DataArgument,
    loading: LoadOptions,
    training: TrainingOptions,
    max_drop: Annotated[float, Option("POINTS", min=0)] = 0.5,
    epochs: Annotated[int, Option("N", min=2)] = 30,
    methods: Annotated[Sequence[str], Option("NAME", flags=("--method",))] = (),
    folds: Annotated[int, Option("N", min=2)] = 3,
    runs: Annotated[int, Option("N", min=1)] = 10,
    at_most: Annotated[str | None, Option("TIME")] = None,
    seed: Annotated[int, Option("N")] = 0,
    out: Annotated[Path | None, Option("FOLDER")] = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Find the cheapest training that loses at most --max-drop points, from short pilot trainings.

    Pilots train on fewer examples, for fewer epochs, and with small inputs first; a curve through each says how little
    is enough, or that nothing cheaper can be promised. Pilots that were stopped go on with the same command.
    """
    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        result = api.plan(
            data,
            max_drop=max_drop,
            epochs=epochs,
            methods=methods,
            folds=folds,
            runs=runs,
            at_most=at_most,
            seed=seed,
            model=training.model,
            model_options=training.model_options,
            recipe=training.recipe(),
            load=loading,
            out=out,
            report=not no_report,
            progress=stage,
            on_row=lambda row: stage.detail(cell_line(row)),
            log=screen.note,
        )
    for sentence in (result.sentence, result.labels, *result.notes):
        if sentence:
            screen.print(sentence)
            screen.print()
    lines = route_lines(result)
    if lines:
        screen.table(["training", "of", "share", "error, %", "loses, points"], lines)
        screen.print()
    page = [("report", str(result.report))] if result.report is not None else []
    screen.rows([("plan", str(result.folder / "plan.json")), *page])


def route_lines(result: api.PlanResult) -> list[list[str]]:
    """A line a pilot: the training, what its share is of, the share, the mean error, and what the curve loses there."""
    if result.advice is None:
        return []
    lines = []
    for curve in result.advice.curves:
        for share, errors in sorted(curve.route.errors.items()):
            median, low, high = (100 * value for value in curve.drop_at(share))
            mean = 100 * sum(errors) / len(errors)
            lines.append(
                [
                    curve.route.label,
                    curve.route.axis,
                    f"{share:.1%}",
                    f"{mean:.1f}",
                    f"{median:.1f} ({low:.1f} to {high:.1f})",
                ]
            )
    return lines
