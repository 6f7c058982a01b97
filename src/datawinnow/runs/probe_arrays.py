"""Arrays that a pass over the recorded network makes, when a method asks for them: once, beside the recording."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.arrays import LazyArrays
from datawinnow.core.artifacts import read_json
from datawinnow.core.budget import budget_of
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, MissingArrayError, RunError
from datawinnow.core.rng import forked, stream
from datawinnow.data.dataset_info import DatasetInfo
from datawinnow.data.examples import stratified
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.models import MODELS, build
from datawinnow.probe import (
    ARRAYS,
    EMBEDDING,
    FORWARD_ARRAYS,
    HELD_OUT_ARRAYS,
    INPUT_ARRAYS,
    Probed,
    array_options,
    held_out,
    is_probed,
    probe,
)
from datawinnow.probe.sentences import probe_sentences
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import Model
from datawinnow.train.checkpoint import load_checkpoint
from datawinnow.train.network import fabric_for

STANDS_IN = 0.1
"""Fraction of the training examples that stands in for held-out data where none are given."""


@dataclass(frozen=True)
class Probing:
    """What a recorded network says of the examples that it was trained on.

    Each pass has a folder of its own, so that what each array cost is known, whoever asked for it first.

    Attributes:
        folder: where the arrays are kept: ``<folder>/<pass>/<name>.npy``.
        info: of the dataset that was recorded, with the labels that were trained on.
        load: gives the recorded network, on its device; called at most once.
        seed: of random directions, and of the examples that stand in for held-out data.
        val: held-out data; a stratified tenth of ``train`` stands in unless given, never the test split.
        options: of the arrays (``mode`` of the curvature); each pass takes its own.
        progress: told after each batch.
        log: told what was chosen and noticed.
    """

    folder: Path
    info: DatasetInfo
    load: Callable[[], nn.Module]
    seed: int = 0
    val: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: Callable[[str, int, int], None] | None = None
    log: Callable[[str], None] | None = None
    _loaded: list[nn.Module] = field(default_factory=list, init=False, repr=False, compare=False)
    _passes: dict[str, Probed] = field(default_factory=dict, init=False, repr=False, compare=False)
    _told: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def arrays(self, needs: Sequence[str] = ()) -> LazyArrays:
        """The arrays of the training examples, and of held-out data where there are some, each made when it is read.

        Args:
            needs: arrays that a method needs: without held-out data, training examples stand in for those among them.
        """
        held_out = [name for name in HELD_OUT_ARRAYS if self.val is not None or name in needs]
        return LazyArrays({name: partial(self.__getitem__, name) for name in (*ARRAYS, *held_out)})

    def __getitem__(self, name: str) -> Tensor:
        """An array, made now if it is not there yet.

        Raises:
            MissingArrayError: no pass makes it.
            RunError: the recorded network is not there, or the disk is full.
            ArgumentError: the network cannot be probed, or its numbers are not finite.
        """
        if not is_probed(name):
            raise MissingArrayError(f"no pass over a network makes the array {name!r}; there are: {', '.join(ARRAYS)}")
        if name in HELD_OUT_ARRAYS and self.val is None:
            return self._stand_in(name)
        return self._pass(name)[name]

    def make(self, needs: tuple[str, ...]) -> Cost:
        """Make those of ``needs`` that are not there.

        Returns:
            What the passes for ``needs`` cost, also those that were made for another method before.
        """
        wanted = {self._place(name).name: name for name in needs if is_probed(name)}
        return sum((self._pass(name).cost for name in wanted.values()), Cost())

    def total(self) -> Cost:
        """What all passes in the folder cost."""
        files = sorted(self.folder.glob("*/*probe.json"))
        return sum((Cost.from_dict(read_json(file)["cost"]) for file in files), Cost())

    def there(self, needs: tuple[str, ...]) -> bool:
        """Whether all of ``needs`` that a pass makes have been made."""
        return all(any(self._place(name).glob("*probe.json")) for name in needs if is_probed(name))

    def _place(self, name: str) -> Path:
        """Folder of the pass that makes an array: named by its options too, so that none replaces another's."""
        if name in HELD_OUT_ARRAYS and self.val is not None:
            apart = "-embedded" if EMBEDDING in self._own(name) else ""
            return self.folder / f"val-{fingerprint_of(self.val)[:8]}{apart}"
        own = self._own(name)
        digest = hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:8]
        one = FORWARD_ARRAYS[0] if name in FORWARD_ARRAYS or name in HELD_OUT_ARRAYS else name
        return self.folder / (f"{one}-{digest}" if own else one)

    def _own(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in self.options.items() if key in array_options(name)}

    def _pass(self, name: str) -> Probed:
        check_movable((name,), self.info.data)
        place = self._place(name)
        if place.name not in self._passes:
            how: dict[str, Any] = {"out": place, "seed": self.seed, "progress": self.progress}
            if EMBEDDING in self._own(name):
                held = {"prefix": "val_"} if name in HELD_OUT_ARRAYS else {}
                data, model = self.val if held else self.info.data, self.options[EMBEDDING]
                found = probe_sentences(data, model, out=place, progress=self.progress, **held)
            elif name in HELD_OUT_ARRAYS and self.val is not None:
                found = held_out(self._network(), self.val, **how)
            else:
                names = FORWARD_ARRAYS if name in (*FORWARD_ARRAYS, *HELD_OUT_ARRAYS) else (name,)
                found = probe(self._network(), self.info.data, arrays=names, **how, **self._own(name))
            self._passes[place.name] = found
            for note in found.notes:
                self._tell(f"probe: {note}")
        return self._passes[place.name]

    def _network(self) -> nn.Module:
        if not self._loaded:
            self._loaded.append(self.load())
        return self._loaded[0]

    def _stand_in(self, name: str) -> Tensor:
        labels = self.info.labels
        count = budget_of(STANDS_IN, len(labels))
        ids = stratified(labels, count, stream(self.seed, "held out"))
        self._tell(
            f"held-out data: none were given (val=), so {count:,} of the training examples, drawn by the seed, stand "
            "in; the network was trained on them, so where labels are wrong they mislead: give val= then"
        )
        return (
            labels[ids] if name == "val_labels" else torch.as_tensor(self._pass(name)[name.removeprefix("val_")])[ids]
        )

    def _tell(self, text: str) -> None:
        if self.log is not None and text not in self._told:
            self._told.add(text)
            self.log(text)


def check_movable(needs: tuple[str, ...], train: Any) -> None:
    """Refuse arrays that are made by moving the input, where that is the tokens of a text.

    Raises:
        ArgumentError: naming the array.
    """
    wrong = [need for need in needs if need in INPUT_ARRAYS]
    if wrong and getattr(train, "vocabulary_size", None) is not None:
        raise ArgumentError(
            f"{wrong[0]} is made by moving an example's input a little, and the tokens of a text cannot be moved: "
            "choose a method of the recording (dual_beta, el2n) or of features and gradients (k_center, grand_full)"
        )


def probing_of(
    folder: RunFolder,
    info: DatasetInfo,
    *,
    model: Model = None,
    val: Any = None,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> Probing:
    """What the network of a recorded run says of its examples; kept under ``probe/`` of the run folder.

    Args:
        folder: the run; its network is read when the first array is asked for.
        info: of its dataset.
        model: the function that made the network, where the run only knows its name.
        val: held-out data, if there are any.
        options: of the arrays.
        progress: told after each batch.
        log: told what was chosen and noticed.
    """

    def load() -> nn.Module:
        folder.recorded()
        file = folder.path / "model.safetensors"
        if not file.exists():
            raise RunError(
                f"{file} is not there, so the network that was recorded cannot be looked at; record again into another "
                "--run folder"
            )
        with forked(0, "weights"):  # which are replaced
            built = network_of_run(folder, model)
        load_checkpoint(file, built, None)
        recipe = folder.metadata["options"].get("record", {}).get("recipe", {})
        return built.to(fabric_for(recipe.get("device", "auto")).device)

    seed = int(folder.metadata.get("seed", 0))
    options = dict(options or {})
    return Probing(folder.path / "probe", info, load, seed, val=val, options=options, progress=progress, log=log)


def network_of_run(folder: RunFolder, model: Model = None) -> nn.Module:
    """A fresh network as the run recorded with; its weights draw from torch's global generator.

    Raises:
        ArgumentError: the run only knows the name of a function of the user's, and it is not given.
    """
    about, info = folder.metadata["model"], folder.dataset
    name = str(about["name"])
    if model is None and name not in MODELS and ":" not in name:
        raise ArgumentError(
            f"{folder.path} was recorded with a network of your own, of which it only knows the name {name!r}: "
            'give it again with model= (or record with "module:function")'
        )
    return build(
        model or name,
        shape=info.shape,
        classes=len(info.classes),
        vocabulary=info.vocabulary,
        tokenizer=info.tokenizer,
        **dict(about.get("options", {})),
    )


__all__ = ["Probing", "check_movable", "network_of_run", "probing_of"]
