"""Resuming from a checkpoint: what identifies a run, whether a checkpoint belongs to it, and restoring its state."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datawinnow.core.artifacts import require_same
from datawinnow.core.cost import Cost
from datawinnow.core.errors import RunError
from datawinnow.core.selection import Selection
from datawinnow.data.batches import fingerprint_of
from datawinnow.record.recorder import Recorder
from datawinnow.train.checkpoint import load_checkpoint, read_metadata
from datawinnow.train.history import History
from datawinnow.train.in_batch import InBatchSelector
from datawinnow.train.policy_plan import PolicyPlan

_CHECKPOINT_KEYS = {"epoch", "rows", "cost", "fingerprint", "precision", "channels_last"}


@dataclass(frozen=True)
class CheckpointFile:
    """The file that a training resumes from.

    Attributes:
        path: the file.
        fingerprint: of the dataset that is trained on; None to compute it, which reads the dataset.
    """

    path: Path
    fingerprint: str | None = None

    def fingerprint_of(self, dataset: Any) -> str:
        """``fingerprint``, or that of the dataset."""
        return self.fingerprint or fingerprint_of(dataset)


def run_identity(
    fingerprint: str,
    selection: Selection | None,
    *,
    seed: int,
    policy: str,
    budget: int | None,
    size_schedule: str = "none",
    parameter_groups: str = "none",
    augment_strength: float = 0.0,
) -> dict[str, Any]:
    """What two trainings must have in common for one to resume from the other's checkpoint.

    Args:
        fingerprint: of all the data.
        selection: the examples kept, with their weights; None for all.
        seed: of the run.
        policy: the repr of the policy or of the `InBatch` options; ``"none"`` without either.
        budget: examples in all, where training ends by that.
        size_schedule: the repr of the size schedule; ``"none"`` without one.
        parameter_groups: the repr of what is frozen and of the learning rates by name; ``"none"`` without.
        augment_strength: of the training images.
    """
    chosen = "all examples"
    # order and weights count too: both change the training
    if selection is not None:
        chosen = hashlib.sha256(selection.index.numpy().tobytes() + selection.weight.numpy().tobytes()).hexdigest()[:16]
    return {
        "fingerprint": fingerprint,
        "selection": chosen,
        "seed": seed,
        "policy": policy,
        "budget": budget,
        "size_schedule": size_schedule,
        "parameter_groups": parameter_groups,
        "augment_strength": augment_strength,
    }


def load_matching_checkpoint(
    checkpoint: Path, identity: dict[str, Any], max_epochs: int, epoch_lengths: list[int] | None
) -> dict[str, Any] | None:
    """Metadata of the checkpoint if the file exists, checked to belong to the run of ``identity``.

    Args:
        checkpoint: the file.
        identity: of this run, by `run_identity`.
        max_epochs: epochs of this run.
        epoch_lengths: examples of each epoch of this run; None if they are not known in advance.

    Returns:
        The metadata with ``epoch`` (epochs finished), ``rows`` and ``cost``; None without a file.

    Raises:
        RunError: the checkpoint is of another run, or of a longer one.
    """
    if not checkpoint.exists():
        return None
    saved = read_metadata(checkpoint)
    if not set(saved) >= _CHECKPOINT_KEYS:
        raise RunError(f"{checkpoint} holds a network but is not a checkpoint of a training run; give another file")
    if saved["fingerprint"] != identity["fingerprint"]:
        raise RunError(
            f"{checkpoint} belongs to a different dataset (fingerprint {saved['fingerprint']}, this one has "
            f"{identity['fingerprint']}); give another `run=` folder, or remove it"
        )
    names = ("seed", "selection", "policy", "budget", "size_schedule", "parameter_groups", "augment_strength")
    # of checkpoints that were written before these could be set
    defaults = {"parameter_groups": "none", "augment_strength": 0.0}
    require_same(
        # benchmarks write checkpoints without some
        {name: saved.get(name, defaults.get(name, identity.get(name))) for name in names},
        {name: identity.get(name) for name in names},
        checkpoint,
        remedy="use another `run=` folder, or remove it",
    )
    if saved["epoch"] > max_epochs:
        raise RunError(f"{checkpoint} has {saved['epoch']} finished epochs, more than `epochs={max_epochs}`; remove it")
    saved_lengths = [int(row["examples"]) for row in saved["rows"]]
    # a run of 2.5 epochs ends with half an epoch, which a longer run does not have
    if epoch_lengths is not None and saved_lengths != epoch_lengths[: len(saved_lengths)]:
        raise RunError(
            f"{checkpoint} has finished epochs of {saved_lengths} examples, where this run has "
            f"{epoch_lengths[: len(saved_lengths)]}: its last epoch was cut short, so it cannot be continued; remove "
            "it, or give another `run=` folder"
        )
    return saved


def resume(
    checkpoint: Path | None,
    saved: dict[str, Any] | None,
    model: nn.Module,
    optimizer: Any,
    history: History,
    *,
    recorder: Recorder | None,
    policy_plan: PolicyPlan | None,
    in_batch: InBatchSelector | None,
) -> int:
    """Restore network, optimizer, history, recorder, policy and proxy from a checkpoint.

    Args:
        checkpoint: the file.
        saved: its metadata, from `load_matching_checkpoint`; None to begin anew.
        model: the network.
        optimizer: over its parameters, wrapped by Fabric or not.
        history: filled in place.
        recorder: resumed at the first epoch to train; later epochs are dropped.
        policy_plan: of the run, if any.
        in_batch: of the run, if any.

    Returns:
        The first epoch to train.
    """
    first_epoch = 0
    if checkpoint is not None and saved is not None:
        # Fabric wraps the optimizer; its state is that of the one inside
        unwrapped: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
        _, tensors = load_checkpoint(checkpoint, model, unwrapped)
        if policy_plan is not None:
            policy_plan.restore(tensors)
        if in_batch is not None:
            in_batch.restore(tensors)
        history.rows, history.cost, first_epoch = saved["rows"], Cost.from_dict(saved["cost"]), int(saved["epoch"])
    # a finished recording is left alone unless the training starts again within it
    if recorder is not None and (first_epoch or not recorder.consolidated):
        recorder.resume(first_epoch)
    return first_epoch
