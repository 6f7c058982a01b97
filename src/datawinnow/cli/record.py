"""``datawinnow record``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datawinnow.cli import datasets as found
from datawinnow.cli.options import (
    Epochs,
    Loading,
    Quiet,
    Run,
    ScheduleEpochs,
    Seed,
    Signals,
    Source,
    Training,
    UntilStable,
)
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.arrays import RECORDED
from datawinnow.core.duration import duration
from datawinnow.core.errors import ArgumentError


@verb(
    "datawinnow record my-images/ --epochs 30 --schedule-epochs 200",
    "datawinnow record digits --signals kl_step",
    "datawinnow record my-images/ --epochs 30 --schedule-epochs 200 --until-stable",
)
def record(
    data: Source,
    loading: Loading,
    training: Training,
    epochs: Epochs = 30,
    schedule_epochs: ScheduleEpochs = None,
    until_stable: UntilStable = False,
    seed: Seed = 0,
    signals: Signals = [],  # noqa: B006  # typer reads the default; nothing changes it
    run: Run = None,
    quiet: Quiet = False,
) -> None:
    """Train briefly on all the data and record every example at every visit.

    One recording serves every score: loss, probability of the label, margins, correctness and more, an (epochs, n)
    column each. Stop it at any moment and run the same command again: it goes on from the last whole epoch, to the
    same bytes.
    """
    screen = Screen(quiet=quiet)
    which = all_signals(signals)
    recipe, options = training.recipe(), training.model_options()
    how: dict[str, Any] = {"model": training.model, "model_options": options, "seed": seed}
    train, test, folder = found.begin(data, loading, screen, run, **how)
    from datawinnow.runs.early_stopping import ENOUGH
    from datawinnow.runs.record import record_run

    with screen.stage("recording") as stage:
        folder = record_run(
            train,
            folder.path,
            test=test,
            epochs=epochs,
            schedule_epochs=schedule_epochs,
            recipe=recipe,
            signals=which,
            until_stable=ENOUGH if until_stable else None,
            source=found.lasting(data),
            progress=stage,
            log=found.but_network(screen),
            **how,
        )
    cost = folder.metadata["cost"]["record"]
    screen.say(f"recorded {folder.epochs} epochs of {folder.n:,} examples")
    screen.rows(
        [
            ("signals", ", ".join(sorted(folder.arrays()))),
            ("cost", f"{cost['backward']:,} examples passed in {duration(cost['seconds'])}"),
            ("run", str(folder.path)),
        ]
    )
    screen.next("select", str(folder.path), "--keep", "0.3")


def all_signals(extra: Sequence[str]) -> tuple[str, ...]:
    """What is recorded always, and ``extra``.

    Raises:
        ArgumentError: no such signal.
    """
    known = (*RECORDED, "kl_step")
    for name in extra:
        if name not in known:
            raise ArgumentError(f"--signals: no signal is called {name!r}; there are: {', '.join(known)}")
    return tuple(dict.fromkeys([*RECORDED, *extra]))
