"""`prune`: record, score and select in one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from datawinnow.core.arrays import RECORDED
from datawinnow.core.budget import budget_of
from datawinnow.core.progress import Progress
from datawinnow.core.rng import stream
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.kept import Kept
from datawinnow.methods import Method, create_method
from datawinnow.runs.early_stopping import settled_for
from datawinnow.runs.network import Model
from datawinnow.runs.probe_arrays import check_movable
from datawinnow.runs.record import begin_run, record_run
from datawinnow.runs.select import select_run
from datawinnow.train import Recipe


def prune(
    train: Any,
    *,
    keep: float,
    method: str | Method | None = None,
    epochs: int = 30,
    schedule_epochs: int | None = None,
    model: Model = None,
    seed: int = 0,
    run: Path | str | None = None,
    test: Any = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    val: Any = None,
    until_stable: float | None = None,
    train_epochs: int | None = None,
    **parts: Any,
) -> Kept:
    """Record a short training run, score every example, and keep the fraction worth keeping.

    Args:
        train: `Examples` or any map-style dataset of ``(x, y)``.
        keep: fraction **kept**, in (0, 1].
        method: DUAL with Beta sampling unless told; see ``datawinnow methods``.
        epochs: epochs recorded. DUAL's paper records 30 of a 200-epoch schedule.
        schedule_epochs: length of the training that is planned, whose schedule is followed; ``epochs`` unless told.
        model: network to record with; chosen by the images' size unless told.
        seed: of everything random.
        run: run folder to leave behind, which resumes after a kill; a temporary one when None.
        test: held-out split, for the report only.
        recipe: how to train.
        progress: told after each step.
        val: held-out data, for methods that match it (GLISTER, GradMatch); never the test split. Without it a tenth of
            ``train`` stands in where a method cannot do without.
        until_stable: record fewer than ``epochs`` once the ranking by DUAL has settled: once two halves of the last 10
            epochs agree on it so far, in (0, 1]; 0.5 is what the command line takes.
        train_epochs: epochs that the kept examples will be trained for, where that is settled: Beta sampling then
            chooses the easier examples that a short training wants (`datawinnow.select.fitted_c_d`).
        parts: ``score``, ``select_by``, ``options``, ``score_options``, ``per_class``: a method put together.

    Returns:
        The kept examples, for `fit` or a DataLoader; ``.selection`` says which, with what weight, and why.

    Raises:
        ArgumentError: keep outside (0, 1], unknown names or options, fewer epochs than the score needs; before
            anything is trained.
        MissingArrayError: the method needs an array that neither a recording nor its network makes.
        RunError: ``run`` is about another dataset, or was begun with other options.
    """
    info = dataset_info(train)
    budget_of(keep, len(train))
    chosen = create_method(method, **parts).fitted(train_epochs)
    until = None if until_stable is None else settled_for(chosen, keep=keep, epochs=epochs, enough=until_stable)
    chosen.dry_run(keep=keep, epochs=epochs, n=len(train))
    check_movable(chosen.needs, train)
    if not chosen.needs_recording:  # nothing to learn from a recording
        if run is None and not chosen.needs:
            generator = stream(seed, "select", chosen.key, f"{keep:g}")
            return Kept(train, chosen.run({}, info.labels, keep=keep, generator=generator)[0])
        with tempfile.TemporaryDirectory(prefix="datawinnow-") as scratch:
            folder, _, _ = begin_run(
                info, Path(run) if run is not None else Path(scratch) / "run", model=model, seed=seed
            )
            probe_kwargs = {"val": val, "progress": progress}
            kept = select_run(
                folder, info, keep=keep, method=chosen, seed=seed, gallery=run is not None, probe_kwargs=probe_kwargs
            )
            return Kept(train, kept)
    how: dict[str, Any] = {
        "test": test,
        "epochs": epochs,
        "schedule_epochs": schedule_epochs,
        "model": model,
        "seed": seed,
        "recipe": recipe,
    }
    with tempfile.TemporaryDirectory(prefix="datawinnow-") as scratch:
        folder = record_run(
            info,
            Path(run) if run is not None else Path(scratch) / "run",
            signals=(*RECORDED, "kl_step") if "kl_step" in chosen.needs else RECORDED,
            until_stable=until,
            progress=progress,
            **how,
        )
        own = model if callable(model) else None
        probe_kwargs = {"model": own, "val": val, "progress": progress}
        options: dict[str, Any] = {"gallery": run is not None, "probe_kwargs": probe_kwargs}
        return Kept(train, select_run(folder, info, keep=keep, method=chosen, seed=seed, **options))
