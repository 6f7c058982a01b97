"""``datawinnow race``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from datawinnow.api.dataset import LoadOptions
from datawinnow.cli.bench import cell_line, show_results
from datawinnow.cli.options import DataArgument, Quiet, TrainingOptions
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.options import Option


@verb(
    "datawinnow race my-images/ --budget 30",
    "datawinnow race digits --budget 10 --seeds 3",
    "datawinnow race my-images/ --budget 30 --policy-option noisy=true",
)
def race(
    data: DataArgument,
    budget: Annotated[
        int,
        typer.Option(
            "--budget",
            metavar="EPOCHS",
            min=1,
            help="Epochs on all the data; the policy passes as many examples. Give what you would train for.",
            show_default=False,
        ),
    ],
    policy: Annotated[
        str,
        typer.Option(
            "--policy",
            metavar="NAME",
            help="Policy to compare with all the data; auto takes what benchmarks recommend.",
        ),
    ] = "auto",
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep",
            metavar="FRACTION",
            help="With --policy: fraction that an epoch trains on. Default: that of the policy.",
            show_default=False,
        ),
    ] = None,
    policy_options: Annotated[
        dict[str, Any] | None,
        Option(
            flags=("--policy-option",),
            help="An option of the policy (repeatable), as period=5; auto takes noisy=true, for many wrong labels.",
        ),
    ] = None,
    wrap: Annotated[
        list[str],
        typer.Option(
            "--wrap", metavar="NAME[=VALUE]", help="Put the policy into a wrapper (repeatable).", show_default=False
        ),
    ] = [],  # noqa: B006
    seeds: Annotated[
        int,
        typer.Option("--seeds", metavar="N", min=1, help="Paired repeats; two or more give an interval."),
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Folder of rows and page. Default: runs/race-<data>.", show_default=False
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=0, help="Trainings at a time; 0 for one a core.")] = 0,
    loading: LoadOptions = LoadOptions(),  # noqa: B008
    training: TrainingOptions = TrainingOptions(),  # noqa: B008
    quiet: Quiet = False,
) -> None:
    """Compare all the data for fewer epochs with a policy, at equal cost, on your data.

    Both pass as many examples as --budget epochs on all the data, with the same network, recipe and seeds, and each
    learning rate decays to its end. A race that was stopped resumes with the same command.
    """
    from datawinnow import api

    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        result = api.race(
            data,
            budget=budget,
            policy=policy,
            keep=keep,
            policy_options=policy_options,
            wrap=wrap,
            seeds=seeds,
            model=training.model,
            model_options=training.model_options,
            recipe=training.recipe(),
            load=loading,
            out=out,
            jobs=jobs,
            threads=training.threads or 0,
            progress=stage,
            on_row=lambda row: stage.detail(cell_line(row)),
            log=screen.note,
        )
    show_results(screen, result.folder, result.rows, result.report)
    screen.print()
    screen.print(result.sentence)
