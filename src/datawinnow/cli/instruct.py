"""``datawinnow instruct``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from datawinnow.cli.options import NoReport, Quiet
from datawinnow.cli.ui import Screen, columns
from datawinnow.cli.verb import verb
from datawinnow.core.errors import ArgumentError
from datawinnow.instruct.options import ChoiceOptions, IndicatorOptions, JudgeOptions, PairFields

_PANEL, _JUDGE = "Indicators", "Judge (an OpenAI-compatible endpoint)"
_CHOICE, _DATA, _OUT = "Method", "Data", "Output"
MAX_CLUSTERS_SHOWN = 30


def _text(flag: str, metavar: str, text: str, panel: str = _PANEL) -> Any:
    return typer.Option(flag, metavar=metavar, help=text, rich_help_panel=panel, show_default=False)


@dataclass(frozen=True)
class ModelOptions:
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


@verb(
    "datawinnow instruct pairs.jsonl --subsets subsets.npz --mode paper --keep 200 --out kept.jsonl",
    "datawinnow instruct pairs.jsonl --keep 0.1 --score reward --clusters kmeans --duplicates 0.05",
    "datawinnow instruct alpaca.json --keep 1000 --lm path/to/model --score ifd --out kept.json",
)
def instruct(
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            help="Instructions with their answers: .jsonl, .json, .parquet, or a folder of Parquet or of a saved "
            "Hugging Face dataset.",
            show_default=False,
        ),
    ],
    models: ModelOptions,
    keep: Annotated[
        str,
        typer.Option("--keep", metavar="N|FRACTION", help="Pairs kept: a number (200), or a fraction (0.1, 1.0)."),
    ] = "200",
    subsets: Annotated[
        Path | None,
        typer.Option(
            "--subsets",
            metavar="FILE.npz",
            help="Subsets with the score of a model tuned on each, to learn from. Default: none; pairs are ranked by "
            "their indicators.",
            rich_help_panel=_CHOICE,
            show_default=False,
        ),
    ] = None,
    mode: Annotated[
        Literal["paper", "default"],
        typer.Option(
            "--mode",
            help="paper: the published arithmetic with its quirks; default: corrected (attention within a set, "
            "standardised features, scores sorted as they are).",
            rich_help_panel=_CHOICE,
        ),
    ] = "default",
    score: Annotated[
        str | None,
        typer.Option(
            "--score",
            metavar="NAME",
            help="Choose by this instead: ridge, mean (of the indicators), or an indicator: a field with numbers, or "
            "one that is computed. Default: the selector network with --subsets, mean without.",
            rich_help_panel=_CHOICE,
            show_default=False,
        ),
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(
            "--select",
            metavar="NAME",
            help="Selector, applied in every cluster by its share: top, k_center, ... Default: top; cluster_quotas in "
            "paper mode.",
            rich_help_panel=_CHOICE,
            show_default=False,
        ),
    ] = None,
    clusters: Annotated[
        str,
        typer.Option(
            "--clusters",
            metavar="NAME",
            help="A field, kmeans, spectral or none; auto takes a field called cluster or spectral_cluster, else "
            "clusters of the embeddings.",
            rich_help_panel=_CHOICE,
        ),
    ] = "auto",
    num_clusters: Annotated[
        int,
        typer.Option(
            "--num-clusters",
            metavar="N",
            help="Number of clusters that kmeans and spectral make.",
            rich_help_panel=_CHOICE,
            min=1,
        ),
    ] = 10,
    duplicates: Annotated[
        float | None,
        typer.Option(
            "--duplicates",
            metavar="DISTANCE",
            help="Leave out near-duplicates: pairs whose embeddings lie within this cosine distance of one kept. "
            "Default: none are looked for.",
            rich_help_panel=_CHOICE,
            show_default=False,
        ),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            "--embedding",
            metavar="NAME",
            help="Field of the embeddings for clusters and duplicates. Default: those of the images, else of the "
            "texts.",
            rich_help_panel=_CHOICE,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            help="Of the networks and draws. Default: 42 in paper mode, as published, else 0.",
            rich_help_panel=_CHOICE,
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check",
            help="Leave subsets out one at a time, to tell what the labels know.",
            rich_help_panel=_CHOICE,
        ),
    ] = True,
    answer: Annotated[
        str | None,
        typer.Option(
            "--answer",
            metavar="NAME",
            help="Field of the answer. Default: guessed.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    instruction: Annotated[
        str | None,
        typer.Option(
            "--instruction",
            metavar="NAME",
            help="Field of the instruction. Default: guessed.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    default_instruction: Annotated[
        str,
        typer.Option(
            "--default-instruction",
            metavar="TEXT",
            help="Instruction of pairs that have none, such as: Describe this image in detail.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = "",
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="FOLDER",
            help="Run folder to write. Default: runs/<name of PAIRS>-instruct.",
            rich_help_panel=_OUT,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where the kept pairs go, in the layout they came in. Default: they are not written.",
            rich_help_panel=_OUT,
            show_default=False,
        ),
    ] = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Choose which pairs of an instruction dataset to tune on, and test how well the choice is founded.

    Pairs are scored by InstructionGPT-4's selector, which learns from subsets with the score of a model tuned on each
    (--subsets), or by indicators: fields of the data, or computed with models of yours (--clip, --reward-model, --lm,
    --judge). Each cluster gets its share. Errors on subsets left out show how much so few labels can tell. Results are
    cached by content: stop it at any moment and run the same command again, and nothing is paid for twice.
    """
    from datawinnow.api.instruct import instruct as choose_pairs

    screen = Screen(quiet=quiet)
    with screen.stage() as stage:
        result = choose_pairs(
            pairs,
            keep=parse_keep(keep),
            subsets=subsets,
            mode=mode,
            score=score,
            choice=ChoiceOptions(
                select=select,
                clusters=clusters,
                num_clusters=num_clusters,
                duplicates=duplicates,
                embedding=embedding,
            ),
            indicators=IndicatorOptions(
                clip=models.clip,
                images=models.images,
                reward_model=models.reward_model,
                lm=models.lm,
                template=models.template,
                embed=models.embed,
                cache=models.cache,
                device=models.device,
            ),
            judge=JudgeOptions(
                model=models.judge,
                endpoint=models.endpoint,
                key_env=models.key_env,
                price_in=models.price_in,
                price_out=models.price_out,
                cap=models.cap,
                per_minute=models.per_minute,
                timeout=models.timeout,
                yes=models.yes,
                ask_again=models.ask_again,
            ),
            fields=PairFields(answer=answer, instruction=instruction, default_instruction=default_instruction),
            seed=seed,
            check=check,
            run=run,
            out=out,
            report=not no_report,
            confirm=lambda _: sys.stdin.isatty() and typer.confirm("Go on?", err=True),
            progress=stage,
            log=screen.note,
        )
    _print_result(screen, result.metadata, result.folder, None if no_report else result.folder / "report.html")


def parse_keep(text: str) -> int | float:
    """``200`` is a number of pairs, ``0.1`` a fraction of them, ``1.0`` all of them.

    Raises:
        ArgumentError: not a number.

    >>> parse_keep("200"), parse_keep("0.1"), parse_keep("1.0")
    (200, 0.1, 1.0)
    """
    for parse in (int, float):
        try:
            return parse(text)
        except ValueError:
            pass
    raise ArgumentError(f"--keep must be a number of pairs (200) or a fraction (0.1), got {text!r}")


def _print_result(screen: Screen, metadata: Mapping[str, Any], folder: Path, page: Path | None) -> None:
    n, budget = metadata["n"], metadata["budget"]
    screen.print(f"kept {budget:,} of {n:,} pairs ({100 * budget / n:.3g}%) by {metadata['label']}")
    rows = [("selection", str(folder / "selection.parquet"))]
    rows += [("reasons", f"{count:,} {sentence}") for sentence, count in metadata["reasons"].items()]
    rows += [("missing", f"{count:,} pairs lack {name}") for name, count in metadata["missing"].items()]
    rows.append(("clusters", metadata["clusters"]))
    if metadata["by_cluster"] and len(metadata["by_cluster"]) <= MAX_CLUSTERS_SHOWN:
        rows.append(("", "kept " + ", ".join(str(row["kept"]) for row in metadata["by_cluster"])))
    if "out" in metadata:
        rows.append(("out", f"{metadata['out']}: the kept pairs, in the layout they came in"))
    if page is not None:
        rows.append(("report", str(page)))
    screen.rows(rows)
    if metadata["means"]:
        screen.print()
        head = ["mean of", "chosen", "pool", "difference in standard deviations"]
        lines = [
            [row["name"], f"{row['chosen']:.4g}", f"{row['pool']:.4g}", f"{row['gap']:+.2f}"]
            for row in metadata["means"]
        ]
        screen.print(columns(head, lines))
    if metadata["summary"]:
        screen.print()
        for line in metadata["summary"]:
            screen.print(line)
