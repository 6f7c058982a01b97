"""How an arm that chooses while training is trained: by a policy, inside each batch, or by a plan made once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from datawinnow.core.cost import Cost
from datawinnow.core.files import read_json, write_json
from datawinnow.core.rng import forked
from datawinnow.dynamic import InBatch, Replay, SelectionHistory, recorded
from datawinnow.models import build
from datawinnow.train import fit
from datawinnow.train.network import check_forward, fabric_for

if TYPE_CHECKING:
    from datawinnow.bench.grid import Cell, Grid
    from datawinnow.bench.specs import InBatchSpec, ReplaySpec

NOTHING = Cost()


def plan_file(grid: Grid, cell: Cell, out: Path) -> Path | None:
    """Where the plan that a cell trains by stands; None where it trains by none.

    A plan that is not charged serves all seeds, as it would those who use it again: their interval is then about that
    plan. One that an arm pays for itself is its own; and so is one under a scenario, whose labels differ by the seed.
    """
    if grid.named(cell.method).replay is None:
        return None
    scenario = "" if cell.scenario == "clean" else f"-{cell.scenario.replace(' ', '-')}"
    own = f"-seed{cell.seed}" if _own_plan(grid, cell) else ""
    return out / "plans" / f"{cell.method}-{cell.keep:g}{scenario}{own}.safetensors"


def _own_plan(grid: Grid, cell: Cell) -> bool:
    spec = grid.named(cell.method).replay
    return cell.scenario != "clean" or (spec is not None and spec.charged)


def arm(
    grid: Grid, cell: Cell, out: Path, train: Any, network: torch.nn.Module, passes: float, **how: Any
) -> tuple[dict[str, Any], Cost]:
    """How `fit` is told to train a cell that chooses while training, and what was paid for that beforehand.

    Args:
        grid: the grid.
        cell: which.
        out: folder of the results.
        train: the train split.
        network: the main network, as built.
        passes: its budget, in epochs over all the examples.
        how: what else `fit` gets: ``seed``, ``recipe``, ``progress``.

    Returns:
        Keyword arguments of `fit`, and the cost of a plan made beforehand in examples of the main network.
    """
    spec = grid.named(cell.method)
    if spec.batch is not None:
        return {"passes": passes, "in_batch": _in_batch(spec.batch, train, cell.seed)}, NOTHING
    if spec.replay is None:
        return {"passes": passes, "policy": grid.policy(cell.method, cell.keep)}, NOTHING
    file = plan_file(grid, cell, out)
    assert file is not None, cell
    if not file.exists() or not _cost_file(file).exists():
        seed = cell.seed if _own_plan(grid, cell) else grid.seeds[0]
        _record(grid, cell, file, train, network, passes, **{**how, "seed": seed})
    plan = SelectionHistory.load(file)
    policy = Replay(plan, fingerprint=train.fingerprint)
    return {"passes": plan.num_passed / len(train), "policy": policy}, Cost.from_dict(read_json(_cost_file(file)))


def _small(spec: InBatchSpec | ReplaySpec, train: Any, seed: int) -> torch.nn.Module:
    assert spec.model is not None
    with forked(seed, "proxy"):
        return build(spec.model, shape=train.shape, classes=len(train.classes), **spec.model_options)


def _in_batch(spec: InBatchSpec, train: Any, seed: int) -> InBatch:
    proxy = None if spec.model is None else _small(spec, train, seed)
    return InBatch(spec.keep, proxy, every=spec.every, selector=spec.selector)


def _record(
    grid: Grid, cell: Cell, file: Path, train: Any, network: torch.nn.Module, passes: float, **how: Any
) -> None:
    """Train a small network by a policy, and write down what every epoch trained on and what share it cost."""
    spec = grid.named(cell.method).replay
    assert spec is not None, cell
    small = _small(spec, train, how["seed"])
    device = fabric_for(how["recipe"].device).device
    share = check_forward(small, train, device) / (check_forward(network, train, device) or 1.0)
    # the plan and the run by it together pass what the arm may
    passes = passes / (1 + share) if spec.charged else passes
    policy = recorded(grid.policy(cell.method, cell.keep, passes))
    _, history = fit(small, train, passes=passes, policy=policy, **how)
    passed = int(sum(row["examples"] for row in history.rows))  # the last epoch was planned whole, and may be cut
    own = share * history.cost.passes
    # beside the plan, and before it: seconds and operations, which the plan has no place for
    write_json(_cost_file(file), replace(history.cost, forward=0, backward=round(own)).as_dict())
    policy.history(fingerprint=train.fingerprint, cost=own).truncated(passed).save(file)


def _cost_file(plan: Path) -> Path:
    return plan.with_suffix(".json")
