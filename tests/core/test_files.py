"""Files are whole or not there; what cannot be read says why."""

import errno
import os

import pytest

from datawinnow.core import artifacts, files
from datawinnow.core.errors import DataError, RunError
from datawinnow.instruct.pair_files import open_pair_file
from datawinnow.runs.folder import RunFolder


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
class TestSpecialFiles:
    """A FIFO, device or folder in place of a file is refused at once; read, a FIFO would wait forever."""

    @pytest.fixture(params=["FIFO", "device", "folder"])
    def special(self, request, tmp_path):
        def make(name):
            path = tmp_path / name
            if request.param == "FIFO":
                os.mkfifo(path)
            elif request.param == "device":
                path.symlink_to("/dev/zero")
            else:
                path.mkdir()
            return path, request.param

        return make

    @pytest.mark.parametrize(
        ("name", "read"),
        [
            ("a.json", artifacts.read_json),
            ("a.jsonl", artifacts.read_json_lines),
            ("a.npy", artifacts.read_npy),
            ("a.npz", artifacts.read_npz_arrays),
            ("a.npz", artifacts.npz_names),
            ("a.parquet", lambda path: artifacts.read_table(path, "it")),
            ("a.safetensors", lambda path: artifacts.read_arrays(path, kind="model")),
            ("run.json", lambda path: RunFolder.open(path.parent)),
        ],
    )
    def test_artefacts(self, special, name, read):
        path, kind = special(name)
        with pytest.raises(RunError, match=f"{path} is a {kind}, not a file"):
            read(path)

    @pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
    def test_pairs(self, special, name):
        path, kind = special(name)
        with pytest.raises(DataError, match=f"is a {kind}, not a file|holds neither"):
            open_pair_file(path)

    def test_a_shard_of_pairs(self, special, tmp_path):
        path, kind = special("a.parquet")
        with pytest.raises(DataError, match=f"{path} is a {kind}, not a file"):
            list(open_pair_file(tmp_path).rows())

    def test_a_partial_file(self, tmp_path):
        os.mkfifo(tmp_path / ".a.json.dead.part")
        artifacts.write_json(tmp_path / "a.json", {})
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
