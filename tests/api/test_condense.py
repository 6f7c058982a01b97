"""`datawinnow.api.condense`: what it returns, without and with a run folder."""

from __future__ import annotations

import pytest
import torch

import datawinnow as dw
from datawinnow import Synthetic, api
from datawinnow.condense import Judging
from datawinnow.core.errors import ArgumentError

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


def test_data_bring_their_own_test_split(digits):
    with pytest.raises(ArgumentError, match="brings its own test split"):
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
