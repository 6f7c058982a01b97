"""The device, the optimizer and the arithmetic of a training, and checks of a network's forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from datawinnow.core.errors import ArgumentError
from datawinnow.core.memory_format import channels_last_works
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.rng import forked, stream
from datawinnow.data.batches import Batch, batches_of, labels_of
from datawinnow.data.examples import Examples
from datawinnow.data.kept import Kept
from datawinnow.models.outputs import returns_logits, select_logits
from datawinnow.train.flops import flops_per_example
from datawinnow.train.objective import Objective
from datawinnow.train.parameter_groups import ParameterGroups, parameter_groups
from datawinnow.train.precision import fastest_precision
from datawinnow.train.recipe import Recipe
from datawinnow.train.size_schedule import PATCHES, SizePlan, SizeSchedule, input_size, smaller_view
from datawinnow.vit.random_patches import random_patches


def device_for(device: str) -> torch.device:
    """The device that a recipe means.

    Args:
        device: ``"auto"`` (CUDA if available, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.

    Raises:
        ArgumentError: torch has no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise ArgumentError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {device!r}")
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(number or 0) >= available:
        raise ArgumentError(f"no device {device!r}: torch sees {available} of that kind; use `device='cpu'`")
    return torch.device(kind) if kind == "cpu" else torch.device(kind, int(number or 0))


def make_optimizer(model: nn.Module, recipe: Recipe, groups: ParameterGroups | None = None) -> torch.optim.Optimizer:
    """The recipe's optimizer over the parameters of ``model`` that require a gradient.

    Args:
        model: the network.
        recipe: how to train.
        groups: factors on the learning rate; None for none.

    Raises:
        ArgumentError: none does.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ArgumentError(f"the model {type(model).__name__} has no parameters to train")
    grouped: Any = parameters if groups is None or not groups.lr_scale else groups.split(parameters)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(grouped, lr=recipe.peak_lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        grouped,
        lr=recipe.peak_lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )


def groups_of(model: nn.Module, dataset: Any, recipe: Recipe, seed: int) -> ParameterGroups:
    """What a recipe freezes in a network, and its learning rates by layer; the network is moved to the device.

    Raises:
        ArgumentError: as of `parameter_groups`.
    """
    if not recipe.freeze and not recipe.lr_scale:
        return ParameterGroups()
    device = device_for(recipe.device)
    with forked(0, "flops"):
        _, x, _ = first_batch(dataset, device, 2)
    return parameter_groups(
        model.to(device),
        x,
        freeze=recipe.freeze,
        lr_scale=recipe.lr_scale,
        classes=num_classes(dataset),
        seed=seed,
    )


def first_batch(dataset: Any, device: torch.device, count: int) -> Batch:
    """``(index, x, y)`` of the first ``count`` examples, for trials; starts no worker process."""
    order = torch.arange(min(len(dataset), count))
    # a subset: batches of `Examples` may copy all of the data to the device
    small = dataset.subset(order) if isinstance(dataset, Examples) else dataset
    return next(iter(batches_of(small, device, workers=0).train(order, len(order), stream(0, "measure"))))


CHANNELS_LAST_NOTE = (
    "not in channels-last: PyTorch computes a strided 1x1 convolution of fewer than 16 channels wrongly there on CPUs"
)


def resolve_precision(model: nn.Module, data: Any, recipe: Recipe) -> tuple[Recipe, str]:
    """``recipe`` with precision and memory format fixed: ``precision="auto"`` times a few steps on this machine.

    Times differ from run to run, and the choice may too. To repeat a training exactly, keep the returned recipe.

    Args:
        model: the network; its weights stay as they are.
        data: `Examples`, `Kept` or any map-style dataset of ``(x, y)``.
        recipe: how to train.

    Returns:
        The recipe with ``precision`` and ``channels_last`` set, and a sentence with the times; ``""`` if nothing was
        measured.
    """
    device = device_for(recipe.device)
    note = ""
    if recipe.channels_last and not channels_last_works(model, device):
        recipe, note = replace(recipe, channels_last=False), CHANNELS_LAST_NOTE
    if recipe.precision != "auto":
        return replace(recipe, channels_last=bool(recipe.channels_last)), note
    dataset = data.dataset if isinstance(data, Kept) else data
    # the trial steps draw dropout and augmentation: the state of the run stays as it was
    with forked(0, "measure"):
        _, x, y = first_batch(dataset, device, recipe.batch)
        precision, fast_format, times = _time_steps(model.to(device), x, y, recipe)
    channels_last = fast_format if recipe.channels_last is None else recipe.channels_last
    note += f"{'; ' if note else ''}{precision}{', channels-last' if channels_last else ''} ({times})"
    return replace(recipe, precision=precision, channels_last=channels_last), note


def _time_steps(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe) -> tuple[str, bool, str]:
    if recipe.loss is None:
        return fastest_precision(model, x, y)
    return fastest_precision(model, x, y, loss=recipe.loss)


def check_forward(
    model: nn.Module, dataset: Any, device: torch.device, *, seed: int = 0, objective: Objective | None = None
) -> float:
    """`check_outputs` for the dataset's classes, and the work of the network; arguments as there.

    Returns:
        Floating-point operations of training on one example, forward and backward; 0 if they cannot be counted.

    Raises:
        ArgumentError: as `check_outputs`.
    """
    classes = num_classes(dataset)
    x = check_outputs(model, dataset, device, classes=classes, seed=seed, objective=objective)
    if objective is not None and objective.loss is not None:
        return sum(flops_per_example(model, x))
    with forked(0, "flops"), returns_logits(model, classes):
        return sum(flops_per_example(model, x))


def check_outputs(
    model: nn.Module,
    dataset: Any,
    device: torch.device,
    *,
    classes: int,
    name: str = "",
    seed: int = 0,
    objective: Objective | None = None,
) -> Tensor:
    """Run ``model`` on two examples and check that a cross-entropy can be computed from its outputs.

    PyTorch's own errors, of the first step, name neither the dataset's numbers nor the network's.

    Args:
        model: the network; moved to ``device``. Lazy layers are initialised.
        dataset: `Examples` or any map-style dataset of ``(x, y)``.
        device: where the network will be trained.
        classes: number of classes; 0 if unknown.
        name: of the dataset, for the error.
        seed: of the weights of lazy layers.
        objective: with a loss of the user's, that is tried instead, and any outputs are accepted.

    Returns:
        (2, ...) the examples, on the device.

    Raises:
        ArgumentError: weights that are not float32 or not there, examples that the network cannot take, outputs that
            are not (b, classes) logits, or fewer of them than classes.
    """
    network = f"the model {type(model).__name__}"
    _check_weights(model, network)
    with forked(0, "flops"):  # reading a dataset may draw at random
        _, x, y = first_batch(dataset, device, 2)
    lazy = any(isinstance(p, UninitializedParameter) for p in model.parameters())
    # evaluation mode: running statistics stay, and batch norm accepts a dataset of one example
    with forked(seed, "weights" if lazy else "flops"), torch.no_grad(), restore_mode(model):
        try:
            outputs = model.to(device).eval()(x)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, ArgumentError):
                raise
            raise ArgumentError(_input_error(model, network, x, error)) from error
        if objective is not None and objective.loss is not None:
            objective.check(outputs.float() if isinstance(outputs, Tensor) else outputs, y)
            return x
    logits = select_logits(outputs, classes, name=network)
    if logits.ndim != 2 or len(logits) != len(x):
        raise ArgumentError(
            f"{network} must give logits of shape (batch, classes), got {tuple(logits.shape)} for {len(x)} examples: "
            "wrap it in a module that returns only them"
        )
    if logits.shape[1] < classes:
        named = f"the dataset {name!r}" if name else "the dataset"
        raise ArgumentError(
            f"{network} has {logits.shape[1]} outputs, but {named} has {classes} classes: build it with "
            f"classes={classes}"
        )
    return x


def _check_weights(model: nn.Module, network: str) -> None:
    """Raise for weights that cannot be trained as they are."""
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise ArgumentError(f"{network} has no weights ({name} is on the meta device): build it on the CPU")
        if parameter.is_floating_point() and parameter.dtype is not torch.float32:
            raise ArgumentError(
                f"{network} has weights of {parameter.dtype} ({name}), but training needs float32: give model.float(); "
                "half-precision arithmetic is chosen by precision='bf16'"
            )


def _input_error(model: nn.Module, network: str, x: Tensor, error: Exception) -> str:
    """Why a network cannot take the examples, with both shapes."""
    shape = tuple(x.shape[1:])
    message = (
        f"{network} cannot take the examples, x of shape {shape} and {x.dtype}: {str(error).strip().splitlines()[0]}"
    )
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            side = shape[-1] if shape else 0
            size = math.prod(shape)
            message += f". Its first layer takes {layer.in_features} features, an example has {side}"
            message += f" ({size} when flattened)" if size != side else ""
            break
        if isinstance(layer, nn.modules.conv._ConvNd):  # the base class of all convolutions
            side = shape[0] if shape else 0
            message += f". Its first layer takes {layer.in_channels} channels, an example has {side}"
            break
        if isinstance(layer, nn.Embedding):
            message += f". Its first layer takes token ids below {layer.num_embeddings}"
            break
    if len(shape) == 3 and shape[1] != shape[2]:
        return f"{message}; the images are not square: build it for that shape, or load them with `size=`"
    return f"{message}; build it for examples of shape {shape}"


def size_plan(
    schedule: SizeSchedule,
    model: nn.Module,
    dataset: Any,
    device: torch.device,
    mean_cost: Callable[[int], float] | None = None,
) -> SizePlan:
    """The schedule for this network and dataset: operations counted at each size, and each size tried.

    Args:
        schedule: of the sizes.
        model: the network, on ``device``.
        dataset: `Examples` or any map-style dataset of ``(x, y)``.
        device: where the network is.
        mean_cost: cost of an average example at a size, where sizes differ between examples (`TextCosts.mean_cost`);
            None to count it.

    Raises:
        ArgumentError: inputs without a size, or a size that the network cannot take.
    """
    with forked(0, "flops"):
        _, x, _ = first_batch(dataset, device, 2)
        full = input_size(x)
        power = 2 if x.ndim == 4 else 1
        with returns_logits(model, num_classes(dataset)):
            at_full_size = sum(flops_per_example(model, x))

        if schedule.view == PATCHES:
            patches = random_patches(model)

            def cost_of_patches(size: int) -> float:
                share = (size / full) ** 2
                with patches.fixed(share), returns_logits(model, num_classes(dataset)):
                    counted = sum(flops_per_example(model, x))
                return counted / at_full_size if counted and at_full_size else share

            return schedule.plan(full, cost_of_patches)

        def refusal(size: int) -> Exception | None:
            view = smaller_view(x, size, schedule.view, generator=stream(0, "flops"))
            try:
                with torch.no_grad(), restore_mode(model):
                    model.eval()(view)
            except Exception as error:  # a network may raise anything
                return error
            return None

        def relative_cost(size: int) -> float:
            view = smaller_view(x, size, schedule.view, generator=stream(0, "flops"))
            error = refusal(size)
            if error is not None:
                tried = _sizes_to_try(full, schedule.multiple)
                taken = [smaller for smaller in tried if refusal(smaller) is None]
                if taken:
                    advice = f"It takes {', '.join(map(str, taken))}: choose among them"
                else:
                    advice = (
                        f"It takes none of {', '.join(map(str, tried))} either: choose a network that pools over "
                        "positions, such as resnet8, or train at full size"
                    )
                raise ArgumentError(
                    f"the model {type(model).__name__} cannot take inputs of size {size} ({tuple(view.shape[1:])}): "
                    f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}. {advice}"
                ) from error
            if mean_cost is not None:
                return mean_cost(size)
            with returns_logits(model, num_classes(dataset)):
                counted = sum(flops_per_example(model, view))
            # a network that cannot be counted: as the number of pixels or tokens
            return counted / at_full_size if counted and at_full_size else (size / full) ** power

        return schedule.plan(full, relative_cost)


def _sizes_to_try(full: int, multiple: int) -> list[int]:
    """Sizes below ``full`` for an error to propose: multiples of ``multiple``, 16 at most."""
    sizes = list(range(multiple, full, multiple))
    return sizes[:: max(1, -(-len(sizes) // 16))]


def num_classes(dataset: Any) -> int:
    """Number of classes of a dataset; 0 if it does not say."""
    names = getattr(dataset, "classes", None)
    if names is not None and hasattr(names, "__len__"):
        return len(names)
    labels = labels_of(dataset)
    return 0 if labels is None else int(labels.max()) + 1


def sparsity_schedule(model: nn.Module, dataset: Any, device: torch.device) -> Callable[[int], float] | None:
    """For a network whose sparsity changes with the epoch (`vit.sparsify`): a function that sets the epoch.

    Returns:
        ``f(epoch)`` sets the network's epoch and returns the FLOPs of training on one example in it. None for a network
        whose work is the same in every epoch.
    """
    sparsity: Any = getattr(model, "sparsity", None)
    if not hasattr(sparsity, "set_epoch"):
        return None
    with forked(0, "flops"):
        _, x, _ = first_batch(dataset, device, 2)
    flops_by_state: dict[Any, float] = {}  # epochs with the same sparsity cost the same: counted once

    def set_epoch(epoch: int) -> float:
        sparsity.set_epoch(epoch)
        if sparsity.training not in flops_by_state:
            with sparsity.fixed_rates():
                flops_by_state[sparsity.training] = sum(flops_per_example(model, x))
        return flops_by_state[sparsity.training]

    return set_epoch


def set_training_mode(model: nn.Module) -> None:
    """Training mode for all of ``model`` but the batch norms of its frozen branches, which keep their statistics.

    A branch is frozen if it has parameters and none of them requires a gradient.
    """
    model.train()
    for branch in model.modules():
        parameters = list(branch.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            for module in branch.modules():
                if isinstance(module, nn.modules.batchnorm._NormBase):  # of batch and instance norms
                    module.eval()
