"""``datawinnow prune``: the main job."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datawinnow.cli import datasets as found
from datawinnow.cli.options import (
    Choosing,
    Epochs,
    Keep,
    Loading,
    Quiet,
    Run,
    ScheduleEpochs,
    Seed,
    Source,
    Training,
    UntilStable,
)
from datawinnow.cli.select import kept_line, reasons
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.duration import duration
from datawinnow.core.errors import DataError

if TYPE_CHECKING:
    from datawinnow.methods import Method
    from datawinnow.runs.folder import RunFolder

SCORING = ("record", "probe", "subsets", "score", "select")
"""Stages that find a selection, as ``run.json`` names them."""
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Write the kept examples there, in the layout they came in; new or empty. Default: they are not written.",
        rich_help_panel="Output",
        show_default=False,
    ),
]
NoReport = Annotated[
    bool,
    typer.Option("--no-report", help="Do not write the HTML page.", rich_help_panel="Output", show_default=False),
]


@dataclass(frozen=True)
class Checking:
    """Whether and how the selection is checked by training on it."""

    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Train on the kept examples, on as many random ones, and on all the data for fewer epochs, and say "
            "which won and by how much.",
            rich_help_panel="Check",
            show_default=False,
        ),
    ] = False
    check_seeds: Annotated[
        int,
        typer.Option(
            "--check-seeds",
            metavar="N",
            help="How many times, with paired weights and orders; one is only an indication.",
            rich_help_panel="Check",
            min=1,
        ),
    ] = 1
    train_epochs: Annotated[
        int | None,
        typer.Option(
            "--train-epochs",
            metavar="N",
            help="Epochs of the training that is planned, for the check and the cost; told, Beta sampling keeps the "
            "easier examples that a short training wants (c_d). Default: as many as --schedule-epochs, and "
            "c_d as published.",
            rich_help_panel="Check",
            show_default=False,
            min=1,
        ),
    ] = None


@verb(
    "datawinnow prune digits --keep 0.3 --check",
    "datawinnow prune my-images/ --keep 0.3 --epochs 30 --schedule-epochs 200 --out kept/",
    "datawinnow prune data.parquet --keep 0.5 --score el2n --select top",
)
def prune(
    data: Source,
    keep: Keep,
    loading: Loading,
    training: Training,
    choosing: Choosing,
    checking: Checking,
    epochs: Epochs = 30,
    schedule_epochs: ScheduleEpochs = None,
    until_stable: UntilStable = False,
    seed: Seed = 0,
    run: Run = None,
    out: Out = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Record, score and select in one: from a dataset to the examples worth training on.

    Says first how long it will take. Then a short training on all the data is recorded, every example is scored, and
    the fraction --keep is kept (by DUAL with Beta sampling unless told otherwise). It ends with what was kept and why,
    what that cost and when it pays back, and a page with images. Stop it at any moment and run the same command
    again: it goes on from the last whole epoch.
    """
    from datawinnow.runs.early_stopping import settled_for
    from datawinnow.runs.probe_arrays import check_movable
    from datawinnow.runs.select import select_run

    screen = Screen(quiet=quiet)
    method = choosing.chosen().fitted(checking.train_epochs)
    method.dry_run(keep=keep, epochs=epochs)
    _free(out)
    recipe = training.recipe()
    how = {"model": training.model, "model_options": training.model_options(), "seed": seed}
    train, test, folder = found.begin(data, loading, screen, run, **how)
    check_movable(method.needs, train)
    planned = checking.train_epochs or schedule_epochs or epochs
    checks = {"check": checking.check, "seeds": checking.check_seeds, "planned": planned, "until": until_stable}
    if folder.metadata["status"].get("record") != "done" or checking.check:
        _estimate(screen, folder, train, method, recipe, keep, epochs, checks, how)
    if method.needs_recording:
        until = settled_for(method, keep=keep, epochs=epochs) if until_stable else None
        options = {
            "epochs": epochs,
            "schedule_epochs": schedule_epochs,
            "recipe": recipe,
            "until_stable": until,
            "source": data,
        }
        _record(screen, folder, train, test, method, how, **options)
    with screen.stage() as stage:
        stage(f"selecting by {method.label}", 0, 1)
        probe_kwargs = {"progress": stage, "log": screen.note}
        selection = select_run(folder, train, keep=keep, method=method, seed=seed, probe_kwargs=probe_kwargs)
        stage(f"selecting by {method.label}", 1, 1)
    answer = None
    if checking.check:
        answer = _check(screen, folder, train, test, selection, keep, recipe, checks)
    if out is not None:
        from datawinnow.data.write import write_kept

        write_kept(train, selection.index, out)
    page = None if no_report else _report(folder)
    _tell(screen, folder, planned, answer, out, page, data, training)


def _free(out: Path | None) -> None:
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out} exists already and is not an empty folder; give another, or remove it")


def _estimate(
    screen: Screen,
    folder: RunFolder,
    train: Any,
    method: Method,
    recipe: Any,
    keep: float,
    epochs: int,
    checks: dict[str, Any],
    how: dict[str, Any],
) -> None:
    if screen.quiet:
        return
    from datawinnow.runs.estimate import estimate, sentence

    answer = estimate(
        train,
        epochs=epochs,
        model=how["model"],
        model_options=how["model_options"],
        recipe=recipe,
        method=method,
        keep=keep if checks["check"] else None,
        train_epochs=checks["planned"] if checks["check"] else None,
    )
    stages = answer["seconds_by_stage"]
    if folder.metadata["status"].get("record") == "done":
        stages.pop("record", None)
    if "train" in stages:  # three trainings a seed, of as many examples each
        stages["check"] = 3 * checks["seeds"] * stages.pop("train")
    if stages:
        most = ", if the ranking does not settle before" if checks["until"] and "record" in stages else ""
        screen.note(f"estimate{most}: {sentence({**answer, 'seconds': sum(stages.values())})}")


def _record(
    screen: Screen, folder: RunFolder, train: Any, test: Any, method: Method, how: dict[str, Any], **options: Any
) -> None:
    from datawinnow.cli.record import all_signals
    from datawinnow.runs.record import record_run

    options["source"] = found.lasting(options["source"])
    signals = all_signals(["kl_step"] if "kl_step" in method.needs else [])
    log = found.but_network(screen)
    with screen.stage("recording") as stage:
        done = record_run(train, folder.path, test=test, signals=signals, progress=stage, log=log, **how, **options)
    folder.metadata = done.metadata


def _check(
    screen: Screen,
    folder: RunFolder,
    train: Any,
    test: Any,
    selection: Any,
    keep: float,
    recipe: Any,
    checks: dict[str, Any],
) -> dict[str, Any]:
    from datawinnow.bench.check import check

    with screen.stage() as stage:
        return check(
            folder,
            train,
            test,
            selection,
            keep=keep,
            epochs=checks["planned"],
            seeds=checks["seeds"],
            recipe=recipe,
            progress=stage,
        )


def _report(folder: RunFolder) -> Path:
    from datawinnow import report

    page: Path = report.write(folder.path)
    return page


def _tell(
    screen: Screen,
    folder: RunFolder,
    planned: int,
    answer: dict[str, Any] | None,
    out: Path | None,
    page: Path | None,
    data: str,
    training: Training,
) -> None:
    file = folder.path / "selection.parquet"
    screen.say(kept_line(file))
    rows = [("selection", str(file)), *reasons(file), *cost_lines(folder, planned)]
    if answer is not None:
        rows.append(("check", answer["sentence"]))
    if out is not None:
        rows.append(("written", f"{out}: the kept examples, in the layout they came in"))
    if page is not None:
        rows.append(("report", str(page)))
    screen.rows(rows)
    if answer is not None:
        from datawinnow import report

        screen.say()
        screen.say(report.text_table(answer["rows"]))
    screen.next("train", data, "--select", str(folder.path), "--epochs", str(planned), *training.network())


def cost_lines(folder: RunFolder, planned: int) -> list[tuple[str, str]]:
    """What was spent, against a full training of ``planned`` epochs, and after how many trainings that is paid back."""
    from datawinnow.core.cost import Cost, break_even

    about, n = folder.metadata["options"]["select"], folder.n
    stages = folder.metadata["cost"]
    if not about["charge"]:
        return [("cost", f"nothing: {about['label']} reads no recording")]
    # what was spent: the whole recording, also where the score read only its first epochs, and all looks at its network
    spent = [Cost.from_dict(stages[name]) for name in SCORING if name in stages]
    charged = round(sum(cost.passes for cost in spent))
    full, pruned = planned * n, planned * int(about["budget"])
    seconds = sum(cost.seconds for cost in spent)
    runs = break_even(charged, full, pruned)
    again = (
        "which never pays back: a training on the kept examples is no cheaper"
        if math.isinf(runs)
        else f"paid back after {runs:.1f} trainings on the kept examples ({pruned:,} each)"
    )
    return [
        ("cost", f"{charged:,} examples passed in {duration(seconds)}: {100 * charged / full:.0f}% of a full training"),
        ("", f"({full:,} for {planned} epochs), {again}"),
    ]
