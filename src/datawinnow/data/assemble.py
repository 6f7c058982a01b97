"""From encoded images and labels to two splits: in memory where they fit, on demand where they do not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import shares
from datawinnow.core.draw import tie_order, tie_seed_of
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.progress import Progress
from datawinnow.core.rng import stream
from datawinnow.data import cache
from datawinnow.data.examples import (
    MEAN_SAMPLE,
    Augment,
    Examples,
    LazyExamples,
    Origin,
    channel_statistics,
    sampled_statistics,
    stratified,
)
from datawinnow.data.images import Decoded, Encoded, OnBroken, Plan, decode_all, make_plan
from datawinnow.data.labels import similar_classes
from datawinnow.data.memory import default_memory
from datawinnow.data.sampled import DecodingTime, SampledImages, decode_sample

Loaded = Examples | LazyExamples


DEFAULT_HOLDOUT = 0.2
"""Fraction of each class that becomes the test split, where the source has none."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of `load`, passed to every reader."""

    size: int | None
    seed: int
    holdout: float
    image: str | None
    label: str | None
    on_broken: OnBroken
    memory: int | None
    limit: int | None
    progress: Progress | None
    text: str | None = None
    length: int | None = None
    tokenizer: str | None = None
    header: bool | None = None
    kept_classes: tuple[str, ...] = ()
    """Classes of a folder of kept examples, in which some may have none."""
    only_sample: bool = False
    """Decode only a few images, for an estimate: the splits are `SampledImages`."""
    only: Literal["", "train", "test"] = ""
    """Where the test split is of another source, which of the two is read: a reader returns that one split twice, and
    nothing is held out."""
    train: Loaded | None = None
    """The train split, where the test split is read: that gets its sizes, statistics, vocabulary and classes."""

    def checked(self) -> ReadOptions:
        """The options with ``memory`` filled in, if all are in range.

        Raises:
            ArgumentError: an option is out of range.
        """
        highest = 2**63 - 1
        for name, low, high in (
            ("size", 2, 4096),
            ("memory", 0, highest),
            ("limit", 1, highest),
            ("length", 1, 1 << 16),
        ):
            value = getattr(self, name)
            if value is not None:
                check.number(name, value, low, high, integer=True)
        check.number("seed", self.seed, 0, highest, integer=True)
        check.number("holdout", self.holdout, 1e-6, 1 - 1e-6)
        if self.header not in (None, True, False):
            raise ArgumentError(f"header must be True, False or None, got {self.header!r}")
        check.one_of("on_broken", self.on_broken, ("raise", "skip"))
        return self if self.memory is not None else replace(self, memory=default_memory())

    def fits(self, size: int) -> bool:
        """Whether ``size`` bytes may be used."""
        return self.memory is None or size <= self.memory


@dataclass(frozen=True)
class Split:
    """Encoded images of one split with their labels.

    Attributes:
        images: where they are.
        labels: (n,) int64.
        origin: where they came from.
        ids: their names, or None for the row number.
    """

    images: Encoded
    labels: Tensor
    origin: Origin
    ids: list[str] | None = None

    def take(self, index: Tensor) -> Split:
        """The examples at ``index`` (m,); without names of their own they keep the row numbers they had."""
        origin = self.origin.take(index)
        assert origin.rows is not None  # those of index
        ids = [str(i) for i in origin.rows.tolist()] if self.ids is None else [self.ids[i] for i in index.tolist()]
        return Split(self.images.take(index.numpy()), self.labels[index], origin, ids)


def assemble(
    train: Split, test: Split | None, classes: tuple[str, ...], name: str, options: ReadOptions, notes: tuple[str, ...]
) -> tuple[Loaded, Loaded]:
    """Decode both splits, or make them decode on demand where they exceed ``options.memory`` bytes.

    Args:
        train: what to train on.
        test: what to test on; None to hold out a part of ``train``.
        classes: names of the classes.
        name: short name of the dataset.
        options: of `load`.
        notes: remarks for the user so far.

    Raises:
        DataError: only one class in the train split, or a broken image.
    """
    if options.only != "test":
        notes += check_classes(train.labels, classes, name)
    if options.only:
        return _assemble_one(train, classes, name, options, notes)
    if test is None:
        train_index, test_index, note = hold_out(train.labels, options.holdout, options.seed)
        train, test, notes = train.take(train_index), train.take(test_index), (*notes, note)
    plan = make_plan((train.images, test.images), options.size)
    notes += plan.notes
    total = len(train.labels)
    if options.limit is not None and options.limit < total:
        # before decoding: photos take milliseconds each
        train = train.take(stratified(train.labels, options.limit, limit_stream(options.seed)))
        notes += (limit_note(len(train.labels), total),)
    # bytes: a uint8 a value
    need = prod(plan.shape) * (len(train.labels) + len(test.labels))
    fits = options.fits(need)
    if not fits:
        notes += (on_demand_note(need, len(train.labels)),)
    if options.only_sample:
        first, second = _sampled((train, test), plan, classes, name, options, notes, in_memory=fits)
        return first, second
    build = _in_memory if fits else _lazy
    loaded = build(train, plan, classes, name, options, None, notes)
    tested = build(test, plan, classes, name, options, loaded, notes)
    if loaded.shape != tested.shape:  # colour turned up in one split only, past the sample
        plan = replace(plan, channels=3)
        loaded = build(train, plan, classes, name, options, None, notes)
        tested = build(test, plan, classes, name, options, loaded, notes)
    return loaded, tested


def _assemble_one(
    split: Split, classes: tuple[str, ...], name: str, options: ReadOptions, notes: tuple[str, ...]
) -> tuple[Loaded, Loaded]:
    """`assemble` of the train or the test split alone, which is returned twice."""
    plan, train = make_plan((split.images,), options.size), options.train
    if train is not None:
        channels, height, width = shape_of_train(train, "images", name)
        if plan.channels > channels:
            raise DataError(f"the images of {name} are in colour, those of {train.name} grey: bring both to one")
        # sampled: images of another size are counted, and colour that turns up later is found
        plan = replace(plan, height=height, width=width, channels=channels, sampled=True, notes=())
    notes += plan.notes
    total = len(split.labels)
    if options.only == "train" and options.limit is not None and options.limit < total:
        split = split.take(stratified(split.labels, options.limit, limit_stream(options.seed)))
        notes += (limit_note(len(split.labels), total),)
    fits = options.fits(prod(plan.shape) * len(split.labels))
    if not fits:
        notes += (on_demand_note(prod(plan.shape) * len(split.labels), len(split.labels)),)
    if options.only_sample:
        sampled = _sampled((split,), plan, classes, name, options, notes, in_memory=fits)[0]
        return sampled, sampled
    loaded = (_in_memory if fits else _lazy)(split, plan, classes, name, options, train, notes)
    return loaded, loaded


def on_demand_note(need: int, num_train: int) -> str:
    """The note about images that take too many bytes (``need``) to be kept decoded."""
    return (
        f"decoded images would take {need / 1e9:.2g} GB, more than may be used (`memory=`), so they are decoded on "
        f"demand; mean and standard deviation come from {min(MEAN_SAMPLE, num_train):,} of them"
    )


def shape_of_train(train: Loaded, kind: str, name: str) -> tuple[int, ...]:
    """Shape of an example of the train split, for a test split from another source.

    Args:
        train: the train split.
        kind: of the test split: "images", "texts" or "vectors".
        name: of the test split, for the error.

    Raises:
        DataError: they are of another kind.
    """
    if kind_of(train) != kind:
        raise DataError(f"{name} holds {kind} to test on, but {train.name}, which is trained on, {kind_of(train)}")
    return train.shape


def kind_of(dataset: Loaded) -> str:
    """What a dataset holds: "images", "texts" or "vectors"."""
    return "texts" if hasattr(dataset, "texts") else "images" if len(dataset.shape) == 3 else "vectors"


def one_split(every: Examples, options: ReadOptions) -> tuple[Examples, Examples]:
    """All examples of a source, twice: as the train split or as the test split (``options.only``)."""
    if options.train is not None:
        split: Loaded = replace(every, split="test", mean=options.train.mean, std=options.train.std)
    else:
        split = limited(every, options)
    assert isinstance(split, Examples)  # what goes in comes out
    return split, split


def limited(train: Loaded, options: ReadOptions) -> Loaded:
    """``options.limit`` stratified examples of ``train``, with a note; all if None or if there are fewer."""
    if options.limit is None or options.limit >= len(train):
        return train
    less = train.stratified(options.limit, limit_stream(options.seed))
    return replace(less, notes=(*less.notes, limit_note(len(less), len(train))))


def limit_note(count: int, n: int) -> str:
    """The note about a limit."""
    return f"limited to {count:,} of {n:,} training examples, every class by its share"


def limit_stream(seed: int) -> torch.Generator:
    """Randomness for `limited`."""
    return stream(seed, "data", "limit")


def check_classes(labels: Tensor, classes: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Notes about classes without examples.

    Raises:
        DataError: all examples are of one class.
    """
    # minlength: classes without an example count 0
    counts = torch.bincount(labels, minlength=len(classes))
    present = [c for c, count in zip(classes, counts.tolist(), strict=False) if count]
    if len(present) < 2:
        raise DataError(f"{name}: only one class ({present[0]!r}); at least two are needed to learn to tell them apart")
    notes = similar_classes(classes, counts.tolist()[: len(classes)])
    missing = [c for c, count in zip(classes, counts.tolist(), strict=False) if not count]
    if not missing:
        return notes
    return (
        *notes,
        f"{len(missing)} of {len(classes)} classes have no training example: {', '.join(missing[:10])}",
    )


def hold_out(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor, str]:
    """A stratified split in two: ids to train on and ids to test on, both rising, and a note.

    At least one example of every class stays in the first.

    Args:
        labels: (n,) int64.
        fraction: of the examples, to test on.
        seed: of the draw.

    Raises:
        DataError: too few examples to hold any out.
    """
    sizes = torch.bincount(labels).tolist()
    # one example of every class stays in the train split
    max_of_class = [max(0, s - 1) for s in sizes]
    count = min(max(1, round(fraction * len(labels))), sum(max_of_class))
    if count == 0:
        raise DataError(
            f"one example a class ({len(labels)} in all) is too few to hold out a test split; add a test split of "
            "your own, or more examples"
        )
    generator = stream(seed, "data", "holdout")
    chosen = []
    # with fewer examples than classes the order decides which classes are tested on
    order = tie_order(len(sizes), tie_seed_of(generator)).tolist()
    for label, size in enumerate(shares(count, sizes, limits=max_of_class, order=order)):
        members = torch.nonzero(labels == label).flatten()
        chosen.append(members[torch.randperm(len(members), generator=generator)[:size]])
    test_index = torch.cat(chosen).sort().values
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[test_index] = False
    note = (
        f"there is no test split, so {count:,} of {len(labels):,} examples ({count / len(labels):.0%}, stratified by "
        f"class, drawn with seed {seed}) are held out for testing"
    )
    return torch.nonzero(rest).flatten(), test_index, note


MAX_BROKEN_SHARE, MAX_BROKEN = 0.05, 3
"""Broken images or lines that may be left out: this share of all, and in any case so many."""


def few_broken(count: int, total: int) -> bool:
    """Whether so few of ``total`` are broken that the others are the dataset; more mean that it is read wrongly."""
    return count < total and count <= max(MAX_BROKEN, MAX_BROKEN_SHARE * total)


def usual_augment(shape: tuple[int, ...]) -> Augment | None:
    """Crops of an eighth of the side (4 at 32), mirrored in colour only: mirrored letters and digits are others."""
    return Augment(crop=max(1, round(min(shape[1:]) / 8)), flip=shape[0] == 3) if len(shape) == 3 else None


def _in_memory(
    split: Split,
    plan: Plan,
    classes: tuple[str, ...],
    name: str,
    options: ReadOptions,
    train: Loaded | None,
    notes: tuple[str, ...],
) -> Examples:
    split_name = "train" if train is None else "test"
    decoded = _decoded(split, plan, options, f"decoding {split_name} images of {name}")
    assert decoded.x is not None  # keep=True
    split, notes = _without_broken(split, decoded, split_name, notes)
    # the plan rests on a sample: other sizes are only known now, and not in a note yet
    if plan.sampled and not plan.notes and decoded.resized:
        notes += (f"{decoded.resized:,} {split_name} images of another size are resized to {plan.width}x{plan.height}",)
    x = torch.from_numpy(decoded.x)
    return Examples(
        x,
        split.labels,
        classes,
        name,
        split_name,
        split.ids,
        # the test split is normalised by the pixels of the train split
        train.mean if train else (),
        train.std if train else (),
        usual_augment(tuple(x.shape[1:])),
        split.origin,
        notes,
    )


def _lazy(
    split: Split,
    plan: Plan,
    classes: tuple[str, ...],
    name: str,
    options: ReadOptions,
    train: Loaded | None,
    notes: tuple[str, ...],
) -> LazyExamples:
    split_name = "train" if train is None else "test"
    if options.on_broken == "skip":  # each image has to be decoded once to find the broken ones
        description = f"checking {split_name} images of {name}"
        checked = decode_all(
            split.images, plan, on_broken="skip", keep=False, description=description, progress=options.progress
        )
        split, notes = _without_broken(split, checked, split_name, notes)
    # before the statistics, which read images at random
    split = replace(split, images=split.images.for_random_access())
    mean, std = (train.mean, train.std) if train else sampled_statistics(split.images, plan, options.seed)
    return LazyExamples(
        split.images,
        plan,
        split.labels,
        classes,
        name,
        split_name,
        split.ids,
        mean,
        std,
        usual_augment(plan.shape),
        split.origin,
        notes,
    )


def _sampled(
    read: Sequence[Split],
    plan: Plan,
    classes: tuple[str, ...],
    name: str,
    options: ReadOptions,
    notes: tuple[str, ...],
    *,
    in_memory: bool,
) -> list[SampledImages]:
    """Splits for an estimate: a few images of the first are decoded, and timed."""
    names = ("train", "test") if options.only != "test" else ("test",)
    # what is in the cache is decoded no more
    may_be_cached = in_memory and cache.cache_folder() is not None
    to_decode = [s for s in read if not (may_be_cached and cache.is_cached(_cache_key(s, plan)))]
    decoded, seconds = decode_sample(read[0].images, plan, f"decoding a few images of {name}", options.progress)
    mean, std = channel_statistics(torch.from_numpy(decoded))
    if options.train is not None:
        mean, std = options.train.mean, options.train.std
    timing = DecodingTime(seconds, sum(len(s.labels) for s in to_decode), sum(len(s.labels) for s in read))
    return [
        SampledImages(
            split.images,
            plan,
            split.labels,
            classes,
            name,
            split_name,
            split.ids,
            mean,
            std,
            usual_augment(plan.shape),
            split.origin,
            notes,
            torch.from_numpy(decoded),
            in_memory,
            timing,
        )
        for split, split_name in zip(read, names, strict=False)
    ]


def _without_broken(
    split: Split, decoded: Decoded, split_name: str, notes: tuple[str, ...]
) -> tuple[Split, tuple[str, ...]]:
    if not len(decoded.broken):
        return split, notes
    good = np.setdiff1d(np.arange(len(split.labels)), decoded.broken)
    if not len(good):
        raise DataError(f"every {split_name} image is broken; the first: {split.images.where(0)}")
    first = split.images.where(int(decoded.broken[0]))
    if not few_broken(len(decoded.broken), len(split.labels)):
        raise DataError(
            f"{len(decoded.broken):,} of {len(split.labels):,} {split_name} images are broken, too many to leave "
            f"them out; the first: {first}. Fetch or make them again"
        )
    note = f"{len(decoded.broken):,} broken {split_name} images are left out, the first {first}"
    return split.take(torch.from_numpy(good)), (*notes, note)


def _cache_key(split: Split, plan: Plan) -> tuple[str, str]:
    # the size belongs to the first half of the key: an entry for a newer state of the files replaces only its own size
    images_key, state = split.images.key()
    return f"{images_key}_{plan.height}x{plan.width}x{plan.channels}", state


def _decoded(split: Split, plan: Plan, options: ReadOptions, description: str) -> Decoded:
    # without a cache no file is read twice for its hash
    key = None if cache.cache_folder() is None else _cache_key(split, plan)
    cached = None if key is None else cache.read_decoded(key)
    # an entry with broken images cannot be used where the first of them must be reported
    if cached is not None and cached.x is not None and (options.on_broken == "skip" or not len(cached.broken)):
        # images planned as grey may have been decoded in colour
        as_planned = cached.x.shape[1] in (plan.channels, 3) and cached.x.shape[2:] == (plan.height, plan.width)
        if as_planned and len(cached.x) + len(cached.broken) == len(split.labels):
            return cached
    started = time.monotonic()
    decoded = decode_all(
        split.images, plan, on_broken=options.on_broken, description=description, progress=options.progress
    )
    if key is not None and time.monotonic() - started > cache.WORTH_SECONDS:
        cache.write_decoded(key, decoded)
    return decoded
