"""Augmented training batches: ours, made on the device a batch at a time, against torch's DataLoader with Pillow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from measuring import arguments, finish, interleaved, ratio, say
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datawinnow.core.rng import stream
from datawinnow.data.batches import ResidentBatches, draw_augmentation
from datawinnow.data.examples import Augment, Examples

SIDE, PAD, CLASSES, BATCH, WORKERS = 32, 4, 10, 128, 2
SIZES = {"smoke": (256, 1), "default": (10_000, 5), "full": (50_000, 7)}
"""Examples, rounds."""


class PerImage(Dataset[tuple[int, Tensor, int]]):
    """The usual pipeline on Pillow: RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor, Normalize."""

    def __init__(self, examples: Examples) -> None:
        self.pixels = examples.x.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = examples.labels.tolist()
        self.mean = torch.tensor(examples.mean).view(-1, 1, 1)
        self.std = torch.tensor(examples.std).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> tuple[int, Tensor, int]:
        top, left = (int(v) for v in torch.randint(0, 2 * PAD + 1, (2,)))
        return i, self.transformed(i, top, left, bool(torch.rand(1) < 0.5)), self.labels[i]

    def transformed(self, i: int, top: int, left: int, flip: bool) -> Tensor:
        """Image ``i`` padded, cropped at (top, left), mirrored if ``flip``, normalised: (3, h, w) float32."""
        image = ImageOps.expand(Image.fromarray(self.pixels[i]), border=PAD, fill=0)
        image = image.crop((left, top, left + SIDE, top + SIDE))
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return x.sub_(self.mean).div_(self.std)


def images(n: int) -> Examples:
    """Random images: what is cropped does not change how long it takes."""
    draws = stream(0, "benchmark", "pictures")
    x = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (n,), generator=draws)
    names = tuple(str(c) for c in range(CLASSES))
    return Examples(x=x, labels=labels, classes=names, augment=Augment(crop=PAD, flip=True))


def walked(batches: Iterable[Any]) -> Tensor:
    """The ids that came, in order: the batches are taken as a training loop would, and nothing is done with them."""
    return torch.cat([index for index, _, _ in batches])


def difference(theirs: PerImage, ours: ResidentBatches, count: int) -> float:
    """Largest difference between the two pipelines on the same images with the same crops and flips."""
    order = torch.arange(count)
    _, x, _ = next(iter(ours.train(order, count, stream(0, "benchmark", "same"))))
    draws = draw_augmentation(count, Augment(crop=PAD, flip=True), stream(0, "benchmark", "same"))
    crops = zip(*(d.tolist() for d in draws), strict=True)
    expected = torch.stack([theirs.transformed(i, top, left, flip) for i, (top, left, flip) in enumerate(crops)])
    return float((x - expected).abs().max())


def main(argv: list[str] | None = None) -> None:
    chosen = arguments(__doc__ or "", argv)
    n, rounds = SIZES[chosen]
    examples = images(n)
    theirs, ours = PerImage(examples), ResidentBatches(examples, torch.device("cpu"))
    apart = difference(theirs, ours, min(n, 256))
    # Workers stay between epochs, so that their start is not counted against the DataLoader.
    loader = DataLoader(theirs, batch_size=BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    draws = stream(0, "benchmark", "order")
    met: dict[str, Tensor] = {}

    def with_loader() -> None:
        met["dataloader"] = walked(loader)

    def with_resident() -> None:
        met["resident"] = walked(ours.train(torch.randperm(n, generator=draws), BATCH, draws))

    say(f"{n:,} images of {SIDE}x{SIDE}, batch {BATCH}: crop with padding {PAD}, flip, normalise; {rounds} rounds")
    taken, _ = interleaved({"dataloader": with_loader, "resident": with_resident}, rounds)
    rate = {name: n / sorted(seconds)[len(seconds) // 2] for name, seconds in taken.items()}
    faster = ratio(taken["dataloader"], taken["resident"])
    say(f"DataLoader, {WORKERS} workers, Pillow an image at a time: {rate['dataloader']:,.0f} examples/s")
    say(f"ResidentBatches: {rate['resident']:,.0f} examples/s")
    say(
        f"ratio {faster['median']:.1f} [{faster['low']:.1f}, {faster['high']:.1f}] (goal 10); "
        f"largest difference {apart:.1e}"
    )
    result: dict[str, Any] = {"n": n, "batch": BATCH, "workers": WORKERS, "rounds": rounds, "goal": {"ratio": 10}}
    result |= {"examples_per_second": rate, "ratio": faster, "largest_difference": apart}
    result["distinct_ids"] = {name: len(ids.unique()) for name, ids in met.items()}
    finish("loading", chosen, result)


if __name__ == "__main__":
    main()
