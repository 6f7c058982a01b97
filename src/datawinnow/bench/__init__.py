"""A grid of (method, keep, seed, scenario) cells; a runner that resumes; total cost beside every accuracy."""

from datawinnow.bench.cell import GridData
from datawinnow.bench.grid import Cell, Grid, cells_of
from datawinnow.bench.grid_file import grid_of, read_grid, read_grids
from datawinnow.bench.runner import run_grid
from datawinnow.bench.shrink import shrunk
from datawinnow.core.callable_module import make_callable
from datawinnow.core.result_rows import read_rows

__all__ = [
    "Cell",
    "Grid",
    "GridData",
    "cells_of",
    "grid_of",
    "read_grid",
    "read_grids",
    "read_rows",
    "run_grid",
    "shrunk",
]

make_callable(__name__, "datawinnow.api.bench:bench")  # datawinnow.bench(...) runs a grid
