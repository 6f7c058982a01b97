"""All five condensers on digits beside random, herding, k-center and forgetting, at 1 and 10 images a class.

Each set is judged twice by the same evaluator, without augmentation and with it (no flip), 3 syntheses x 5 networks.
Every row is written as soon as it is known to ``results/condense_digits/rows.jsonl``; the same command goes on.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import arguments, finish, rounded, say
from torch import nn

from datawinnow import condense
from datawinnow.condense import SIAMESE, Evaluation, evaluate, pooled, real_set
from datawinnow.core import provenance
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic
from datawinnow.data import load
from datawinnow.models import convnet

OUT = Path(__file__).parents[1] / "results" / "condense_digits"
AUGMENT = SIAMESE.without("flip")
JUDGES = {"plain": None, "augmented": AUGMENT}
GOAL = 0.10
"""Points that DM must be above random at 1 image a class."""


@dataclass(frozen=True)
class Size:
    """What is run."""

    methods: tuple[str, ...]
    per_class: tuple[int, ...]
    syntheses: int
    networks: int
    epochs: int
    iterations: dict[str, tuple[int, int]]
    """By method: iterations at 1 and at 10 images a class."""
    limit: int | None = None
    width: int = 32


FULL = {"dm": (400, 400), "dc": (200, 15), "dsa": (200, 15), "cafe": (10, 10), "idm": (300, 300)}
ALL = (*condense.REAL, *condense.METHODS)
SIZES = {
    "smoke": Size(("random", "dm"), (1,), 1, 1, 20, {"dm": (10, 10)}, limit=300, width=8),
    "default": Size(("random", "dm"), (1,), 3, 5, 300, FULL),
    "full": Size(ALL, (1, 10), 3, 5, 300, FULL),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "dm": {"augment": AUGMENT},
    "dc": {},
    "dsa": {"augment": AUGMENT},
    "cafe": {"query": 32, "inner_most": 20, "outer_most": 30},
    "idm": {"augment": AUGMENT, "net_batch": 64},
}
"""What differs from the papers' settings, beside the iterations and 64 real images a class: IDM's 5,000, for one."""


def made(method: str, per_class: int, seed: int, size: Size, train: Any) -> tuple[Synthetic, float]:
    """A set, and the seconds that it took."""

    def build() -> nn.Module:
        return convnet(classes=10, channels=1, size=8, depth=2, width=size.width)

    how: dict[str, Any] = {"per_class": per_class, "build": build, "generator": stream(seed, method, per_class)}
    begun = time.perf_counter()
    if method in condense.REAL:
        found = real_set(method, train.x, train.labels, **how)  # type: ignore[arg-type]
    else:
        iterations = size.iterations[method][per_class > 1]
        how |= {"iterations": iterations, "real_batch": 64, **OPTIONS[method]}
        found = condense.METHODS[method](train.x, train.labels, **how)
    return found, time.perf_counter() - begun


def run(size: Size, out: Path, train: Any, test: Any) -> list[dict[str, Any]]:
    """Every row that is not there yet."""

    def build() -> nn.Module:
        return convnet(classes=10, channels=1, size=8, depth=2, width=size.width)

    file = out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    there = {(row["method"], row["per_class"], row["seed"]) for row in rows}
    for per_class in size.per_class:
        for seed in range(size.syntheses):
            for method in size.methods:
                if (method, per_class, seed) in there:
                    continue
                found, seconds = made(method, per_class, seed, size, train)
                judged = {
                    name: evaluate(
                        found, test.x, test.labels, build=build, generator=stream(seed, "judge", name),
                        networks=size.networks, epochs=size.epochs, augment=augment,
                    )
                    for name, augment in JUDGES.items()
                }  # fmt: skip
                row = {
                    "method": method, "per_class": per_class, "seed": seed, "seconds": seconds,
                    **{name: list(each.accuracies) for name, each in judged.items()},
                    "judging_seconds": sum(each.seconds for each in judged.values()),
                    "commit": provenance.commit(), "finished": provenance.now(), "threads": torch.get_num_threads(),
                }  # fmt: skip
                found.save(out / "sets" / f"{method}-{per_class}-{seed}.safetensors")
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(rounded(row)) + "\n")
                rows.append(rounded(row))
                say(f"{method:10} {per_class:2} a class, seed {seed}: {judged['plain']}; {seconds:.0f} s")
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By images a class and method: the pool of all networks and syntheses under either judge, and seconds."""
    found: dict[str, Any] = {}
    for row in rows:
        found.setdefault(str(row["per_class"]), {}).setdefault(row["method"], []).append(row)
    for by_method in found.values():
        for method, own in by_method.items():
            pools = {name: pooled([Evaluation(tuple(row[name])) for row in own]) for name in JUDGES}
            by_method[method] = {
                **{name: {"mean": pool.mean, "std": pool.std} for name, pool in pools.items()},
                "networks": len(pools["plain"].accuracies),
                "syntheses": len(own),
                "seconds": statistics.median(row["seconds"] for row in own),
            }
    return found


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    size = SIZES[chosen]
    train, test = load("digits", limit=size.limit)
    if chosen == "smoke":
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            told = summary(run(size, Path(folder), train, test))
    else:
        OUT.mkdir(parents=True, exist_ok=True)
        told = summary(run(size, OUT, train, test))
    for per_class, by_method in told.items():
        for method, row in sorted(by_method.items(), key=lambda item: -item[1]["plain"]["mean"]):
            cells = "; ".join(f"{n} {100 * row[n]['mean']:.1f} +- {100 * row[n]['std']:.1f}" for n in JUDGES)
            say(f"{per_class:>2} a class  {method:10} {cells}  ({row['networks']} networks, {row['seconds']:.0f} s)")
    one = told["1"]
    gain = one["dm"]["plain"]["mean"] - one["random"]["plain"]["mean"]
    say(f"DM above random at 1 image a class: {100 * gain:+.1f} points (goal {100 * GOAL:.0f})")
    finish("condense_digits", chosen, {"goal": GOAL, "gain": gain, "n": len(train), "sets": told})


if __name__ == "__main__":
    main()
