"""`SizeSchedule`: training on small inputs first and on full size last (progressive resizing)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from datawinnow.core import check
from datawinnow.core.budget import parse_fraction
from datawinnow.core.errors import ArgumentError
from datawinnow.data.padding import text_lengths

IMAGE_VIEWS = ("resize", "crop", "patches")
PATCHES = "patches"
"""The view that leaves images as they are: the network drops patches of them."""
TEXT_VIEWS = ("start", "both_ends", "window")

View = Literal["auto", "resize", "crop", "patches", "start", "both_ends", "window"]


@dataclass(frozen=True)
class SizeSchedule:
    """Small inputs first, full size last: how large the inputs are at each point of a training.

    A step on small inputs costs less, so that a budget of operations buys more steps (progressive resizing of images,
    sequence-length warm-up of texts). The default shape rises from ``start`` in equal parts over the first 60% of the
    steps and stays at full size for the rest.

    Attributes:
        start: the smallest size, trained on first: pixels of the shorter side of images, tokens of texts; below 1 a
            share of the full size, rounded to ``multiple``.
        share: share of the training below full size, in (0, 1].
        num_smaller: number of sizes below full size, at most.
        multiple: these sizes are multiples of it.
        sizes: instead of the default shape, the sizes in order; the last may be below full size (batch norm's
            statistics are then recomputed at full size).
        shares: with ``sizes``: the share of the training at each of them; they sum to 1.
        by: what shares are of: ``"steps"``, or ``"cost"`` (operations, as EfficientTrain++ divides a training).
        change: ``"step"`` changes the size at the step where its share begins, ``"epoch"`` at the start of the next
            epoch, so that all losses of an epoch are of one size.
        view: how an input becomes smaller. Images: ``"resize"`` (bilinear with antialiasing, after the augmentation)
            or ``"crop"`` (a random window); of a vision transformer also ``"patches"``: the image stays, and a random
            choice of as many patches as the smaller image would have is trained on (`datawinnow.vit.random_patches`).
            Texts: ``"start"`` keeps the first tokens, ``"both_ends"`` the first and
            the last half, ``"window"`` a random window. ``"auto"``: ``"resize"`` or ``"both_ends"``.

    Raises:
        ArgumentError: a value out of range, or shares that do not fit the sizes.

    References:
        EfficientTrain++ (arXiv 2405.08768), equal parts of cost; EfficientNetV2 (arXiv 2104.00298), progressive
        learning; FixRes (arXiv 1906.06423), batch norm at the size that is tested.

    >>> SizeSchedule(start=16).stages(32)
    ((16, 0.15), (20, 0.15), (24, 0.15), (28, 0.15), (32, 0.4))
    >>> SizeSchedule(start=0.5).stages(64)
    ((32, 0.15), (40, 0.15), (48, 0.15), (56, 0.15), (64, 0.4))
    >>> SizeSchedule(sizes=(16, 32), shares=(0.8, 0.2)).stages(32)
    ((16, 0.8), (32, 0.2))
    """

    start: float | None = None
    share: float = 0.6
    num_smaller: int = 4
    multiple: int = 4
    sizes: Sequence[int] = ()
    shares: Sequence[float] = ()
    by: Literal["steps", "cost"] = "steps"
    change: Literal["step", "epoch"] = "step"
    view: View = "auto"

    def __post_init__(self) -> None:
        # lists from TOML and JSON: tuples keep the class hashable
        object.__setattr__(self, "sizes", tuple(self.sizes))
        object.__setattr__(self, "shares", tuple(self.shares))
        check.one_of("by", self.by, ("steps", "cost"))
        check.one_of("change", self.change, ("step", "epoch"))
        check.one_of("view", self.view, ("auto", *IMAGE_VIEWS, *TEXT_VIEWS))
        check.number("num_smaller", self.num_smaller, 1, 1000, integer=True)
        check.number("multiple", self.multiple, 1, 1 << 16, integer=True)
        check.number("share", self.share, 1e-9, 1)
        if (self.start is None) == (not self.sizes):
            raise ArgumentError("give one of start (the first size) and sizes (all of them, with their shares)")
        if self.start is not None and self.start >= 1:
            check.number("start", self.start, 1, 1 << 20, integer=True)
        elif self.start is not None:
            check.number("start", self.start, 1e-6, 1)
        if self.sizes:
            self._check_stages()
        elif self.shares:
            raise ArgumentError("shares go with sizes; with start, share is the part below full size")

    @classmethod
    def from_text(cls, text: str, view: View = "auto") -> SizeSchedule:
        """A schedule from text.

        Args:
            text: ``"16"``, the first size; ``"0.5"`` or ``"50%"``, its share of the full size; or
                ``"16:0.4,24:0.4,32:0.2"``, sizes and shares of the steps.
            view: how an input becomes smaller.

        Raises:
            ArgumentError: other text, or shares that do not sum to 1.

        >>> SizeSchedule.from_text("16:0.8,32:0.2").stages(32)
        ((16, 0.8), (32, 0.2))
        """
        entries = [entry.split(":") for entry in text.split(",")]
        start: float | None = None
        sizes, shares = [], []
        try:
            if len(entries) == len(entries[0]) == 1:
                is_share = "." in text or text.endswith("%")
                start = parse_fraction(text) if is_share else int(text)
                if not (0 < start < 1 if is_share else start >= 1):
                    raise ValueError(text)
            else:
                sizes, shares = [int(size) for size, _ in entries], [float(share) for _, share in entries]
        except ValueError:
            raise ArgumentError(
                "the first size is a number such as 16, or a share of the full size below 100%, such as 50%; "
                f"SIZE:SHARE of each stage is such as 16:0.6,32:0.4; got {text!r}"
            ) from None
        return cls(start, sizes=sizes, shares=shares, view=view)

    def _check_stages(self) -> None:
        for size in self.sizes:
            check.number("sizes", size, 1, 1 << 20, integer=True)
        for share in self.shares:
            check.number("shares", share, 0, 1)
        if len(self.shares) != len(self.sizes):
            raise ArgumentError(f"give one share a size, got {len(self.shares)} shares for {len(self.sizes)} sizes")
        if abs(sum(self.shares) - 1) > 1e-6:
            raise ArgumentError(f"the shares must sum to 1, got {sum(self.shares):g}")

    def stages(self, full: int) -> tuple[tuple[int, float], ...]:
        """Sizes and shares for inputs of ``full`` pixels or tokens.

        Raises:
            ArgumentError: a size above ``full``, or none below it.
        """
        if self.sizes:
            if max(self.sizes) > full:
                raise ArgumentError(f"the size {max(self.sizes)} of the schedule is above the inputs' own, {full}")
            return tuple(zip(self.sizes, self.shares, strict=True))
        assert self.start is not None
        start = int(self.start) if self.start >= 1 else self._rounded(self.start * full)
        if start >= full:
            raise ArgumentError(
                f"the schedule starts at size {start}, but the inputs have size {full}: start below that, for "
                f"example at {max(1, full // 2)}"
            )
        # equally spaced from start to below full, rounded to the multiple; a start in pixels is kept as it is
        spaced = (start + i * (full - start) / self.num_smaller for i in range(1, self.num_smaller))
        smaller = (start, *sorted({size for size in map(self._rounded, spaced) if start < size < full}))
        stages = [(size, round(self.share / len(smaller), 12)) for size in smaller]
        return (*stages, (full, round(1 - self.share, 12))) if self.share < 1 else tuple(stages)

    def _rounded(self, size: float) -> int:
        return max(1, self.multiple * round(size / self.multiple))

    def plan(self, full: int, cost: Callable[[int], float]) -> SizePlan:
        """The schedule for inputs of size ``full``.

        Args:
            full: size of the inputs.
            cost: operations of a step at a size, over those at full size.
        """
        sizes, shares = zip(*self.stages(full), strict=True)
        costs = tuple(cost(size) for size in sizes)
        if self.by == "cost":
            steps = [share / each for share, each in zip(shares, costs, strict=True)]
            shares = tuple(each / sum(steps) for each in steps)
        return SizePlan(full, sizes, shares, costs, self.change == "epoch")

    def __call__(self, x: Tensor, progress: float, generator: torch.Generator | None = None) -> Tensor:
        """A batch at the size that the schedule has at ``progress``: for training loops of your own.

        Operations are taken to follow the square of an image's side and a text's length; with ``by="steps"``, the
        default, nothing depends on that.

        Args:
            x: (b, channels, height, width) images or (b, tokens) ids.
            progress: share of the steps that are done, in [0, 1].
            generator: of random crops and windows.

        >>> SizeSchedule(start=16)(torch.zeros(2, 3, 32, 32), progress=0.2).shape
        torch.Size([2, 3, 20, 20])
        """
        if self.view == PATCHES:
            raise ArgumentError(
                'with view="patches" the network drops them: before each step set '
                "vit.random_patches(model).share = schedule.patch_share(x, progress)"
            )
        return smaller_view(x, self._size_at(x, progress), self.view, generator=generator)

    def patch_share(self, x: Tensor, progress: float) -> float:
        """The share of the patches to train on at ``progress``: for training loops of your own.

        Args:
            x: (b, channels, height, width) images at full size.
            progress: share of the steps that are done, in [0, 1].

        >>> SizeSchedule(start=16, view="patches").patch_share(torch.zeros(2, 3, 32, 32), progress=0)
        0.25
        """
        if x.ndim != 4:
            raise ArgumentError(f"patches are of images (b, channels, height, width), got {tuple(x.shape)}")
        return (self._size_at(x, progress) / input_size(x)) ** 2

    def _size_at(self, x: Tensor, progress: float) -> int:
        full, power = input_size(x), 2 if x.ndim == 4 else 1
        return self.plan(full, lambda size: (size / full) ** power).size(progress)


@dataclass(frozen=True)
class SizePlan:
    """A `SizeSchedule` for inputs of one size and one network.

    Attributes:
        full: size of the inputs.
        sizes: of each stage.
        shares: of the steps, in each stage; they sum to 1.
        costs: operations of a step in each stage, over those at full size.
        by_epoch: whether the size changes at starts of epochs only.
    """

    full: int
    sizes: tuple[int, ...]
    shares: tuple[float, ...]
    costs: tuple[float, ...]
    by_epoch: bool = False

    @property
    def mean_cost(self) -> float:
        """Operations of an average step, over those at full size."""
        return sum(share * cost for share, cost in zip(self.shares, self.costs, strict=True))

    def stage_at(self, progress: float) -> int:
        """Number of the stage that ``progress``, the share of the steps done, lies in."""
        ends = list(accumulate(self.shares))
        # a rounding error before a boundary must not hold the old size for one step more
        return next((i for i, end in enumerate(ends[:-1]) if progress < end - 1e-9), len(ends) - 1)

    def size(self, progress: float) -> int:
        """The size at ``progress``."""
        return self.sizes[self.stage_at(progress)]

    def share_of_range(self, size: int) -> float:
        """Where ``size`` lies between the smallest and the largest of the schedule, from 0 to 1.

        >>> SizePlan(32, (16, 24, 32), (0.3, 0.3, 0.4), (0.25, 0.5, 1.0)).share_of_range(24)
        0.5
        """
        smallest, largest = min(self.sizes), max(self.sizes)
        return (size - smallest) / (largest - smallest) if largest > smallest else 1.0

    def cost(self, progress: float) -> float:
        """Operations of a step at ``progress``, over those at full size."""
        return self.costs[self.stage_at(progress)]

    def progress_at_cost(self, spent: float) -> float:
        """The share of the steps that is done when ``spent``, a share of all operations, is spent.

        >>> plan = SizePlan(32, (16, 32), (0.5, 0.5), (0.25, 1.0))
        >>> plan.progress_at_cost(0.2), plan.progress_at_cost(0.6)
        (0.5, 0.75)
        """
        remaining, done = spent * self.mean_cost, 0.0
        for share, cost in zip(self.shares, self.costs, strict=True):
            if remaining <= share * cost:
                return done + remaining / cost
            remaining, done = remaining - share * cost, done + share
        return 1.0


def input_size(x: Tensor) -> int:
    """Size of a batch's inputs: the shorter side of images, the length of texts.

    Raises:
        ArgumentError: x is neither images nor token ids.
    """
    if x.ndim == 4:
        return min(x.shape[-2:])
    if x.ndim == 2 and not x.is_floating_point():
        return x.shape[1]
    raise ArgumentError(
        f"a size schedule is for images (b, channels, height, width) or token ids (b, tokens), got {tuple(x.shape)} "
        f"of {x.dtype}: train without it"
    )


def smaller_view(x: Tensor, size: int, view: View = "auto", *, generator: torch.Generator | None = None) -> Tensor:
    """A batch at a smaller size; at full size, and where the network drops patches, the batch itself.

    Args:
        x: (b, channels, height, width) images or (b, tokens) ids.
        size: pixels of the shorter side, or tokens.
        view: as of `SizeSchedule`.
        generator: of random crops and windows.

    Raises:
        ArgumentError: a view that is not for this kind of input.
    """
    full = input_size(x)
    views = IMAGE_VIEWS if x.ndim == 4 else TEXT_VIEWS
    if view == "auto":
        view = "resize" if x.ndim == 4 else "both_ends"
    if view not in views:
        kind = "images" if x.ndim == 4 else "texts"
        raise ArgumentError(f"view={view!r} is not for {kind}: choose one of {', '.join(views)}")
    if size == full or view == PATCHES or (x.ndim == 2 and size > full):  # texts that are shorter anyway
        return x
    if x.ndim == 4:
        height, width = (round(side * size / full) for side in x.shape[-2:])
        if view == "resize":
            return F.interpolate(x, size=(height, width), mode="bilinear", antialias=True)
        return _random_crop(x, height, width, generator)
    return _shorter_text(x, size, view, generator)


def _random_crop(x: Tensor, height: int, width: int, generator: torch.Generator | None) -> Tensor:
    """(b, c, height, width), a window of its own for each image."""
    u = torch.rand((2, len(x)), generator=generator).to(x.device)
    top = (u[0] * (x.shape[2] - height + 1)).long()
    left = (u[1] * (x.shape[3] - width + 1)).long()
    windows = x.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(x), device=x.device), :, top, left]


def _shorter_text(x: Tensor, size: int, view: View, generator: torch.Generator | None) -> Tensor:
    """(b, size) ids of the texts cut to ``size`` tokens; shorter texts stay as they are."""
    excess = (text_lengths(x) - size).clamp_min(0)
    position = torch.arange(size, device=x.device).expand(len(x), size)
    if view == "both_ends":
        # a text that is cut loses its middle
        position = torch.where(position >= math.ceil(size / 2), position + excess[:, None], position)
    elif view == "window":
        u = torch.rand(len(x), generator=generator).to(x.device)
        position = position + (u * (excess + 1)).long()[:, None]
    return x.gather(1, position)
