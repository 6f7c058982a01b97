"""`datawinnow.api.condense`: what it returns, without and with a run folder."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import datawinnow as dw
from datawinnow import Synthetic, api
from datawinnow.condense import Judging
from datawinnow.core.artifacts import read_table
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.row_checks import checked_rows

SMALL = {"per_class": 1, "iterations": 2, "options": {"real_batch": 8}, "model_options": {"width": 4}}
JUDGING = Judging(networks=1, watched=1, snapshots=2, epochs=2)


@pytest.fixture(scope="module")
def digits():
    return dw.load("digits", limit=100)


def test_objects_need_no_run_folder_and_a_folder_holds_the_same_images(digits, tmp_path):
    train, test = digits
    temporary = api.condense(train, judging=JUDGING, **SMALL)
    assert (temporary.path, temporary.page, temporary.metadata["result"]["curve"]) == (None, None, [])
    kept = dw.condense(train, test=test, judging=JUDGING, run=tmp_path / "run", report=True, **SMALL)
    assert torch.equal(kept.synthetic.images, temporary.synthetic.images)
    assert torch.equal(Synthetic.load(kept.path / "synthetic.safetensors").images, kept.synthetic.images)
    assert {row["set"] for row in kept.metadata["result"]["curve"]} == {"iteration 0", "iteration 2", "random"}
    assert kept.page == tmp_path / "run" / "report.html"
    assert kept.page.is_file()


def test_augmentation_is_the_papers_without_flip_or_as_given(digits, tmp_path):
    def strategy(**options):
        about = api.condense(digits[0], judging=Judging(networks=0), **SMALL, **options).synthetic.about
        return about["augment"] and about["augment"]["strategy"]

    assert strategy() == "color_crop_cutout_scale_rotate"
    assert strategy(augment="crop") == "crop"
    assert strategy(augment=None) is None
    assert strategy(augment="none") is None


def test_data_by_name_go_to_a_folder_named_after_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notes = []
    condensed = api.condense(
        "digits",
        load=api.LoadOptions(limit=100),
        method="DM",
        seed=3,
        judging=Judging(networks=0),
        log=notes.append,
        **SMALL,
    )
    assert str(condensed.path) == "runs/digits-dm-1-seed3"
    assert condensed.metadata["options"]["load"] == {"limit": 100}
    assert [note.split(":")[0] for note in notes] == ["data", "data", "data", "augmentation", "network", "estimate"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"options": {"checkpoint": "x"}}, "options has 'checkpoint', which is a parameter of its own"),
        ({"report": True}, "`report=True` needs a run folder"),
        ({"method": "dmm"}, "no condenser is called 'dmm'"),
    ],
)
def test_arguments_are_checked(digits, options, match):
    with pytest.raises(ArgumentError, match=match):
        api.condense(digits[0], **{**SMALL, **options})


def test_data_are_not_tested_on_an_object(digits):
    with pytest.raises(ArgumentError, match="must be a path"):
        api.condense("digits", test=digits[1], **SMALL)


def test_a_class_too_small_to_compare_with_is_found_before_condensing(digits):
    train, test = digits
    few = train.subset(torch.cat([torch.nonzero(train.labels != 0).flatten(), torch.nonzero(train.labels == 0)[0]]))
    done = []
    options = {**SMALL, "per_class": 2, "options": {"real_batch": 8, "init": "noise"}}
    with pytest.raises(ArgumentError, match=r"compared with 2 random real images of every class, but class 0 has 1"):
        api.condense(few, test=test, judging=JUDGING, progress=lambda *stage: done.append(stage), **options)
    assert done == []
    result = api.condense(few, test=test, judging=Judging(networks=0), **options)
    assert len(result.synthetic.images) == 20


@pytest.mark.parametrize(("method", "tiles"), [("dm", 1), ("idm", 4)])
def test_the_record_names_the_real_examples_by_ids_and_rows_of_the_source(digits, tmp_path, method, tiles):
    x, y = load_digits(return_X_y=True)
    small = {**SMALL, "options": {"real_batch": 8, "init": "real"}, "iterations": 1, "per_class": 2}
    load = dw.LoadOptions(limit=150)
    condensed = api.condense("digits", method=method, load=load, judging=JUDGING, run=tmp_path / "run", **small)
    train, _ = dw.load("digits", limit=150)
    about = Synthetic.load(condensed.path / "synthetic.safetensors").about
    assert [len(ids) for ids in about["initial_ids"]] == [tiles] * 20
    for label, positions, ids, rows in zip(
        condensed.synthetic.labels.tolist(), about["initial"], about["initial_ids"], about["initial_rows"], strict=True
    ):
        assert ids == [train.ids[i] for i in positions]
        assert rows == train.origin.rows[positions].tolist()
        assert (y[rows] == label).all()
    # the start is made of them
    start = Synthetic.load(condensed.path / "snapshots" / "0000000.safetensors")
    for image, rows in zip(start.pixels(), about["initial_rows"], strict=True):
        if tiles == 1:
            assert torch.equal((image[0] * 16).round(), torch.tensor(x[rows[0]].reshape(8, 8)).float())
        else:  # tile by tile: top left, below it, top right, bottom right
            for k, row in enumerate(rows):
                part_of_image = image[0, 4 * (k % 2) :, 4 * (k // 2) :][:4, :4]
                small_image = F.interpolate(torch.tensor(x[row].reshape(1, 1, 8, 8)) / 16, size=4, mode="bilinear")
                assert torch.allclose(part_of_image, small_image[0, 0].float(), atol=0.01)
    file = condensed.path / "real_examples.parquet"
    table, metadata = read_table(file, "condense")
    assert metadata["fingerprint"] == train.fingerprint
    rows = table.to_pylist()
    initial = {(row["initial"], row["row"]) for row in rows if row["initial"] >= 0}
    assert initial == {(i, row) for i, each in enumerate(about["initial_rows"]) for row in each}
    assert all(train.ids[row["position"]] == row["id"] for row in rows)
    assert all(y[row["row"]] == row["label"] for row in rows)
    compared = [row["label"] for row in rows if row["compared"]]
    assert sorted(compared) == sorted(list(range(10)) * 2)
    assert sorted(checked_rows(table, file, len(train), "")) == sorted(row["position"] for row in rows)
    with pytest.raises(RunError, match="do not say what was written"):
        checked_rows(table.set_column(1, "row", table.column("position")), file, len(train), "")


def test_from_noise_and_without_a_comparison_there_are_none(digits, tmp_path):
    noise = {**SMALL, "options": {"real_batch": 8, "init": "noise"}, "run": tmp_path / "run"}
    condensed = api.condense(digits[0], judging=Judging(networks=0), **noise)
    assert condensed.synthetic.about["initial"] is None
    assert not (tmp_path / "run" / "real_examples.parquet").exists()
