"""Estimate of seconds and memory before a run: a few steps are timed, the rest is counted."""

from __future__ import annotations

import copy
import inspect
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.arrays import RECORDED
from datawinnow.core.budget import budget_of
from datawinnow.core.curvature import REPEATS
from datawinnow.core.duration import duration, estimated_duration
from datawinnow.core.errors import ArgumentError
from datawinnow.core.memory_format import channels_last_works
from datawinnow.core.progress import Progress
from datawinnow.core.rng import forked, stream
from datawinnow.data.batches import ResidentBatches, batches_of, pads_to_longest
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.data.examples import Examples
from datawinnow.data.padding import dataset_text_lengths
from datawinnow.data.sampled import DecodingTime, SampledImages
from datawinnow.methods import Method, create_method
from datawinnow.models.registry import MODELS, choose
from datawinnow.record import Recorder
from datawinnow.train import Recipe
from datawinnow.train.build import Model, build_network, check_outputs_for
from datawinnow.train.flops import flops_per_example
from datawinnow.train.network import device_for
from datawinnow.train.objective import Objective
from datawinnow.train.precision import autocast, fastest_precision, float32_head, trial_count
from datawinnow.train.state import planned_sizes

SCORING = 4e-9
"""Seconds a recorded value takes to be scored (measured: benchmarks/scores.py), an order of magnitude."""
DEEPFOOL_STEPS = 2
"""Steps of DeepFool to the boundary, an order of magnitude."""
LONG = 180.0
"""Seconds from which an estimate names cheaper options."""
SMALLEST_SIZE = 48
"""Side of images, in pixels, from which half of it is proposed."""
SMALLEST_WIDTH = 8
"""Width of a network from which half of it is proposed."""
WORTH_SHARE = 0.8
"""A proposal whose steps take more than this share of the time is not made."""
PRECISION_STEPS = 24
"""Steps that `fastest_precision` makes on images."""
SIGNALS = len(RECORDED) + 1
"""Columns of a recording: the signals and ``seen``."""


@dataclass(frozen=True)
class StepCost:
    """What training steps of a network take, measured.

    Attributes:
        seconds: of a step on a full batch.
        activations: bytes that a step keeps for its backward pass.
        overhead: seconds before the first step.
        precision: that was measured, or chosen by measuring.
        channels_last: likewise.
    """

    seconds: float
    activations: int
    overhead: float
    precision: str = "fp32"
    channels_last: bool = False


@dataclass(frozen=True)
class _Work:
    """What is to be run, in numbers.

    Attributes:
        n: examples.
        epochs: epochs recorded.
        kept: examples that are trained on after that; None for no such training.
        train_epochs: epochs of that training.
        batch: examples a step.
        method: how examples are chosen.
        classes: number of classes.
        decoding: seconds before training, to decode all images.
        loading: seconds an example and epoch, where images are decoded on demand.
        size_share: operations of an average training step over one at full size, with a size schedule.
    """

    n: int
    epochs: int
    kept: int | None
    train_epochs: int
    batch: int
    method: Method
    classes: int
    decoding: float = 0.0
    loading: float = 0.0
    size_share: float = 1.0

    def seconds_by_stage(self, step: StepCost) -> dict[str, float]:
        """Seconds of each stage."""

        def training(count: int, passes: int) -> float:
            # -(-a // b) is a / b rounded up: the last batch may be smaller
            step_seconds = step.seconds * self.size_share
            return step.overhead + (step_seconds * -(-count // self.batch) + self.loading * count) * passes

        stages = {"decode": self.decoding} if self.decoding else {}
        if self.method.needs_recording:
            stages["record"] = training(self.n, self.epochs)
            if self.method.reads_probe:
                pass_seconds = step.seconds / self.batch * _probe_passes(self.method, self.classes)
                stages["probe"] = step.overhead + (pass_seconds + self.loading) * self.n
            stages["score"] = SCORING * self.n * self.epochs * len(self.method.needs)
        if self.kept is not None:
            stages["train"] = training(self.kept, self.train_epochs)
        return stages

    def seconds(self, step: StepCost) -> float:
        """Seconds of all stages."""
        return sum(self.seconds_by_stage(step).values())


def estimate_run(
    train: Any,
    *,
    epochs: int = 30,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    keep: float | None = None,
    train_epochs: int | None = None,
    method: str | Method | None = None,
    network: nn.Module | None = None,
    steps: int = 5,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Estimate the cost of recording, scoring and training on the kept examples from a few steps on this machine.

    Args:
        train: the dataset, or its `DatasetInfo`; of `SampledImages` the images that are not decoded are counted.
        epochs: epochs recorded.
        model: network; by default chosen by the shape of the examples.
        model_options: its options.
        recipe: how to train.
        keep: fraction kept; with it training on the kept examples is estimated as well.
        train_epochs: epochs of that training; by default ``epochs``.
        method: a method, or the name of one; by default DUAL with Beta sampling.
        network: the network, if it is built already; ``model`` is then its name.
        steps: number of timed steps, of which the median counts.
        progress: called before and after the timed steps.

    Returns:
        ``seconds``, ``seconds_by_stage``; ``cheaper``, options that make a long run shorter, ``""`` for a short one;
        ``memory`` (bytes resident at the peak, process and libraries included), ``memory_by_part``; ``disk`` bytes of
        the recording; ``sentence``.

    Raises:
        ArgumentError: ``keep`` outside (0, 1], unknown names, or a network with fewer outputs than there are classes.
    """
    recipe = recipe or Recipe()
    info = dataset_info(train)
    train = info.data
    chosen = create_method(method)
    name = str(model)
    if network is None:
        network, name, _ = build_network(model, info, 0, model_options)
        if info.classes:  # outputs for a loss of the user's are whatever that takes
            check_outputs_for(network, info)
    device = device_for(recipe.device)
    # What is resident now: the interpreter, its libraries, and the dataset where it lies in memory already.
    resident = process_bytes()
    n = len(train)
    sampled = train if isinstance(train, SampledImages) else None
    decoding = sampled.decoding if sampled is not None else DecodingTime()
    sizes = planned_sizes(network.to(device), train if sampled is None else sampled.first(2), recipe, device)
    work = _Work(
        n,
        epochs,
        None if keep is None else budget_of(keep, n),
        train_epochs or epochs,
        recipe.batch,
        chosen,
        len(info.classes),
        decoding=decoding.per_image * decoding.num_images if sampled is None or sampled.in_memory else 0.0,
        loading=0.0 if sampled is None or sampled.in_memory else decoding.per_image,
        size_share=1.0 if sizes is None else sizes.mean_cost,
    )
    label = f"timing training steps of {name}"
    if progress is not None:
        progress(label, 0, 1)
    step = _measure(train, network, recipe, device, steps)
    if progress is not None:
        progress(label, 1, 1)
    stages = work.seconds_by_stage(step)
    seconds = sum(stages.values())
    in_memory = sampled is not None and sampled.in_memory
    memory_parts = {
        "process": float(resident),
        "decoded images": float(math.prod(info.shape) * decoding.num_loaded) if in_memory else 0.0,
        "dataset on the device": float(_resident_extra(train, device)),
        "network, gradients, optimiser": _weights(network, recipe),
        "activations": float(step.activations),
        **_recording(n, epochs if chosen.needs_recording else 0),
    }
    answer = {
        "model": name,
        "method": chosen.key,
        "n": n,
        "seconds": seconds,
        "seconds_by_stage": stages,
        "memory": _peak(memory_parts),
        "memory_by_part": memory_parts,
        "disk": float(2 * 4 * SIGNALS * n * epochs if chosen.needs_recording else 0),
    }
    cheaper = ""
    if seconds >= LONG:
        smaller = _smaller_options(info, model, name, model_options or {}, network, step, work)
        cheaper = _cheaper([*smaller, *_counted_options(work, step)])
    return {**answer, "sentence": sentence(answer), "cheaper": cheaper}


def _smaller_options(
    info: DatasetInfo,
    model: Model,
    name: str,
    options: Mapping[str, Any],
    network: nn.Module,
    step: StepCost,
    work: _Work,
) -> list[tuple[str, float]]:
    """A smaller size, a smaller network and both, with the seconds that the run then takes."""
    if not info.classes:
        return []
    few = _few(info.data, 2)
    before = _load_of(network, few)

    def smaller_step(choice: tuple[Model, Mapping[str, Any]], size: int | None) -> StepCost | None:
        """The steps of another network or size; None where they are hardly cheaper, or it takes no such size."""
        try:
            images = few if size is None else _cut(few, size)
            built, _, _ = build_network(choice[0], dataset_info(images), 0, choice[1])
            after = _load_of(built, images)
        except (ArgumentError, RuntimeError):
            return None
        share = max(now / was for now, was in zip(after, before, strict=True) if was)
        return replace(step, seconds=share * step.seconds) if share < WORTH_SHARE else None

    half = min(info.shape[1:]) // 2 if info.kind == "images" and min(info.shape[1:]) >= SMALLEST_SIZE else None
    current = (model if model is not None else name, options)
    size_step = None if half is None else smaller_step(current, half)
    answers = [] if size_step is None else [(f"`size={half}`", work.seconds(size_step))]
    for choice in _smaller_networks(info, name, options):
        model_step = smaller_step(choice, None)
        if model_step is None:
            continue
        words = f"`model={choice[0]!r}`" + (f" with `model_options={dict(choice[1])!r}`" if choice[1] else "")
        answers.append((words, work.seconds(model_step)))
        both = None if size_step is None else smaller_step(choice, half)
        if both is not None:
            answers.append(("both", work.seconds(both)))
        break
    return answers


def _smaller_networks(info: DatasetInfo, name: str, options: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Networks of less work than that called ``name``, with their options, in the order in which they are tried."""
    if name not in MODELS:
        return [(choose(info.shape, accelerator=False, vocabulary=info.vocabulary)[0], {})]
    choices: list[tuple[str, Mapping[str, Any]]] = []
    if info.kind == "texts" and name != "bag_of_embeddings":
        choices.append(("bag_of_embeddings", {}))
    if info.kind == "images" and name != "resnet8":
        choices.append(("resnet8", {}))
    default = inspect.signature(MODELS[name]).parameters.get("width")
    width = options.get("width", default.default if default is not None else 0)
    if isinstance(width, int) and width >= SMALLEST_WIDTH:
        choices.append((name, {**options, "width": width // 2}))
    return choices


def _load_of(network: nn.Module, few: Any) -> tuple[float, float]:
    """Operations of a training step, and bytes that it keeps, on a few examples: time follows one or the other."""
    x = torch.stack([torch.as_tensor(few[i][0]) for i in range(len(few))])
    if x.dtype is torch.uint8:
        x = x.float() / 255
    network = copy.deepcopy(network).cpu().train()
    with forked(0, "estimate"):
        bytes_kept = _kept_bytes(network, x, "fp32", torch.device("cpu"))
        return float(sum(flops_per_example(network, x))), float(bytes_kept)


def _counted_options(work: _Work, step: StepCost) -> list[tuple[str, float]]:
    """Fewer epochs and fewer examples, with the seconds of the run."""
    options = []
    if work.epochs >= 10:
        fewer = replace(work, epochs=work.epochs // 2, train_epochs=max(1, work.train_epochs // 2))
        options.append((f"`epochs={fewer.epochs}`", fewer.seconds(step)))
    if work.n >= 40 * max(1, work.classes):
        count = work.n // 4
        quarter = replace(
            work, n=count, kept=None if work.kept is None else max(1, work.kept // 4), decoding=work.decoding / 4
        )
        options.append((f"`limit={count}`", quarter.seconds(step)))
    return options


def _cheaper(options: Sequence[tuple[str, float]]) -> str:
    """Options that make a run shorter, and what it then takes."""
    phrases = [f"{words} takes {estimated_duration(seconds)}" for words, seconds in options]
    return f"cheaper: {', '.join(phrases)}" if phrases else ""


def _probe_passes(method: Method, classes: int) -> float:
    """Cost of probing the recorded network, per example, in training passes; a forward pass is a third of one."""
    needs = method.needs
    passes_by_array = {
        "grad_norm": 1.0,
        "curvature": 1.0 + REPEATS["cure"],
        "boundary_distance": float(DEEPFOOL_STEPS * classes),  # a gradient a class and step
    }
    return 1 / 3 + sum(passes for name, passes in passes_by_array.items() if name in needs)


def _weights(model: torch.nn.Module, recipe: Recipe) -> float:
    """Bytes of the weights, their gradients and the optimiser's state."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    # weights, gradients and momentum; AdamW keeps two moments
    return float(weights * (4 if recipe.optimizer == "adamw" else 3))


def _recording(n: int, epochs: int) -> dict[str, float]:
    """Bytes that recording and scoring ``epochs`` need, by purpose; 0 epochs for no recording."""
    if not epochs:
        return {"recorder": 0.0, "scoring": 0.0, "evidence and tables": 0.0}
    return {
        "recorder": float(3 * 4 * SIGNALS * n),  # the open epoch, its copy for the disk, and the packed bytes
        # float64 moments and windows in chunks, the score and the draw's keys
        "scoring": float(min(n, 1 << 16) * epochs * 8 * 3 + 8 * 8 * n),
        "evidence and tables": float(400 * n),
    }


def _peak(memory_parts: Mapping[str, float]) -> float:
    """Bytes at the peak: training and scoring come one after the other."""
    names = ("process", "decoded images", "dataset on the device", "network, gradients, optimiser")
    always = sum(memory_parts[name] for name in names)
    training = memory_parts["activations"] + memory_parts["recorder"]
    return always + max(training, memory_parts["scoring"] + memory_parts["evidence and tables"])


def sentence(answer: Mapping[str, Any]) -> str:
    """The estimate in a line."""
    took = {stage: duration(seconds, rough=True) for stage, seconds in answer["seconds_by_stage"].items()}
    stages = ", ".join(f"{stage} {words}" for stage, words in took.items())
    return (
        f"{estimated_duration(answer['seconds'])} ({stages or 'nothing to train'}), "
        f"{answer['memory'] / 1e9:.1f} GB of memory, "
        f"{answer['disk'] / 1e6:.0f} MB of disk, with {answer['model']} on {answer['n']:,} examples"
    )


def process_bytes() -> int:
    """Bytes of this process in memory now; the peak so far where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # bytes on macOS, kilobytes on Linux
        return peak if sys.platform == "darwin" else peak * 1024


def _resident_extra(train: Any, device: torch.device) -> int:
    if not isinstance(train, Examples) and not (isinstance(train, SampledImages) and train.in_memory):
        return 0
    size = (
        train.x.numel() * train.x.element_size() if isinstance(train, Examples) else len(train) * math.prod(train.shape)
    )
    pad = train.augment.crop if train.augment and len(train.shape) == 3 else 0
    padded = 0
    if pad:
        height, width = train.shape[1:]
        padded = size * (height + 2 * pad) * (width + 2 * pad) // (height * width)
    if train.augment and train.augment.flip and len(train.shape) == 3:
        padded = 2 * (padded or size)  # and mirrored
    return padded + (size if device.type != "cpu" else 0)


def _measure(
    train: Any,
    model: torch.nn.Module,
    recipe: Recipe,
    device: torch.device,
    steps: int,
) -> StepCost:
    """Time training steps of a network.

    Args:
        train: the dataset.
        model: the network; a copy is trained.
        recipe: how to train.
        device: where.
        steps: number of timed steps.
    """
    started = time.perf_counter()
    model = copy.deepcopy(model).to(device)
    to_longest = pads_to_longest(model, train, device)
    lengths = dataset_text_lengths(train) if to_longest and recipe.similar_lengths else None
    small = _few(train, recipe.batch, lengths)
    batches = batches_of(small, device, workers=0, to_longest=to_longest)
    model.train()
    order = torch.arange(min(len(small), recipe.batch))
    index, x, y = next(iter(batches.train(order, recipe.batch, stream(0, "estimate"))))
    precision = recipe.precision
    channels_last = bool(recipe.channels_last) and channels_last_works(model, device)
    objective = Objective(recipe.loss, label_smoothing=recipe.label_smoothing)
    # those of fastest_precision as well, so that all of them take TRIAL_SECONDS
    num_steps = steps + 2 + (PRECISION_STEPS if precision == "auto" else 0)
    with forked(0, "estimate"):
        batch_size = len(x)
        # fewer where a step takes seconds: large images on a CPU
        count = trial_count(model, x, y, num_steps=num_steps, loss=recipe.loss)
        order, index, x, y = order[:count], index[:count], x[:count], y[:count]
        if precision == "auto":
            precision, channels_last, _ = fastest_precision(model, x, y, loss=recipe.loss)
        if channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = x.contiguous(memory_format=torch.channels_last)
        # its copies are part of the time of a recorded step
        recorder = Recorder(len(small), 1) if recipe.loss is None else None
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        overhead = time.perf_counter() - started
        kept, times = _kept_bytes(model, x, precision, device) * batch_size // count, []
        if to_longest:  # the peak is at the longest batch
            kept = kept * len(train[0][0]) // x.shape[1]
        with float32_head(model):
            for _ in range(steps + 1):
                start = time.perf_counter()
                # cropping a batch is part of a step; from a DataLoader it happens in other processes
                if isinstance(batches, ResidentBatches):
                    next(iter(batches.train(order, recipe.batch, stream(0, "estimate"))))
                with autocast(device, precision):
                    outputs = model(x)
                outputs = outputs.float() if isinstance(outputs, Tensor) else outputs
                if recorder is not None:
                    recorder.write(0, index, outputs, y)
                torch.autograd.backward(objective.losses(outputs, y).mean())
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
    # the first step warms up
    # a dataset smaller than a batch is scaled to a full one
    seconds = sorted(times[1:])[len(times[1:]) // 2] * recipe.batch / len(order)
    return StepCost(seconds, kept, overhead, precision, channels_last)


def _few(train: Any, count: int, lengths: Tensor | None = None) -> Any:
    """The first examples; of texts with ``lengths`` (n,) those of middle length, as a batch may hold them."""
    if isinstance(train, SampledImages):
        return train.first(count)
    index = torch.arange(min(len(train), count))
    if lengths is not None:
        index = lengths.argsort(stable=True)[(len(lengths) - len(index)) // 2 :][: len(index)]
    return train.subset(index) if hasattr(train, "subset") else torch.utils.data.Subset(train, index.tolist())


def _cut(few: Any, size: int) -> Any:
    """A few images cut to ``size`` pixels a side: steps take as long as with images that are resized."""
    if isinstance(few, Examples):
        return replace(few, x=few.x[:, :, :size, :size].contiguous())
    return [(few[i][0][:, :size, :size], few[i][1]) for i in range(len(few))]


def _kept_bytes(model: torch.nn.Module, x: Tensor, precision: str, device: torch.device) -> int:
    """Bytes of distinct tensors that autograd keeps for the backward pass, twice: gradients of them are as large.

    Weights, which it keeps too, are left out.
    """
    seen: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        # views of one storage are counted once
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), float32_head(model), autocast(device, precision):
        outputs = model(x)
    del outputs
    return 2 * sum(seen.values())
