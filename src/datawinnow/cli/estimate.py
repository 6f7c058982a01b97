"""``datawinnow estimate``."""

from __future__ import annotations

from typing import Annotated

from datawinnow import api
from datawinnow.api import LoadOptions
from datawinnow.cli.options import DataArgument, Epochs, MethodOptions, Quiet, TrainingOptions
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.duration import duration
from datawinnow.core.options import Option


@verb(
    "datawinnow estimate my-images/ --method dual --epochs 30",
    "datawinnow estimate my-images/ --keep 0.3",
    docs=api.estimate,
)
def estimate(
    data: DataArgument,
    loading: LoadOptions,
    training: TrainingOptions,
    choosing: MethodOptions,
    epochs: Epochs = 30,
    keep: Annotated[float | None, Option("FRACTION")] = None,
    train_epochs: Annotated[int | None, Option("N", min=1)] = None,
    quiet: Quiet = False,
) -> None:
    """Estimate how many seconds and how much memory a method takes, before anything runs.

    A few training steps are timed on this machine; the rest is computed from them.
    """
    screen = Screen(quiet=quiet)
    recipe, method = training.recipe(), choosing.to_method()
    with screen.stage() as stage:
        answer = api.estimate(
            data,
            epochs=epochs,
            keep=keep,
            train_epochs=train_epochs,
            method=method,
            model=training.model,
            model_options=training.model_options,
            recipe=recipe,
            load=loading,
            progress=stage,
            log=screen.note,
        )
    screen.print(answer["sentence"])
    if answer["cheaper"]:
        screen.print(answer["cheaper"])
    screen.print()
    stages = [[name, duration(seconds)] for name, seconds in answer["seconds_by_stage"].items()]
    screen.table(["stage", "time"], [*stages, ["all", duration(answer["seconds"])]])
    screen.print()
    sizes = [[name, f"{size / 1e6:,.1f} MB"] for name, size in answer["memory_by_part"].items()]
    screen.table(["memory", "size"], [*sizes, ["at the peak", f"{answer['memory'] / 1e6:,.1f} MB"]])
