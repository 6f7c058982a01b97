"""What recording adds to a training step: steps with and without `Recorder.write`, in turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import arguments, finish, interleaved, ratio, say

from datawinnow.core.rng import forked, stream
from datawinnow.models import build
from datawinnow.record import Recorder
from datawinnow.train.precision import autocast, float32_head

CLASSES = 10


@dataclass(frozen=True)
class Size:
    """How much to measure: pairs of steps for each network, examples a step, ids in the recording."""

    pairs: dict[str, int]
    batch: int
    n: int


SIZES = {
    "smoke": Size({"resnet8": 4, "resnet18": 1}, 4, 64),
    "default": Size({"resnet8": 150, "resnet18": 8}, 128, 50_000),
    "full": Size({"resnet8": 600, "resnet18": 24}, 128, 50_000),
}


class Step:
    """One training step as `fit` takes it, but for the making of the batch (recording then has its largest share).

    Attributes:
        writing: seconds and CPU seconds of each `Recorder.write`, in its place, with the caches as training left them.
    """

    def __init__(self, name: str, size: Size, folder: Path) -> None:
        with forked(0, "benchmark", name):
            model = build(name, shape=(3, 32, 32), classes=CLASSES).train()
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        draws = stream(0, "benchmark", "batches")
        self.x = torch.randn(size.batch, 3, 32, 32, generator=draws).contiguous(memory_format=torch.channels_last)
        self.y = torch.randint(CLASSES, (size.batch,), generator=draws)
        self.ids = torch.randperm(size.n, generator=draws).split(size.batch)
        self.recorder = Recorder(size.n, epochs=1, path=folder)
        self.totals = torch.zeros(2)
        self.writing: list[tuple[float, float]] = []

    def __call__(self, record: bool) -> None:
        with autocast(torch.device("cpu"), "bf16"):
            logits = self.model(self.x).float()
        if record:
            index = self.ids[len(self.writing) % (len(self.ids) - 1)]  # all but the last part are whole batches
            start, used = time.perf_counter(), time.process_time()
            self.recorder.write(0, index, logits, self.y)
            self.writing.append((time.perf_counter() - start, time.process_time() - used))
        losses = F.cross_entropy(logits, self.y, reduction="none")
        losses.mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.totals += torch.stack([losses.detach().sum(), (logits.detach().argmax(1) == self.y).sum()])


def measure(name: str, size: Size) -> dict[str, Any]:
    """Steps of the network ``name`` with recording on and off."""
    pairs = size.pairs[name]
    with tempfile.TemporaryDirectory() as folder:
        step = Step(name, size, Path(folder))
        with float32_head(step.model):
            wall, cpu = interleaved(
                {"off": lambda: step(False), "on": lambda: step(True)}, pairs, warm=1 if pairs < 5 else 3
            )
        write, write_cpu = (statistics.median(each) for each in zip(*step.writing[-pairs:], strict=True))
        start = time.perf_counter()
        step.recorder.flush()
        flush = time.perf_counter() - start
    off, off_cpu = statistics.median(wall["off"]), statistics.median(cpu["off"])
    steps = -(-size.n // size.batch)
    return {
        "pairs": pairs,
        "step_ms": 1e3 * off,
        "step_cpu_ms": 1e3 * off_cpu,
        "on_over_off": ratio(wall["on"], wall["off"]),
        "on_over_off_cpu": ratio(cpu["on"], cpu["off"]),
        "write_us": 1e6 * write,
        "write_share": write / off,
        "write_share_cpu": write_cpu / off_cpu,
        "flush_ms": 1e3 * flush,  # once an epoch, to disk, synced
        "flush_share": flush / (steps * off),
        "share": (write + flush / steps) / off,
    }


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    size = SIZES[chosen]
    say(f"recording on against off: bf16, channels-last, batch {size.batch} at 32x32, {size.n:,} ids, all signals")
    models: dict[str, Any] = {}
    for name in size.pairs:
        models[name] = result = measure(name, size)
        on, cpu = result["on_over_off"], result["on_over_off_cpu"]
        say(
            f"{name:9} step {result['step_ms']:.1f} ms; on/off {on['median']:.4f} [{on['low']:.4f}, {on['high']:.4f}] "
            f"over {result['pairs']} pairs; write {result['write_us']:.0f} us = {result['write_share']:.2%} of a step, "
            f"with the epoch's write-out {result['share']:.2%} (goal < 1%). Of CPU seconds: on/off {cpu['median']:.4f} "
            f"[{cpu['low']:.4f}, {cpu['high']:.4f}], write {result['write_share_cpu']:.2%}"
        )
    finish("recording", chosen, {"batch": size.batch, "n": size.n, "goal": {"share": 0.01}, "models": models})


if __name__ == "__main__":
    main()
