"""Probes a trained model: features, probabilities, and gradients or distances of each example, in one pass."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datawinnow.core import check
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, DataError, RunError
from datawinnow.core.module_mode import restore_mode
from datawinnow.core.operations import flop_counter
from datawinnow.core.progress import Progress
from datawinnow.core.rng import forked
from datawinnow.data.batches import Batch, batches_of, fingerprint_of, forward_batch, pads_to_longest
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.kept import Kept
from datawinnow.models.head import Tapped, find_head, tapped
from datawinnow.probe.array_writer import ArrayWriter
from datawinnow.probe.arrays import ARRAYS, FORWARD_ARRAYS
from datawinnow.probe.makers import Maker, build_makers, maker_settings
from datawinnow.probe.manifest import Probed, ProbeManifest, model_fingerprint

MEMORY_LIMIT = 4 << 30
"""Bytes over which an array goes to a temporary file."""


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
    """Compute arrays of every example from a trained model, in one pass: unaugmented, evaluation mode, float32.

    The model is any `nn.Module` that returns logits; its modes, batch norms and the global random state stay unchanged.
    Results for an example do not depend on ``batch`` or ``chunk``, up to rounding.

    - ``features`` (n, d): what goes into the head, flattened; ``probs`` (n, c): softmax of the logits.
    - ``grad_norm`` (n,): L2 norm of the gradient of the cross-entropy with respect to all parameters (GraNd, arXiv
      2107.07075), by `torch.func`; an example at a time, with a note, where the model does not allow that.
    - ``curvature`` (n,): see `core.curvature.input_curvature`; options ``h``, ``mode``, ``repeats``, ``square``.
    - ``boundary_distance`` (n,): see `probe.deepfool`; options ``max_iter``, ``overshoot``, ``candidates``.

    Args:
        model: the trained network, where it is to be run.
        data: `Examples`, `Kept` (rows are then in the order chosen), any map-style dataset of ``(x, y)``, or its
            `DatasetInfo`, whose fingerprint is not computed again.
        arrays: names from the list above; ``labels`` (n,) int64 are always included.
        batch: examples at a time in the forward pass; fewer where they are large, as images of 224 pixels.
        chunk: examples at a time where gradients are taken; by default as many as fit.
        device: where the model is; ``"auto"`` takes the device of its parameters.
        head: the layer whose input are the features, or its dotted name. Default: the last linear layer whose output
            the model returns. If it is passed and linear, the logits are its output.
        out: folder for ``<name>.npy`` and ``probe.json``; arrays made there with the same options are not made again.
        prefix: ``"val_"`` names them as arrays of held-out data.
        fingerprint: that ``data`` must have; None to skip the check.
        memory_limit: bytes above which an array goes to a temporary file when there is no ``out``.
        workers: processes of the DataLoader, if ``data`` needs one.
        seed: of random directions, and of all that a model or a dataset draws from torch.
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
    names = _check_names(arrays)
    place = model_device(model, device)
    check.number("batch", batch, 1, math.inf, integer=True)
    check.number("memory_limit", memory_limit, 0, math.inf, integer=True)
    check.one_of("prefix", prefix, ("", "val_"))
    makers = build_makers(names, options, chunk=chunk, seed=seed)
    model = getattr(model, "_orig_mod", model)  # torch.compile hides the modules among which the head is
    folder = None if out is None else Path(out)
    start = time.perf_counter()
    examples = data.data if isinstance(data, DatasetInfo) else data.alone() if isinstance(data, Kept) else data
    batches = batches_of(examples, place, workers=workers, to_longest=pads_to_longest(model, examples, place))
    if batches.n == 0:
        raise ArgumentError("data holds no examples")
    # autocast off: a caller's context would lower the precision of every array
    with forked(seed, "probe"), restore_mode(model), torch.autocast(place.type, enabled=False):
        model.eval()
        rest = _cast_inputs(batches.test(forward_batch(examples, batch)), model)
        # the head is found on the first examples, and the batch goes through the pass again below
        first = next(rest)
        model_head = find_head(model, first[1][:2], head)
        # fingerprints read all of the data: only where something is compared
        checked = folder is not None or fingerprint is not None
        fingerprints = (
            _fingerprints(model, data if isinstance(data, DatasetInfo) else examples, fingerprint) if checked else {}
        )
        manifest = ProbeManifest(folder, prefix, {**fingerprints, "head": model_head.name, "n": batches.n})
        requested = {prefix + name: maker_settings(makers.get(name)) for name in (*names, "labels")}
        missing = manifest.missing(requested)
        if not missing:
            return manifest.load(list(requested))
        makers = {name: maker for name, maker in makers.items() if prefix + name in missing}
        notes = [*model_head.notes, *_batch_norm_notes(model, makers)]
        with tapped(model, model_head) as tap, ArrayWriter(batches.n, folder, memory_limit) as writer:
            probe_pass = _ProbePass(tap, makers, {name.removeprefix(prefix) for name in missing}, writer, prefix)
            probe_pass.run(chain([first], rest), batches.n, progress)
            # after the pass and before the files replace older ones, so that an interrupted pass loses nothing
            manifest.discard(missing)
            written = writer.finish()
        notes += [note for maker in makers.values() for note in maker.notes]
        cost = probe_pass.cost(time.perf_counter() - start)
        # last: the manifest names complete files only
        manifest.add({name: requested[name] for name in missing}, cost, notes)
    return manifest.load(list(requested), written, keep_alive=writer.temporary)


def _check_names(arrays: Sequence[str]) -> tuple[str, ...]:
    names = (arrays,) if isinstance(arrays, str) else tuple(dict.fromkeys(arrays))
    if not names:
        raise ArgumentError(f"arrays is empty: name some of {', '.join(ARRAYS)}")
    for name in names:
        check.one_of("arrays", name, ARRAYS)
    return names


def held_out(
    model: nn.Module,
    data: Any,
    *,
    arrays: Sequence[str] = FORWARD_ARRAYS,
    batch: int = 500,
    device: torch.device | str = "auto",
    head: nn.Module | str | None = None,
    out: Path | str | None = None,
    fingerprint: str | None = None,
    memory_limit: int = MEMORY_LIMIT,
    workers: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Probed:
    """`probe` of held-out data: ``val_features``, ``val_probs`` and ``val_labels``.

    Args:
        model: the trained network.
        data: the held-out examples, or their `DatasetInfo`.
        arrays: ``"features"``, ``"probs"`` or both.
        batch: examples at a time in the forward pass; fewer where they are large, as images of 224 pixels.
        device: as for `probe`.
        head: as for `probe`.
        out: folder for the arrays; it may be that of the training data's arrays.
        fingerprint: that ``data`` must have; None to skip the check.
        memory_limit: as for `probe`.
        workers: as for `probe`.
        seed: as for `probe`.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The arrays by name.

    Raises:
        ArgumentError: another array, and what `probe` raises.
    """
    for name in (arrays,) if isinstance(arrays, str) else arrays:
        check.one_of("arrays of held-out data", name, FORWARD_ARRAYS)
    return probe(
        model,
        data,
        arrays=arrays,
        batch=batch,
        device=device,
        head=head,
        out=out,
        prefix="val_",
        fingerprint=fingerprint,
        memory_limit=memory_limit,
        workers=workers,
        seed=seed,
        progress=progress,
    )


def model_device(model: nn.Module, device: torch.device | str) -> torch.device:
    """The device of the model's parameters and buffers.

    Raises:
        ArgumentError: they are on several devices, or not on ``device`` (unless that is ``"auto"``).
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
        requested = torch.device(device)
    except (RuntimeError, TypeError):
        raise ArgumentError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {device!r}") from None
    if places and (requested.type != place.type or requested.index not in (None, place.index)):
        raise ArgumentError(
            f"the model {type(model).__name__} is on {place}, but device={str(device)!r}: move it there with "
            f"model.to({str(device)!r}), or leave device='auto'"
        )
    return place if places else requested


class _ProbePass:
    """One pass of a dataset through a model.

    Attributes:
        tap: the model.
        makers: those of the arrays that take more than a forward pass.
        names: of the arrays to write, without ``prefix``.
        writer: takes the rows.
        prefix: of the arrays' names.
    """

    def __init__(
        self, tap: Tapped, makers: dict[str, Maker], names: set[str], writer: ArrayWriter, prefix: str
    ) -> None:
        self.tap, self.makers, self.names, self.writer, self.prefix = tap, makers, names, writer, prefix
        self.forward = 0
        self.flops = 0.0  # of one example passed forward
        self.values: dict[str, list[Tensor]] = {name: [] for name in makers}

    def run(self, batches: Iterable[Batch], n: int, progress: Progress | None) -> None:
        """Write all rows."""
        done = 0
        for _, x, y in batches:
            if done == 0:
                classes = self._count_classes(x[:2])
            if any(maker.labelled for maker in self.makers.values()):
                _check_label_range(y, classes, done)
            self._write_forward_arrays(x, done)
            for name, maker in self.makers.items():
                self.values[name].append(_require_finite(name, maker(self.tap, x, y), x, done))
            if "labels" in self.names:
                self._write("labels", y)
            done += len(x)
            if progress is not None:
                progress("probing", done, n)
        # held until the end: some values depend on all the others
        for name, maker in self.makers.items():
            self._write(name, maker.finish(torch.cat(self.values[name])))

    def cost(self, seconds: float) -> Cost:
        """Cost of the pass, which took ``seconds``."""
        total = sum((maker.cost for maker in self.makers.values()), Cost(seconds, forward=self.forward))
        # a backward pass counts as two forward passes
        return total + Cost(flops=self.flops * (total.forward + 3 * total.backward))

    def _write(self, name: str, rows: Tensor) -> None:
        self.writer.write(self.prefix + name, rows)

    @torch.no_grad()
    def _write_forward_arrays(self, x: Tensor, done: int) -> None:
        """Features and probabilities of a batch whose first example is ``done``."""
        if not self.names.intersection(FORWARD_ARRAYS):
            return
        self.tap.remember = "features" in self.names
        logits = _at_least_float32(self.tap(x))
        self.tap.remember = False
        self.forward += len(x)
        if "features" in self.names:
            features = _at_least_float32(self.tap.take_features(len(x)))
            self._write("features", _require_finite("features", features, x, done))
        if "probs" in self.names:
            self._write("probs", _require_finite("probs", logits.softmax(dim=1), x, done))

    @torch.no_grad()
    def _count_classes(self, x: Tensor) -> int:
        """Number of classes; counts the operations on these few examples too."""
        try:
            with flop_counter() as counter:
                self.tap(x)
            self.flops = counter.get_total_flops() / len(x)
        except Exception:
            self.flops = 0.0  # the counter may not know an operation; a model that cannot run fails in the next line
        return int(self.tap(x).shape[1])


def _fingerprints(model: nn.Module, data: Any, expected: str | None) -> dict[str, str]:
    """Fingerprints of dataset and model; that of the dataset reads all of it.

    Raises:
        RunError: the dataset is not the expected one.
    """
    fingerprint = fingerprint_of(data)
    if expected not in (None, fingerprint):
        raise RunError(
            f"data is another dataset (fingerprint {fingerprint}) than it should be (fingerprint {expected}): probe "
            "the one that the other arrays are about"
        )
    return {"fingerprint": fingerprint, "model": model_fingerprint(model)}


def _batch_norm_notes(model: nn.Module, makers: dict[str, Maker]) -> list[str]:
    """Notes on layers by which an example's output depends on the others in its batch.

    Raises:
        ArgumentError: there are some, and gradients of single examples are requested.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.running_mean is None or module.running_var is None):
            problem = (
                f"the layer {name!r} normalises by the batch, having no running statistics (track_running_stats=False)"
            )
            if makers:
                raise ArgumentError(
                    f"{problem}: {', '.join(makers)} of a single example is not defined for such a model"
                )
            return [f"{problem}: outputs depend on batch="]
    return []


def _cast_inputs(batches: Iterator[Batch], model: nn.Module) -> Iterator[Batch]:
    """Batches whose x has the type of the model's parameters, where both are floating-point."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    for index, x, y in batches:
        yield index, x.to(dtype) if x.is_floating_point() else x, y


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _check_label_range(y: Tensor, classes: int, done: int) -> None:
    bad = (y < 0) | (y >= classes)
    if bool(bad.any()):
        i = int(bad.byte().argmax())
        raise ArgumentError(
            f"example {done + i} has label {int(y[i])}, but the model has {classes} outputs: its loss is not defined"
        )


def _require_finite(name: str, values: Tensor, x: Tensor, done: int) -> Tensor:
    """``values`` (b, ...) of the batch ``x`` whose first example is ``done``, if they are finite.

    Raises:
        DataError: they are not, and neither is the example's x.
        ArgumentError: they are not; the error names the first such example.
    """
    values = values.detach()
    if bool(torch.isfinite(values.sum())):  # a finite sum means finite terms
        return values
    bad = ~torch.isfinite(values).flatten(1).all(dim=1) if values.ndim > 1 else ~torch.isfinite(values)
    if not bool(bad.any()):
        return values
    i = int(bad.byte().argmax())
    if x.is_floating_point() and not bool(torch.isfinite(x[i]).all()):
        raise DataError(
            f"example {done + i} has an x that is not finite (NaN or infinity): mend the data or leave it out"
        )
    value = float(values[i].flatten()[int((~torch.isfinite(values[i].flatten())).byte().argmax())])
    raise ArgumentError(
        f"{name} of example {done + i} is {value}: the model's numbers are not finite there (did its training diverge?)"
    )
