"""Real worker processes: the same rows as in this process, no orphans, and a crash that names its cell."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datawinnow.bench import cells_of, read_grid, read_rows, run_grid, runner
from datawinnow.bench.workers import Workers
from datawinnow.core.artifacts import read_json
from datawinnow.core.errors import RunError
from tests.runs.killing import timeless

from .conftest import InProcess
from .test_grid import METHODS

MODELS = "tests.bench.helpers_models"
ONE_SEED = ("seeds = [0, 1]", "seeds = [0]")
CLEAN = ('scenarios = ["clean", "symmetric 0.2"]', 'scenarios = ["clean"]')


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true, seconds: float) -> bool:
    """Whether it became true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    "changes",
    [
        (
            ONE_SEED,
            CLEAN,
            (METHODS, 'methods = ["random", "el2n", "aum", "short"]'),
            ("keep = [0.5, 0.2]", "keep = [0.5]"),
        ),
        pytest.param((ONE_SEED,), marks=pytest.mark.slow),
    ],
    ids=["four cells", "two scenarios"],
)
def test_two_at_a_time_give_the_rows_of_one_also_when_interrupted(changes, write, tmp_path, monkeypatch):
    grid = read_grid(write(*changes))
    with monkeypatch.context() as patch:
        patch.setattr(runner, "Workers", InProcess)
        expected = run_grid(grid, tmp_path / "one", jobs=1)

    rows_so_far = []

    def interrupt(row):
        rows_so_far.append(row)
        # the second of four at least: by a method's name it could be the last to arrive
        if len(rows_so_far) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(grid, tmp_path / "out", jobs=2, threads=1, on_row=interrupt)
    assert multiprocessing.active_children() == []
    kept = read_rows(tmp_path / "out" / "rows.jsonl")
    assert read_json(tmp_path / "out" / "grid.json")["fingerprint"] == expected[0]["fingerprint"]
    assert 0 < len(kept) < len(expected)
    rows = run_grid(grid, tmp_path / "out", jobs=1, threads=1)
    assert multiprocessing.active_children() == []
    assert [timeless(row) for row in rows] == [timeless(row) for row in expected]
    assert [row for row in rows if row in kept] == kept


def test_a_process_that_is_killed_names_its_cell_and_the_rows_before_are_kept(write, tmp_path):
    flag = tmp_path / "flag"
    grid = read_grid(
        write(
            ('model = "mlp"', f'model = "{MODELS}:dying"\nmodel_options = {{{{ flag = "{flag}" }}}}'),
            (METHODS, 'methods = ["full", "random"]'),
            ONE_SEED,
            CLEAN,
        ),
        models=[f"{MODELS}:dying"],
    )
    message = (
        r"cell random at keep 0.5, seed 0, clean: the process that ran it was killed by signal 9 \(9 is what the "
        r"system sends when memory runs out: try fewer `jobs=`\). The rows so far are kept; run the same command again"
    )
    with pytest.raises(RunError, match=message):
        run_grid(grid, tmp_path / "out", jobs=1, on_row=lambda row: flag.touch())
    assert [row["method"] for row in read_rows(tmp_path / "out" / "rows.jsonl")] == ["full"]
    assert multiprocessing.active_children() == []


def test_a_mistake_in_a_cell_is_told_with_its_cell(write, tmp_path):
    few = (METHODS, 'methods = ["random"]')
    grid = read_grid(write(('model = "mlp"', f'model = "{MODELS}:wrong"'), few), models=[f"{MODELS}:wrong"])
    with pytest.raises(
        RuntimeError, match=r"(?s)cell random at keep 0.5, seed 0, clean failed:.*ZeroDivisionError: no"
    ):
        run_grid(grid, tmp_path / "out", jobs=1)


class Pipe:
    """What came through the pipe of a worker."""

    def __init__(self, *answer):
        self.answer = answer

    def recv(self):
        return self.answer

    def close(self):
        pass


def test_what_a_cell_refuses_is_told_without_a_traceback(grid, tmp_path):
    cell = cells_of(grid)[0]
    workers = Workers(1, 1, grid, tmp_path)
    workers._busy[cell] = (None, Pipe("refused", "no such file: nowhere.npz"))
    with pytest.raises(RunError, match=r"^cell full, seed 0, clean: no such file: nowhere.npz$"):
        workers._receive(cell)
    workers._busy[cell] = (None, Pipe("row", {"a": 1}))
    assert workers._receive(cell) == {"a": 1}
    assert (workers.running, workers.free) == ([], 1)


def test_a_worker_tells_of_the_dataset_that_it_loaded(grid, tmp_path):
    cell = cells_of(grid)[0]
    workers = Workers(1, 1, grid, tmp_path)
    workers._busy[cell] = (None, Pipe("dataset", "a" * 16))
    assert workers._receive(cell) is None
    assert (workers.fingerprint, workers.running) == ("a" * 16, [cell])
    workers._busy[cell] = (None, Pipe("dataset", "b" * 16))
    with pytest.raises(RunError, match=r"data.npz' changed while it was read \(fingerprint aaaa.*, then bbbb"):
        workers._receive(cell)
    workers._busy[cell] = (None, Pipe("test", "c" * 16))
    assert workers._receive(cell) is None
    assert workers.test_fingerprint == "c" * 16
    workers._busy[cell] = (None, Pipe("test", "d" * 16))
    with pytest.raises(RunError, match=r"another test split \(fingerprint cccc.* in use \(fingerprint dddd"):
        workers._receive(cell)


@pytest.mark.slow  # real processes: two imports of torch each
def test_workers_do_not_outlive_a_parent_that_is_killed(write, tmp_path):
    path = write(
        ('model = "mlp"', f'model = "{MODELS}:sleeping"\nmodel_options = {{{{ folder = "{tmp_path}" }}}}'),
        (METHODS, 'methods = ["random"]'),
    )
    root = Path(__file__).parents[2]
    child = (
        "import sys; from pathlib import Path; from datawinnow.bench import read_grid, run_grid\n"
        f"grid = read_grid(Path({str(path)!r}), models=['{MODELS}:sleeping'])\n"
        f"run_grid(grid, Path({str(tmp_path / 'out')!r}), jobs=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "src")])}
    parent = subprocess.Popen([sys.executable, "-c", child], env=environment)
    try:
        assert wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 60), "two workers are at a cell"
        workers = [int(file.stem) for file in tmp_path.glob("*.pid")]
        assert all(alive(pid) for pid in workers)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert wait_until(lambda: not any(alive(pid) for pid in workers), 10), "orphans are left"
    finally:
        parent.kill()
        for file in tmp_path.glob("*.pid"):
            if alive(int(file.stem)):
                os.kill(int(file.stem), signal.SIGKILL)
            file.unlink()


def test_a_script_without_a_main_guard_is_not_run_again_by_its_workers(tmp_path):
    """As a user writes one: the second line would run in each worker, and a race in it would start workers anew."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "Path('lines').open('a').write('line\\n')\n"
        "import datawinnow as dw\n"
        "recipe = dw.Recipe(precision='fp32')\n"
        "load = dw.LoadOptions(limit=60)\n"
        "race = dw.race('digits', budget=1, policy='ucb', keep=0.5, model='mlp', load=load, recipe=recipe, out='out')\n"
        "print(len(race.rows), __file__, __spec__)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "lines").read_text() == "line\n"
    assert answer.stdout.splitlines()[-1] == f"2 {script} None"
