"""The loop of all condensers, which differ in their networks, their objective and the decoding of images."""

from __future__ import annotations

import functools
import hashlib
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.condense.augment import to_augmentation
from datawinnow.condense.matching import MatchingContext, MatchingObjective, MatchingStep
from datawinnow.condense.networks import NetworkSource
from datawinnow.condense.options import CondenseOptions
from datawinnow.condense.pixels import LearnedPixels
from datawinnow.condense.real_images import RealImages
from datawinnow.condense.training import check_network, resolve_device
from datawinnow.core import check, provenance
from datawinnow.core.artifacts import read_tensors, require_same, write_tensors
from datawinnow.core.errors import ArgumentError, TrainingError
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic, check_factor, combine_tiles

CHECKPOINT_SECONDS = 60.0
"""Seconds between checkpoints without ``every``: the work that a kill can cost."""
CONDENSATION_KIND = "condensation checkpoint"
INITS = ("real", "noise")


class DivergedError(TrainingError):
    """The matching loss or the pixels are not finite.

    Attributes:
        synthetic: the last finite images.
    """

    def __init__(self, message: str, synthetic: Synthetic) -> None:
        super().__init__(message)
        self.synthetic = synthetic


@dataclass
class Condensation:
    """A condensation in progress.

    Attributes:
        context: images, pixels and settings that networks and objective share.
        networks: source of networks.
        objective: the matching loss.
        options: of the condensation.
        settings: everything that determines the result, as JSON, for the record and to compare checkpoints.
        done: iterations done.
        seconds: wall-clock time of these iterations.
        initial: (m, factor^2) positions of the real images that the images began as; None for noise.
    """

    context: MatchingContext
    networks: NetworkSource
    objective: MatchingObjective
    options: CondenseOptions
    settings: dict[str, Any]
    initial: Tensor | None = None
    done: int = 0
    seconds: float = 0.0

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint file, or None."""
        return None if self.options.checkpoint is None else Path(self.options.checkpoint)

    def lr_at(self, k: int) -> float:
        """Learning rate of the images in iteration ``k``: halved after each share of the iterations in ``halve_at``."""
        halvings = sum(k >= share * self.options.iterations for share in self.options.halve_at)
        return float(self.options.lr * 0.5**halvings)

    def iterate(self, k: int) -> float:
        """Run iteration ``k``: one step of the images for every network; returns the mean loss of the steps.

        Raises:
            DivergedError: the loss or the pixels are not finite.
        """
        context, lr = self.context, self.lr_at(k)
        losses: list[float] = []
        # The source continues between two yields: it may train the network on the pixels that this step has changed.
        for net, percent in self.networks.iterate(k, context):
            t = len(losses)
            # Every draw is a stream of (iteration, step), so a resumed run needs no generator state.
            ids = context.real.draw_per_class(self.options.real_batch, context.stream("real", k, t))
            x, y = context.real.take(ids)
            draw = None
            if context.augment is not None:
                draw = context.augment.draw(context.classes, context.stream("augment", k, t))
            leaf = context.pixels.lookahead(lr)
            gradient, loss = torch.zeros_like(leaf), 0.0
            for term in self.objective(MatchingStep(context, net, percent, x, y, leaf, draw)):
                # Term by term: the graph of a term is freed before the next is built.
                gradient += torch.autograd.grad(term, leaf)[0]
                loss += float(term.detach())
            # References are enough: `step` replaces the tensors and does not write into them.
            before = context.pixels.tensors()
            context.pixels.step(gradient, lr)
            # Negated, so that a NaN loss, which compares as False, counts as diverged.
            if not (abs(loss) < float("inf") and bool(torch.isfinite(context.pixels.x).all())):
                context.pixels.load(before)
                raise self._diverged(k, loss)
            losses.append(loss)
        return sum(losses) / len(losses)

    def _diverged(self, k: int, loss: float) -> DivergedError:
        synthetic, place = self.synthetic(), "error.synthetic"
        if self.checkpoint is not None:
            place = str(synthetic.save(self.checkpoint.with_name(f"{self.checkpoint.stem}-last-good.safetensors")))
        return DivergedError(
            f"matching gave a loss of {loss:g} (or pixels that are not finite) in iteration {k}: try a lower lr (it "
            f"was {self.lr_at(k):g}). The last finite images are in {place}",
            synthetic,
        )

    def synthetic(self) -> Synthetic:
        """The current images."""
        real, context = self.context.real, self.context
        about = {
            **self.settings,
            # positions of the real images that each image began as, a tile each; None for noise
            "initial": None if self.initial is None else self.initial.tolist(),
            "done": self.done,
            "seconds": self.seconds,
            "images_seen": dict(context.images_seen),
            "memory": peak_memory(),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "created": provenance.now(),
        }
        return Synthetic(
            context.pixels.x.detach().float().cpu().clone(),
            context.labels.cpu(),
            context.factor,
            real.mean,
            real.std,
            tuple(str(name) for name in self.options.classes),
            about,
        )

    def _compared_settings(self) -> dict[str, Any]:
        # iterations may be extended unless the learning rate depends on them
        free = {"device", *([] if self.options.halve_at else ["iterations"])}
        return {key: value for key, value in self.settings.items() if key not in free}

    def save_checkpoint(self) -> None:
        """Write the checkpoint, if one is kept.

        Raises:
            RunError: the disk is full.
        """
        if self.checkpoint is None:
            return
        metadata = {
            "done": self.done,
            "seconds": self.seconds,
            "images_seen": dict(self.context.images_seen),
            "settings": self._compared_settings(),
        }
        tensors = {**self.context.pixels.tensors(), **self.networks.tensors()}
        write_tensors(self.checkpoint, tensors, metadata, kind=CONDENSATION_KIND)

    def resume(self) -> None:
        """Restore the checkpoint, if there is one.

        Raises:
            RunError: truncated, newer, no checkpoint of a condensation, or one with other settings or data.
        """
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        tensors, metadata = read_checkpoint(self.checkpoint)
        remedy = "use the same settings as before, or another checkpoint"
        require_same(metadata["settings"], self._compared_settings(), self.checkpoint, remedy=remedy)
        self.context.pixels.load(tensors)
        self.networks.load(tensors, self.context)
        self.context.images_seen.update(metadata["images_seen"])
        self.done, self.seconds = int(metadata["done"]), float(metadata["seconds"])


def condense_images(
    images: Any,
    labels: Any,
    *,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    networks: NetworkSource,
    objective: MatchingObjective,
    options: CondenseOptions,
) -> Synthetic:
    """Learn images of every class, by the networks and the objective of a method.

    Args:
        images: (n, channels, height, width), as the condensers take them.
        labels: (n,) int class ids.
        build: builds a fresh network.
        generator: CPU `torch.Generator`; one number is drawn from it.
        networks: source of networks.
        objective: the matching loss.
        options: all other options.

    Raises:
        ArgumentError: images, labels, network or options do not fit together.
        DivergedError: the loss or the pixels are not finite.
        RunError: a checkpoint of another run.
    """
    run = start_condensation(images, labels, build, generator, networks, objective, options)
    run.resume()
    last_saved = time.monotonic()
    if run.context.real.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(run.context.real.device)
    if options.on_iteration is not None:
        # The state before the first iteration (or after a resume) is part of the record too.
        options.on_iteration(run.done, None, run.synthetic)
    for k in range(run.done, options.iterations):
        began = time.perf_counter()
        loss = run.iterate(k)
        run.done, run.seconds = k + 1, run.seconds + time.perf_counter() - began
        if options.every is None:
            due = time.monotonic() - last_saved > CHECKPOINT_SECONDS
        else:
            due = run.done % options.every == 0
        if due or run.done == options.iterations:
            run.save_checkpoint()
            last_saved = time.monotonic()
        if options.progress is not None:
            options.progress("condensing", run.done, options.iterations)
        if options.on_iteration is not None:
            options.on_iteration(run.done, loss, run.synthetic)
    return run.synthetic()


def start_condensation(
    images: Any,
    labels: Any,
    build: Callable[[], nn.Module],
    generator: torch.Generator,
    networks: NetworkSource,
    objective: MatchingObjective,
    options: CondenseOptions,
) -> Condensation:
    """Check the arguments of `condense_images` and set the first iteration up."""
    augment = to_augmentation(options.augment)
    seed = int(torch.randint(1 << 62, (), generator=check.generator(generator)))
    device = resolve_device(options.device)
    real = RealImages(images, labels, options.mean, options.std, device)
    if options.classes and len(options.classes) != real.classes:
        raise ArgumentError(f"classes must name all {real.classes} classes, got {len(options.classes)} names")
    context = MatchingContext(
        real,
        LearnedPixels(initial_images(real, options, seed), real.classes, options.momentum, in_turns=options.in_turns),
        # Class by class, as the pixels are.
        torch.arange(real.classes, device=device).repeat_interleave(options.per_class),
        build,
        seed,
        factor=options.factor,
        augment=augment,
        precision=options.precision,
        chunk=options.chunk,
        at_once=options.at_once,
        recompute=options.recompute,
        together=options.together,
    )
    net = context.fresh_network("try")
    check_network(net, real)
    recorded = (
        *("method", "per_class", "iterations", "real_batch", "lr", "init", "factor", "in_turns", "halve_at"),
        *("precision", "chunk", "at_once", "recompute", "momentum"),
    )
    settings: dict[str, Any] = {name: getattr(options, name) for name in recorded}
    settings |= {
        "seed": seed,
        "device": str(device),
        "augment": None if augment is None else asdict(augment),
        "networks": _component_settings(networks),
        "objective": _component_settings(objective),
        "shape": list(real.shape),
        "counts": real.counts,
        "network": f"{type(net).__name__}, {sum(p.numel() for p in net.parameters()):,} parameters",
    }
    if options.checkpoint is not None:
        # Only for a checkpoint, which must not continue on other data: hashing reads every image.
        settings["data"] = data_hash(real.x, real.labels)
    return Condensation(context, networks, objective, options, settings, initial_positions(real, options, seed))


def initial_images(real: RealImages, options: CondenseOptions, seed: int) -> Tensor:
    """(classes * per_class, channels, height, width) float32: random real images, or N(0, 1) noise.

    With a ``factor`` l each image is composed of l x l downscaled real images.

    Raises:
        ArgumentError: a class with too few images, an unknown ``init``, or a ``factor`` that does not fit.
    """
    per_class, factor = options.per_class, options.factor
    check.number("per_class", per_class, 1, 1 << 30, integer=True)
    check.one_of("init", options.init, INITS)
    check_factor(factor, real.shape[1:])
    if options.init == "noise":
        shape = (real.classes * per_class, *real.shape)
        return torch.randn(shape, generator=stream(seed, "start")).to(real.device)
    num_real = per_class * factor**2
    for label, count in enumerate(real.counts):
        if count < num_real:
            tiles = f" of {factor}x{factor} real ones each" if factor > 1 else ""
            raise ArgumentError(
                f"`per_class={per_class}` images{tiles} begin from {num_real} real images of every class, but class "
                f"{label} has {count}: use a smaller per_class, or init='noise'"
            )
    positions = initial_positions(real, options, seed)
    assert positions is not None
    # Tile by tile within a class, the order in which `combine_tiles` composes them.
    by_tile = [each.T.flatten() for each in positions.split(per_class)]
    return torch.cat([combine_tiles(real.take(ids)[0].float(), factor) for ids in by_tile])


def initial_positions(real: RealImages, options: CondenseOptions, seed: int) -> Tensor | None:
    """(classes * per_class, factor^2) positions of the real images that each image begins as; None for noise."""
    if options.init == "noise":
        return None
    num_tiles = options.factor**2
    drawn = real.draw_per_class(options.per_class * num_tiles, stream(seed, "start"))
    return drawn.view(real.classes, num_tiles, options.per_class).transpose(1, 2).reshape(-1, num_tiles)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a checkpoint.

    Raises:
        RunError: truncated, newer, or no checkpoint of a condensation.
    """
    return read_tensors(path, kind=CONDENSATION_KIND, remedy="remove it to start again, or use another path")


def data_hash(images: Tensor, labels: Tensor) -> str:
    """16 hex digits of a SHA-256 over shape, dtype, labels and values."""
    digest = hashlib.sha256(f"{tuple(images.shape)} {images.dtype}".encode())
    digest.update(labels.cpu().numpy().tobytes())
    for block in torch.split(images, 4096):
        # The hash is of the values, not of memory layout or device; all floats are hashed as float32.
        block = block.contiguous().cpu()
        digest.update((block if block.dtype is torch.uint8 else block.float()).numpy().tobytes())
    return digest.hexdigest()[:16]


def _component_settings(component: Any) -> dict[str, Any]:
    """Name and plain attributes of a source of networks, or name and keyword options of an objective."""
    values: Mapping[str, Any] = component.keywords if isinstance(component, functools.partial) else vars(component)
    name = getattr(getattr(component, "func", component), "__name__", type(component).__name__)
    return {"name": name, **{k: v for k, v in values.items() if isinstance(v, int | float | str | None)}}


def peak_memory() -> int:
    """Peak memory in bytes: of this process, or of torch on a GPU."""
    if torch.cuda.is_available() and torch.cuda.memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss is in bytes on macOS and in kilobytes on Linux.
    return int(peak if sys.platform == "darwin" else peak * 1024)
