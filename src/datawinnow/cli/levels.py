"""``datawinnow train --levels``: which levels of "Peeling the Onion" a vision transformer trains under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

LEVELS = ("examples", "tokens", "attention")
_PANEL = "Sparse vision transformers"


@dataclass(frozen=True)
class Levels:
    """The levels, and how much each keeps."""

    levels: Annotated[
        str | None,
        typer.Option(
            "--levels",
            metavar="LIST",
            help="Of a vision transformer (--model vit): examples (swaps the least forgotten), tokens (drops patches), "
            "attention (drops keys), with commas between. Default: none.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    keep_tokens: Annotated[
        float | None,
        typer.Option(
            "--keep-tokens",
            metavar="FRACTION",
            help="With the level tokens: the fraction of the patches kept each time. Default: 0.7.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    keep_attention: Annotated[
        float | None,
        typer.Option(
            "--keep-attention",
            metavar="FRACTION",
            help="With the level attention: the fraction of the keys kept for each patch. Default: 0.3.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None
    sparse_at: Annotated[
        str | None,
        typer.Option(
            "--sparse-at",
            metavar="BLOCKS",
            help="The blocks, counted from 0, after whose attention patches and keys are dropped. Default: 3,6,9.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None

    attention_form: Annotated[
        str | None,
        typer.Option(
            "--attention-form",
            metavar="NAME",
            help="With the level attention: auto leaves keys out by what computes that fastest, paying only where it "
            "saves time; fused, gathered, flex and dense are ways to compute it. Default: auto.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = None

    def named(self) -> tuple[str, ...]:
        """The levels asked for.

        Raises:
            ArgumentError: one that there is not, or an option of one that was not asked for.
        """
        from datawinnow.core.errors import ArgumentError

        found = tuple(word.strip() for word in (self.levels or "").split(",") if word.strip())
        for word in found:
            if word not in LEVELS:
                raise ArgumentError(f"--levels has no {word!r}: give some of {', '.join(LEVELS)}, with commas between")
        for option, given, level in (
            ("--keep-tokens", self.keep_tokens, "tokens"),
            ("--keep-attention", self.keep_attention, "attention"),
            ("--attention-form", self.attention_form, "attention"),
        ):
            if given is not None and level not in found:
                raise ArgumentError(f"{option} goes with the level {level}: add it to --levels")
        if self.sparse_at is not None and not {"tokens", "attention"} & set(found):
            raise ArgumentError("--sparse-at goes with the levels tokens and attention: add one of them to --levels")
        return found

    def sparse(self) -> dict[str, Any] | None:
        """Options of `datawinnow.runs.sparse`; None where neither tokens nor attention are asked for.

        Raises:
            ArgumentError: ``--sparse-at`` is no list of whole numbers.
        """
        from datawinnow.core.errors import ArgumentError

        found, options = self.named(), dict[str, Any]()
        if "tokens" in found:
            options["keep_tokens"] = 0.7 if self.keep_tokens is None else self.keep_tokens
        if "attention" in found:
            options["keep_attention"] = 0.3 if self.keep_attention is None else self.keep_attention
        if self.attention_form is not None:
            options["form"] = self.attention_form
        if self.sparse_at is not None:
            try:
                options["at"] = [int(word) for word in self.sparse_at.split(",")]
            except ValueError:
                raise ArgumentError(f"--sparse-at must be like 3,6,9, got {self.sparse_at!r}") from None
        return options or None

    def policy(
        self, given: str | None, keep: float | None, options: dict[str, Any], length: dict[str, Any]
    ) -> tuple[str | None, float | None, dict[str, Any]]:
        """The policy, its keep and its options, with the example level among the levels.

        That level is the policy ``example_swap``: 0.8 of the examples, and the paper's swaps every 30 of 300 epochs
        scaled to the length of this training.

        Raises:
            ArgumentError: another policy was named beside it.
        """
        from datawinnow.core.errors import ArgumentError

        if "examples" not in self.named():
            return given, keep, options
        if given not in (None, "example_swap"):
            raise ArgumentError(
                f"the level examples is the policy example_swap; it cannot stand beside --policy {given}"
            )
        epochs = length.get("epochs") or length.get("passes") or 30
        return "example_swap", 0.8 if keep is None else keep, {"period": max(1, round(epochs / 10)), **options}
