"""``digits``: the 1,797 handwritten digits of 8x8 pixels that scikit-learn carries."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datawinnow.data.assemble import ReadOptions, hold_out, limited, one_split
from datawinnow.data.examples import Augment, Examples, Origin


def load_digits(_source: Path, options: ReadOptions) -> tuple[Examples, Examples]:
    """The UCI ML hand-written digits (Alpaydin and Kaynak, 1998): values 0 to 16 scaled to uint8, one channel.

    Args:
        options: of `load`; ``holdout`` and ``seed`` draw the test split.
    """
    # (n, 65): 64 values and the label
    table = _read_digits()
    x = torch.from_numpy((table[:, :-1] * 255 / 16).round().astype("uint8").reshape(-1, 1, 8, 8))
    labels = torch.from_numpy(table[:, -1]).long()
    # A mirrored digit is another shape than the digit, and at 8x8 more than a pixel of shift leaves the frame.
    every = Examples(
        x,
        labels,
        tuple(map(str, range(10))),
        "digits",
        augment=Augment(crop=1, flip=False),
        origin=Origin("digits", "digits", num_rows=len(x)),
    )
    if options.only:
        return one_split(every, options)
    first, second, note = hold_out(labels, options.holdout, options.seed)
    return train_and_test(replace(every, notes=(note,)), first, second, options)


def _read_digits() -> NDArray[np.float64]:
    """(1797, 65) values and labels, from the file of scikit-learn, whose own loader takes seconds to import."""
    spec = find_spec("sklearn")
    for folder in () if spec is None else spec.submodule_search_locations or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits as load_with_sklearn  # its files have moved

    bunch = load_with_sklearn()
    return np.column_stack([bunch.data, bunch.target])


def train_and_test(
    every: Examples, first: torch.Tensor, second: torch.Tensor, options: ReadOptions
) -> tuple[Examples, Examples]:
    """Split examples in memory in two; both are normalised by the first's pixels."""
    # empty statistics are computed anew, from the train split alone
    train = replace(every.subset(first), mean=(), std=())
    test = replace(every.subset(second), split="test", mean=train.mean, std=train.std)
    train_limited = limited(train, options)
    assert isinstance(train_limited, Examples)  # what goes in comes out
    return train_limited, test
