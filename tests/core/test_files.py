"""Files are whole or not there; what cannot be read says why."""

import errno
import os

import pytest

from datawinnow.core import files
from datawinnow.core.errors import RunError


def listing(folder):
    return sorted(p.name for p in folder.iterdir())


def test_atomic_write_replaces_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "a.bin"
    files.write_bytes(path, b"old")
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert listing(path.parent) == ["a.bin"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_reader_of_the_old_file_never_sees_half_of_the_new(tmp_path):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    with path.open("rb") as reader:
        files.write_bytes(path, b"new")
        assert reader.read() == b"old"  # renamed over, not written into
    assert path.read_bytes() == b"new"


def test_a_failure_while_writing_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    with pytest.raises(ZeroDivisionError), files.atomic_write(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half of the n")
        assert path.read_bytes() == b"old"
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_keeps_what_was_there(tmp_path, monkeypatch, code):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")

    def full(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"the disk is full: could not write .*a\.bin.*run the same command again"):
        files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["a.bin"]


def test_other_disk_errors_stay_what_they_are(tmp_path, monkeypatch):
    def broken(_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="broken") as caught:
        files.write_bytes(tmp_path / "a", b"x")
    assert caught.value.errno == errno.EIO


def test_require_space_looks_before_it_writes(tmp_path):
    files.require_space(tmp_path / "new", 1)
    assert (tmp_path / "new").is_dir()
    with pytest.raises(RunError, match=r"the disk is full: .* needs .* MB and has .* MB"):
        files.require_space(tmp_path, 10**18)
