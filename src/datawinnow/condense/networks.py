"""Sources of networks: fresh, trained on the synthetic images (DC, CAFE), or a queue trained on real images (IDM)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from datawinnow.condense.matching import BATCH_NORMS, MatchingContext
from datawinnow.condense.training import accuracy, sgd, train_epoch, train_step
from datawinnow.core import check


class NetworkSource(Protocol):
    """Yields the networks in which real and synthetic images are matched."""

    def iterate(self, k: int, context: MatchingContext) -> Iterator[tuple[nn.Module, float]]:
        """Networks of iteration ``k``, for one step of the images, with its accuracy in percent.

        Between two yields the source may train a network, for example on the current synthetic images.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint."""
        ...

    def load(self, tensors: Mapping[str, Tensor], context: MatchingContext) -> None:
        """Restore the tensors of `tensors`."""
        ...


class StatelessSource:
    """A source without state between iterations."""

    def tensors(self) -> dict[str, Tensor]:
        """No tensors."""
        return {}

    def load(self, tensors: Mapping[str, Tensor], context: MatchingContext) -> None:
        """Do nothing."""


class FreshNetworks(StatelessSource):
    """A new random network each iteration, never trained (DM)."""

    def iterate(self, k: int, context: MatchingContext) -> Iterator[tuple[nn.Module, float]]:
        """Yield one network."""
        yield context.fresh_network(k), 0.0


class TrainedOnSynthetic(StatelessSource):
    """A new network each iteration, matched ``outer`` times and trained on the images between two steps (DC, DSA).

    Args:
        outer: T, number of matching steps.
        inner: epochs on the synthetic images between two steps.
        lr: learning rate of the network, without momentum and weight decay.
        batch: synthetic images in a training step.
    """

    def __init__(self, outer: int, inner: int, lr: float, batch: int) -> None:
        self.outer = check.number("outer", outer, 1, 1 << 20, integer=True)
        self.inner = check.number("inner", inner, 0, 1 << 20, integer=True)
        self.lr = check.number("net_lr", lr, 0, 1e6)
        self.batch = check.number("net_batch", batch, 1, 1 << 30, integer=True)

    def iterate(self, k: int, context: MatchingContext) -> Iterator[tuple[nn.Module, float]]:
        """Yield the same network ``outer`` times."""
        net = context.fresh_network(k)
        optimizer = sgd(net, self.lr)
        for t in range(self.outer):
            # Before every step, since training on the synthetic images has put the norms back into training mode.
            set_batch_norm_statistics(net, context, k, t)
            yield net, 0.0
            if t + 1 < self.outer:  # no step follows the last one
                x, y = context.decoded()
                for epoch in range(self.inner):
                    draws = context.stream("inner", k, t, epoch)
                    train_epoch(net, optimizer, x, y, batch=self.batch, augment=context.augment, generator=draws)
                context.images_seen["backward"] += self.inner * len(x)


def set_batch_norm_statistics(net: nn.Module, context: MatchingContext, k: int, t: int, images: int = 16) -> None:
    """Set the statistics of batch norms from real images of every class, and freeze them (evaluation mode)."""
    norms = [m for m in net.modules() if isinstance(m, BATCH_NORMS)]
    if norms:
        net.train()
        with torch.no_grad():
            # Of all classes together: statistics of one class would normalise away what distinguishes it.
            net(context.real.take(context.real.draw_per_class(images, context.stream("norms", k, t)))[0])
        for norm in norms:
            norm.eval()


@dataclass(kw_only=True, eq=False)
class DynamicBilevel(StatelessSource):
    """A new network each iteration, matched until its accuracy is still, trained between steps until it moves (CAFE).

    Accuracy is measured on ``query`` fresh real images a class; "still" and "moves" compare its range over the last
    ``window`` measurements. The published inner loop does not end while accuracy stays flat, and its measurements are
    running means; here each is independent, and both loops have a maximal length.

    Args:
        still: lambda_1: matching stops at a range below this.
        moves: lambda_2: training on the images stops at a range above this.
        window: number of measurements compared.
        query: real images of every class in a measurement.
        max_outer: maximal number of matching steps; the range is tested from ``window`` steps on.
        max_inner: maximal number of epochs on the images between two steps.
        lr: learning rate of the network.
        batch: synthetic images in a training step.
    """

    still: float
    moves: float
    window: int
    query: int
    max_outer: int
    max_inner: int
    lr: float
    batch: int

    def __post_init__(self) -> None:
        # errors name the parameters of `cafe`
        check.number("still", self.still, 0, 1)
        check.number("moves", self.moves, 0, 1)
        check.number("window", self.window, 1, 1 << 20, integer=True)
        check.number("query", self.query, 1, 1 << 30, integer=True)
        check.number("outer_most", self.max_outer, 1, 1 << 20, integer=True)
        check.number("inner_most", self.max_inner, 1, 1 << 20, integer=True)
        check.number("net_lr", self.lr, 0, 1e6)
        check.number("net_batch", self.batch, 1, 1 << 30, integer=True)

    def iterate(self, k: int, context: MatchingContext) -> Iterator[tuple[nn.Module, float]]:
        """Yield the same network until its accuracy is still."""
        net = context.fresh_network(k)
        optimizer = sgd(net, self.lr)
        accuracies: list[float] = []
        for t in range(self.max_outer):
            yield net, 0.0
            accuracies.append(self.measure(net, context, k, t, -1))
            if self._range(accuracies) < self.still:
                return
            if t + 1 < self.max_outer:
                self._train(net, optimizer, context, k, t)

    def _train(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, context: MatchingContext, k: int, t: int
    ) -> None:
        x, y = context.decoded()
        accuracies: list[float] = []
        for epoch in range(self.max_inner):
            draws = context.stream("inner", k, t, epoch)
            train_epoch(net, optimizer, x, y, batch=self.batch, augment=context.augment, generator=draws)
            context.images_seen["backward"] += len(x)
            accuracies.append(self.measure(net, context, k, t, epoch))
            # The infinite range of a window that is not full must not count as movement.
            if len(accuracies) >= self.window and self._range(accuracies) > self.moves:
                return

    def _range(self, accuracies: list[float]) -> float:
        last = accuracies[-self.window :]
        # Infinite until the window is full, so that no network is left too early.
        return max(last) - min(last) if len(last) == self.window else float("inf")

    def measure(self, net: nn.Module, context: MatchingContext, k: int, t: int, epoch: int) -> float:
        """Accuracy of ``net`` on ``query`` real images of every class, drawn anew for each (k, t, epoch)."""
        x, y = context.real.take(context.real.draw_per_class(self.query, context.stream("query", k, t, epoch)))
        context.images_seen["forward"] += len(x)
        return accuracy(net, x, y)


@dataclass(kw_only=True, eq=False)
class NetworkQueue:
    """A queue of networks that are trained on real images a few steps at a time (IDM).

    In each iteration a random network of the queue matches; then ``num_trained`` of them take ``steps`` steps on real
    images. Every ``push_every`` iterations a fresh network is pushed, and the oldest popped if there are ``capacity``.

    Args:
        num_initial: networks at the start.
        capacity: maximal number of networks.
        push_every: iterations between two pushes.
        num_trained: networks trained in an iteration.
        steps: training steps of each.
        batch: real images in a training step, not augmented.
        lr: learning rate of the networks.
        momentum: momentum of the networks.
        weight_decay: weight decay of the networks.
        reset_every: iterations after which the accuracy counts are reset (the published code: at every evaluation).
    """

    num_initial: int
    capacity: int
    push_every: int
    num_trained: int
    steps: int
    batch: int
    lr: float
    momentum: float
    weight_decay: float
    reset_every: int

    def __post_init__(self) -> None:
        # errors name the parameters of `idm`
        for name, value, minimum in (
            ("first", self.num_initial, 1),
            ("most", self.capacity, 1),
            ("push_every", self.push_every, 1),
            ("trained", self.num_trained, 0),
            ("steps", self.steps, 0),
            ("net_batch", self.batch, 1),
            ("reset_every", self.reset_every, 1),
        ):
            check.number(name, value, minimum, 1 << 30, integer=True)
        check.number("net_lr", self.lr, 0, 1e6)
        check.number("net_momentum", self.momentum, 0, 1)
        check.number("weight_decay", self.weight_decay, 0, 1e6)
        self.nets: list[nn.Module] = []
        self.optimizers: list[torch.optim.SGD] = []
        self.counts: list[list[int]] = []  # of each network: [correct, total]
        self.num_built = 0

    def iterate(self, k: int, context: MatchingContext) -> Iterator[tuple[nn.Module, float]]:
        """Yield one network in evaluation mode with its accuracy in training; then train ``num_trained`` networks."""
        if not self.nets:
            for _ in range(self.num_initial):
                self._push(context)
        # Before the push, which appends a count of its own; both include iteration 0.
        if k % self.reset_every == 0:
            self.counts = [[0, 0] for _ in self.nets]
        if k % self.push_every == 0:
            self._push(context)
        draws = context.stream("queue", k)
        i = int(torch.randint(len(self.nets), (), generator=draws))
        correct, total = self.counts[i]
        # Evaluation mode while matching: batch norm then uses running statistics and does not mix the classes of a
        # pass.
        yield self.nets[i].eval(), 100 * correct / total if total else 0.0
        for j in torch.randperm(len(self.nets), generator=draws)[: self.num_trained].tolist():
            self._train(j, context, draws)

    def _train(self, j: int, context: MatchingContext, draws: torch.Generator) -> None:
        net = self.nets[j].train()
        correct = torch.zeros((), dtype=torch.int64, device=context.real.device)
        total = 0
        for _ in range(self.steps):
            x, y = context.real.take(context.real.draw_any(self.batch, draws))
            correct += (train_step(net, self.optimizers[j], x, y).argmax(1) == y).sum()
            total += len(x)
        self.counts[j][0] += int(correct)
        self.counts[j][1] += total
        context.images_seen["backward"] += total

    def _push(self, context: MatchingContext) -> None:
        if len(self.nets) >= self.capacity:
            # Three parallel lists: the oldest of each.
            for queue in (self.nets, self.optimizers, self.counts):
                queue.pop(0)
        self._add(context.fresh_network(self.num_built))
        self.num_built += 1

    def _add(self, net: nn.Module) -> None:
        self.nets.append(net)
        self.optimizers.append(sgd(net, self.lr, self.momentum, self.weight_decay))
        self.counts.append([0, 0])

    def tensors(self) -> dict[str, Tensor]:
        """Weights, momentum and counts of every network."""
        tensors = {"queue.counts": torch.tensor(self.counts).view(-1, 2)}
        tensors["queue.num_built"] = torch.tensor([self.num_built])
        for i, (net, optimizer) in enumerate(zip(self.nets, self.optimizers, strict=True)):
            tensors |= {f"queue.{i}.net.{k}": v for k, v in net.state_dict().items()}
            for n, p in enumerate(net.parameters()):
                # A network that has not been trained has no momentum yet.
                if (velocity := optimizer.state[p].get("momentum_buffer")) is not None:
                    tensors[f"queue.{i}.velocity.{n}"] = velocity
        return tensors

    def load(self, tensors: Mapping[str, Tensor], context: MatchingContext) -> None:
        """Restore the tensors of `tensors`."""
        for i, counts in enumerate(tensors["queue.counts"].tolist()):
            # Any weights serve: all of them are overwritten.
            net, prefix = context.fresh_network("again"), f"queue.{i}.net."
            net.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
            self._add(net)
            self.counts[-1] = counts
            for n, p in enumerate(net.parameters()):
                if (velocity := tensors.get(f"queue.{i}.velocity.{n}")) is not None:
                    self.optimizers[-1].state[p]["momentum_buffer"] = velocity.to(p.device).clone()
        self.num_built = int(tensors["queue.num_built"])
