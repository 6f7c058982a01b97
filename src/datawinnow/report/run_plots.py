"""The plots of a run: the data map, score histograms, training."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from datawinnow.report.svg import DROPPED, INK, KEPT, MUTED, canvas, styled, to_svg

POINTS = 3000
"""Points drawn in a data map at most: more would only cover each other and swell the page."""


def data_map(mean: np.ndarray, std: np.ndarray, kept: np.ndarray) -> Markup | None:
    """Mean of ``p_label`` against its spread over epochs, kept and dropped; None where neither is known."""
    known = np.flatnonzero(np.isfinite(mean) & np.isfinite(std))
    if not len(known):
        return None
    if len(known) > POINTS:
        known = np.random.default_rng(0).choice(known, POINTS, replace=False)
    with styled():
        figure, axes = canvas()
        # In slices of both colours by turns, so that neither covers the other.
        for part in np.array_split(known, min(10, len(known))):
            for mask, colour in ((~kept, DROPPED), (kept, KEPT)):
                ids = part[mask[part]]
                axes.plot(mean[ids], std[ids], linestyle="none", marker="o", markersize=2.2, color=colour, alpha=0.55,
                          markeredgewidth=0)  # fmt: skip
        for colour, name in ((DROPPED, "dropped"), (KEPT, "kept")):
            axes.plot([], [], linestyle="none", marker="o", markersize=2.2, color=colour, label=name)
        axes.set_xlabel("mean probability of the label")
        axes.set_title("its standard deviation over epochs", loc="left", fontsize=9, color=MUTED)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right", frameon=False, fontsize=8.5, markerscale=3)
        return to_svg(figure, "datamap")


def histogram(values: np.ndarray, kept: np.ndarray | None, name: str) -> Markup | None:
    """How a score is distributed, kept and dropped; None where it has no finite value."""
    fine = np.isfinite(values)
    if not fine.any():
        return None
    low, high = float(values[fine].min()), float(values[fine].max())
    edges = np.linspace(low, high if high > low else low + 1, 41)
    with styled():
        figure, axes = canvas(height=2.4)
        parts = (
            [(fine, INK, "all")] if kept is None else [(fine & ~kept, DROPPED, "dropped"), (fine & kept, KEPT, "kept")]
        )
        for mask, colour, label in parts:
            counts, _ = np.histogram(values[mask], edges)
            axes.stairs(counts, edges, color=colour, linewidth=1.5, label=label)
        axes.set_xlabel("score")
        axes.set_title("examples", loc="left", fontsize=9, color=MUTED)
        axes.legend(frameon=False, fontsize=8.5)
        return to_svg(figure, name)


def training(history: pa.Table) -> Markup:
    """Training accuracy by epoch, and the test accuracy where it was measured."""
    epochs = history.column("epoch").to_numpy() + 1
    with styled():
        figure, axes = canvas(height=2.4)
        axes.plot(epochs, 100 * history.column("accuracy").to_numpy(), color=KEPT, linewidth=1.5, label="training")
        if "test_accuracy" in history.column_names:
            test = np.array(history.column("test_accuracy").to_pylist(), dtype=float)
            seen = np.isfinite(test)
            if seen.any():
                axes.plot(
                    epochs[seen], 100 * test[seen], color=INK, marker="o", markersize=5, linestyle="none", label="test"
                )
        axes.set_xlabel("epoch")
        axes.set_title("accuracy, %", loc="left", fontsize=9, color=MUTED)
        axes.legend(frameon=False, fontsize=8.5, loc="lower right")
        return to_svg(figure, "training")
