"""The page of a condensation: images as they grew, what networks make of them, where they lie among real ones."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from datawinnow.core.duration import duration
from datawinnow.core.errors import RunError
from datawinnow.core.files import read_json
from datawinnow.report.svg import CARD, INK, MARKERS, MUTED, SERIES, canvas, styled, to_svg

CURVE, RUN, PROJECTION = "curve.json", "run.json", "projection.json"
CLASSES = len(SERIES)
"""Classes told apart by colour; beyond, colours repeat with other markers."""


def is_condensed(folder: Path) -> bool:
    """Whether a folder holds a condensation."""
    return (folder / CURVE).is_file() and (folder / RUN).is_file()


def condense_context(folder: Path) -> dict[str, Any]:
    """What the page of a condensation shows.

    Raises:
        RunError: a file is truncated, newer, or lacks something.
    """
    metadata = read_json(folder / RUN)
    for key in ("dataset", "options", "judged", "status"):
        if not isinstance(metadata.get(key), dict):
            raise RunError(f"{folder / RUN} lacks {key!r}: it was not written by datawinnow, or is damaged")
    rows = [row for row in read_json(folder / CURVE).get("rows", []) if row.get("accuracies")]
    projected = read_json(folder / PROJECTION) if (folder / PROJECTION).is_file() else None
    figures = []
    states = [row for row in rows if row.get("iteration") is not None]
    if len(states) > 1:
        figures.append({"svg": _curve(rows), "title": "Accuracy by iteration", "says": _judged(metadata)})
    if projected is not None:
        figures.append(
            {
                "svg": _projection(projected, metadata["dataset"].get("classes", [])),
                "title": "Real and synthetic images in one plane",
                "says": "Small points are real images, large ones synthetic, in their classes' colours, in "
                f"features of a network that has {100 * projected['accuracy']:.0f}% of these real images right.",
            }
        )
    return {
        "title": str(metadata.get("name", folder.name)),
        "about": _about(metadata),
        "lead": _lead(metadata, rows),
        "unfinished": metadata["status"].get("condense") != "done",
        "figures": figures,
        "sheets": _sheets(folder),
        "laid_out": "Class by class" if metadata["options"].get("per_class") == 1 else "A class a row",
        "rows": [_row(row) for row in rows],
        "options": [(str(k), str(v)) for k, v in metadata["options"].items() if k != "load"],
        "cost": _cost(metadata),
        "made": _made(metadata),
    }


def _about(metadata: dict[str, Any]) -> str:
    data, options = metadata["dataset"], metadata["options"]
    shape = "x".join(str(side) for side in data.get("shape", []))
    return (
        f"{data.get('name')}: {data.get('n', 0):,} real images ({shape}), {len(data.get('classes', []))} classes; "
        f"method {options.get('method')}, {a_class(metadata)}, network {options.get('network')}."
    )


def a_class(metadata: dict[str, Any]) -> str:
    """How many images a class, in words."""
    count = metadata["options"].get("per_class")
    return f"{count} image{'' if count == 1 else 's'} a class"


def _lead(metadata: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    by_set = {row["set"]: row for row in rows}
    last = by_set.get(f"iteration {metadata['options'].get('iterations')}")
    if last is None:
        return "The result has not been judged on held-out data."
    made = spread(last["accuracies"])
    text = f"Networks trained on the synthetic images reach {made} on held-out data."
    if "random" not in by_set:
        return text
    gain = 100 * (statistics.fmean(last["accuracies"]) - statistics.fmean(by_set["random"]["accuracies"]))
    random = spread(by_set["random"]["accuracies"])
    return f"{text} As many random real images give {random}: {gain:+.1f} points."


def spread(accuracies: Sequence[float]) -> str:
    """Mean and population standard deviation in percent; of one network there is none.

    >>> spread([0.5, 0.7]), spread([0.5])
    ('60.0 ± 10.0%', '50.0%')
    """
    if len(accuracies) == 1:
        return f"{100 * accuracies[0]:.1f}%"
    return f"{100 * statistics.fmean(accuracies):.1f} ± {100 * statistics.pstdev(accuracies):.1f}%"


def _judged(metadata: dict[str, Any]) -> str:
    judged = metadata["judged"]
    return (
        f"Fresh networks trained on the images as they were then, after the last of {judged.get('epochs'):,} epochs, "
        f"on {judged.get('test'):,} held-out images. Bars: one standard deviation over networks. It chooses nothing."
    )


def _curve(rows: Sequence[dict[str, Any]]) -> Markup:
    with styled():
        figure, axes = canvas()
        states = sorted((row for row in rows if row.get("iteration") is not None), key=lambda row: row["iteration"])
        xs = [row["iteration"] for row in states]
        ys = [100 * statistics.fmean(row["accuracies"]) for row in states]
        bars = [100 * statistics.pstdev(row["accuracies"]) for row in states]
        axes.errorbar(xs, ys, bars, color=SERIES[0], marker="o", markersize=5, linewidth=1.4, elinewidth=1.1,
                      markeredgecolor=CARD, markeredgewidth=0.6)  # fmt: skip
        for row in rows:
            if row.get("iteration") is None:
                level = 100 * statistics.fmean(row["accuracies"])
                axes.axhline(level, color=INK, linewidth=0.9, linestyle="--", zorder=1.5)
                axes.annotate(f"{row['set']} real images", (xs[-1], level), (0, 3), textcoords="offset points",
                              fontsize=8.5, color=INK, ha="right")  # fmt: skip
        axes.set_xlabel("iteration")
        axes.set_title("held-out accuracy, %", loc="left", fontsize=9, color=MUTED)
        axes.grid(visible=False, axis="x")
        return to_svg(figure, "condense-curve")


def _projection(points: dict[str, Any], classes: Sequence[Any]) -> Markup:
    with styled():
        figure, axes = canvas(4.6, 4.0)
        labels = sorted({int(point[2]) for point in points["real"]})
        for i, label in enumerate(labels):
            colour, marker = SERIES[i % CLASSES], MARKERS[i // CLASSES % len(MARKERS)]
            real = [point for point in points["real"] if point[2] == label]
            made = [point for point in points["synthetic"] if point[2] == label]
            name = str(classes[label]) if label < len(classes) else str(label)
            axes.scatter([p[0] for p in real], [p[1] for p in real], s=6, color=colour, marker=marker, alpha=0.45,
                         linewidths=0)  # fmt: skip
            axes.scatter([p[0] for p in made], [p[1] for p in made], s=60, color=colour, marker=marker, linewidths=1.0,
                         edgecolors=INK, zorder=3, label=name)  # fmt: skip
        if len(labels) <= 12:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8, title="class")
        axes.set_xlabel("first direction")
        axes.set_ylabel("second direction")
        axes.set_xticks([])
        axes.set_yticks([])
        return to_svg(figure, "condense-projection")


def _sheets(folder: Path) -> list[dict[str, str]]:
    files = sorted((folder / "snapshots").glob("*.png"))
    names = ["At the start"] + [f"After {int(file.stem):,} iterations" for file in files[1:-1]] + ["At the end"]
    if len(files) == 1:
        names = ["At the start"]
    return [
        {"title": name, "src": "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()}
        for name, file in zip(names, files, strict=False)
    ]


def _row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "set": str(row["set"]), "accuracy": spread(row["accuracies"]), "networks": str(len(row["accuracies"])),
        "seconds": duration(float(row.get("seconds", 0.0))),
    }  # fmt: skip


def _cost(metadata: dict[str, Any]) -> str | None:
    cost = metadata.get("cost") or {}
    if not cost:
        return None
    passed = cost.get("passed") or {}
    forward, backward = (f"{int(passed.get(way, 0)):,}" for way in ("forward", "backward"))
    text = f"Condensing took {duration(float(cost['seconds']))} and passed {backward} images forward and backward, "
    text += f"{forward} forward only, with {cost.get('memory', 0) / 1e9:.1f} GB of memory at the peak. "
    outside = float((metadata.get("result") or {}).get("outside", 0.0))
    return text + f"{100 * outside:.1f}% of the pixels lie outside of [0, 1] and are clipped in images."


def _made(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    made = [(key, metadata.get(key)) for key in ("created", "seed", "commit", "device", "threads")]
    made += [("dataset fingerprint", metadata["dataset"].get("fingerprint")), *(metadata.get("versions") or {}).items()]
    return [(str(k), str(v)) for k, v in made if v not in (None, "")]
