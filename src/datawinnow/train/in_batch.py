"""Training on a part of each loaded batch: who looks at it, who learns from it, and what that costs."""

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
from datawinnow.core.rng import stream
from datawinnow.dynamic.in_batch import InBatch
from datawinnow.train import setup
from datawinnow.train.checkpoint import optimizer_state, restore_optimizer
from datawinnow.train.precision import autocast, float32_head
from datawinnow.train.recipe import Recipe


class Within:
    """What `InBatch` comes to for one network: the choosing of a step, and its cost.

    Args:
        how: the options.
        network: the main network as it is called; looks at the batches where there is no proxy.
        optimizer: over the proxy's parameters; None without one.
        recipe: how to train.
        precision: arithmetic of the forward passes.
        device: where the networks are.
        seed: of ties and draws.
        flops: of training the main network on one example.
        proxy_flops: the proxy's.

    Attributes:
        share: FLOPs of the network that looks at the batches, over those of the main one.
    """

    def __init__(
        self,
        how: InBatch,
        network: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        *,
        recipe: Recipe,
        precision: str,
        device: torch.device,
        seed: int,
        flops: float,
        proxy_flops: float,
    ) -> None:
        self.how, self.network, self.optimizer = how, how.proxy or network, optimizer
        self.recipe, self.precision, self.device, self.seed = recipe, precision, device, seed
        self.flops = flops if how.proxy is None else proxy_flops
        # a network that cannot be counted is charged as if it were as large: never too little
        self.share = 1.0 if how.proxy is None or not flops or not proxy_flops else proxy_flops / flops
        self.pool = how.pool(recipe.batch)

    def choose(self, step: int, i: Tensor, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor, Tensor]:
        """What step number ``step`` of the run trains on, of the batch that it loaded.

        Args:
            step: from the beginning of the run, from 0; every ``how.every``-th trains the proxy.
            i: (b,) ids.
            x: (b, ...) what the networks see.
            y: (b,) labels.
            rate: learning rate of this step.

        Returns:
            The kept ids, inputs and labels.

        Raises:
            TrainingError: the losses that are chosen by are no longer numbers.
        """
        self.network.train()
        with torch.no_grad(), still(self.network):
            loss = self._losses(x, y).cpu()  # the one wait for the device: a choice needs the numbers on the host
        if not torch.isfinite(loss).all():
            who = "network" if self.how.proxy is None else "proxy"
            raise TrainingError(
                f"the {who} that looks at the batches has a loss of {float(loss.sum())} in step {step}: try a lower lr "
                "or precision='fp32'. The epochs before are kept"
            )
        budget = self._kept_of(len(y))
        positions = self.how.choose(loss, budget=budget, generator=stream(self.seed, "in_batch", step))
        positions = positions.to(self.device)
        i, x, y = i[positions], x[positions], y[positions]
        if self.optimizer is not None and step % self.how.every == 0:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            torch.autograd.backward(self._losses(x, y).mean())
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return i, x, y

    def _losses(self, x: Tensor, y: Tensor) -> Tensor:
        with float32_head(self.network), autocast(self.device, self.precision):
            logits = self.network(x).float()
        return F.cross_entropy(logits, y, reduction="none", label_smoothing=self.recipe.label_smoothing)

    def kept(self, loaded: int) -> int:
        """How many of an epoch's ``loaded`` examples are trained on."""
        return sum(map(self._kept_of, self._sizes(loaded)))

    def extra(self, loaded: int, before: int) -> Cost:
        """What choosing costs beside the training, in examples of the main network.

        Args:
            loaded: examples that the epoch loads.
            before: steps before the epoch.
        """
        sizes = self._sizes(loaded)
        taught = 0
        if self.optimizer is not None:
            taught = sum(self._kept_of(b) for t, b in enumerate(sizes, before) if t % self.how.every == 0)
        flops = self.flops * (loaded / 3 + taught)
        return Cost(0.0, round(self.share * loaded), round(self.share * taught), flops)

    def charge(self, loaded: int, before: int) -> Cost:
        """What an epoch costs, training and choosing; arguments as of `extra`."""
        return Cost(backward=self.kept(loaded)) + self.extra(loaded, before)

    def affordable(self, left: float, before: int, most: int) -> int:
        """The most examples, 1 to ``most``, that may be loaded for ``left`` trained examples."""
        each = self.how.keep * (1 + self.share / self.how.every) + self.share / 3
        loaded = min(most, int(left / each) + self.pool)
        while loaded > 1 and self.charge(loaded, before).passes > left:
            loaded -= 1
        return loaded

    def _sizes(self, loaded: int) -> list[int]:
        """Examples of each batch, as `datawinnow.data.batches.split_evenly` cuts them."""
        count = max(1, -(-loaded // self.pool))
        size, rest = divmod(loaded, count)
        return [size + 1] * rest + [size] * (count - rest)

    def _kept_of(self, size: int) -> int:
        return budget_of(self.how.keep, size)

    def tensors(self) -> dict[str, Tensor]:
        """The proxy and its optimiser, for a checkpoint."""
        if self.optimizer is None:
            return {}
        weights = {f"proxy.{k}": v.detach().cpu() for k, v in self.network.state_dict().items()}
        return weights | {f"proxy_{k}": v for k, v in optimizer_state(self.optimizer)[0].items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `tensors`.

        Raises:
            RunError: they are of another proxy.
        """
        weights = {k.removeprefix("proxy."): v for k, v in tensors.items() if k.startswith("proxy.")}
        own = {} if self.optimizer is None else self.network.state_dict()
        if set(weights) != set(own) or any(weights[k].shape != own[k].shape for k in own):
            raise RunError("the checkpoint holds another proxy than InBatch was given: give that one, or another file")
        if self.optimizer is not None:
            self.network.load_state_dict(weights)
            moments = {k.removeprefix("proxy_"): v for k, v in tensors.items() if k.startswith("proxy_optimizer.")}
            restore_optimizer(self.optimizer, moments, {})


def within_of(
    how: InBatch, network: nn.Module, whole: Any, recipe: Recipe, device: torch.device, seed: int, flops: float
) -> Within:
    """What chooses inside the batches of a run on ``whole``, its proxy on the device and with an optimiser.

    Raises:
        ArgumentError: a proxy that gives no logits of as many classes, or has nothing to train.
    """
    proxy_flops, optimizer = 0.0, None
    if how.proxy is not None:
        proxy_flops = setup.rehearse(how.proxy, whole, device)
        if recipe.channels_last:
            how.proxy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = setup.optimizer_of(how.proxy, recipe)
    asked: dict[str, Any] = {"recipe": recipe, "precision": recipe.precision, "device": device, "seed": seed}
    return Within(how, network, optimizer, **asked, flops=flops, proxy_flops=proxy_flops)


@contextmanager
def still(network: nn.Module) -> Iterator[None]:
    """Batch norm works with the statistics of the batch and leaves its running ones alone."""
    tracking = [m for m in network.modules() if getattr(m, "track_running_stats", False)]
    for module in tracking:
        module.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True  # type: ignore[assignment]
