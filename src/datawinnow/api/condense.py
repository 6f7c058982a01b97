"""`condense`: from a dataset to a few synthetic images of every class, in a run folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.api.dataset import open_dataset, run_path
from datawinnow.core.bars import with_progress
from datawinnow.core.duration import duration, estimated_duration
from datawinnow.core.errors import ArgumentError
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.progress import ProgressOption

if TYPE_CHECKING:
    from torch import nn

    from datawinnow.condense import Augmentation, Judging, Synthetic
    from datawinnow.condense.run_folder import CondenseRun

RESERVED_OPTIONS = (
    *("per_class", "build", "generator", "iterations", "augment", "device", "mean", "std", "classes", "checkpoint"),
    *("on_iteration", "progress"),
)
"""Options of condensers that are parameters of `condense`, or set by it."""


@dataclass(frozen=True)
class Condensed:
    """The result of `condense`.

    Attributes:
        synthetic: the learned images.
        metadata: the content of ``run.json``: options, accuracies of the judging networks, cost.
        path: the run folder; None if it was temporary.
        page: the HTML page; None without one.
    """

    synthetic: Synthetic
    metadata: dict[str, Any]
    path: Path | None
    page: Path | None


@with_progress
def condense(
    data: Any,
    *,
    test: Any = None,
    method: str | Callable[..., Synthetic] = "dm",
    per_class: int = 10,
    iterations: int | None = None,
    augment: Augmentation | str | None = "auto",
    options: Mapping[str, Any] | None = None,
    model: str | Callable[..., nn.Module] | None = None,
    model_options: Mapping[str, Any] | None = None,
    device: str = "auto",
    judging: Judging | None = None,
    seed: int = 0,
    load: LoadOptions | None = None,
    run: Path | str | None = None,
    report: bool = False,
    progress: ProgressOption = None,
    log: Callable[[str], None] | None = None,
) -> Condensed:
    """Learn a few images of every class on which a network can be trained instead of all the data.

    A run that was stopped resumes from its last checkpoint and ends in the same images. The result is judged on
    held-out data, compared with as many random real images; nothing is chosen by that.

    Args:
        data: `Examples` of images in memory, or DATA to load: ``"digits"``, a path, or ``"hf:owner/name"``.
        test: held-out `Examples`; without them nothing is judged. DATA brings its own; another DATA replaces it.
        method: name of the method: dc, dsa, dm, cafe or idm.
        per_class: number of synthetic images of every class.
        iterations: outer iterations. Default: the paper's (dc and dsa 1,000, cafe 2,000, dm and idm 20,000).
        augment: augmentation in matching and judging: an `Augmentation`, a strategy such as
            ``"color_crop_cutout_flip_scale_rotate"``, or None (``"none"``). ``"auto"`` is the paper's, without flip
            where the data are not mirrored in training.
        options: other option of the method (repeatable), for example real_batch=64 or lr=0.1.
        model: network by name, or a class or function that returns one, since every iteration takes a fresh one; by
            default the papers' ConvNet, as deep as the images allow.
        model_options: options of the network.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
        judging: networks and epochs that judge the result; by default `Judging()`.
        seed: seed of all draws.
        load: how DATA is read.
        run: run folder to write. Default: runs/<name>-<method>-<per_class> for DATA, a temporary one for `Examples`.
        report: write ``report.html`` into the run folder.
        progress: True shows a bar on stderr, or a line every 10 seconds where stderr is no terminal; a function is
            called with ``(stage, done, total)``. Default: no progress is shown.
        log: called with the network, the augmentation and an estimate of the cost.

    Returns:
        The images, the record of the run, and where they are.

    Raises:
        ArgumentError: an unknown method, model or option, one out of range, or data that are no images in memory.
        DivergedError: the loss is not finite; it holds the last finite images.
        RunError: ``run`` holds another run.
    """
    from datawinnow import report as pages
    from datawinnow.condense import METHODS, Judging, Synthetic
    from datawinnow.condense.augment import to_augmentation
    from datawinnow.condense.run_folder import (
        SYNTHETIC_FILE,
        CondenseRun,
        ExampleNames,
        condense_into_folder,
        images_of,
    )
    from datawinnow.condense.training import resolve_device
    from datawinnow.core import check
    from datawinnow.core.card import card_of, resolve
    from datawinnow.core.lock import SHORT_STAGE_WAIT, only_writer
    from datawinnow.data.objects import as_dataset
    from datawinnow.data.source_positions import source_rows
    from datawinnow.models.registry import check_model_name, name_of_model

    condenser = resolve(method, METHODS, kind="condenser")
    card, options, judging = card_of(condenser), dict(options or {}), judging or Judging()
    for name in options:
        if name in RESERVED_OPTIONS:
            raise ArgumentError(f"options has {name!r}, which is a parameter of its own or set by the run")
    check.number("per_class", per_class, 1, 1 << 30, integer=True)
    if iterations is not None:
        check.number("iterations", iterations, 1, 1 << 40, integer=True)
    check_model_name(model)
    resolve_device(device)
    if not isinstance(data, (str, Path)):
        data = as_dataset(data)
        images_of(data)
    splits = open_dataset(data, test=test, load=load, progress=progress, log=log)
    train, test = splits.train.data, splits.test
    images_of(train)
    run = run_path(run, splits, f"-{card.key}-{per_class}" + (f"-seed{seed}" if seed else ""))
    if report and run is None:
        raise ArgumentError("`report=True` needs a run folder: give `run=`")
    if iterations is None:
        iterations = int(card.options["iterations"])
    architecture, model_kwargs = _resolve_network(train, model, model_options)
    network = ", ".join([name_of_model(architecture), *(f"{name}={value}" for name, value in model_kwargs.items())])
    build = _builder(train, architecture, model_kwargs)
    if augment != "auto":
        augmentation = None if augment == "none" else to_augmentation(augment)
    else:
        augmentation = card.options["augment"]
        mirrored = train.augment is not None and train.augment.flip
        if augmentation is not None and not mirrored:
            augmentation = augmentation.without("flip")
            if log is not None:
                log("augmentation: all operations but flip, because this dataset is not mirrored in training")
    condensation = CondenseRun(
        method=condenser,
        per_class=per_class,
        iterations=iterations,
        build=build,
        network=network,
        augment=augmentation,
        device=device,
        seed=seed,
        options=options,
    )
    if log is not None:
        log(f"network: {network}")
    with ExitStack() as scratch:
        if run is None:
            path = Path(scratch.enter_context(tempfile.TemporaryDirectory(prefix="datawinnow-"))) / "run"
        else:
            path = Path(run)
        if log is not None and not (path / SYNTHETIC_FILE).exists():
            log(_describe_cost(condensation, train, test, judging))
        metadata = condense_into_folder(
            condensation,
            train,
            test,
            path,
            judging=judging,
            names=ExampleNames(splits.train.ids, source_rows(train)),
            load=splits.stored_load,
            progress=progress,
        )
        synthetic = Synthetic.load(path / SYNTHETIC_FILE)
        page = None
        if report:
            with only_writer(path, option="run", who="another command", wait=SHORT_STAGE_WAIT, log=log):
                page = pages.write(path)
    return Condensed(synthetic, metadata, None if run is None else path, page)


def _resolve_network(
    train: Any, model: str | Callable[..., nn.Module] | None, options: Mapping[str, Any] | None
) -> tuple[str | Callable[..., nn.Module], dict[str, Any]]:
    """The network and its options: by default a ConvNet whose last map has about 4 x 4 pixels."""
    from torch import nn

    if isinstance(model, nn.Module):
        name = type(model).__name__
        raise ArgumentError(
            f"condensing matches in many networks with fresh weights, but model= is one {name} with its own: give the "
            f"class, model={name}, or a function that returns a new one, model=lambda: {name}(...)"
        )
    if model is not None:
        return model, dict(options or {})
    side = min(train.shape[1:])
    depth = max(1, min(side.bit_length() - 1, max(2, side.bit_length() - 3)))
    return "convnet", {"depth": depth, **(options or {})}


def _builder(train: Any, model: str | Callable[..., nn.Module], options: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """A function that builds a fresh network, tried once without memory, so that wrong options raise at once."""
    import torch

    from datawinnow.models import build as build_model

    def build() -> nn.Module:
        return build_model(model, shape=train.shape, classes=len(train.classes), **options)

    with torch.random.fork_rng(), torch.device("meta"):
        build()
    return build


def _describe_cost(run: CondenseRun, train: Any, test: Any, judging: Judging) -> str:
    """A sentence on the time and memory that a condensation needs."""
    from datawinnow.condense.cost import estimate_condensation

    cost = estimate_condensation(run, train, test, judging)
    networks = 0 if test is None else judging.num_networks
    text = (
        f"estimate: {run.iterations:,} iterations of {duration(cost.seconds_per_iteration)} take "
        f"{estimated_duration(cost.seconds)}, and {cost.memory / 1e9:.1f} GB of memory"
    )
    if networks:
        text += (
            f"; judging by {networks} networks {estimated_duration(cost.judging_seconds)} (`judge_epochs=` shortens "
            "it, `networks=0` skips it)"
        )
    return text
