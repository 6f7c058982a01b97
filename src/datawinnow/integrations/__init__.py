"""Policies in training frameworks: plain PyTorch loops, Lightning, the Hugging Face Trainer, accelerate.

=================== ================================================================================================
module              three lines
=================== ================================================================================================
``loop``            ``sampler.set_epoch(epoch)``; ``loss = weighted_loss(sampler, index, loss)``; `ProgressLR`
``lightning``       `PolicyCallback(sampler)`; ``Trainer(reload_dataloaders_every_n_epochs=1)``; ``weighted_loss``
``transformers``    ``class PolicyTrainer(PolicyTrainerMixin, Trainer)``; ``PolicyTrainer(..., sampler=sampler)``
``accelerate``      ``prepare_loader(accelerator, loader, sampler)``; ``loader.set_epoch(epoch)``; ``weighted_loss``
=================== ================================================================================================

Each module is imported by name, so that only the package in use has to be installed.
"""

from datawinnow.integrations.ids import with_index
from datawinnow.integrations.loop import ProgressLR, weighted_loss

__all__ = ["ProgressLR", "weighted_loss", "with_index"]
