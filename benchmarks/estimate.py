"""The estimate against the measurement: seconds and peak memory, as ratios, each dataset in its own process.

    python benchmarks/estimate.py

Goal: memory within a factor of 2 (tests/runs/test_estimate.py holds it); seconds are compared here without a goal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

CHILD = """
import json, sys, tempfile, time, torch
from pathlib import Path
from datawinnow.data.examples import Augment, Examples
from datawinnow.api import estimate
from datawinnow.api import prune
from datawinnow.train import Recipe
n, side, model, epochs = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
x = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
train = Examples(x, torch.arange(n) % 10, tuple("abcdefghij"), augment=Augment())
prediction = estimate(train, epochs=epochs, model=model, recipe=Recipe(precision="bf16", channels_last=True))
start = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    prune(train, keep=0.3, epochs=epochs, model=model, run=Path(folder) / "run", score="el2n",
          recipe=Recipe(precision="bf16", channels_last=True))
seconds = time.perf_counter() - start
# VmHWM, not ru_maxrss: that starts from what the process that started this one had in memory
peak = 1024 * int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])
print(json.dumps({"seconds": seconds, "seconds_predicted": prediction["seconds"],
                  "memory": peak, "memory_predicted": prediction["memory"]}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs")
    smoke = parser.parse_args().smoke
    full = [(2_000, 32, "resnet8", 10), (50_000, 32, "mlp", 5), (10_000, 32, "resnet8", 3), (500, 64, "resnet8", 5)]
    for n, side, model, epochs in [(100, 16, "mlp", 2)] if smoke else full:
        command = [sys.executable, "-c", CHILD, str(n), str(side), model, str(epochs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        row |= {"n": n, "side": side, "model": model, "epochs": epochs}
        row["seconds_ratio"] = row["seconds_predicted"] / row["seconds"]
        row["memory_ratio"] = row["memory_predicted"] / row["memory"]
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
