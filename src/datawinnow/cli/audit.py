"""``datawinnow audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from datawinnow import api
from datawinnow.api import LoadOptions
from datawinnow.cli.options import OUTPUT_PANEL, Epochs, NoReport, Quiet, RunOption, Seed, TrainingOptions, option_flags
from datawinnow.cli.ui import Screen
from datawinnow.cli.verb import verb
from datawinnow.core.counts import many
from datawinnow.core.decisions import read_decisions
from datawinnow.core.duration import duration
from datawinnow.core.issues import ISSUE_KINDS, Issue
from datawinnow.core.options import Option

if TYPE_CHECKING:
    from datawinnow.runs.audit import Audit

SHOWN = 3
"""Rows that are shown of each kind; all are in the files."""


@verb(
    "datawinnow audit my-images/",
    "datawinnow audit runs/my-images --csv --apply cleaned/",
    "datawinnow audit reviews.csv --engine cleanlab",
    docs=api.audit,
)
def audit(
    data: Annotated[
        str,
        Option(
            "DATA|RUN",
            positional=True,
            help="A dataset (digits, a folder of images by class, a .parquet, .npz, .csv, .tsv or .jsonl file, "
            "hf:owner/name), or a run folder that record or prune made, whose recording is used.",
        ),
    ],
    loading: LoadOptions,
    training: TrainingOptions,
    epochs: Epochs = 30,
    engine: Literal["datawinnow", "cleanlab"] = "datawinnow",
    seed: Seed = 0,
    run: RunOption = None,
    csv: Annotated[bool, Option(panel=OUTPUT_PANEL)] = False,
    apply: Annotated[Path | None, Option("FOLDER", panel=OUTPUT_PANEL)] = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
) -> None:
    """Find wrong labels, duplicates, leakage, outliers, broken examples and odd classes.

    One short training on all the data is recorded; where the labels come from and what the network learns early tells
    which of them are wrong, and what the examples seem to be. Duplicates are looked for within and across the splits.
    The table of all issues, with a suggestion for each, is written into the run folder.
    """
    screen = Screen(quiet=quiet)
    is_run = (Path(data) / "run.json").is_file()
    with screen.stage() as stage:
        result = api.audit(
            data,
            engine=engine,
            epochs=epochs,
            model=training.model,
            model_options=training.model_options,
            recipe=training.recipe(),
            seed=seed,
            load=loading,
            run=run,
            csv=csv,
            apply=apply,
            report=not no_report,
            progress=stage,
            log=None if quiet else screen.note,
        )
    _print_audit(screen, result)
    assert result.folder is not None
    folder = result.folder.path
    suggested = result.decisions
    rows = [
        ("issues", str(folder / "issues.parquet")),
        ("suggested", f"{folder / 'decisions.csv'}: {suggested.in_words()}"),
    ]
    if not no_report:
        rows.append(("page", str(folder / "audit.html")))
    if apply is not None:
        done = suggested if loading.decisions is None else read_decisions(loading.decisions)
        rows.append(("written", f"{apply}: {done.in_words()}, in the layout it came in"))
    screen.rows([*rows, ("cost", _cost(result))])
    if apply is not None:
        test = result.folder.metadata["options"].get("load", {}).get("test")
        screen.next("train", str(apply), *(() if test is None else ("--test", test)))
    elif any(suggested.counts().values()):
        screen.note(
            f"look through {folder / 'decisions.csv'}, then use it with any verb (--decisions), or write the data:"
        )
        screen.next("audit", str(folder), "--decisions", str(folder / "decisions.csv"), "--apply", "cleaned/")
    else:
        screen.next("train", data if not is_run else result.folder.dataset.source, *option_flags(loading))


def _print_audit(screen: Screen, result: Audit) -> None:
    """Counts first, then the worst of each kind, then what could not be told."""
    splits = " and ".join(f"{number:,} {name}" for name, number in result.metadata["n"].items())
    screen.print(f"{many(len(result.issues), 'issue')} in {splits} examples of {result.metadata['dataset']}")
    counts = result.counts()
    if counts:
        screen.rows([(kind, f"{number:,}: {ISSUE_KINDS[kind]}") for kind, number in counts.items()])
    if result.errors is not None:
        is_estimated = result.errors.is_separated or result.metadata["label_errors"]["engine"] == "cleanlab"
        rate = f"{100 * result.errors.rate:.1f}% of the labels are estimated to be wrong"
        screen.print(f"  {rate if is_estimated else 'how many labels are wrong cannot be estimated'}")
    for kind in counts:
        rows = result.issues.of_kind(kind).rows
        screen.print(f"{kind}:")
        for issue in rows[:SHOWN]:
            screen.print(f"  {_issue_line(issue)}")
        if len(rows) > SHOWN:
            screen.print(f"  and {len(rows) - SHOWN:,} more")
    for note in result.notes:
        screen.note(f"note: {note}")


def _issue_line(issue: Issue) -> str:
    """An issue in a line: where, how bad, why, and what to do."""
    if issue.example < 0:
        return f"{issue.label}: {issue.evidence}"
    label = f" ({issue.label})" if issue.label else ""
    split = "" if issue.split == "train" else f"{issue.split} "
    return f"{split}{issue.id}{label} {issue.severity:.2f}: {issue.evidence} -> {issue.action}"


def _cost(result: Audit) -> str:
    """What the recording and the audit took."""
    assert result.folder is not None
    stages = {name: stage for name, stage in result.folder.metadata["cost"].items() if name in ("record", "audit")}
    return "; ".join(f"{name} {duration(stage['seconds'])}" for name, stage in stages.items())
