"""Near duplicates: a million embeddings against brute force, every kind planted in real data, and CIFAR's own.

``--full`` also writes the pairs between train and test of CIFAR-10 and CIFAR-100 (row numbers of the Parquet files, no
images) into results/cifar_duplicates.jsonl. Real data are found through ``DATAWINNOW_DATA``; ``--smoke`` makes its own.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import arguments, finish, in_child, say
from PIL import Image
from torch import Tensor
from torch.nn import functional

from datawinnow.audit.content import near_text_pairs, near_vector_pairs, same_content
from datawinnow.audit.duplicates import group_duplicates
from datawinnow.audit.near_images import near_image_pairs, verified_image_pairs
from datawinnow.core.close_pairs import close_pairs
from datawinnow.core.rng import stream
from datawinnow.data.examples import Examples
from datawinnow.data.load import load
from datawinnow.data.texts import Texts

DATA = Path(os.environ.get("DATAWINNOW_DATA", Path(__file__).parent / "../../shared/data"))
RESULTS_FILE = Path(__file__).parent / "results" / "cifar_duplicates.jsonl"
DIMENSIONS = 384
ROWS = {"smoke": 20_000, "default": 100_000, "full": 1_000_000}
SAMPLE = {"smoke": 200, "default": 500, "full": 1000}
"""Rows that brute force compares with all."""
PLANTED = {"smoke": 100, "default": 1000, "full": 1000}
AMONG = {"smoke": 500, "default": 15_000, "full": 60_000}
"""Other images that copies are planted among."""
RADIUS = 0.02
"""Cosine distance of near duplicates: cosine of 0.98."""


def embeddings(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 384) float32 in a thousand overlapping clusters of low dimension, and the places of planted pairs."""
    draws = stream(0, "benchmark", "embeddings")
    mix = torch.randn(48, DIMENSIONS, generator=draws)
    centres = torch.randn(1000, 48, generator=draws)
    x = torch.empty(n, DIMENSIONS)
    for first in range(0, n, 50_000):
        count = min(50_000, n - first)
        codes = centres[torch.randint(1000, (count,), generator=draws)] + 0.7 * torch.randn(count, 48, generator=draws)
        x[first : first + count] = codes @ mix / 48**0.5 + 0.3 * torch.randn(count, DIMENSIONS, generator=draws)
    order, planted = torch.randperm(n, generator=draws), n // 100
    source, copy = order[:planted], order[planted : 2 * planted]
    change = functional.normalize(torch.randn(planted, DIMENSIONS, generator=draws), dim=1)
    # from equal to a distance a little under the radius
    share = 0.19 * torch.rand(planted, 1, generator=draws)
    x[copy] = x[source] + share * x[source].norm(dim=1, keepdim=True) * change
    return x, source, copy


def measure_embeddings(n: int, sample: int) -> dict[str, Any]:
    """Seconds, and the share of the pairs of brute force that are there."""
    x, source, copy = embeddings(n)
    wall, cpu = time.perf_counter(), time.process_time()
    pairs = close_pairs(x, RADIUS, metric="cosine")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    keys = np.sort((pairs.query * n + pairs.row).numpy())

    def share_present(a: Tensor, b: Tensor) -> float:
        key = (torch.minimum(a, b) * n + torch.maximum(a, b)).numpy()
        return float(np.isin(key, keys).mean()) if len(key) else 1.0

    # half of the sample are planted, or few would have a near duplicate at all
    rows = torch.cat([source[: sample // 2], torch.arange(sample - sample // 2)]).unique()
    points = functional.normalize(x[rows], dim=1)
    a, b = [], []
    for first in range(0, n, 20_000):
        near = points @ functional.normalize(x[first : first + 20_000], dim=1).T >= 1 - RADIUS
        i, j = torch.nonzero(near, as_tuple=True)
        apart = rows[i] != j + first
        a.append(rows[i][apart])
        b.append(j[apart] + first)
    brute_a, brute_b = torch.cat(a), torch.cat(b)
    return {
        "n": n,
        "seconds": wall,
        "cpu_seconds": cpu,
        "pairs": len(pairs.query),
        "planted_recall": share_present(source, copy),
        "brute_force_pairs": len(brute_a),
        "recall": share_present(brute_a, brute_b),
    }


def made_images(n: int) -> Tensor:
    """(n, 3, 32, 32) uint8 with detail at several scales, where there are no real ones."""
    draws = stream(0, "benchmark", "images")
    x = torch.zeros(n, 3, 32, 32)
    for cells, channels in ((3, 3), (6, 1), (12, 1), (16, 1)):
        noise = torch.randn(n, channels, cells, cells, generator=draws) * 60 / cells**0.5
        x += functional.interpolate(noise, (32, 32), mode="bicubic", align_corners=False)
    return (x + 128).clamp(0, 255).byte()


def to_pillow(image: Tensor) -> Image.Image:
    """A (3, h, w) uint8 image for Pillow."""
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))


def from_pillow(image: Image.Image) -> Tensor:
    """And back."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def compressed(image: Tensor, quality: int) -> Tensor:
    """Through JPEG."""
    packed = io.BytesIO()
    to_pillow(image).save(packed, format="JPEG", quality=quality)
    return from_pillow(Image.open(packed))


def resized(image: Tensor, side: int) -> Tensor:
    """Smaller, and back to its side."""
    full_side = image.shape[-1]
    small = to_pillow(image).resize((side, side), Image.Resampling.BICUBIC)
    return from_pillow(small.resize((full_side, full_side), Image.Resampling.BICUBIC))


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """Moved by up to 4 pixels; what is uncovered is black."""
    side = image.shape[-1]
    padded = functional.pad(image, (4, 4, 4, 4))
    return padded[:, 4 - down : 4 - down + side, 4 - right : 4 - right + side]


def shift_of(i: int) -> tuple[int, int]:
    """Each of the 80 shifts by up to 4 pixels along both axes, in turn."""
    place = i % 80
    place += place >= 40
    return place // 9 - 4, place % 9 - 4


CHANGES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mirrored": lambda image, i: image.flip(2),
    "shifted": lambda image, i: shifted(image, *shift_of(i)),
    "mirrored and shifted": lambda image, i: shifted(image.flip(2), *shift_of(i)),
    "resized to 24 and back": lambda image, i: resized(image, 24),
    "resized to 16 and back": lambda image, i: resized(image, 16),
    "JPEG 75": lambda image, i: compressed(image, 75),
    "JPEG 50": lambda image, i: compressed(image, 50),
    "JPEG 30": lambda image, i: compressed(image, 30),
}


def pair_set(first: Tensor, second: Tensor) -> set[tuple[int, int]]:
    """Pairs as a set."""
    return set(zip(first.tolist(), second.tolist(), strict=True))


def measure_images(images: Tensor, planted: int) -> dict[str, Any]:
    """Recall of each kind planted among real images, and of exact copies."""
    n = len(images)
    order = torch.randperm(n, generator=stream(0, "benchmark", "planted"))[:planted]
    shares: dict[str, Any] = {}
    for kind, change in CHANGES.items():
        copies = torch.stack([change(images[i], k) for k, i in enumerate(order.tolist())])
        pairs = near_image_pairs(torch.cat([images, copies]))
        actual = pair_set(pairs.first, pairs.second)
        shares[kind] = sum((i, n + k) in actual for k, i in enumerate(order.tolist())) / planted
        say(f"{kind}: {100 * shares[kind]:.1f}%")
    same = same_content(torch.cat([images, images[order]]))
    shares["exact"] = float((same[n:] == same[order]).float().mean())
    return shares


TEXT_CHANGES: dict[str, Callable[[str], str]] = {
    "exact": lambda text: text,
    "upper case": str.upper,
    "capitalised": str.title,
    "other punctuation": lambda text: text.replace(" .", " !").replace(",", ";") + " ...",
    "other spaces": lambda text: "  " + text.replace(" ", "\t") + "\n",
}


def measure_texts(texts: Sequence[str], planted: int) -> dict[str, Any]:
    """Recall of each kind planted among real texts, and how many real ones are near already."""
    texts = list(dict.fromkeys(texts))
    order = torch.randperm(len(texts), generator=stream(0, "benchmark", "texts"))[:planted].tolist()
    shares: dict[str, Any] = {}
    for kind, change in TEXT_CHANGES.items():
        both = texts + [change(texts[i]) for i in order]
        same = same_content(both)
        pairs = near_text_pairs(both, torch.nonzero(same == torch.arange(len(both))).flatten())
        groups = group_duplicates(same, pairs).group
        shares[kind] = float(
            np.mean([groups[i] >= 0 and groups[i] == groups[len(texts) + k] for k, i in enumerate(order)])
        )
    shares["near before anything is planted"] = len(near_text_pairs(texts).first)
    return shares


def measure_vectors(n: int, planted: int) -> dict[str, Any]:
    """Recall of vectors moved by a twentieth of the usual distance to a neighbour, and other pairs."""
    draws = stream(0, "benchmark", "vectors")
    shares: dict[str, Any] = {}
    for d in (4, 16, 64):
        x = torch.randn(n, d, generator=draws)
        pairs = near_vector_pairs(x)
        shares[f"{d} columns, near before anything is planted"] = len(pairs.first)
        usual = float(torch.cdist(x[:500], x).topk(2, dim=1, largest=False).values[:, 1].median())
        away = functional.normalize(torch.randn(planted, d, generator=draws), dim=1)
        pairs = near_vector_pairs(torch.cat([x, x[:planted] + 0.05 * usual * away]))
        actual = pair_set(pairs.first, pairs.second)
        shares[f"{d} columns"] = sum((i, n + i) in actual for i in range(planted)) / planted
    return shares


def measure_cifar(name: str) -> dict[str, Any]:
    """The duplicates that a CIFAR has: pairs between train and test by row number, and within the splits as counts."""
    train, test = load(str(DATA / name))
    assert isinstance(train, Examples)
    assert isinstance(test, Examples)
    images, n = torch.cat([train.x, test.x]), len(train.x)
    labels = torch.cat([train.labels, test.labels])
    wall, cpu = time.perf_counter(), time.process_time()
    same = same_content(images)
    pairs = near_image_pairs(images, torch.nonzero(same == torch.arange(len(images))).flatten())
    groups = group_duplicates(
        same, pairs, labels=labels, is_test=torch.arange(len(images)) >= n,
        verify=lambda a, b: verified_image_pairs(images, a, b),
    )  # fmt: skip
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    across = torch.nonzero((pairs.first < n) & (pairs.second >= n)).flatten()
    exact = torch.nonzero(same != torch.arange(len(images))).flatten()
    rows = [
        [int(pairs.second[k]) - n, int(pairs.first[k]), round(float(pairs.similarity[k]), 3), int(pairs.change[k]) % 2]
        for k in across.tolist()
    ]
    rows += [[int(i) - n, int(same[i]), 1.0, 0] for i in exact.tolist() if i >= n and same[i] < n]
    differ = sum(int(labels[n + int(row[0])]) != int(labels[int(row[1])]) for row in rows)
    return {
        "dataset": name,
        "train_n": n,
        "test_n": len(test.x),
        "seconds": wall,
        "cpu_seconds": cpu,
        "exact": len(exact),
        "pairs": len(pairs.first),
        "pairs_in_train": int((pairs.second < n).sum()),
        "pairs_in_test": int((pairs.first >= n).sum()),
        "groups": int(groups.group.max()) + 1,
        "dropped": int(groups.drop.sum()),
        "leaking_train_rows": int(groups.leaks.sum()),
        "test_rows": len({row[0] for row in rows}),
        "labels_differ": differ,
        "test_train_similarity_mirrored": sorted(rows),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    size = arguments(__doc__ or "", argv)
    million, peak = in_child(measure_embeddings, ROWS[size], SAMPLE[size])
    million["peak_mb"] = peak
    say(
        f"{million['n']:,} x {DIMENSIONS}: {million['seconds']:.0f} s ({million['cpu_seconds']:.0f} s of CPU), "
        f"{peak:,.0f} MB at the peak, recall {100 * million['recall']:.2f}% of {million['brute_force_pairs']} pairs of "
        f"brute force, {100 * million['planted_recall']:.2f}% of those planted"
    )
    if size == "smoke":
        images, texts = made_images(AMONG[size]), [f"the text of number {i} , as it is ." for i in range(1000)]
    else:
        images = torch.cat([split.x for split in load(str(DATA / "cifar10")) if isinstance(split, Examples)])
        images = images[: AMONG[size]]
        texts = [text for split in load(str(DATA / "sst2")) if isinstance(split, Texts) for text in split.texts]
    kinds = measure_images(images, PLANTED[size])
    text_kinds, vector_kinds = measure_texts(texts, PLANTED[size]), measure_vectors(20 * PLANTED[size], PLANTED[size])
    for share in (text_kinds, vector_kinds):
        say("; ".join(f"{kind}: {value:g}" for kind, value in share.items()))
    result = {
        "goal": "recall 0.99 exact, 0.9 each near kind; a million in minutes and under 4 GB",
        "embeddings": million,
    }
    result |= {"images": kinds, "texts": text_kinds, "vectors": vector_kinds}
    if size == "full":
        cifars = [measure_cifar(name) for name in ("cifar10", "cifar100")]
        RESULTS_FILE.write_text("".join(json.dumps(row) + "\n" for row in cifars), encoding="utf-8")
        result["cifar"] = [{k: v for k, v in row.items() if not isinstance(v, list)} for row in cifars]
        say(json.dumps(result["cifar"]))
    finish("near_duplicates", size, result)


if __name__ == "__main__":
    main()
