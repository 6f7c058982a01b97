"""A policy under accelerate, which deals out one global order to the processes by itself.

Its loaders call ``set_epoch`` with a count of their own at the start of each iteration, zero after a resume: always
call ``loader.set_epoch(epoch)``, which sets both. They read one batch ahead; what was observed tells the position.
Where the batches do not divide among the processes, accelerate fills the last round up with the first ids it dealt: of
the epoch, or after a resume in the middle of one, of its rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.integrations._files import FILE, load_state, save_state


def as_global(sampler: PolicySampler) -> PolicySampler:
    """The sampler itself, giving every process the whole order; observations are merged across processes as ever.

    Raises:
        ArgumentError: it was made for a share of the order.
    """
    if sampler.is_sharded:
        raise ArgumentError(
            f"the sampler deals out shares for num_replicas={sampler.num_replicas}, and accelerate would divide them "
            "again: make it without num_replicas and rank"
        )
    sampler.num_replicas, sampler.rank = 1, 0
    return sampler


def prepared(accelerator: Any, loader: DataLoader[Any], sampler: PolicySampler) -> Any:
    """``accelerator.prepare(loader)`` with the sampler in the global order and in the accelerator's checkpoints.

    Args:
        accelerator: an `accelerate.Accelerator`.
        loader: ``DataLoader(indexed(dataset), batch_size=b, sampler=sampler)``; its batches go round the processes.
        sampler: its ``batch`` and ``steps`` speak of all processes together.

    ``accelerator.save_state`` and ``load_state`` then keep the sampler too, in mid-epoch as well.

    Returns:
        The prepared loader; call its ``set_epoch`` before each epoch.

    Raises:
        ArgumentError: the loader's sampler is another, or made for a share of the order.
    """
    if loader.sampler is not sampler:
        raise ArgumentError(f"the loader has the sampler {type(loader.sampler).__name__}: give DataLoader(sampler=...)")
    as_global(sampler)

    # hooks rather than register_for_checkpointing, which writes a pickle and loads it without limits
    def save(models: Any, weights: Any, output_dir: Any) -> None:
        del models, weights
        sampler.sync()
        if accelerator.is_main_process:
            save_state(Path(output_dir) / FILE, sampler.state_dict())

    def load(models: Any, input_dir: Any) -> None:
        del models
        sampler.load_state_dict(load_state(Path(input_dir) / FILE))

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)
    return accelerator.prepare(loader)
