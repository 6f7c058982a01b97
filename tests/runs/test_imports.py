"""A run folder or a grid from somebody else: nothing that a file names is imported, and its options are checked."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import datawinnow.cli.prune  # noqa: F401  (declares its options)
from datawinnow import api
from datawinnow.bench import read_grid, read_grids
from datawinnow.cli.spelling import as_flags
from datawinnow.core.errors import ArgumentError
from datawinnow.data.examples import Examples
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import network_of_run
from datawinnow.runs.score import score_run
from datawinnow.runs.select import select_run

from .conftest import FAST, make_blobs, make_images

NETWORK = """
import torch
def small(*, classes, features, width=5):
    hidden = torch.nn.Linear(features, width)
    return torch.nn.Sequential(torch.nn.Flatten(), hidden, torch.nn.ReLU(), torch.nn.Linear(width, classes))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that can be imported and is not yet."""
    (tmp_path / "planted_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    yield "planted_network"
    sys.modules.pop("planted_network", None)


def rewrite(run, **model):
    metadata = json.loads((run.path / "run.json").read_text())
    metadata["model"] |= model
    (run.path / "run.json").write_text(json.dumps(metadata))
    return RunFolder.open(run.path)


@pytest.fixture
def foreign(tmp_path, module):
    """A recorded run whose file says that a function made its network."""
    run = api.record(make_blobs(), run=tmp_path / "run", epochs=2, recipe=FAST, model="mlp")
    return rewrite(run, name=f"{module}:small")


class TestRunFolder:
    def test_a_function_that_the_file_names_is_not_imported(self, foreign, module):
        for verb in (
            lambda: select_run(foreign, make_blobs(), keep=0.5, method="moderate"),
            lambda: score_run(foreign, make_blobs(), ["grand_last"]),
            lambda: score_run(foreign, make_blobs(), ["memorization"], subset_runs=2),
        ):
            with pytest.raises(ArgumentError, match=rf"again with `model='{module}:small'`$"):
                verb()
        assert module not in sys.modules

    def test_the_gallery_does_without_it_and_says_so(self, tmp_path, module):
        images = make_images()
        # three classes, and labels that say nothing: some are wrong at the end, and which class is preferred is unknown
        images = Examples(images.x, torch.arange(48) % 3, ("a", "b", "c"), "halves")
        run = api.record(images, run=tmp_path / "run", epochs=2, recipe=FAST, model="mlp")
        messages: list[str] = []
        select_run(rewrite(run, name=f"{module}:small"), images, keep=0.5, method="el2n", log=messages.append)
        assert module not in sys.modules
        assert any("without the network's predictions" in line for line in messages)

    def test_named_again_it_is_used_with_the_options_named_again(self, tmp_path, module):
        name, data = f"{module}:small", make_blobs()
        options = {"width": 3}
        run = api.record(data, run=tmp_path / "run", epochs=2, recipe=FAST, model=name, model_options=options)
        with pytest.raises(ArgumentError, match=rf"again with `model='{name}'` `model_options=.'width': 3.`$"):
            score_run(run, data, ["grand_last"])
        with pytest.raises(ArgumentError, match=r"model options \{'width': 3\}, not \{\}"):
            score_run(run, data, ["grand_last"], model=name)
        with pytest.raises(ArgumentError, match=rf"was recorded with `model='{name}'`, not with other:small"):
            score_run(run, data, ["grand_last"], model="other:small")
        scores = score_run(run, data, ["grand_last"], model=name, model_options=options)
        assert torch.isfinite(scores["grand_last"]).all()

    def test_the_command_to_copy_is_quoted_and_printable(self, foreign):
        run = rewrite(foreign, name="os:system", options={"command": "x; rm -rf ~ \x1b[2J\n"})
        with pytest.raises(ArgumentError) as caught:
            network_of_run(run)
        message = str(caught.value)
        assert message.isprintable()
        assert message.endswith(r"`model='os:system'` `model_options={'command': 'x; rm -rf ~ \x1b[2J\n'}`")
        assert as_flags(message).endswith("--model os:system --model-option 'command=x; rm -rf ~ ?[2J?'")

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"classes": 9}, "classes follows from the data"),
            ({"shape": [4]}, "shape follows from the data"),
            ({"features": 9}, "features follows from the data"),
            ({"width": "wide"}, "cannot be built with the options"),
            ({"nothing": 1}, "has no option 'nothing'"),
        ],
    )
    def test_options_in_the_file_are_checked(self, foreign, options, match):
        with pytest.raises(ArgumentError, match=match):
            network_of_run(rewrite(foreign, name="mlp", options=options))


GRID = """
name = "small"
methods = ["full"]
keep = [0.5]
seeds = [0]
[data]
source = "digits"
[train]
epochs = 1
"""


class TestGrid:
    @pytest.mark.parametrize(
        "lines",
        [
            'model = "planted_network:small"',
            'model = "mlp"\n[score]\nmodel = "planted_network:small"',
            'model = "mlp"\n[[method]]\nname = "m"\nbatch = { keep = 0.5, model = "planted_network:small" }',
            'model = "mlp"\n[[method]]\nname = "m"\nreplay = { model = "planted_network:small", policy = "ucb" }',
        ],
    )
    def test_a_function_that_a_file_names_is_not_imported(self, tmp_path, module, lines):
        file = tmp_path / "grid.toml"
        file.write_text(GRID + lines)
        for read in (read_grid, read_grids):
            with pytest.raises(ArgumentError, match=r"names the function 'planted_network:small'.*again with `models="):
                read(file)
        assert module not in sys.modules
        assert read_grid(file, models=["planted_network:small"]).name == "small"

    @pytest.mark.parametrize("name", ["../../escaped", "/tmp/x", "..", "a\\\\b", ""])
    def test_a_name_that_leads_elsewhere_is_refused(self, tmp_path, name):
        file = tmp_path / "grid.toml"
        file.write_text(GRID.replace('"small"', f'"{name}"') + 'model = "mlp"')
        for read in (read_grid, read_grids):
            with pytest.raises(ArgumentError, match="name: names the folder of the results"):
                read(file)
