"""``datawinnow record``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from datawinnow import api
from datawinnow.api import LoadOptions
from datawinnow.cli.options import (
    TRAINING_PANEL,
    DataArgument,
    Epochs,
    LogDir,
    Quiet,
    RunOption,
    ScheduleEpochs,
    Seed,
    TrainingOptions,
    UntilStable,
)
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.counts import many
from datawinnow.core.duration import duration
from datawinnow.core.options import Option


@verb(
    "datawinnow record my-images/ --epochs 30 --schedule-epochs 200",
    "datawinnow record digits --signals kl_step",
    "datawinnow record my-images/ --epochs 30 --schedule-epochs 200 --until-stable",
    docs=api.record,
)
def record(
    data: DataArgument,
    loading: LoadOptions,
    training: TrainingOptions,
    epochs: Epochs = 30,
    schedule_epochs: ScheduleEpochs = None,
    until_stable: UntilStable = False,
    seed: Seed = 0,
    signals: Annotated[Sequence[str], Option("NAME", panel=TRAINING_PANEL)] = (),
    run: RunOption = None,
    log_dir: LogDir = None,
    quiet: Quiet = False,
) -> None:
    """Train briefly on all the data and record every example at every visit.

    One recording serves every score: loss, probability of the label, margins, correctness and more, an (epochs, n)
    column each. Stop it at any moment and run the same command again: it resumes from the last whole epoch, to the
    same bytes. A recording that follows a longer schedule (--schedule-epochs) or a constant one can be extended: run
    the same command with more --epochs, such as 50 after 40.
    """
    from datawinnow.runs.early_stopping import THRESHOLD

    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        folder = api.record(
            data,
            epochs=epochs,
            schedule_epochs=schedule_epochs,
            until_stable=THRESHOLD if until_stable else None,
            signals=signals,
            model=training.model,
            model_options=training.model_options,
            recipe=training.recipe(),
            seed=seed,
            load=loading,
            run=run,
            log_dir=log_dir,
            progress=stage,
            log=screen.note,
        )
    cost = folder.metadata["cost"]["record"]
    screen.print(f"recorded {many(folder.epochs, 'epoch')} of {many(folder.n, 'example')}")
    screen.rows(
        [
            ("signals", ", ".join(sorted(folder.arrays()))),
            ("cost", f"{cost['backward']:,} examples passed in {duration(cost['seconds'])}"),
            ("run", str(folder.path)),
        ]
    )
    screen.next("select", str(folder.path), "--keep", "0.3", *_method_flags(folder.epochs), *training.function_flags())


def _method_flags(epochs: int) -> tuple[str, ...]:
    """What the default method needs to be told of a recording that is shorter than its windows."""
    import inspect

    from datawinnow.scores import dual

    if epochs >= inspect.signature(dual).parameters["window"].default:
        return ()
    # a standard deviation needs two epochs
    return ("--option", f"window={epochs}") if epochs > 1 else ("--score", "el2n")
