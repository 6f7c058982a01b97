"""Files are whole or not there; what cannot be read says why."""

import errno
import json
import os

import pytest

from datawinnow.core import files
from datawinnow.core.errors import RunError


def listing(folder):
    return sorted(p.name for p in folder.iterdir())


def test_written_whole_replaces_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "a.json"
    files.write_json(path, {"n": 3})
    files.write_json(path, {"n": 4})
    assert files.read_json(path) == {"format": files.FORMAT_VERSION, "n": 4}
    assert listing(path.parent) == ["a.json"]
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
    with pytest.raises(ZeroDivisionError), files.written_whole(path) as part:  # noqa: PT012
        part.write_bytes(b"half of the n")
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


def test_need_space_looks_before_it_writes(tmp_path):
    files.need_space(tmp_path / "new", 1)
    assert (tmp_path / "new").is_dir()
    with pytest.raises(RunError, match=r"the disk is full: .* needs .* MB and has .* MB"):
        files.need_space(tmp_path, 10**18)


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range float values"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"format": 1, "n": ', "is truncated or not JSON .*remove it and run its stage again"),
        ("", "is truncated or not JSON"),
        ("\xff", "is truncated or not JSON"),
        ("[1, 2]", r"is not what datawinnow writes \(a JSON object\)"),
        ('{"n": 3}', "has no format version"),
        ('{"format": "1"}', "has no format version"),
        ('{"format": 0}', "has no format version"),
        (json.dumps({"format": files.FORMAT_VERSION + 1}), r"newer datawinnow \(format 2, this one reads up to 1\)"),
    ],
    ids=["truncated", "empty", "bytes", "list", "no-format", "text-format", "zero-format", "newer"],
)
def test_what_cannot_be_read_is_named(tmp_path, text, match):
    path = tmp_path / "run.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=rf"run\.json {match}" if match[0] != "n" else match):
        files.read_json(path)


def test_no_such_file(tmp_path):
    with pytest.raises(RunError, match=r"no such file: .*missing\.json"):
        files.read_json(tmp_path / "missing.json")
