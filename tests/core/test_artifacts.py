"""Artefacts are read back as written, and what cannot be read or continued is named with what to do."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from datawinnow.core.artifacts import (
    FORMAT_VERSION,
    npz_names,
    open_npy,
    read_arrays,
    read_json,
    read_json_lines,
    read_npy,
    read_npz_arrays,
    read_table,
    read_tensor_metadata,
    read_tensors,
    require_same,
    write_json,
    write_json_lines,
    write_npy,
    write_npz,
    write_table,
    write_tensors,
)
from datawinnow.core.errors import RunError


def listing(folder):
    return sorted(p.name for p in folder.iterdir())


def test_json_reads_back(tmp_path):
    write_json(tmp_path / "a.json", {"n": 4})
    assert read_json(tmp_path / "a.json") == {"format": FORMAT_VERSION, "n": 4}


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"format": 1, "n": ', "is truncated or not JSON .*remove it and run the command that writes it again"),
        ("", "is truncated or not JSON"),
        ("\xff", "is truncated or not JSON"),
        ("[1, 2]", r"is not a JSON object written by datawinnow"),
        ('{"n": 3}', "has no format version"),
        ('{"format": "1"}', "has no format version"),
        ('{"format": 0}', "has no format version"),
        (json.dumps({"format": FORMAT_VERSION + 1}), r"newer datawinnow \(format 2, this one reads up to 1\)"),
    ],
    ids=["truncated", "empty", "bytes", "list", "no-format", "text-format", "zero-format", "newer"],
)
def test_what_cannot_be_read_is_named(tmp_path, text, match):
    path = tmp_path / "run.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=rf"run\.json {match}" if match[0] != "n" else match):
        read_json(path)


def test_no_such_file(tmp_path):
    with pytest.raises(RunError, match=r"no such file: .*missing\.json"):
        read_json(tmp_path / "missing.json")


def test_json_of_another_kind_or_without_a_key(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"kind": "grid", "rows": []})
    assert read_json(path, kind="grid", required=("rows",))["rows"] == []
    with pytest.raises(RunError, match=r"a\.json does not hold a curve, but grid; remove it"):
        read_json(path, kind="curve")
    with pytest.raises(RunError, match=r"a\.json is damaged \(it lacks settings\); begin again"):
        read_json(path, required=("settings",), remedy="begin again")


def test_tensors_and_arrays_read_back(tmp_path):
    path = tmp_path / "a.safetensors"
    base = torch.arange(6.0).view(2, 3)
    write_tensors(path, {"a": base.T, "b": base.bfloat16(), "c": base}, {"n": 2}, kind="plan")
    tensors, metadata = read_tensors(path, kind="plan", required=("a",))
    assert torch.equal(tensors["a"], base.T)
    assert tensors["b"].dtype is torch.bfloat16
    assert metadata == {"format": FORMAT_VERSION, "kind": "plan", "n": 2}
    assert read_tensor_metadata(path, kind="plan") == metadata
    write_tensors(path, {"bits": np.arange(6, dtype=np.uint8).reshape(2, 3).T}, {}, kind="bits")
    assert read_arrays(path, kind="bits")[0]["bits"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert listing(tmp_path) == ["a.safetensors"]


def test_arrays_are_written_and_read_without_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; import numpy as np; from datawinnow.core import artifacts as a; "
        "p = Path(sys.argv[1]); a.write_tensors(p, {'x': np.ones(2)}, {}, kind='k'); a.read_arrays(p, kind='k'); "
        "a.read_tensor_metadata(p, kind='k'); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], check=False).returncode == 0


def test_tensors_that_cannot_be_read_are_named_with_what_to_do(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(RunError, match=r"no such file: .*a\.safetensors; make it with: datawinnow x"):
        read_tensors(path, kind="plan", missing="make it with: datawinnow x")
    write_tensors(path, {"a": torch.ones(3)}, {}, kind="plan")
    with pytest.raises(
        RunError, match="does not hold a checkpoint, but plan; remove it and run the command that writes it again"
    ):
        read_tensors(path, kind="checkpoint")
    with pytest.raises(RunError, match=r"is damaged \(it lacks the tensors b, c\); record it again"):
        read_tensors(path, kind="plan", required=("a", "b", "c"), remedy="record it again")
    data = path.read_bytes()
    for junk in (data[:-3], data[:20], b"", b"junk that is long enough to look like a header", b"\xff" * 64):
        path.write_bytes(junk)
        with pytest.raises(RunError, match=r"a\.safetensors is truncated or damaged \(.*\); record it again"):
            read_tensors(path, kind="plan", remedy="record it again")
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(RunError, match="does not hold a plan: it was not written by datawinnow"):
        read_tensors(path, kind="plan")
    save_file({"a": torch.ones(2)}, path, metadata={"datawinnow": '{"format": 2, "kind": "plan"}'})
    with pytest.raises(RunError, match=r"newer datawinnow \(format 2"):
        read_tensors(path, kind="plan")
    save_file({"a": torch.ones(2)}, path, metadata={"datawinnow": "[1]"})
    with pytest.raises(RunError, match="is not a JSON object"):
        read_tensor_metadata(path, kind="plan")
    save_file({"a": torch.ones(2)}, path, metadata={"datawinnow": '{"form'})
    with pytest.raises(RunError, match="is truncated or damaged"):
        read_tensor_metadata(path, kind="plan")


def test_tables_read_back_and_damaged_ones_are_named(tmp_path):
    path = tmp_path / "keep=0.3" / "a.parquet"
    with pytest.raises(RunError, match=r"no such file: .*; make it with: datawinnow score RUN"):
        read_table(path, "datawinnow score RUN")
    write_table(path, pa.table({"x": [1, 2]}), {"method": "dual"})
    table, metadata = read_table(path, "datawinnow score RUN")
    assert (table.column_names, metadata) == (["x"], {"format": FORMAT_VERSION, "method": "dual"})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(RunError, match=r"is truncated or damaged .*make it again with: datawinnow score RUN"):
        read_table(path, "datawinnow score RUN")


def test_require_same_compares_as_json_and_names_the_first_difference():
    before = {"shape": [1, 2], "recipe": {"lr": 0.1, "batch": 64, "workers": 2}, "seed": 0}
    now = {"shape": (1, 2), "recipe": {"lr": 0.1, "batch": 64, "workers": 0}, "seed": 0, "until": None}
    require_same(before, now, "runs/a", ignore=("workers",))
    with pytest.raises(
        RunError,
        match=r"runs/a was started with recipe.workers=2, now it is 0: use another `run=`",
    ):
        require_same(before, now, "runs/a")
    now["recipe"] = {"lr": 0.2, "batch": 64}
    with pytest.raises(RunError, match=r"runs/a was started with recipe.lr=0\.1, now it is 0\.2: start again"):
        require_same(before, now, "runs/a", ignore=("workers",), remedy="start again")
    with pytest.raises(RunError, match="started with seed=zero, now it is one"):
        require_same({"seed": 0}, {"seed": 1}, "a", texts={"seed": ["zero", "one"].__getitem__})
    with pytest.raises(RunError, match="started with until=1, now it is 2"):
        require_same({"until": {"is": 1}}, {"until": {"is": 2}}, "a", texts={"until": lambda rule: str(rule["is"])})
    with pytest.raises(RunError, match="started with policy='ucb', now it is None"):
        require_same({"policy": "ucb"}, {}, "a")
    with pytest.raises(RunError, match="started with recipe=None, now it is"):
        require_same({}, {"recipe": {"lr": 1}}, "a")


@pytest.mark.parametrize("damage", [b"", b"not arrays" * 100, None], ids=["empty", "rubbish", "truncated"])
def test_files_of_arrays_read_back_and_damaged_ones_are_named(tmp_path, damage):
    npy, npz = tmp_path / "a.npy", tmp_path / "a.npz"
    for read in (read_npy, read_npz_arrays, npz_names):
        with pytest.raises(RunError, match=r"no such file: .*a\.np[yz]; record again"):
            read(npz if read is not read_npy else npy, remedy="record again")
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_npz(npz, {"x": array, "y": array[:1]})
    assert npz_names(npz) == {"x", "y"}
    assert {name: values.tolist() for name, values in read_npz_arrays(npz, ("y",)).items()} == {"y": [[0, 1, 2]]}
    with pytest.raises(RunError, match=r"a\.npz is truncated or damaged .*remove it"):
        read_npz_arrays(npz, ("z",))
    write_npy(npy, array)
    plain = npy.read_bytes()
    with open_npy(npy, (2, 3), array.dtype) as file:
        for row in array:
            file.write(row.tobytes())
    assert npy.read_bytes() == plain
    mapped = read_npy(npy, mapped=True)
    mapped[0, 0] = 9
    assert read_npy(npy).tolist() == array.tolist()
    for file, read in ((npy, read_npy), (npz, read_npz_arrays), (npz, npz_names)):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if damage is None else damage)
        with pytest.raises(RunError, match=f"{file.name} is truncated or damaged .*; record again") as error:
            read(file, remedy="record again")
        assert "pickle" not in str(error.value)  # no advice to load it unsafely


def test_json_lines_read_back_and_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    values = [{"format": 1, "label": "a\u2028b"}, {"format": 1, "x": None}]
    write_json_lines(path, values)
    assert read_json_lines(path) == values
    for line, message in (
        ('{"format": 1', "a.jsonl, line 3: truncated .*; remove it"),
        ("[" * 100_000, "a.jsonl, line 3: truncated"),
        ("[1]", "a.jsonl, line 3: not a JSON object"),
        ('{"format": 9}', "a.jsonl, line 3 was written by a newer datawinnow"),
        ('x\n{"format": 1}', "a.jsonl, line 3: not JSON"),
    ):
        write_json_lines(path, values)
        path.write_text(path.read_text() + line)
        with pytest.raises(RunError, match=message):
            read_json_lines(path, remedy="remove it")
