"""The arithmetic of a grid: ``precision = "auto"`` is decided once for all cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from datawinnow.bench.cell import GridData, datasets_of, model_name
from datawinnow.bench.grid import Grid
from datawinnow.core.artifact_schemas import GridFile
from datawinnow.core.artifacts import read_json
from datawinnow.core.result_rows import GRID_FILE
from datawinnow.train.build import build_network
from datawinnow.train.network import resolve_precision
from datawinnow.train.precision import check_precision


def with_fixed_precision(grid: Grid, out: Path, data: GridData | None, threads: int) -> tuple[Grid, str]:
    """The grid with a precision in place of ``"auto"``, so that its cells do not choose each for itself.

    What is in ``grid.json`` stays: a run that is resumed trains as it began. Otherwise a few steps of the network of
    the cells are timed.

    Args:
        grid: what is run.
        out: folder of the results.
        data: datasets and functions of this process; None to load what the grid names.
        threads: of torch in each cell, with which the steps are timed.

    Returns:
        The grid, and a sentence with the times; ``""`` where nothing was measured.
    """
    recipe = grid.train.recipe()
    if recipe.precision != "auto":
        return grid, ""
    file, note = out / GRID_FILE, ""
    before = read_json(file, schema=GridFile)["settings"]["train"] if file.exists() else {}
    arithmetic = {name: before.get(name) for name in ("precision", "channels_last")}
    if arithmetic["precision"] is not None:
        # as with another precision, the comparison of all settings refuses what was typed and is not what is there
        recipe = replace(recipe, precision=check_precision(arithmetic["precision"]))
    if arithmetic["precision"] is None or recipe.channels_last not in (None, arithmetic["channels_last"]):
        data = data or GridData(*datasets_of(grid))
        network = build_network(data.model or model_name(grid, data), data.info, 0, grid.train.model_options)[0]
        threads_before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            fixed, note = resolve_precision(network, data.info.data, recipe)
        finally:
            torch.set_num_threads(threads_before)
        arithmetic = {"precision": fixed.precision, "channels_last": fixed.channels_last}
    return grid.model_copy(update={"train": grid.train.model_copy(update=arithmetic)}), note
