"""Datasets of the hub and folders of save_to_disk, on local files: what `datasets` keeps, names of classes, splits."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from datawinnow.core.errors import DataError
from datawinnow.data import load, write_kept
from tests.data.helpers import encoded, pixels, write_parquet
from tests.data.test_load_parquet import offline  # noqa: F401  (a fixture)

README = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': bad
          '1': good
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/held-out-*
---
"""


def kept_bytes(root) -> int:
    """Bytes of data in the cache of `datasets`."""
    return sum(p.stat().st_size for p in (root / "hub-cache").rglob("*") if p.is_file())


def reviews(n: int) -> dict[str, list]:
    return {"text": [f"review number {i}" for i in range(n)], "label": [i % 2 for i in range(n)]}


def test_parquet_of_the_hub_leaves_no_copy(offline):  # noqa: F811
    x = pixels(8)
    write_parquet(offline / "owner" / "name" / "train-0.parquet", list(x), [0, 1] * 4, names=("a", "b"))
    train, _ = load("hf:owner/name", holdout=0.25)
    assert train.classes == ("a", "b")
    assert kept_bytes(offline) == 0
    assert not any("copy" in note for note in train.notes)


def test_splits_and_names_of_classes_that_stand_only_in_the_readme(offline):  # noqa: F811
    folder = offline / "owner" / "reviews"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text(README)
    pq.write_table(pa.table(reviews(12)), folder / "data" / "train-00000-of-00001.parquet")
    pq.write_table(pa.table(reviews(4)), folder / "data" / "held-out-00000-of-00001.parquet")
    train, test = load("hf:owner/reviews")
    assert (len(train), len(test)) == (12, 4)
    assert train.classes == test.classes == ("bad", "good")
    assert kept_bytes(offline) == 0
    out = write_kept(train, torch.tensor([1, 2, 5, 8]), offline / "out")
    again, _ = load(out, holdout=0.25)
    assert again.classes == ("bad", "good")
    features = datasets.Dataset.from_parquet(str(out / "train-00000-of-00001.parquet")).features
    assert features["label"].names == ["bad", "good"]


def test_other_formats_of_the_hub_name_the_copy_and_its_size(offline):  # noqa: F811
    folder = offline / "owner" / "lines"
    folder.mkdir(parents=True)
    rows = reviews(12)
    lines = [json.dumps({"text": t, "label": y}) + "\n" for t, y in zip(*rows.values(), strict=True)]
    (folder / "train.jsonl").write_text("".join(lines))
    train, test = load("hf:owner/lines", holdout=0.25)
    assert sorted([*train.texts, *test.texts]) == sorted(rows["text"])
    note = next(note for note in train.notes if "copy" in note)
    assert "MB in " in note
    assert str(offline / "hub-cache") in note
    assert kept_bytes(offline) > 0


@pytest.mark.parametrize("splits", [True, False])
def test_a_folder_of_save_to_disk(tmp_path, splits):
    x = pixels(12)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [{"bytes": encoded(a), "path": None} for a in x], "label": [i % 2 for i in range(12)]}
    saved = datasets.Dataset.from_dict(rows, features=features)
    if splits:
        saved = datasets.DatasetDict(train=saved, test=saved.select(range(4)))
    saved.save_to_disk(str(tmp_path / "saved"))
    train, test = load(tmp_path / "saved", holdout=0.25)
    assert train.classes == ("cat", "dog")
    if splits:
        assert np.array_equal(train.x.permute(0, 2, 3, 1).numpy(), x)
        assert len(test) == 4
    else:
        assert (len(train), len(test)) == (9, 3)
        assert torch.equal(train.labels, torch.tensor([int(i) % 2 for i in train.ids]))
    out = write_kept(train, torch.tensor([0, 3, 5, 6, 7]), tmp_path / "out")
    assert load(out, holdout=0.4)[0].classes == ("cat", "dog")


def test_a_damaged_folder_of_save_to_disk_is_named(tmp_path):
    datasets.Dataset.from_dict(reviews(8)).save_to_disk(str(tmp_path))
    next(tmp_path.glob("*.arrow")).unlink()
    with pytest.raises(DataError, match=r"is not a complete folder of save_to_disk .*save it again"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["../../x", "/etc", "..", "a/../b", "~/x", "a b/c", ".hidden/x"])
def test_names_that_lead_to_local_files_are_refused_at_once(name, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: pytest.fail("looked for"))
    with pytest.raises(DataError, match="is not a dataset of the hub"):
        load(f"hf:{name}")


def test_a_dict_of_splits_is_chosen_from_as_files_are():
    rows = {"x": [[float(i), 1.0] for i in range(12)], "label": [i % 3 for i in range(12)]}
    secret = datasets.Dataset.from_dict({**rows, "label": [-1] * 12})
    dataset = datasets.Dataset.from_dict(rows)
    train, test = load(datasets.DatasetDict(train=dataset, test=secret, validation=dataset.select(range(6))))
    assert (len(train), len(test)) == (12, 6)
    assert any("test is not used: its labels are missing" in note for note in train.notes)
