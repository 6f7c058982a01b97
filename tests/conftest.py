"""On CI nothing may be skipped quietly: a skipped test tests nothing."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

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
