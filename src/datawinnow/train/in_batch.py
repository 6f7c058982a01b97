"""`InBatchSelector`: keeps a part of each loaded batch while training, and counts what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.budget import budget_of
from datawinnow.core.cost import Cost
from datawinnow.core.errors import RunError, TrainingError
from datawinnow.core.memory_format import channels_last_works
from datawinnow.core.rng import stream
from datawinnow.data.batches import batch_sizes
from datawinnow.dynamic.in_batch import InBatch
from datawinnow.models.outputs import select_logits
from datawinnow.train.checkpoint import optimizer_state, restore_optimizer
from datawinnow.train.network import check_forward, make_optimizer, num_classes, set_training_mode
from datawinnow.train.precision import autocast, float32_head
from datawinnow.train.recipe import Recipe
from datawinnow.train.text_costs import TextCosts


class InBatchSelector:
    """`InBatch` at work in one training: chooses what each step trains on, trains the proxy, and counts the cost.

    Args:
        options: of the choice.
        network: the main network as it is called; scores the batches if there is no proxy.
        recipe: how to train, with its precision resolved.
        device: where the networks are.
        seed: of ties and draws.
        flops: of training the main network on one example; 0 if unknown.
        proxy_flops: the same of the proxy.
        classes: number of classes; 0 if unknown.

    Attributes:
        scorer: the network whose losses decide: the proxy, or the main network.
        optimizer: over the proxy's parameters; None without a proxy.
        share: FLOPs of the scorer over those of the main network.
    """

    def __init__(
        self,
        options: InBatch,
        network: nn.Module,
        *,
        recipe: Recipe,
        device: torch.device,
        seed: int,
        flops: float,
        proxy_flops: float = 0.0,
        classes: int = 0,
    ) -> None:
        self.options, self.recipe, self.device, self.seed = options, recipe, device, seed
        self.scorer = options.proxy or network
        self.optimizer = None if options.proxy is None else make_optimizer(options.proxy, recipe)
        self.classes = classes
        self.flops = flops if options.proxy is None else proxy_flops
        # a network that cannot be counted is charged as if it were as large as the main one: never too little
        self.share = 1.0 if options.proxy is None or not flops or not proxy_flops else proxy_flops / flops
        self.load_batch = options.pool(recipe.batch)

    @classmethod
    def for_run(
        cls,
        options: InBatch,
        network: nn.Module,
        dataset: Any,
        *,
        recipe: Recipe,
        device: torch.device,
        seed: int,
        flops: float,
        texts: TextCosts | None = None,
    ) -> InBatchSelector:
        """The selector of a training on ``dataset``, with the proxy checked and moved to the device.

        Raises:
            ArgumentError: the proxy gives no logits for as many classes, or has nothing to train.
        """
        proxy_flops = 0.0
        if options.proxy is not None:
            proxy_flops = check_forward(options.proxy, dataset, device)
            if texts is not None:
                proxy_flops = texts.flops_of(options.proxy, dataset, device)
            if recipe.channels_last and channels_last_works(options.proxy, device):
                options.proxy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(
            options,
            network,
            recipe=recipe,
            device=device,
            seed=seed,
            flops=flops,
            proxy_flops=proxy_flops,
            classes=num_classes(dataset),
        )

    def choose(self, step: int, index: Tensor, x: Tensor, y: Tensor, lr: float) -> tuple[Tensor, Tensor, Tensor]:
        """Choose what a step trains on from the batch that it loaded, and train the proxy when it is due.

        Args:
            step: number of the step in the run, from 0; every ``options.every``-th trains the proxy.
            index: (b,) ids.
            x: (b, ...) network inputs.
            y: (b,) labels.
            lr: learning rate of this step.

        Returns:
            The kept ids, inputs and labels.

        Raises:
            TrainingError: the losses are not finite.
        """
        # in training mode, as the step that follows: batch norm uses the statistics of the batch
        set_training_mode(self.scorer)
        with torch.no_grad(), freeze_running_stats(self.scorer):
            loss = self._losses(x, y).cpu()  # the step's one wait for the device: the choice is made on the host
        if not torch.isfinite(loss).all():
            name = "network" if self.options.proxy is None else "proxy"
            raise TrainingError(
                f"the {name} that scores the batches has a loss of {float(loss.sum())} in step {step}: try a lower "
                "`lr=` or `precision='fp32'`. The epochs before are kept"
            )
        budget = self._num_kept(len(y))
        # a stream by step: a resumed run breaks ties and draws as the first one did
        positions = self.options.choose(loss, budget=budget, generator=stream(self.seed, "in_batch", step))
        positions = positions.to(self.device)
        index, x, y = index[positions], x[positions], y[positions]
        # the proxy trains on the kept examples, at the learning rate of the network
        if self.optimizer is not None and step % self.options.every == 0:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            torch.autograd.backward(self._losses(x, y).mean())
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return index, x, y

    def _losses(self, x: Tensor, y: Tensor) -> Tensor:
        with float32_head(self.scorer), autocast(self.device, self.recipe.precision):
            logits = select_logits(self.scorer(x), self.classes, name="the proxy").float()
        return F.cross_entropy(logits, y, reduction="none", label_smoothing=self.recipe.label_smoothing)

    def num_trained(self, loaded: int) -> int:
        """Number of examples trained on in an epoch that loads ``loaded``."""
        return sum(map(self._num_kept, self._batch_sizes(loaded)))

    def selection_cost(self, loaded: int, steps_before: int) -> Cost:
        """Cost of an epoch's choices alone, beside the training, in examples of the main network.

        Args:
            loaded: examples that the epoch loads.
            steps_before: steps of the run before the epoch.
        """
        proxy_trained = 0
        if self.optimizer is not None:
            steps = enumerate(self._batch_sizes(loaded), steps_before)
            proxy_trained = sum(self._num_kept(size) for step, size in steps if step % self.options.every == 0)
        # a forward pass alone is a third of the operations of training
        flops = self.flops * (loaded / 3 + proxy_trained)
        return Cost(0.0, round(self.share * loaded), round(self.share * proxy_trained), flops)

    def epoch_cost(self, loaded: int, steps_before: int) -> Cost:
        """Cost of an epoch, training and choices; arguments as of `selection_cost`."""
        return Cost(backward=self.num_trained(loaded)) + self.selection_cost(loaded, steps_before)

    def affordable(self, remaining: float, steps_before: int, limit: int) -> int:
        """The largest number of examples, 1 to ``limit``, whose `epoch_cost` is at most ``remaining`` passes."""
        # start from the cost of an average example, rounded up by a batch, and step down to the exact answer
        # expected passes of a loaded example: the kept share trains network and (now and then) proxy; all are
        # scored
        per_example = self.options.keep * (1 + self.share / self.options.every) + self.share / 3
        loaded = min(limit, int(remaining / per_example) + self.load_batch)
        while loaded > 1 and self.epoch_cost(loaded, steps_before).passes > remaining:
            loaded -= 1
        return loaded

    def _batch_sizes(self, loaded: int) -> list[int]:
        return batch_sizes(loaded, self.load_batch)

    def _num_kept(self, size: int) -> int:
        return budget_of(self.options.keep, size)

    def tensors(self) -> dict[str, Tensor]:
        """The proxy and its optimizer, for a checkpoint."""
        if self.optimizer is None:
            return {}
        weights = {f"proxy.{k}": v.detach().cpu() for k, v in self.scorer.state_dict().items()}
        # keys proxy_optimizer.*: the dot in "proxy." keeps the two apart
        return weights | {f"proxy_{k}": v for k, v in optimizer_state(self.optimizer)[0].items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore the proxy and its optimizer from `tensors`.

        Raises:
            RunError: they are of another proxy.
        """
        weights = {k.removeprefix("proxy."): v for k, v in tensors.items() if k.startswith("proxy.")}
        current = {} if self.optimizer is None else self.scorer.state_dict()
        if set(weights) != set(current) or any(weights[k].shape != current[k].shape for k in current):
            raise RunError("the checkpoint holds another proxy than InBatch has: give that one, or another file")
        if self.optimizer is not None:
            self.scorer.load_state_dict(weights)
            moments = {k.removeprefix("proxy_"): v for k, v in tensors.items() if k.startswith("proxy_optimizer.")}
            restore_optimizer(self.optimizer, moments, {})


@contextmanager
def freeze_running_stats(network: nn.Module) -> Iterator[None]:
    """Let batch norm use the statistics of the batch and leave its running ones unchanged."""
    # without tracking, batch norm in training mode neither reads nor updates its running statistics
    tracking = [m for m in network.modules() if getattr(m, "track_running_stats", False)]
    for module in tracking:
        module.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True  # type: ignore[assignment]
