"""All six scores of a recording of ImageNet's size: time against reading the same columns once, and peak memory."""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import arguments, finish, in_child, interleaved, ratio, say
from torch import Tensor

from datawinnow import scores
from datawinnow.core.rng import stream
from datawinnow.record import read_column

EPOCHS = 30
SIZES = {"smoke": (2_000, 1), "default": (128_000, 5), "full": (1_280_000, 5)}
"""Examples, rounds."""

Part = tuple[str, slice]
WHOLE = slice(None)
READS: dict[str, tuple[Part, ...]] = {
    "dual": (("p_label", WHOLE),),
    "dyn_unc": (("p_label", WHOLE),),
    "forgetting": (("correct", WHOLE), ("seen", WHOLE)),
    "el2n": (("error_norm", slice(0, 10)),),
    "aum": (("margin", WHOLE),),
    "entropy": (("entropy", slice(-1, None)),),
}
"""The columns that each score takes, and the epochs of them that its definition uses."""


def write(folder: Path, n: int) -> None:
    """Write the columns as `Recorder.consolidate` leaves them, an epoch at a time."""
    draws = stream(0, "benchmark", "recording")
    files = {
        name: (folder / f"{name}.npy").open("wb")
        for name in ("p_label", "margin", "error_norm", "entropy", "correct", "seen")
    }
    for name, file in files.items():
        kind = "|b1" if name in ("correct", "seen") else "<f4"
        np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": (EPOCHS, n)})
    for epoch in range(EPOCHS):
        # learning: most examples end near 1, as in a real recording, where float32 sums of squares would cancel
        p = torch.rand(n, generator=draws).pow_(1 / (1 + epoch))
        rows = {"p_label": p, "margin": p * 20 - 8, "error_norm": (1 - p) * 2**0.5, "entropy": (1 - p) * 2}
        rows |= {"correct": p > 0.5, "seen": torch.ones(n, dtype=torch.bool)}
        for name, file in files.items():
            file.write(rows[name].numpy().tobytes())
    for file in files.values():
        file.close()


def read(folder: Path, columns: tuple[Part, ...]) -> float:
    """Sum what is stored in ``parts`` of the columns as machine words: nothing that reads them can be much faster."""
    return sum(float(words(read_column(folder, name)[epochs]).sum()) for name, epochs in columns)


def words(stored: Tensor) -> Tensor:
    """The same bytes as float32 or, of bool, as int64."""
    return stored.view(torch.int64) if stored.dtype is torch.bool else stored


def score(folder: Path, name: str) -> Tensor:
    """One score from the files."""
    per_example: Tensor = scores.METHODS[name](*(read_column(folder, column) for column, _ in READS[name]))
    return per_example


def bytes_of(folder: Path, columns: tuple[Part, ...]) -> int:
    """Bytes of ``parts`` of the columns."""
    return sum(read_column(folder, name)[epochs].nbytes for name, epochs in columns)


def memory(action: Callable[[], object]) -> tuple[float, float]:
    """Peak memory of this process during ``action``, and how much of it that added, in MB; mapped pages count.

    On Linux the high-water mark is reset first; elsewhere the peak is that of the whole process so far, which is no
    less.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = status("VmRSS")
        action()
        return status("VmHWM"), status("VmHWM") - before
    except OSError:
        action()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
        return peak, peak


def status(name: str) -> float:
    """A line of this process's status, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:"))


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Each score against a read of its own columns, in turns; then the six against a read of them all."""
    distinct = tuple(dict.fromkeys((name, (e.start, e.stop)) for columns in READS.values() for name, e in columns))
    everything = tuple((name, slice(*e)) for name, e in distinct)
    actions: dict[str, Callable[[], object]] = {}
    for name, columns in READS.items():
        actions[f"{name} read"] = partial(read, folder, columns)
        actions[name] = partial(score, folder, name)
    actions["all read"] = lambda: read(folder, everything)
    wall, cpu = interleaved(actions, rounds)
    for taken in (wall, cpu):
        taken["all"] = [sum(each) for each in zip(*(taken[name] for name in READS), strict=True)]
    by_score: dict[str, Any] = {}
    for name, columns in {**READS, "all": everything}.items():
        size, seconds = bytes_of(folder, columns), statistics.median(wall[name])
        by_score[name] = {
            "bytes": size,
            "seconds": seconds,
            "gb_per_second": size / seconds / 1e9,
            "read_gb_per_second": size / statistics.median(wall[f"{name} read"]) / 1e9,
            "ratio": ratio(wall[name], wall[f"{name} read"]),
            "cpu_ratio": ratio(cpu[name], cpu[f"{name} read"]),
            "cpu_seconds": statistics.median(cpu[name]),
        }
    for name in READS:
        by_score[name]["peak_mb"], by_score[name]["added_mb"] = memory(partial(score, folder, name))
    by_score["finite"] = all(bool(score(folder, name).isfinite().all()) for name in READS)
    return by_score


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    n, rounds = SIZES[chosen]
    say(f"six scores of a {n:,} x {EPOCHS} recording, memory-mapped, in the page cache; {rounds} rounds in turns")
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), n)
        by_score, peak = in_child(measure, Path(name), rounds)
    finite = by_score.pop("finite")
    for name, row in by_score.items():
        say(
            f"{name:10} {row['bytes'] / 1e6:7.1f} MB {row['seconds']:8.3f} s {row['gb_per_second']:6.2f} GB/s; a read "
            f"{row['read_gb_per_second']:6.2f} GB/s; ratio {row['ratio']['median']:.1f}, "
            f"of CPU seconds {row['cpu_ratio']['median']:.1f}"
            + (f"; peak {row['peak_mb']:,.0f} MB, {row['added_mb']:,.0f} of them its own" if "peak_mb" in row else "")
        )
    say(f"peak memory {peak:,.0f} MB, mapped files and torch included (goal < 4,000)")
    result = {"n": n, "epochs": EPOCHS, "rounds": rounds, "goal": {"peak_mb": 4000}, "peak_mb": peak}
    finish("scores", chosen, {**result, "finite": finite, "scores": by_score})


if __name__ == "__main__":
    main()
