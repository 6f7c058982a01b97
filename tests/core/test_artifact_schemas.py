"""A JSON artefact that was edited or damaged is refused by file and field, whatever is in it; never a traceback."""

from __future__ import annotations

import json
import random
import shutil
import warnings

import numpy as np
import pytest
import torch

from datawinnow import api, report
from datawinnow.core.artifact_schemas import CondenseFile, CurveFile, GridFile, InstructFile, LeaveOneOutFile
from datawinnow.core.artifacts import read_json, read_table, write_json, write_table, write_tensors
from datawinnow.core.errors import DatawinnowError, RunError
from datawinnow.core.selection_history import SelectionHistory
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.selection_file import read_selection
from datawinnow.train import Recipe
from datawinnow.train.checkpoint import read_metadata, save_checkpoint

CLIP = {"name": "a", "n": 3, "budget": 1, "label": "x", "means": [], "agreement": {}, "reasons": {}, "gallery": {}}
LEFT_OUT = {
    "name": "ridge",
    "predicted": [1.0],
    "error": {"mean": 1.0, "half": None, "n": 1},
    "difference": None,
    "correlation": None,
    "outcome": "ties",
}
CURVE = {"rows": [{"set": "random", "iteration": None, "accuracies": [0.5], "seconds": 1.0}]}
CONDENSED = {
    "verb": "condense",
    "name": "a",
    "dataset": {"name": "a", "n": 3, "fingerprint": "f", "shape": [1, 8, 8], "classes": ["0"]},
    "options": {"method": "dm", "per_class": 1, "iterations": 2, "network": "convnet", "load": {}},
    "judged": {"networks": 1, "epochs": 1, "test": 4},
    "status": {"condense": "unfinished"},
    "cost": {},
}
BAD_TEXTS = ["NaN", "Infinity", "1e999", "9" * 5000, "[" * 100_000, "[" * 400 + "]" * 400]
BAD_VALUES = [None, "60", "", -1, 1.5, 1e300, 2**70, True, [], {}, [None], {"a": None}, [[[]]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("artifacts") / "run"
    options = {"model": "mlp", "recipe": Recipe(precision="fp32"), "load": api.LoadOptions(limit=40)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api.prune("digits", keep=0.5, score="el2n", epochs=1, run=path, report=True, **options)
    return path


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset.n", "60"),
        ("dataset.n", None),
        ("dataset.classes", "abc"),
        ("status.record", None),
        ("cost.record.seconds", None),
        ("cost.record.backward", 1.5),
        ("options.record.epochs", "1"),
        ("options.load.limit", "40"),
        ("options.load.pickle", True),
        ("options.select.keep", "0.5"),
        ("seed", True),
        ("model.name", 3),
    ],
)
def test_a_value_of_a_run_is_named(copy, field, value):
    metadata = json.loads((copy / "run.json").read_text())
    *outer, last = field.split(".")
    inner = metadata
    for key in outer:
        inner = inner[key]
    inner[last] = value
    (copy / "run.json").write_text(json.dumps(metadata))
    for read in (RunFolder.open, report.write):
        with pytest.raises(RunError, match=rf"run/run\.json is damaged \({field}: .*, got "):
            read(copy)


@pytest.mark.parametrize("text", BAD_TEXTS, ids=lambda text: text[:8])
def test_what_json_or_an_artefact_has_not(copy, text):
    (copy / "run.json").write_text((copy / "run.json").read_text().replace('"seed": 0', f'"seed": {text}'))
    with pytest.raises(RunError, match=r"run\.json is truncated or not JSON"):
        RunFolder.open(copy)


@pytest.mark.parametrize(
    ("schema", "good", "field", "value"),
    [
        (CurveFile, CURVE, "rows", None),
        (CurveFile, CURVE, "rows.0.accuracies", [None]),
        (CondenseFile, CONDENSED, "options.per_class", "1"),
        (CondenseFile, CONDENSED, "dataset", []),
        (InstructFile, CLIP, "budget", "1"),
        (InstructFile, CLIP, "agreement", None),
        (InstructFile, CLIP, "gallery", {"first": [{"id": "0", "instruction": "", "answer": "", "reason": "kept"}]}),
        (LeaveOneOutFile, {"key": "k", "scorers": [LEFT_OUT]}, "scorers.0.error.mean", "1"),
        (LeaveOneOutFile, {"key": "k", "scorers": [LEFT_OUT]}, "scorers.0.outcome", "maybe"),
        (GridFile, {"settings": {"data": {}}}, "settings.data", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_of_other_artefacts_is_named(tmp_path, schema, good, field, value):
    write_json(tmp_path / "a.json", good)
    assert read_json(tmp_path / "a.json", schema=schema) == {"format": 1, **good}
    content = json.loads(json.dumps(good))
    *outer, last = [int(key) if key.isdigit() else key for key in field.split(".")]
    inner = content
    for key in outer:
        inner = inner[key]
    inner[last] = value
    write_json(tmp_path / "a.json", content)
    with pytest.raises(RunError, match=rf"a\.json (is damaged \({field}.*: .*, got |lacks {field})"):
        read_json(tmp_path / "a.json", schema=schema)


@pytest.mark.parametrize(("key", "value"), [("load", {"limit": "40"}), ("load", {"pickle": 1}), ("keep", float("nan"))])
def test_the_header_of_a_selection_is_checked_before_its_data_are_loaded(copy, key, value):
    path = copy / "selection.parquet"
    table, metadata = read_table(path, "make it")
    write_table(path, table, {**metadata, key: value})
    with pytest.raises(RunError, match=rf"selection\.parquet is damaged \({key}"):
        read_selection(path)
    with pytest.raises(RunError, match=rf"selection\.parquet is damaged \({key}"):
        report.write(copy)


def _paths(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def test_no_change_of_a_run_ends_in_a_traceback(copy):
    """A seeded walk: each change is either of no consequence, or refused by an error of datawinnow's own."""
    text, draws, refused = (copy / "run.json").read_text(), random.Random(0), 0
    places = [path for path in _paths(json.loads(text)) if path]
    for _ in range(60):
        metadata, place = json.loads(text), draws.choice(places)
        inner = metadata
        for key in place[:-1]:
            inner = inner[key]
        if draws.random() < 0.2:
            del inner[place[-1]]
        else:
            inner[place[-1]] = draws.choice(BAD_VALUES)
        (copy / "run.json").write_text(json.dumps(metadata))
        try:
            folder = RunFolder.open(copy)
            folder.recorded()
            folder.arrays()
            folder.made_by("check")
            assert folder.dataset.n == folder.n
            report.run_page.run_context(copy)
        except DatawinnowError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"{place} = {inner!r:.200}") from error
    assert 20 < refused < 60


@pytest.mark.parametrize("value", BAD_VALUES, ids=repr)
@pytest.mark.parametrize("field", ["epoch", "rows", "cost", "scalars"])
def test_the_metadata_of_a_checkpoint_are_checked(tmp_path, field, value):
    network = torch.nn.Linear(2, 2)
    path, cost = tmp_path / "x.safetensors", {"seconds": 1.0, "forward": 3, "backward": 3, "flops": 0.0}
    valid = {"epoch": 1, "rows": [{"examples": 3, "loss": float("nan")}], "cost": cost}
    save_checkpoint(path, network, None, valid)
    assert read_metadata(path)["rows"][0]["examples"] == 3
    write_tensors(path, dict(network.state_dict()), {"scalars": {}, **valid, field: value}, kind="checkpoint")
    if (field, value) in (("rows", []), ("cost", None), ("cost", {}), ("scalars", {})):
        assert read_metadata(path)[field] == value
        return
    with pytest.raises(RunError, match=rf"x.safetensors .*\b{field}"):
        read_metadata(path)


@pytest.mark.parametrize("value", [v for v in BAD_VALUES if v is not None], ids=repr)
@pytest.mark.parametrize("field", ["n", "first_epoch", "fingerprint", "made_by", "cost"])
def test_the_metadata_of_a_selection_history_are_checked(tmp_path, field, value):
    path = tmp_path / "plan.safetensors"
    arrays = {"index": np.array([0, 2], dtype=np.int32), "ends": np.array([2])}
    valid = {"n": 3, "first_epoch": 0, "fingerprint": "f", "made_by": "me", "cost": 2.0}
    write_tensors(path, arrays, valid, kind="selection history")
    assert SelectionHistory.load(path).ids(0).tolist() == [0, 2]
    write_tensors(path, arrays, {**valid, field: value}, kind="selection history")
    is_text = isinstance(value, str) and field in ("fingerprint", "made_by")
    if is_text or (field == "cost" and value in (1.5, 1e300, 2**70)):
        assert getattr(SelectionHistory.load(path), field) == value
        return
    with pytest.raises(RunError, match=rf"plan.safetensors .*\b{field}"):
        SelectionHistory.load(path)
