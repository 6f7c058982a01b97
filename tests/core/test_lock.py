"""One writer a folder: the second is refused by name, and nothing is left behind by a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from datawinnow.core import lock
from datawinnow.core.errors import RunError
from datawinnow.core.lock import LOCK, only_writer

HOLDS = """
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("lock", sys.argv[1])  # without torch, which its package takes along
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
with lock.only_writer(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_writer_is_refused_and_one_after_the_first_is_not(tmp_path):
    message = (
        rf"{tmp_path}/out is busy: another bench \(process {os.getpid()}\) is writing there.* or give another `out=`"
    )
    with only_writer(tmp_path / "out"):
        with pytest.raises(RunError, match=message), only_writer(tmp_path / "out"):
            pytest.fail("two writers")
        with only_writer(tmp_path / "other"):
            assert (tmp_path / "other" / LOCK).read_text() == str(os.getpid())
    assert not (tmp_path / "out").exists()  # nothing was written there
    with only_writer(tmp_path / "out"):
        assert (tmp_path / "out" / LOCK).exists()


def test_an_error_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), only_writer(tmp_path):
        raise ZeroDivisionError
    with only_writer(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())


def test_another_process_is_named_and_its_death_lets_go(tmp_path):
    words = [sys.executable, "-c", HOLDS, str(lock.__file__), str(tmp_path)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=rf"another bench \(process {child.pid}\)"), only_writer(tmp_path):
            pytest.fail("two writers")
        child.send_signal(signal.SIGKILL)
        child.wait()
        with only_writer(tmp_path):
            assert (tmp_path / LOCK).read_text() == str(os.getpid())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_one_that_waits_gets_the_folder_when_the_first_is_done(tmp_path):
    turns: list[int] = []
    messages: list[str] = []

    def work(number: int) -> None:
        with only_writer(tmp_path / "out", wait=30, log=messages.append):
            turns.append(number)
            time.sleep(0.02)
            turns.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert turns[::2] == turns[1::2]
    assert sorted(turns[::2]) == [0, 1, 2, 3]
    assert any("waiting up to 30 s for another bench" in line for line in messages)


def test_a_file_system_without_locks_does_not_stop_a_bench(tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with only_writer(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_lock_that_is_no_file_is_refused_and_stays(tmp_path, make):
    make(tmp_path / LOCK)
    with pytest.raises(RunError, match=rf"{LOCK} is a (FIFO|folder), not a file"), only_writer(tmp_path):
        pytest.fail("no lock")
    assert (tmp_path / LOCK).exists()
