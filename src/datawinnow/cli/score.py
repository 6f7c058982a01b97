"""``datawinnow score``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from datawinnow import api
from datawinnow.cli.options import DataOverride, Quiet, ReadEpochs, RecordedModel, RecordedModelOptions, RunPath
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.options import Option


@verb(
    "datawinnow score runs/digits --score dual --score el2n",
    "datawinnow score runs/digits --score all",
    "datawinnow score runs/digits --score dual --option window=5",
    "datawinnow score runs/digits --score curvature --option mode=rademacher",
    "datawinnow score runs/digits --score memorization --subset-runs 8",
    docs=api.score,
)
def score(
    run: RunPath,
    scores: Annotated[Sequence[str], Option("NAME", flags=("--score",))],
    options: Annotated[dict[str, Any] | None, Option(flags=("--option",))] = None,
    embedding: Annotated[str | None, Option("hf:PATH|module:function")] = None,
    epochs: ReadEpochs = None,
    subset_runs: Annotated[int | None, Option("N", min=2)] = None,
    data: DataOverride = None,
    model: RecordedModel = None,
    model_options: RecordedModelOptions = None,
    quiet: Quiet = False,
) -> None:
    """Compute scores from a recording.

    Any number of scores costs no training beyond the one recording; those that need features, gradients or distances
    probe the recorded network once, and the run folder keeps the arrays. Scores are added to scores.parquet in the
    run folder, a column each, with the options and the end of the ranking that the score's paper keeps.
    """
    from datawinnow.scores import METHODS

    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        values = api.score(
            run,
            scores,
            options=options,
            embedding=embedding,
            epochs=epochs,
            subset_runs=subset_runs,
            data=data,
            model=model,
            model_options=model_options,
            progress=stage,
            log=screen.note,
        )
    lines = []
    for key, value in values.items():
        defined = value[~value.isnan()]
        quantiles = [f"{float(defined.quantile(q)):.4g}" for q in (0.0, 0.5, 1.0)] if len(defined) else ["-"] * 3
        card = getattr(METHODS.get(key), "card", None)
        lines.append([key, *quantiles, str(len(value) - len(defined)), str(card.end if card else "high")])
    screen.table(["score", "lowest", "median", "highest", "undefined", "kept end"], lines)
    screen.print(f"written to {run / 'scores.parquet'}")
    screen.next("select", str(run), "--keep", "0.3", "--score", next(iter(values)))
