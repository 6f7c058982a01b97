"""Names of the policies in `datawinnow.dynamic`, for help texts, which must not wait for torch."""

from __future__ import annotations

import re
from pathlib import Path

AUTO, REPLAY = "auto", "replay"
"""Policies that are not built from their name alone: what `recommend` returns, and the plan in a file."""
_NEED_DATA = (REPLAY, "static_subset")
_REGISTRY = Path(__file__).parent.parent / "dynamic" / "registry.py"
# Read and not imported, since the registry imports torch. Policies are classes; batch selectors are functions.
POLICY_NAMES = tuple(
    name
    for name in re.findall(r"^from datawinnow\.dynamic\.(\w+) import [A-Z]", _REGISTRY.read_text("utf-8"), re.MULTILINE)
    if name not in _NEED_DATA
)
"""Policies that a name and plain values are enough for."""
