"""One cell of a grid: train, evaluate, and account for every example passed."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.bench.arms import arm
from datawinnow.bench.examples_seen import Passed
from datawinnow.bench.grid import Cell, Grid
from datawinnow.bench.recording import Recording, signals_of
from datawinnow.bench.result_row import result_row
from datawinnow.bench.scenario import under_scenario
from datawinnow.core.budget import budget_of
from datawinnow.core.cost import Cost
from datawinnow.core.errors import RunError, TrainingError
from datawinnow.core.files import finite_or_none, read_json, write_json
from datawinnow.core.progress import Progress
from datawinnow.core.rng import forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.kept import Kept
from datawinnow.data.load import load
from datawinnow.models import build, choose
from datawinnow.runs.record import fit_recorded
from datawinnow.train import fit
from datawinnow.train.checkpoint import read_metadata
from datawinnow.vit import SparseLevels

NOTHING = Cost()


@functools.lru_cache(maxsize=2)
def _loaded(source: str, **how: Any) -> Any:
    return load(source, **how)


def datasets_of(grid: Grid) -> tuple[Any, Any]:
    """Train and test split of a grid; decoded once a process."""
    return _loaded(**grid.data.model_dump())  # type: ignore[no-any-return]


def equal_epochs(epochs: int, keep: float, n: int) -> float:
    """Epochs over all ``n`` examples that pass as many as ``epochs`` over those kept; whole where that is whole.

    >>> equal_epochs(30, 0.3, 10_000), equal_epochs(3, 0.5, 60)
    (9, 1.5)
    """
    whole, rest = divmod(epochs * budget_of(keep, n), n)
    return whole + rest / n if rest else whole


@dataclass(frozen=True)
class _Run:
    """What every part of a cell reads."""

    grid: Grid
    cell: Cell
    out: Path
    train: Any
    test: Any
    progress: Progress | None

    @property
    def epochs(self) -> float:
        """Epochs that the cell trains on what it keeps; of a policy, those on all that pass as many examples."""
        epochs = self.grid.train.epochs
        if self.cell.kind in ("shorter_full", "policy"):
            return equal_epochs(epochs, self.cell.keep, len(self.train))
        return epochs

    @property
    def how(self) -> dict[str, Any]:
        """How the cell and its recording train."""
        recipe = self.grid.train.recipe()
        return {"test": self.test, "seed": self.cell.seed, "recipe": recipe, "progress": self.progress}

    @property
    def own(self) -> dict[str, Any]:
        """How the cell itself trains: its method may say otherwise than ``[train]``."""
        return {**self.how, "recipe": self.grid.recipe(self.cell.method, self.cell.keep)}


@dataclass(frozen=True)
class _Reached:
    """Where training ended; without an accuracy where it diverged, and then ``failed`` has the error's words.

    ``epochs`` are those begun, ``changed`` the share of changed examples among those passed, and ``beforehand`` what a
    plan made before the training cost.
    """

    accuracy: float | None = None
    test_loss: float | None = None
    cost: Cost = NOTHING
    failed: str | None = None
    epochs: int = 0
    changed: float | None = None
    beforehand: Cost = NOTHING


def run_cell(grid: Grid, cell: Cell, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Run one cell and return its row; a scored one makes the recording that it needs if it is not there.

    Training that diverges gives a row as well, with ``accuracy`` null and ``failed``; its cost is that of the whole
    epochs before. A recording that diverged is remembered, and fails every cell that needs it without training again.

    Args:
        grid: the grid.
        cell: which.
        out: folder of the results; recordings stand below it and are shared by the cells of a seed and scenario.
        progress: told after each step.
    """
    train, test = datasets_of(grid)
    train, changed = under_scenario(train, cell.scenario, cell.seed)
    run = _Run(grid, cell, out, train, test, progress)
    metadata = _recording(run) if grid.reads_recording(cell) else {}
    failed = metadata.get("failed")
    selection, score, select = Selection.everything(len(train)), NOTHING, NOTHING
    if metadata and cell.kind == "full":
        reached = _Reached(metadata["test_accuracy"], metadata["test_loss"], Cost.from_dict(metadata["cost"]), failed)
    elif failed is not None:
        return _row(run, changed, None, _Reached(failed=failed), score=Cost.from_dict(metadata["cost"]), select=NOTHING)
    else:
        if cell.kind == "static":
            selection, score, select = _select(run, metadata)
        reached = _train(run, selection, changed)
        score += reached.beforehand
    return _row(run, changed, selection, reached, score=score, select=select)


def _row(
    run: _Run, changed: Tensor, selection: Selection | None, reached: _Reached, *, score: Cost, select: Cost
) -> dict[str, Any]:
    """The row of a cell; ``selection`` is None where its recording diverged, so that nothing could be chosen."""
    grid, cell, n = run.grid, run.cell, len(run.train)
    changed_kept = reached.changed if cell.kind == "policy" else None
    if cell.kind != "policy" and selection is not None and bool(changed.any()):
        changed_kept = float(changed[selection.index].float().mean())
    row = result_row(
        benchmark=grid.name,
        dataset=run.train.name,
        fingerprint=datasets_of(grid)[0].fingerprint,
        n=n,
        test_n=len(run.test),
        model=model_name(grid, run.train),
        epochs=grid.train.epochs,
        method=cell.method,
        label=grid.label(cell.method),
        keep=cell.keep,
        kept=budget_of(cell.keep, n) if selection is None or cell.kind == "policy" else len(selection),
        seed=cell.seed,
        scenario=cell.scenario,
        trained_epochs=reached.epochs if cell.kind == "policy" and reached.failed is None else run.epochs,
        accuracy=reached.accuracy,
        test_loss=reached.test_loss,
        changed=float(changed.float().mean()) if bool(changed.any()) else None,
        changed_kept=changed_kept,
        **({"scored_by": model_name(grid, run.train, scoring=True)} if grid.score.model else {}),
        score=score,
        select=select,
        train=reached.cost,
    )
    return row if reached.failed is None else {**row, "failed": reached.failed}


def model_name(grid: Grid, train: Any, *, scoring: bool = False) -> str:
    """The network's name: as the grid says, or chosen for the examples."""
    named = (grid.score.model if scoring else None) or grid.train.model
    words = getattr(train, "vocabulary_size", None)
    return named or choose(train.shape, accelerator=torch.cuda.is_available(), vocabulary=words)[0]


def _network(run: _Run, *, scoring: bool = False) -> torch.nn.Module:
    grid, train, info = run.grid, run.train, dataset_info(run.train)
    options = grid.score.model_options if scoring and grid.score.model else grid.train.model_options
    with forked(run.cell.seed, "weights"):
        return build(
            model_name(grid, train, scoring=scoring),
            shape=info.shape,
            classes=len(info.classes),
            vocabulary=info.vocabulary,
            tokenizer=info.tokenizer,
            **options,
        )


def _train(run: _Run, selection: Selection, changed: Tensor) -> _Reached:
    spent, passed = [NOTHING], Passed(changed)
    told: dict[str, Any] = {"on_epoch": lambda _, history: spent.append(history.cost), "on_plan": passed}
    network, before = _network(run), NOTHING
    levels = run.grid.named(run.cell.method).levels
    network = SparseLevels.from_options(levels).sparsify(network, run.epochs) if levels else network
    how: dict[str, Any] = {"epochs": run.epochs}
    try:
        if run.cell.kind == "policy":
            own = {key: value for key, value in run.own.items() if key != "test"}
            how, before = arm(run.grid, run.cell, run.out, run.train, network, run.epochs, **own)
        _, history = fit(network, Kept(run.train, selection), **how, **told, **run.own)
    except TrainingError as error:
        return _Reached(cost=spent[-1], failed=str(error), beforehand=before)
    reached = _Reached(history.test_accuracy, history.test_loss, history.cost, beforehand=before)
    return dataclasses.replace(reached, epochs=passed.epochs, changed=passed.share)


def recording_folder(cell: Cell, out: Path) -> Path:
    """Where the recording of a cell's seed and scenario stands; it is done with once it has a ``recording.json``."""
    return out / "recordings" / f"{cell.scenario.replace(' ', '-')}-seed{cell.seed}"


def _recording(run: _Run) -> dict[str, Any]:
    """What ``recording.json`` says of the recording that the cell needs, made now if it is not there."""
    folder = recording_folder(run.cell, run.out)
    done = folder / "recording.json"
    checkpoint = folder / "checkpoint.safetensors"
    if done.exists():
        checkpoint.unlink(missing_ok=True)  # a kill may have come between the two
        metadata = read_json(done)
        if metadata["fingerprint"] != run.train.fingerprint:
            raise RunError(
                f"{folder} was recorded on another dataset (fingerprint {metadata['fingerprint']}, this one has "
                f"{run.train.fingerprint}); give another --out folder, or remove it"
            )
        return metadata
    write_json(done, _recorded(run, folder, checkpoint))
    checkpoint.unlink(missing_ok=True)
    return read_json(done)


def _recorded(run: _Run, folder: Path, checkpoint: Path) -> dict[str, Any]:
    """Record, leave the network behind, and say how it ended."""
    metadata = {"fingerprint": run.train.fingerprint, "epochs": run.grid.recorded_epochs}
    recording = _as_read(run, folder, metadata["epochs"])
    how: dict[str, Any] = {"which": recording.signals, "until": run.grid.until, **recording.how}
    try:
        network, history = fit_recorded(recording.build(), run.train, folder, checkpoint=checkpoint, **how)
    except TrainingError as error:
        cost = read_metadata(checkpoint)["cost"] if checkpoint.exists() else NOTHING.as_dict()
        return {**metadata, "cost": cost, "test_accuracy": None, "test_loss": None, "failed": str(error)}
    recording.save(network)
    return {
        **metadata,
        "epochs": len(history.rows),
        "cost": history.cost.as_dict(),
        "test_accuracy": finite_or_none(history.test_accuracy),
        "test_loss": finite_or_none(history.test_loss),
    }


def _as_read(run: _Run, folder: Path, epochs: int) -> Recording:
    """A recording of ``epochs``: how it is made, and made again if something is missing."""
    grid = run.grid
    how = {
        "epochs": epochs,
        "schedule_epochs": grid.score.schedule_epochs or max(grid.train.epochs, grid.recorded_epochs),
        **run.how,
    }
    signals = signals_of([grid.spec(name)[0] for name in grid.methods if grid.kind(name) == "static"])
    return Recording(folder, run.train, functools.partial(_network, run, scoring=True), signals, how)


def _select(run: _Run, metadata: dict[str, Any]) -> tuple[Selection, Cost, Cost]:
    """What the cell's method keeps, what scoring it is charged, and what choosing cost.

    ``facts`` are those of the recording; none for a method that reads none.
    """
    cell = run.cell
    method, limit = run.grid.spec(cell.method)
    method = method.at(cell.keep)
    generator = stream(cell.seed, "select", cell.method, f"{cell.keep:g}", cell.scenario)
    arrays: Any = {}
    score = NOTHING
    if metadata:
        recorded = int(metadata["epochs"])
        read = recorded if method.reads_probe else min(recorded, limit or recorded)
        arrays, probe_kwargs = _as_read(run, recording_folder(cell, run.out), recorded).arrays(method, limit)
        score = Cost.from_dict(metadata["cost"]).share(method.epochs_charged(read) / recorded) + probe_kwargs
    start = time.perf_counter()
    selection, _ = method.run(arrays, run.train.labels, keep=cell.keep, generator=generator)
    return selection, score, Cost(time.perf_counter() - start)


def remove_recordings(out: Path) -> None:
    """Delete what only speeds up further cells."""
    shutil.rmtree(out / "recordings", ignore_errors=True)
