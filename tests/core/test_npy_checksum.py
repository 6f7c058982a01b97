"""Arrays in .npy files carry a checksum: a bit that flips is noticed, whether they are read or mapped."""

import os

import numpy as np
import pytest
import torch

from datawinnow.core import artifacts
from datawinnow.core.artifacts import open_npy, read_npy, write_npy
from datawinnow.core.errors import RunError
from datawinnow.record.recorder import Recorder

ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "x.npy"
    with open_npy(path, ARRAY.shape, ARRAY.dtype) as file:
        for row in ARRAY:
            file.write(row.tobytes())
    return path


@pytest.mark.parametrize("mapped", [False, True])
def test_every_flip_is_noticed(written, mapped):
    content = written.read_bytes()
    np.testing.assert_array_equal(read_npy(written, mapped=mapped), ARRAY)
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        written.write_bytes(damaged)
        with pytest.raises(RunError, match="damaged"):
            read_npy(written, mapped=mapped)


def test_numpy_reads_it_and_files_without_a_checksum_are_read(written, tmp_path):
    np.testing.assert_array_equal(np.load(written), ARRAY)
    other = tmp_path / "whole.npy"
    write_npy(other, ARRAY)
    assert other.read_bytes() == written.read_bytes()
    for array in (ARRAY, np.zeros((0, 3)), np.array(2.0), np.asfortranarray(ARRAY)):
        write_npy(other, array)
        np.testing.assert_array_equal(read_npy(other), array)
        np.save(other, array)
        np.testing.assert_array_equal(read_npy(other), array)


def test_a_file_is_summed_once_until_it_changes(written, monkeypatch):
    sums, crc32 = [], artifacts.zlib.crc32
    monkeypatch.setattr(artifacts.zlib, "crc32", lambda data, start=0: sums.append(len(data)) or crc32(data, start))
    for _ in range(3):
        read_npy(written, mapped=True)
    assert len(sums) == 1
    os.utime(written, ns=(1, 1))
    read_npy(written)
    assert len(sums) == 2


def test_a_recording_whose_column_changed_is_refused(tmp_path):
    recorder = Recorder(4, 2, path=tmp_path / "signals")
    for epoch in range(2):
        recorder.write(epoch, torch.arange(4), torch.randn(4, 3), torch.tensor([0, 1, 2, 0]))
    recorder.consolidate()
    file = tmp_path / "signals" / "p_label.npy"
    column = recorder["p_label"].clone()
    content = bytearray(file.read_bytes())
    content[140] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"p_label.npy is damaged .*record again"):
        recorder["p_label"]
    content[140] ^= 1
    file.write_bytes(content)
    assert torch.equal(recorder["p_label"], column)
