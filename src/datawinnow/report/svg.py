"""Matplotlib figures as SVG that sits inside the page: its colours and its font are the page's own.

Every colour drawn is one of `PALETTE`; in the SVG it becomes ``var(--name)``, so a figure turns dark with the page.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# name: (light, dark). Distinguishable with the common kinds of colour blindness, at least 3:1 against their background.
# The light values are also the sentinels in the SVG, so they are all different.
PALETTE: dict[str, tuple[str, str]] = {
    "ink": ("#1c2127", "#e6e9ed"),
    "muted": ("#5d6671", "#9aa4b0"),
    "rule": ("#dfe3e8", "#343b44"),
    "card": ("#fefefe", "#1a1e24"),
    "c1": ("#0b62b0", "#5fb0f5"),
    "c2": ("#c2500a", "#f79a5b"),
    "c3": ("#00795c", "#45c9a2"),
    "c4": ("#a03a8c", "#e08ccd"),
    "c5": ("#8a6a00", "#d9b93c"),
    "c6": ("#5146b8", "#a9a2f7"),
    "c7": ("#b02a3e", "#f58894"),
    "c8": ("#2a7f95", "#6fcbe0"),
}
INK, MUTED, RULE, CARD = (PALETTE[name][0] for name in ("ink", "muted", "rule", "card"))
SERIES = tuple(PALETTE[f"c{i}"][0] for i in range(1, 9))
KEPT, DROPPED = SERIES[0], SERIES[1]
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "*", ">", "h")

_STYLE: Any = {
    "svg.fonttype": "none",  # real text: small, selectable, in the page's font
    "svg.image_inline": True,
    "text.parse_math": False,  # a "$" in a label is a "$"
    "path.simplify": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "font.size": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.unicode_minus": True,
}


@contextmanager
def styled() -> Iterator[None]:
    """The report's style while figures are made and drawn; matplotlib's settings are put back afterwards."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The browser has the letters (of class names in any script) that the measuring font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def canvas(width: float = 4.6, height: float = 3.0) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, small enough that its text is readable on a phone (72 units an inch)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with some pairs of axes side by side, each with scales of its own."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def to_svg(figure: Figure, name: str) -> Markup:
    """The figure as an ``<svg>`` element.

    Args:
        figure: drawn within `styled`.
        name: letters, digits and dashes; unique in the page, since it prefixes every id.

    Returns:
        Markup, the same bytes each time.
    """
    # Attaches itself to the figure; without pyplot there is no global state.
    FigureCanvasSVG(figure)
    out = io.StringIO()
    # Ids are hashes with a random salt by default, which would change the page each time.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = out.getvalue()
    # Without the XML declaration and doctype, which are not allowed inside HTML.
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    head, body = text.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    # Sizes come from the stylesheet; the words around a figure tell what it shows: screen readers skip the drawing.
    head = f'<svg {view.group(0) if view else ""} role="presentation" aria-hidden="true" focusable="false"'
    # Ids are global in a page: those of two figures would clash.
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'xlink:href="#', f'href="#{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    for key, (light, _) in PALETTE.items():
        body = re.sub(rf"(fill|stroke): {light}", rf"\1: var(--{key})", body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    return Markup(f"{head}>{body}")  # matplotlib escapes the text that it draws


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, at least ``gap`` apart where [low, high] has room, in the same order.

    >>> spread([1.0, 1.1, 5.0], 1.0, 0.0, 10.0)
    [0.55, 1.55, 5.0]
    """
    if not positions:
        return []
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    # Where the range is too short for the gap, positions are as far apart as they can be.
    gap = min(gap, (high - low) / max(1, len(positions) - 1))
    groups: list[tuple[float, int]] = []  # centre and size of runs that touch
    for i in order:
        centre, size = positions[i], 1
        while True:
            centre = min(max(centre, low + gap * (size - 1) / 2), high - gap * (size - 1) / 2)
            if (
                not groups
                or groups[-1][0] + gap * (groups[-1][1] - 1) / 2 + gap <= centre - gap * (size - 1) / 2 + 1e-12
            ):
                break
            before, count = groups.pop()
            # Runs that touch merge around their weighted mean, as pool adjacent violators does.
            centre, size = (before * count + centre * size) / (count + size), count + size
        groups.append((centre, size))
    flat = [centre + gap * (k - (size - 1) / 2) for centre, size in groups for k in range(size)]
    placed = dict(zip(order, flat, strict=True))
    return [round(placed[i], 10) for i in range(len(positions))]


def standalone(drawing: str, title: str) -> str:
    """A figure of `to_svg` as a file of its own: light or dark as the reader's screen, and named for who cannot see it.

    Args:
        drawing: a result of `to_svg`.
        title: what it shows.

    Raises:
        ValueError: ``drawing`` is no such figure.
    """
    head, mark, body = str(drawing).partition(">")  # a Markup would escape what is put into it
    if not head.startswith("<svg") or not mark:
        raise ValueError(f"drawing must be a result of to_svg, got {drawing[:20]!r}")
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in PALETTE.items()) for i in range(2))
    look = "font-family:system-ui,sans-serif;background:var(--card)"
    style = f"svg{{{light}{look}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
    head = head.replace('role="presentation" aria-hidden="true" focusable="false"', 'role="img"')
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    return f"{head}><title>{escape(title)}</title><style>{style}</style>{body}\n"
