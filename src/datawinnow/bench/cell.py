"""One cell of a grid: train, evaluate, and account for every example passed."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.bench.grid import BASELINES, Cell, Grid, parse_scenario
from datawinnow.core.arrays import RECORDED
from datawinnow.core.cost import Cost
from datawinnow.core.errors import DataError, RunError
from datawinnow.core.files import read_json, write_json
from datawinnow.core.rng import forked, stream
from datawinnow.core.selection import Selection
from datawinnow.data.kept import Kept
from datawinnow.data.load import load
from datawinnow.models import build, choose
from datawinnow.pipeline.methods import Arrays, epochs_charged, needs_of, select_by_method
from datawinnow.pipeline.recording import fit_recorded
from datawinnow.pipeline.rows import finite, result_row
from datawinnow.record import column
from datawinnow.scenarios import METHODS as SCENARIOS
from datawinnow.train import History, Progress, fit


@functools.lru_cache(maxsize=2)
def _loaded(source: str, limit: int | None, size: int | None, seed: int, image: str | None, label: str | None) -> Any:
    return load(source, limit=limit, size=size, seed=seed, image=image, label=label)


def datasets_of(grid: Grid) -> tuple[Any, Any]:
    """Train and test split of a grid; decoded once a process."""
    d = grid.data
    return _loaded(d.source, d.limit, d.size, d.seed, d.image, d.label)  # type: ignore[no-any-return]


def under_scenario(train: Any, scenario: str, seed: int) -> tuple[Any, Tensor]:
    """The train split under a scenario, and (n,) bool: which examples it changed.

    Raises:
        DataError: the dataset does not show its labels.
    """
    name, rate = parse_scenario(scenario)
    if name == "clean":
        return train, torch.zeros(len(train), dtype=torch.bool)
    labels, classes = getattr(train, "labels", None), getattr(train, "classes", None)
    if labels is None or classes is None or not dataclasses.is_dataclass(train):
        raise DataError(
            f"the scenario {scenario!r} changes labels, which {type(train).__name__} does not show: load the data with "
            "datawinnow.load, or make it datawinnow.Examples(x, labels, classes)"
        )
    x = getattr(train, "x", None)  # pictures that stay on disk have none
    generator = stream(seed, "scenario", scenario)
    new_x, y, changed = SCENARIOS[name](x, labels, rate=rate, generator=generator, classes=len(classes))
    return dataclasses.replace(train, **({} if new_x is x else {"x": new_x}), labels=y), changed  # type: ignore[type-var]


def run_cell(grid: Grid, cell: Cell, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Run one cell and return its row; a scored one makes the recording that it needs if it is not there.

    Args:
        grid: the grid.
        cell: which.
        out: folder of the results; recordings stand below it and are shared by the cells of a seed and scenario.
        progress: told after each step.
    """
    train, test = datasets_of(grid)
    train, changed = under_scenario(train, cell.scenario, cell.seed)
    selection, score_cost, select_cost = Selection.everything(len(train)), Cost(), Cost()
    epochs = grid.train.epochs
    if cell.kind == "static":
        selection, score_cost, select_cost = _select(grid, cell, out, train, test, progress)
    elif cell.kind == "shorter_full":
        epochs = max(1, round(epochs * cell.keep))
    accuracy: float | None
    loss: float | None
    if cell.kind == "full" and grid.full_is_recording:
        facts = _recording(grid, cell, out, train, test, progress)
        accuracy, loss, cost = facts["test_accuracy"], facts["test_loss"], Cost.from_dict(facts["cost"])
    else:
        history = _train(grid, cell, Kept(train, selection), test, epochs, progress)
        accuracy, loss, cost = history.test_accuracy, history.test_loss, history.cost
    kept_changed = float(changed[selection.index].float().mean()) if bool(changed.any()) else None
    return result_row(
        benchmark=grid.name,
        dataset=train.name,
        fingerprint=datasets_of(grid)[0].fingerprint,
        n=len(train),
        test_n=len(test),
        model=model_name(grid, train),
        epochs=grid.train.epochs,
        method=cell.method,
        label=grid.label(cell.method),
        keep=cell.keep,
        kept=len(selection),
        seed=cell.seed,
        scenario=cell.scenario,
        trained_epochs=epochs,
        accuracy=accuracy,
        test_loss=loss,
        changed_kept=kept_changed,
        score=score_cost,
        select=select_cost,
        train=cost,
    )


def model_name(grid: Grid, train: Any, *, scoring: bool = False) -> str:
    """The network's name: as the grid says, or chosen for the examples."""
    named = (grid.score.model if scoring else None) or grid.train.model
    return named or choose(train.shape, accelerator=torch.cuda.is_available())[0]


def _network(grid: Grid, train: Any, seed: int, *, scoring: bool = False) -> torch.nn.Module:
    options = grid.score.model_options if scoring and grid.score.model else grid.train.model_options
    with forked(seed, "weights"):
        return build(model_name(grid, train, scoring=scoring), shape=train.shape, classes=len(train.classes), **options)


def _train(grid: Grid, cell: Cell, kept: Kept, test: Any, epochs: int, progress: Progress | None) -> History:
    model = _network(grid, kept.dataset, cell.seed)
    _, history = fit(
        model, kept, epochs=epochs, test=test, seed=cell.seed, recipe=grid.train.recipe(), progress=progress
    )
    return history


def recording_folder(cell: Cell, out: Path) -> Path:
    """Where the recording of a cell's seed and scenario stands; it is whole once it has a ``recording.json``."""
    return out / "recordings" / f"{cell.scenario.replace(' ', '-')}-seed{cell.seed}"


def _recording(grid: Grid, cell: Cell, out: Path, train: Any, test: Any, progress: Progress | None) -> dict[str, Any]:
    folder = recording_folder(cell, out)
    done = folder / "recording.json"
    checkpoint = folder / "checkpoint.safetensors"
    if done.exists():
        checkpoint.unlink(missing_ok=True)  # a kill may have come between the two
        facts = read_json(done)
        if facts["fingerprint"] != train.fingerprint:
            raise RunError(
                f"{folder} was recorded on another dataset (fingerprint {facts['fingerprint']}, this one has "
                f"{train.fingerprint}); give another --out folder, or remove it"
            )
        return facts
    _, history = fit_recorded(
        _network(grid, train, cell.seed, scoring=True),
        train,
        folder,
        epochs=grid.recorded_epochs,
        which=_recorded(grid),
        checkpoint=checkpoint,
        of=grid.score.of or max(grid.train.epochs, grid.recorded_epochs),
        test=test,
        seed=cell.seed,
        recipe=grid.train.recipe(),
        progress=progress,
    )
    facts = {
        "fingerprint": train.fingerprint,
        "epochs": grid.recorded_epochs,
        "cost": history.cost.as_dict(),
        "test_accuracy": finite(history.test_accuracy),
        "test_loss": finite(history.test_loss),
    }
    write_json(done, facts)
    checkpoint.unlink(missing_ok=True)
    return read_json(done)


def _recorded(grid: Grid) -> tuple[str, ...]:
    """All the usual signals, so that methods added to the grid later find theirs; the costly one only if it is read."""
    named = [name for name in grid.methods if name not in BASELINES]
    kl = any("kl_step" in needs_of(grid.spec(name)[0]) for name in named)
    return (*RECORDED, "kl_step") if kl else RECORDED


def _select(
    grid: Grid, cell: Cell, out: Path, train: Any, test: Any, progress: Progress | None
) -> tuple[Selection, Cost, Cost]:
    method, limit = grid.spec(cell.method)
    generator = stream(cell.seed, "select", cell.method, f"{cell.keep:g}", cell.scenario)
    read = needs_of(method)
    if not read:
        start = time.perf_counter()
        selection, _ = select_by_method(method, {}, train.labels, keep=cell.keep, generator=generator)
        return selection, Cost(), Cost(time.perf_counter() - start)
    facts = _recording(grid, cell, out, train, test, progress)
    folder = recording_folder(cell, out)
    recorded = int(facts["epochs"])
    used = epochs_charged(method, min(recorded, limit or recorded))
    arrays = Arrays(lambda name: column(folder, name), (*read, "seen"), limit)
    start = time.perf_counter()
    selection, _ = select_by_method(method, arrays, train.labels, keep=cell.keep, generator=generator)
    seconds = time.perf_counter() - start
    return selection, Cost.from_dict(facts["cost"]).share(used / recorded), Cost(seconds)


def remove_recordings(out: Path) -> None:
    """Delete what only speeds up further cells."""
    shutil.rmtree(out / "recordings", ignore_errors=True)
