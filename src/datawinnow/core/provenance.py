"""Which code on which machine: what every artefact says of its making."""

from __future__ import annotations

import functools
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("datawinnow", "torch", "numpy", "lightning-fabric"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


@functools.cache
def commit() -> str:
    """Short hash of the commit that this code stands at, with a + when files differ; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        git = ["git", "-C", str(here)]
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, timeout=10)
        if top.returncode or not (Path(top.stdout.strip()) / "src" / "datawinnow").is_dir():
            return ""
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", here], capture_output=True, text=True, timeout=10
        )
        return head.stdout.strip() + ("+" if changed.stdout.strip() else "") if not head.returncode else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
