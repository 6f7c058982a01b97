"""Record, score and select in one, on a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datawinnow.core.arrays import RECORDED
from datawinnow.core.progress import Progress
from datawinnow.core.selection import Selection
from datawinnow.data.kept import Kept
from datawinnow.methods import Method
from datawinnow.runs.early_stopping import stability_for
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import Model
from datawinnow.runs.record import RunSetup, record_setup
from datawinnow.runs.select import select_run
from datawinnow.train import Recipe


@dataclass(frozen=True, eq=False)
class Pruned(Kept):
    """The kept examples, with what led to them.

    Attributes:
        run: the run folder; None where a temporary one was used, or none.
        test: the test split; None without one.
        check: rows and sentence of the check (`datawinnow.bench.check.check`); None without one.
        report: the HTML page; None without one.
        train_epochs: epochs that the training on the kept examples is planned for.
    """

    run: RunFolder | None = None
    test: Any = None
    check: dict[str, Any] | None = None
    report: Path | None = None
    train_epochs: int | None = None

    @property
    def verdict(self) -> str | None:
        """The verdict of the check in a line; None without a check."""
        return None if self.check is None else str(self.check["verdict"])

    def __repr__(self) -> str:
        return super().__repr__() if self.verdict is None else f"{super().__repr__()}\n{self.verdict}"


def prune_run(
    setup: RunSetup,
    method: Method,
    *,
    keep: float,
    epochs: int = 30,
    schedule_epochs: int | None = None,
    until_stable: float | None = None,
    recipe: Recipe | None = None,
    test: Any = None,
    val: Any = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    gallery: bool = True,
    check_selection: Callable[[Selection], None] | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Selection:
    """Record if the method needs it, score, and select; a run that was killed resumes, and nothing is done twice.

    Args:
        setup: from `begin_run`.
        method: the pruning method.
        keep: fraction kept, in (0, 1].
        epochs: epochs recorded.
        schedule_epochs: length of the training whose schedule is followed; by default ``epochs``.
        until_stable: end the recording once two halves of its last 10 epochs agree to this rank correlation; None to
            record all of them.
        recipe: how to train.
        test: held-out split, for the report only.
        val: held-out data, for methods that match it.
        model: the function that made the network, or its ``"module:function"``, where the run recorded with one.
        model_options: options of that function.
        gallery: whether to write the gallery, of images or texts.
        check_selection: called with the selection before anything is written about it; it may raise.
        progress: called after each step.
        log: called with what was chosen and noticed.

    Returns:
        The selection; it is in ``selection.parquet`` of the run folder too.
    """
    if method.needs_recording:
        stability = None
        if until_stable is not None:
            stability = stability_for(method, keep=keep, epochs=epochs, threshold=until_stable)
        record_setup(
            setup,
            test=test,
            epochs=epochs,
            schedule_epochs=schedule_epochs,
            recipe=recipe,
            signals=(*RECORDED, "kl_step") if "kl_step" in method.needs else RECORDED,
            until_stable=stability,
            progress=progress,
            log=log,
        )
    if progress is not None:
        progress(f"selecting by {method.label}", 0, 1)
    selection = select_run(
        setup.folder,
        setup.info,
        keep=keep,
        method=method,
        seed=setup.seed,
        gallery=gallery,
        check_selection=check_selection,
        model=model,
        model_options=model_options,
        val=val,
        progress=progress,
        log=log,
    )
    if progress is not None:
        progress(f"selecting by {method.label}", 1, 1)
    return selection
