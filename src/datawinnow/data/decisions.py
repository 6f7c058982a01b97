"""Decisions about examples, applied to a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from datawinnow.core.counts import many
from datawinnow.core.decisions import Decision, Decisions
from datawinnow.core.errors import DataError
from datawinnow.data.examples import Origin

SHOWN_IDS = 3
"""Names that an error lists."""


def apply_decisions(train: Any, test: Any, decisions: Decisions) -> tuple[Any, Any]:
    """Both splits without the examples that are dropped, and with the labels that are given anew.

    What the labels were in the source stays known (`Origin.labels`), so that a layout can be written back.

    Args:
        train: of `load`: a dataset with ``ids``, ``subset`` and ``with_labels``.
        test: likewise; None without one.
        decisions: about them.

    Raises:
        DataError: decisions of another dataset, about examples or classes that are not there, about an id that several
            examples have, or that leave no training example.
    """
    where = decisions.source or "the decisions"
    if decisions.fingerprint and decisions.fingerprint != train.fingerprint:
        raise DataError(
            f"{where} is about a dataset with the fingerprint {decisions.fingerprint}, not about {train.name} "
            f"(fingerprint {train.fingerprint}): give the data and the options that were audited, or the decisions of "
            "these"
        )
    splits = {"train": train, "test": test}
    changed = {}
    for name, split in splits.items():
        rows = [decision for decision in decisions.rows if decision.split == name]
        if rows and split is None:
            raise DataError(f"{where} decides about {many(len(rows), 'test example')}, but there is no test split")
        other = next((each for key, each in splits.items() if key != name and each is not None), None)
        changed[name] = _applied(split, rows, where, name, other) if rows else split
    note = f"decisions: {decisions.in_words()}{f' ({decisions.source})' if decisions.source else ''}"
    changed["train"] = replace(changed["train"], notes=(*changed["train"].notes, note))
    return changed["train"], changed["test"]


def _applied(split: Any, rows: Sequence[Decision], where: str, name: str, other: Any) -> Any:
    position = _position_of_ids(split, rows, where, name, other)
    labels, kept = split.labels.clone(), torch.ones(len(split), dtype=torch.bool)
    number = {str(label): k for k, label in enumerate(split.classes)}
    for decision in rows:
        i = position[decision.id]
        if decision.action == "drop":
            kept[i] = False
        elif decision.new_label is not None:
            if decision.new_label not in number:
                raise DataError(
                    f"{where} relabels {decision.id!r} as {decision.new_label!r}, which is no class of {split.name}: "
                    f"{_listed(list(number))}"
                )
            labels[i] = number[decision.new_label]
    if not bool(kept.any()):
        raise DataError(f"{where} drops all {many(len(split), 'example')} of the {name} split")
    if bool((labels != split.labels).any()):
        origin = split.origin or Origin("arrays", "", num_rows=len(split))
        source_labels = split.labels if origin.labels is None else origin.labels
        split = replace(split.with_labels(labels), origin=replace(origin, labels=source_labels))
    return split if bool(kept.all()) else split.subset(torch.nonzero(kept).flatten())


def _position_of_ids(split: Any, rows: Sequence[Decision], where: str, name: str, other: Any) -> dict[str, int]:
    """Where each example that is decided about is.

    Args:
        split: the split that they are in.
        rows: the decisions.
        where: the file, for errors.
        name: of the split.
        other: the other split, for errors; None without one.

    Raises:
        DataError: an id that is not there, or that several have.
    """
    ids = [split.id_of(i) for i in range(len(split))]
    position = {one: i for i, one in enumerate(ids)}
    missing = [decision.id for decision in rows if decision.id not in position]
    elsewhere = set() if other is None or not missing else {other.id_of(i) for i in range(len(other))}
    misplaced = [one for one in missing if one in elsewhere]
    if misplaced:
        right = "test" if name == "train" else "train"
        raise DataError(
            f"{where} decides about {many(len(misplaced), 'example')} of the {right} split as of the {name} split: "
            f"{_listed(misplaced)}; write {right} in the column split, which is train where nothing is written"
        )
    if missing:
        raise DataError(
            f"{where} decides about {many(len(missing), 'example')} that the {name} split of {split.name} does not "
            f"have: {_listed(missing)}; it is of other data, or of data read with other options (`limit=`, `holdout=`)"
        )
    if len(position) < len(ids):
        decided = {decision.id for decision in rows}
        several = [one for one, number in Counter(ids).items() if number > 1 and one in decided]
        if several:
            raise DataError(f"{where} decides about ids that several examples have: {_listed(several)}")
    return position


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:SHOWN_IDS])
    return f"{shown} and {len(names) - SHOWN_IDS:,} more" if len(names) > SHOWN_IDS else shown


def labels_in_source(dataset: Any) -> Tensor:
    """(n,) int64 class ids as the source has them: those of before decisions, where some were relabelled."""
    labels: Tensor = dataset.labels
    origin = dataset.origin
    return labels if origin is None or origin.labels is None else origin.labels
