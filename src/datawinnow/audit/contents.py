"""What the examples themselves show, without a network: duplicates, leakage, and what is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from datawinnow.audit.broken import (
    Fault,
    blank_images,
    broken_issues,
    broken_texts,
    missing_numbers,
    odd_sizes,
    unreadable,
)
from datawinnow.audit.content import (
    EMBEDDING_CHANGES,
    content_digests,
    first_with,
    near_text_pairs,
    near_vector_pairs,
    same_content,
)
from datawinnow.audit.duplicates import Duplicates, duplicate_issues, group_duplicates
from datawinnow.audit.near_images import (
    MIN_COMPARED_SIDE,
    least_similarity,
    near_image_pairs,
    to_common_side,
    verified_image_pairs,
)
from datawinnow.audit.near_pairs import NearPairs, join_pairs
from datawinnow.core import check
from datawinnow.core.issues import TRAIN_AND_TEST, Issue
from datawinnow.data.images import BrokenImage
from datawinnow.data.originals import Originals

IMAGES_PER_BLOCK = 1024
CONTENT_WORDS = {"images": "pixels", "texts": "text", "vectors": "numbers"}
"""What duplicates of a kind of data have in common."""


@dataclass(frozen=True)
class Contents:
    """What is needed of the examples of all splits, train first.

    Attributes:
        kind: ``"images"``, ``"texts"`` or ``"vectors"``.
        same: (n,) int64, the first example with the same content.
        faults: split -> what is broken; the examples by their positions in it.
        images: (n, channels, 32, 32) uint8 at the side at which they are compared; None of images too small for it.
        texts: (n,) texts.
        vectors: (n, d) float32.
        sizes: number of examples of each split, train first.
    """

    kind: str
    same: Tensor
    faults: Mapping[str, Sequence[Fault]]
    sizes: tuple[int, ...]
    images: Tensor | None = None
    texts: Sequence[str] = ()
    vectors: Tensor | None = None
    unreadable: frozenset[int] = field(default_factory=frozenset)

    @property
    def is_test(self) -> Tensor:
        """(n,) bool."""
        return torch.arange(sum(self.sizes)) >= self.sizes[0]


def read_contents(train: Any, test: Any = None) -> Contents:
    """Read every example once: digests of the contents, small images to compare, and what is broken.

    Args:
        train: dataset of `load`; images, texts or vectors.
        test: its test split; None for none.
    """
    splits = [train] if test is None else [train, test]
    sizes = tuple(len(split) for split in splits)
    if getattr(train, "texts", None):
        texts = [text for split in splits for text in split.texts]
        faults = {name: broken_texts(split.texts) for name, split in zip(TRAIN_AND_TEST, splits, strict=False)}
        return Contents("texts", same_content(texts), faults, sizes, texts=texts)
    if len(train.shape) == 3 and (not hasattr(train, "x") or train.x.dtype is torch.uint8):
        return _read_images(splits, sizes)
    vectors = torch.cat([split.x.flatten(1).float() for split in splits])
    faults = {name: missing_numbers(split.x) for name, split in zip(TRAIN_AND_TEST, splits, strict=False)}
    return Contents("vectors", same_content(vectors), faults, sizes, vectors=vectors)


def _read_images(splits: Sequence[Any], sizes: tuple[int, ...]) -> Contents:
    digests: list[Any] = []
    common: list[Tensor] = []
    faults: dict[str, list[Fault]] = {}
    damaged: set[int] = set()
    is_large = min(splits[0].shape[1:]) >= MIN_COMPARED_SIDE
    for name, split in zip(TRAIN_AND_TEST, splits, strict=False):
        faults[name] = []
        for first in range(0, len(split), IMAGES_PER_BLOCK):
            block, errors = _block_of(split, first, min(len(split), first + IMAGES_PER_BLOCK))
            start = len(digests)
            digests += content_digests(block)
            for i in errors:
                digests[start + i] = f"unreadable {start + i}"  # like no other
                damaged.add(start + i)
            blank = [fault for fault in blank_images(block, first) if fault.example - first not in errors]
            faults[name] += blank + unreadable({first + i: message for i, message in errors.items()})
            if is_large:
                common.append(to_common_side(block))
        faults[name] += _odd_originals(split)
    images = torch.cat(common) if is_large else None
    return Contents("images", first_with(digests), faults, sizes, images=images, unreadable=frozenset(damaged))


def _block_of(split: Any, first: int, last: int) -> tuple[Tensor, dict[int, str]]:
    """(b, c, h, w) uint8 images, zeros for those that cannot be read, and what was said of these."""
    if hasattr(split, "x"):
        return split.x[first:last], {}
    block = torch.zeros(last - first, *split.shape, dtype=torch.uint8)
    errors = {}
    for i in range(first, last):
        try:
            block[i - first] = split[i][0]
        except BrokenImage as error:
            errors[i - first] = str(error)
    return block, errors


def _odd_originals(split: Any) -> list[Fault]:
    originals = Originals(split)
    if originals.size(0) is None:
        return []
    sizes = [originals.size(i) for i in range(len(split))]
    positions = [i for i, size in enumerate(sizes) if size is not None]
    faults = odd_sizes([size for size in sizes if size is not None])
    return [fault._replace(example=positions[fault.example]) for fault in faults]


def near_duplicates(
    contents: Contents, *, embeddings: Any = None, tolerance: float = 0.1, seed: int = 0
) -> tuple[NearPairs | None, Callable[[Tensor, Tensor], NearPairs] | None]:
    """Pairs of different contents that are nearly the same, and what verifies further pairs.

    Args:
        contents: of `read_contents`.
        embeddings: (n, d) float of an encoder of all examples, train first; compared instead of the contents.
        tolerance: of vectors and embeddings, see `near_vector_pairs`.
        seed: of indices and samples.

    Returns:
        Pairs of first examples of a content, None where nothing can be compared (tiny images); and a function for
        `group_duplicates`, None where it has none to offer.
    """
    distinct = contents.same == torch.arange(len(contents.same))
    if contents.unreadable:
        distinct[list(contents.unreadable)] = False
    if embeddings is not None:
        rows = check.matrix("embeddings", embeddings)
        check.same_n(embeddings=rows[:, 0], examples=contents.same)
        among = torch.nonzero(distinct).flatten()
        pairs = near_vector_pairs(
            rows, among, tolerance=tolerance, metric="cosine", changes=EMBEDDING_CHANGES, seed=seed
        )
        return pairs, None
    if contents.kind == "texts":
        return near_text_pairs(contents.texts, torch.nonzero(distinct).flatten()), None
    if contents.kind == "vectors":
        assert contents.vectors is not None
        among = torch.nonzero(distinct & contents.vectors.isfinite().all(1)).flatten()
        if not len(among):
            return None, None
        pairs = near_vector_pairs(contents.vectors[among], tolerance=tolerance, seed=seed)
        moved = replace(pairs, first=among[pairs.first], second=among[pairs.second])
        return join_pairs([moved], moved.changes), None
    if contents.images is None:
        return None, None
    images = contents.images
    limit = least_similarity(images, seed=seed)
    pairs = near_image_pairs(images, torch.nonzero(distinct).flatten(), min_similarity=limit, seed=seed)
    return pairs, lambda first, second: verified_image_pairs(images, first, second, min_similarity=limit)


def content_issues(
    contents: Contents,
    *,
    labels: Any = None,
    ids: Mapping[str, Sequence[str]] | None = None,
    classes: Sequence[str] = (),
    near: bool = True,
    embeddings: Any = None,
    tolerance: float = 0.1,
    seed: int = 0,
) -> tuple[list[Issue], Duplicates]:
    """Duplicates, near duplicates, leakage between the splits, and what is broken.

    Args:
        contents: of `read_contents`.
        labels: (n,) int, class ids of all examples, train first.
        ids: split -> names of its examples, for the evidence.
        classes: names of the classes, for the evidence.
        near: whether near duplicates are looked for, which takes most of the time.
        embeddings: as in `near_duplicates`.
        tolerance: as in `near_duplicates`.
        seed: of indices and samples.

    Returns:
        The issues and the groups of duplicates.
    """
    pairs, verify = (
        near_duplicates(contents, embeddings=embeddings, tolerance=tolerance, seed=seed) if near else (None, None)
    )
    groups = group_duplicates(contents.same, pairs, labels=labels, is_test=contents.is_test.numpy(), verify=verify)
    issues = duplicate_issues(groups, ids=ids, labels=labels, classes=classes, contents=CONTENT_WORDS[contents.kind])
    for split, faults in contents.faults.items():
        issues += broken_issues(faults, split=split)
    return issues, groups
