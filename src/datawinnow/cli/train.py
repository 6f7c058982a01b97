"""``datawinnow train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from datawinnow.cli import found
from datawinnow.cli.options import Loading, Quiet, Seed, Source, Training
from datawinnow.cli.ui import Screen, duration
from datawinnow.cli.verb import verb

Select = Annotated[
    Path | None,
    typer.Option(
        "--select",
        metavar="FILE",
        help="selection.parquet, or the run folder that holds it. Default: train on all.",
        show_default=False,
    ),
]
Passes = Annotated[
    int, typer.Option("--epochs", metavar="N", help="Passes over the kept examples.", rich_help_panel="Training")
]
OwnRun = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="FOLDER",
        help="Run folder to write. Default: runs/ and the names of dataset, method, keep and seed.",
        rich_help_panel="Output",
        show_default=False,
    ),
]


@verb(
    "datawinnow train my-pictures/ --select runs/my-pictures --epochs 30",
    "datawinnow train my-pictures/ --epochs 30",
)
def train(
    data: Source,
    loading: Loading,
    training: Training,
    select: Select = None,
    epochs: Passes = 30,
    seed: Seed = 0,
    run: OwnRun = None,
    quiet: Quiet = False,
) -> None:
    """Train on the kept examples, or on all, and say what it reached and cost.

    The accuracy is that of the last epoch on the test split. The total cost includes the scoring that found the
    examples.
    The network, the history and the cost are left in a run folder; a training that was stopped goes on from its last
    whole epoch.
    """
    from datawinnow.core.selection import Selection
    from datawinnow.pipeline.tables import read_selection
    from datawinnow.pipeline.training import train_run

    screen = Screen(quiet=quiet)
    recipe, model_options = training.recipe(), training.model_options()
    selection: Selection | None = None
    # read before the data are: a wrong file is told at once, and the data are loaded as they were for the selection
    about: dict[str, Any] = read_selection(select)[1] if select is not None else {}
    options = {**about.get("load", {}), **loading.given()}
    examples, test = found.load(data, options, screen)
    if select is not None:
        selection, about = read_selection(select, fingerprint=examples.fingerprint, name=examples.name)
    path = found.default_run(examples, run, suffix=_suffix(about, seed))
    with screen.stage("training") as stage:
        folder = train_run(
            examples,
            path,
            test=test,
            selection=selection,
            about=about,
            epochs=epochs,
            model=training.model,
            model_options=model_options,
            seed=seed,
            recipe=recipe,
            source=found.lasting(data),
            load=options,
            progress=stage,
            tell=screen.note,
        )
    _tell(screen, folder, about, epochs, len(test))


def _suffix(about: dict[str, Any], seed: int) -> str:
    name = f"-{about['method']}-{about['keep']:g}" if about else "-full"
    return name + (f"-seed{seed}" if seed else "")


def _tell(screen: Screen, folder: Any, about: dict[str, Any], epochs: int, test_n: int) -> None:
    cost, result = folder.facts["cost"]["train"], folder.facts["result"]
    scoring, n = int(about.get("charge", 0)), folder.n
    total = cost["backward"] + scoring
    accuracy = result["test_accuracy"]
    screen.say(
        f"accuracy {100 * accuracy:.2f}% on {test_n:,} test examples after the last of {epochs} epochs"
        if accuracy is not None
        else f"trained {epochs} epochs; there is no test split to say how well"
    )
    parts = f"{cost['backward']:,} in training + {scoring:,} in scoring" if about else "all in training"
    rows = [("cost", f"{total:,} examples passed ({parts}); training took {duration(cost['seconds'])}")]
    if about:
        full = epochs * n
        rows.append(("against", f"{full:,} for {epochs} epochs on all {n:,}: {100 * total / full:.0f}% of it"))
    screen.rows([*rows, ("run", str(folder.path))])
