"""The page of an audit: counts, figures, and a table of all issues to sort, filter and decide on; ``audit.html``.

The rows are data in the page, drawn fifty at a time by a script whose hash is the only one that the page's policy
lets run. So nothing that a dataset holds can become part of the page, or run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from datawinnow.core.artifacts import read_table
from datawinnow.core.counts import many
from datawinnow.core.errors import RunError
from datawinnow.core.files import write_bytes
from datawinnow.core.issues import (
    CLASS_ISSUES,
    DUPLICATE_KINDS,
    EXAMPLE_ISSUES,
    ISSUE_EXAMPLES_FILE,
    ISSUE_KINDS,
    KEEP_RULE,
    LEARNING_FILE,
    RELABEL,
    REMEDY_COMMAND,
    IssueTable,
    read_issues,
)
from datawinnow.report import audit_plots
from datawinnow.report.page import render, template_source

AUDIT_PAGE_FILE = "audit.html"
MAX_ROW_BYTES = 16_000_000
"""Bytes of the rows in the page; of more issues the least severe are left to the file."""
MAX_PAGE_BYTES = 19_000_000
"""Bytes of rows and images together."""
MAX_CLASS_ISSUES = 200
MAX_EVIDENCE = 300
"""Letters of the evidence of a row."""
MAX_SHOWN_TEXT = 300
"""Letters of a text in the page."""
SHARP_SIDE = 48
"""Images up to so many pixels are drawn with sharp pixels."""


def write_audit_page(folder: Path | str, out: Path | str | None = None) -> Path:
    """Write the page of an audit.

    Args:
        folder: the folder that holds ``issues.parquet``; ``issue_examples.parquet`` and ``learning.parquet`` beside it
            are used where they are.
        out: the page; ``audit.html`` in that folder when None.

    Returns:
        Where the page is.

    Raises:
        RunError: there is no table of issues, or a file is damaged or of another dataset.
    """
    folder = Path(folder)
    table, metadata = read_issues(folder)
    examples = _optional_table(folder / ISSUE_EXAMPLES_FILE, metadata)
    learning = _optional_table(folder / LEARNING_FILE, metadata)
    target = Path(out) if out is not None else folder / AUDIT_PAGE_FILE
    page = render("audit.html", audit_context(table, metadata, examples, learning))
    write_bytes(target, page.encode("utf-8", "replace"))
    return target


def _optional_table(path: Path, metadata: Mapping[str, Any]) -> pa.Table | None:
    if not path.exists():
        return None
    columns, about = read_table(path, REMEDY_COMMAND)
    if about.get("fingerprint") != metadata["fingerprint"]:
        raise RunError(
            f"{path} is of the fingerprint {about.get('fingerprint')}, issues.parquet of {metadata['fingerprint']}; "
            f"make both again with: {REMEDY_COMMAND}"
        )
    return columns


def audit_context(
    table: IssueTable, metadata: Mapping[str, Any], examples: pa.Table | None = None, learning: pa.Table | None = None
) -> dict[str, Any]:
    """The values of the template.

    Args:
        table: the issues.
        metadata: as `read_issues` gives it.
        examples: ``split``, ``example`` and ``image`` (bytes of WebP) or ``text``, of examples with issues.
        learning: ``p_mean`` and ``p_std`` of every train example, in order: the data map.
    """
    rows = [issue for issue in table if issue.issue in EXAMPLE_ISSUES]
    classes = [issue for issue in table if issue.issue in CLASS_ISSUES]
    payload, left_out = page_data(IssueTable(tuple(rows)), metadata, examples)
    script = template_source("audit.js")
    return {
        "title": f"Audit of {metadata['dataset']}",
        "about": " and ".join(f"{count:,} {split} examples" for split, count in metadata["n"].items())
        + f", {many(len(metadata.get('classes', [])), 'class', 'classes')}.",
        "lead": _audit_lead(rows, classes),
        "notes": [str(note) for note in metadata.get("notes", [])],
        "counts": _count_rows(table),
        "keep_rule": KEEP_RULE if any(issue.issue in DUPLICATE_KINDS for issue in rows) else "",
        "classes": classes[:MAX_CLASS_ISSUES],
        "more_classes": max(0, len(classes) - MAX_CLASS_ISSUES),
        "figures": _figures(rows, learning),
        "has_rows": bool(rows),
        "left_out": left_out,
        "data": Markup(payload),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "made": [(name, str(metadata[name])) for name in ("fingerprint", "version", "commit") if metadata.get(name)],
    }


def _audit_lead(rows: Sequence[Any], classes: Sequence[Any]) -> str:
    if not rows and not classes:
        return "No issue was seen."
    concerned = {(issue.split, issue.example) for issue in rows}
    dropped = {(issue.split, issue.example) for issue in rows if issue.action == "drop"}
    relabelled = {(i.split, i.example) for i in rows if i.action.startswith(RELABEL)} - dropped
    sentence = f"{many(len(rows), 'issue')} of {many(len(concerned), 'example')}"
    if classes:
        sentence += f" and {many(len(classes), 'issue')} of classes"
    suggestions = [f"drop {len(dropped):,}"] * bool(dropped) + [f"relabel {len(relabelled):,}"] * bool(relabelled)
    return f"{sentence}." + (f" Suggested: {' and '.join(suggestions)} of the examples." if suggestions else "")


def _count_rows(table: IssueTable) -> list[dict[str, Any]]:
    numbers = table.counts()
    drop = Counter(issue.issue for issue in table if issue.action == "drop")
    relabel = Counter(issue.issue for issue in table if issue.action.startswith(RELABEL))
    return [
        {
            "kind": kind,
            "name": kind.replace("_", " "),
            "count": numbers[kind],
            "drop": drop[kind],
            "relabel": relabel[kind],
            "meaning": meaning,
            "of_examples": kind in EXAMPLE_ISSUES,
        }
        for kind, meaning in ISSUE_KINDS.items()
        if numbers.get(kind)
    ]


def _figures(rows: Sequence[Any], learning: pa.Table | None) -> list[dict[str, Any]]:
    figures = []
    pairs = Counter((i.label, i.suggested_label) for i in rows if i.issue == "label" and i.suggested_label)
    if pairs:
        svg, caption = audit_plots.confusion(pairs)
        figures.append({"svg": svg, "title": "Labels that are likely wrong", "caption": caption})
    if learning is not None:
        mean, std = (learning.column(name).to_numpy().astype(float) for name in ("p_mean", "p_std"))
        marks: dict[str, np.ndarray] = {}
        for kind in EXAMPLE_ISSUES:
            ids = {i.example for i in rows if i.issue == kind and i.split == "train" and i.example < len(mean)}
            if ids:
                marks[kind] = np.array(sorted(ids))
        drawn = audit_plots.issue_map(mean, std, marks)
        if drawn is not None:
            figures.append({"svg": drawn, "title": "The data map", "caption": audit_plots.ISSUE_MAP_CAPTION})
    return figures


def page_data(table: IssueTable, metadata: Mapping[str, Any], examples: pa.Table | None) -> tuple[str, str]:
    """The rows as JSON that can stand in a ``<script>`` element, and a sentence about what is left out.

    Args:
        table: issues of examples only.
        metadata: with ``classes``.
        examples: as of `audit_context`.
    """
    worst_first = _by_turns(table)
    shown_examples = {} if examples is None else _example_rows(examples)
    kept: list[int] = []
    used = 0
    for i in worst_first:
        issue = table.rows[i]
        text = (shown_examples.get((issue.split, issue.example)) or {}).get("text") or ""
        # the texts as they stand in the page ("<" takes six letters), and what the numbers between them take
        written = [issue.id, _shortened(issue.evidence, MAX_EVIDENCE), _shortened(text, MAX_SHOWN_TEXT)]
        used += len(script_json(written).encode()) + 50
        if used > MAX_ROW_BYTES:
            break
        kept.append(i)
    left_out = ""
    if len(kept) < len(table):
        left_out = f"{len(table) - len(kept):,} rows of the least severity are in issues.parquet only."
    images: list[str] = []
    image_of: dict[tuple[str, int], int] = {}
    without = 0
    for i in kept:
        place = (table.rows[i].split, table.rows[i].example)
        image = (shown_examples.get(place) or {}).get("image")
        if place in image_of or not image:
            continue
        encoded = base64.b64encode(image).decode()
        if used + len(encoded) > MAX_PAGE_BYTES:
            without += 1
            continue
        used += len(encoded)
        image_of[place] = len(images)
        images.append(encoded)
    if without:
        left_out = f"{left_out} {without:,} examples have no image here: a page holds 20 MB.".strip()
    rows = [table.rows[i] for i in sorted(kept)]
    return script_json(_page_columns(rows, metadata, shown_examples, images, image_of)), left_out


def _by_turns(table: IssueTable) -> list[int]:
    """Positions of rows, the worst of each kind by turns, so that no kind fills the page."""
    by_kind: dict[str, list[int]] = {}
    for i, issue in enumerate(table.rows):
        by_kind.setdefault(issue.issue, []).append(i)
    turns = sorted((turn, kind, i) for kind, places in by_kind.items() for turn, i in enumerate(places))
    return [i for _, _, i in turns]


def _example_rows(examples: pa.Table) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["split"], row["example"]): row for row in examples.to_pylist()}


def _page_columns(
    rows: Sequence[Any],
    metadata: Mapping[str, Any],
    shown_examples: Mapping[tuple[str, int], Mapping[str, Any]],
    images: Sequence[str],
    image_of: Mapping[tuple[str, int], int],
) -> dict[str, Any]:
    classes = [str(name) for name in metadata.get("classes", [])]
    # names that are no classes of the dataset, as labels of Python's may be
    classes += sorted({name for i in rows for name in (i.label, i.suggested_label) if name} - set(classes))
    class_numbers = {name: k for k, name in enumerate(classes)}
    kinds, splits = list(ISSUE_KINDS), list(dict.fromkeys([*metadata["n"], *(i.split for i in rows)]))
    actions = list(dict.fromkeys(i.action for i in rows))
    action_numbers = {action: k for k, action in enumerate(actions)}
    places = [(i.split, i.example) for i in rows]
    texts = [(shown_examples.get(place) or {}).get("text") for place in places]
    return {
        "fingerprint": str(metadata.get("fingerprint", "")),
        "kinds": kinds,
        "splits": splits,
        "classes": classes,
        "actions": actions,
        "images": images,
        "small": _is_small(shown_examples),
        "id": [i.id for i in rows],
        "example": [i.example for i in rows],
        "split": [splits.index(i.split) for i in rows],
        "issue": [kinds.index(i.issue) for i in rows],
        "label": [class_numbers.get(i.label, -1) for i in rows],
        "suggested": [class_numbers.get(i.suggested_label, -1) for i in rows],
        "probability": [None if (p := i.suggested_probability) is None else round(p, 3) for i in rows],
        "severity": [round(i.severity, 4) for i in rows],
        "evidence": [_shortened(i.evidence, MAX_EVIDENCE) for i in rows],
        "action": [action_numbers[i.action] for i in rows],
        "group": [i.group for i in rows],
        "image": [image_of.get(place, -1) for place in places],
        "text": [None if text is None else _shortened(text, MAX_SHOWN_TEXT) for text in texts],
    }


def _is_small(shown_examples: Mapping[tuple[str, int], Mapping[str, Any]]) -> bool:
    sides = [row["side"] for row in shown_examples.values() if row.get("image")]
    return bool(sides) and max(sides) <= SHARP_SIDE


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "\N{HORIZONTAL ELLIPSIS}"


def script_json(value: Any) -> str:
    """JSON that neither ends a ``<script>`` element nor begins a comment in it, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # lone surrogates, of bytes that were no UTF-8, have no place in a page
    text = text.encode("utf-8", "replace").decode()
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text
