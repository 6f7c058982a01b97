"""Seconds of an audit whose recording is there: all of it, and each of its stages by itself.

Images of 32x32 pixels and their recording are made, so that nothing is trained. Not counted is the pass over the
recorded network for features and probabilities, which an audit of a run makes first. The goal is for ``--full``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from measuring import arguments, finish, say
from torch import Tensor
from torch.nn import functional

from datawinnow.audit.outliers import outlyingness
from datawinnow.core.rng import stream
from datawinnow.data.dataset_info import dataset_info
from datawinnow.data.examples import Examples
from datawinnow.runs.audit import AuditedData, audit_dataset, issues_of_contents, recorded_issues

NUM_TRAIN = {"smoke": 1000, "default": 10_000, "full": 50_000}
NUM_CLASSES, NUM_EPOCHS, NUM_FEATURES = 10, 30, 64
WRONG, COPIES = 0.05, 0.01
"""Shares of wrong labels and of exact copies."""


def made_images(n: int) -> Tensor:
    """(n, 3, 32, 32) uint8 with coarse and fine detail, the last of which are copies of the first."""
    draws = stream(0, "benchmark", "audit images")
    x = torch.zeros(n, 3, 32, 32)
    for cells in (4, 8, 16):
        noise = torch.randn(n, 3, cells, cells, generator=draws) * 60 / cells**0.5
        x += functional.interpolate(noise, (32, 32), mode="bilinear", align_corners=False)
    copies = int(COPIES * n)
    x[n - copies :] = x[:copies]
    return (x + 128).clamp(0, 255).byte()


def made_recording(labels: Tensor, wrong: Tensor) -> dict[str, Tensor]:
    """Columns, features and probabilities of a network that learns labels, the wrong ones late.

    Args:
        labels: (n,) int64 class ids, wrong ones included.
        wrong: (n,) bool.
    """
    draws, n = stream(0, "benchmark", "audit recording"), len(labels)
    right = torch.where(wrong, (labels + 1) % NUM_CLASSES, labels)
    centres = 3 * torch.randn(NUM_CLASSES, NUM_FEATURES, generator=draws)
    features = centres[right] + torch.randn(n, NUM_FEATURES, generator=draws)
    logits = 4 * functional.one_hot(right, NUM_CLASSES) + torch.randn(n, NUM_CLASSES, generator=draws)
    growth = torch.linspace(-1, 4, NUM_EPOCHS)[:, None] - 4 * wrong
    margin = growth + torch.randn(NUM_EPOCHS, n, generator=draws)
    return {
        "p_label": margin.sigmoid(),
        "margin": margin,
        "correct": margin > 0,
        "features": features,
        "probs": logits.softmax(1),
    }


def measured(action: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds on the wall and of the CPU, and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}, result


def main() -> None:
    """Make the data, time each stage, then the whole audit."""
    size = arguments(__doc__ or "")
    # a sixth more to test on
    n = 6 * NUM_TRAIN[size] // 5
    x = made_images(n)
    draws = stream(0, "benchmark", "audit labels")
    labels = torch.randint(NUM_CLASSES, (n,), generator=draws)
    wrong = torch.rand(n, generator=draws) < WRONG
    names = tuple(f"class {k}" for k in range(NUM_CLASSES))
    every = Examples(x, labels, names, "made")
    # the copies at the end are of images at the start, so that some leak into the test split
    first = 5 * n // 6
    train = every.subset(torch.arange(first))
    test = replace(every.subset(torch.arange(first, n)), split="test")
    wrong = wrong[:first]
    arrays = made_recording(train.labels, wrong)
    data = AuditedData(dataset_info(train), test)
    stages: dict[str, Callable[[], Any]] = {
        "contents": lambda: issues_of_contents(data),
        "outliers": lambda: outlyingness(arrays["features"]),
        "labels": lambda: recorded_issues(data, arrays),
    }
    rows = {}
    for name, action in stages.items():
        rows[name], _ = measured(action)
        say(f"{name}: {rows[name]['seconds']:.1f} s")
    total, audit = measured(lambda: audit_dataset(data, arrays))
    say(f"all: {total['seconds']:.1f} s, {len(audit.issues):,} issues")
    result = {"goal": "under 60 s of an audit of 50,000 images", "n": len(train), "stages": rows, **total}
    finish("audit_speed", size, {**result, "wrong": int(wrong.sum()), "issues": audit.counts()})


if __name__ == "__main__":
    main()
