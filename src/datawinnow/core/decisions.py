"""`Decisions`: what is done about the examples of a dataset, as ``decisions.csv`` holds it.

The file has a line of names and the columns ``id`` and ``action`` (keep, drop or relabel:NAME); ``split`` (train or
test; train by default) and ``fingerprint`` (of the dataset as it was audited) are optional. Other columns are passed
over. This module does not import torch: the report uses it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datawinnow.core.errors import DataError
from datawinnow.core.files import write_bytes
from datawinnow.core.issues import RELABEL, TRAIN_AND_TEST, IssueTable

DECISION_COLUMNS = ("id", "split", "action", "fingerprint")
"""Columns that are written, in order."""
DECIDED = ("keep", "drop")
"""Actions beside ``relabel:NAME``; ``look`` decides nothing."""
DECISIONS_FILE = "decisions.csv"


@dataclass(frozen=True)
class Decision:
    """What is done about one example.

    Attributes:
        id: its name.
        split: ``"train"`` or ``"test"``.
        action: ``keep``, ``drop`` or ``relabel:NAME``.
    """

    id: str
    split: str
    action: str

    @property
    def new_label(self) -> str | None:
        """The class that it is given; None where its label stays."""
        return self.action.removeprefix(RELABEL) if self.action.startswith(RELABEL) else None


@dataclass(frozen=True)
class Decisions:
    """The decisions about a dataset.

    Attributes:
        rows: one an example at most.
        fingerprint: of the dataset that they are about; empty if unknown.
        source: the file, for errors; empty for none.
    """

    rows: tuple[Decision, ...]
    fingerprint: str = ""
    source: str = ""

    def counts(self) -> dict[str, int]:
        """How many are kept, dropped and relabelled."""
        actions = [decision.action.partition(":")[0] for decision in self.rows]
        return {action: actions.count(action) for action in (*DECIDED, "relabel")}

    def in_words(self) -> str:
        """The counts in words.

        >>> Decisions((Decision("3", "train", "drop"),)).in_words()
        '1 dropped, 0 relabelled'
        """
        counts = self.counts()
        return f"{counts['drop']:,} dropped, {counts['relabel']:,} relabelled"


def suggested_decisions(table: IssueTable, fingerprint: str, *, split: str = "train") -> Decisions:
    """What an audit suggests: the examples to be dropped and relabelled, without those that a person is to look at.

    An example that is to be dropped for one issue is dropped, whatever is suggested for another.

    Args:
        table: of the issues.
        fingerprint: of the dataset.
        split: whose examples.
    """
    actions: dict[str, str] = {}
    for issue in table:
        if issue.example < 0 or issue.split != split:
            continue
        if issue.action == "drop" or (issue.action.startswith(RELABEL) and actions.get(issue.id) != "drop"):
            actions[issue.id] = issue.action
    return Decisions(tuple(Decision(name, split, action) for name, action in actions.items()), fingerprint)


def read_decisions(path: Path | str) -> Decisions:
    """The decisions in a CSV file.

    Raises:
        DataError: no such file, no line of names, a missing column, an unknown split or action, an action that decides
            nothing, two decisions for one example, or two fingerprints; the line is named.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        raise DataError(f"no such file of decisions: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as decisions ({error})") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    try:
        names = list(reader.fieldnames or ())
        missing = [name for name in ("id", "action") if name not in names]
        if missing:
            raise DataError(
                f"{path} is no file of decisions: its first line lacks {' and '.join(missing)}; it has "
                f"{', '.join(names) or 'nothing'}"
            )
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: no CSV ({error})") from None
    decisions: dict[tuple[str, str], Decision] = {}
    lines: dict[tuple[str, str], int] = {}
    fingerprints: set[str] = set()
    for line, row in rows:
        decision = _decision(row, f"{path}, line {line}")
        key = (decision.split, decision.id)
        if key in decisions:
            raise DataError(
                f"{path} has two decisions for the {decision.split} example {decision.id!r}: "
                f"{decisions[key].action} in line {lines[key]}, {decision.action} in line {line}; leave one"
            )
        decisions[key], lines[key] = decision, line
        fingerprints |= {(row.get("fingerprint") or "").strip()} - {""}
    if len(fingerprints) > 1:
        raise DataError(f"{path} is about several datasets (fingerprints {', '.join(sorted(fingerprints))}): split it")
    return Decisions(tuple(decisions.values()), next(iter(fingerprints), ""), str(path))


def _decision(row: dict[str, str | None], where: str) -> Decision:
    """One line of the file.

    Raises:
        DataError: empty cells, an unknown split or action.
    """
    name, action = row.get("id") or "", (row.get("action") or "").strip()
    split = (row.get("split") or "train").strip()
    if not name:
        raise DataError(f"{where} has no id")
    if split not in TRAIN_AND_TEST:
        raise DataError(f"{where}: split must be train or test, got {split!r}")
    if action == "look":
        raise DataError(f"{where}: look decides nothing about {name!r}; write keep, drop or relabel:NAME")
    if action not in DECIDED and not (action.startswith(RELABEL) and action != RELABEL):
        raise DataError(f"{where}: an action is keep, drop or relabel:NAME, got {action!r} for {name!r}")
    return Decision(name, split, action)


def write_decisions(path: Path, decisions: Iterable[Decision], fingerprint: str) -> None:
    """Write a file that `read_decisions` reads.

    Raises:
        RunError: the disk is full.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(DECISION_COLUMNS)
    writer.writerows((decision.id, decision.split, decision.action, fingerprint) for decision in decisions)
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))
