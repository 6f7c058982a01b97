"""``digits``: the 1,797 handwritten digits of 8x8 pixels that scikit-learn carries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from datawinnow.data.assemble import ReadOptions, hold_out, limited
from datawinnow.data.examples import Augment, Examples, Origin


def load_digits(_source: Path, options: ReadOptions) -> tuple[Examples, Examples]:
    """The UCI ML hand-written digits (Alpaydin and Kaynak, 1998): values 0 to 16 scaled to uint8, one channel.

    Args:
        options: of `load`; ``holdout`` and ``seed`` draw the test split.
    """
    from sklearn.datasets import load_digits as embedded

    bunch = embedded()
    # (n, 8, 8) -> (n, 1, 8, 8)
    x = torch.from_numpy((bunch.images * 255 / 16).round().astype("uint8"))[:, None]
    labels = torch.from_numpy(bunch.target).long()
    first, second, note = hold_out(labels, options.holdout, options.seed)
    # A mirrored digit is another shape than the digit, and at 8x8 more than a pixel of shift leaves the frame.
    every = Examples(
        x,
        labels,
        tuple(map(str, bunch.target_names.tolist())),
        "digits",
        augment=Augment(crop=1, flip=False),
        origin=Origin("digits", "digits", num_rows=len(x)),
        notes=(note,),
    )
    return train_and_test(every, first, second, options)


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
