"""``datawinnow score``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from datawinnow.cli import datasets as found
from datawinnow.cli.options import DataOverride, Quiet, ReadEpochs, RunArgument, key_value, pairs
from datawinnow.cli.ui import Screen, columns
from datawinnow.cli.verb import verb


@verb(
    "datawinnow score runs/digits --score dual --score el2n",
    "datawinnow score runs/digits --score all",
    "datawinnow score runs/digits --score dual --option window=5",
    "datawinnow score runs/digits --score curvature --option mode=rademacher",
    "datawinnow score runs/digits --score memorization --subset-runs 8",
)
def score(
    run: RunArgument,
    scores: Annotated[
        list[str],
        typer.Option(
            "--score",
            metavar="NAME",
            help="A score by name (repeatable), or all that the recording alone has the arrays for. They are listed by "
            "datawinnow methods --kind score.",
            show_default=False,
        ),
    ],
    option: Annotated[
        list[str],
        key_value(
            "--option",
            "Option of the score, or of the look at the network that it needs (repeatable; with one score), for "
            "example window=5 or mode=rademacher.",
        ),
    ] = [],  # noqa: B006
    epochs: ReadEpochs = None,
    subset_runs: Annotated[
        int | None,
        typer.Option(
            "--subset-runs",
            metavar="N",
            help="Networks trained on random 70% subsets, for memorization; what that costs is told before it starts. "
            "Default: as many as there are.",
            show_default=False,
            min=2,
        ),
    ] = None,
    data: DataOverride = None,
    quiet: Quiet = False,
) -> None:
    """Compute scores from a recording.

    Any number of scores costs no training beyond the one recording; those that need features, gradients or distances
    look at the recorded network once, which is kept. They are added to scores.parquet in the run folder, a column each,
    with the options and the end that the score's paper keeps.
    """
    from datawinnow.core.card import card_of
    from datawinnow.runs.folder import RunFolder
    from datawinnow.runs.score import score_run
    from datawinnow.scores import METHODS

    screen = Screen(quiet=quiet)
    folder = RunFolder.open(run)
    there = folder.arrays(epochs)
    if "all" in scores:
        scores = [
            key for key, method in METHODS.items() if all(need in (*there, "labels") for need in card_of(method).needs)
        ]
    train, _ = found.dataset_of(folder, data, screen)
    with screen.stage() as stage:
        probe_kwargs: dict[str, Any] = {"progress": stage, "log": screen.note, "subset_runs": subset_runs}
        values = score_run(folder, train, scores, epochs=epochs, options=pairs(option, "--option"), **probe_kwargs)
    lines = []
    for key, value in values.items():
        known = value[~value.isnan()]
        shown = [f"{float(known.quantile(q)):.4g}" for q in (0.0, 0.5, 1.0)] if len(known) else ["-"] * 3
        card = getattr(METHODS.get(key), "card", None)
        lines.append([key, *shown, str(len(value) - len(known)), str(card.end if card else "high")])
    screen.say(columns(["score", "least", "median", "most", "unknown", "its paper keeps"], lines))
    screen.say(f"written to {folder.path / 'scores.parquet'}")
    screen.next("select", str(folder.path), "--keep", "0.3", "--score", next(iter(values)))
