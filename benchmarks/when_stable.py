"""When `record --until-stable` would have stopped recordings, and how their ranking then agrees with the final one.

    python benchmarks/when_stable.py results/cheap_score results/stability     # folders with recordings in them

For every recording (a folder with p_label.npy) a line an epoch from the tenth: the agreement of the two halves of the
last ten epochs, which `record --until-stable` stops by; Spearman's rank correlation of DUAL so far with DUAL of the
whole recording, which is unknown at that time; and that of DUAL so far with DUAL three epochs before, which looks
stable from the start. Then the epoch at which it would have stopped. Nothing is trained.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr
from torch import Tensor

from datawinnow.record import read_column
from datawinnow.runs.early_stopping import THRESHOLD, WINDOW, split_half_agreement
from datawinnow.scores import dual

BEFORE = 3
"""Epochs between a ranking and the earlier one of the same recording that it is compared with."""


@dataclass(frozen=True)
class At:
    """The agreements after a number of epochs; `end` is unknown while recording."""

    epochs: int
    halves: float
    past: float
    end: float


def course(p_label: Tensor) -> list[At]:
    """The agreements of a recording, (epochs, n), from its first full window on."""

    def ranked(epochs: int) -> Tensor:
        return dual(p_label[:epochs], window=min(WINDOW, epochs))

    def alike(a: Tensor, b: Tensor) -> float:
        return float(spearmanr(a.numpy(), b.numpy()).statistic)

    end = ranked(len(p_label))
    return [
        At(t, split_half_agreement(p_label[:t]), alike(ranked(t - BEFORE), ranked(t)), alike(ranked(t), end))
        for t in range(WINDOW, len(p_label) + 1)
    ]


def stop(course: list[At], enough: float) -> int | None:
    """Epochs after which the recording would have been stopped; None if it would not."""
    return next((at.epochs for at in course if at.halves >= enough), None)


def main(argv: list[str] | None = None) -> None:
    """Print the table of every recording below the folders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--enough", nargs="+", type=float, default=[0.4, THRESHOLD, 0.6, 0.7], metavar="AGREEMENT")
    arguments = parser.parse_args(argv)
    recordings = sorted({file.parent for folder in arguments.folders for file in folder.rglob("p_label.npy")})
    if not recordings:
        parser.error(f"no p_label.npy below {', '.join(map(str, arguments.folders))}: record first")
    for folder in recordings:
        epochs = course(read_column(folder, "p_label"))
        if not epochs:
            print(f"{folder}: fewer than {WINDOW} epochs")
            continue
        print(f"{folder}\n  epochs  halves agree  with {BEFORE} epochs before  with the whole")
        for at in epochs[:: max(1, len(epochs) // 10)]:
            print(f"  {at.epochs:6d}  {at.halves:12.2f}  {at.past:21.2f}  {at.end:14.2f}")
        stops = ", ".join(f"{enough:g}: {stop(epochs, enough) or 'never'}" for enough in arguments.enough)
        print(f"  would have stopped after, by agreement: {stops}")


if __name__ == "__main__":
    main()
