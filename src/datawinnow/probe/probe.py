"""One pass over a trained model: features and probabilities, and what else is asked of each example."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.core.progress import Progress
from datawinnow.probe.arrays import ARRAYS, FORWARD_ARRAYS
from datawinnow.probe.makers import makers
from datawinnow.probe.manifest import Probed
from datawinnow.probe.running import How, run

MEMORY_LIMIT = 4 << 30
"""Bytes over which an array goes to a temporary file."""
MANY = 1 << 60


def probe(
    model: nn.Module,
    data: Any,
    *,
    arrays: Sequence[str] = FORWARD_ARRAYS,
    batch: int = 500,
    chunk: int | None = None,
    device: torch.device | str = "auto",
    head: nn.Module | str | None = None,
    out: Path | str | None = None,
    prefix: str = "",
    fingerprint: str | None = None,
    memory_limit: int = MEMORY_LIMIT,
    workers: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Probed:
    """What a trained model says of each example, in one pass: unaugmented, in evaluation mode, in float32.

    The model is any `nn.Module` that gives logits; its modes, batch norms and the global random state stay as they are.
    Answers for an example do not depend on ``batch`` or ``chunk``, rounding aside.

    - ``features`` (n, d): what goes into the head, flattened; ``probs`` (n, c): softmax of the logits.
    - ``grad_norm`` (n,): L2 norm of the gradient of the cross-entropy with respect to all parameters (GraNd, arXiv
      2107.07075), by `torch.func`; an example at a time, with a note, where the model does not allow that.
    - ``curvature`` (n,): see `core.curvature.input_curvature`; options ``h``, ``mode``, ``repeats``, ``square``.
    - ``boundary_distance`` (n,): see `probe.deepfool`; options ``max_iter``, ``overshoot``, ``candidates``.

    Args:
        model: the trained network, where it is to be run.
        data: `Examples`, `Kept` (rows are then in the order chosen) or any map-style dataset of ``(x, y)``.
        arrays: which to make, of the names above; ``labels`` (n,) int64 are always given too.
        batch: examples at a time in the forward pass.
        chunk: examples at a time where gradients are taken; a fit number unless told.
        device: where the model is; ``"auto"`` asks it.
        head: the layer whose input are the features, or its dotted name; the last linear layer whose output the model
            returns unless told. If it is told and linear, the logits are its output.
        out: folder for ``<name>.npy`` and ``probe.json``; what is there with the same options is not made again.
        prefix: ``"val_"`` names them as arrays of held-out data.
        fingerprint: that ``data`` must have, where that is known.
        memory_limit: bytes over which an array goes to a temporary file although there is no ``out``.
        workers: processes of the DataLoader, where one is needed.
        seed: of random directions, and of whatever a model or a dataset draws from torch.
        progress: called as ``progress("probing", done, n)`` after each batch.
        options: of the arrays.

    Returns:
        The arrays by name, float32 (float64 of a float64 model), memory-mapped where they are in files; with ``notes``,
        ``head`` and ``cost`` (FLOPs: torch's count of a forward pass, three times that with a backward; 0 if unknown).

    Raises:
        ArgumentError: an unknown array or option, no head, another device, no finite logits, labels beyond them.
        DataError: an example whose x is not finite.
        RunError: ``out`` is of another dataset, model or head, ``data`` has another fingerprint, or the disk is full.
    """
    names = _names(arrays)
    how = How(
        device=model_device(model, device),
        head=head,
        batch=check.number("batch", batch, 1, MANY, integer=True),
        out=None if out is None else Path(out),
        prefix=check.one_of("prefix", prefix, ("", "val_")),
        fingerprint=fingerprint,
        memory_limit=check.number("memory_limit", memory_limit, 0, MANY, integer=True),
        workers=workers,
        seed=seed,
        progress=progress,
    )
    return run(getattr(model, "_orig_mod", model), data, names, makers(names, options, chunk=chunk, seed=seed), how)


def _names(arrays: Sequence[str]) -> tuple[str, ...]:
    names = (arrays,) if isinstance(arrays, str) else tuple(dict.fromkeys(arrays))
    if not names:
        raise ArgumentError(f"arrays is empty: ask for some of {', '.join(ARRAYS)}")
    for name in names:
        check.one_of("arrays", name, ARRAYS)
    return names


def held_out(model: nn.Module, data: Any, *, arrays: Sequence[str] = FORWARD_ARRAYS, **how: Any) -> Probed:
    """`probe` of held-out data: ``val_features``, ``val_probs`` and ``val_labels``.

    Args:
        model: the trained network.
        data: the held-out examples.
        arrays: ``"features"``, ``"probs"`` or both.
        how: as for `probe`; ``out`` may be the folder of the training data's arrays.

    Returns:
        The arrays by name.

    Raises:
        ArgumentError: another array, and what `probe` raises.
    """
    for name in (arrays,) if isinstance(arrays, str) else arrays:
        check.one_of("arrays of held-out data", name, FORWARD_ARRAYS)
    return probe(model, data, arrays=arrays, prefix="val_", **how)


def model_device(model: nn.Module, device: torch.device | str) -> torch.device:
    """Where the model is, if it is in one place, and that place is ``device``.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    places = {value.device for value in (*model.parameters(), *model.buffers())}
    if len(places) > 1:
        shown = " and ".join(sorted(str(place) for place in places))
        raise ArgumentError(
            f"the model {type(model).__name__} is on several devices, {shown}: move it to one with .to()"
        )
    place = next(iter(places), torch.device("cpu"))
    if str(device) == "auto":
        return place
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise ArgumentError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {device!r}") from None
    if places and (wanted.type != place.type or wanted.index not in (None, place.index)):
        raise ArgumentError(
            f"the model {type(model).__name__} is on {place}, but device={str(device)!r}: move it there with "
            f"model.to({str(device)!r}), or leave device='auto'"
        )
    return place if places else wanted
