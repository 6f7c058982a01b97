"""Arrays that a pass over the recorded network makes: computed once, when a method needs them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.arrays import LazyArrays
from datawinnow.core.artifact_schemas import ProbeFile
from datawinnow.core.artifacts import read_json
from datawinnow.core.budget import budget_of
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, MissingArrayError, RunError
from datawinnow.core.progress import Progress
from datawinnow.core.rng import forked, stream
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.data.examples import stratified
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.kept import Kept
from datawinnow.data.objects import with_class_ids
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
from datawinnow.probe.embeddings import embedding_name, probe_embedding
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import network_of_run
from datawinnow.train.build import Model
from datawinnow.train.checkpoint import load_checkpoint, read_metadata
from datawinnow.train.network import device_for

HELD_OUT_FRACTION = 0.1
"""Fraction of the training examples that is used as held-out data where no held-out data are passed."""


@dataclass(frozen=True)
class ProbedArrays:
    """Arrays of the examples that a recorded network was trained on, computed when they are read and kept in a folder.

    Each pass over the network has a folder of its own, so that the cost of every array is known, whichever method
    needed it first.

    Attributes:
        folder: where the arrays are kept: ``<folder>/<pass>/<name>.npy``.
        info: of the dataset that was recorded, with the labels that were trained on.
        load: returns the recorded network, on its device; called at most once.
        seed: of random directions, and of the examples that are used as held-out data.
        val: held-out data. Default: a stratified tenth of the training examples, never the test split.
        options: of the arrays (``mode`` of the curvature); each pass takes those that it has.
        progress: called after each batch.
        log: called with notes.
    """

    folder: Path
    info: DatasetInfo
    load: Callable[[], nn.Module]
    seed: int = 0
    val: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    log: Callable[[str], None] | None = None
    _networks: list[nn.Module] = field(default_factory=list, init=False, repr=False, compare=False)
    _passes: dict[str, Probed] = field(default_factory=dict, init=False, repr=False, compare=False)
    _logged: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def arrays(self, needs: Sequence[str] = ()) -> LazyArrays:
        """The arrays of the training examples and of the held-out data, each computed when it is read.

        Args:
            needs: arrays that a method needs. Without held-out data, those of held-out data among them are read from
                a tenth of the training examples; the others are left out.
        """
        held_out_names = [name for name in HELD_OUT_ARRAYS if self.val is not None or name in needs]
        return LazyArrays({name: partial(self.__getitem__, name) for name in (*ARRAYS, *held_out_names)})

    def __getitem__(self, name: str) -> Tensor:
        """An array, computed unless the folder has it.

        Raises:
            MissingArrayError: no pass makes it.
            RunError: the recorded network is missing, or the disk is full.
            ArgumentError: the network cannot be probed, or its numbers are not finite.
        """
        if not is_probed(name):
            raise MissingArrayError(f"no pass over a network makes the array {name!r}; there are: {', '.join(ARRAYS)}")
        if name in HELD_OUT_ARRAYS and self.val is None:
            return self._from_training_examples(name)
        return self._run_pass(name)[name]

    def compute(self, needs: Sequence[str]) -> Cost:
        """Compute those of ``needs`` that a pass makes, unless the folder has them.

        Returns:
            The cost of the passes for ``needs``, including those that were made for another method before.
        """
        # one array of each pass: running it makes the others
        by_pass = {self._folder_of(name).name: name for name in needs if is_probed(name)}
        return sum((self._run_pass(name).cost for name in by_pass.values()), Cost())

    def is_computed(self, needs: Sequence[str]) -> bool:
        """Whether the folder has all of ``needs`` that a pass makes."""
        return all(any(self._folder_of(name).glob("*probe.json")) for name in needs if is_probed(name))

    @cached_property
    def _val(self) -> Any:
        """The held-out data with their fingerprint, which then is computed once."""
        data = with_class_ids(self.val, classes=self.info.classes)
        data = data.alone() if isinstance(data, Kept) else data
        return data if isinstance(data, Kept) else dataset_info(data)

    def _folder_of(self, name: str) -> Path:
        """Folder of the pass that makes an array; its name has the options, so that passes do not replace another."""
        options = self._options_of(name)
        if name in HELD_OUT_ARRAYS and self.val is not None:
            suffix = "-embedded" if EMBEDDING in options else ""
            return self.folder / f"val-{fingerprint_of(self._val)[:8]}{suffix}"
        # sorted: the order of the options does not make another pass
        if EMBEDDING in options:
            options[EMBEDDING] = embedding_name(options[EMBEDDING])
        digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode()).hexdigest()[:8]
        # one pass makes all arrays of a forward pass
        pass_name = FORWARD_ARRAYS[0] if name in FORWARD_ARRAYS or name in HELD_OUT_ARRAYS else name
        return self.folder / (f"{pass_name}-{digest}" if options else pass_name)

    def _options_of(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in self.options.items() if key in array_options(name)}

    def _run_pass(self, name: str) -> Probed:
        check_movable((name,), self.info.data)
        out, options = self._folder_of(name), self._options_of(name)
        if out.name in self._passes:
            return self._passes[out.name]
        reads_val = name in HELD_OUT_ARRAYS and self.val is not None
        if EMBEDDING in options:
            probed = probe_embedding(
                self._val if reads_val else self.info,
                self.options[EMBEDDING],
                out=out,
                prefix="val_" if reads_val else "",
                progress=self.progress,
            )
        elif reads_val:
            probed = held_out(self._network(), self._val, out=out, seed=self.seed, progress=self.progress)
        else:
            probed = probe(
                self._network(),
                self.info,
                arrays=FORWARD_ARRAYS if name in (*FORWARD_ARRAYS, *HELD_OUT_ARRAYS) else (name,),
                out=out,
                seed=self.seed,
                progress=self.progress,
                **options,
            )
        self._passes[out.name] = probed
        for note in probed.notes:
            self._log_once(f"probe: {note}")
        return probed

    def _network(self) -> nn.Module:
        if not self._networks:
            self._networks.append(self.load())
        return self._networks[0]

    def _from_training_examples(self, name: str) -> Tensor:
        labels = self.info.labels
        count = budget_of(HELD_OUT_FRACTION, len(labels))
        ids = stratified(labels, count, stream(self.seed, "held out"))
        self._log_once(
            f"held-out data: none were given (val=), so {count:,} training examples, drawn by the seed, are used "
            "instead; the network was trained on them, so wrong labels mislead: pass val= for noisy data"
        )
        if name == "val_labels":
            return labels[ids]
        # rows of the training arrays: no second pass
        return torch.as_tensor(self._run_pass(name)[name.removeprefix("val_")])[ids]

    def _log_once(self, text: str) -> None:
        if self.log is not None and text not in self._logged:
            self._logged.add(text)
            self.log(text)


def probe_total(folder: Path) -> Cost:
    """The cost of all passes in a folder of `ProbedArrays`."""
    files = sorted(folder.glob("*/*probe.json"))
    return sum((Cost.from_dict(read_json(file, schema=ProbeFile)["cost"]) for file in files), Cost())


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


def probed_arrays(
    folder: RunFolder,
    info: DatasetInfo,
    *,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    val: Any = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> ProbedArrays:
    """Arrays that the network of a recorded run makes; kept under ``probe/`` of the run folder.

    Args:
        folder: the run; its network is read when the first array is computed.
        info: of its dataset.
        model: the function that made the network, or its ``"module:function"``, where the run recorded with one.
        model_options: options of that function.
        val: held-out data. Default: a tenth of the training examples.
        options: of the arrays.
        progress: called after each batch.
        log: called with notes.
    """

    def load() -> nn.Module:
        folder.recorded()
        file = folder.path / "model.safetensors"
        if not file.exists():
            raise RunError(
                f"{file} is missing, so the network that was recorded cannot be probed; record again into another "
                "`run=` folder"
            )
        folder.check_made(read_metadata(file), file)
        with forked(0, "weights"):  # which are replaced
            built = network_of_run(folder, model, model_options)
        load_checkpoint(file, built, None)
        recipe = folder.metadata["options"].get("record", {}).get("recipe", {})
        return built.to(device_for(recipe.get("device", "auto")))

    seed = int(folder.metadata.get("seed", 0))
    options = dict(options or {})
    return ProbedArrays(folder.path / "probe", info, load, seed, val=val, options=options, progress=progress, log=log)
