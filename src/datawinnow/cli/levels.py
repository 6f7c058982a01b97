"""The options of ``datawinnow train --levels``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from datawinnow.core.options import Option

if TYPE_CHECKING:
    from datawinnow.vit import SparseLevels


@dataclass(frozen=True)
class LevelOptions:
    """The levels of "Peeling the Onion" and how much each keeps.

    Attributes:
        levels: levels of sparsity for a vision transformer (``model`` vit), separated by commas: examples (swaps the
            least forgotten), tokens (drops patches), attention (drops keys). Default: none.
        keep_tokens: with the level tokens: the fraction of the patches kept at each block. Default: 0.7.
        keep_attention: with the level attention: the fraction of the keys kept for each patch. Default: 0.3.
        sparse_at: the blocks, counted from 0, after whose attention patches and keys are dropped. Default: 3,6,9.
        attention_form: with the level attention: how it is computed. auto takes the fastest of fused, gathered, flex
            and dense; paying drops keys only where that saves time. Default: auto.
    """

    PANEL: ClassVar[str] = "Sparse vision transformers"

    levels: Annotated[str | None, Option("LIST")] = None
    keep_tokens: Annotated[float | None, Option("FRACTION")] = None
    keep_attention: Annotated[float | None, Option("FRACTION")] = None
    sparse_at: Annotated[str | None, Option("BLOCKS")] = None
    attention_form: Annotated[str | None, Option("NAME")] = None

    def to_levels(self) -> SparseLevels | None:
        """The levels of these options; None without ``--levels``.

        Raises:
            ArgumentError: an unknown level, an option of a level that is off, or a malformed ``--sparse-at``.
        """
        from datawinnow.core.card import did_you_mean
        from datawinnow.core.errors import ArgumentError
        from datawinnow.vit import SparseLevels
        from datawinnow.vit.levels import ATTENTION_KEEP, LEVEL_NAMES, TOKEN_KEEP
        from datawinnow.vit.sparsify import PAPER_BLOCKS

        names = [word.strip() for word in (self.levels or "").split(",") if word.strip()]
        for name in names:
            if name not in LEVEL_NAMES:
                guess = did_you_mean(name, LEVEL_NAMES)
                raise ArgumentError(
                    f"--levels has no {name!r}: give some of {', '.join(LEVEL_NAMES)}, with commas.{guess}"
                )
        for option, value, level in (
            ("--keep-tokens", self.keep_tokens, "tokens"),
            ("--keep-attention", self.keep_attention, "attention"),
            ("--attention-form", self.attention_form, "attention"),
        ):
            if value is not None and level not in names:
                raise ArgumentError(f"{option} requires the level {level}: add it to --levels")
        if self.sparse_at is not None and not {"tokens", "attention"} & set(names):
            raise ArgumentError("--sparse-at requires the level tokens or attention: add one of them to --levels")
        try:
            at = PAPER_BLOCKS if self.sparse_at is None else tuple(int(word) for word in self.sparse_at.split(","))
        except ValueError:
            raise ArgumentError(f"--sparse-at must be like 3,6,9, got {self.sparse_at!r}") from None
        if not names:
            return None
        tokens = TOKEN_KEEP if self.keep_tokens is None else self.keep_tokens
        attention = ATTENTION_KEEP if self.keep_attention is None else self.keep_attention
        return SparseLevels(
            examples="examples" in names,
            keep_tokens=tokens if "tokens" in names else None,
            keep_attention=attention if "attention" in names else None,
            at=at,
            form=self.attention_form or "auto",
        )
