"""The estimate against the measurement: seconds and peak memory, as ratios, each dataset in its own process.

Goal: memory within a factor of 2 (tests/runs/test_estimate.py holds it); seconds are compared here without a goal.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measuring import arguments, finish, in_child, say

from datawinnow.api import estimate, prune
from datawinnow.data.examples import Augment, Examples
from datawinnow.train import Recipe

FULL = ((2_000, 32, "resnet8", 10), (50_000, 32, "mlp", 5), (10_000, 32, "resnet8", 3), (500, 64, "resnet8", 5))
CASES = {"smoke": ((100, 16, "mlp", 2),), "default": FULL, "full": FULL}
"""Examples, pixels of a side, network, epochs."""


def measure(n: int, side: int, model: str, epochs: int) -> dict[str, float]:
    """What is predicted for a run of `prune` in this process, and what it takes."""
    x = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    train = Examples(x, torch.arange(n) % 10, tuple("abcdefghij"), augment=Augment())
    recipe = Recipe(precision="bf16", channels_last=True)
    prediction = estimate(train, epochs=epochs, model=model, recipe=recipe)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        prune(train, keep=0.3, epochs=epochs, model=model, run=Path(folder) / "run", score="el2n", recipe=recipe)
    seconds = time.perf_counter() - start
    # VmHWM, not ru_maxrss: that starts from what the process that started this one had in memory
    peak = 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    return {
        "seconds": seconds,
        "seconds_predicted": prediction["seconds"],
        "seconds_ratio": prediction["seconds"] / seconds,
        "memory": peak,
        "memory_predicted": prediction["memory"],
        "memory_ratio": prediction["memory"] / peak,
    }


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    rows: list[dict[str, Any]] = []
    for n, side, model, epochs in CASES[chosen]:
        row, _ = in_child(measure, n, side, model, epochs)
        rows.append({"n": n, "side": side, "model": model, "epochs": epochs, **row})
        say(
            f"{model} on {n:,} images of {side}x{side}, {epochs} epochs: predicted {row['seconds_ratio']:.2f} of "
            f"the {row['seconds']:.2f} s and {row['memory_ratio']:.2f} of the {row['memory'] / 1e6:,.0f} MB it took"
        )
    finish("estimate", chosen, {"goal": {"memory_within": 2}, "rows": rows})


if __name__ == "__main__":
    main()
