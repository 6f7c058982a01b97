"""Duplicates: every kind planted comes out, in groups without chains, with the right one kept and leaks told."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from datawinnow.audit.content import (
    content_digests,
    near_text_pairs,
    near_vector_pairs,
    normal_form,
    same_content,
    usual_distance,
)
from datawinnow.audit.duplicates import Duplicates, duplicate_issues, group_duplicates
from datawinnow.audit.near_images import least_similarity, near_image_pairs, to_common_side, verified_image_pairs
from datawinnow.audit.near_pairs import NearPairs, join_pairs
from datawinnow.core.errors import ArgumentError
from datawinnow.data.examples import Examples
from datawinnow.data.load import load

# --- the same content ---


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_same_content_is_the_first_of_equal_rows(values: list[int]) -> None:
    expected = [values.index(value) for value in values]
    assert same_content(torch.tensor(values)[:, None].float()).tolist() == expected
    assert same_content([f"text {value}" for value in values]).tolist() == expected
    images = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 5)
    assert same_content(images).tolist() == expected


def test_content_is_what_numbers_say_in_any_layout() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    assert channels_last.stride() != images.stride()
    assert content_digests(images) == content_digests(channels_last) == content_digests(images.numpy()[:, :, :, :])
    assert same_content(torch.tensor([[0.0, 1.0], [-0.0, 1.0], [float("nan"), 1.0], [float("nan"), 1.0]])).tolist() == [
        0,
        0,
        2,
        2,
    ]
    nans = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)[:, None]
    assert same_content(nans).tolist() == [0, 0]
    assert same_content(torch.tensor([[1.0], [2.0], [1.0]], dtype=torch.bfloat16)).tolist() == [0, 1, 0]
    assert same_content(torch.tensor([[0.0, 1.0], [1e-30, 1.0]])).tolist() == [0, 1]


# --- texts ---


@pytest.mark.parametrize(
    ("text", "other", "alike"),
    [
        ("A fine film .", "a fine film", True),
        ("it 's good", "It's good!!", True),
        ("tabs\tand\n\nlines", "tabs and lines", True),
        ("ﬁne “quotes”", 'fine "quotes"', True),
        ("STRASSE", "straße", True),
        ("rated 3.5 of 5", "rated 35 of 5", False),
        ("rated 3 5 of 5", "rated 3.5, of 5", True),
        ("C", "C++", False),
        ("a < b", "a > b", False),
        ("good", "god", False),
        ("?", "!", False),
        ("οχι κακο", "Οχι, κακο.", True),
        ("नहीं", "नह", False),
    ],
)
def test_texts_that_differ_in_case_punctuation_and_spaces_have_one_form(text: str, other: str, alike: bool) -> None:
    assert (normal_form(text) == normal_form(other)) is alike


def test_near_texts_are_paired_with_the_first_and_empty_ones_with_none() -> None:
    pairs = near_text_pairs(["", "One.", "two", "one", " ", "ONE!"])
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(1, 3), (1, 5)]
    among = near_text_pairs(["One.", "two", "one", "ONE!"], torch.tensor([2, 3]))
    assert list(zip(among.first.tolist(), among.second.tolist(), strict=True)) == [(2, 3)]


# --- vectors ---


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_vectors_within_the_tolerance_are_near_and_neighbours_are_not(metric: str) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 16, generator=g)
    usual = usual_distance(x, metric=metric)
    away = torch.randn(60, 16, generator=g)
    away *= 0.04 * usual_distance(x) / away.norm(dim=1, keepdim=True)
    # the second sixty are too far for the tolerance, though nearer than neighbours are
    x = torch.cat([x, x[:60] + away, x[60:120] + 5 * away])
    pairs = near_vector_pairs(x, metric=metric)
    planted = {(i, 3000 + i) for i in range(60)}
    actual = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert len(planted & actual) >= 59
    assert len(actual - planted) <= 1
    assert usual == pytest.approx(usual_distance(x, metric=metric), rel=0.05)
    assert float(pairs.similarity.min()) >= 0.9


def test_the_usual_distance_of_a_sample_is_that_of_all() -> None:
    x = torch.randn(2500, 4, generator=torch.Generator().manual_seed(1))
    distances = torch.cdist(x, x).fill_diagonal_(torch.inf).amin(1)
    assert usual_distance(x) == pytest.approx(float(distances.median()), rel=0.1)
    assert usual_distance(x[:1]) == 0.0
    assert len(near_vector_pairs(torch.zeros(4, 2)).first) == 0


# --- images ---


def photographs(n: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    """(n, 3, side, side) uint8 random images with detail at several scales, as photographs have."""
    g = torch.Generator().manual_seed(seed)
    x = torch.zeros(n, 3, side, side)
    for cells, channels in ((3, 3), (6, 1), (12, 1), (side // 2, 1)):
        # fine detail is of brightness, which compression keeps better than colour
        noise = torch.randn(n, channels, cells, cells, generator=g) * 40 / cells**0.5
        x += functional.interpolate(noise, (side, side), mode="bicubic", align_corners=False)
    return (x * 1.5 + 128).clamp(0, 255).byte()


def encoded_again(image: torch.Tensor, **options: object) -> torch.Tensor:
    packed = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(packed, **options)
    return torch.from_numpy(np.array(Image.open(packed))).permute(2, 0, 1)


def resized(image: torch.Tensor, side: int) -> torch.Tensor:
    height = image.shape[-1]
    small = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small.resize((height, height), Image.Resampling.BICUBIC))).permute(2, 0, 1)


def shifted(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    padded = functional.pad(image[None].float(), (4, 4, 4, 4))[0].byte()
    side = image.shape[-1]
    return padded[:, 4 - down : 4 - down + side, 4 - right : 4 - right + side]


CHANGES = {
    "mirrored": lambda image, i: image.flip(2),
    "shifted": lambda image, i: shifted(image, i % 9 - 4, i * 5 % 9 - 4),
    "mirrored and shifted": lambda image, i: shifted(image.flip(2), i % 9 - 4, i * 5 % 9 - 4),
    "compressed": lambda image, i: encoded_again(image, format="JPEG", quality=60),
    "resized": lambda image, i: resized(image, 20),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_every_kind_of_near_duplicate_is_seen_and_nothing_else(kind: str) -> None:
    x = photographs(400)
    copies = torch.stack([CHANGES[kind](x[i], i) for i in range(100)])
    pairs = near_image_pairs(torch.cat([x, copies]))
    actual = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    planted = {(i, 400 + i) for i in range(100)}
    assert len(actual & planted) >= 90
    assert actual <= planted
    words = [pairs.changes[change] for change in pairs.change.tolist()]
    assert all(("mirror" in sentence) == kind.startswith("mirrored") for sentence in words)
    by_copy = dict(zip(pairs.second.tolist(), words, strict=True))
    if kind == "shifted":
        # by 4 - 9 k and so on: the larger of the two
        for i in (0, 1, 3):
            pixels = max(abs(i % 9 - 4), abs(i * 5 % 9 - 4))
            assert f"shifted by {pixels} of 32 pixels" in by_copy[400 + i]
    if kind == "mirrored":
        assert "shifted" not in by_copy[400]


def test_blank_images_are_near_nothing_and_none_is_no_error() -> None:
    # a faint grid, as compression leaves it
    x = torch.arange(90, 96, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 32, 32)
    x[..., ::8, ::8] += 4
    assert len(near_image_pairs(x).first) == 0
    assert len(near_image_pairs(x[:1]).first) == 0


def test_alike_in_outline_is_not_near() -> None:
    x = photographs(60)
    outline = functional.interpolate(functional.avg_pool2d(x.float(), 8), (32, 32), mode="bicubic")
    detail = x.float() - functional.interpolate(functional.avg_pool2d(x.float(), 4), (32, 32), mode="bicubic")
    other = (outline + detail.roll(1, 0)).clamp(0, 255).byte()
    first = (outline + detail).clamp(0, 255).byte()
    assert len(near_image_pairs(torch.cat([first, other])).first) == 0


def test_drawings_that_are_alike_by_chance_are_not_near() -> None:
    train, _ = load("digits")
    assert isinstance(train, Examples)
    x = to_common_side(functional.interpolate(train.x.float(), 28, mode="bicubic").clamp(0, 255).byte())
    limit = least_similarity(x)
    assert limit > 0.95
    assert len(near_image_pairs(x, min_similarity=0.9).first) > 1000
    assert len(near_image_pairs(x).first) < 30
    # one drawing compressed again is still seen
    again = torch.stack([encoded_again(image.expand(3, 32, 32), format="JPEG", quality=90)[:1] for image in x[:9]])
    pairs = near_image_pairs(torch.cat([x, again]))
    assert {(i, len(x) + i) for i in range(9)} <= set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    assert least_similarity(photographs(400)) == 0.9


def test_of_equal_similarities_the_simplest_change_counts() -> None:
    pair, similar = torch.tensor([[0, 1], [1, 0], [0, 1]]), torch.tensor([0.97, 0.9702, 0.9])
    joined = join_pairs([NearPairs(pair[:, 0], pair[:, 1], similar, torch.tensor([2, 1, 0]), ("a", "b", "c"))], ("a",))
    assert (joined.first.tolist(), joined.second.tolist(), joined.change.tolist()) == ([0], [1], [1])
    clearer = torch.tensor([0.99, 0.97, 0.9])
    joined = join_pairs([NearPairs(pair[:, 0], pair[:, 1], clearer, torch.tensor([2, 1, 0]), ("a", "b", "c"))], ("a",))
    assert joined.change.tolist() == [2]


def test_images_of_any_size_are_brought_to_one_side() -> None:
    x = photographs(30, side=96)
    x = torch.cat([x, x[:10].flip(3)])
    for images in (x, functional.interpolate(x.float(), (60, 90)).byte(), functional.interpolate(x.float(), 20).byte()):
        common = to_common_side(images)
        assert common.shape == (40, 3, 32, 32)
        pairs = near_image_pairs(common)
        assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == {(i, 30 + i) for i in range(10)}
    with pytest.raises(ArgumentError, match="must be uint8"):
        to_common_side(x.float())
    with pytest.raises(ArgumentError, match="32, 32"):
        near_image_pairs(x)


def test_only_the_positions_among_are_compared() -> None:
    x = photographs(20)
    x = torch.cat([x, x[:5].flip(3), x[:5].flip(3)])
    pairs = near_image_pairs(x, torch.arange(25))
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == {(i, 20 + i) for i in range(5)}


def test_pairs_are_verified_as_they_are_searched() -> None:
    x = photographs(20)
    x = torch.cat([x, torch.stack([CHANGES["mirrored and shifted"](x[i], i) for i in range(20)])])
    first, second = torch.arange(20), torch.arange(20, 40)
    searched, verified = near_image_pairs(x), verified_image_pairs(x, first, second)
    assert len(searched.first) >= 18
    assert set(searched.first.tolist()) <= set(verified.first.tolist())
    assert len(verified_image_pairs(x, first, second.roll(1)).first) == 0


# --- groups ---


def near(*pairs: tuple[int, int], similarity: float = 0.95) -> NearPairs:
    a, b = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    words = ("like {other}",)
    return join_pairs([NearPairs(a, b, torch.full((len(a),), similarity), torch.zeros_like(a), words)], words)


def groups_of(duplicates: Duplicates) -> dict[int, set[int]]:
    """Original -> its group."""
    sets: dict[int, set[int]] = {}
    for i in np.flatnonzero(duplicates.group >= 0).tolist():
        sets.setdefault(int(duplicates.original[i]), set()).add(i)
    assert len(sets) == len(set(duplicates.group[duplicates.group >= 0].tolist()))
    return sets


def test_a_chain_of_near_pairs_is_no_group() -> None:
    chain = group_duplicates(torch.arange(6), near((0, 1), (1, 2), (2, 3), (3, 4)))
    # 1 has two neighbours, and comes first; 3 is near 4 of what remains
    assert groups_of(chain) == {1: {0, 1, 2}, 3: {3, 4}}
    assert chain.drop.tolist() == [True, False, True, False, True, False]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_member_is_a_direct_duplicate_of_its_original(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 14))
    contents = data.draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    test = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    same = torch.tensor([contents.index(c) for c in contents])
    firsts = sorted(set(same.tolist()))
    pairs = data.draw(
        st.sets(st.tuples(st.sampled_from(firsts), st.sampled_from(firsts)).filter(lambda p: p[0] < p[1]))
    )
    duplicates = group_duplicates(same, near(*sorted(pairs)), is_test=test, labels=torch.tensor(contents) % 2)
    for original, members in groups_of(duplicates).items():
        assert original in members
        assert len(members) > 1
        if any(test[i] for i in members if int(same[i]) == int(same[original])):
            assert test[original]
        for i in members:
            a, b = sorted((int(same[i]), int(same[original])))
            assert a == b or (a, b) in pairs
            assert bool(duplicates.is_exact[i]) == (a == b)
            assert duplicates.similarity[i] == pytest.approx(1.0 if a == b else 0.95)
            assert bool(duplicates.drop[i]) == (i != original and not test[i])
    # of equal contents one remains at most, and a copy of a test example never does
    for content in firsts:
        copies = [i for i in range(n) if int(same[i]) == content]
        in_train = [i for i in copies if not test[i] and not duplicates.drop[i]]
        assert len(in_train) <= (0 if any(test[i] for i in copies) else 1)
    # nor does a train example whose content is near that of a test example
    for a, b in pairs:
        for i in range(n):
            for content, other in ((a, b), (b, a)):
                if int(same[i]) == content and any(test[j] for j in range(n) if int(same[j]) == other):
                    assert test[i] or duplicates.drop[i]


def test_the_label_of_most_decides_which_copy_stays() -> None:
    same = torch.tensor([0, 0, 0, 3])
    duplicates = group_duplicates(same, near((0, 3)), labels=[1, 2, 2, 2])
    assert groups_of(duplicates) == {1: {0, 1, 2, 3}}


def test_members_that_were_not_compared_are_verified() -> None:
    compared: list[tuple[int, int]] = []

    def verify(first: torch.Tensor, second: torch.Tensor) -> NearPairs:
        pairs = list(zip(first.tolist(), second.tolist(), strict=True))
        compared.extend(pairs)
        return near(*(pair for pair in pairs if 4 not in pair))

    duplicates = group_duplicates(torch.arange(6), near((0, 1), (1, 2), (2, 3), (3, 4)), verify=verify)
    assert compared == [(1, 3), (1, 4)]
    assert groups_of(duplicates) == {1: {0, 1, 2, 3}}


def test_arrays_of_another_length_are_refused() -> None:
    with pytest.raises(ArgumentError, match="is_test"):
        group_duplicates(torch.arange(3), is_test=[True])
    with pytest.raises(ArgumentError, match="labels"):
        group_duplicates(torch.arange(3), labels=[0, 1])
    with pytest.raises(ArgumentError, match="followed by the test"):
        duplicate_issues(group_duplicates(torch.zeros(2, dtype=torch.int64), is_test=[True, False]))


def test_rows_say_what_is_dropped_and_why() -> None:
    # train 0..4, test 5..6: 0 and 1 the same, 2 near 3; 4 the same as test 5
    same = torch.tensor([0, 0, 2, 3, 4, 4, 6])
    duplicates = group_duplicates(same, near((2, 3)), is_test=[False] * 5 + [True] * 2, labels=[0, 0, 0, 1, 1, 1, 0])
    ids = {"train": list("abcde"), "test": ["x", "y"]}
    issues = duplicate_issues(
        duplicates, ids=ids, labels=[0, 0, 0, 1, 1, 1, 0], classes=("cat", "dog"), contents="pixels"
    )
    rows = {(i.split, i.example): i for i in issues}
    assert {place: (row.issue, row.action) for place, row in rows.items()} == {
        ("train", 0): ("duplicate", "keep"),
        ("train", 1): ("duplicate", "drop"),
        # labels one to one: nobody can tell which is right
        ("train", 2): ("near_duplicate", "keep"),
        ("train", 3): ("near_duplicate", "look"),
        ("train", 4): ("leakage", "drop"),
        ("test", 0): ("leakage", "keep"),
    }
    assert rows["train", 1].evidence == "the pixels of a"
    assert rows["train", 3].evidence == "like c (similarity 0.950), labelled dog and not cat"
    assert rows["test", 0].evidence == "stands for e"
    assert rows["train", 4].evidence == "the pixels of x (test)"
    assert rows["train", 1].severity == 1.0
    assert rows["train", 3].severity == pytest.approx(0.95)
    assert len({row.group for row in issues}) == 3


def test_a_leak_is_dropped_whatever_the_labels() -> None:
    duplicates = group_duplicates(torch.tensor([0, 0]), is_test=[False, True], labels=[0, 1])
    assert duplicates.leaks.tolist() == [True, False]
    row = next(i for i in duplicate_issues(duplicates, labels=[0, 1]) if i.split == "train")
    assert (row.issue, row.action) == ("leakage", "drop")
    assert "labelled class 0 and not class 1" in row.evidence
