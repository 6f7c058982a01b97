"""`PlanLog`: what every epoch of a run trained on, in one file, for other runs to train on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from datawinnow.core import check, cost
from datawinnow.core.errors import ArgumentError, DatawinnowError, RunError
from datawinnow.core.files import FORMAT_VERSION, check_format, write_bytes
from datawinnow.core.selection import Selection

NARROW = 2**31 - 1
"""Ids up to here are kept as int32: half the file."""


@dataclass(frozen=True, eq=False)
class PlanLog:
    """The ids of each epoch in training order, their weights, and what it cost to find them out.

    Made by `recorded` around any policy, or by `of` from plans; trained on again by `Replay`.

    Args:
        index: (total,) int32 or int64 ids, one epoch after the other, unique within an epoch.
        ends: (epochs,) int64, where in ``index`` each epoch ends.
        n: number of examples chosen from.
        weight: (total,) float32 factors on the losses, or None for ones.
        fingerprint: of the dataset, or None where nobody told.
        made_by: what chose, for people.
        cost: examples passed to find the plan out, in units of one example trained on by the network that will replay
            it: a network of a tenth of its FLOPs that trained on 300,000 examples counts 30,000, a forward pass alone
            a third.

    Raises:
        ArgumentError: ids out of range or twice in an epoch, an epoch without any, weights that are negative or not
            finite, arrays of other types or lengths.

    >>> log = PlanLog.of([Selection.of(torch.tensor([2, 0]), 4), Selection.of(torch.tensor([3]), 4)], 4, cost=1.5)
    >>> len(log), log.passed, log.expected, log.plan(0).index.tolist()
    (2, 3, 0.375, [2, 0])
    >>> log.break_even(full=6)
    0.5
    """

    index: Tensor
    ends: Tensor
    n: int
    weight: Tensor | None = None
    fingerprint: str | None = None
    made_by: str = ""
    cost: float = 0.0

    def __post_init__(self) -> None:
        check.number("n", self.n, 1, 2**40, integer=True)
        check.number("cost", self.cost, 0, 1e300)
        if not isinstance(self.made_by, str) or not isinstance(self.fingerprint, str | None):
            raise ArgumentError(f"made_by and fingerprint must be text, got {self.made_by!r} and {self.fingerprint!r}")
        _typed("index", self.index, (torch.int32, torch.int64))
        _typed("ends", self.ends, (torch.int64,))
        sizes = torch.diff(self.ends, prepend=self.ends.new_zeros(1))
        if not sizes.numel() or int(sizes.min()) < 1 or int(self.ends[-1]) != self.index.numel():
            raise ArgumentError(
                f"ends must rise to the {self.index.numel()} ids of index, with at least one id an epoch, got "
                f"{self.ends.tolist()[:5]} ..."
            )
        if self.weight is not None:
            _typed("weight", self.weight, (torch.float32,))
            if self.weight.shape != self.index.shape:
                raise ArgumentError(f"weight must have index's {self.index.numel()} numbers, got {self.weight.numel()}")
        low, high = (int(end) for end in torch.aminmax(self.index))
        if low < 0 or high >= self.n:
            raise ArgumentError(f"index must hold ids of 0 to {self.n - 1}, got {low if low < 0 else high}")
        for epoch in range(len(self)):
            try:
                self._chosen(epoch)
            except ArgumentError as error:
                raise ArgumentError(f"epoch {epoch} of the plan: {error}") from None

    @classmethod
    def of(cls, plans: Sequence[Selection], n: int, **about: Any) -> PlanLog:
        """From the plan of each epoch.

        Args:
            plans: one an epoch, in order.
            n: number of examples chosen from.
            about: ``fingerprint``, ``made_by`` and ``cost``; without a cost it is that of the run that trained on
                these plans with the network that will replay them, so many examples as they hold.
        """
        if not plans:
            raise ArgumentError("plans is empty: a plan needs at least one epoch")
        index = torch.cat([plan.index for plan in plans])
        weight = torch.cat([plan.weight for plan in plans])
        return cls(
            index=index.to(torch.int32) if n <= NARROW else index,
            ends=torch.tensor([len(plan) for plan in plans]).cumsum(0),
            n=n,
            weight=None if bool((weight == 1).all()) else weight,
            **{"cost": float(index.numel()), **about},
        )

    def __len__(self) -> int:
        """Number of epochs."""
        return self.ends.numel()

    @property
    def passed(self) -> int:
        """Examples that one replay trains on."""
        return self.index.numel()

    @property
    def expected(self) -> float:
        """Mean fraction of the examples that an epoch trains on."""
        return self.passed / (len(self) * self.n)

    def plan(self, epoch: int) -> Selection:
        """What ``epoch`` trained on, in its order, with a reason for every example.

        Raises:
            ArgumentError: an epoch that is not in the log.
        """
        check.number("epoch", epoch, 0, len(self) - 1, integer=True)
        chosen = self._chosen(epoch)
        return Selection(chosen.index, chosen.weight, Selection.of(chosen.index, self.n).reason)

    def _chosen(self, epoch: int) -> Selection:
        part = slice(int(self.ends[epoch - 1]) if epoch else 0, int(self.ends[epoch]))
        index = self.index[part].to(torch.int64)
        return Selection(index, torch.ones(index.numel()) if self.weight is None else self.weight[part].clone())

    def first(self, passed: int) -> PlanLog:
        """The log up to its ``passed``-th example, which may end within an epoch; what it cost stays.

        What a run under a budget (``fit(passes=)``) trained on: its last epoch is planned whole, and cut where the
        budget ends.

        Raises:
            ArgumentError: fewer than 1 or more than there are.
        """
        check.number("passed", passed, 1, self.passed, integer=True)
        ends = self.ends.clamp(max=passed)
        weight = None if self.weight is None else self.weight[:passed]
        return replace(self, index=self.index[:passed], ends=ends[torch.diff(ends, prepend=ends[:1] * 0) > 0],
                       weight=weight)  # fmt: skip

    def outward(self, selection: Selection, n: int) -> PlanLog:
        """The log of a run over the ``selection`` of ``n`` examples as one over all of them.

        Args:
            selection: what the run was given to choose from: ids of this log are positions in it, and its weights
                come on top of those here.
            n: number of examples that the selection is of.

        Raises:
            ArgumentError: a selection of another size than the run's.
        """
        if len(selection) != self.n:
            raise ArgumentError(f"the plan is about n={self.n} examples, but the selection has {len(selection)}")
        weight = selection.weight[self.index] * (1.0 if self.weight is None else self.weight)
        index = selection.index[self.index]
        return replace(
            self,
            index=index.to(torch.int32) if n <= NARROW else index,
            n=n,
            weight=None if bool((weight == 1).all()) else weight,
        )

    def break_even(self, full: float) -> float | None:
        """Replays after which the plan has paid for itself; None if it never does.

        Each replay saves ``full - passed`` examples, finding the plan out took ``cost``.

        Args:
            full: examples that a run without the plan would pass to the same end, for example ``epochs * n`` of all
                the data at the accuracy that the replay reaches.
        """
        return cost.break_even(scoring=self.cost, full=full, pruned=self.passed)

    def save(self, path: str | Path) -> None:
        """Write the log as one safetensors file, whole.

        Raises:
            RunError: the disk is full.
        """
        tensors = {"index": self.index, "ends": self.ends}
        if self.weight is not None:
            tensors["weight"] = self.weight
        about = {"n": self.n, "fingerprint": self.fingerprint, "made_by": self.made_by, "cost": self.cost}
        text = json.dumps({"format": FORMAT_VERSION, "kind": "plan", **about})
        # in memory first: safetensors' own writer reports a full disk as an error of its format
        write_bytes(Path(path), save({k: v.contiguous() for k, v in tensors.items()}, metadata={"datawinnow": text}))

    @classmethod
    def load(cls, path: str | Path) -> PlanLog:
        """Read what `save` wrote; nothing is unpickled, and everything is checked.

        Raises:
            RunError: no such file, truncated, something else, or written by a newer version.
        """
        path = Path(path)
        if not path.is_file():
            raise RunError(
                f"no such file: {path}; record a plan with: datawinnow train DATA --policy ucb --keep 0.7 "
                f"--record-plan {path}, or with recorded(policy).log().save(...)"
            )
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {}).get("datawinnow", "null"))
                tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path} is truncated or no plan ({error}); record and save it again") from error
        if not isinstance(about, dict) or about.get("kind") != "plan" or not {"index", "ends"} <= set(tensors):
            raise RunError(f"{path} is no plan that datawinnow saved: give a file that PlanLog.save wrote")
        check_format(about.get("format"), path)
        metadata = {name: about.get(name) for name in ("n", "fingerprint", "made_by", "cost")}
        try:
            return cls(tensors["index"], tensors["ends"], weight=tensors.get("weight"), **metadata)  # type: ignore[arg-type]
        except DatawinnowError as error:
            raise RunError(f"{path} is damaged: {error}") from error


def _typed(name: str, value: Any, allowed: tuple[torch.dtype, ...]) -> None:
    if not isinstance(value, Tensor) or value.dtype not in allowed or value.ndim != 1 or not value.numel():
        got = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        words = " or ".join(str(one).removeprefix("torch.") for one in allowed)
        raise ArgumentError(f"{name} must be {words} of one axis, with at least one number, got {got}")
