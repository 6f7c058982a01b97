"""``datawinnow prune``: the main job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from datawinnow import api
from datawinnow.api import LoadOptions
from datawinnow.cli.options import (
    OUTPUT_PANEL,
    DataArgument,
    Epochs,
    Keep,
    LogDir,
    MethodOptions,
    NoReport,
    Quiet,
    RunOption,
    ScheduleEpochs,
    Seed,
    TrainingOptions,
    UntilStable,
    option_flags,
)
from datawinnow.cli.select import kept_line, reason_rows, selection_of_every_class
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.duration import duration
from datawinnow.core.options import Option

if TYPE_CHECKING:
    from datawinnow.runs.folder import RunFolder
    from datawinnow.runs.prune import Pruned

SELECTION_STAGES = ("record", "probe", "subsets", "score", "select")
"""Stages that lead to a selection, as ``run.json`` names them."""


@dataclass(frozen=True)
class CheckOptions:
    """Whether and how the selection is checked by training on it.

    Attributes:
        check: train on the kept examples, on as many random ones, and on all the data, in full and for fewer epochs,
            and report which is best and by how much.
        check_seeds: repeats with paired weights and orders; one is only an indication.
        train_epochs: epochs of the training on the kept examples that is planned, for the check and the cost; Beta
            sampling keeps the easier examples that a short one wants (c_d, as published from 200 epochs on). Default:
            as many as ``schedule_epochs``.
    """

    PANEL: ClassVar[str] = "Check"

    check: bool = False
    check_seeds: Annotated[int, Option("N", min=1)] = 1
    train_epochs: Annotated[int | None, Option("N", min=1)] = None


@verb(
    "datawinnow prune digits --keep 0.3 --check",
    "datawinnow prune my-images/ --keep 0.3 --epochs 30 --schedule-epochs 200 --out kept/",
    "datawinnow prune data.parquet --keep 0.5 --score el2n --select top",
    "datawinnow prune my-images/ --keep 0.3 --method k_center --embedding hf:my-vit",
    docs=api.prune,
)
def prune(
    data: DataArgument,
    keep: Keep,
    loading: LoadOptions,
    training: TrainingOptions,
    choosing: MethodOptions,
    checking: CheckOptions,
    clean: Annotated[bool, Option(panel="Method")] = False,
    epochs: Epochs = 30,
    schedule_epochs: ScheduleEpochs = None,
    until_stable: UntilStable = False,
    seed: Seed = 0,
    run: RunOption = None,
    log_dir: LogDir = None,
    out: Annotated[Path | None, Option("FOLDER", panel=OUTPUT_PANEL)] = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Record, score and select in one: from a dataset to the examples worth training on.

    An estimate of the time comes first. Then a short training on all the data is recorded, every example is scored,
    and the fraction --keep is kept (by default with DUAL and Beta sampling). The result shows what was kept and why,
    what that cost and when it pays back, and a page with images. Stop it at any moment and run the same command again:
    it resumes from the last whole epoch.
    """
    from datawinnow.runs.early_stopping import THRESHOLD

    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        kept = api.prune(
            data,
            keep=keep,
            method=None if clean and choosing == MethodOptions() else choosing.to_method(),
            clean=clean,
            epochs=epochs,
            schedule_epochs=schedule_epochs,
            until_stable=THRESHOLD if until_stable else None,
            train_epochs=checking.train_epochs,
            model=training.model,
            model_options=training.model_options,
            recipe=training.recipe(),
            seed=seed,
            load=loading,
            run=run,
            log_dir=log_dir,
            check=checking.check,
            check_seeds=checking.check_seeds,
            out=out,
            report=not no_report,
            progress=stage,
            log=None if quiet else screen.note,
        )
    assert kept.run is not None
    _print_pruned(screen, kept, kept.run, out)
    if words := selection_of_every_class(kept.run.path / "selection.parquet", kept.run.path, choosing):
        screen.next(*words, *training.function_flags())
        return
    epochs_flags = ("--epochs", str(kept.train_epochs))
    screen.next(
        "train", data, "--select", str(kept.run.path), *epochs_flags, *option_flags(loading), *option_flags(training)
    )


def _print_pruned(screen: Screen, kept: Pruned, folder: RunFolder, out: Path | None) -> None:
    file = folder.path / "selection.parquet"
    if kept.check is not None:
        screen.print(kept.check["sentence"])
    screen.print(kept_line(file))
    costs = cost_rows(folder, kept.train_epochs or folder.epochs, kept.check)
    rows = [("selection", str(file)), *reason_rows(file), *costs]
    if out is not None:
        rows.append(("written", f"{out}: the kept examples, in their original layout"))
    if kept.report is not None:
        rows.append(("report", str(kept.report)))
    screen.rows(rows)
    if kept.check is not None:
        from datawinnow import report

        screen.print()
        screen.print(report.text_table(kept.check["rows"], near_chance=False))


def cost_rows(folder: RunFolder, train_epochs: int, check: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """What was spent on scoring, and the trainings after which it is paid back."""
    from datawinnow.core.cost import Cost
    from datawinnow.core.verdict import FULL, Comparison, payback

    selected, stages = folder.metadata["options"]["select"], folder.metadata["cost"]
    if not selected["charge"]:
        return [("cost", f"nothing: {selected['label']} reads no recording")]
    # the whole recording, also where the score read only its first epochs, and all probes of its network
    costs = [Cost.from_dict(stages[name]) for name in SELECTION_STAGES if name in stages]
    to_full = (check or {}).get("comparisons", {}).get(FULL)
    text = payback(
        sum(cost.passes for cost in costs),
        n=folder.n,
        kept=int(selected["budget"]),
        epochs=train_epochs,
        to_full=Comparison(**to_full) if to_full else None,
    )
    return [("cost", f"{duration(sum(cost.seconds for cost in costs))}. {text}")]
