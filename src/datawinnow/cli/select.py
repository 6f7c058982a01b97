"""``datawinnow select``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from datawinnow import api
from datawinnow.cli.options import (
    DataOverride,
    Keep,
    MethodOptions,
    Quiet,
    ReadEpochs,
    RecordedModel,
    RecordedModelOptions,
    RunPath,
    option_flags,
)
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.options import Option


@verb(
    "datawinnow select runs/digits --keep 0.3",
    "datawinnow select runs/digits --keep 0.3 --score el2n --select coverage --out el2n.parquet",
    "datawinnow select runs/digits --keep 0.3 --method k_center",
    docs=api.select,
)
def select(
    run: RunPath,
    keep: Keep,
    choosing: MethodOptions,
    out: Annotated[Path | None, Option("FILE")] = None,
    epochs: ReadEpochs = None,
    seed: Annotated[int, Option("N")] = 0,
    data: DataOverride = None,
    model: RecordedModel = None,
    model_options: RecordedModelOptions = None,
    quiet: Quiet = False,
) -> None:
    """Choose which examples to keep, from a recording.

    Writes a Parquet file with every example: kept or not, in which order, with what weight, why, and the evidence. DUAL
    with Beta sampling chooses by default. A method that needs features, gradients or distances probes the recorded
    network once; the arrays stay in the run folder.
    """
    from datawinnow.core.budget import budget_of
    from datawinnow.runs.folder import RunFolder

    budget_of(keep, 1)
    screen = Screen(quiet=quiet)
    method = choosing.to_method()
    folder = RunFolder.open(run)
    with screen.stage() as stage:
        api.select(
            folder,
            keep=keep,
            method=method,
            epochs=epochs,
            seed=seed,
            out=out,
            data=data,
            model=model,
            model_options=model_options,
            progress=stage,
            log=screen.note,
        )
    file = out or folder.path / "selection.parquet"
    screen.print(kept_line(file))
    screen.rows([("selection", str(file)), *reason_rows(file)])
    if words := selection_of_every_class(file, folder.path, choosing):
        values = (("--epochs", epochs), ("--seed", seed or None), ("--out", out), ("--data", data), ("--model", model))
        words += [word for flag, value in values if value is not None for word in (flag, str(value))]
        words += [word for key, value in (model_options or {}).items() for word in ("--model-option", f"{key}={value}")]
        screen.next(*words)
        return
    options = folder.metadata["options"]
    planned = (options.get("prune") or {}).get("train_epochs") or (options.get("record") or {}).get("schedule_epochs")
    epochs_flags = ("--epochs", str(planned)) if planned else ()
    screen.next("train", folder.dataset.source or "DATA", "--select", str(file), *epochs_flags)


def selection_of_every_class(file: Path, run: Path, choosing: MethodOptions) -> list[str]:
    """The command that keeps something of every class, where the selection in ``file`` does not; else nothing."""
    from datawinnow.runs.selection_file import keep_of_every_class

    keep = keep_of_every_class(file)
    if keep is None:
        return []
    return ["select", str(run), "--keep", f"{keep:g}", *option_flags(replace(choosing, per_class=True))]


def kept_line(file: Path) -> str:
    """``kept 431 of 1,438 examples (30%) by DUAL+Beta``."""
    from datawinnow.runs.selection_file import read_selection

    selection, metadata = read_selection(file)
    n = metadata["n"]
    return f"kept {len(selection):,} of {n:,} examples ({100 * len(selection) / n:.3g}%) by {metadata['label']}"


def reason_rows(file: Path) -> list[tuple[str, str]]:
    """How many examples are in and out for which reason."""
    from datawinnow.core.reason import REASON_SENTENCES, Reason
    from datawinnow.runs.selection_file import read_selection

    selection, _ = read_selection(file)
    if selection.reason is None:
        return []
    counts = selection.reason.long().bincount(minlength=128).tolist()
    return [("reason", f"{counts[code]:,} {REASON_SENTENCES[code]}") for code in Reason if counts[code]]
