"""A policy under accelerate, which shards one global order across the processes itself.

Its loaders call ``set_epoch`` with their internal count at the start of each iteration, which is zero after a resume:
always call ``loader.set_epoch(epoch)``, which sets both. They read one batch ahead, so the position in the epoch is
derived from the observations. Where the number of batches is no multiple of the number of processes, accelerate pads
the last round with the first ids of the epoch, or after a resume in mid-epoch, of the rest of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.integrations.files import SAMPLER_FILE_NAME, load_state, save_state


def as_global(sampler: PolicySampler) -> PolicySampler:
    """The same sampler, set to yield the complete order on every process; observations are still merged.

    Raises:
        ArgumentError: it was made for one shard of the order.
    """
    if sampler.is_sharded:
        raise ArgumentError(
            f"the sampler shards the order for num_replicas={sampler.num_replicas}, and accelerate would shard it "
            "again: make it without num_replicas and rank"
        )
    sampler.num_replicas, sampler.rank = 1, 0
    return sampler


def prepare_loader(accelerator: Any, loader: DataLoader[Any], sampler: PolicySampler) -> Any:
    """``accelerator.prepare(loader)`` with the sampler in the global order and in the accelerator's checkpoints.

    Args:
        accelerator: an `accelerate.Accelerator`.
        loader: ``DataLoader(indexed(dataset), batch_size=b, sampler=sampler)``; the processes take its batches in turn.
        sampler: its ``batch`` and ``steps`` count the examples of all processes together.

    ``accelerator.save_state`` and ``load_state`` then include the sampler, in mid-epoch as well.

    Returns:
        The prepared loader; call its ``set_epoch`` before each epoch.

    Raises:
        ArgumentError: the loader has another sampler, or one made for a shard of the order.
    """
    if loader.sampler is not sampler:
        raise ArgumentError(f"the loader has the sampler {type(loader.sampler).__name__}: give DataLoader(sampler=...)")
    as_global(sampler)

    # hooks rather than register_for_checkpointing, which writes a pickle and loads it without restrictions
    def save(models: Any, weights: Any, output_dir: Any) -> None:
        del models, weights
        # Before the check for the main process: every process must take part.
        sampler.sync()
        # One file for all processes: after sync() every one holds the same state.
        if accelerator.is_main_process:
            save_state(Path(output_dir) / SAMPLER_FILE_NAME, sampler.state_dict())

    def load(models: Any, input_dir: Any) -> None:
        del models
        sampler.load_state_dict(load_state(Path(input_dir) / SAMPLER_FILE_NAME))

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)
    return accelerator.prepare(loader)
