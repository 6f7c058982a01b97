"""A test split from another source than the train split: its classes by name, and what must agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from datawinnow.core.errors import DataError
from datawinnow.data.assemble import Loaded, kind_of
from datawinnow.data.examples import Examples, Origin
from datawinnow.data.splits import shortened_list, split_of


def matched_test(train: Loaded, test: Loaded, source: str) -> Loaded:
    """The test split with the class ids of the train split, classes matched by their names.

    Args:
        train: the train split of one source.
        test: all examples or the test split of another.
        source: the test split's, for errors.

    Raises:
        DataError: another kind, shape or type of examples, a class that the train split does not have, or the same
            examples as are trained on.
    """
    _check_alike(train, test, source)
    place = {name: i for i, name in enumerate(train.classes)}
    used = [test.classes[c] for c in sorted(set(test.labels.tolist()))]
    unknown = [name for name in used if name not in place]
    if unknown:
        raise DataError(
            f"{source}, which is tested on, has the {'class' if len(unknown) == 1 else 'classes'} "
            f"{shortened_list(list(map(repr, unknown)))}, but {_path_of(train)}, which is trained on, only "
            f"{shortened_list(list(map(repr, train.classes)), 10)}: leave such examples out, or name the classes alike"
        )
    labels = torch.tensor([place.get(name, -1) for name in test.classes], dtype=torch.int64)[test.labels]
    origin = replace(test.origin or Origin("arrays", "", num_rows=len(test)), is_other=True)
    return replace(test, labels=labels, classes=train.classes, name=train.name, augment=train.augment, origin=origin)


def _check_alike(train: Loaded, test: Loaded, source: str) -> None:
    first, second = _kind_and_shape(train), _kind_and_shape(test)
    if first != second:
        raise DataError(
            f"{source}, which is tested on, holds {second}, but {_path_of(train)}, which is trained on, {first}: both "
            "must be alike"
        )
    if train.origin is not None and test.origin is not None:
        of_train, of_test = ((origin.path, origin.split) for origin in (train.origin, test.origin))
        if of_train == of_test:
            raise DataError(
                f"{source} is what is trained on already: give another source as `test=`, or leave it out, so that "
                "some are held out"
            )


def _kind_and_shape(dataset: Loaded) -> str:
    """Kind, shape and type of the examples, in words."""
    if kind_of(dataset) == "texts":
        return "texts"
    dtype = str(dataset.x.dtype if isinstance(dataset, Examples) else torch.uint8).removeprefix("torch.")
    return f"{kind_of(dataset)} of shape {'x'.join(map(str, dataset.shape))} ({dtype})"


def _path_of(dataset: Loaded) -> str:
    return dataset.name if dataset.origin is None else dataset.origin.path


def described_test(test: Any, source: str) -> str:
    """Which split of a source is tested on, in words."""
    split = test.origin.split
    return f"the split {split!r} of {source}" if split_of(split) in ("test", "validation") else f"all of {source}"
