"""Condensers beside real images, by the grid of a TOML file: each set is judged by one evaluator and printed.

``python benchmarks/condense_grid.py benchmarks/condense_digits.toml``. Every row is written as soon as it is known to
``results/NAME/rows.jsonl``, and the same command goes on, within a synthesis too. ``--method`` and ``--per-class`` take
one part of the grid, ``--table`` prints the rows so far as Markdown and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from measuring import finish, rounded, say
from torch import nn

from datawinnow import condense, models
from datawinnow.condense import Evaluation, evaluate, pooled, real_set
from datawinnow.core import provenance
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic
from datawinnow.data import load

HERE = Path(__file__).parent
DIGITS = HERE / "condense_digits.toml"
SMOKE = {"methods": ["random", "dm"], "per_class": [1], "syntheses": 1, "networks": 1}
"""What ``--smoke`` makes of a grid, beside 300 images, a narrow network, 10 iterations and 20 epochs."""


@dataclass(frozen=True)
class Grid:
    """A grid as its file has it; a value of `method` may be a table by images a class."""

    name: str
    about: str
    methods: list[str]
    per_class: list[int]
    syntheses: int
    networks: int
    data: dict[str, Any]
    network: dict[str, Any]
    judge: dict[str, dict[str, Any]]
    method: dict[str, dict[str, Any]] = field(default_factory=dict)
    judged: dict[str, list[str]] = field(default_factory=dict)
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    gain: dict[str, Any] = field(default_factory=dict)

    def options(self, method: str, per_class: int) -> dict[str, Any]:
        """What a method is given beside the papers' settings."""
        settings = self.method.get(method, {})
        return {k: v[str(per_class)] if isinstance(v, dict) else v for k, v in settings.items()}

    def judges(self, method: str) -> dict[str, dict[str, Any]]:
        """How its sets are judged, by name."""
        return {name: self.judge[name] for name in self.judged.get(method, self.judge)}


def read(file: Path, *, smoke: bool = False) -> Grid:
    """The grid of a file.

    Raises:
        SystemExit: a key, a method or a judge that is not known.
    """
    settings = tomllib.loads(file.read_text(encoding="utf-8"))
    if smoke:
        settings |= SMOKE
        settings["data"] |= {"limit": 300}
        settings["network"] |= {"width": 8}
        settings["method"]["dm"]["iterations"] = 10
        settings["judge"] = {name: {**judge_options, "epochs": 20} for name, judge_options in settings["judge"].items()}
    all_methods = (*condense.REAL, *condense.METHODS)
    wrong = [f"key {key!r}" for key in settings if key not in {f.name for f in fields(Grid)}]
    named = {
        *settings.get("methods", ()),
        *(k for table in ("method", "judged", "published") for k in settings.get(table, ())),
    }
    wrong += [f"method {name!r}" for name in sorted(named - {*all_methods})]
    wrong += [
        f"judge {name!r}"
        for names in settings.get("judged", {}).values()
        for name in names
        if name not in settings["judge"]
    ]
    if wrong:
        raise SystemExit(f"{file} has an unknown {wrong[0]}; methods: {', '.join(all_methods)}")
    return Grid(**settings)


def synthesize(grid: Grid, method: str, per_class: int, seed: int, train: Any, out: Path) -> Synthetic:
    """A set; one that was stopped goes on from its checkpoint."""
    method_options: dict[str, Any] = {
        "per_class": per_class, "build": builder(grid, train), "generator": stream(seed, method, per_class),
        "classes": train.classes, **grid.options(method, per_class),
    }  # fmt: skip
    method_options |= {"mean": train.mean or None, "std": train.std or None}
    if method in condense.REAL:
        return real_set(method, train.x, train.labels, **method_options)
    checkpoint = out / "sets" / f"{method}-{per_class}-{seed}-unfinished.safetensors"
    synthetic_set: Synthetic = condense.METHODS[method](train.x, train.labels, checkpoint=checkpoint, **method_options)
    synthetic_set.save(out / "sets" / f"{method}-{per_class}-{seed}.safetensors")
    checkpoint.unlink(missing_ok=True)
    return synthetic_set


def builder(grid: Grid, train: Any) -> Any:
    """Makes a fresh network of the grid."""
    options = dict(grid.network)
    name = options.pop("model")

    def build() -> nn.Module:
        return models.build(name, shape=train.shape, classes=len(train.classes), **options)

    return build


def run(grid: Grid, out: Path, train: Any, test: Any) -> list[dict[str, Any]]:
    """Every row, those that were not there yet written as they come.

    Raises:
        SystemExit: a row was made with other settings than the file has now.
    """
    rows = rows_of(out)
    existing = {(row["method"], row["per_class"], row["seed"]): row for row in rows}
    for seed in range(grid.syntheses):
        for per_class in grid.per_class:
            for method in grid.methods:
                settings = {"options": grid.options(method, per_class), "judges": grid.judges(method)}
                before = existing.get((method, per_class, seed))
                if before is None:
                    rows.append(row_of(grid, method, per_class, seed, train, test, out, settings))
                elif any(before.get(key, value) != value for key, value in settings.items()):
                    raise SystemExit(f"{out / 'rows.jsonl'} has {method} at {per_class} with other settings: remove it")
    return rows


def row_of(
    grid: Grid, method: str, per_class: int, seed: int, train: Any, test: Any, out: Path, settings: dict[str, Any]
) -> dict[str, Any]:
    """One set made, judged and written down."""
    started, used = time.perf_counter(), time.process_time()
    synthetic = synthesize(grid, method, per_class, seed, train, out)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - used}
    spent["seconds"] = max(spent["seconds"], synthetic.about.get("seconds", 0.0))  # those before a stop count as well
    judged = {
        name: evaluate(
            synthetic, test.x, test.labels, build=builder(grid, train), generator=stream(seed, "judge", name),
            networks=grid.networks, **judge_options,
        )
        for name, judge_options in settings["judges"].items()
    }  # fmt: skip
    about = {key: synthetic.about.get(key) for key in ("images_seen", "memory", "device")}
    row: dict[str, Any] = {"method": method, "per_class": per_class, "seed": seed, **spent, **about, **settings}
    row |= {name: list(each.accuracies) for name, each in judged.items()}
    row |= {"judging_seconds": sum(each.seconds for each in judged.values()), "commit": provenance.commit()}
    row |= {"finished": provenance.now(), "threads": torch.get_num_threads()}
    with (out / "rows.jsonl").open("a", encoding="utf-8") as lines:
        lines.write((written := json.dumps(rounded(row))) + "\n")
    accuracies = "; ".join(f"{name} {each}" for name, each in judged.items())
    say(f"{method:10} {per_class:2} a class, seed {seed}: {accuracies}; {spent['seconds']:.0f} s")
    return dict(json.loads(written))


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Rows that are there; a line cut short by a kill is none, and is dropped from the file."""
    file, rows = out / "rows.jsonl", []
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []:
        if line.endswith("\n"):
            rows.append(json.loads(line))
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def summary(rows: Sequence[dict[str, Any]], judges: Sequence[str]) -> dict[str, Any]:
    """By images a class and method: the pool of all networks and syntheses under each judge, medians of the cost."""
    by_size: dict[str, Any] = {}
    for row in rows:
        by_size.setdefault(str(row["per_class"]), {}).setdefault(row["method"], []).append(row)
    for by_method in by_size.values():
        for method, its_rows in by_method.items():
            its_judges = [name for name in judges if name in its_rows[0]]
            pools = {name: pooled([Evaluation(tuple(row[name])) for row in its_rows]) for name in its_judges}
            costs = {k: [row[k] for row in its_rows if row.get(k)] for k in ("seconds", "cpu_seconds", "memory")}
            by_method[method] = {
                **{name: {"mean": pool.mean, "std": pool.std} for name, pool in pools.items()},
                "networks": len(pools[its_judges[0]].accuracies),
                "syntheses": len(its_rows),
                **{k: statistics.median(values) for k, values in costs.items() if values},
            }
    return by_size


def table(grid: Grid, by_size: dict[str, Any]) -> str:
    """The summary as Markdown, the methods in the order of the grid, accuracies in percent."""
    judges, published = list(grid.judge), [*(["published"] if grid.published else [])]
    head = ["images a class", "method", *judges, *published, "networks", "seconds", "CPU seconds", "GB at the peak"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for per_class, by_method in by_size.items():
        for method in (name for name in grid.methods if name in by_method):
            row = by_method[method]
            cells = [spread(row.get(name)) for name in judges]
            cells += [str(grid.published.get(method, {}).get(per_class, "-")) for _ in published]
            cells += [str(row["networks"]), f"{row['seconds']:.0f}"]
            cells += [f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else "-"]
            cells += [f"{row['memory'] / 1e9:.1f}" if "memory" in row else "-"]
            lines.append(f"| {per_class} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(cell: dict[str, float] | None) -> str:
    """Mean and population standard deviation in percent; a dash without a judge."""
    return f"{100 * cell['mean']:.1f} +- {100 * cell['std']:.1f}" if cell else "-"


def gained(grid: Grid, by_size: dict[str, Any]) -> float | None:
    """Points that one method is above another, as the grid's goal has it; None until both are there."""
    goal = grid.gain
    by_method = by_size.get(str(goal.get("per_class")), {})
    if not {goal.get("method"), goal.get("over")} <= set(by_method):
        return None
    points = 100 * (by_method[goal["method"]][goal["judge"]]["mean"] - by_method[goal["over"]][goal["judge"]]["mean"])
    say(f"{goal['method']} above {goal['over']} at {goal['per_class']} a class: {points:+.1f} (goal {goal['goal']:g})")
    return float(points)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=DIGITS, help="a grid; without one condense_digits.toml")
    parser.add_argument("--smoke", action="store_true", help="seconds: does it run at all; writes nothing down")
    parser.add_argument("--method", action="append", help="this one only (repeatable)")
    parser.add_argument("--per-class", action="append", type=int, help="this many only (repeatable)")
    parser.add_argument("--table", action="store_true", help="print the rows so far as Markdown; run nothing")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    chosen = arguments(argv)
    grid = read(chosen.file, smoke=chosen.smoke)
    for name, requested in (("methods", chosen.method), ("per_class", chosen.per_class)):
        kept = [value for value in getattr(grid, name) if value in (requested or getattr(grid, name))]
        if requested and len(kept) < len(set(requested)):
            raise SystemExit(f"{chosen.file} has {name} {getattr(grid, name)}, asked for: {requested}")
        getattr(grid, name)[:] = kept
    out = HERE.parent / "results" / grid.name
    if chosen.table:
        print(table(grid, summary(rows_of(out), list(grid.judge))))
        return
    source = str(grid.data["source"])
    source = source.replace("$DATAWINNOW_DATA", os.environ.get("DATAWINNOW_DATA", "../shared/data"), 1)
    train, test = load(source, **{k: v for k, v in grid.data.items() if k != "source"})
    if chosen.smoke:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            rows = run(grid, Path(folder), train, test)
    else:
        out.mkdir(parents=True, exist_ok=True)
        rows = run(grid, out, train, test)
    by_size = summary(rows, list(grid.judge))
    say(table(grid, by_size))
    result = {"grid": grid.name, "goal": grid.gain.get("goal"), "gain": gained(grid, by_size), "n": len(train)}
    finish("condense_grid", "smoke" if chosen.smoke else "default", {**result, "sets": by_size})


if __name__ == "__main__":
    main()
