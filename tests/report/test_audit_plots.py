"""The figures of an audit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from datawinnow.report import audit_plots


@pytest.mark.parametrize("number", [2, 4, 20])
def test_the_words_of_the_picture_of_confusions_lie_inside_it(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(audit_plots, "to_svg", lambda figure, name: figures.append(figure) or "")
    names = [f"class number {k:02d}" for k in range(number)]
    audit_plots.confusion(Counter({(a, b): 3 for a in names for b in names if a != b}))
    figure = figures[0]
    renderer = FigureCanvasAgg(figure).get_renderer()
    for text in figure.axes[0].texts:
        box = text.get_window_extent(renderer)
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert inside, text.get_text()
