from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def cache_in_tmp(tmp_path_factory, monkeypatch):
    """Nothing that a test loads is cached in the home folder."""
    monkeypatch.setenv("DATAWINNOW_CACHE", str(tmp_path_factory.mktemp("cache")))
