"""``datawinnow estimate``."""

from __future__ import annotations

from typing import Annotated

import typer

from datawinnow.cli import datasets as found
from datawinnow.cli.options import Choosing, Epochs, Loading, Quiet, Source, Training
from datawinnow.cli.ui import Screen, columns
from datawinnow.cli.verb import verb
from datawinnow.core.duration import duration


@verb("datawinnow estimate my-images/ --method dual --epochs 30", "datawinnow estimate my-images/ --keep 0.3")
def estimate(
    data: Source,
    loading: Loading,
    training: Training,
    choosing: Choosing,
    epochs: Epochs = 30,
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep",
            metavar="FRACTION",
            help="Estimate training on this fraction as well, in (0, 1].",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say how many seconds and how much memory a method will take, before anything runs.

    A few training steps are timed on this machine; the rest is counted.
    """
    from datawinnow.core.budget import budget_of

    if keep is not None:
        budget_of(keep, 1)
    screen = Screen(quiet=quiet)
    recipe, options, method = training.recipe(), training.model_options(), choosing.chosen()
    train, _ = found.load(data, loading.given(), screen)
    from datawinnow.runs.estimate import estimate as estimate_run

    answer = estimate_run(
        train, epochs=epochs, model=training.model, model_options=options, recipe=recipe, keep=keep, method=method
    )
    screen.say(answer["sentence"])
    screen.say()
    stages = [[stage, duration(seconds)] for stage, seconds in answer["seconds_by_stage"].items()]
    screen.say(columns(["stage", "time"], [*stages, ["all", duration(answer["seconds"])]]))
    screen.say()
    parts = [[part, f"{size / 1e6:,.1f} MB"] for part, size in answer["memory_by_part"].items()]
    screen.say(columns(["memory", "size"], [*parts, ["at the peak", f"{answer['memory'] / 1e6:,.1f} MB"]]))
