"""A folder of a probe's arrays: what they are about, and the arrays by name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.cost import Cost
from datawinnow.core.errors import MissingArrayError, RunError
from datawinnow.core.files import read_json, write_json
from datawinnow.probe.store import mapped

ABOUT = "probe.json"
"""Beside the arrays: what they are about."""


class Probed(Mapping[str, Tensor]):
    """Arrays by name, as a pass over a trained model made them.

    Attributes:
        cost: what making them took; of arrays in a folder, all passes that have gone into it.
        notes: what a user should know of how they were made.
        head: dotted name of the layer whose input are the features.
    """

    def __init__(
        self,
        arrays: Mapping[str, Tensor],
        *,
        cost: Cost,
        notes: tuple[str, ...] = (),
        head: str = "",
        keep_alive: object = None,
    ) -> None:
        self._arrays = dict(arrays)
        self.cost, self.notes, self.head = cost, notes, head
        self._keep_alive = keep_alive  # a folder that goes when this does

    def __getitem__(self, name: str) -> Tensor:
        if name in self._arrays:
            return self._arrays[name]
        raise MissingArrayError(
            f"the array {name!r} was not probed (there are: {', '.join(self._arrays)}); ask for it with arrays=(...)"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {tuple(a.shape)}" for name, a in self.items())
        return f"Probed({shown})"


class Shelf:
    """What a folder holds, and what it is about; without a folder it holds nothing yet.

    Args:
        folder: of the arrays.
        prefix: ``"val_"`` for those of held-out data.
        about: ``fingerprint``, ``model`` and ``head`` that the arrays must be of, and ``n``.

    Raises:
        RunError: the folder's arrays are of another dataset, model or head.
    """

    def __init__(self, folder: Path | None, prefix: str, about: Mapping[str, Any]) -> None:
        self.folder, self.prefix = folder, prefix
        self.metadata: dict[str, Any] = {**about, "arrays": {}, "notes": [], "cost": Cost().as_dict()}
        if folder is not None and (folder / f"{prefix}{ABOUT}").exists():
            self.metadata = _read_about(folder, prefix, **about)

    def missing(self, wanted: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Those of ``wanted`` that are not there, or were made with other options."""
        there = self.metadata["arrays"]
        return [
            name
            for name, way in wanted.items()
            if there.get(name) != way or self.folder is None or not (self.folder / f"{name}.npy").exists()
        ]

    def forget(self, names: list[str]) -> None:
        """Say that these arrays are no longer there, before their files are replaced.

        Killed in between, the folder has fewer arrays than files, and never one made otherwise than it says.

        Raises:
            RunError: the disk is full.
        """
        if self.metadata["arrays"].keys() & set(names):
            self.metadata["arrays"] = {k: way for k, way in self.metadata["arrays"].items() if k not in names}
            self._write()

    def put(self, arrays: Mapping[str, Mapping[str, Any]], cost: Cost, notes: list[str]) -> None:
        """Say that these arrays are there now, how they were made and what that took.

        Raises:
            RunError: the disk is full.
        """
        self.metadata["arrays"] |= arrays
        self.metadata["notes"] = list(dict.fromkeys([*self.metadata["notes"], *notes]))
        self.metadata["cost"] = (Cost.from_dict(self.metadata["cost"]) + cost).as_dict()
        self._write()

    def probed(self, names: list[str], made: Mapping[str, Tensor], keep_alive: object = None) -> Probed:
        """The arrays ``names``: those just ``made``, and the rest from the folder.

        Raises:
            RunError: a file is damaged.
        """
        arrays = {}
        for name in names:
            arrays[name] = made[name] if name in made or self.folder is None else self._read(self.folder, name)
        metadata = self.metadata
        return Probed(
            arrays,
            cost=Cost.from_dict(metadata["cost"]),
            notes=tuple(metadata["notes"]),
            head=str(metadata["head"]),
            keep_alive=keep_alive,
        )

    def _read(self, folder: Path, name: str) -> Tensor:
        array = mapped(folder / f"{name}.npy")
        if len(array) != self.metadata["n"]:
            raise RunError(
                f"{folder / name}.npy is about {len(array)} examples, but the other arrays there about "
                f"{self.metadata['n']}: remove the folder and probe again"
            )
        return array

    def _write(self) -> None:
        if self.folder is not None:
            write_json(self.folder / f"{self.prefix}{ABOUT}", {"kind": "probe", **self.metadata})


def read_probed(folder: Path | str, *, fingerprint: str | None = None, prefix: str = "") -> Probed:
    """The arrays that `probe` wrote into ``folder``, memory-mapped.

    Args:
        folder: as given to ``out=``.
        fingerprint: of the dataset that they have to be about; not checked when None.
        prefix: ``"val_"`` for those of held-out data.

    Raises:
        RunError: nothing was probed there, or of another dataset, or a file is damaged.
    """
    known = {} if fingerprint is None else {"fingerprint": fingerprint}
    shelf = Shelf(Path(folder), prefix, _read_about(Path(folder), prefix, **known))
    return shelf.probed(list(shelf.metadata["arrays"]), {})


def _read_about(folder: Path, prefix: str, **known: Any) -> dict[str, Any]:
    file = folder / f"{prefix}{ABOUT}"
    metadata = read_json(file)
    if metadata.get("kind") != "probe" or not {"fingerprint", "model", "head", "n", "arrays", "cost", "notes"} <= set(
        metadata
    ):
        raise RunError(f"{file} is not about a probe's arrays, or damaged; give another folder, or remove it")
    for name, of in (("fingerprint", "dataset"), ("model", "model"), ("head", "head"), ("n", "number of examples")):
        if name in known and metadata[name] != known[name]:
            raise RunError(
                f"{folder} holds arrays of another {of} ({name} {metadata[name]}, this one has {known[name]}): give "
                "another folder, or remove it"
            )
    return metadata


def model_fingerprint(model: nn.Module) -> str:
    """16 hex digits of a hash of a model's type, parameters and buffers."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, value in sorted([*model.named_parameters(), *model.named_buffers()], key=lambda pair: pair[0]):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
