"""`LoadOptions`: what a run keeps of how its data were read is what they are read with again."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from datawinnow import api
from datawinnow.core.artifact_schemas import LoadedWith
from datawinnow.core.load_options import LoadOptions

VALUES = {
    "size": 32, "holdout": 0.3, "limit": 90, "split_seed": 4, "image": "img", "label": "y", "text": "said", "length": 9,
    "tokenizer": "hf:x", "header": False, "standardise": False, "flip": False, "skip_broken": True,
    "test": "/test.csv", "decisions": Path("/decisions.csv"),
}  # fmt: skip


def test_every_option_is_kept_and_passes_the_schema_of_run_folders():
    assert set(VALUES) == {field.name for field in fields(LoadOptions)}
    options = LoadOptions(**VALUES)
    stored = options.to_dict()
    assert len(stored) == len(VALUES)
    assert LoadedWith.model_validate(stored).model_dump() == stored
    assert LoadOptions.from_dict(stored) == options
    assert LoadOptions().to_dict() == {}
    assert set(LoadedWith.model_fields) == set(stored)


def test_options_that_are_set_win_over_others():
    assert LoadOptions(limit=5).or_else(LoadOptions(limit=9, flip=False, skip_broken=True)) == LoadOptions(
        limit=5, flip=False, skip_broken=True
    )


@pytest.mark.parametrize("option", [{"standardise": False}, {"header": False}])
def test_a_run_can_be_opened_again_with_the_options_it_keeps(tmp_path, option):
    rows = [f"{'good' if i % 2 else 'bad'} word{i % 5}\t{i % 2}" for i in range(40)]
    (tmp_path / "texts.tsv").write_text("\n".join(rows))
    source = "digits" if "standardise" in option else tmp_path / "texts.tsv"
    load = replace(LoadOptions(limit=30), **option)
    run = api.record(source, epochs=1, run=tmp_path / "run", load=load, recipe=None)
    assert run.metadata["options"]["load"] == {"limit": 30, **option}
    kept = api.select(tmp_path / "run", keep=0.5, method="el2n")
    assert len(kept.selection) == 15
