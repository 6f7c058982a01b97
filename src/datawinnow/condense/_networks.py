"""Where networks come from: fresh, trained on the synthetic images, dynamically so, or a queue trained on real ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from datawinnow.condense._step import BATCH_NORMS, World
from datawinnow.condense._train import accuracy, sgd, train_epoch, train_step
from datawinnow.core import check


class Networks(Protocol):
    """The first of the three parts of a condenser."""

    def of(self, k: int, world: World) -> Iterator[tuple[nn.Module, float]]:
        """The networks of iteration ``k``, each for one step of the images, with its accuracy on real ones in percent.

        What happens between two of them, happens here: training, for instance, on the images as they are then.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        ...

    def load(self, tensors: Mapping[str, Tensor], world: World) -> None:
        """From what `tensors` gave."""
        ...


class Stateless:
    """Networks that no iteration leaves to the next."""

    def tensors(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load(self, tensors: Mapping[str, Tensor], world: World) -> None:
        """Nothing."""


class Fresh(Stateless):
    """A new random network each iteration, never trained (DM)."""

    def of(self, k: int, world: World) -> Iterator[tuple[nn.Module, float]]:
        """One network."""
        yield world.fresh(k), 0.0


class TrainedOnSynthetic(Stateless):
    """A new network each iteration, matched ``outer`` times and trained on the images in between (DC, DSA).

    Args:
        outer: T, matching steps.
        inner: epochs on the synthetic images between two of them.
        lr: of the network; no momentum and no weight decay.
        batch: synthetic images a training step.
    """

    def __init__(self, outer: int, inner: int, lr: float, batch: int) -> None:
        self.outer = check.number("outer", outer, 1, 1 << 20, integer=True)
        self.inner = check.number("inner", inner, 0, 1 << 20, integer=True)
        self.lr, self.batch = check.number("net_lr", lr, 0, 1e6), check.number("net_batch", batch, 1, 1 << 20)

    def of(self, k: int, world: World) -> Iterator[tuple[nn.Module, float]]:
        """The same network, ``outer`` times."""
        net = world.fresh(k)
        optimizer = sgd(net, self.lr)
        for t in range(self.outer):
            settle_norms(net, world, k, t)
            yield net, 0.0
            if t + 1 < self.outer:  # what is trained after the last step would match nothing
                x, y = world.synthetic()
                for epoch in range(self.inner):
                    draws = world.stream("inner", k, t, epoch)
                    train_epoch(net, optimizer, x, y, batch=self.batch, augment=world.augment, generator=draws)
                world.passed["backward"] += self.inner * len(x)


def settle_norms(net: nn.Module, world: World, k: int, t: int, images: int = 16) -> None:
    """Give batch norms the statistics of some real images of every class, and leave them at those."""
    norms = [m for m in net.modules() if isinstance(m, BATCH_NORMS)]
    if norms:
        net.train()
        with torch.no_grad():
            net(world.real.at(world.real.draw(images, world.stream("norms", k, t)))[0])
        for norm in norms:
            norm.eval()


class DynamicBilevel(Stateless):
    """A new network each iteration, matched until its accuracy stands still, trained in between until it moves (CAFE).

    Accuracy is that on ``query`` fresh real images a class, and "still" and "moves" are about its range over the last
    ``window`` readings. The published inner loop never ends where accuracy stays flat, and its readings carry a share
    of all readings before; here each is a mean of its own, and both loops have an end.

    Args:
        still: lambda_1: matching stops at a range below this.
        moves: lambda_2: training on the images stops at a range above this.
        window: readings.
        query: real images of every class.
        outer_most: matching steps at most; at least ``window`` to stop by themselves.
        inner_most: epochs on the images between two steps at most.
        lr: of the network.
        batch: synthetic images a training step.
    """

    def __init__(
        self,
        *,
        still: float,
        moves: float,
        window: int,
        query: int,
        outer_most: int,
        inner_most: int,
        lr: float,
        batch: int,
    ) -> None:
        self.still, self.moves = check.number("still", still, 0, 1), check.number("moves", moves, 0, 1)
        self.window = check.number("window", window, 1, 1 << 20, integer=True)
        self.query = check.number("query", query, 1, 1 << 30, integer=True)
        self.outer_most = check.number("outer_most", outer_most, 1, 1 << 20, integer=True)
        self.inner_most = check.number("inner_most", inner_most, 1, 1 << 20, integer=True)
        self.lr, self.batch = check.number("net_lr", lr, 0, 1e6), check.number("net_batch", batch, 1, 1 << 20)

    def of(self, k: int, world: World) -> Iterator[tuple[nn.Module, float]]:
        """The same network until it stands still."""
        net = world.fresh(k)
        optimizer = sgd(net, self.lr)
        outer: list[float] = []
        for t in range(self.outer_most):
            yield net, 0.0
            outer.append(self._reading(net, world, k, t, -1))
            if self._range(outer) < self.still:
                return
            if t + 1 < self.outer_most:
                self._train(net, optimizer, world, k, t)

    def _train(self, net: nn.Module, optimizer: torch.optim.Optimizer, world: World, k: int, t: int) -> None:
        x, y = world.synthetic()
        inner: list[float] = []
        for epoch in range(self.inner_most):
            draws = world.stream("inner", k, t, epoch)
            train_epoch(net, optimizer, x, y, batch=self.batch, augment=world.augment, generator=draws)
            world.passed["backward"] += len(x)
            inner.append(self._reading(net, world, k, t, epoch))
            if len(inner) >= self.window and self._range(inner) > self.moves:
                return

    def _range(self, readings: list[float]) -> float:
        last = readings[-self.window :]
        return max(last) - min(last) if len(last) == self.window else float("inf")

    def _reading(self, net: nn.Module, world: World, k: int, t: int, epoch: int) -> float:
        x, y = world.real.at(world.real.draw(self.query, world.stream("query", k, t, epoch)))
        world.passed["forward"] += len(x)
        return accuracy(net, x, y)


class Queue:
    """A queue of networks that are trained on real images a little, over and over (IDM).

    Each iteration one of them at random matches; then ``trained`` of them take ``steps`` steps on real images. Every
    ``push_every`` iterations a fresh one is put in, and the oldest taken out once there are ``most``.

    Args:
        first: networks at the start.
        most: networks at most.
        push_every: iterations.
        trained: networks trained an iteration.
        steps: steps of each.
        batch: real images a step, not augmented.
        lr: of the networks.
        momentum: likewise.
        weight_decay: likewise.
        reset_every: iterations after which accuracies are counted anew (the published code: at every evaluation).
    """

    def __init__(
        self,
        *,
        first: int,
        most: int,
        push_every: int,
        trained: int,
        steps: int,
        batch: int,
        lr: float,
        momentum: float,
        weight_decay: float,
        reset_every: int,
    ) -> None:
        whole = {"first": first, "most": most, "push_every": push_every, "trained": trained, "steps": steps}
        for name, value in {**whole, "net_batch": batch, "reset_every": reset_every}.items():
            check.number(name, value, 0 if name in ("trained", "steps") else 1, 1 << 30, integer=True)
        self.first, self.most, self.push_every, self.trained, self.steps = whole.values()
        self.batch, self.lr = batch, check.number("net_lr", lr, 0, 1e6)
        self.momentum = check.number("net_momentum", momentum, 0, 1)
        self.weight_decay = check.number("weight_decay", weight_decay, 0, 1e6)
        self.reset_every = reset_every
        self.nets: list[nn.Module] = []
        self.optimizers: list[torch.optim.SGD] = []
        self.counts: list[list[int]] = []  # right, seen
        self.made = 0

    def of(self, k: int, world: World) -> Iterator[tuple[nn.Module, float]]:
        """One network of the queue, in evaluation mode, with its accuracy in training; then some are trained."""
        if not self.nets:
            for _ in range(self.first):
                self._push(world)
        if k % self.reset_every == 0:
            self.counts = [[0, 0] for _ in self.nets]
        if k % self.push_every == 0:
            self._push(world)
        draws = world.stream("queue", k)
        i = int(torch.randint(len(self.nets), (), generator=draws))
        right, seen = self.counts[i]
        yield self.nets[i].eval(), 100 * right / seen if seen else 0.0
        for j in torch.randperm(len(self.nets), generator=draws)[: self.trained].tolist():
            self._train(j, world, draws)

    def _train(self, j: int, world: World, draws: torch.Generator) -> None:
        net = self.nets[j].train()
        right = torch.zeros((), dtype=torch.int64, device=world.real.device)
        seen = 0
        for _ in range(self.steps):
            x, y = world.real.at(world.real.anything(self.batch, draws))
            right += (train_step(net, self.optimizers[j], x, y).argmax(1) == y).sum()
            seen += len(x)
        self.counts[j][0] += int(right)
        self.counts[j][1] += seen
        world.passed["backward"] += seen

    def _push(self, world: World) -> None:
        if len(self.nets) >= self.most:
            for each in (self.nets, self.optimizers, self.counts):
                each.pop(0)
        self._add(world.fresh(self.made))
        self.made += 1

    def _add(self, net: nn.Module) -> None:
        self.nets.append(net)
        self.optimizers.append(sgd(net, self.lr, self.momentum, self.weight_decay))
        self.counts.append([0, 0])

    def tensors(self) -> dict[str, Tensor]:
        """Weights, momentum and counts of every network in the queue."""
        found = {"queue.counts": torch.tensor(self.counts).view(-1, 2), "queue.made": torch.tensor([self.made])}
        for i, (net, optimizer) in enumerate(zip(self.nets, self.optimizers, strict=True)):
            found |= {f"queue.{i}.net.{k}": v for k, v in net.state_dict().items()}
            for n, p in enumerate(net.parameters()):
                if (velocity := optimizer.state[p].get("momentum_buffer")) is not None:
                    found[f"queue.{i}.velocity.{n}"] = velocity
        return found

    def load(self, tensors: Mapping[str, Tensor], world: World) -> None:
        """Put the queue back."""
        for i, count in enumerate(tensors["queue.counts"].tolist()):
            net, prefix = world.fresh("again"), f"queue.{i}.net."
            net.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
            self._add(net)
            self.counts[-1] = count
            for n, p in enumerate(net.parameters()):
                if (velocity := tensors.get(f"queue.{i}.velocity.{n}")) is not None:
                    self.optimizers[-1].state[p]["momentum_buffer"] = velocity.to(p.device).clone()
        self.made = int(tensors["queue.made"])
