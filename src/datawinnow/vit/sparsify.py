"""`sparsify`: token and attention sparsity for an existing vision transformer."""

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
from datawinnow.vit.masked_attention import FORMS, PAYING, Keys, gathering_pays
from datawinnow.vit.random_patches import random_patches_of
from datawinnow.vit.schedule import KeepSchedule, check_keep, count_of
from datawinnow.vit.token_selection import attended_keys, class_scores, drop_patches, topk_ascending

PAPER_BLOCKS = (3, 6, 9)
"""The blocks after whose attention the paper drops patches."""
PAPER_SCHEDULE = KeepSchedule()
"""The schedule of the paper's keep rates."""


def sparsify(
    model: nn.Module,
    *,
    keep_tokens: float | None = 0.7,
    keep_attention: float | None = 0.3,
    at: Sequence[int] = PAPER_BLOCKS,
    schedule: KeepSchedule | None = PAPER_SCHEDULE,
    form: str = "auto",
) -> nn.Module:
    """Make a vision transformer drop the patches that its class token attends to least, and the keys of the others.

    In each block of ``at``, between attention and feed-forward, the patches with the largest class attention (the mean
    over the heads) stay, ceil(n * keep_tokens) of the n of the sequence; all later blocks run without the others. From
    the same attention each patch that stays gets a list of the ceil(m * keep_attention) of the m kept patches with the
    largest attention, and attends only to them in the blocks up to and including the next of ``at``. The class token
    and the other tokens before the patches are never dropped, attend to all tokens and are attended to by all tokens.
    Every example of a batch keeps equally many patches, so a batch keeps one shape.

    The model is changed in place and returned: the forward of some of its blocks and attentions is replaced, which
    `dense` undoes. Classes, parameters, buffers and their names stay, so weights load either way. A keep rate of 1
    switches a level off; with both at 1 the model's own code runs, to the same bits.

    Rates follow ``schedule`` once ``model.sparsity.set_epoch(epoch)`` is called, which `datawinnow.fit` does; without
    that call a model trains at the final rates. In evaluation mode the final rates always hold.

    Args:
        model: `datawinnow.models.vit` and its sizes, transformers' ``ViT...`` and ``DeiT...`` (version 5), timm's
            ``VisionTransformer``, or a module that holds one of them.
        keep_tokens: fraction of the patches kept at each block of ``at``, in (0, 1]; 1 or None for all.
        keep_attention: fraction of the keys kept for each patch, in (0, 1]; 1 or None for all.
        at: blocks, counted from 0, at which patches and keys are chosen; ascending.
        schedule: how the rates of training fall from 1 over the epochs; None for the final rates from the start.
        form: how attention under a mask is computed: ``"fused"``, ``"gathered"`` (only the products of kept
            keys), ``"flex"`` (skips blocks of keys, on CUDA), ``"dense"`` (as published), or ``"auto"``, the fastest as
            measured; all with the same outputs. ``"paying"`` is another method: keys are dropped only where that saves
            time (on a CPU from 1024 patches on, of which 0.5% are kept), elsewhere attention is dense.

    Returns:
        ``model``, with a `Sparsity` in ``model.sparsity``.

    Raises:
        ArgumentError: an option out of range, a block that the model lacks, or an unsupported model.

    References:
        Kong et al. 2022, Peeling the Onion, arXiv 2211.10801, token and attention levels. Dropped patches are
        not fused into a token, unlike in EViT (arXiv 2202.07800).

    >>> from datawinnow.models import vit
    >>> model = sparsify(vit(classes=10, channels=1, size=8), keep_tokens=0.5, schedule=None).eval()
    >>> _ = model(torch.zeros(2, 1, 8, 8))
    >>> [tuple(kept.shape) for kept in model.sparsity.kept]
    [(2, 8), (2, 4), (2, 2)]
    """
    tokens, attention = check_keep("keep_tokens", keep_tokens), check_keep("keep_attention", keep_attention)
    check.one_of("`form=`", form, tuple(FORMS))
    if schedule is not None and not isinstance(schedule, KeepSchedule):
        raise ArgumentError(
            f"schedule must be a KeepSchedule or None, got {schedule!r}: KeepSchedule(hold=10, over=100)"
        )
    # Sparsifying twice would otherwise wrap the forwards of the first time.
    dense(model)
    anatomy = anatomy_of(model)
    if random_patches_of(anatomy.blocks[0]) is not None:
        raise ArgumentError(
            "the model trains on random patches (vit.random_patches), and sparsity counts the patches of whole images: "
            "make the network anew, or leave sparsity out"
        )
    sparsity = Sparsity(model, anatomy, _check_blocks(at, len(anatomy.blocks)), tokens, attention, schedule, form)
    model.sparsity = sparsity  # type: ignore[assignment]
    return model


def dense(model: nn.Module) -> nn.Module:
    """Undo `sparsify`: restore the forwards of the model and keep its current weights."""
    sparsity = model.__dict__.pop("sparsity", None)
    if isinstance(sparsity, Sparsity):
        sparsity.detach()
    return model


def _check_blocks(at: Sequence[int], depth: int) -> tuple[int, ...]:
    blocks: tuple[Any, ...] = tuple(at)
    if not blocks:
        raise ArgumentError("`at=` names no block: give at least one, as 3, 6 and 9")
    for block in blocks:
        if isinstance(block, bool) or not isinstance(block, int) or not 0 <= block < depth:
            raise ArgumentError(
                f"`at=` must hold blocks of 0 to {depth - 1}, since the model has {depth}, got {block!r}"
            )
    if list(blocks) != sorted(set(blocks)):
        raise ArgumentError(f"`at=` must be ascending, each block once, got {blocks}")
    return blocks


@dataclass(frozen=True)
class Rates:
    """The fraction of the patches kept at each block of ``at``, and of the keys of each patch."""

    tokens: float
    attention: float


class Sparsity:
    """The rates of a sparse model by epoch, and the patches kept in the last pass; ``model.sparsity`` after `sparsify`.

    Attributes:
        at: the blocks at which patches are dropped.
        final: the rates of evaluation, and of training after the schedule.
        schedule: of the rates of training.
        form: how attention under a mask is computed.
        training: the current rates of training.
        kept: for each block of ``at`` the (b, m) int64 patches of the image kept after it in the last pass, ascending,
            counted row by row from 0. Empty before the first pass and after a dense one.
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
        self._fixed: Rates | None = None
        self._clear_last_pass()
        # Blocks before the first of `at` see no mask and drop nothing: they stay untouched.
        self._sparse_blocks = [SparseBlock(self, i) for i in range(at[0], len(anatomy.blocks))]

    @property
    def kept(self) -> list[Tensor]:
        """(b, m) int64 patches kept in the last pass, block by block of ``at``."""
        return [ids for ids in self._kept if ids is not None]

    def set_epoch(self, epoch: float) -> bool:
        """Set the rates of training to those of an epoch, which may be fractional.

        Returns:
            Whether they changed.

        Raises:
            ArgumentError: below 0.
        """
        check.number("epoch", epoch, 0, 1e9)
        # KeepSchedule(0, 0) is a step at epoch 0: the final rates from the start.
        before, final, schedule = self.training, self.final, self.schedule or KeepSchedule(0, 0)
        self.training = Rates(schedule.rate(final.tokens, epoch), schedule.rate(final.attention, epoch))
        return self.training != before

    def rates(self, training: bool) -> Rates:
        """The rates in force in training or in evaluation mode."""
        return self._fixed or (self.training if training else self.final)

    @contextmanager
    def fixed_rates(self, rates: Rates | None = None) -> Iterator[None]:
        """Fix the rates in both modes to ``rates``, by default those of training; also in copies made meanwhile."""
        before, self._fixed = self._fixed, rates or self.training
        try:
            yield
        finally:
            self._fixed = before

    def detach(self) -> None:
        """Restore the forward of each block and attention."""
        for sparse_block in self._sparse_blocks:
            sparse_block.detach()

    def _clear_last_pass(self) -> None:
        self._kept: list[Tensor | None] = [None] * len(self.at)
        self._keys: list[Keys | None] = [None] * len(self.at)

    def __getstate__(self) -> dict[str, Any]:
        """The state without the last pass, so that a copy starts empty."""
        none = [None] * len(self.at)
        return {**self.__dict__, "_kept": none, "_keys": list(none)}

    def __repr__(self) -> str:
        """The rates, blocks and form."""
        return f"Sparsity({self.final}, at={self.at}, training={self.training}, form={self.form!r})"


class SparseBlock:
    """One block from the first of ``at`` on, with the replaced forwards of the block and its attention."""

    def __init__(self, sparsity: Sparsity, number: int) -> None:
        self.sparsity = sparsity
        self.block: Any = sparsity.anatomy.blocks[number]
        self.attention: Any = sparsity.anatomy.structure.attention(self.block)
        self.stage = sum(block < number for block in sparsity.at) - 1  # index of the mask in force; -1 for none
        self.chooses = number in sparsity.at
        # a forward set on the instance (not its class) must be put back by `detach`
        self._forwards = {module: module.__dict__.get("forward") for module in (self.block, self.attention)}
        # An attribute of the instance hides the forward of its class; parameters and names stay, so state_dicts do too.
        self.attention.forward = self.forward_attention
        if self.chooses:
            self.block.forward = self.forward_block

    def detach(self) -> None:
        """Restore the forwards."""
        for module, forward in self._forwards.items():
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.forward = forward

    def forward_block(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run the block and drop patches after its attention."""
        # By the mode of the attention, as in `forward_attention`: both must see the same rates.
        if self.sparsity.rates(self.attention.training).tokens == 1:
            return self._original(self.block, x, *args, **kwargs)
        self._check_no_mask(args, kwargs)
        return self.sparsity.anatomy.structure.block(self.block, x, self._shorten)

    def forward_attention(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Attention under the mask in force; at a block of ``at`` also choose patches and keys by it."""
        sparsity, structure = self.sparsity, self.sparsity.anatomy.structure
        rates = sparsity.rates(self.attention.training)
        # The mask chosen at the last block of `at` before this one; the choice below, at stage + 1, is for later
        # blocks.
        keys = sparsity._keys[self.stage] if self.stage >= 0 and rates.attention < 1 else None
        chooses = self.chooses and (rates.tokens < 1 or rates.attention < 1)
        if self.chooses and not chooses:  # forget an earlier pass
            sparsity._kept[self.stage + 1] = sparsity._keys[self.stage + 1] = None
        if keys is None and not chooses:
            return self._original(self.attention, x, *args, **kwargs)
        self._check_no_mask(args, kwargs)
        q, k, v = structure.heads(self.attention, x)
        scale = structure.scale(self.attention)
        dropout = structure.dropout(self.attention) if self.attention.training else 0.0
        if keys is None:
            # Not the original forward: the choice needs the same q and k, which it does not return.
            y = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)
        else:
            y = FORMS[sparsity.form](q, k, v, keys, scale, dropout)
        if chooses:
            # Which tokens stay is not differentiable.
            with torch.no_grad():
                self._choose(q.detach(), k.detach(), scale, keys, rates)
        return structure.merge(self.attention, y)

    def _choose(self, q: Tensor, k: Tensor, scale: float, keys: Keys | None, rates: Rates) -> None:
        sparsity, prefix, stage = self.sparsity, self.sparsity.anatomy.prefix, self.stage + 1
        b, n = len(q), q.shape[2] - prefix
        m = count_of(n, rates.tokens)
        if m < n:
            stay = topk_ascending(class_scores(q, k, scale, prefix), m)
        else:
            stay = torch.arange(n, device=q.device).expand(b, n)
        before = sparsity._kept[self.stage] if self.stage >= 0 else None
        # Handed to `_shorten` of the same block, which runs right after this attention.
        self._stay = stay if m < n else None
        # Positions in the shortened sequence become patches of the image.
        sparsity._kept[stage] = stay if before is None else before.gather(1, stay)
        count = count_of(m, rates.attention)
        masks = count < m and (sparsity.form != PAYING or gathering_pays(count, m))
        sparsity._keys[stage] = attended_keys(q, k, scale, prefix, count, stay, keys) if masks else None

    def _shorten(self, x: Tensor) -> Tensor:
        # Cleared, so that a dense pass after this one drops nothing.
        stay, self._stay = self._stay, None
        return x if stay is None else drop_patches(x, stay, self.sparsity.anatomy.prefix)

    def _original(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        forward = self._forwards[module]
        return type(module).forward(module, *args, **kwargs) if forward is None else forward(*args, **kwargs)

    def _check_no_mask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse a caller's attention mask, which would index the full sequence."""
        masks = (*args, kwargs.get("attention_mask"), kwargs.get("attn_mask"))
        if any(mask is not None for mask in masks):
            raise ArgumentError(
                "a sparse vision transformer does not take an attention mask: call the model without one, or "
                "vit.dense(model) first"
            )
