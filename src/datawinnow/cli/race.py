"""``datawinnow race``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from datawinnow import api
from datawinnow.api import LoadOptions
from datawinnow.cli.bench import cell_line, show_results
from datawinnow.cli.options import DataArgument, NoReport, Quiet, TrainingOptions
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.options import Option
from datawinnow.core.policy_names import AUTO, POLICY_NAMES


@verb(
    "datawinnow race my-images/ --budget 30",
    "datawinnow race digits --budget 10 --seeds 3",
    "datawinnow race my-images/ --budget 100 --trial 20% --seeds 3",
    "datawinnow race my-images/ --budget 30 --policy-option noisy=true",
    "datawinnow race my-images/ --budget 15 --progressive-resizing 30% --seeds 5",
    docs=api.race,
)
def race(
    data: DataArgument,
    loading: LoadOptions,
    training: TrainingOptions,
    budget: Annotated[int, Option("EPOCHS", min=1)],
    policy: Annotated[str, Option("NAME", help=f"auto (what benchmarks recommend), {', '.join(POLICY_NAMES)}.")] = AUTO,
    keep: Annotated[str | None, Option("KEEP")] = None,
    policy_options: Annotated[dict[str, Any] | None, Option(flags=("--policy-option",))] = None,
    wrap: Annotated[Sequence[str], Option("NAME[=VALUE]")] = (),
    small_first: Literal["auto", "yes", "no"] = "auto",
    longer_reference: bool = False,
    trial: Annotated[str | None, Option("SHARE")] = None,
    seeds: Annotated[int, Option("N", min=1)] = 1,
    out: Annotated[Path | None, Option("FOLDER")] = None,
    jobs: Annotated[int, Option("N", min=0)] = 0,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Compare all the data for fewer epochs with what may learn more at equal cost, on your data.

    Beside all the data run a policy that chooses again each epoch and, on images, small images first, with the policy
    and without it. Each costs what --budget epochs on all the data cost, with the same network, recipe and seeds, and
    its learning rate decays to its end. A race that was stopped resumes with the same command.
    """
    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        result = api.race(
            data,
            budget=budget,
            policy=policy,
            keep=keep,
            policy_options=policy_options,
            wrap=wrap,
            small_first=small_first,
            longer_reference=longer_reference,
            trial=trial,
            seeds=seeds,
            model=training.model,
            model_options=training.model_options,
            recipe=training.recipe(),
            load=loading,
            out=out,
            jobs=jobs,
            threads=training.threads or 0,
            report=not no_report,
            progress=stage,
            on_row=lambda row: stage.detail(cell_line(row)),
            log=screen.note,
        )
    screen.print(result.sentence)
    screen.print()
    show_results(screen, result.folder, result.rows, result.report)
