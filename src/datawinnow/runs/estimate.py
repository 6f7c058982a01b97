"""Estimate of seconds and memory before a run: a few steps are timed, the rest is counted."""

from __future__ import annotations

import copy
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datawinnow.core.arrays import RECORDED
from datawinnow.core.budget import budget_of
from datawinnow.core.curvature import REPEATS
from datawinnow.core.duration import duration, estimated_duration
from datawinnow.core.memory_format import channels_last_works
from datawinnow.core.progress import Progress
from datawinnow.core.rng import forked, stream
from datawinnow.data.batches import ResidentBatches, batches_of
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.examples import Examples
from datawinnow.methods import Method, create_method
from datawinnow.record import Recorder
from datawinnow.train import Recipe
from datawinnow.train.build import Model, build_network, check_outputs_for
from datawinnow.train.network import device_for
from datawinnow.train.precision import autocast, fastest_precision, float32_head, trial_count

SCORING = 4e-9
"""Seconds a recorded value takes to be scored (measured: benchmarks/scores.py), an order of magnitude."""
DEEPFOOL_STEPS = 2
"""Steps of DeepFool to the boundary, an order of magnitude."""
LONG = 600.0
"""Seconds from which an estimate names cheaper options."""
SIGNALS = len(RECORDED) + 1
"""Columns of a recording: the signals and ``seen``."""


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
        train: the dataset, or its `DatasetInfo`.
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
        check_outputs_for(network, info)
    device = device_for(recipe.device)
    # What is resident now: the interpreter, its libraries, and the dataset where it lies in memory already.
    resident = process_bytes()
    n = len(train)
    if progress is not None:
        progress(f"timing training steps of {name}", 0, 1)
    per_step, activations, overhead = _measure(train, network, recipe, device, steps)
    if progress is not None:
        progress(f"timing training steps of {name}", 1, 1)

    def training(count: int, passes: int) -> float:
        # -(-a // b) is a / b rounded up: the last batch may be smaller
        return overhead + per_step * -(-count // recipe.batch) * passes

    stages: dict[str, float] = {}
    if chosen.needs_recording:
        stages["record"] = training(n, epochs)
        if chosen.reads_probe:
            stages["probe"] = overhead + per_step / recipe.batch * n * _probe_passes(chosen, len(info.classes))
        stages["score"] = SCORING * n * epochs * len(chosen.needs)
    if keep is not None:
        stages["train"] = training(budget_of(keep, n), train_epochs or epochs)
    memory_parts = {
        "process": float(resident),
        "dataset on the device": float(_resident_extra(train, device)),
        "network, gradients, optimiser": _weights(network, recipe),
        "activations": float(activations),
        **_recording(n, epochs if chosen.needs_recording else 0),
    }
    answer = {
        "model": name,
        "method": chosen.key,
        "n": n,
        "seconds": sum(stages.values()),
        "seconds_by_stage": stages,
        "memory": _peak(memory_parts),
        "memory_by_part": memory_parts,
        "disk": float(2 * 4 * SIGNALS * n * epochs if chosen.needs_recording else 0),
    }
    return {**answer, "sentence": sentence(answer), "cheaper": _cheaper(sum(stages.values()), epochs, info.shape)}


def _cheaper(seconds: float, epochs: int, shape: tuple[int, ...]) -> str:
    """Options that make a long run shorter, and what it then takes; ``""`` for a short one."""
    if seconds < LONG:
        return ""
    options = []
    if len(shape) == 3 and min(shape[1:]) >= 64:
        # the work of a convolution goes with the number of pixels
        options.append(f"`size={min(shape[1:]) // 2}` takes about {duration(seconds / 4, rough=True)}")
    if epochs >= 10:
        options.append(f"`epochs={epochs // 2}` about {duration(seconds / 2, rough=True)}")
    options.append(f"`limit=` a quarter of the examples about {duration(seconds / 4, rough=True)}")
    return f"cheaper: {', '.join(options)}; a smaller network is given with `model=`"


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
    always = (
        memory_parts["process"] + memory_parts["dataset on the device"] + memory_parts["network, gradients, optimiser"]
    )
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
    if not isinstance(train, Examples):
        return 0
    size = train.x.numel() * train.x.element_size()
    pad = train.augment.crop if train.augment and train.x.ndim == 4 else 0
    padded = 0
    if pad:
        height, width = train.x.shape[2:]
        padded = size * (height + 2 * pad) * (width + 2 * pad) // (height * width)
    if train.augment and train.augment.flip and train.x.ndim == 4:
        padded = 2 * (padded or size)  # and mirrored
    return padded + (size if device.type != "cpu" else 0)


def _measure(
    train: Any, model: torch.nn.Module, recipe: Recipe, device: torch.device, steps: int
) -> tuple[float, int, float]:
    """Seconds a step, bytes that a step keeps for its backward pass, seconds before the first step."""
    started = time.perf_counter()
    small = _few(train, recipe.batch)
    batches = batches_of(small, device, workers=0)
    model = copy.deepcopy(model).to(device).train()
    order = torch.arange(min(len(small), recipe.batch))
    index, x, y = next(iter(batches.train(order, recipe.batch, stream(0, "estimate"))))
    precision = recipe.precision
    channels_last = bool(recipe.channels_last) and channels_last_works(model, device)
    with forked(0, "estimate"):
        if precision == "auto":
            precision, channels_last, _ = fastest_precision(model, x, y)
        if channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = x.contiguous(memory_format=torch.channels_last)
        batch_size = len(x)
        # fewer where a step takes seconds: large images on a CPU
        count = trial_count(model, x, y, num_steps=steps + 2)
        order, index, x, y = order[:count], index[:count], x[:count], y[:count]
        # its copies are part of the time of a recorded step
        recorder = Recorder(len(small), 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        overhead = time.perf_counter() - started
        kept, times = _kept_bytes(model, x, precision, device) * batch_size // count, []
        with float32_head(model):
            for _ in range(steps + 1):
                start = time.perf_counter()
                # cropping a batch is part of a step; from a DataLoader it happens in other processes
                if isinstance(batches, ResidentBatches):
                    next(iter(batches.train(order, recipe.batch, stream(0, "estimate"))))
                with autocast(device, precision):
                    logits = model(x).float()
                recorder.write(0, index, logits, y)
                torch.autograd.backward(F.cross_entropy(logits, y))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
    # the first step warms up
    # a dataset smaller than a batch is scaled to a full one
    return sorted(times[1:])[len(times[1:]) // 2] * recipe.batch / len(order), kept, overhead


def _few(train: Any, count: int) -> Any:
    if isinstance(train, Examples):
        return train.subset(torch.arange(min(len(train), count)))
    return torch.utils.data.Subset(train, range(min(len(train), count)))


def _kept_bytes(model: torch.nn.Module, x: Tensor, precision: str, device: torch.device) -> int:
    """Bytes of distinct tensors that autograd keeps for the backward pass, twice: gradients of them are as large."""
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        # views of one storage are counted once
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), float32_head(model), autocast(device, precision):
        logits = model(x)
    del logits
    return 2 * sum(seen.values())
