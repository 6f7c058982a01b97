"""Columns of vectors at mean 0 and standard deviation 1, by the train split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.core.errors import ArgumentError
from datawinnow.data.examples import Examples
from datawinnow.data.objects import TargetDataset

STANDARDISED_NOTE = (
    "each column of the vectors is standardised by its mean and standard deviation in the train split; "
    "`standardise=False` leaves them as they are"
)


@dataclass(frozen=True, eq=False)
class Columns:
    """Statistics of the columns of vectors.

    Attributes:
        mean: (d,) float32.
        std: (d,) float32; 1 of a constant column, which stays constant.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, data: Any) -> Columns | None:
        """The statistics of a dataset's vectors; None where it holds no float32 vectors in memory."""
        x = vectors_of(data)
        if x is None:
            return None
        # by numpy, whose sums do not depend on the number of threads; rounded, so that a last bit does not change the
        # data
        columns = x.numpy().astype(np.float64)
        mean, std = columns.mean(0).astype(np.float32), columns.std(0).astype(np.float32)
        std[std == 0] = 1
        return cls(torch.from_numpy(mean), torch.from_numpy(std))

    def standardise(self, data: Any) -> Any:
        """The dataset with its vectors standardised by these statistics.

        Raises:
            ArgumentError: it holds no vectors in memory, or of another length.
        """
        x = vectors_of(data)
        if x is None or x.shape[1:] != self.mean.shape:
            kind = type(data).__name__ if x is None else f"vectors of length {x.shape[1]}"
            raise ArgumentError(
                f"the training vectors of length {len(self.mean)} are standardised by column, and this is a dataset of "
                f"type {kind} to which that does not apply: give arrays or a DataFrame of the same columns, or leave "
                "all as they are with `standardise=False` (load=dw.LoadOptions(standardise=False))"
            )
        x = (x - self.mean) / self.std
        if isinstance(data, TargetDataset):
            return replace(data, items=(x, data.items[1]))
        return replace(data, x=x, notes=(*data.notes, STANDARDISED_NOTE))


def check_standardise(standardise: Any) -> None:
    """Refuse another value than True, False and None.

    Raises:
        ArgumentError: naming it.
    """
    if standardise not in (None, True, False):
        raise ArgumentError(f"standardise must be True, False or None, got {standardise!r}")


def columns_to_standardise(train: Any, standardise: bool | None) -> Columns | None:
    """By what a dataset is to be standardised; None where it stays as it is.

    Raises:
        ArgumentError: ``standardise`` is True, but the dataset holds no vectors.
    """
    check_standardise(standardise)
    columns = None if standardise is False else Columns.of(train)
    if standardise and columns is None:
        name = getattr(train, "name", type(train).__name__)
        raise ArgumentError(f"`standardise=True`, but {name} holds no vectors: leave it out")
    return columns


def vectors_of(data: Any) -> Tensor | None:
    """(n, d) float32 vectors of a dataset in memory; None of another."""
    x = data.x if isinstance(data, Examples) else None
    if isinstance(data, TargetDataset) and isinstance(data.items, tuple) and data.index is None:
        x = data.items[0]
    return x if isinstance(x, Tensor) and x.dtype is torch.float32 and x.ndim == 2 else None
