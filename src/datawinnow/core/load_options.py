"""`LoadOptions`: how a dataset is read, as the verbs take it and a run folder keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from datawinnow.core.budget import parse_fraction
from datawinnow.core.options import Option


@dataclass(frozen=True)
class LoadOptions:
    """How a dataset is read; None stands for the default, or for how the run in question read it.

    Attributes:
        size: side in pixels that images are resized to. Default: as they are if all are of one size up to 64; chosen
            otherwise.
        holdout: fraction of each class held out for testing where the data have no test split. Default: 0.2.
        limit: use only this number of training examples, stratified by class. Default: all.
        split_seed: seed of the draws for ``holdout`` and ``limit``; apart from ``seed``, so that seeds share one
            dataset. Default: 0.
        image: column (or array) of images in Parquet, .npz or hf:. Default: guessed.
        label: column (or array) of labels. Default: guessed.
        text: column of texts, by name or by number from 0. Default: guessed.
        length: tokens of a text; longer texts are truncated. Default: the 99th percentile of the training texts, at
            most 256.
        tokenizer: tokenizer of this transformers model. Default: that of ``model`` if it is pretrained, else the
            words of the training texts.
        header: whether the first line of a .csv or .tsv file names the columns. Default: guessed.
        standardise: give each column of vectors mean 0 and standard deviation 1, by the training split. Default: yes
            where the examples are vectors in files, arrays or a DataFrame.
        flip: mirror training images left to right with probability 0.5; not for images of text or digits, or where
            left and right differ. Default: colour images only.
        skip_broken: leave out images that cannot be decoded and broken lines, and report how many; otherwise the first
            is an error.
        test: data with another test split: a path or hf:owner/name, of which the test split is tested on, or all of it
            if it has no splits. Nothing is then held out. Default: the test split of the data, or one held out.
        decisions: a .csv file of decisions about examples, as an audit writes it: columns id, action (keep, drop or
            relabel:NAME) and, if need be, split. Dropped examples are left out, others get the label. Default: none.
    """

    PANEL: ClassVar[str] = "Data"

    size: Annotated[int | None, Option("PIXELS")] = None
    holdout: Annotated[float | None, Option("FRACTION")] = None
    limit: Annotated[int | None, Option("N")] = None
    split_seed: Annotated[int | None, Option("N")] = None
    image: Annotated[str | None, Option("NAME")] = None
    label: Annotated[str | None, Option("NAME")] = None
    text: Annotated[str | None, Option("NAME")] = None
    length: Annotated[int | None, Option("TOKENS")] = None
    tokenizer: Annotated[str | None, Option("hf:PATH")] = None
    header: bool | None = None
    standardise: bool | None = None
    flip: bool | None = None
    skip_broken: bool = False
    test: Annotated[str | None, Option("TEST")] = None
    decisions: Annotated[Path | None, Option("FILE")] = None

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> LoadOptions:
        """The options that `to_dict` returned, as a run folder and its selection keep them."""
        values = dict(stored)
        skip_broken = values.pop("on_broken", None) == "skip"
        decisions = values.pop("decisions", None)
        return cls(
            split_seed=values.pop("seed", None),
            skip_broken=skip_broken,
            decisions=None if decisions is None else Path(decisions),
            **values,
        )

    def to_dict(self) -> dict[str, Any]:
        """Those that are set, under their names in `datawinnow.load`."""
        names = {"split_seed": "seed", "skip_broken": "on_broken"}
        values = {names.get(field.name, field.name): getattr(self, field.name) for field in fields(self)}
        values["on_broken"] = "skip" if self.skip_broken else None
        values["holdout"] = parse_fraction(self.holdout)
        values["test"] = None if self.test is None else absolute_source(str(self.test))
        # found from another working directory too
        values["decisions"] = None if self.decisions is None else str(Path(self.decisions).expanduser().resolve())
        return {key: value for key, value in values.items() if value is not None}

    def or_else(self, other: LoadOptions) -> LoadOptions:
        """These options, and those of ``other`` where one is not set."""
        return LoadOptions.from_dict({**other.to_dict(), **self.to_dict()})


def absolute_source(source: str) -> str:
    """``source`` as it can be found from another working directory."""
    if source == "digits" or source.startswith("hf:"):
        return source
    return str(Path(source).expanduser().resolve())
