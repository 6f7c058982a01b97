"""The one loop of all condensers: networks, an objective and a decoder are what they differ in."""

from __future__ import annotations

import functools
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datawinnow.condense._augment import augmentation
from datawinnow.condense._checkpoint import fingerprint, read_checkpoint, same_run, write_checkpoint
from datawinnow.condense._networks import Networks
from datawinnow.condense._pixels import Pixels
from datawinnow.condense._real import Real
from datawinnow.condense._start import device_of, start, try_network
from datawinnow.condense._step import Objective, Step, World
from datawinnow.core import check, provenance
from datawinnow.core.errors import ArgumentError, TrainingError
from datawinnow.core.synthetic import Synthetic

MINUTE = 60.0
"""Seconds between checkpoints, unless iterations are given: what a kill costs at most."""


class DivergedError(TrainingError):
    """Matching gave a number that is none; what was learned before is kept.

    Attributes:
        synthetic: the last images that were good.
    """

    def __init__(self, message: str, synthetic: Synthetic) -> None:
        super().__init__(message)
        self.synthetic = synthetic


@dataclass
class Run:
    """A condensation under way; see `condensed` for what is not here."""

    world: World
    networks: Networks
    objective: Objective
    iterations: int
    real_batch: int
    lr: float
    halve_at: Sequence[float]
    settings: dict[str, Any]
    names: tuple[str, ...]
    checkpoint: Path | None = None
    done: int = 0
    seconds: float = 0.0

    def rate(self, k: int) -> float:
        """Learning rate of the images in iteration ``k``: halved after each share of all iterations in ``halve_at``."""
        return float(self.lr * 0.5 ** sum(k >= share * self.iterations for share in self.halve_at))

    def iterate(self, k: int) -> float:
        """One iteration: every network that it has takes a step of the images; the mean loss of the steps."""
        world, total, t = self.world, 0.0, 0
        for net, percent in self.networks.of(k, world):
            ids = world.real.draw(self.real_batch, world.stream("real", k, t))
            x, y = world.real.at(ids)
            how = world.augment
            drawn = None if how is None else how.draw(world.classes, world.stream("augment", k, t))
            leaf = world.pixels.ahead(self.rate(k))
            gradient, loss = torch.zeros_like(leaf), 0.0
            for part in self.objective(Step(world, net, percent, x, y, leaf, drawn)):
                gradient += torch.autograd.grad(part, leaf)[0]
                loss += float(part.detach())
            before = world.pixels.tensors()
            world.pixels.step(gradient, self.rate(k))
            if not (abs(loss) < float("inf") and bool(torch.isfinite(world.pixels.x).all())):
                world.pixels.load(before)
                raise self.diverged(k, loss)
            total, t = total + loss, t + 1
        return total / t

    def diverged(self, k: int, loss: float) -> DivergedError:
        """The error, once the last good images are saved."""
        synthetic, where = self.synthetic(), "error.synthetic"
        if self.checkpoint is not None:
            where = str(synthetic.save(self.checkpoint.with_name(f"{self.checkpoint.stem}-last-good.safetensors")))
        return DivergedError(
            f"matching gave a loss of {loss:g} (or pixels that are not finite) in iteration {k}: try a lower lr (it "
            f"was {self.rate(k):g}). The last good images are kept in {where}",
            synthetic,
        )

    def synthetic(self) -> Synthetic:
        """The images as they are now."""
        real, about = self.world.real, dict(self.settings)
        about |= {"done": self.done, "seconds": self.seconds, "passed": dict(self.world.passed), "memory": memory()}
        about |= {"versions": provenance.versions(), "commit": provenance.commit(), "made": provenance.now()}
        x = self.world.pixels.x.detach().float().cpu().clone()
        return Synthetic(x, self.world.labels.cpu(), self.world.factor, real.mean, real.std, self.names, about)

    def compared(self) -> dict[str, Any]:
        """The settings that a checkpoint must share; more iterations may be asked for where no schedule needs them."""
        free = {"device", *([] if self.halve_at else ["iterations"])}
        return {key: value for key, value in self.settings.items() if key not in free}

    def save(self) -> None:
        """Write the checkpoint, if one is kept."""
        if self.checkpoint is not None:
            tensors = {**self.world.pixels.tensors(), **self.networks.tensors()}
            metadata = {"done": self.done, "seconds": self.seconds, "passed": dict(self.world.passed)}
            write_checkpoint(self.checkpoint, tensors, {**metadata, "settings": self.compared()})

    def go_on(self) -> None:
        """Put back what a checkpoint left, if there is one."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        tensors, metadata = read_checkpoint(self.checkpoint)
        same_run(self.checkpoint, metadata["settings"], self.compared())
        self.world.pixels.load(tensors)
        self.networks.load(tensors, self.world)
        self.world.passed.update(metadata["passed"])
        self.done, self.seconds = int(metadata["done"]), float(metadata["seconds"])


def condensed(
    images: Any,
    labels: Any,
    *,
    method: str,
    per_class: int,
    build: Any,
    generator: torch.Generator,
    networks: Networks,
    objective: Objective,
    iterations: int,
    real_batch: int,
    lr: float,
    init: str,
    augment: Any,
    factor: int = 1,
    in_turns: bool = False,
    halve_at: Sequence[float] = (),
    **shared: Any,
) -> Synthetic:
    """Learn ``per_class`` images of every class; what the parameters are, the condensers say.

    ``method`` is its name, for the record; ``networks``, ``objective`` and ``factor`` (a decoder, l x l tiles) are the
    three parts; ``in_turns`` takes a step of the images after each class instead of one for all; ``halve_at`` holds the
    shares of the iterations after which the learning rate is halved; ``shared`` are the options that all share.

    Raises:
        ArgumentError: something does not fit.
        DivergedError: the loss is no longer a number.
        RunError: a checkpoint of another run.
    """
    run = prepared(locals())
    run.go_on()
    every, saved = shared["every"], time.monotonic()
    told, progress = shared["on_iteration"], shared["progress"]
    if run.world.real.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(run.world.real.device)
    if told is not None:
        told(run.done, None, run.synthetic)
    for k in range(run.done, run.iterations):
        begun = time.perf_counter()
        loss = run.iterate(k)
        run.done, run.seconds = k + 1, run.seconds + time.perf_counter() - begun
        due = time.monotonic() - saved > MINUTE if every is None else run.done % every == 0
        if due or run.done == run.iterations:
            run.save()
            saved = time.monotonic()
        if progress is not None:
            progress("condensing", run.done, run.iterations)
        if told is not None:
            told(run.done, loss, run.synthetic)
    return run.synthetic()


def prepared(given: dict[str, Any]) -> Run:
    """Everything checked and in place, of the arguments of `condensed`."""
    shared = given["shared"]
    check.number("iterations", given["iterations"], 1, 1 << 40, integer=True)
    check.number("real_batch", given["real_batch"], 1, 1 << 40, integer=True)
    check.number("lr", given["lr"], 0, 1e9)
    check.number("momentum", shared["momentum"], 0, 0.9999)
    check.one_of("precision", shared["precision"], ("fp32", "bf16"))
    if "together" in shared:
        _refused_where_gradients_match(given["method"], shared)
    for name in ("chunk", "at_once", "every"):
        if shared[name] is not None:
            check.number(name, shared[name], 1, 1 << 40, integer=True)
    augment = augmentation(given["augment"])
    seed = int(torch.randint(1 << 62, (), generator=check.generator(given["generator"])))
    device = device_of(shared["device"])
    real = Real(given["images"], given["labels"], shared["mean"], shared["std"], device)
    names = tuple(str(name) for name in shared["classes"])
    if names and len(names) != real.classes:
        raise ArgumentError(f"classes must name all {real.classes} classes, got {len(names)} names")
    begin = start(real, given["per_class"], given["factor"], given["init"], seed)
    labels = torch.arange(real.classes, device=device).repeat_interleave(given["per_class"])
    pixels = Pixels(begin, real.classes, shared["momentum"], in_turns=given["in_turns"])
    limits = {key: shared[key] for key in ("precision", "chunk", "at_once", "recompute")}
    world = World(real, pixels, labels, given["factor"], given["build"], seed, augment, **limits)
    world.together = shared.get("together")
    net = world.fresh("try")
    try_network(net, real)
    checkpoint = None if shared["checkpoint"] is None else Path(shared["checkpoint"])
    plain = ("method", "per_class", "iterations", "real_batch", "lr", "init", "factor", "in_turns", "halve_at")
    settings: dict[str, Any] = {key: given[key] for key in plain}
    settings |= {**limits, "momentum": shared["momentum"], "seed": seed, "device": str(device)}
    settings |= {"augment": asdict(augment) if augment else None, "networks": described(given["networks"])}
    settings |= {"objective": described(given["objective"]), "shape": list(real.shape), "counts": real.counts}
    settings |= {"network": f"{type(net).__name__}, {sum(p.numel() for p in net.parameters()):,} parameters"}
    if checkpoint is not None:
        settings["data"] = fingerprint(real.x, real.labels)
    rest = {key: given[key] for key in ("networks", "objective", "iterations", "real_batch", "lr", "halve_at")}
    return Run(world=world, settings=settings, names=names, checkpoint=checkpoint, **rest)


def _refused_where_gradients_match(method: str, shared: dict[str, Any]) -> None:
    if shared["precision"] == "bf16":
        raise ArgumentError(f"{method} matches gradients, which bf16 changes: leave precision at 'fp32'")
    if shared["recompute"]:
        raise ArgumentError(
            f"{method} differentiates a gradient, whose graph holds the activations whether they are computed again or "
            "not, so recompute=True saves nothing: give at_once=1, which holds the graph of one class at a time"
        )


def described(part: Any) -> dict[str, Any]:
    """The settings of networks or of an objective: its plain attributes, or the options given to a function."""
    found = part.keywords if isinstance(part, functools.partial) else vars(part)
    simple = {key: value for key, value in found.items() if isinstance(value, int | float | str | None)}
    return {"is": getattr(getattr(part, "func", part), "__name__", type(part).__name__), **simple}


def memory() -> int:
    """Bytes at the peak so far: of this process, or on a GPU what torch allocated."""
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


__all__ = ["DivergedError", "Run", "Tensor", "condensed"]
