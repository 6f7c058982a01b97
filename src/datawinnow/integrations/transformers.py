"""A policy in the Hugging Face `Trainer`: a mixin for its sampler, its loss and its checkpoints.

Callbacks of that trainer get neither the batch nor the loss, so methods are overridden. The trainer counts the steps of
an epoch once, before training: the sampler must be made with ``steps=``. Its loaders are those of accelerate, which
shard one global order across the processes. It removes columns that ``forward`` of the model does not take, so ids are
added after that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datawinnow.core.arrays import RECORDED
from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.reduce import Reduction, per_example
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.integrations.accelerate import as_global
from datawinnow.integrations.files import SAMPLER_FILE_NAME, load_state, save_state
from datawinnow.integrations.ids import INDEX, IndexCollator, WithIndex
from datawinnow.integrations.loop import weighted_loss
from datawinnow.record.signals import signals

try:
    from transformers import TrainerCallback
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.trainer_utils import get_last_checkpoint
except ModuleNotFoundError as error:  # pragma: no cover
    raise ModuleNotFoundError("PolicyTrainerMixin needs: pip install 'datawinnow[transformers]'") from error


class PolicyTrainerMixin:
    """Trains on the plans of a `PolicySampler`: ``class PolicyTrainer(PolicyTrainerMixin, Trainer): ...``.

    The loss of an example is the cross-entropy of the model's logits, or the mean over its tokens (shifted
    for causal language models, without labels of -100). Override `example_loss` for another loss.

    Args:
        args: of the trainer.
        sampler: made with ``steps=`` and ``batch=``; its `n` is the length of ``train_dataset``.
        reduction: of the weighted losses to one number, see `datawinnow.dynamic.reduce`; not ``"none"``.
        kwargs: of the trainer.

    Raises:
        ArgumentError: a sampler without ``steps``, of another number of examples, ``reduction="none"``, or
            a ``compute_loss_func``.
    """

    def __init__(self, *args: Any, sampler: PolicySampler, reduction: str | Reduction = "mean", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.policy_sampler, self.reduction = as_global(sampler), reduction
        trainer: Any = self
        if sampler.steps is None:
            batch = trainer._train_batch_size
            raise ArgumentError(
                "the Trainer counts its steps once, before training: make the sampler with steps= and batch=, for "
                f"example steps={max(1, sampler.n // (2 * batch))}, batch={batch} for half of the data"
            )
        if trainer.train_dataset is None or len(trainer.train_dataset) != sampler.n:
            have = "none" if trainer.train_dataset is None else f"of {len(trainer.train_dataset)} examples"
            raise ArgumentError(f"the sampler is for n={sampler.n} examples, train_dataset is {have}")
        if getattr(trainer, "compute_loss_func", None) is not None:
            raise ArgumentError("compute_loss_func returns no loss per example: override example_loss(outputs, labels)")
        if reduction == "none":
            raise ArgumentError('the Trainer needs one number: reduction must be "mean" or "self_normalised"')
        # the loss is a mean over a micro-batch, which the trainer then divides by the number of micro-batches
        trainer.model_accepts_loss_kwargs = False
        trainer.loss_is_scaled_for_ga = False
        trainer.add_callback(_SaveSampler(self.policy_sampler))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The loader of the trainer, with ids in its batches and the order of the sampler."""
        trainer: Any = self
        original = trainer.train_dataset, trainer.data_collator, trainer.args.remove_unused_columns
        dataset = trainer.train_dataset
        collate = trainer._get_collator_with_removed_columns(trainer.data_collator, description="training")
        if hasattr(dataset, "column_names") and hasattr(dataset, "remove_columns"):
            dataset, collate = trainer._remove_unused_columns(dataset, description="training"), trainer.data_collator
        # Replaced only while the parent builds its loader: evaluation must not see the ids.
        trainer.train_dataset, trainer.data_collator = WithIndex(dataset), IndexCollator(collate)
        trainer.args.remove_unused_columns = False  # already removed
        try:
            loader: DataLoader[Any] = super().get_train_dataloader()  # type: ignore[misc]
            return loader
        finally:
            trainer.train_dataset, trainer.data_collator, trainer.args.remove_unused_columns = original

    def _get_train_sampler(self, *_: Any, **__: Any) -> PolicySampler:
        return self.policy_sampler

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        """The weighted loss of a training batch, whose losses are observed; that of the trainer for other batches."""
        # The trainer also evaluates through this method.
        if INDEX not in inputs or not model.training:
            rest = {key: value for key, value in inputs.items() if key != INDEX}
            return super().compute_loss(model, rest, return_outputs, **kwargs)  # type: ignore[misc]
        inputs = dict(inputs)
        index, labels = inputs.pop(INDEX), inputs["labels"]
        if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            # an encoder-decoder derives inputs from them; other models would compute a loss that is not needed
            inputs.pop("labels")
        outputs = model(**inputs)
        loss = self.example_loss(outputs, labels)
        total = weighted_loss(
            self.policy_sampler, index, loss, self.reduction, **self._signals_of_classes(outputs, labels)
        )
        return (total, outputs) if return_outputs else total

    def _signals_of_classes(self, outputs: Any, labels: Tensor) -> dict[str, Tensor]:
        """What the policy needs beside the loss, from the logits of the step."""
        names = tuple(name for name in self.policy_sampler.policy.needs if name in RECORDED and name != "loss")
        if not names:
            return {}
        return signals(outputs["logits"] if isinstance(outputs, dict) else outputs[0], labels, names=names)

    def example_loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """(b,) losses; override it for tasks without cross-entropy.

        Args:
            outputs: of the model, with ``logits`` (b, c), or (b, t, c) for sequences.
            labels: (b,) or (b, t) class ids; those of -100 are ignored.
        """
        trainer: Any = self
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        name = type(trainer.accelerator.unwrap_model(trainer.model)).__name__
        if logits.ndim == 3 and name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
            # A causal model predicts the next token; other token classifiers label each token itself.
            logits, labels = logits[:, :-1], labels[:, 1:]
        if logits.shape[:-1] != labels.shape or labels.is_floating_point():
            raise ArgumentError(
                f"cross-entropy needs class ids of shape {tuple(logits.shape[:-1])}, got labels of "
                f"{tuple(labels.shape)} {labels.dtype}: override example_loss(outputs, labels) for another task"
            )
        loss = F.cross_entropy(
            # A softmax over a large vocabulary in half precision loses small losses.
            logits.flatten(0, -2).float(),
            labels.flatten(),
            reduction="none",
            label_smoothing=trainer.args.label_smoothing_factor,
        ).view(labels.shape)
        # The mean over the tokens of an example, so that long ones do not weigh more.
        return per_example(loss, labels != -100)

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As of the trainer; from a checkpoint the state of the sampler is restored too.

        Raises:
            RunError: the checkpoint has no such state, or that of another dataset or policy.
        """
        trainer: Any = self
        folder = (
            get_last_checkpoint(trainer.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        )
        if folder:
            # from the start of its epoch: the trainer skips the batches that are done
            self.policy_sampler.load_state_dict(load_state(Path(folder) / SAMPLER_FILE_NAME), position=0)
        return super().train(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]


class _SaveSampler(TrainerCallback):  # type: ignore[misc]
    """Writes the state of the sampler into each checkpoint."""

    def __init__(self, sampler: PolicySampler) -> None:
        self.sampler = sampler

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called on all processes, after the trainer wrote its files."""
        self.sampler.sync()
        if state.is_world_process_zero:
            save_state(
                Path(args.output_dir) / f"checkpoint-{state.global_step}" / SAMPLER_FILE_NAME, self.sampler.state_dict()
            )
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # No process continues before the file is written.
            torch.distributed.barrier()
