"""Near duplicates among images: mirrored, shifted, resized or compressed again; found by coarse content, then verified.

The coarse content of an image is its middle in 6 x 6 blocks, without its brightness and contrast: what a perceptual
hash rounds to bits, kept as numbers. It is compared with that of the others, mirrored and shifted too. What is close
is then laid on each other to the pixel, and the edges must agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from datawinnow.audit.near_pairs import NearPairs, join_pairs
from datawinnow.core.close_pairs import CellIndex
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream

COMMON_SIDE = 32
"""Pixels of the side at which images are compared."""
MARGIN = COMMON_SIDE // 8
"""The middle of an image is what such a margin leaves; images shifted by up to it share all of the middle."""
MIN_COMPARED_SIDE = 16
"""Smaller images have too little content to be told apart by it."""
BLOCK = 4
"""Pixels of the side of a block of the coarse content."""
COARSE_SHIFTS = (-3, 0, 3)
"""Shifts at which the coarse content is compared, in pixels: each shift up to `MARGIN` is at most one pixel away."""
RADIUS = 0.55
"""Largest distance of the coarse contents, vectors of length 1, of candidates."""
NEAREST = 2
"""Candidates of an image within a cell of the index, at most."""
MIN_SIMILARITY = 0.9
"""Least correlation of the edges of near duplicates, at half the resolution."""
MIN_FINE_SIMILARITY = 0.55
"""Least correlation of their edges at full resolution, which resizing and compression blur."""
PROBES = 6
"""Cells in which candidates of an image are looked for."""
ALIGNABLE = 0.3
"""Least correlation of edges, one pixel off at most, from which it can reach `MIN_SIMILARITY` once aligned."""
MIN_CONTRAST = 2.0
"""Standard deviation of the pixels, of 255, below which an image counts as blank and is near nothing."""
PAIRS_PER_BLOCK = 2048
CHANCE_PAIRS = 20_000
"""Random pairs from which it is read off how alike images are by chance."""
MIN_FOR_CHANCE = 100
"""Images from which random pairs are taken; of fewer, near duplicates can be a large part."""


IMAGE_CHANGES = tuple(
    sentence
    for shift in ("", *(f", shifted by {pixels} of {COMMON_SIDE} pixels" for pixels in range(1, MARGIN + 1)))
    for sentence in (f"nearly the image {{other}}{shift}", f"nearly the mirror image of {{other}}{shift}")
)
"""What a change of an image is in words; its number is 2 * (pixels shifted) + (whether mirrored)."""


def to_common_side(images: Tensor) -> Tensor:
    """(b, c, h, w) uint8 images at the side at which they are compared: (b, c, 32, 32) uint8."""
    if images.dtype is not torch.uint8 or images.ndim != 4:
        raise ArgumentError(
            f"images must be uint8 of shape (n, channels, height, width), got {images.dtype} {tuple(images.shape)}"
        )
    if images.shape[2:] == (COMMON_SIDE, COMMON_SIDE):
        return images
    # averages of areas where pixels are lost, so that no detail turns into noise
    mode = "area" if min(images.shape[2:]) >= COMMON_SIDE else "bilinear"
    blocks = [
        functional.interpolate(block.float(), (COMMON_SIDE, COMMON_SIDE), mode=mode).round().clamp(0, 255).byte()
        for block in images.split(1024)
    ]
    return torch.cat(blocks)


def least_similarity(images: Tensor, *, seed: int = 0) -> float:
    """Similarity from which on images of a dataset are near duplicates: `MIN_SIMILARITY`, or more if chance gives it.

    Drawings of few strokes, such as digits, are alike by chance. From random pairs, how alike the most similar of all
    pairs would be is read off the upper quantiles of a normal distribution of the inverse hyperbolic tangent of their
    correlation.

    Args:
        images: (n, channels, 32, 32) uint8, of `to_common_side`.
        seed: of the pairs.
    """
    from scipy.stats import norm

    n = len(images)
    if n < MIN_FOR_CHANCE:
        return MIN_SIMILARITY
    draws = stream(seed, "near images", "chance")
    first = torch.randint(n, (CHANCE_PAIRS,), generator=draws)
    second = (first + torch.randint(1, n, (CHANCE_PAIRS,), generator=draws)) % n
    similar = []
    for a, b in zip(first.split(PAIRS_PER_BLOCK), second.split(PAIRS_PER_BLOCK), strict=True):
        edges, other = _edges(images[a], 0, 0, pool=2), images[b]
        shifted = [(edges * _edges(other, y, x, pool=2)).sum(1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        similar.append(torch.stack(shifted).amax(0))
    scores = torch.cat(similar).clamp(-0.9999, 0.9999).atanh().numpy()
    median = float(np.median(scores))
    spread = max((float(np.quantile(scores, norm.cdf(sigmas))) - median) / sigmas for sigmas in (1, 2, 3))
    # so that of all placements of all images with one image, chance gives one in fifty
    highest = median + spread * float(norm.isf(0.02 / (n * len(list(_placements())))))
    return max(MIN_SIMILARITY, math.tanh(highest))


def near_image_pairs(
    images: Tensor, among: Tensor | None = None, *, min_similarity: float | None = None, seed: int = 0
) -> NearPairs:
    """Pairs of images of which one is the other mirrored, shifted, resized or compressed again.

    Args:
        images: (n, channels, 32, 32) uint8, of `to_common_side`.
        among: (m,) int64 positions to compare, such as one of each content; all by default.
        min_similarity: least correlation of edges; by default `least_similarity` of the images.
        seed: of the index of the coarse contents.

    Returns:
        `NearPairs`, each pair once, by position, as it agrees best.

    Raises:
        ArgumentError: images of another shape or dtype.
    """
    if images.dtype is not torch.uint8 or images.ndim != 4 or images.shape[2:] != (COMMON_SIDE, COMMON_SIDE):
        raise ArgumentError(
            f"images must be uint8 of shape (n, channels, {COMMON_SIDE}, {COMMON_SIDE}), got {images.dtype} "
            f"{tuple(images.shape)}"
        )
    positions = torch.arange(len(images)) if among is None else among
    positions = positions[_pixel_spread(images, positions) >= MIN_CONTRAST]
    if len(positions) < 2:
        return join_pairs([], IMAGE_CHANGES)
    limit = least_similarity(images, seed=seed) if min_similarity is None else min_similarity
    index = CellIndex(_coarse(images, positions, 0, 0, mirrored=False), seed=seed)
    results: list[NearPairs] = []
    for down, right, mirrored in _placements():
        queries = _coarse(images, positions, down, right, mirrored=mirrored)
        same = not (down or right or mirrored)
        close = index.search(queries, RADIUS, k=NEAREST, probes=PROBES, exclude_same=same)
        distinct = close.query != close.row  # a symmetric image is its own mirror image
        results += _verified(
            images, positions[close.row[distinct]], positions[close.query[distinct]], down, right, mirrored, limit
        )
    return join_pairs(results, IMAGE_CHANGES)


def verified_image_pairs(
    images: Tensor, first: Tensor, second: Tensor, *, min_similarity: float = MIN_SIMILARITY
) -> NearPairs:
    """Those of some pairs that are near duplicates.

    Args:
        images: (n, channels, 32, 32) uint8, of `to_common_side`.
        first: (m,) int64 positions.
        second: (m,) int64 positions of the other images.
        min_similarity: least correlation of edges, see `least_similarity`.
    """
    results: list[NearPairs] = []
    for down, right, mirrored in _placements():
        # of a shift and its reverse one is tried: the other is that of the images the other way round
        for a, b in ((first, second), (second, first)):
            results += _verified(images, a, b, down, right, mirrored, min_similarity)
    return join_pairs(results, IMAGE_CHANGES)


def _placements() -> Iterator[tuple[int, int, bool]]:
    """Shifts and mirrorings of the second image of a pair; of two that say the same of a pair, one."""
    for down in COARSE_SHIFTS:
        for right in COARSE_SHIFTS:
            # a shifted to b is b shifted back to a; of a mirror image only the vertical shift turns round
            if (down, right) >= (0, 0):
                yield down, right, False
            if down >= 0:
                yield down, right, True


def _cropped(images: Tensor, down: int, right: int) -> Tensor:
    """(b, c, 24, 24) the middle of images, shifted by some pixels."""
    side = COMMON_SIDE - 2 * MARGIN
    return images[..., MARGIN + down : MARGIN + down + side, MARGIN + right : MARGIN + right + side]


def _pixel_spread(images: Tensor, positions: Tensor) -> Tensor:
    """(m,) standard deviation of the pixels of the middle, over each channel, at most."""
    blocks = [_cropped(images[at], 0, 0).float().flatten(2).std(2).amax(1) for at in positions.split(4096)]
    return torch.cat(blocks) if blocks else torch.empty(0)


def _coarse(images: Tensor, positions: Tensor, down: int, right: int, *, mirrored: bool) -> Tensor:
    """(m, c * 36) means of the blocks of the middle, less their mean, of length 1."""
    rows = []
    for at in positions.split(4096):
        block = images[at].flip(3) if mirrored else images[at]
        means = functional.avg_pool2d(_cropped(block, down, right).float(), BLOCK).flatten(1)
        means -= means.mean(1, keepdim=True)
        rows.append(means / means.norm(dim=1, keepdim=True).clamp_min(1))
    return torch.cat(rows)


def _edges(images: Tensor, down: int, right: int, *, pool: int) -> Tensor:
    """(b, e) differences of neighbouring pixels of the middle, of length 1."""
    pixels = _cropped(images, down, right).float()
    if pool == 2:
        # sums of shifted views take a third of the time of avg_pool2d
        pixels = pixels[..., ::2, :] + pixels[..., 1::2, :]
        pixels = pixels[..., ::2] + pixels[..., 1::2]
    across, along = pixels[..., 1:] - pixels[..., :-1], pixels[..., 1:, :] - pixels[..., :-1, :]
    edges = torch.cat([across.flatten(1), along.flatten(1)], dim=1)
    normed: Tensor = edges / edges.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return normed


def _verified(
    images: Tensor, first: Tensor, second: Tensor, down: int, right: int, mirrored: bool, limit: float
) -> Iterator[NearPairs]:
    """The pairs whose edges agree at the best shift within a pixel of the coarse one."""
    shifts = [
        (y, x)
        for y in range(max(-MARGIN, down - 1), min(MARGIN, down + 1) + 1)
        for x in range(max(-MARGIN, right - 1), min(MARGIN, right + 1) + 1)
    ]
    for a, b in zip(first.split(PAIRS_PER_BLOCK), second.split(PAIRS_PER_BLOCK), strict=True):
        one, other = images[a], images[b]
        other = other.flip(3) if mirrored else other
        edges = _edges(one, 0, 0, pool=2)
        aligned = torch.nonzero((edges * _edges(other, down, right, pool=2)).sum(1) >= ALIGNABLE).flatten()
        a, b, one, other, edges = a[aligned], b[aligned], one[aligned], other[aligned], edges[aligned]
        if not len(a):
            continue
        agreement = torch.stack([(edges * _edges(other, y, x, pool=2)).sum(1) for y, x in shifts])
        near = torch.nonzero(agreement.amax(0) >= limit).flatten()
        # the shift at which both resolutions agree best: a point moved within a block is the same at half of it
        edges = _edges(one[near], 0, 0, pool=1)
        fine = torch.stack([(edges * _edges(other[near], y, x, pool=1)).sum(1) for y, x in shifts])
        best = (agreement[:, near] + fine).argmax(0, keepdim=True)
        similarity, fine = agreement[:, near].gather(0, best)[0], fine.gather(0, best)[0]
        agree = (similarity >= limit) & (fine >= MIN_FINE_SIMILARITY)
        near, similarity = near[agree], similarity[agree]
        largest = torch.tensor([max(abs(y), abs(x)) for y, x in shifts])[best[0, agree]]
        yield NearPairs(a[near], b[near], similarity.clamp_max(1), 2 * largest + mirrored, IMAGE_CHANGES)
