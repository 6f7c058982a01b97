"""How a probe runs: batches through the tapped model, rows into the store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, DataError, RunError
from datawinnow.core.progress import Progress
from datawinnow.core.rng import forked
from datawinnow.data.batches import Batch, batches_of, fingerprint_of
from datawinnow.data.kept import Kept
from datawinnow.probe.head import Tapped, find_head, tapped
from datawinnow.probe.makers import Maker, settings
from datawinnow.probe.manifest import Probed, Shelf, model_fingerprint
from datawinnow.probe.store import Store

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class How:
    """What `probe` was told, checked."""

    device: torch.device
    head: nn.Module | str | None
    batch: int
    out: Path | None
    prefix: str
    fingerprint: str | None
    memory_limit: int
    workers: int
    seed: int
    progress: Progress | None


def run(model: nn.Module, data: Any, names: tuple[str, ...], making: dict[str, Maker], how: How) -> Probed:
    """The arrays ``names`` of ``data``, and the labels, from ``how.out`` where they are there already."""
    begun = time.perf_counter()
    alone = data.alone() if isinstance(data, Kept) else data
    batches = batches_of(alone, how.device, workers=how.workers)
    if batches.n == 0:
        raise ArgumentError("data holds no examples")
    with forked(how.seed, "probe"), evaluating(model), torch.autocast(how.device.type, enabled=False):
        rest = _typed(batches.test(how.batch), model)
        first = next(rest)
        head = find_head(model, first[1][:2], how.head)
        shelf = Shelf(how.out, how.prefix, {**_known(model, alone, how), "head": head.name, "n": batches.n})
        wanted = {how.prefix + name: settings(making.get(name)) for name in (*names, "labels")}
        missing = shelf.missing(wanted)
        if not missing:
            return shelf.probed(list(wanted), {})
        making = {name: maker for name, maker in making.items() if how.prefix + name in missing}
        notes = [*head.notes, *_mixing(model, making)]
        with tapped(model, head) as tap, Store(batches.n, how.out, how.memory_limit) as store:
            work = _Pass(tap, making, missing, store, how)
            work.go(chain([first], rest), batches.n)
            shelf.forget(missing)
            made = store.finish()
        notes += [note for maker in making.values() for note in maker.notes]
        shelf.put({name: wanted[name] for name in missing}, work.cost(time.perf_counter() - begun), notes)
    return shelf.probed(list(wanted), made, store.temporary)


class _Pass:
    """The batches of a dataset through a model, once."""

    def __init__(self, tap: Tapped, making: dict[str, Maker], missing: list[str], store: Store, how: How) -> None:
        self.tap, self.making, self.store, self.how = tap, making, store, how
        self.missing = set(missing)
        self.forward = 0
        self.flops = 0.0  # of one example passed forward
        self.values: dict[str, list[Tensor]] = {name: [] for name in making}

    def go(self, batches: Iterable[Batch], n: int) -> None:
        """Fill the store."""
        done = 0
        for _, x, y in batches:
            if done == 0:
                classes = self._rehearse(x[:2])
            if any(maker.labelled for maker in self.making.values()):
                _check_labels(y, classes, done)
            self._look(x, done)
            for name, maker in self.making.items():
                self.values[name].append(_finite(name, maker(self.tap, x, y), x, done))
            if self.how.prefix + "labels" in self.missing:
                self._write("labels", y)
            done += len(x)
            if self.how.progress is not None:
                self.how.progress("probing", done, n)
        for name, maker in self.making.items():
            self._write(name, maker.finish(torch.cat(self.values[name])))

    def cost(self, seconds: float) -> Cost:
        """What it took."""
        total = sum((maker.cost for maker in self.making.values()), Cost(seconds, forward=self.forward))
        return total + Cost(flops=self.flops * (total.forward + 3 * total.backward))

    def _write(self, name: str, rows: Tensor) -> None:
        self.store.write(self.how.prefix + name, rows)

    @torch.no_grad()
    def _look(self, x: Tensor, done: int) -> None:
        """Features and probabilities of a batch."""
        features, probs = (self.how.prefix + name in self.missing for name in ("features", "probs"))
        if not features and not probs:
            return
        self.tap.remember = features
        logits = _single(self.tap(x))
        self.tap.remember = False
        self.forward += len(x)
        if features:
            self._write("features", _finite("features", _single(self.tap.taken(len(x))), x, done))
        if probs:
            self._write("probs", _finite("probs", logits.softmax(dim=1), x, done))

    @torch.no_grad()
    def _rehearse(self, x: Tensor) -> int:
        """Count the operations on a few examples; the number of classes."""
        try:
            with FlopCounterMode(display=False) as counter:
                self.tap(x)
            self.flops = counter.get_total_flops() / len(x)
        except (
            Exception
        ):  # a model that cannot be counted is no reason to stop; one that cannot run fails in the next line
            self.flops = 0.0
        return int(self.tap(x).shape[1])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; each of its modules is put back, for they need not all have been in the same."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _known(model: nn.Module, data: Any, how: How) -> dict[str, str]:
    """Fingerprints of dataset and model, where they are asked for: the first reads the dataset.

    Raises:
        RunError: the dataset is not the one it should be.
    """
    if how.out is None and how.fingerprint is None:
        return {}
    found = fingerprint_of(data)
    if how.fingerprint not in (None, found):
        raise RunError(
            f"data is another dataset (fingerprint {found}) than it should be (fingerprint {how.fingerprint}): probe "
            "the one that the other arrays are about"
        )
    return {"fingerprint": found, "model": model_fingerprint(model)}


def _mixing(model: nn.Module, making: dict[str, Maker]) -> list[str]:
    """Notes on layers by which an example's answer depends on the others in its batch.

    Raises:
        ArgumentError: there are some, and single examples' gradients are asked for.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.running_mean is None or module.running_var is None):
            what = (
                f"the layer {name!r} normalises by the batch, having no running statistics (track_running_stats=False)"
            )
            if making:
                raise ArgumentError(f"{what}: {', '.join(making)} of a single example is not defined for such a model")
            return [f"{what}: answers depend on batch="]
    return []


def _typed(batches: Iterator[Batch], model: nn.Module) -> Iterator[Batch]:
    """Batches whose x has the type of the model's parameters, where both are floating-point."""
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    for index, x, y in batches:
        yield index, x.to(kind) if x.is_floating_point() else x, y


def _single(values: Tensor) -> Tensor:
    return values.float() if values.dtype in HALF else values


def _check_labels(y: Tensor, classes: int, done: int) -> None:
    bad = (y < 0) | (y >= classes)
    if bool(bad.any()):
        i = int(bad.byte().argmax())
        raise ArgumentError(
            f"example {done + i} has label {int(y[i])}, but the model has {classes} outputs: its loss is not defined"
        )


def _finite(name: str, values: Tensor, x: Tensor, done: int) -> Tensor:
    """``values`` (b, ...), if they are finite.

    Raises:
        DataError: they are not, since an x is not.
        ArgumentError: they are not, naming the first such example.
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
