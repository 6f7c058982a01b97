"""The indicators of ``datawinnow instruct``: which models of the user's to ask, and their answers as fields."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datawinnow.cli.ui import Screen
from datawinnow.core.errors import ArgumentError

if TYPE_CHECKING:
    from datawinnow.instruct.pairs import Pairs
    from datawinnow.instruct.store import Store
    from datawinnow.instruct.terms import Estimate

_PANEL, _JUDGE = "Indicators", "Judge (an OpenAI-compatible endpoint)"
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
COMPONENTS = 6
"""Principal components of embeddings that are features, as published."""


def _text(flag: str, metavar: str, text: str, panel: str = _PANEL) -> Any:
    return typer.Option(flag, metavar=metavar, help=text, rich_help_panel=panel, show_default=False)


@dataclass(frozen=True)
class Measuring:
    """Which indicators are computed; fields of the data need none."""

    clip: Annotated[
        str | None,
        _text("--clip", "MODEL", "CLIP of transformers: CLIP score, and embeddings of the images. Default: none."),
    ] = None
    images: Annotated[
        Path | None,
        _text("--images", "FOLDER", "Where images are: by their path in the data, else by id. Default: beside PAIRS."),
    ] = None
    reward_model: Annotated[
        str | None,
        _text("--reward-model", "MODEL", "Sequence classifier with one label: reward. Default: none."),
    ] = None
    lm: Annotated[
        str | None,
        _text(
            "--lm", "MODEL", "Causal language model: ifd, answer_loss, direct_loss and perplexity. Default: none."
        ),
    ] = None  # fmt: skip
    template: Annotated[
        str | None,
        _text(
            "--template", "TEXT", "What stands before an answer for --lm, with {instruction} in it; chat is the "
            "tokenizer's own. Default: the instruction and an empty line.",
        ),
    ] = None  # fmt: skip
    embed: Annotated[
        str | None,
        _text(
            "--embed", "MODEL", "Text encoder: embeddings of the answers, for clusters and duplicates. Default: none."
        ),
    ] = None
    judge: Annotated[
        str | None,
        _text("--judge", "MODEL", "Model that grades every answer from 0 to 100. Default: none.", _JUDGE),
    ] = None
    endpoint: Annotated[
        str,
        typer.Option("--endpoint", metavar="URL", help="Base address of the endpoint.", rich_help_panel=_JUDGE),
    ] = "https://api.openai.com/v1"
    key_env: Annotated[
        str,
        typer.Option("--key-env", metavar="NAME", help="Environment variable with the key.", rich_help_panel=_JUDGE),
    ] = "OPENAI_API_KEY"
    price_in: Annotated[
        float,
        typer.Option("--price-in", metavar="MONEY", help="Of a million tokens asked.", rich_help_panel=_JUDGE, min=0),
    ] = 0.0
    price_out: Annotated[
        float,
        typer.Option("--price-out", metavar="MONEY", help="Of a million tokens answered.", rich_help_panel=_JUDGE,
                     min=0),
    ] = 0.0  # fmt: skip
    cap: Annotated[
        float | None,
        _text(
            "--cap",
            "MONEY",
            "What a run may cost at most; needed for an endpoint that is not on this machine (0 "
            "where it is free). Default: none.",
            _JUDGE,
        ),
    ] = None
    per_minute: Annotated[
        float | None,
        _text("--per-minute", "N", "Requests a minute at most. Default: as many as come back.", _JUDGE),
    ] = None
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", help="For one answer.", rich_help_panel=_JUDGE),
    ] = 60.0
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Do not ask before paying up to --cap.", rich_help_panel=_JUDGE, show_default=False),
    ] = False
    ask_again: Annotated[
        bool,
        typer.Option("--ask-again", help="Ask anew where an earlier answer could not be read.", rich_help_panel=_JUDGE,
                     show_default=False),
    ] = False  # fmt: skip
    cache: Annotated[
        Path | None,
        _text("--cache", "FILE", "Where what was computed is kept. Default: indicators.sqlite in the cache."),
    ] = None
    device: Annotated[
        str,
        typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, ...", rich_help_panel=_PANEL),
    ] = "auto"


def measured(pairs: Pairs, wanted: Measuring, screen: Screen) -> tuple[Pairs, dict[str, str]]:
    """The pairs with the indicators that were computed as further fields, and which end of each is good."""
    from datawinnow.instruct.length import length
    from datawinnow.instruct.store import Store, default_path

    numbers, vectors, ends = dict(pairs.numbers), dict(pairs.vectors), {"perplexity": "middle"}
    ends |= {"answer_loss": "low", "direct_loss": "low"}
    if "length" not in numbers:
        numbers["length"] = length(pairs.answer).double().numpy()
    with Store(wanted.cache or default_path()) as store, screen.stage() as stage:
        if wanted.clip is not None:
            _clip(pairs, wanted, store, stage, screen, numbers, vectors)
        if wanted.reward_model is not None:
            from datawinnow.instruct.reward import reward

            numbers["reward"] = (
                reward(
                    pairs.instruction, pairs.answer, model=wanted.reward_model, device=wanted.device, store=store,
                    progress=stage,
                )
                .double()
                .numpy()
            )  # fmt: skip
        if wanted.lm is not None:
            _language(pairs, wanted, store, stage, numbers)
        if wanted.embed is not None:
            from datawinnow.instruct.embed import embed_texts

            found = embed_texts(pairs.answer, model=wanted.embed, device=wanted.device, store=store, progress=stage)
            _embedded("text", found, vectors)
        if wanted.judge is not None:
            _judged(pairs, wanted, store, stage, screen, numbers)
    return replace(pairs, numbers=numbers, vectors=vectors), ends


def _embedded(name: str, found: Any, vectors: dict[str, Any]) -> None:
    """Embeddings as a field, and their principal components as features, of one PCA fitted on all pairs."""
    from datawinnow.instruct.pca import fit_pca

    vectors[f"{name}_embedding"] = found.double().numpy()
    whole = int((~found.isnan().any(dim=1)).sum())
    k = min(COMPONENTS, found.shape[1], whole - 1)
    if k >= 1:
        vectors[f"{name}_features"] = fit_pca(found, k)(found).double().numpy()


def image_of(pairs: Pairs, i: int, folder: Path) -> Path | None:
    """Where the image of a pair is: the path in the data, or an image called by its id."""
    named = pairs.image[i]
    if named is not None:
        return folder / named
    inside = (folder / f"{pairs.ids[i]}{suffix}" for suffix in IMAGES)
    return next((path for path in inside if path.is_file()), folder / f"{pairs.ids[i]}{IMAGES[0]}")


def _clip(
    pairs: Pairs, wanted: Measuring, store: Store, stage: Any, screen: Screen, numbers: dict[str, Any],
    vectors: dict[str, Any],
) -> None:  # fmt: skip
    from datawinnow.instruct.clip import Clip, clip_score
    from datawinnow.instruct.pairs import Problem, lines_of

    folder = wanted.images or (pairs.source.path if pairs.source.path.is_dir() else pairs.source.path.parent)
    images = [image_of(pairs, i, folder) for i in range(len(pairs))]
    clip = Clip(str(wanted.clip), device=wanted.device)
    numbers["clip"] = clip_score(pairs.answer, images, clip=clip, store=store, progress=stage).double().numpy()
    problems = [Problem(int(pairs.place[i]), kind, detail) for i, kind, detail in clip.problems]
    for line in lines_of(pairs.source.word, problems):
        screen.note(f"clip: {line}")
    pairs.problems.extend(problems)
    _embedded("image", clip.images(images, store), vectors)


def _language(pairs: Pairs, wanted: Measuring, store: Store, stage: Any, numbers: dict[str, Any]) -> None:
    from datawinnow.instruct.language import TEMPLATE, Reader, Reading, answer_loss, direct_loss, ifd

    reader = Reader("lm", Reading(str(wanted.lm), template=wanted.template or TEMPLATE, device=wanted.device))
    asking = {"reader": reader, "store": store, "progress": stage}
    direct = direct_loss(pairs.answer, **asking)
    numbers["direct_loss"], numbers["perplexity"] = direct.double().numpy(), direct.double().exp().numpy()
    if any(text.strip() for text in pairs.instruction):
        numbers["answer_loss"] = answer_loss(pairs.instruction, pairs.answer, **asking).double().numpy()
        numbers["ifd"] = ifd(pairs.instruction, pairs.answer, **asking).double().numpy()


def _judged(pairs: Pairs, wanted: Measuring, store: Store, stage: Any, screen: Screen, numbers: dict[str, Any]) -> None:
    from datawinnow.instruct.endpoint import Endpoint
    from datawinnow.instruct.judge import Judge, judge
    from datawinnow.instruct.pairs import Problem, lines_of
    from datawinnow.instruct.terms import Terms

    def confirm(found: Estimate) -> bool:
        screen.note(
            f"judge: {found.questions:,} questions ({found.stored:,} answered before) cost up to {found.money:.2f}; "
            f"the cap is {wanted.cap:g}"
        )
        if wanted.yes:
            return True
        return sys.stdin.isatty() and typer.confirm("Go on?", err=True)

    if wanted.price_in + wanted.price_out > 0 and wanted.cap is None:
        raise ArgumentError("a price needs a cap: say with --cap what a run may cost at most")
    endpoint = Endpoint(wanted.endpoint, str(wanted.judge), key_env=wanted.key_env, timeout=wanted.timeout)
    terms = Terms(
        price_in=wanted.price_in, price_out=wanted.price_out, cap=wanted.cap, per_minute=wanted.per_minute,
        again=wanted.ask_again,
    )  # fmt: skip
    by = Judge(endpoint, terms=terms, store=store, confirm=confirm)
    try:
        numbers["judge"] = judge(pairs.instruction, pairs.answer, by=by, progress=stage).double().numpy()
    finally:
        account = by.account
        screen.note(f"judge: {account.asked:,} asked, {account.stored:,} from before, {account.spent:.4g} spent")
        problems = [
            Problem(int(pairs.place[i]), f"no grade: {kind}", account.details[kind])
            for kind, at in account.failed.items()
            for i in at
        ]
        for line in lines_of(pairs.source.word, problems):
            screen.note(f"judge: {line}")
        pairs.problems.extend(problems)
