"""On CI nothing may be skipped quietly: a skipped test tests nothing. And one thread is faster than two that wait."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest

# Before torch is imported, for the processes that tests start as well. Tests are of small numbers: on busy cores a
# second thread is waited for (the conformance tests took 7 minutes with two threads and 33 seconds with one).
os.environ.setdefault("OMP_NUM_THREADS", "1")

MAY_SKIP = ("gpu", "slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """Turn a skip into a failure when ``CI=true``, except for what needs a GPU or hours."""
    report = yield
    marked = any(item.get_closest_marker(name) for name in MAY_SKIP)
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail") and not marked:
        report.outcome = "failed"
        report.longrepr = f"skipped on CI, where nothing may be: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    """A test that sets the number of threads (``--threads``) sets its own."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
