"""Arrays that take more than a forward pass: each has a maker, with its options and its cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.cost import Cost
from datawinnow.core.curvature import REPEATS, Mode, input_curvature
from datawinnow.core.errors import ArgumentError
from datawinnow.core.rng import stream
from datawinnow.probe.deepfool import deepfool
from datawinnow.probe.gradients import gradient_norms, gradient_norms_one_by_one

GRADIENT_CHUNK = 100
"""Examples whose activations are kept for a backward pass at once, by default."""


class Maker(Protocol):
    """Makes one number per example."""

    labelled: bool
    """Whether it uses the labels, which then must be among the model's outputs."""
    moves_input: bool
    """Whether it differentiates or changes the inputs, which tokens do not allow."""
    cost: Cost
    """Examples passed so far."""
    notes: list[str]
    """Remarks for the user."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """(b,) numbers of the next examples."""
        ...

    def finish(self, values: Tensor) -> Tensor:
        """(n,) numbers of all examples, from the concatenated results of the calls."""
        ...


@dataclass
class GradNorm:
    """`gradient_norms`; one example at a time where a model's operations cannot be vectorised."""

    chunk: int | None = field(default=None, repr=False)
    labelled = True
    moves_input = False
    cost: Cost = field(default_factory=Cost, init=False)
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._one_by_one = False

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """(b,) norms."""
        self.cost += Cost(backward=len(x))
        if not self._one_by_one:
            try:
                return gradient_norms(model, x, y, chunk=self.chunk)
            # too large a chunk, which going one by one would only hide
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # a network may raise anything; one that cannot run at all raises again below
                self._one_by_one = True
                self.notes.append(
                    "grad_norm is made an example at a time, since the model cannot be vectorised over examples: "
                    + str(error).strip().split("\n")[0][:200]
                )
        return gradient_norms_one_by_one(model, x, y)

    def finish(self, values: Tensor) -> Tensor:
        """``values`` unchanged."""
        return values


@dataclass
class Curvature:
    """`input_curvature`, in chunks; the random directions come from the seed and do not depend on the chunks."""

    h: float | None = None
    mode: Mode = "cure"
    repeats: int | None = None
    square: bool = False
    seed: int = 0
    chunk: int | None = field(default=None, repr=False)
    labelled = True
    moves_input = True
    cost: Cost = field(default_factory=Cost, init=False)
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        # one stream for all examples in order: neither chunks nor batches change the directions
        self._generator = stream(self.seed, "probe", "curvature")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """(b,) curvatures."""
        curvatures = []
        size = self.chunk or GRADIENT_CHUNK
        for xs, ys in zip(torch.split(x, size), torch.split(y, size), strict=True):
            curvatures.append(
                input_curvature(
                    model,
                    xs,
                    ys,
                    h=self.h,
                    mode=self.mode,
                    repeats=self.repeats,
                    square=self.square,
                    generator=self._generator,
                )
            )
        repeats = REPEATS[self.mode] if self.repeats is None else self.repeats
        # the gradient at the example, and one for each direction
        self.cost += Cost(backward=(1 + repeats) * len(x))
        return torch.cat(curvatures)

    def finish(self, values: Tensor) -> Tensor:
        """``values`` unchanged."""
        return values


@dataclass
class BoundaryDistance:
    """`deepfool`, in chunks. A class's gradient counts as an example passed forward and backward."""

    max_iter: int = 50
    overshoot: float = 0.02
    candidates: int | None = None
    chunk: int | None = field(default=None, repr=False)
    labelled = False
    moves_input = True
    cost: Cost = field(default_factory=Cost, init=False)
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._short = 0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """(b,) distances; -1 where the logits do not change with the input."""
        del y  # the distance is from the model's prediction
        distances = []
        for xs in torch.split(x, self.chunk or GRADIENT_CHUNK):
            walk = deepfool(model, xs, max_iter=self.max_iter, overshoot=self.overshoot, candidates=self.candidates)
            self._short += int((~walk.reached & ~walk.flat).sum())
            self.cost += Cost(forward=walk.forward, backward=walk.backward)
            distances.append(walk.distance.masked_fill(walk.flat, -1))  # replaced in `finish`
        return torch.cat(distances)

    def finish(self, values: Tensor) -> Tensor:
        """Examples whose logits do not change with the input get the largest distance of the others.

        Raises:
            ArgumentError: they change nowhere.
        """
        flat = values < 0
        if bool(flat.all()):
            raise ArgumentError(
                "boundary_distance: the model's logits do not change with its input at any example, so no boundary can "
                "be found"
            )
        if self._short:
            self.notes.append(
                f"boundary_distance: {self._short} examples did not reach the boundary in max_iter={self.max_iter} "
                "steps; they have the length of the way so far"
            )
        if bool(flat.any()):
            self.notes.append(
                f"boundary_distance: at {int(flat.sum())} examples, the first of them {int(flat.byte().argmax())}, the "
                "logits do not change with the input; they have the distance of the furthest of the others"
            )
        # distances are at least 0, so -1 is never the maximum
        return torch.where(flat, values.max(), values)


MAKERS: dict[str, type[Any]] = {
    "grad_norm": GradNorm,
    "curvature": Curvature,
    "boundary_distance": BoundaryDistance,
}


def options_of(name: str) -> tuple[str, ...]:
    """Options of an array that change its values; its maker's fields but for ``chunk`` and ``seed``."""
    if name not in MAKERS:
        return ()
    return tuple(f.name for f in fields(MAKERS[name]) if f.init and f.name not in ("chunk", "seed"))


def build_makers(names: tuple[str, ...], options: dict[str, Any], *, chunk: int | None, seed: int) -> dict[str, Maker]:
    """Makers by name of those of ``names`` that take more than a forward pass.

    Raises:
        ArgumentError: an option that none of them has, or no chunk.
    """
    for option in options:
        if not any(option in options_of(name) for name in names):
            owners = [name for name in MAKERS if option in options_of(name)]
            hint = f"it is one of {owners[0]}, not among the arrays" if owners else f"there are: {_all_options()}"
            raise ArgumentError(f"{option}={options[option]!r} is not an option of {', '.join(names)}; {hint}")
    if chunk is not None:
        check.number("chunk", chunk, 1, math.inf, integer=True)
    makers: dict[str, Maker] = {}
    for name in names:
        if name in MAKERS:
            kwargs = {key: value for key, value in options.items() if key in options_of(name)}
            if any(f.name == "seed" for f in fields(MAKERS[name])):
                kwargs["seed"] = seed
            makers[name] = MAKERS[name](chunk=chunk, **kwargs)
    return makers


def _all_options() -> str:
    return "; ".join(f"{name}: {', '.join(options_of(name))}" for name in MAKERS if options_of(name))


def maker_settings(maker: Maker | None) -> dict[str, Any]:
    """Settings that an array's values depend on, for its manifest: the options, and the seed if it draws."""
    if maker is None:
        return {}
    settings = {f.name: getattr(maker, f.name) for f in fields(maker) if f.init and f.name != "chunk"}  # type: ignore[arg-type]
    if settings.get("mode") == "cure":
        # CURE's direction is fixed: another seed gives the same values
        del settings["seed"]
    return settings
