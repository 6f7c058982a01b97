"""A policy in a Lightning `Trainer`: one callback.

Lightning wraps every sampler that is not a `DistributedSampler` (ours is one) and repeats ids when it shrinks. It
counts the batches of an epoch before it sets the sampler's epoch, and only once unless it reloads the loader; and after
a resume it makes the iterator of the loader first. So the callback sets each epoch at the end of the one before.
"""

from __future__ import annotations

from typing import Any

from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.sampler import PolicySampler

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:  # pragma: no cover
    raise ModuleNotFoundError("PolicyCallback needs Lightning: pip install 'datawinnow[lightning]'") from error


class PolicyCallback(Callback):  # type: ignore[misc]
    """Plans each epoch before Lightning counts its batches, and saves the sampler's state in checkpoints.

    Use it with ``Trainer(reload_dataloaders_every_n_epochs=1)``, and `weighted_loss` in ``training_step``.

    Args:
        sampler: of the training loader.
    """

    def __init__(self, sampler: PolicySampler) -> None:
        self.sampler = sampler

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the trainer counts batches again in every epoch.

        Raises:
            ArgumentError: it does not.
        """
        del pl_module
        if stage == "fit" and trainer.reload_dataloaders_every_n_epochs != 1:
            raise ArgumentError(
                "Lightning counts the batches of an epoch only once, so that it would cut or overrun the epochs of a "
                "policy: give Trainer(reload_dataloaders_every_n_epochs=1), got "
                f"{trainer.reload_dataloaders_every_n_epochs}"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plan the next epoch; checkpoints are written after this."""
        del pl_module
        # Now, and not at its start: by then Lightning has already counted the batches of the loader.
        following = trainer.current_epoch + 1
        # Past the last epoch there is nothing to plan, and a policy may refuse to.
        if trainer.max_epochs in (None, -1) or following < trainer.max_epochs:
            self.sampler.set_epoch(following)

    def state_dict(self) -> dict[str, Any]:
        """The sampler's; Lightning calls this on all processes."""
        self.sampler.sync()
        return self.sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the sampler; after the last batch of an epoch Lightning first ends that epoch, without a batch."""
        self.sampler.load_state_dict(state_dict)
