"""The cache of decoded images stays within its limit: the longest unused goes first, nothing that is in use."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from datawinnow.core.errors import ArgumentError
from datawinnow.data import cache
from datawinnow.data import images as images_module
from datawinnow.data.folder import FolderImages
from datawinnow.data.images import Decoded
from datawinnow.data.load import load
from tests.data.helpers import encoded, pixels, write_parquet

MEGABYTE = 1_000_000


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DATAWINNOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DATAWINNOW_CACHE_GB", "0.0035")
    monkeypatch.setattr(cache, "open_files", {})
    return tmp_path / "cache"


def key(i: int) -> tuple[str, str]:
    return f"{i:024x}_10x10x1", f"{7 * i:024x}"


def store(i: int, size: int = MEGABYTE) -> bool:
    """A file of ``size`` bytes and a header, used ``i`` seconds after the epoch."""
    decoded = Decoded(np.zeros((size // 100, 1, 10, 10), np.uint8), np.zeros(0, np.int64), 0)
    stored = cache.write_decoded(key(i), decoded)
    if stored:
        used(i, at=i)
    return stored


def used(i: int, at: float) -> None:
    os.utime(cache.cached_file(key(i), ".npz"), (at, at))


def cached_sizes(folder) -> list[int]:
    return sorted(int(path.name[:24], 16) for path in folder.glob("*_*"))


def test_the_longest_unused_goes_first(folder):
    for i in (1, 2, 3):
        assert store(i)
    assert cached_sizes(folder) == [1, 2, 3]  # 3 MB and their headers, of 3.5
    assert cache.read_decoded(key(1)) is not None  # used now
    assert store(4)
    assert cached_sizes(folder) == [1, 3, 4]
    assert store(5, size=3 * MEGABYTE)
    assert cached_sizes(folder) == [5]


def test_the_file_just_written_stays_and_one_that_can_never_fit_is_not_written(folder):
    for i in (1, 2):
        store(i)
    assert not store(3, size=4 * MEGABYTE)
    assert cached_sizes(folder) == [1, 2]
    os.utime(folder, (0, 0))
    assert store(0, size=3_400_000)  # the oldest by its time, but it is the one in use
    assert cached_sizes(folder) == [0]


def test_other_files_in_the_folder_are_nobodys_to_remove(folder):
    folder.mkdir()
    names = ["thesis.npz", "x" * 24 + "-" + "0" * 24 + ".npz", "0" * 24 + "-" + "0" * 24 + ".txt", "data.arrow"]
    for name in names:
        (folder / name).write_bytes(bytes(2 * MEGABYTE))
        os.utime(folder / name, (0, 0))
    for i in (1, 2, 3, 4):
        store(i)
    assert cached_sizes(folder) == [2, 3, 4]
    assert all((folder / name).exists() for name in names)


@pytest.mark.parametrize(
    ("setting", "size"), [(None, 10e9), ("", 10e9), (" 2.5 ", 2.5e9), ("0", 0.0)], ids=["not", "empty", "2.5", "none"]
)
def test_the_limit_is_told_in_gigabytes(monkeypatch, setting, size):
    monkeypatch.delenv("DATAWINNOW_CACHE_GB", raising=False)
    if setting is not None:
        monkeypatch.setenv("DATAWINNOW_CACHE_GB", setting)
    assert cache.max_bytes() == size


@pytest.mark.parametrize("setting", ["-1", "much", "nan", "10GB"])
def test_what_is_no_limit_is_refused_before_anything_is_decoded(tmp_path, folder, monkeypatch, setting):
    write_parquet(tmp_path / "d" / "train-0.parquet", pixels(4), [0, 1, 0, 1])
    monkeypatch.setenv("DATAWINNOW_CACHE_GB", setting)
    with pytest.raises(
        ArgumentError, match=f"DATAWINNOW_CACHE_GB must be a number of gigabytes, 0 or above, got '{setting}'"
    ):
        load(tmp_path / "d")
    monkeypatch.setenv("DATAWINNOW_CACHE", "")
    assert len(load(tmp_path / "d")[0]) == 3  # no cache, no limit


def on_demand(path, seed):
    """A dataset whose images are read from a copy in the cache."""
    for split in ("train", "test"):
        write_parquet(path / f"{split}-0.parquet", pixels(12, 64, seed=seed), [0, 1] * 6)
    return load(path, memory=0)


@pytest.mark.parametrize("locks", [True, False], ids=["with locks", "where there are none"])
def test_a_copy_that_is_read_from_is_never_removed(tmp_path, folder, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(cache, "fcntl", None)
    monkeypatch.setenv("DATAWINNOW_CACHE_GB", "0.0004")  # each copy is 12 x 64 x 64 x 3 bytes: two fit
    train, test = on_demand(tmp_path / "one", 1)
    on_demand(tmp_path / "two", 2)
    assert len(list(folder.glob("*.arrow"))) == 4  # over the limit, but each may still be read
    for examples in (train, test):
        assert np.array_equal(examples[11][0].permute(1, 2, 0).numpy(), pixels(12, 64, seed=1)[11])


@pytest.mark.slow
def test_nor_by_another_process(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("DATAWINNOW_CACHE_GB", "0.0004")
    on_demand(tmp_path / "one", 1)
    copies = sorted(folder.glob("*.arrow"))
    code = (
        "import sys\nfrom datawinnow.data import cache\nfrom pathlib import Path\n"
        "cache.trim(Path(sys.argv[1]))\nprint(len(list(Path(sys.argv[1]).parent.glob('*.arrow'))))"
    )
    environment = {**os.environ, "DATAWINNOW_CACHE_GB": "0"}

    def trimmed() -> str:
        words = [sys.executable, "-c", code, str(folder / "last.npz")]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)
        return done.stdout.strip() or done.stderr

    assert len(copies) == 2
    assert trimmed() == "2"
    for file in cache.open_files.values():  # this process ends
        file.close()
    assert trimmed() == "0"


def test_a_change_that_size_and_time_do_not_show_is_seen(tmp_path, monkeypatch):
    path = tmp_path / "0.png"
    path.write_bytes(encoded(pixels(1)[0], "BMP"))
    images = FolderImages(str(tmp_path), ("0.png",))
    before, status = images.key(), path.stat()
    with path.open("r+b") as file:  # in place, as a tool does that keeps times
        file.write(encoded(pixels(1, seed=1)[0], "BMP"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert images.key()[1] != before[1]
    monkeypatch.setattr(images_module, "CONTENT_HASHED_BYTES", 0)  # by inode and time of change alone
    before = images.key()
    path.rename(tmp_path / "old")
    path.write_bytes((tmp_path / "old").read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert images.key()[1] != before[1]


@pytest.mark.parametrize("source", ["folder", "parquet", "parquet on demand"])
def test_without_a_cache_no_file_is_hashed(tmp_path, monkeypatch, source):
    monkeypatch.setenv("DATAWINNOW_CACHE", "")
    monkeypatch.setattr(images_module.Encoded, "key", lambda self: pytest.fail("the files are hashed"))
    arrays = pixels(10)
    if source == "folder":
        for i, array in enumerate(arrays):
            file = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(array))
        train, _ = load(tmp_path / "data")
    else:
        write_parquet(tmp_path / "data.parquet", arrays, [i % 2 for i in range(10)])
        train, _ = load(tmp_path / "data.parquet", memory=1 if source == "parquet on demand" else None)
    assert len(train) == 8
    assert train[0][0].shape[1:] == (8, 8)
