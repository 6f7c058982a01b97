from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datawinnow.bench import cell as cell_module
from datawinnow.bench import read_grid, runner
from datawinnow.bench.workers import DATASET, TEST_SPLIT, check_fingerprint
from datawinnow.data.fingerprint import fingerprint_of
from tests.runs.conftest import make_blobs

GRID = """
name = "tiny"
about = "sixty vectors"
methods = ["full", "shorter_full", "random", "el2n", "aum", "short"]
keep = [0.5, 0.2]
seeds = [0, 1]
scenarios = ["clean", "symmetric 0.2"]

[data]
source = "{source}"

[train]
model = "mlp"
epochs = 3
batch = 20
lr = 0.05

[[method]]
name = "short"
label = "DUAL of 2"
score = "dual"
select = "top"
score_options = {{ window = 2 }}
epochs = 2
"""


def write_data(path: Path, seed: int = 0, n: int = 60) -> Path:
    """Three overlapping classes of vectors."""
    g = np.random.default_rng(seed)
    arrays = {}
    for split, size in (("train", n), ("test", 30)):
        y = np.arange(size) % 3
        arrays |= {f"x_{split}": (g.normal(size=(size, 4)) + y[:, None]).astype(np.float32), f"y_{split}": y}
    np.savez(path, **arrays)
    return path


class InProcess:
    """`Workers` without processes: a cell is run when its row is asked for, the one started last first."""

    def __init__(self, jobs, threads, grid, out, fingerprint=None, test_fingerprint=None):
        self.jobs, self.grid, self.out, self.running = jobs, grid, out, []
        self.fingerprint, self.test_fingerprint, self.news = fingerprint, test_fingerprint, False

    @property
    def free(self):
        return self.jobs - len(self.running)

    def start(self, cell):
        train, test = cell_module.datasets_of(self.grid)
        self.news = self.fingerprint is None
        self.fingerprint = check_fingerprint(
            train.fingerprint, self.fingerprint, self.out, split=DATASET, name=train.name
        )
        self.test_fingerprint = check_fingerprint(
            fingerprint_of(test), self.test_fingerprint, self.out, split=TEST_SPLIT
        )
        self.running.append(cell)

    def finished(self, timeout):
        if self.news:  # the dataset is loaded, and nothing is trained yet
            self.news = False
            return []
        cell = self.running[-1]
        row = cell_module.run_cell(self.grid, cell, self.out)
        self.running.remove(cell)
        return [(cell, row)]

    def stop(self):
        self.running = []


@pytest.fixture(autouse=True)
def fresh_data():
    """A path of one test may hold other data in the next."""
    cell_module._load_splits.cache_clear()


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(runner, "Workers", InProcess)


@pytest.fixture
def write(tmp_path):
    """Writes a grid file, with parts of `GRID` replaced."""

    def make(*changes: tuple[str, str], source: Path | None = None) -> Path:
        text = GRID
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "grid.toml"
        path.write_text(text.format(source=source or write_data(tmp_path / "data.npz")))
        return path

    return make


@pytest.fixture
def grid(write):
    return read_grid(write())


@pytest.fixture
def blobs():
    return make_blobs()
