"""What cells share beside the recorded columns: the network after the recording, and what it says of each example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from datawinnow.core.arrays import RECORDED, LazyArrays, chain_arrays, first_epochs, is_recorded
from datawinnow.core.cost import Cost
from datawinnow.data.dataset_info import dataset_info
from datawinnow.methods import Method
from datawinnow.probe import is_probed
from datawinnow.record import read_column
from datawinnow.runs.probe_arrays import Probing
from datawinnow.runs.record import fit_recorded
from datawinnow.train import fit
from datawinnow.train.checkpoint import load_checkpoint, save_checkpoint
from datawinnow.train.network import fabric_for

NETWORK = "model.safetensors"
"""The network after the recording, beside its columns."""
MORE = "more"
"""Folder of columns that a recording lacked when a cell asked for them."""


@dataclass(frozen=True)
class Recording:
    """A recording that is done, as a cell reads it.

    A recording made before networks were kept, or without a signal that a method of the grid needs, is made again when
    the first cell asks: the recorder only looks on, so that gives the same network (on the same kind of machine, with
    as many threads). Cells are charged for one recording, as they would be had it been whole from the start.

    Attributes:
        folder: of its columns.
        train: what was recorded, under its scenario.
        build: a fresh network for it.
        signals: that the methods of the grid need.
        how: arguments of `fit_recorded`.
    """

    folder: Path
    train: Any
    build: Callable[[], nn.Module]
    signals: tuple[str, ...]
    how: dict[str, Any]

    def arrays(self, method: Method, limit: int | None) -> tuple[Mapping[str, Tensor], Cost]:
        """The arrays that a method needs, its settings by keep settled, and what looking at the network cost.

        Args:
            method: which.
            limit: only the first so many recorded epochs.
        """
        needs = method.needs
        if lacking(self.folder, needs):
            self._again()
        probing = probing_at(self.folder, method, int(self.how["seed"]), dataset_info(self.train), self._network)
        cost = probing.make(needs)
        columns = [name for name in (*needs, "seen") if not is_probed(name)]
        recorded = LazyArrays({name: partial(read_column, _where(self.folder, name), name) for name in columns})
        probed = LazyArrays({name: partial(probing.__getitem__, name) for name in needs if is_probed(name)})
        return chain_arrays(probed, first_epochs(recorded, limit)), cost

    def save(self, network: nn.Module) -> None:
        """Leave the network behind."""
        save_checkpoint(self.folder / NETWORK, network, None, {"fingerprint": self.train.fingerprint})

    def _network(self) -> nn.Module:
        if not (self.folder / NETWORK).exists():
            self._again()
        network = self.build()
        load_checkpoint(self.folder / NETWORK, network, None)
        return network.to(fabric_for(self.how["recipe"].device).device)

    def _again(self) -> None:
        """Train again, and keep what was not kept."""
        checkpoint = self.folder / f"again-{NETWORK}"
        which = lacking(self.folder, self.signals)
        if which:
            more = {"which": which, "checkpoint": checkpoint, **self.how}
            network, _ = fit_recorded(self.build(), self.train, self.folder / MORE, **more)
        else:
            network, _ = fit(self.build(), self.train, checkpoint=checkpoint, **self.how)
        self.save(network)
        checkpoint.unlink(missing_ok=True)


def lacking(folder: Path, needs: tuple[str, ...]) -> tuple[str, ...]:
    """Signals among ``needs`` that a recording is made without unless a method of the grid reads them, as this one."""
    optional = [name for name in needs if is_recorded(name) and name not in (*RECORDED, "seen")]
    return tuple(name for name in optional if not (_where(folder, name) / f"{name}.npy").exists())


def _where(folder: Path, name: str) -> Path:
    return (
        folder if (folder / f"{name}.npy").exists() or not (folder / MORE / f"{name}.npy").exists() else folder / MORE
    )


def probing_at(folder: Path, method: Method, seed: int = 0, info: Any = None, load: Any = None) -> Probing:
    """What the network of the recording in ``folder`` says; without ``info`` and ``load`` only what is there."""
    return Probing(folder / "probe", info, load, seed, options=method.probe_options)


def awaited(folder: Path, method: Method) -> bool:
    """Whether a method would find less than it needs beside the recording in ``folder``."""
    needs = method.needs
    return bool(lacking(folder, needs)) or not probing_at(folder, method).there(needs)


def signals_of(methods: list[Method]) -> tuple[str, ...]:
    """All the usual signals, so that methods added to the grid later find theirs; the costly one only if it is read."""
    return (*RECORDED, "kl_step") if any("kl_step" in method.needs for method in methods) else RECORDED
