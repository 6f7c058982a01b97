"""`sparsify`: token and attention sparsity around a vision transformer that is there already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datawinnow.core import check
from datawinnow.core.errors import ArgumentError
from datawinnow.vit.anatomy import Anatomy, anatomy_of
from datawinnow.vit.choosing import attended_keys, class_scores, highest, without
from datawinnow.vit.masked import FORMS, PAYING, Keys, pays
from datawinnow.vit.schedule import KeepSchedule, check_keep, count_of

AT = (3, 6, 9)
"""The blocks after whose attention the paper leaves patches out."""
PAPER = KeepSchedule()
"""How its rates fall."""


def sparsify(
    model: nn.Module,
    *,
    keep_tokens: float | None = 0.7,
    keep_attention: float | None = 0.3,
    at: Sequence[int] = AT,
    schedule: KeepSchedule | None = PAPER,
    form: str = "auto",
) -> nn.Module:
    """Make a vision transformer leave out patches that its class token hardly attends to, and keys likewise.

    In each block of ``at``, between attention and feed-forward, the patches with the largest class attention (the mean
    over the heads) stay, ceil(n * keep_tokens) of the n that are there; the others are gone for all that follows, so
    the sequence is shorter. From the same attention each patch that stays gets a list of the ceil(m * keep_attention)
    of the m kept ones that it attends to most, and attends to them alone in the blocks up to and including the next of
    ``at``. The class token and all others before the patches are never dropped, attend to all and are attended to by
    all. Every example of a batch keeps equally many, so a batch keeps one shape.

    The model itself is changed and returned, and its classes stay as they are: the forward of some of its blocks and
    attentions is replaced, which `dense` undoes. Parameters, buffers and their names stay, so weights load either way.
    With a keep rate of 1 a level is off, and with both of 1 the model's own code runs, to the same bits.

    Rates follow ``schedule`` once ``model.sparsity.set_epoch(epoch)`` is called, which `datawinnow.fit` does; a model
    that was never told its epoch trains at the final rates. In evaluation mode the final rates always hold.

    Args:
        model: `datawinnow.models.vit` and its kin, transformers' ``ViT...`` and ``DeiT...`` (version 5), timm's
            ``VisionTransformer``, or a module that holds one of them.
        keep_tokens: fraction of the patches kept each time, in (0, 1]; 1 or None for all.
        keep_attention: fraction of the keys kept for each patch, in (0, 1]; 1 or None for all.
        at: blocks, counted from 0, where both are decided; ascending.
        schedule: how the rates of training fall from 1 over the epochs; None for the final rates from the start.
        form: how attention under a mask is computed: ``"fused"``, ``"gathered"`` (products that count alone),
            ``"flex"`` (leaves out blocks, on CUDA), ``"dense"`` (as published), or ``"auto"``, what measured fastest;
            all with the same outputs. ``"paying"`` is another method: keys are left out where that saves time alone (on
            a CPU at 1024 patches and more, of which 0.5% are kept), elsewhere attention is dense and costs as much.

    Returns:
        ``model``, with a `Sparsity` in ``model.sparsity``.

    Raises:
        ArgumentError: an option out of range, a block that is not there, or a model that is not known (it says what it
            needs).

    References:
        Kong et al. 2022, Peeling the Onion, arXiv 2211.10801, token and attention levels; condense.md 1.10. There is no
        fused token for what is dropped, as there is in EViT (arXiv 2202.07800).

    >>> from datawinnow.models import vit
    >>> model = sparsify(vit(classes=10, channels=1, size=8), keep_tokens=0.5, schedule=None).eval()
    >>> _ = model(torch.zeros(2, 1, 8, 8))
    >>> [tuple(kept.shape) for kept in model.sparsity.kept]
    [(2, 8), (2, 4), (2, 2)]
    """
    tokens, attention = check_keep("keep_tokens", keep_tokens), check_keep("keep_attention", keep_attention)
    check.one_of("form", form, tuple(FORMS))
    if schedule is not None and not isinstance(schedule, KeepSchedule):
        raise ArgumentError(
            f"schedule must be a KeepSchedule or None, got {schedule!r}: KeepSchedule(hold=10, over=100)"
        )
    dense(model)
    anatomy = anatomy_of(model)
    sparsity = Sparsity(model, anatomy, _places(at, len(anatomy.blocks)), tokens, attention, schedule, form)
    model.sparsity = sparsity  # type: ignore[assignment]
    return model


def dense(model: nn.Module) -> nn.Module:
    """Undo `sparsify`: the model is as it was, with the weights that it has now."""
    found = model.__dict__.pop("sparsity", None)
    if isinstance(found, Sparsity):
        found.detach()
    return model


def _places(at: Sequence[int], depth: int) -> tuple[int, ...]:
    places: tuple[Any, ...] = tuple(at)
    if not places:
        raise ArgumentError("at= names no block: give at least one, as at=(3, 6, 9)")
    for place in places:
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < depth:
            raise ArgumentError(f"at= must hold blocks of 0 to {depth - 1}, since the model has {depth}, got {place!r}")
    if list(places) != sorted(set(places)):
        raise ArgumentError(f"at= must be ascending, each block once, got {places}")
    return places


@dataclass(frozen=True)
class Rates:
    """What is kept now: a fraction of the patches each time, and of the keys of each patch."""

    tokens: float
    attention: float


class Sparsity:
    """What `sparsify` leaves in ``model.sparsity``: the rates, by epoch, and what was kept in the last pass.

    Attributes:
        at: the blocks where patches are left out.
        final: the rates of evaluation, and of training after the schedule.
        schedule: how those of training fall.
        form: how attention under a mask is computed.
        training: the rates of training now.
        kept: for each block of ``at`` the (b, m) int64 patches that stayed after it in the last pass, ascending;
            those of the image, counted row by row from 0. Empty before the first pass and after a dense one.
    """

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        at: tuple[int, ...],
        tokens: float,
        attention: float,
        schedule: KeepSchedule | None,
        form: str,
    ) -> None:
        self.model, self.anatomy, self.at, self.schedule, self.form = model, anatomy, at, schedule, form
        self.final = self.training = Rates(tokens, attention)
        self._held: Rates | None = None
        self._forget()
        self._sites = [Site(self, i) for i in range(at[0], len(anatomy.blocks))]

    @property
    def kept(self) -> list[Tensor]:
        """(b, m) int64 patches that stayed, stage by stage, in the last pass."""
        return [ids for ids in self._kept if ids is not None]

    def set_epoch(self, epoch: float) -> bool:
        """Set the rates of training to those of an epoch, or of a part of one.

        Returns:
            Whether they changed.

        Raises:
            ArgumentError: below 0.
        """
        check.number("epoch", epoch, 0, 1e9)
        before, final, schedule = self.training, self.final, self.schedule or KeepSchedule(0, 0)
        self.training = Rates(schedule.rate(final.tokens, epoch), schedule.rate(final.attention, epoch))
        return self.training != before

    def rates(self, training: bool) -> Rates:
        """The rates in force in training or in evaluation mode."""
        return self._held or (self.training if training else self.final)

    @contextmanager
    def held(self, rates: Rates | None = None) -> Iterator[None]:
        """Hold to ``rates``, those of training unless told, in both modes, copies made meanwhile included."""
        before, self._held = self._held, rates or self.training
        try:
            yield
        finally:
            self._held = before

    def detach(self) -> None:
        """Give each block and attention its own forward back."""
        for site in self._sites:
            site.detach()

    def _forget(self) -> None:
        self._kept: list[Tensor | None] = [None] * len(self.at)
        self._keys: list[Keys | None] = [None] * len(self.at)

    def __getstate__(self) -> dict[str, Any]:
        """Without the last pass: a copy begins with none."""
        none = [None] * len(self.at)
        return {**self.__dict__, "_kept": none, "_keys": list(none)}

    def __repr__(self) -> str:
        """The rates and places."""
        return f"Sparsity({self.final}, at={self.at}, training={self.training}, form={self.form!r})"


class Site:
    """One block from the first of ``at`` on: its forwards, and those that stand in for them."""

    def __init__(self, sparsity: Sparsity, number: int) -> None:
        self.sparsity = sparsity
        self.block: Any = sparsity.anatomy.blocks[number]
        self.attention: Any = sparsity.anatomy.parts.attention(self.block)
        self.stage = sum(place < number for place in sparsity.at) - 1  # whose mask is in force; -1 for none
        self.chooses = number in sparsity.at
        self._own = [module.__dict__.get("forward") for module in (self.block, self.attention)]
        self.attention.forward = self.attend
        if self.chooses:
            self.block.forward = self.run

    def detach(self) -> None:
        """Put the forwards back."""
        for module, own in zip((self.block, self.attention), self._own, strict=True):
            module.__dict__.pop("forward", None)
            if own is not None:
                module.forward = own

    def run(self, x: Tensor, *args: Any, **more: Any) -> Any:
        """A block that leaves patches out after its attention."""
        if self.sparsity.rates(self.attention.training).tokens == 1:
            return self._plain(0, x, *args, **more)
        self._alone(args, more)
        return self.sparsity.anatomy.parts.block(self.block, x, self._shorten)

    def attend(self, x: Tensor, *args: Any, **more: Any) -> Any:
        """Attention under the mask in force; where patches or keys are to be chosen, they are chosen from it."""
        sparsity, parts = self.sparsity, self.sparsity.anatomy.parts
        rates = sparsity.rates(self.attention.training)
        keys = sparsity._keys[self.stage] if self.stage >= 0 and rates.attention < 1 else None
        chooses = self.chooses and (rates.tokens < 1 or rates.attention < 1)
        if self.chooses and not chooses:  # nothing is left of an earlier pass
            sparsity._kept[self.stage + 1] = sparsity._keys[self.stage + 1] = None
        if keys is None and not chooses:
            return self._plain(1, x, *args, **more)
        self._alone(args, more)
        q, k, v = parts.heads(self.attention, x)
        scale, dropout = parts.scale(self.attention), parts.dropout(self.attention) if self.attention.training else 0.0
        if keys is None:
            y = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)
        else:
            y = FORMS[sparsity.form](q, k, v, keys, scale, dropout)
        if chooses:
            with torch.no_grad():
                self._choose(q.detach(), k.detach(), scale, keys, rates)
        return parts.merge(self.attention, y)

    def _choose(self, q: Tensor, k: Tensor, scale: float, keys: Keys | None, rates: Rates) -> None:
        sparsity, prefix, now = self.sparsity, self.sparsity.anatomy.prefix, self.stage + 1
        b, n = len(q), q.shape[2] - prefix
        m = count_of(n, rates.tokens)
        if m < n:
            stay = highest(class_scores(q, k, scale, prefix), m)
        else:
            stay = torch.arange(n, device=q.device).expand(b, n)
        before = sparsity._kept[self.stage] if self.stage >= 0 else None
        self._stay = stay if m < n else None
        sparsity._kept[now] = stay if before is None else before.gather(1, stay)
        count = count_of(m, rates.attention)
        masks = count < m and (sparsity.form != PAYING or pays(count, m))
        sparsity._keys[now] = attended_keys(q, k, scale, prefix, count, stay, keys) if masks else None

    def _shorten(self, x: Tensor) -> Tensor:
        stay, self._stay = self._stay, None
        return x if stay is None else without(x, stay, self.sparsity.anatomy.prefix)

    def _plain(self, which: int, *args: Any, **more: Any) -> Any:
        module, own = (self.block, self.attention)[which], self._own[which]
        return type(module).forward(module, *args, **more) if own is None else own(*args, **more)

    def _alone(self, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        """Refuse a mask of somebody else's: it would be of the sequence that is no longer there."""
        given = [value for value in (*args, more.get("attention_mask"), more.get("attn_mask")) if value is not None]
        if given:
            raise ArgumentError(
                "a sparse vision transformer takes no attention mask beside its own: call the model without one, or "
                "vit.dense(model) first"
            )
