"""The policies in other people's loops: plain PyTorch, Lightning, the Hugging Face Trainer, accelerate.

=================== ================================================================================================
module              three lines
=================== ================================================================================================
``loop``            ``sampler.set_epoch(epoch)``; ``loss = weighted_loss(sampler, index, loss)``; `ProgressLR`
``lightning``       `PolicyCallback(sampler)`; ``Trainer(reload_dataloaders_every_n_epochs=1)``; ``weighted_loss``
``transformers``    ``class PolicyTrainer(PolicyTrainerMixin, Trainer)``; ``PolicyTrainer(..., sampler=sampler)``
``accelerate``      ``loader = prepared(accelerator, loader, sampler)``; ``loader.set_epoch(epoch)``; ``weighted_loss``
=================== ================================================================================================

Each module is imported by name, so that none of the packages is needed but the one in use.
"""

from datawinnow.integrations.ids import with_index
from datawinnow.integrations.loop import ProgressLR, weighted_loss

__all__ = ["ProgressLR", "weighted_loss", "with_index"]
