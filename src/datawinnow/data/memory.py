"""Memory that decoded images may take."""

from __future__ import annotations

import os
from pathlib import Path


def default_memory() -> int:
    """Half of the memory that is free now, in bytes: the default limit of loaded images."""
    return available_memory() // 2


def available_memory(meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that this process can still take, in bytes; inside a container, what its limit leaves."""
    return min(_machine(meminfo), _container(group))


def _machine(meminfo: Path) -> int:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                # the kernel counts in kB
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:  # macOS and the BSDs: no count of what is free, so half of what there is
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def _container(group: Path) -> int:
    try:
        limit = int((group / "memory.max").read_text())  # "max" when there is no limit
        used = int((group / "memory.current").read_text())
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 1 << 62
    return max(0, limit - used + int(cached.get("inactive_file", 0)))  # file cache is given back when needed
