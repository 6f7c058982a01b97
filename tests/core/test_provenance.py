"""What an artefact says of its making is true, and nothing is claimed that is not known."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from datawinnow.core import provenance


@pytest.fixture(autouse=True)
def forget():
    """The answers are cached for the process."""
    provenance.versions.cache_clear()
    provenance.commit.cache_clear()
    yield
    provenance.versions.cache_clear()
    provenance.commit.cache_clear()


def test_versions_are_those_that_run():
    result = provenance.versions()
    assert result["python"] == platform.python_version()
    assert torch.__version__.startswith(result["torch"].split("+")[0])
    assert result.keys() == {"python", "datawinnow", "torch", "numpy", "lightning-fabric"}


def test_a_package_that_is_not_installed_is_unknown(monkeypatch):
    def version(name):
        if name == "datawinnow":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(provenance, "version", version)
    assert provenance.versions()["datawinnow"] == "unknown"
    assert provenance.versions()["torch"] == "1.0"


def git(folder, *arguments):
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with a package in it, where the module believes itself to be."""
    core = tmp_path / "src" / "datawinnow" / "core"
    core.mkdir(parents=True)
    (core / "provenance.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    monkeypatch.setattr(provenance, "__file__", str(core / "provenance.py"))
    return tmp_path


def test_the_commit_is_the_checkouts_with_a_plus_where_files_differ(checkout):
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert provenance.commit() == head[:10]
    (checkout / "src" / "datawinnow" / "core" / "provenance.py").write_text("changed")
    assert provenance.commit() == head[:10]  # asked once a process
    provenance.commit.cache_clear()
    assert provenance.commit() == head[:10] + "+"


def test_another_repository_around_the_package_is_not_ours(checkout, monkeypatch, tmp_path):
    inside = checkout / "venv" / "site-packages" / "datawinnow" / "core"
    inside.mkdir(parents=True)
    (checkout / "src").rename(checkout / "lib")
    monkeypatch.setattr(provenance, "__file__", str(inside / "provenance.py"))
    assert provenance.commit() == ""


def test_outside_a_checkout_and_without_git_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit() == ""
    provenance.commit.cache_clear()

    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(provenance, "__file__", str(Path(torch.__file__)))
    monkeypatch.setattr(subprocess, "run", missing)
    assert provenance.commit() == ""


def test_now_is_utc_to_the_second():
    result = datetime.fromisoformat(provenance.now())
    assert result.utcoffset().total_seconds() == 0
    assert result.microsecond == 0
    assert abs((datetime.now(UTC) - result).total_seconds()) < 5
