"""Headless Chromium for the tests of pages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Driver:
    """A browser spoken to by the WebDriver protocol, without a library for it."""

    def __init__(self, port: int, profile: Path) -> None:
        self.base = f"http://127.0.0.1:{port}"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 f"--user-data-dir={profile}"]  # fmt: skip
        capabilities = {"goog:chromeOptions": {"args": flags}, "goog:loggingPrefs": {"browser": "ALL"}}
        self.session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]

    def _ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=verb)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._ask(verb, f"/session/{self.session}{path}", body)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = shutil.which("chromedriver")
    if driver is None or shutil.which("chromium") is None:
        pytest.skip("no Chromium here: install Debian's chromium and chromium-driver to run this test")
    folder = tmp_path_factory.mktemp("browser")
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen([driver, "--port=0"], stdout=log, stderr=subprocess.STDOUT)
        try:
            port = _port(folder / "log", process)
            opened = Driver(port, folder / "profile")
            yield opened
            opened.ask("DELETE", "")
        finally:
            process.terminate()
            process.wait(20)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    for _ in range(300):
        match = re.search(r"successfully on port (\d+)", log.read_text())
        if match:
            return int(match.group(1))
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"chromedriver did not start: {log.read_text()}")
