"""One cell of a grid: choose examples, train on them, evaluate, and account for every example passed."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.bench.grid import Cell, Data, Grid, equal_epochs
from datawinnow.bench.policy_runs import PolicyCell, PolicyTraining, policy_training
from datawinnow.bench.results import result_row
from datawinnow.bench.scenario import under_scenario
from datawinnow.core.arrays import RECORDED, is_recorded
from datawinnow.core.artifact_schemas import RunFile
from datawinnow.core.artifacts import read_json
from datawinnow.core.budget import budget_of
from datawinnow.core.chance import Baseline
from datawinnow.core.cost import NO_COST, Cost
from datawinnow.core.errors import RunError, TrainingError
from datawinnow.core.lock import only_writer
from datawinnow.core.progress import Progress
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.core.verdict import ResultRow
from datawinnow.data.dataset_info import DatasetInfo, dataset_info, read_class_ids
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.kept import Kept
from datawinnow.models import choose
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.probe_arrays import probed_arrays
from datawinnow.runs.record import RecordSettings, begin_run, run_recording
from datawinnow.runs.select import SelectionResult, select_examples
from datawinnow.runs.stage import Stage
from datawinnow.train import fit
from datawinnow.train.build import build_network, network_identity
from datawinnow.train.checkpoint import read_metadata
from datawinnow.train.recipe import check_recipe
from datawinnow.vit import SparseLevels

DIVERGED = "diverged"
"""Status of a recording whose training diverged, and the key of the error in its ``run.json``."""


@dataclass(frozen=True)
class GridData:
    """The data of a grid, and what else its cells take from this process instead of the grid's file.

    Attributes:
        train: train split: `Examples` or any map-style dataset of ``(x, y)``; or its `DatasetInfo`, which then is
            ``info`` and not computed again.
        test: test split, or its `DatasetInfo`.
        model: function that returns the network; None for the model that ``[train]`` names.
        selections: name of a method with ``selection`` -> function of a cell's seed that returns the selection and what
            finding it cost.
    """

    train: Any
    test: Any
    model: Callable[..., nn.Module] | None = None
    selections: Mapping[str, Callable[[int], tuple[Selection, Cost]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.train, DatasetInfo):
            self.__dict__.update(info=self.train, train=self.train.data)
        if isinstance(self.test, DatasetInfo):
            self.__dict__.update(test_fingerprint=self.test.fingerprint, test=self.test.data)

    @functools.cached_property
    def info(self) -> DatasetInfo:
        """Of the train split."""
        return dataset_info(self.train)

    @functools.cached_property
    def test_fingerprint(self) -> str:
        """Of the test split."""
        return fingerprint_of(self.test)

    @functools.cached_property
    def majority(self) -> float | None:
        """Share of the largest class of the test split; None for targets that are no classes."""
        labels = read_class_ids(self.test)
        return None if bool((labels < 0).any()) else Baseline.of(labels.tolist()).majority

    @property
    def model_name(self) -> str | None:
        """Name of the function in ``model``; None without one."""
        return None if self.model is None else network_identity(self.model)


# two entries: a process works on one grid, and at times on a shrunk one besides
@functools.lru_cache(maxsize=2)
def _load_splits(data: Data) -> tuple[Any, Any]:
    return data.read()


def datasets_of(grid: Grid) -> tuple[Any, Any]:
    """Train and test split of a grid; loaded once a process."""
    return _load_splits(grid.data)


class ExamplesSeen:
    """Counts the examples that a training passes, plan by plan.

    Args:
        changed: (n,) bool, which examples the scenario changed.

    Attributes:
        epochs: epochs started.
    """

    def __init__(self, changed: Tensor) -> None:
        self.epochs, self._changed, self._num_changed, self._num_seen = 0, changed, 0, 0

    def __call__(self, epoch: int, order: Tensor) -> None:
        """Count the (m,) int64 ids of an epoch."""
        self.epochs = epoch + 1
        self._num_changed += int(self._changed[order].sum())
        # plans arrive cut to the budget, so these are the examples passed
        self._num_seen += len(order)

    @property
    def changed_share(self) -> float | None:
        """Share of changed examples among those passed; None where the scenario changes none."""
        return self._num_changed / self._num_seen if self._num_seen and bool(self._changed.any()) else None


@dataclass(frozen=True)
class _CellRun:
    """A cell with the inputs of its stages."""

    grid: Grid
    cell: Cell
    out: Path
    data: GridData
    info: DatasetInfo
    changed: Tensor
    progress: Progress | None

    @property
    def epochs(self) -> float:
        """Epochs over the examples kept; of a policy or a shorter full run, the equivalent number over all."""
        epochs = self.grid.train.epochs
        if self.cell.kind in ("shorter_full", "policy"):
            return equal_epochs(epochs, self.cell.keep, self.info.n)
        return epochs

    @property
    def scoring_model(self) -> str | Callable[..., nn.Module]:
        """The network of the recording."""
        return self.data.model or model_name(self.grid, self.data, scoring=True)

    @property
    def scoring_options(self) -> dict[str, Any]:
        """Its options."""
        return self.grid.score.model_options if self.grid.score.model else self.grid.train.model_options


@dataclass(frozen=True)
class _Outcome:
    """How a training ended.

    Attributes:
        accuracy: after the last epoch; None where training diverged.
        test_loss: likewise, in nats.
        cost: of the training; where it diverged, of the complete epochs before.
        failed: the error of a training that diverged.
        epochs: epochs started, where a budget of operations decides how many; None where the cell does.
        changed_share: share of changed examples among those passed.
        upfront_cost: of a plan made before the training.
    """

    accuracy: float | None = None
    test_loss: float | None = None
    cost: Cost = NO_COST
    failed: str | None = None
    epochs: int | None = None
    changed_share: float | None = None
    upfront_cost: Cost = NO_COST


def run_cell(
    grid: Grid, cell: Cell, out: Path, progress: Progress | None = None, data: GridData | None = None
) -> ResultRow:
    """Run one cell and return its row; makes the recording that it needs if there is none.

    A training that diverges gives a row too, with ``accuracy`` null and the error in ``failed``; its cost is that of
    the complete epochs before. A recording that diverged is remembered, and fails every cell that needs it without
    training again.

    Args:
        grid: the grid.
        cell: one of its cells.
        out: folder of the results; the recordings in it are shared by the cells of a seed and scenario.
        progress: called after each step.
        data: datasets and functions of this process; None to load what the grid names.
    """
    data = GridData(*datasets_of(grid)) if data is None else data
    train, changed = under_scenario(data.train, cell.scenario, cell.seed)
    # a clean split is not fingerprinted again
    info = data.info if train is data.train else dataset_info(train)
    run = _CellRun(grid, cell, out, data, info, changed, progress)
    recording = _cell_recording(run) if grid.reads_recording(cell) else None
    # the full run is the recording itself: nothing is trained again
    if recording is not None and cell.kind == "full":
        result = recording.metadata.get("result", {})
        outcome = _Outcome(
            result.get("test_accuracy"),
            result.get("test_loss"),
            _record_cost(recording),
            recording.metadata.get(DIVERGED),
        )
        return _cell_row(run, Selection.everything(info.n), outcome, score=NO_COST, select=NO_COST)
    if recording is not None and recording.metadata["status"]["record"] == DIVERGED:
        failed = _Outcome(failed=recording.metadata[DIVERGED])
        return _cell_row(run, None, failed, score=_record_cost(recording), select=NO_COST)
    selection, score, select = Selection.everything(info.n), NO_COST, NO_COST
    warnings: tuple[str, ...] = ()
    if cell.method in data.selections:
        selection, score = data.selections[cell.method](cell.seed)
    elif cell.kind == "static":
        result, score, select = _select(run, recording)
        selection, warnings = result.selection, result.warnings
    outcome = _train_cell(run, selection)
    row = _cell_row(run, selection, outcome, score=score + outcome.upfront_cost, select=select)
    return {**row, "warnings": list(warnings)} if warnings else row


def _cell_row(run: _CellRun, selection: Selection | None, outcome: _Outcome, *, score: Cost, select: Cost) -> ResultRow:
    """The row of a cell; ``selection`` is None where its recording diverged, so that nothing could be selected."""
    grid, cell, n, changed = run.grid, run.cell, run.info.n, run.changed
    # a policy has no fixed selection: its share was counted while it trained
    changed_kept = outcome.changed_share if cell.kind == "policy" else None
    if cell.kind != "policy" and selection is not None and bool(changed.any()):
        changed_kept = float(changed[selection.index].float().mean())
    row = result_row(
        benchmark=grid.name,
        dataset=run.info.name,
        fingerprint=run.data.info.fingerprint,
        n=n,
        test_n=len(run.data.test),
        majority=run.data.majority,
        model=model_name(grid, run.data),
        epochs=grid.train.epochs,
        method=cell.method,
        label=grid.label(cell.method),
        keep=cell.keep,
        kept=budget_of(cell.keep, n) if selection is None or cell.kind == "policy" else len(selection),
        seed=cell.seed,
        scenario=cell.scenario,
        trained_epochs=run.epochs if outcome.epochs is None else outcome.epochs,
        accuracy=outcome.accuracy,
        test_loss=outcome.test_loss,
        changed=float(changed.float().mean()) if bool(changed.any()) else None,
        changed_kept=changed_kept,
        **({"scored_by": model_name(grid, run.data, scoring=True)} if grid.score.model else {}),
        score=score,
        select=select,
        train=outcome.cost,
    )
    return row if outcome.failed is None else {**row, "failed": outcome.failed}


def model_name(grid: Grid, data: GridData, *, scoring: bool = False) -> str:
    """Name of the network of the cells, or of their recording; chosen by the examples where the grid names none."""
    if data.model_name is not None:
        return data.model_name
    name = (grid.score.model if scoring else None) or grid.train.model
    vocabulary = data.info.vocabulary
    return name or choose(data.info.shape, accelerator=torch.cuda.is_available(), vocabulary=vocabulary)[0]


def _train_cell(run: _CellRun, selection: Selection) -> _Outcome:
    """Train on the selection, or as the cell's policy chooses among all examples."""
    grid, cell = run.grid, run.cell
    costs, seen = [NO_COST], ExamplesSeen(run.changed)
    model = run.data.model or model_name(grid, run.data)
    network, _, _ = build_network(model, run.info, cell.seed, grid.train.model_options)
    levels = grid.spec_of(cell.method).levels
    network = SparseLevels.from_options(levels).sparsify(network, run.epochs) if levels else network
    recipe = grid.recipe(cell.method, cell.keep)
    # smaller inputs buy more steps: the budget of operations is that of a run at full size
    by_cost = cell.kind == "policy" or recipe.size_schedule is not None
    # if training diverges before the plan is made, its cost is still defined
    plan = PolicyTraining(run.epochs)
    try:
        if cell.kind == "policy":
            plan = policy_training(
                PolicyCell(grid, cell, run.out, run.info, network, run.epochs, recipe, progress=run.progress)
            )
        _, history = fit(
            network,
            Kept(run.info.data, selection),
            epochs=None if by_cost else run.epochs,
            passes=plan.passes if by_cost else None,
            policy=plan.policy,
            in_batch=plan.in_batch,
            test=run.data.test,
            seed=cell.seed,
            recipe=recipe,
            on_plan=seen,
            # what is charged if a later epoch diverges
            on_epoch=lambda _, history: costs.append(history.cost),
            progress=run.progress,
        )
    except TrainingError as error:
        return _Outcome(cost=costs[-1], failed=str(error), upfront_cost=plan.upfront_cost)
    return _Outcome(
        accuracy=history.test_accuracy,
        test_loss=history.test_loss,
        cost=history.cost,
        epochs=seen.epochs if by_cost else None,
        changed_share=seen.changed_share,
        upfront_cost=plan.upfront_cost,
    )


# --- recordings: run folders that the cells of a seed and scenario share ----------------------------------------------


def recording_folder(cell: Cell, out: Path) -> Path:
    """The run folder of a cell's seed and scenario."""
    return out / "recordings" / f"{cell.scenario.replace(' ', '-')}-seed{cell.seed}"


def recording_done(cell: Cell, out: Path) -> bool:
    """Whether the recording of a cell's seed and scenario is finished, or known to diverge."""
    return _record_status(recording_folder(cell, out)) in ("done", DIVERGED)


def awaits_recording(grid: Grid, cell: Cell, out: Path) -> bool:
    """Whether a cell would add to its finished recording: a signal that it lacks, or a probe of its network."""
    method = grid.method_of(cell.method)[0].at(cell.keep)
    path = _folder_with_signals(grid, cell, out)
    status = _record_status(path)
    if status == DIVERGED:
        return False
    if status != "done":
        return True
    folder = RunFolder.open(path)
    return not probed_arrays(folder, folder.dataset, options=method.probe_options).is_computed(method.needs)


def remove_recordings(out: Path) -> None:
    """Delete the recordings, which only save time for further cells."""
    shutil.rmtree(out / "recordings", ignore_errors=True)


def _record_status(path: Path) -> str | None:
    file = path / "run.json"
    return read_json(file, schema=RunFile)["status"].get("record") if file.exists() else None


def _signals_of(grid: Grid) -> tuple[str, ...]:
    """The usual signals, so that methods added to the grid later find theirs; ``kl_step`` only if a method reads it."""
    methods = [grid.method_of(name)[0] for name in grid.methods if _is_static(grid, name)]
    return (*RECORDED, "kl_step") if any("kl_step" in method.needs for method in methods) else RECORDED


def _is_static(grid: Grid, name: str) -> bool:
    return grid.kind(name) == "static" and grid.spec_of(name).selection is None


def _folder_with_signals(grid: Grid, cell: Cell, out: Path) -> Path:
    """The run folder whose recording has every signal that the cell's method reads.

    A recording made before the grid had a method that reads ``kl_step`` lacks it. Then a second recording is made
    beside it: the recorder only reads, so its network and other signals are the same.
    """
    path = recording_folder(cell, out)
    if cell.kind != "static" or _record_status(path) != "done":
        return path
    needs = [need for need in grid.method_of(cell.method)[0].at(cell.keep).needs if is_recorded(need)]
    recorded = (*RunFolder.open(path).metadata["options"]["record"]["signals"], "correct", "seen")
    missing = [need for need in needs if need not in recorded]
    return path.with_name("-".join((path.name, *missing))) if missing else path


def _cell_recording(run: _CellRun) -> RunFolder:
    """The recording that the cell needs, made now if it is not there."""
    grid, cell = run.grid, run.cell
    path = _folder_with_signals(grid, cell, run.out)
    if _record_status(path) in ("done", DIVERGED):
        folder = RunFolder.open(path)
        if folder.dataset.fingerprint != run.info.fingerprint:
            raise RunError(
                f"{path} was recorded on another dataset (fingerprint {folder.dataset.fingerprint}, this one has "
                f"{run.info.fingerprint}); give another `out=` folder, or remove it"
            )
        Stage(folder, "record", folder.epochs).tidy()  # a kill may have come before its checkpoint was removed
        return folder
    score = grid.score
    signals = _signals_of(grid)
    if (path / "run.json").exists():  # begun: methods added since then record what is missing beside it
        signals = RunFolder.open(path).metadata["options"].get("record", {}).get("signals", signals)
    recipe = grid.train.recipe()
    if score.size_schedule:
        recipe = replace(recipe, **check_recipe({"size_schedule": score.size_schedule}))
    try:
        settings = RecordSettings(
            grid.recorded_epochs,
            score.schedule_epochs or max(grid.train.epochs, grid.recorded_epochs),
            signals,
            grid.until,
            recipe,
        )
        with only_writer(path, option="run", who="another command"):
            setup = begin_run(
                run.info, path, model=run.scoring_model, model_options=run.scoring_options, seed=cell.seed
            )
            folder = run_recording(setup, settings, test=run.data.test, progress=run.progress)
            Stage(folder, "record", folder.epochs).tidy()  # nothing extends it
            return folder
    except TrainingError as error:
        folder = RunFolder.open(path)
        stage = Stage(folder, "record", grid.recorded_epochs)
        # the checkpoint holds the cost of the complete epochs
        cost = read_metadata(stage.checkpoint)["cost"] if stage.checkpoint.exists() else NO_COST.as_dict()
        folder.update(status={"record": DIVERGED}, cost={"record": cost}, **{DIVERGED: str(error)})
        stage.tidy()
        return folder


def _record_cost(recording: RunFolder) -> Cost:
    return Cost.from_dict(recording.metadata["cost"]["record"])


def _select(run: _CellRun, recording: RunFolder | None) -> tuple[SelectionResult, Cost, Cost]:
    """The selection by the cell's method, the cost that it is charged for scoring, and the cost of selecting."""
    cell = run.cell
    method, limit = run.grid.method_of(cell.method)
    result = select_examples(
        run.info,
        method,
        keep=cell.keep,
        generator=stream(cell.seed, "select", cell.method, f"{cell.keep:g}", cell.scenario),
        folder=recording,
        epochs=None if recording is None else limit and min(limit, recording.epochs),
        model=run.scoring_model,
        model_options=run.scoring_options,
        progress=run.progress,
    )
    score = NO_COST
    if recording is not None:
        # charged for the share of the recording that it reads, and for its probes whoever made them first
        score = _record_cost(recording).share(result.epochs / recording.epochs) + (result.probe_cost or NO_COST)
    return result, score, result.score_cost + result.select_cost
