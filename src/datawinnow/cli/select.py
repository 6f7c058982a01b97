"""``datawinnow select``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datawinnow.cli import datasets as found
from datawinnow.cli.options import Choosing, DataOverride, Keep, Quiet, ReadEpochs, RunArgument, SelectSeed
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb


@verb(
    "datawinnow select runs/digits --keep 0.3",
    "datawinnow select runs/digits --keep 0.3 --score el2n --select coverage --out el2n.parquet",
    "datawinnow select runs/digits --keep 0.3 --method k_center",
)
def select(
    run: RunArgument,
    keep: Keep,
    choosing: Choosing,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where to write the selection. Default: selection.parquet in the run folder, beside the gallery.",
            show_default=False,
        ),
    ] = None,
    epochs: ReadEpochs = None,
    seed: SelectSeed = 0,
    data: DataOverride = None,
    quiet: Quiet = False,
) -> None:
    """Choose which examples to keep, from a recording.

    Writes a Parquet file with every example: kept or not, in which order, with what weight, why, and the evidence. DUAL
    with Beta sampling chooses unless told otherwise. A method that needs features, gradients or distances looks at the
    recorded network once; what that makes stays in the run folder.
    """
    from datawinnow.core.budget import budget_of
    from datawinnow.runs.folder import RunFolder
    from datawinnow.runs.select import select_run

    budget_of(keep, 1)
    screen = Screen(quiet=quiet)
    method = choosing.chosen()
    folder = RunFolder.open(run)
    train, _ = found.dataset_of(folder, data, screen)
    with screen.stage() as stage:
        probe_kwargs = {"progress": stage, "log": screen.note}
        select_run(
            folder, train, keep=keep, method=method, seed=seed, epochs=epochs, out=out, probe_kwargs=probe_kwargs
        )
    file = out or folder.path / "selection.parquet"
    screen.say(kept_line(file))
    screen.rows([("selection", str(file)), *reasons(file)])
    screen.next("train", folder.metadata["dataset"].get("source") or "DATA", "--select", str(file))


def kept_line(file: Path) -> str:
    """``kept 431 of 1,438 examples (30%) by DUAL+Beta``."""
    from datawinnow.runs.selection_file import read_selection

    selection, about = read_selection(file)
    share = 100 * len(selection) / about["n"]
    return f"kept {len(selection):,} of {about['n']:,} examples ({share:.3g}%) by {about['label']}"


def reasons(file: Path) -> list[tuple[str, str]]:
    """How many examples are in and out for which reason."""
    from datawinnow.core.reason import REASON_SENTENCES, Reason
    from datawinnow.runs.selection_file import read_selection

    selection, _ = read_selection(file)
    if selection.reason is None:
        return []
    counts = selection.reason.long().bincount(minlength=128).tolist()
    return [("why", f"{counts[code]:,} {REASON_SENTENCES[code]}") for code in Reason if counts[code]]
