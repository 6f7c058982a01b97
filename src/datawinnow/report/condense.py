"""The page of a condensation: snapshots of the images, accuracies of the judging networks, a projection."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from datawinnow.core.artifact_schemas import CondenseFile, CurveFile, ProjectionFile
from datawinnow.core.artifacts import read_json
from datawinnow.core.counts import many
from datawinnow.core.duration import duration
from datawinnow.report.svg import CARD, INK, MARKERS, MUTED, SERIES, canvas, styled, to_svg

CURVE_FILE, RUN_FILE, PROJECTION_FILE = "curve.json", "run.json", "projection.json"


def is_condensed(folder: Path) -> bool:
    """Whether a folder holds a condensation."""
    return (folder / CURVE_FILE).is_file() and (folder / RUN_FILE).is_file()


def condense_context(folder: Path) -> dict[str, Any]:
    """Template variables of the page of a condensation.

    Raises:
        RunError: a file is truncated, newer, or incomplete.
    """
    metadata = read_json(folder / RUN_FILE, schema=CondenseFile)
    rows = [row for row in read_json(folder / CURVE_FILE, schema=CurveFile)["rows"] if row["accuracies"]]
    projection = None
    if (folder / PROJECTION_FILE).is_file():
        projection = read_json(folder / PROJECTION_FILE, schema=ProjectionFile)
    figures = []
    states = [row for row in rows if row.get("iteration") is not None]
    if len(states) > 1:
        figures.append(
            {"svg": _curve_plot(rows), "title": "Accuracy by iteration", "caption": _judging_caption(metadata)}
        )
    if projection is not None:
        figures.append(
            {
                "svg": _projection_plot(projection, metadata["dataset"].get("classes", [])),
                "title": "Real and synthetic images in one plane",
                "caption": "Small points are real images, large ones synthetic, coloured by class, in the "
                f"features of a network with an accuracy of {100 * projection['accuracy']:.0f}% on these real images.",
            }
        )
    return {
        "title": str(metadata.get("name", folder.name)),
        "about": _data_and_method(metadata),
        "lead": _lead(metadata, rows),
        "unfinished": metadata["status"].get("condense") != "done",
        "figures": figures,
        "sheets": _sheets(folder),
        "layout": "Class by class" if metadata["options"].get("per_class") == 1 else "Each row is a class",
        "rows": [_table_row(row) for row in rows],
        "options": [(str(k), str(v)) for k, v in metadata["options"].items() if k != "load"],
        "cost": _cost_sentence(metadata),
        "made": _provenance_rows(metadata),
    }


def _data_and_method(metadata: dict[str, Any]) -> str:
    data, options = metadata["dataset"], metadata["options"]
    shape, count = "x".join(str(side) for side in data.get("shape", [])), options.get("per_class")
    return (
        f"{data.get('name')}: {data.get('n', 0):,} real images ({shape}), {len(data.get('classes', []))} classes; "
        f"method {options.get('method')}, {count} image{'' if count == 1 else 's'} a class, network "
        f"{options.get('network')}."
    )


def _lead(metadata: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    by_set = {row["set"]: row for row in rows}
    last = by_set.get(f"iteration {metadata['options'].get('iterations')}")
    if last is None:
        return "The result has not been evaluated on held-out data."
    accuracy = format_accuracies(last["accuracies"])
    text = f"Networks trained on the synthetic images reach {accuracy} on held-out data."
    if "random" not in by_set:
        return text
    gain = 100 * (statistics.fmean(last["accuracies"]) - statistics.fmean(by_set["random"]["accuracies"]))
    random = format_accuracies(by_set["random"]["accuracies"])
    return f"{text} As many random real images give {random}: {gain:+.1f} points."


def format_accuracies(accuracies: Sequence[float]) -> str:
    """Mean and population standard deviation in percent; the mean alone for one network.

    >>> format_accuracies([0.5, 0.7]), format_accuracies([0.5])
    ('60.0 ± 10.0%', '50.0%')
    """
    if len(accuracies) == 1:
        return f"{100 * accuracies[0]:.1f}%"
    return f"{100 * statistics.fmean(accuracies):.1f} ± {100 * statistics.pstdev(accuracies):.1f}%"


def _judging_caption(metadata: dict[str, Any]) -> str:
    judged = metadata["judged"]
    return (
        f"Accuracy on {judged.get('test'):,} held-out images of fresh networks trained on the snapshot, after the last "
        f"of {many(judged.get('epochs') or 0, 'epoch')}. Bars: one standard deviation over networks. It chooses "
        "nothing."
    )


def _curve_plot(rows: Sequence[dict[str, Any]]) -> Markup:
    with styled():
        figure, axes = canvas()
        states = sorted((row for row in rows if row.get("iteration") is not None), key=lambda row: row["iteration"])
        xs = [row["iteration"] for row in states]
        ys = [100 * statistics.fmean(row["accuracies"]) for row in states]
        bars = [100 * statistics.pstdev(row["accuracies"]) for row in states]
        axes.errorbar(
            xs,
            ys,
            bars,
            color=SERIES[0],
            marker="o",
            markersize=5,
            linewidth=1.4,
            elinewidth=1.1,
            markeredgecolor=CARD,
            markeredgewidth=0.6,
        )
        for row in rows:
            if row.get("iteration") is None:
                level = 100 * statistics.fmean(row["accuracies"])
                axes.axhline(level, color=INK, linewidth=0.9, linestyle="--", zorder=1.5)
                axes.annotate(
                    f"{row['set']} real images",
                    (xs[-1], level),
                    (0, 3),
                    textcoords="offset points",
                    fontsize=8.5,
                    color=INK,
                    ha="right",
                )
        axes.set_xlabel("iteration")
        axes.set_title("held-out accuracy, %", loc="left", fontsize=9, color=MUTED)
        axes.grid(visible=False, axis="x")
        return to_svg(figure, "condense-curve")


def _projection_plot(points: dict[str, Any], classes: Sequence[Any]) -> Markup:
    with styled():
        figure, axes = canvas(4.6, 4.0)
        labels = sorted({int(point[2]) for point in points["real"]})
        for i, label in enumerate(labels):
            colour, marker = SERIES[i % len(SERIES)], MARKERS[i // len(SERIES) % len(MARKERS)]
            real = [point for point in points["real"] if point[2] == label]
            synthetic = [point for point in points["synthetic"] if point[2] == label]
            name = str(classes[label]) if label < len(classes) else str(label)
            axes.scatter(
                [p[0] for p in real], [p[1] for p in real], s=6, color=colour, marker=marker, alpha=0.45, linewidths=0
            )
            axes.scatter(
                [p[0] for p in synthetic],
                [p[1] for p in synthetic],
                s=60,
                color=colour,
                marker=marker,
                linewidths=1.0,
                edgecolors=INK,
                zorder=3,
                label=name,
            )
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


def _table_row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "set": str(row["set"]),
        "accuracy": format_accuracies(row["accuracies"]),
        "networks": str(len(row["accuracies"])),
        "seconds": duration(float(row.get("seconds", 0.0))),
    }


def _cost_sentence(metadata: dict[str, Any]) -> str | None:
    cost = metadata.get("cost") or {}
    if not cost:
        return None
    seen = cost.get("images_seen") or {}
    forward, backward = (f"{int(seen.get(direction, 0)):,}" for direction in ("forward", "backward"))
    text = f"Condensing took {duration(float(cost['seconds']))} and passed {backward} images forward and backward, "
    text += f"{forward} forward only, with {cost.get('memory', 0) / 1e9:.1f} GB of memory at the peak. "
    outside = float((metadata.get("result") or {}).get("outside", 0.0))
    return text + f"{100 * outside:.1f}% of the pixels lie outside [0, 1] and are clipped in images."


def _provenance_rows(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(key, metadata.get(key)) for key in ("created", "seed", "commit", "device", "threads")]
    rows += [("dataset fingerprint", metadata["dataset"].get("fingerprint")), *(metadata.get("versions") or {}).items()]
    return [(str(k), str(v)) for k, v in rows if v not in (None, "")]
