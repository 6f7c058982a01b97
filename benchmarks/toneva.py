"""Accuracy when a window of increasingly forgotten examples is left out of training, against as many at random.

After Toneva et al. 2019 (arXiv 1812.05159, figure 6): examples are sorted by how often they were forgotten, a window of
30% is left out at five places, and the rest is trained on from scratch. Rows and recordings are kept in results/toneva,
so that a run that was killed goes on; recordings of `datawinnow bench benchmarks/cifar10_cpu.toml` are used where they
are there. "Times forgotten" counts an example that was never learned as forgotten in every epoch, as its score does.
`--full` takes half an hour on two idle cores, more without recordings.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup
from measuring import arguments, finish, say
from torch import Tensor

from datawinnow.bench.cell import datasets_of, recording_done, recording_folder, run_cell
from datawinnow.bench.grid import Cell, Grid
from datawinnow.bench.grid_file import read_grid
from datawinnow.core import provenance
from datawinnow.core.artifacts import FORMAT_VERSION, check_format
from datawinnow.core.errors import RunError
from datawinnow.core.files import write_bytes
from datawinnow.core.interval import Interval, interval
from datawinnow.core.rng import forked, stream
from datawinnow.core.selection import Selection
from datawinnow.core.verdict import compare
from datawinnow.data.kept import Kept
from datawinnow.models import build
from datawinnow.record import read_column
from datawinnow.report.svg import CARD, INK, KEPT, MUTED, PALETTE, canvas, styled, to_svg
from datawinnow.runs.folder import RunFolder
from datawinnow.scores import forgetting
from datawinnow.train import fit

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "toneva"
RECORDED = (ROOT / "results" / "cifar10_cpu_methods", ROOT / "results" / "cifar10_cpu")
"""Results of the standing experiment, whose recordings are those that `--full` needs."""
REMOVED = 0.3
STARTS = (0.0, 0.175, 0.35, 0.525, 0.7)
RANDOM = "random"
RATE = {"digits": 6_000, "cifar10": 4_400}
"""Examples that an idle 2-core machine passes in a second."""
Row = dict[str, Any]


def grid_of(size: str) -> Grid:
    """How the networks are trained, and with which seeds."""
    if size == "full":
        grid = read_grid(Path(__file__).parent / "cifar10_cpu.toml")
        return grid.model_copy(update={"seeds": grid.seeds[:3]})
    smoke = size == "smoke"
    return Grid.model_validate(
        {
            "name": "toneva",
            "data": {"source": "digits", **({"limit": 300} if smoke else {})},
            "train": {"model": "resnet8", "epochs": 4 if smoke else 30, "lr": 0.1, "precision": "fp32"},
            "methods": ["full", "random"],
            "keep": [1 - REMOVED],
            "seeds": [0, 1] if smoke else [0, 1, 2],
        }
    )


def removals(score: Tensor, seed: int) -> dict[str, Tensor]:
    """Which examples each condition leaves out.

    Args:
        score: (n,) forgetting events; most examples tie at 0, and ties are in random order, since the order of a
            dataset is often that of its classes.
        seed: of that order, and of those left out at random.

    Returns:
        Name -> (round(0.3 n),) int64 ids: the windows by the rank that they start at, and ``"random"``.
    """
    n = len(score)
    count = round(REMOVED * n)
    shuffled = torch.randperm(n, generator=stream(seed, "toneva", "ties"))
    rising = shuffled[torch.argsort(score[shuffled], stable=True)]
    windows = {f"{start:g}": rising[(first := min(round(start * n), n - count)) : first + count] for start in STARTS}
    return {**windows, RANDOM: torch.randperm(n, generator=stream(seed, "toneva", "random"))[:count]}


def recording(grid: Grid, seed: int, out: Path, earlier: Sequence[Path]) -> tuple[Path, float]:
    """Folder of the clean recording of a seed, recorded into ``out`` if it is missing, and its accuracy.

    Raises:
        RunError: the recording in ``others`` is of other data or epochs.
    """
    train, _ = datasets_of(grid)
    cell = Cell(kind="full", method="full", keep=1.0, seed=seed, scenario="clean")
    for place in earlier:
        folder = recording_folder(cell, place)
        if recording_done(cell, place):
            run = RunFolder.open(folder)
            if (run.dataset.fingerprint, run.epochs) != (train.fingerprint, grid.recorded_epochs):
                raise RunError(f"{folder} was recorded on other data or for other epochs: move it away")
            return folder, float(run.metadata["result"]["test_accuracy"])
    return recording_folder(cell, out), float(run_cell(grid, cell, out)["accuracy"])


def train_without(grid: Grid, removed: Tensor, seed: int) -> Row:
    """Train from scratch on all but some examples, for as many epochs as on all."""
    train, test = datasets_of(grid)
    kept = torch.ones(len(train), dtype=torch.bool)
    kept[removed] = False
    with forked(seed, "weights"):
        model = build(grid.train.model or "resnet8", shape=train.shape, classes=len(train.classes))
    data = Kept(train, Selection.of(kept.nonzero().flatten(), len(train)))
    _, history = fit(model, data, epochs=grid.train.epochs, test=test, seed=seed, recipe=grid.train.recipe())
    return {"accuracy": history.test_accuracy, "test_loss": history.test_loss, "cost": history.cost.as_dict()}


def read_rows(path: Path, same: Row) -> list[Row]:
    """Rows that are there.

    Raises:
        RunError: a damaged line, or a row made under other settings.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else [], 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise RunError(f"{path}, line {number}: {error}; remove the line to run it again") from None
        check_format(row.get("format"), path)
        if any(row.get(key) != value for key, value in same.items()):
            raise RunError(f"{path}, line {number} was made under other settings: move the file away to start anew")
        rows.append(row)
    return rows


def measure(grid: Grid, out: Path, earlier: Sequence[Path] = ()) -> dict[str, Any]:
    """Run every condition and seed that has no row in ``out`` yet, and compare them."""
    train, _ = datasets_of(grid)
    n, epochs = len(train), grid.train.epochs
    file = out / "rows.jsonl"
    same = {"n": n, "epochs": epochs, "fingerprint": train.fingerprint, "recipe": grid.train.recipe().metadata()}
    rows = read_rows(file, same)
    todo = len(grid.seeds) * (len(STARTS) + 1) - len(rows)
    rate = RATE["digits" if grid.data.source == "digits" else "cifar10"]
    passes = todo * round((1 - REMOVED) * n) * epochs
    say(f"{todo} trainings to do, about {passes / rate:,.0f} s on 2 idle cores, beside missing recordings; in {out}")
    full = []
    for seed in grid.seeds:
        folder, accuracy = recording(grid, seed, out, earlier)
        full.append(accuracy)
        signals = folder / "signals"
        score = forgetting(read_column(signals, "correct"), read_column(signals, "seen"))
        for name, removed in removals(score, seed).items():
            if any((row["removed"], row["seed"]) == (name, seed) for row in rows):
                continue
            row = {"format": FORMAT_VERSION, "removed": name, "seed": seed, "count": len(removed), **same}
            row |= {"forgetting": float(score[removed].mean()), "never": float((score[removed] == 0).float().mean())}
            row |= {**train_without(grid, removed, seed), "commit": provenance.commit(), "finished": provenance.now()}
            rows.append(row)
            write_bytes(file, "".join(json.dumps(each, allow_nan=False) + "\n" for each in rows).encode())
            say(f"seed {seed}, without {name:6} (forgotten {row['forgetting']:.2f} times): {row['accuracy']:.4f}")
    result = {"n": n, "epochs": epochs, "seeds": len(grid.seeds), "full": full, "removed": summary(rows)}
    write_bytes(out / "toneva.svg", image(result).encode())
    return {**result, "recordings": str(folder.parent), "svg": str(out / "toneva.svg")}


def summary(rows: Sequence[Row]) -> dict[str, Row]:
    """What each condition reached: mean over seeds with its 95% interval, and the difference to random, by seed."""
    by: dict[str, dict[int, Row]] = {}
    for row in rows:
        by.setdefault(row["removed"], {})[row["seed"]] = row
    reached = {name: {seed: row["accuracy"] for seed, row in each.items()} for name, each in by.items()}
    rows_by_condition: dict[str, Row] = {}
    for name, each in by.items():
        accuracy = interval(list(reached[name].values()))
        rows_by_condition[name] = {"accuracy": accuracy.mean, "half": accuracy.half, "seeds": len(each)}
        for key in ("forgetting", "never"):
            rows_by_condition[name][key] = sum(row[key] for row in each.values()) / len(each)
        against = None if name == RANDOM else compare(reached[name], reached.get(RANDOM, {}))
        if against is not None:
            rows_by_condition[name] |= {"to_random": against.difference, "to_random_half": against.half}
            rows_by_condition[name]["verdict"] = against.outcome
    return rows_by_condition


def image(result: Row) -> str:
    """Accuracy against where the window starts, as an SVG file of its own that turns dark with its reader."""
    removed = result["removed"]
    windows = [name for name in removed if name != RANDOM]
    places = [100 * float(name) for name in windows]
    with styled():
        figure, axes = canvas(height=3.2)
        for label, value, colour, dash in (
            ("everything\nkept", interval(result["full"]), INK, "-"),
            ("as many\nat random", Interval(removed[RANDOM]["accuracy"], removed[RANDOM]["half"], 0), MUTED, "--"),
        ):
            axes.axhline(100 * value.mean, color=colour, linewidth=1, linestyle=dash)
            if value.half:
                axes.axhspan(100 * value.low, 100 * value.high, color=colour, alpha=0.1, linewidth=0)
            axes.annotate(label, (1, 100 * value.mean), (5, 0), xycoords=("axes fraction", "data"),
                          textcoords="offset points", va="center", fontsize=8.5, color=colour)  # fmt: skip
        axes.errorbar(
            places, [100 * removed[name]["accuracy"] for name in windows],
            [100 * (removed[name]["half"] or 0.0) for name in windows],
            color=KEPT, marker="o", markersize=6, markeredgecolor=CARD, linewidth=1.5, elinewidth=1.1,
        )  # fmt: skip
        axes.set_xticks(
            places, [f"{p:g}%\n{removed[name]['forgetting']:.1f}" for p, name in zip(places, windows, strict=True)]
        )
        axes.set_xlabel("rank where the window starts; below: times forgotten")
        axes.set_title(f"test accuracy, %, without {REMOVED:.0%} of the examples", loc="left", fontsize=9, color=MUTED)
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.08, y=0.12)
        return alone(to_svg(figure, "toneva"))


def alone(drawn: Markup) -> str:
    """An ``<svg>`` element of a page as a file: with its namespace, its colours and a background."""
    light = "".join(f"--{name}: {pair[0]}; " for name, pair in PALETTE.items())
    dark = "".join(f"--{name}: {pair[1]}; " for name, pair in PALETTE.items())
    style = (
        f"<style>:root {{ {light} font-family: system-ui, sans-serif; background: var(--card); }} "
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}</style>"
    )
    head, body = str(drawn).split(">", 1)
    return head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + f">{style}{body}\n"


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    grid = grid_of(chosen)
    if chosen == "smoke":
        with tempfile.TemporaryDirectory() as name:
            result = measure(grid, Path(name))
    else:
        result = measure(grid, RESULTS / chosen, RECORDED if chosen == "full" else ())
    for name, row in result["removed"].items():
        against = f"{100 * row['to_random']:+.2f} points against random, {row['verdict']}" if "verdict" in row else ""
        say(f"without {name:6} {100 * row['accuracy']:.2f}%  forgotten {row['forgetting']:.2f} times  {against}")
    finish("toneva", chosen, {"goal": "none: Toneva's figure at CPU scale", **result})


if __name__ == "__main__":
    main()
