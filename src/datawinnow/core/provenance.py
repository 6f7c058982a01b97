"""Versions, commit and time that every artefact records."""

from __future__ import annotations

import functools
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    numbers = {"python": platform.python_version()}
    for package in ("datawinnow", "torch", "numpy", "lightning-fabric"):
        try:
            numbers[package] = version(package)
        except PackageNotFoundError:
            numbers[package] = "unknown"
    return numbers


@functools.cache
def commit() -> str:
    """Short hash of the checked-out commit, with a + if files differ from it; empty outside a checkout."""
    folder = Path(__file__).parent
    try:
        git = ["git", "-C", str(folder)]
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, timeout=10)
        # the package may be installed inside another repository, whose commit says nothing about it
        if top.returncode or not (Path(top.stdout.strip()) / "src" / "datawinnow").is_dir():
            return ""
        head = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", folder], capture_output=True, text=True, timeout=10
        )
        return head.stdout.strip() + ("+" if changed.stdout.strip() else "") if not head.returncode else ""
    except (OSError, subprocess.TimeoutExpired):
        return ""


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
