"""A folder of probed arrays, and the manifest of how they were made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core.artifact_schemas import ProbeFile
from datawinnow.core.artifacts import check_content, check_file_checksum, file_checksum, read_json, write_json
from datawinnow.core.cost import Cost
from datawinnow.core.errors import MissingArrayError, RunError
from datawinnow.probe.array_writer import load_npy

MANIFEST_FILE = "probe.json"


class Probed(Mapping[str, Tensor]):
    """Arrays by name, made by a pass over a trained model.

    Attributes:
        cost: of making them; for arrays in a folder, of all passes that wrote to it.
        notes: remarks for the user on how they were made.
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
        self._keep_alive = keep_alive  # the temporary folder of the arrays, removed with this object

    def __getitem__(self, name: str) -> Tensor:
        if name in self._arrays:
            return self._arrays[name]
        raise MissingArrayError(
            f"the array {name!r} was not probed (there are: {', '.join(self._arrays)}); name it in arrays=(...)"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {tuple(a.shape)}" for name, a in self.items())
        return f"Probed({shown})"


class ProbeManifest:
    """``probe.json``: which arrays a folder holds, of which dataset and model, and with which options they were made.

    Args:
        folder: of the arrays; None for arrays in memory.
        prefix: ``"val_"`` for arrays of held-out data.
        expected: ``fingerprint``, ``model``, ``head`` and ``n`` of the arrays.

    Raises:
        RunError: the folder's arrays are of another dataset, model or head.
    """

    def __init__(self, folder: Path | None, prefix: str, expected: Mapping[str, Any]) -> None:
        self.folder, self.prefix = folder, prefix
        self.metadata: dict[str, Any] = {
            **expected,
            "arrays": {},
            "checksums": {},
            "notes": [],
            "cost": Cost().as_dict(),
        }
        if folder is not None and (folder / f"{prefix}{MANIFEST_FILE}").exists():
            self.metadata = _read_manifest(folder, prefix, expected)

    def missing(self, requested: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Names of the requested arrays that do not exist, or were made with other options.

        Args:
            requested: name -> options.
        """
        present = self.metadata["arrays"]
        return [
            name
            for name, options in requested.items()
            if present.get(name) != options or self.folder is None or not (self.folder / f"{name}.npy").exists()
        ]

    def discard(self, names: list[str]) -> None:
        """Take these arrays off the manifest, before their files are replaced.

        After a kill in between, the folder has files that the manifest lacks, but never a file made with other options
        than the manifest says.

        Raises:
            RunError: the disk is full.
        """
        if self.metadata["arrays"].keys() & set(names):
            remaining = {k: options for k, options in self.metadata["arrays"].items() if k not in names}
            self.metadata["arrays"] = remaining
            self._write()

    def add(self, arrays: Mapping[str, Mapping[str, Any]], cost: Cost, notes: list[str]) -> None:
        """Add arrays to the manifest: name -> options, and what making them cost.

        Raises:
            RunError: the disk is full.
        """
        self.metadata["arrays"] |= arrays
        if self.folder is not None:
            checksums = {name: file_checksum(self.folder / f"{name}.npy") for name in arrays}
            self.metadata["checksums"] = self.metadata.get("checksums", {}) | {k: v for k, v in checksums.items() if v}
        # without duplicates, in their order
        self.metadata["notes"] = list(dict.fromkeys([*self.metadata["notes"], *notes]))
        self.metadata["cost"] = (Cost.from_dict(self.metadata["cost"]) + cost).as_dict()
        self._write()

    def load(
        self, names: list[str], in_memory: Mapping[str, Tensor] | None = None, *, keep_alive: object = None
    ) -> Probed:
        """The arrays ``names``: from ``in_memory``, and the rest from the folder.

        Raises:
            RunError: a file is damaged.
        """
        arrays = dict(in_memory or {})
        for name in names:
            if name not in arrays and self.folder is not None:
                arrays[name] = self._read(self.folder, name)
        metadata = self.metadata
        return Probed(
            {name: arrays[name] for name in names},
            cost=Cost.from_dict(metadata["cost"]),
            notes=tuple(metadata["notes"]),
            head=str(metadata["head"]),
            keep_alive=keep_alive,
        )

    def _read(self, folder: Path, name: str) -> Tensor:
        file = folder / f"{name}.npy"
        array = load_npy(file)
        if len(array) != self.metadata["n"]:
            raise RunError(
                f"{file} is about {len(array)} examples, but the other arrays there about "
                f"{self.metadata['n']}: remove the folder and probe again"
            )
        checksum = self.metadata.get("checksums", {}).get(name)
        check_file_checksum(file, checksum, remedy="remove the folder and probe again")
        return array

    def _write(self) -> None:
        if self.folder is not None:
            write_json(self.folder / f"{self.prefix}{MANIFEST_FILE}", {"kind": "probe", **self.metadata})


def read_probed(folder: Path | str, *, fingerprint: str | None = None, prefix: str = "") -> Probed:
    """The arrays that `probe` wrote into ``folder``, memory-mapped.

    Args:
        folder: the ``out`` of `probe`.
        fingerprint: of the dataset that they must be of; not checked when None.
        prefix: ``"val_"`` for those of held-out data.

    Raises:
        RunError: the folder holds no probed arrays, or of another dataset, or a file is damaged.
    """
    expected = {} if fingerprint is None else {"fingerprint": fingerprint}
    manifest = ProbeManifest(Path(folder), prefix, _read_manifest(Path(folder), prefix, expected))
    return manifest.load(list(manifest.metadata["arrays"]))


def _read_manifest(folder: Path, prefix: str, expected: Mapping[str, Any]) -> dict[str, Any]:
    file = folder / f"{prefix}{MANIFEST_FILE}"
    metadata = read_json(file)
    if metadata.get("kind") != "probe" or not {"fingerprint", "model", "head", "n", "arrays", "cost", "notes"} <= set(
        metadata
    ):
        raise RunError(f"{file} is not a manifest of probed arrays, or is damaged; give another folder, or remove it")
    check_content(metadata, ProbeFile, file)
    for key, noun in (("fingerprint", "dataset"), ("model", "model"), ("head", "head"), ("n", "number of examples")):
        if key in expected and metadata[key] != expected[key]:
            raise RunError(
                f"{folder} holds arrays of another {noun} ({key} {metadata[key]}, this one has {expected[key]}): give "
                "another folder, or remove it"
            )
    return metadata


def model_fingerprint(model: nn.Module) -> str:
    """16 hex digits of a hash of a model's type, parameters and buffers."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, value in sorted([*model.named_parameters(), *model.named_buffers()], key=lambda pair: pair[0]):
        # names and shapes too: the bytes alone do not say where one tensor ends
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        # as bytes: numpy has no bfloat16, and a scalar needs an axis to be viewed as them
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
