"""A policy in the Hugging Face `Trainer`: a mixin for its sampler, its loss and its checkpoints.

Callbacks of that trainer see neither the batch nor the loss, so these hooks are the place. It counts an epoch's steps
once, before training: the sampler must be made with ``steps=``. Its loaders are accelerate's, which deal out one
global order to the processes. It removes columns that the model's ``forward`` does not take: ids travel round that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datawinnow.core.errors import ArgumentError
from datawinnow.dynamic.reduce import Reduction, per_example
from datawinnow.dynamic.sampler import PolicySampler
from datawinnow.integrations._files import FILE, load_state, save_state
from datawinnow.integrations.accelerate import as_global
from datawinnow.integrations.ids import INDEX, IndexCollator, WithIndex
from datawinnow.integrations.loop import weighted_loss

try:
    from transformers import TrainerCallback
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.trainer_utils import get_last_checkpoint
except ModuleNotFoundError as error:  # pragma: no cover
    raise ModuleNotFoundError("PolicyTrainerMixin needs: pip install 'datawinnow[transformers]'") from error


class PolicyTrainerMixin:
    """Trains on what a `PolicySampler` plans: ``class PolicyTrainer(PolicyTrainerMixin, Trainer): ...``.

    The loss of an example is cross-entropy from the model's logits, over its tokens where it has several (shifted for
    causal language models, without the labels of -100). Override `example_loss` for another.

    Args:
        args: of the trainer.
        sampler: made with ``steps=`` and ``batch=``; its `n` is the length of ``train_dataset``.
        reduction: of the weighted losses, see `datawinnow.dynamic.reduce`; to one number, so not ``"none"``.
        kwargs: of the trainer.

    Raises:
        ArgumentError: a sampler without ``steps``, of another number of examples, ``reduction="none"``, or
            a ``compute_loss_func``.
    """

    def __init__(self, *args: Any, sampler: PolicySampler, reduction: str | Reduction = "mean", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.policy_sampler, self.reduction = as_global(sampler), reduction
        me: Any = self
        if sampler.steps is None:
            raise ArgumentError(
                "the Trainer counts its steps once, before training: make the sampler with steps= and batch=, for "
                f"example steps={max(1, sampler.n // (2 * me._train_batch_size))}, batch={me._train_batch_size} for "
                "half of the data"
            )
        if me.train_dataset is None or len(me.train_dataset) != sampler.n:
            have = "none" if me.train_dataset is None else f"of {len(me.train_dataset)} examples"
            raise ArgumentError(f"the sampler is about n={sampler.n} examples, train_dataset is {have}")
        if getattr(me, "compute_loss_func", None) is not None:
            raise ArgumentError("compute_loss_func gives no loss an example: override example_loss(outputs, labels)")
        if reduction == "none":
            raise ArgumentError('the Trainer needs one number: reduction must be "mean" or "self_normalised"')
        # the loss made here is a mean over a micro-batch, which the trainer then divides by how many there are
        me.model_accepts_loss_kwargs = False
        me.loss_is_scaled_for_ga = False
        me.add_callback(_Keeper(self.policy_sampler))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The trainer's own loader, with ids in its batches and the sampler's order."""
        me: Any = self
        kept = me.train_dataset, me.data_collator, me.args.remove_unused_columns
        dataset = me.train_dataset
        collate = me._get_collator_with_removed_columns(me.data_collator, description="training")
        if hasattr(dataset, "column_names") and hasattr(dataset, "remove_columns"):
            dataset, collate = me._remove_unused_columns(dataset, description="training"), me.data_collator
        me.train_dataset, me.data_collator = WithIndex(dataset), IndexCollator(collate)
        me.args.remove_unused_columns = False  # done
        try:
            loader: DataLoader[Any] = super().get_train_dataloader()  # type: ignore[misc]
            return loader
        finally:
            me.train_dataset, me.data_collator, me.args.remove_unused_columns = kept

    def _get_train_sampler(self, *_: Any, **__: Any) -> PolicySampler:
        return self.policy_sampler

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> Any:
        """The weighted loss of a training batch, observed on the way; of others, the trainer's own."""
        if INDEX not in inputs or not model.training:
            rest = {key: value for key, value in inputs.items() if key != INDEX}
            return super().compute_loss(model, rest, return_outputs, **kwargs)  # type: ignore[misc]
        inputs = dict(inputs)
        index, labels = inputs.pop(INDEX), inputs["labels"]
        if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            inputs.pop("labels")  # an encoder-decoder makes its inputs of them; elsewhere its own loss is not needed
        outputs = model(**inputs)
        loss = self.example_loss(outputs, labels)
        total = weighted_loss(self.policy_sampler, index, loss, self.reduction)
        return (total, outputs) if return_outputs else total

    def example_loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """(b,) losses; override it where cross-entropy is not the task.

        Args:
            outputs: of the model, with ``logits`` (b, c), or (b, t, c) a token.
            labels: (b,) or (b, t) class ids; -100 does not count.
        """
        me: Any = self
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        name = type(me.accelerator.unwrap_model(me.model)).__name__
        if logits.ndim == 3 and name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
            logits, labels = logits[:, :-1], labels[:, 1:]
        if logits.shape[:-1] != labels.shape or labels.is_floating_point():
            raise ArgumentError(
                f"cross-entropy needs class ids of shape {tuple(logits.shape[:-1])}, got labels of "
                f"{tuple(labels.shape)} {labels.dtype}: override example_loss(outputs, labels) for another task"
            )
        loss = F.cross_entropy(
            logits.flatten(0, -2).float(),
            labels.flatten(),
            reduction="none",
            label_smoothing=me.args.label_smoothing_factor,
        ).view(labels.shape)
        return per_example(loss, labels != -100)

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The trainer's own; a checkpoint brings the sampler's state back too.

        Raises:
            RunError: the checkpoint has none, or that of another dataset or policy.
        """
        me: Any = self
        folder = get_last_checkpoint(me.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        if folder:
            # from the start of its epoch: the trainer reads over the batches that are done
            self.policy_sampler.load_state_dict(load_state(Path(folder) / FILE), position=0)
        return super().train(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]


class _Keeper(TrainerCallback):  # type: ignore[misc]
    """Writes the sampler's state into each checkpoint."""

    def __init__(self, sampler: PolicySampler) -> None:
        self.sampler = sampler

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the trainer wrote its own files; on all processes."""
        self.sampler.sync()
        if state.is_world_process_zero:
            save_state(Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE, self.sampler.state_dict())
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
