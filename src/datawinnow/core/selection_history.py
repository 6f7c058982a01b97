"""`SelectionHistory`: which examples each epoch of a run trained on, in one file.

This module does not import torch: the report uses it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from datawinnow.core import cost as costs
from datawinnow.core.artifact_schemas import SelectionHistoryFile
from datawinnow.core.artifacts import read_arrays, write_tensors
from datawinnow.core.errors import ArgumentError, DatawinnowError, RunError
from datawinnow.core.reason import REASON_SENTENCES, Reason

FILE_NAME = "selection_history.safetensors"
"""Its name in a run folder."""
FIRST_DROPPED = 10
"""Codes of `Reason` from here on are of examples that are left out."""
HISTORY_KIND = "selection history"
MAX_INT32 = 2**31 - 1
"""Ids up to here are stored as int32: half the file."""


class EpochPlan(Protocol):
    """The part of a `datawinnow.core.selection.Selection` that a history keeps: (m,) ids and weights."""

    @property
    def index(self) -> Any:
        """(m,) int64 ids in training order."""

    @property
    def weight(self) -> Any:
        """(m,) float32 factors on the losses."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectionHistory:
    """Which examples each epoch of a run trained on, with their order or without.

    With the order it has ``index`` and ``ends`` (4 bytes an example trained on), and can be trained on again with
    `datawinnow.dynamic.Replay`. Without, it has ``masks`` (one bit an example and epoch), which is enough for the
    report: 75 MB for 60 epochs of ten million examples.

    Attributes:
        n: number of examples of the dataset.
        index: (total,) int32 or int64 ids in training order, one epoch after the other, unique within an epoch; None
            for a history without order.
        ends: (epochs,) int64, the position in ``index`` at which each epoch ends; None without order.
        weight: (total,) float32 factors on the losses; None for ones.
        masks: (epochs, ceil(n / 8)) uint8, each row `numpy.packbits` of a mask of the n examples; None with order.
        candidates: (n,) bool, which examples could be chosen; None for all.
        labels: (n,) int64 classes; None if unknown.
        reasons: (epochs, ceil(n / 2)) uint8, half a byte an example: why each epoch took it or left it out, as
            `pack_reasons` packs codes of `Reason`; None if unknown.
        losses: (n,) float32, the loss that the policy went by when it planned the last epoch, NaN where it had seen
            none; None for a policy that goes by none.
        rows: (n,) int32 or int64 place of each example in the source as it was loaded, as `Kept.rows` has it: ids count
            in the dataset without its held-out examples; None if unknown.
        first_epoch: number of the first epoch in the history; above 0 where earlier ones were lost.
        fingerprint: of the dataset; None if unknown.
        made_by: the policy that chose, for people.
        cost: examples passed to make the history, in units of one example trained on by the network that will replay
            it: a network of a tenth of its FLOPs that trained on 300,000 examples counts 30,000, a forward pass alone
            a third.

    Raises:
        ArgumentError: ids out of range, not among the candidates or twice in an epoch, an empty epoch, weights that are
            negative or not finite, arrays of other types or shapes, both ``index`` and ``masks`` or neither.

    >>> import torch
    >>> from datawinnow.core.selection import Selection
    >>> plans = [Selection.of(torch.tensor([2, 0]), 4), Selection.of(torch.tensor([3]), 4)]
    >>> history = SelectionHistory.of(plans, 4, cost=1.5)
    >>> len(history), history.num_passed, history.mean_fraction, history.ids(0).tolist()
    (2, 3, 0.375, [2, 0])
    >>> history.break_even(full=6)
    0.5
    """

    n: int
    index: np.ndarray | None = None
    ends: np.ndarray | None = None
    weight: np.ndarray | None = None
    masks: np.ndarray | None = None
    candidates: np.ndarray | None = None
    labels: np.ndarray | None = None
    rows: np.ndarray | None = None
    reasons: np.ndarray | None = None
    losses: np.ndarray | None = None
    first_epoch: int = 0
    fingerprint: str | None = None
    made_by: str = ""
    cost: float = 0.0

    def __post_init__(self) -> None:
        # type() and not isinstance: bool is an int; the limit bounds the memory that a damaged file can ask for
        if type(self.n) is not int or not 1 <= self.n <= 2**40:
            raise ArgumentError(f"n must be a whole number of at least 1, got {self.n!r}")
        if type(self.first_epoch) is not int or self.first_epoch < 0:
            raise ArgumentError(f"first_epoch must be a whole number of at least 0, got {self.first_epoch!r}")
        if type(self.cost) not in (int, float) or not 0 <= self.cost < math.inf:
            raise ArgumentError(f"cost must be a number of at least 0, got {self.cost!r}")
        if not isinstance(self.made_by, str) or not isinstance(self.fingerprint, str | None):
            raise ArgumentError(f"made_by and fingerprint must be text, got {self.made_by!r} and {self.fingerprint!r}")
        if (self.index is None) == (self.masks is None) or (self.index is None) != (self.ends is None):
            raise ArgumentError("a history has either index and ends, or masks")
        if self.candidates is not None:
            _check_array("candidates", self.candidates, ("bool",), (self.n,))
        if self.labels is not None:
            _check_array("labels", self.labels, ("int64",), (self.n,))
        if self.rows is not None:
            _check_array("rows", self.rows, ("int32", "int64"), (self.n,))
            if self.rows.min() < 0:
                raise ArgumentError(f"rows must be places of at least 0 in the source, got {self.rows.min()}")
        if self.masks is not None:
            self._check_masks(self.masks)
        else:
            self._check_order(*self._order())
        if self.losses is not None:
            _check_array("losses", self.losses, ("float32",), (self.n,))
        if self.reasons is not None:
            _check_array("reasons", self.reasons, ("uint8",), (len(self), -(-self.n // 2)))
            for i in range(len(self)):
                self._check_reasons(i, unpack_reasons(self.reasons[i], self.n))

    def _check_masks(self, masks: np.ndarray) -> None:
        _check_array("masks", masks, ("uint8",), (len(masks) if masks.ndim else 0, -(-self.n // 8)))
        if not len(masks) or not masks.any(axis=1).all():
            raise ArgumentError("masks must have at least one epoch, and every epoch at least one example")
        # packbits fills the last byte with zeros, so bits beyond n are refused too
        possible = np.packbits(np.ones(self.n, dtype=bool) if self.candidates is None else self.candidates)
        if (masks & ~possible).any():
            raise ArgumentError("masks contain an example that is not a candidate, or an id of n or above")

    def _check_order(self, index: np.ndarray, ends: np.ndarray) -> None:
        _check_array("index", index, ("int32", "int64"), (index.size,))
        _check_array("ends", ends, ("int64",), (ends.size,))
        # prepend=0 makes an empty first epoch a difference of 0
        if not ends.size or np.diff(ends, prepend=0).min() < 1 or ends[-1] != index.size:
            raise ArgumentError(
                f"ends must rise to the {index.size} ids of index, with at least one id an epoch, got "
                f"{ends.tolist()[:5]} ..."
            )
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= self.n:
            raise ArgumentError(f"index must hold ids of 0 to {self.n - 1}, got {low if low < 0 else high}")
        if self.candidates is not None and not self.candidates[index].all():
            raise ArgumentError("index contains an example that is not a candidate")
        if self.weight is not None:
            _check_array("weight", self.weight, ("float32",), index.shape)
            if not (np.isfinite(self.weight) & (self.weight >= 0)).all():
                raise ArgumentError("weight must be finite and at least 0")
        for epoch in range(len(self)):
            ids = index[self._slice(epoch)]
            if _num_unique(ids) != ids.size:
                raise ArgumentError(f"epoch {epoch} has an id twice")

    def _check_reasons(self, epoch: int, codes: np.ndarray) -> None:
        unknown = sorted(set(np.unique(codes).tolist()) - set(map(int, Reason)))
        if unknown:
            raise ArgumentError(f"reasons of epoch {epoch} hold {unknown[0]}, which is no reason")
        # the other way round is possible: a budget may end an epoch before all of its plan
        if (codes[self.mask(epoch)] >= FIRST_DROPPED).any():
            raise ArgumentError(f"reasons of epoch {epoch} drop an example that it trained on")

    @classmethod
    def of(
        cls,
        plans: Sequence[EpochPlan],
        n: int,
        *,
        fingerprint: str | None = None,
        made_by: str = "",
        cost: float | None = None,
    ) -> SelectionHistory:
        """The history of the plans of all epochs, with their order.

        Args:
            plans: what each epoch trains on, such as a `Selection`.
            n: number of examples chosen from.
            fingerprint: of the dataset.
            made_by: the policy that chose, for people.
            cost: as of the class; by default that of the run that trained on these plans with the network that will
                replay them, which is the number of examples in them.
        """
        if not plans:
            raise ArgumentError("plans is empty: a history needs at least one epoch")
        index = np.concatenate([np.asarray(plan.index) for plan in plans])
        weight = np.concatenate([np.asarray(plan.weight) for plan in plans])
        codes = [getattr(plan, "reason", None) for plan in plans]
        return cls(
            n=n,
            reasons=np.stack([pack_reasons(np.asarray(each)) for each in codes if each is not None])
            if all(each is not None for each in codes)
            else None,
            index=_compact(index, n),
            ends=np.cumsum([len(plan) for plan in plans], dtype=np.int64),
            weight=None if (weight == 1).all() else weight,
            fingerprint=fingerprint,
            made_by=made_by,
            cost=float(index.size) if cost is None else cost,
        )

    def __len__(self) -> int:
        """Number of epochs."""
        return len(self.masks) if self.masks is not None else len(self._order()[1])

    @property
    def is_ordered(self) -> bool:
        """Whether the order within an epoch is known, so that the history can be trained on again."""
        return self.index is not None

    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        if self.index is None or self.ends is None:
            raise ArgumentError(
                "this history has no order, so it cannot be replayed: record one with recorded(policy), or "
                "with `dw.api.train(data, policy='ucb', record_plan=FILE)`"
            )
        return self.index, self.ends

    def _slice(self, epoch: int) -> slice:
        _, ends = self._order()
        return slice(int(ends[epoch - 1]) if epoch else 0, int(ends[epoch]))

    @property
    def candidate_ids(self) -> np.ndarray:
        """(m,) int64 ids of the examples that could be chosen."""
        return np.arange(self.n) if self.candidates is None else np.flatnonzero(self.candidates)

    @property
    def num_passed(self) -> int:
        """Examples trained on in all epochs together."""
        return self.index.size if self.index is not None else sum(int(self.mask(i).sum()) for i in range(len(self)))

    @property
    def mean_fraction(self) -> float:
        """Mean fraction of the examples that an epoch trains on."""
        return self.num_passed / (len(self) * self.n)

    def mask(self, i: int) -> np.ndarray:
        """(n,) bool: which examples the i-th epoch of the history trained on."""
        if self.masks is not None:
            # unpackbits returns bytes of 0 and 1, which are valid bools: no copy
            return np.unpackbits(self.masks[i], count=self.n).view(bool)
        out = np.zeros(self.n, dtype=bool)
        out[self._order()[0][self._slice(i)]] = True
        return out

    def ids(self, i: int) -> np.ndarray:
        """(m,) int64 ids of the i-th epoch in training order; a copy.

        Raises:
            ArgumentError: not an epoch of the history, or no order.
        """
        index, _ = self._order()
        if not 0 <= i < len(self):
            raise ArgumentError(f"epoch must be in [0, {len(self) - 1}], got {i}")
        return index[self._slice(i)].astype(np.int64)

    def source_rows(self, i: int) -> np.ndarray:
        """(m,) int64 places in the source of what the i-th epoch trained on: in its order, or rising without order.

        Raises:
            ArgumentError: not an epoch of the history, or its ``rows`` are unknown.
        """
        if self.rows is None:
            raise ArgumentError(
                "this history has no rows of the source: it was made in Python, or by an earlier version"
            )
        ids = self.ids(i) if self.is_ordered else np.flatnonzero(self.mask(i))
        return self.rows[ids].astype(np.int64)

    def reason(self, i: int) -> np.ndarray | None:
        """(n,) int8 codes of `Reason` of the i-th epoch; None if unknown.

        What a budget cut off the epoch has the reason to drop that a rank past the budget has.
        """
        if self.reasons is None:
            return None
        codes = unpack_reasons(self.reasons[i], self.n)
        codes[(codes < FIRST_DROPPED) & ~self.mask(i)] = int(Reason.BELOW_CUT)
        return codes

    def notes(self) -> list[str]:
        """(n,) a sentence an example: in how many epochs it was trained on and left out, why, and at which loss.

        >>> import torch
        >>> from datawinnow.core.selection import Selection
        >>> plans = [Selection.of(torch.tensor([0, 1]), 3), Selection.of(torch.tensor([0]), 3, kept=Reason.RANKED)]
        >>> SelectionHistory.of(plans, 3).notes()[1]
        'trained on in 1 of 2 epochs (1 kept), left out in 1 (1 ranked past the budget)'
        """
        counts = np.zeros((len(Reason), self.n), dtype=np.int64)
        for i in range(len(self)):
            codes = self.reason(i)
            if codes is None:  # as of a selection without reasons
                codes = np.where(self.mask(i), int(Reason.KEPT), int(Reason.BELOW_CUT))
            for k, reason in enumerate(Reason):
                counts[k] += codes == int(reason)
        candidates = np.ones(self.n, dtype=bool) if self.candidates is None else self.candidates
        by_counts: dict[bytes, str] = {}
        sentences = []
        loss = _loss_notes(self.losses)
        for i, column in enumerate(np.ascontiguousarray(counts.T)):
            if not candidates[i]:
                sentences.append("not among the examples that the policy chose from")
                continue
            key = column.tobytes()
            if key not in by_counts:
                by_counts[key] = self._sentence(dict(zip(Reason, column.tolist(), strict=True)))
            sentences.append(by_counts[key] + (f"; {loss[i]}" if loss else ""))
        return sentences

    def _sentence(self, counts: dict[Reason, int]) -> str:
        halves: list[str] = []
        for verb, is_kept in (("trained on", True), ("left out", False)):
            shown = {reason: count for reason, count in counts.items() if count and reason.kept == is_kept}
            total = sum(shown.values())
            ordered = sorted(shown.items(), key=lambda pair: -pair[1])
            why = ", ".join(f"{count} {REASON_SENTENCES[reason].split(': ')[-1]}" for reason, count in ordered)
            if total:
                halves.append(f"{verb} in {total}{f' of {len(self)} epochs' if not halves else ''} ({why})")
        return ", ".join(halves)

    def weights(self, i: int) -> np.ndarray:
        """(m,) float32 weights of the ids of the i-th epoch; a copy."""
        ids = self.ids(i)
        return np.ones(ids.size, np.float32) if self.weight is None else self.weight[self._slice(i)].copy()

    def truncated(self, num_passed: int) -> SelectionHistory:
        """The first ``num_passed`` examples, which may end within an epoch; the cost stays.

        This is what a run under a budget (``fit(passes=)``) trained on: the plan of its last epoch is complete, and cut
        where the budget ends.

        Raises:
            ArgumentError: fewer than 1 or more than there are, or no order.
        """
        index, ends = self._order()
        if not 1 <= num_passed <= index.size:
            raise ArgumentError(f"num_passed must be in [1, {index.size}], got {num_passed}")
        ends = np.minimum(ends, num_passed)
        weight = None if self.weight is None else self.weight[:num_passed]
        # epochs past the limit are empty now, and dropped
        ends = ends[np.diff(ends, prepend=0) > 0]
        reasons = None if self.reasons is None else self.reasons[: len(ends)]
        return replace(self, index=index[:num_passed], ends=ends, weight=weight, reasons=reasons)

    def mapped_through(self, selection: EpochPlan, n: int) -> SelectionHistory:
        """The history of a run over a ``selection`` of ``n`` examples, as one over all of them.

        Args:
            selection: the examples that the run chose from: the ids of this history are positions in it, and its
                weights multiply those here.
            n: number of examples that the selection is taken from.

        Raises:
            ArgumentError: a selection of another size than the run's, or no order.
        """
        index, _ = self._order()
        if len(selection) != self.n:
            raise ArgumentError(f"the history is of n={self.n} examples, but the selection has {len(selection)}")
        # ids of this history are positions in the selection: its weights are gathered by them
        weight = np.asarray(selection.weight)[index] * (np.float32(1) if self.weight is None else self.weight)
        reasons = None
        if self.reasons is not None:
            # the selection's reason for what it dropped, which the policy could not choose
            dropped = getattr(selection, "reason", None)
            codes = np.full(n, int(Reason.BELOW_CUT), np.int8) if dropped is None else np.array(dropped, dtype=np.int8)
            packed = []
            for i in range(len(self)):
                codes[np.asarray(selection.index)] = unpack_reasons(self.reasons[i], self.n)
                packed.append(pack_reasons(codes))
            reasons = np.stack(packed)
        return replace(
            self,
            n=n,
            reasons=reasons,
            index=_compact(np.asarray(selection.index)[index], n),
            weight=None if (weight == 1).all() else weight,
        )

    def break_even(self, full: float) -> float:
        """Replays after which the history has paid for itself; infinite if it never does.

        Each replay saves ``full - num_passed`` examples, and making the history took ``cost``.

        Args:
            full: examples that a run without the history would pass to the same end, for example ``epochs * n`` of all
                the data at the accuracy that the replay reaches.
        """
        return costs.break_even(scoring=self.cost, full=full, pruned=self.num_passed)

    def save(self, path: str | Path) -> None:
        """Write the history as one safetensors file, atomically.

        Raises:
            RunError: the disk is full.
        """
        arrays = {"index": self.index, "ends": self.ends, "weight": self.weight, "masks": self.masks}
        # one bit an example instead of a byte
        arrays["candidates"] = None if self.candidates is None else np.packbits(self.candidates)
        arrays |= {"labels": self.labels, "rows": self.rows, "reasons": self.reasons, "losses": self.losses}
        metadata = {
            "n": self.n,
            "first_epoch": self.first_epoch,
            "fingerprint": self.fingerprint,
            "made_by": self.made_by,
            "cost": self.cost,
        }
        present = {name: array for name, array in arrays.items() if array is not None}
        write_tensors(Path(path), present, metadata, kind=HISTORY_KIND)

    @classmethod
    def load(cls, path: str | Path, *, fingerprint: str | None = None, n: int | None = None) -> SelectionHistory:
        """Read a history that `save` wrote; nothing is unpickled, and everything is checked.

        Args:
            path: the file.
            fingerprint: of the dataset that the history has to be of; not checked by default.
            n: number of examples that it has to be of; not checked by default.

        Raises:
            RunError: no such file, truncated, another kind of file, of a newer version, or of another dataset.
        """
        path = Path(path)
        remedy = "remove it, or record it again"
        arrays, metadata = read_arrays(
            path,
            kind=HISTORY_KIND,
            schema=SelectionHistoryFile,
            missing=(
                "record a plan with `dw.api.train(data, policy='ucb', keep=0.7, "
                f"record_plan={str(path)!r})`, or with recorded(policy).history().save(...)"
            ),
            remedy=remedy,
        )
        try:
            history = cls(
                n=metadata.get("n"),  # type: ignore[arg-type]  # checked there
                index=arrays.get("index"),
                ends=arrays.get("ends"),
                weight=arrays.get("weight"),
                masks=arrays.get("masks"),
                candidates=_unpacked(arrays.get("candidates"), metadata.get("n")),
                labels=arrays.get("labels"),
                rows=arrays.get("rows"),
                reasons=arrays.get("reasons"),
                losses=arrays.get("losses"),
                first_epoch=metadata.get("first_epoch"),  # type: ignore[arg-type]
                fingerprint=metadata.get("fingerprint"),
                made_by=metadata.get("made_by"),  # type: ignore[arg-type]
                cost=metadata.get("cost"),  # type: ignore[arg-type]
            )
        except DatawinnowError as error:
            raise RunError(f"{path} is damaged ({error}); {remedy}") from error
        if fingerprint is not None and history.fingerprint != fingerprint:
            raise RunError(
                f"{path} belongs to a different dataset (fingerprint {history.fingerprint}) than the run "
                f"({fingerprint}): remove it"
            )
        if n is not None and history.n != n:
            raise RunError(f"{path} is of {history.n} examples, the run of {n}: remove it")
        return history


def pack_reasons(codes: np.ndarray) -> np.ndarray:
    """(ceil(n / 2),) uint8: (n,) codes of `Reason`, two in a byte.

    >>> pack_reasons(np.array([1, 10, 2], dtype=np.int8)).tolist()
    [22, 32]
    """
    # kept codes are below 6 and stay, those of the dropped begin at 10 and are moved to 6
    small = np.where(codes < FIRST_DROPPED, codes, codes - 4).astype(np.uint8)
    small = np.append(small, np.zeros(len(small) % 2, dtype=np.uint8))
    return np.asarray(small[::2] << 4 | small[1::2])


def unpack_reasons(packed: np.ndarray, n: int) -> np.ndarray:
    """(n,) int8 codes that `pack_reasons` packed."""
    small = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:n].astype(np.int8)
    return np.where(small < 6, small, small + 4).astype(np.int8)


def _loss_notes(losses: np.ndarray | None) -> list[str]:
    """(n,) the loss of each example and where it stands among all; empty where it is unknown."""
    if losses is None:
        return []
    seen = np.sort(losses[~np.isnan(losses)])
    below = np.searchsorted(seen, losses) / max(1, len(seen))
    return [
        "its loss was not seen" if math.isnan(loss) else f"loss {loss:.3g}, above that of {100 * share:.0f}% of them"
        for loss, share in zip(losses.tolist(), below.tolist(), strict=True)
    ]


def _num_unique(ids: np.ndarray) -> int:
    span = int(ids.max()) + 1
    if span > 4 * ids.size + 1024:
        return int(np.unique(ids).size)
    seen = np.zeros(span, dtype=bool)  # linear in the span of the ids; sorting 10M of them takes longer
    seen[ids] = True
    return int(seen.sum())


def _compact(index: np.ndarray, n: int) -> np.ndarray:
    return index.astype(np.int32) if n <= MAX_INT32 else index


def _unpacked(packed: np.ndarray | None, n: Any) -> np.ndarray | None:
    """The mask of ``n`` in its bits; None for none.

    Raises:
        ArgumentError: of another type or length.
    """
    if packed is None or type(n) is not int or n < 1:  # a wrong n is reported by the class
        return None
    _check_array("candidates", packed, ("uint8",), (-(-n // 8),))
    return np.unpackbits(packed, count=n).view(bool)


def _check_array(name: str, array: Any, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    if isinstance(array, np.ndarray) and array.dtype.name in dtypes and array.shape == shape:
        return
    actual = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else repr(array)
    raise ArgumentError(f"{name} must be {' or '.join(dtypes)} of shape {shape}, got {actual}")
