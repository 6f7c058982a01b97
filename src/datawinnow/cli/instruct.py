"""``datawinnow instruct``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from datawinnow.cli.instruct_measure import Measuring, measured
from datawinnow.cli.options import Quiet
from datawinnow.cli.prune import NoReport
from datawinnow.cli.ui import Screen, columns
from datawinnow.cli.verb import verb
from datawinnow.core.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from datawinnow.instruct.pairs import Pairs

_CHOICE, _DATA, _OUT = "Method", "Data", "Output"


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
    measuring: Measuring,
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
            help="paper: the published arithmetic, quirk by quirk; default: mended (attention within a set, "
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
    number: Annotated[
        int,
        typer.Option("--number", metavar="N", help="Clusters made.", rich_help_panel=_CHOICE, min=1),
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
    asked: Annotated[
        str,
        typer.Option(
            "--asked",
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
    """Choose which pairs of an instruction dataset to tune on, and say what is known about the choice.

    Pairs are scored by InstructionGPT-4's selector, which learns from subsets whose worth was measured (--subsets), or
    by indicators: fields of the data, or computed here by models of yours (--clip, --reward, --lm, --judge). Each
    cluster gets its share. Errors on subsets left out tell what so few labels can and cannot know. What was computed
    is kept by content: stop it at any moment and run the same command again, nothing is paid for twice.
    """
    from dataclasses import replace

    from datawinnow.instruct.choose import PUBLISHED, Choice
    from datawinnow.instruct.pairs import Fields, read_pairs, told
    from datawinnow.instruct.run import instruct as choose

    screen = Screen(quiet=quiet)
    kept = keep_of(keep)
    with screen.stage() as stage:
        found = read_pairs(pairs, fields=Fields(answer=answer, instruction=instruction), instruction=asked,
                           progress=stage)  # fmt: skip
    for line in told(found):
        screen.note(f"data: {line}")
    _check_first(found, kept, subsets, select, out)
    found, ends = measured(found, measuring, screen)
    base = PUBLISHED if mode == "paper" and (score is None or select is None) else Choice()
    choice = replace(
        base, by=select or base.by, clusters=clusters, number=number, duplicates=duplicates, embedding=embedding
    )
    folder = run or Path("runs") / f"{found.source.path.stem}-instruct"
    with screen.stage() as stage:
        done = choose(
            found, run=folder, keep=kept, subsets=subsets, mode=mode, way=_way(score), choice=choice, out=out,
            seed=seed, check=check, ends=ends, progress=stage, log=screen.note,
        )  # fmt: skip
    page = None
    if not no_report:
        from datawinnow import report

        page = report.write(folder)
    _tell(screen, done.metadata, folder, page)


def keep_of(text: str) -> int | float:
    """``200`` is a number of pairs, ``0.1`` a share; a share of everything is ``1.0``.

    Raises:
        ArgumentError: neither.

    >>> keep_of("200"), keep_of("0.1"), keep_of("1.0")
    (200, 0.1, 1.0)
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"--keep must be a number of pairs (200) or a fraction (0.1), got {text!r}") from None


def _check_first(pairs: Pairs, keep: int | float, subsets: Path | None, select: str | None, out: Path | None) -> None:
    """Refuse what can be known to be wrong before anything is computed or paid for."""
    from datawinnow import select as selectors
    from datawinnow.core.card import resolve
    from datawinnow.instruct._source import check_out
    from datawinnow.instruct.choose import budget_from
    from datawinnow.instruct.quotas import cluster_quotas

    budget_from(keep, len(pairs))
    if select is not None:
        resolve(select, {**selectors.METHODS, "cluster_quotas": cluster_quotas}, kind="selector")
    if out is not None:
        check_out(pairs.source, out)
    if subsets is not None and not subsets.is_file():
        raise DataError(f"no such file: {subsets}")


def _way(score: str | None) -> str | None:
    from datawinnow.instruct.scoring import MEAN

    return MEAN if score == "mean" else score


def _tell(screen: Screen, metadata: Mapping[str, Any], folder: Path, page: Path | None) -> None:
    n, budget = metadata["n"], metadata["budget"]
    screen.say(f"kept {budget:,} of {n:,} pairs ({100 * budget / n:.3g}%) by {metadata['label']}")
    rows = [("selection", str(folder / "selection.parquet"))]
    rows += [("why", f"{count:,} {sentence}") for sentence, count in metadata["reasons"].items()]
    rows += [("lacking", f"{count:,} pairs lack {name}") for name, count in metadata["lacking"].items()]
    rows.append(("clusters", metadata["clusters"]))
    if metadata["by_cluster"] and len(metadata["by_cluster"]) <= 30:
        rows.append(("", "kept " + ", ".join(str(row["kept"]) for row in metadata["by_cluster"])))
    if "out" in metadata:
        rows.append(("written", f"{metadata['out']}: the kept pairs, in the layout they came in"))
    if page is not None:
        rows.append(("report", str(page)))
    screen.rows(rows)
    if metadata["means"]:
        screen.say()
        head = ["mean of", "chosen", "pool", "gap in spreads"]
        lines = [
            [row["name"], f"{row['chosen']:.4g}", f"{row['pool']:.4g}", f"{row['gap']:+.2f}"]
            for row in metadata["means"]
        ]
        screen.say(columns(head, lines))
    if metadata["says"]:
        screen.say()
        for line in metadata["says"]:
            screen.say(line)
