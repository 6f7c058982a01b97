"""How a cell that chooses while training is trained: by a policy, inside each batch, or by a plan made before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from datawinnow.bench.grid import Cell, Grid, InBatchSpec, ReplaySpec
from datawinnow.core.artifacts import read_json, write_json
from datawinnow.core.cost import NO_COST, Cost
from datawinnow.core.progress import Progress
from datawinnow.core.rng import forked
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.source_positions import source_rows
from datawinnow.dynamic import InBatch, Replay, SelectionHistory, recorded
from datawinnow.models import build
from datawinnow.train import Recipe, fit
from datawinnow.train.network import check_forward, device_for


@dataclass(frozen=True)
class PolicyTraining:
    """What `fit` takes for a cell that chooses while training.

    Attributes:
        passes: budget, in epochs over all the examples.
        policy: a policy; None where examples are chosen inside each batch.
        in_batch: chooses inside each batch; None where a policy chooses.
        upfront_cost: of a plan made before the training, in examples of the main network.
    """

    passes: float
    policy: Any = None
    in_batch: InBatch | None = None
    upfront_cost: Cost = NO_COST


def plan_file(grid: Grid, cell: Cell, out: Path) -> Path | None:
    """The file of the plan that a cell trains by; None where it trains by none.

    A plan that is not charged serves all seeds, so that intervals are about that one plan. Each seed makes its own plan
    where the run pays for it, and under a scenario, whose labels differ by the seed.
    """
    if grid.spec_of(cell.method).replay is None:
        return None
    scenario = "" if cell.scenario == "clean" else f"-{cell.scenario.replace(' ', '-')}"
    seed = f"-seed{cell.seed}" if _plan_by_seed(grid, cell) else ""
    return out / "plans" / f"{cell.method}-{cell.keep:g}{scenario}{seed}.safetensors"


def _plan_by_seed(grid: Grid, cell: Cell) -> bool:
    spec = grid.spec_of(cell.method).replay
    return cell.scenario != "clean" or (spec is not None and spec.charged)


@dataclass(frozen=True)
class PolicyCell:
    """A cell of kind ``"policy"`` with what its training starts from.

    Attributes:
        grid: the grid.
        cell: the cell.
        out: folder of the results.
        info: of the train split, under the cell's scenario.
        network: the main network, as built.
        passes: its budget, in epochs over all the examples.
        recipe: how the cell trains.
        progress: called after each step.
    """

    grid: Grid
    cell: Cell
    out: Path
    info: DatasetInfo
    network: torch.nn.Module
    passes: float
    recipe: Recipe
    progress: Progress | None = None


def policy_training(run: PolicyCell) -> PolicyTraining:
    """How to train a cell that chooses while training; makes its plan first where it trains by one."""
    grid, cell = run.grid, run.cell
    spec = grid.spec_of(cell.method)
    if spec.batch is not None:
        return PolicyTraining(run.passes, in_batch=_in_batch(spec.batch, run.info, cell.seed))
    if spec.replay is None:
        return PolicyTraining(run.passes, grid.policy(cell.method, cell.keep))
    file = plan_file(grid, cell, run.out)
    assert file is not None, cell
    # two files: the cost is written first, so a kill in between leaves a plan to be made
    if not file.exists() or not _cost_file(file).exists():
        _write_plan(run, spec.replay, file, cell.seed if _plan_by_seed(grid, cell) else grid.seeds[0])
    plan = SelectionHistory.load(file)
    policy = Replay(plan, fingerprint=run.info.fingerprint)
    return PolicyTraining(
        plan.num_passed / run.info.n, policy, upfront_cost=Cost.from_dict(read_json(_cost_file(file)))
    )


def _small_network(spec: InBatchSpec | ReplaySpec, info: DatasetInfo, seed: int) -> torch.nn.Module:
    assert spec.model is not None
    options: Any = spec.model_options
    with forked(seed, "proxy"):
        return build(spec.model, shape=info.shape, classes=len(info.classes), **options)


def _in_batch(spec: InBatchSpec, info: DatasetInfo, seed: int) -> InBatch:
    proxy = None if spec.model is None else _small_network(spec, info, seed)
    return InBatch(spec.keep, proxy, every=spec.every, selector=spec.selector)


def _write_plan(run: PolicyCell, spec: ReplaySpec, file: Path, seed: int) -> None:
    """Train a small network by a policy; write its plan, and its cost in examples of the main network."""
    train = run.info.data
    small = _small_network(spec, run.info, seed)
    device = device_for(run.recipe.device)
    # a network that cannot be counted has 0 operations: no division by it
    share = check_forward(small, train, device) / (check_forward(run.network, train, device) or 1.0)
    # the plan and the run by it together pass what the run may
    passes = run.passes / (1 + share) if spec.charged else run.passes
    policy = recorded(run.grid.policy(run.cell.method, run.cell.keep, passes))
    _, history = fit(small, train, passes=passes, policy=policy, seed=seed, recipe=run.recipe, progress=run.progress)
    passed = int(sum(row["examples"] for row in history.rows))  # the last epoch was planned in full, and may be cut
    cost = share * history.cost.passes
    # beside the plan, and before it: the plan has no room for seconds and operations
    write_json(_cost_file(file), replace(history.cost, forward=0, backward=round(cost)).as_dict())
    plan = policy.history(fingerprint=run.info.fingerprint, cost=cost).truncated(passed)
    replace(plan, rows=source_rows(train).numpy()).save(file)


def _cost_file(plan: Path) -> Path:
    return plan.with_suffix(".json")
