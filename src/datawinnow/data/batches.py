"""Batches of ``(index, x, y)`` on the device: from memory where the data fits, from a DataLoader where it does not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datawinnow.core.errors import DataError
from datawinnow.data.examples import Augment, Examples
from datawinnow.data.fingerprint import check_map_style, fingerprint_of, labels_of
from datawinnow.data.indexed import indexed
from datawinnow.data.objects import TargetDataset
from datawinnow.data.padding import dataset_text_lengths, ignores_padding, is_texts, longest_of, text_lengths

__all__ = [
    "Batch",
    "Batches",
    "LoaderBatches",
    "ResidentBatches",
    "batch_sizes",
    "batches_of",
    "check_map_style",
    "draw_augmentation",
    "fingerprint_of",
    "forward_batch",
    "labels_of",
    "split_evenly",
]

Batch = tuple[Tensor, Tensor, Tensor]


class Batches(Protocol):
    """Batches of a dataset, for a training loop."""

    n: int

    def train(self, order: Tensor, batch: int, generator: torch.Generator) -> Iterator[Batch]:
        """Batches of the ids in ``order``, augmented."""
        ...

    def test(self, batch: int) -> Iterator[Batch]:
        """All examples in order, not augmented."""
        ...


def batch_sizes(count: int, batch: int) -> list[int]:
    """Examples in each batch of ``count``, as `split_evenly` cuts them.

    >>> batch_sizes(10, 4)
    [4, 3, 3]
    """
    batches = max(1, -(-count // batch))
    size, rest = divmod(count, batches)
    return [size + 1] * rest + [size] * (batches - rest)


def split_evenly(order: Tensor, batch: int) -> list[Tensor]:
    """``order`` in ceil(m / batch) parts whose sizes differ by at most one.

    A last batch of one or two examples would break batch norm; balanced, none is below half of ``batch`` (unless there
    are fewer examples than that).
    """
    count = max(1, -(-len(order) // batch))
    return list(torch.tensor_split(order, count))


class ResidentBatches:
    """Examples on the device as stored; cropped, flipped and normalised there, a batch at a time.

    Args:
        examples: the dataset.
        device: where to keep it.
        channels_last: memory format of the images given out.
        lengths: (n,) tokens of each text, to pad every batch to its longest; None to leave all at one length.
    """

    def __init__(
        self,
        examples: Examples,
        device: torch.device,
        *,
        channels_last: bool = False,
        lengths: Tensor | None = None,
    ) -> None:
        self.n = len(examples)
        self.lengths = lengths
        self.device = device
        self.labels = examples.labels.to(device)
        self.image = examples.x.dtype is torch.uint8
        self.augment = examples.augment if self.image else None
        self.format = torch.channels_last if channels_last and self.image else torch.contiguous_format
        self.x = examples.x.to(device)
        if self.image:
            self.mean, self.std = _scale(examples.mean, examples.std, device)
            self.height, self.width = self.x.shape[2:]
            pad = self.augment.crop if self.augment else 0
            # Padded once: a crop is then one gather from a strided view, whatever its offset.
            padded = F.pad(self.x, (pad, pad, pad, pad)) if pad else self.x
            # Mirrored once as well, so that a flip is part of the same gather: twice the bytes, half the time a batch.
            self.sides = torch.stack([padded, padded.flip(-1)]) if self.augment and self.augment.flip else padded[None]

    def train(self, order: Tensor, batch: int, generator: torch.Generator) -> Iterator[Batch]:
        """Batches of the ids in ``order`` (m,), augmented with draws from ``generator``."""
        on_host = split_evenly(order, batch)
        batches = split_evenly(order.to(self.device), batch)
        draws = [draw_augmentation(len(index), self.augment, generator) for index in batches]
        if self.augment is not None:  # moved once an epoch: a copy a step costs a GPU more than the crop itself
            sizes = [len(index) for index in batches]
            columns = [
                torch.split(torch.cat(each).to(self.device, non_blocking=True), sizes)
                for each in zip(*draws, strict=True)
            ]
            draws = list(zip(*columns, strict=True))
        for ids, index, drawn in zip(on_host, batches, draws, strict=True):
            x = self._augmented(index, drawn) if self.image else self._plain(ids, index)
            yield index, x, self.labels[index]

    def test(self, batch: int) -> Iterator[Batch]:
        """All examples in order, not augmented."""
        for ids in split_evenly(torch.arange(self.n), batch):
            index = ids.to(self.device)
            yield index, self._finish(self.x[index]) if self.image else self._plain(ids, index), self.labels[index]

    def _plain(self, ids: Tensor, index: Tensor) -> Tensor:
        """Vectors or token ids of the examples ``ids``, on the host, and ``index``, the same on the device."""
        if self.lengths is None:
            return self.x[index]
        # the lengths are on the host: no step waits for the device
        return self.x[:, : longest_of(self.lengths[ids])][index]

    def _augmented(self, index: Tensor, draws: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        if self.augment is None:
            return self._finish(self.x[index])
        top, left, flip = draws
        side = flip.long() if self.augment.flip else torch.zeros_like(top)
        left = torch.where(side == 1, 2 * self.augment.crop - left, left)  # the same crop, seen from the other side
        # (sides, n, c, tops, lefts, h, w), without a copy
        windows = self.sides.unfold(3, self.height, 1).unfold(4, self.width, 1)  # a view
        # four index tensors around a slice: (b, c, h, w), one window an example
        return self._finish(windows[side, index, :, top, left])

    def _finish(self, x: Tensor) -> Tensor:
        return x.float().sub_(self.mean).mul_(self.std).contiguous(memory_format=self.format)


def draw_augmentation(count: int, augment: Augment | None, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets of the crops and the flips of one batch: (count,) int64, (count,) int64, (count,) bool."""
    if augment is None:
        none = torch.zeros(0, dtype=torch.int64)
        return none, none, none.bool()
    # one draw for all three: a call to a generator costs more than the numbers
    u = torch.rand((3, count), generator=generator)
    # 0 to 2 * crop, each as likely
    offsets = (u[:2] * (2 * augment.crop + 1)).long()
    return offsets[0], offsets[1], u[2] < 0.5


def _scale(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    # (x / 255 - mean) / std as one subtraction and one product on raw pixels
    shape = (1, -1, 1, 1)
    return (
        (torch.tensor(mean, dtype=torch.float32) * 255).view(shape).to(device),
        (1 / (torch.tensor(std, dtype=torch.float32) * 255)).view(shape).to(device),
    )


class LoaderBatches:
    """A torch DataLoader over any map-style dataset; uint8 images are augmented and normalised on the device.

    Floating-point x becomes float32, and other integers (token ids) are unchanged: the dataset's own transforms apply.

    Args:
        dataset: items are ``(x, y)``.
        device: where batches go.
        workers: worker processes.
        channels_last: memory format of images.
        to_longest: pad each batch of texts to its longest only.
    """

    def __init__(
        self,
        dataset: Any,
        device: torch.device,
        *,
        workers: int = 2,
        channels_last: bool = False,
        to_longest: bool = False,
    ) -> None:
        self.dataset = indexed(dataset)
        self.to_longest = to_longest
        self.n = len(self.dataset)
        self.device = device
        self.workers = workers
        self.channels_last = channels_last
        self.augment: Augment | None = getattr(dataset, "augment", None)
        self.mean: tuple[float, ...] = getattr(dataset, "mean", ())
        self.std: tuple[float, ...] = getattr(dataset, "std", ())

    def train(self, order: Tensor, batch: int, generator: torch.Generator) -> Iterator[Batch]:
        """Batches of the ids in ``order`` (m,), augmented where they are uint8 images."""
        # a batch sampler of lists: the loader fetches exactly these batches, in this order
        batches = [ids.tolist() for ids in split_evenly(order, batch)]
        for index, x, y in self._load(batches, generator):
            yield index, self._prepared(x, generator), y

    def test(self, batch: int) -> Iterator[Batch]:
        """All examples in order, not augmented."""
        batches = [ids.tolist() for ids in split_evenly(torch.arange(self.n), batch)]
        # nothing is augmented; the generator only seeds the workers
        for index, x, y in self._load(batches, torch.Generator().manual_seed(0)):
            yield index, self._prepared(x, None), y

    def _load(self, batches: list[list[int]], generator: torch.Generator) -> Iterator[Batch]:
        # a stream of its own: the loader draws its workers' seed whenever it pleases
        seeds = torch.Generator().manual_seed(int(torch.randint(1 << 62, (), generator=generator)))
        loader: DataLoader[Any] = DataLoader(
            self.dataset,
            batch_sampler=batches,
            num_workers=self.workers,
            generator=seeds,
            pin_memory=self.device.type == "cuda",
        )
        for index, x, y in _collated(loader):
            if not isinstance(x, Tensor) or not isinstance(y, Tensor):
                raise DataError(
                    f"the dataset gives x as {type(x).__name__} and y as {type(y).__name__}; they must be "
                    "tensors or numbers (add a transform such as ToTensor)"
                )
            if self.to_longest:
                x = x[:, : longest_of(text_lengths(x))]
            if isinstance(self.dataset.dataset, TargetDataset):
                target = y.float() if y.is_floating_point() else y
                yield (
                    index.to(torch.int64).to(self.device, non_blocking=True),
                    x.to(self.device, non_blocking=True),
                    target.to(self.device, non_blocking=True),
                )
                continue
            if y.is_floating_point() or y.ndim != 1:
                raise DataError(
                    f"labels must be one integer class id an example, got {y.dtype} of shape {tuple(y.shape)} a batch"
                )
            yield (
                index.to(torch.int64).to(self.device, non_blocking=True),
                x.to(self.device, non_blocking=True),
                y.long().to(self.device, non_blocking=True),
            )

    def _prepared(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if x.is_floating_point() or x.dtype is torch.bool:
            x = x.float()
        elif x.dtype is torch.uint8:
            if generator is not None and self.augment is not None and x.ndim == 4:
                x = _crop_flip(x, self.augment, generator)
            if self.mean:
                mean, std = _scale(self.mean, self.std, self.device)
                x = (x.float() - mean) * std
            else:
                x = x.float() / 255
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.ndim == 4 else x


def _collated(loader: DataLoader[Any]) -> Iterator[Any]:
    try:
        yield from loader
    except TypeError as error:
        # a TypeError of the user's dataset is passed on
        if "default_collate" not in str(error):
            raise
        raise DataError(
            f"items of the dataset cannot be put into a batch ({str(error).strip().splitlines()[-1]}); x must be a "
            "tensor and y a number (add a transform such as ToTensor)"
        ) from error
    except RuntimeError as error:
        if "stack expects each tensor to be equal size" not in str(error):
            raise
        raise DataError(
            f"examples differ in shape ({str(error).strip().splitlines()[-1]}): bring them to one, images with a "
            "transform such as Resize; a dataset of Hugging Face that save_to_disk wrote is resized by dw.load(folder)"
        ) from error


def _crop_flip(x: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    top, left, flip = (d.to(x.device, non_blocking=True) for d in draw_augmentation(len(x), augment, generator))
    pad = augment.crop
    windows = F.pad(x, (pad, pad, pad, pad)).unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)
    out = windows[torch.arange(len(x), device=x.device), :, top, left]
    return torch.where(flip[:, None, None, None], out.flip(-1), out) if augment.flip else out


def batches_of(
    dataset: Any,
    device: torch.device,
    *,
    workers: int = 2,
    channels_last: bool = False,
    to_longest: bool = False,
) -> Batches:
    """The fastest batches that a dataset allows: resident if it is `Examples` that fit, else from a DataLoader.

    Args:
        dataset: `Examples` or any map-style dataset of ``(x, y)``.
        device: where batches go.
        workers: of the DataLoader.
        channels_last: memory format of images.
        to_longest: pad each batch of texts to its longest only, as `pads_to_longest` says for a network.
    """
    if isinstance(dataset, Examples) and bytes_on_device(dataset) <= SHARE * free_bytes(device):
        lengths = dataset_text_lengths(dataset) if to_longest else None
        return ResidentBatches(dataset, device, channels_last=channels_last, lengths=lengths)
    return LoaderBatches(dataset, device, workers=workers, channels_last=channels_last, to_longest=to_longest)


def pads_to_longest(network: nn.Module, dataset: Any, device: torch.device) -> bool:
    """Whether batches of texts may be padded to their longest only, since the network's results do not depend on it.

    Args:
        network: on ``device``, with its weights.
        dataset: `Examples` or any map-style dataset of ``(x, y)``.
        device: where the network is.

    Returns:
        False for a network whose results do, and for other data than texts.
    """
    if not is_texts(dataset) or len(dataset) == 0:
        return False
    x = torch.stack([torch.as_tensor(dataset[i][0]) for i in range(min(2, len(dataset)))]).to(device)
    lengths = getattr(dataset, "text_lengths", None)
    return x.ndim == 2 and ignores_padding(network, x, 1 if lengths is None else max(1, int(lengths.min())))


MAX_VALUES = 500 * 3 * 64 * 64
"""Values of x in a batch of a forward pass: of 500 images of 64 pixels, or 40 of 224."""


def forward_batch(dataset: Any, batch: int) -> int:
    """Examples at a time in a pass without training: ``batch``, or fewer where x is so large that gigabytes are needed.

    Args:
        dataset: of ``(x, y)``, not empty.
        batch: the most.

    Returns:
        At least 1.
    """
    shape = getattr(dataset, "shape", None)
    values = math.prod(getattr(dataset[0][0], "shape", ()) if shape is None else shape)
    return max(1, min(batch, MAX_VALUES // max(1, values)))


SHARE = 0.6
"""Of a GPU's free memory that examples may fill; the rest is for the network and its activations."""


def bytes_on_device(examples: Examples) -> float:
    """Bytes that `ResidentBatches` keeps on the device: examples, their padded copy for the crop, its mirror image."""
    plain = float(examples.x.numel() * examples.x.element_size())
    if examples.augment is None or examples.x.dtype is not torch.uint8:
        return plain
    height, width = examples.x.shape[2:]
    pad = 2 * examples.augment.crop
    padded = plain * (height + pad) * (width + pad) / (height * width)
    # without padding or mirroring nothing is copied
    return plain + (2 * padded if examples.augment.flip else padded if pad else 0)


def free_bytes(device: torch.device) -> float:
    """Free memory of a GPU; infinite for the CPU, whose memory holds the examples already."""
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else math.inf
