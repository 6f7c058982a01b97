"""`Issue` and `IssueTable`: what is wrong with a dataset, an example and issue a row; written as ``issues.parquet``.

What looks for issues (`datawinnow.audit`) returns lists of `Issue` that know an example by its position only.
`IssueTable.of` gives them names, labels and an order. This module does not import torch: the report uses it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datawinnow.core.artifact_schemas import IssuesFile
from datawinnow.core.artifacts import check_content, read_table, write_table
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import write_bytes
from datawinnow.core.row_checks import CHECKSUM, POSITION, checked_rows, with_row_checks

if TYPE_CHECKING:
    import pyarrow as pa

ISSUES_FILE = "issues.parquet"
"""Its name in a run folder."""
ISSUE_EXAMPLES_FILE = "issue_examples.parquet"
"""Beside it: images or texts of examples with issues, for the page."""
LEARNING_FILE = "learning.parquet"
"""Beside it: mean and standard deviation over epochs of the probability of the label, for the page."""
TRAIN_AND_TEST = ("train", "test")
EXAMPLE_ISSUES = {
    "broken": "is blank, empty, unreadable or garbled, or of an odd size or script",
    "leakage": "is in the train split and in the test split",
    "duplicate": "has the content of another example",
    "near_duplicate": "is nearly the same as another example",
    "label": "its label is likely wrong",
    "outlier": "is unlike the examples of every class",
    "never_learned": "the network never had it right",
    "forgotten": "the network had it right early and lost it",
}
"""Kinds of issues of an example, in the order in which they are listed, and what each says of it."""
CLASS_ISSUES = {
    "short_class": "the class has few examples",
    "missing_class": "the class is missing from a split",
    "confused": "two classes are taken for each other",
}
"""Kinds of issues of a class: their row names no example."""
ISSUE_KINDS = {**EXAMPLE_ISSUES, **CLASS_ISSUES}
KEEP_RULE = (
    "Of a group of duplicates the test example is kept; without one, the example that most of the group are close to, "
    "with the label that most of them have, and of equal ones the first."
)
"""Which example of a group is kept, in words."""
DUPLICATE_KINDS = ("leakage", "duplicate", "near_duplicate")
RANK_OF_KIND = {kind: rank for rank, kind in enumerate(ISSUE_KINDS)}
ACTIONS = ("keep", "drop", "look")
"""What can be done about an issue; ``relabel:NAME`` as well, with the name of a class."""
RELABEL = "relabel:"
REMEDY_COMMAND = "datawinnow audit"


@dataclass(frozen=True)
class Issue:
    """One thing that is wrong with one example, or with a class.

    Attributes:
        issue: a key of `ISSUE_KINDS`.
        example: position in its split as it was loaded, 0 to n - 1; -1 for an issue of a class.
        severity: in [0, 1], 1 the worst; of a wrong label the probability that it is wrong.
        evidence: why, in one sentence with its numbers.
        split: ``"train"`` or ``"test"``.
        suggested_label: name of the class that it seems to be; empty for none.
        suggested_probability: of that class, in [0, 1]; None for none.
        group: number of the group of duplicates that it is in, from 0; None for none.
        action: what is suggested: ``keep``, ``drop``, ``relabel:NAME`` or ``look`` (by a person).
        id: name of the example; set by `IssueTable.of`. Empty for an issue of a class.
        row: its place in the source; set by `IssueTable.of`. -1 for an issue of a class.
        label: name of its class as labelled, or of the class that the issue is about; set by `IssueTable.of` where
            there is an example.

    Raises:
        ArgumentError: an unknown kind, split or action; numbers out of range; no example where the kind needs one.
    """

    issue: str
    example: int
    severity: float
    evidence: str
    split: str = "train"
    suggested_label: str = ""
    suggested_probability: float | None = None
    group: int | None = None
    action: str = "look"
    id: str = ""
    row: int = -1
    label: str = ""

    def __post_init__(self) -> None:
        if self.issue not in ISSUE_KINDS:
            raise ArgumentError(f"issue must be one of {', '.join(ISSUE_KINDS)}, got {self.issue!r}")
        if (self.example >= 0) != (self.issue in EXAMPLE_ISSUES) or self.example < -1:
            raise ArgumentError(f"an issue {self.issue!r} cannot have the example {self.example}")
        if self.split not in TRAIN_AND_TEST:
            raise ArgumentError(f"split must be train or test, got {self.split!r}")
        for name in ("severity", "suggested_probability"):
            value = getattr(self, name)
            if value is None and name == "suggested_probability":
                continue
            if not (isinstance(value, (int, float)) and 0 <= value <= 1):  # NaN is in no range
                raise ArgumentError(f"{name} must be in [0, 1], got {value!r}")
        check_action(self.action)

    @property
    def sort_key(self) -> tuple[int, float, str, int, str]:
        """By kind, the worst first; ties by split and position."""
        return RANK_OF_KIND[self.issue], -self.severity, self.split, self.example, self.evidence


def check_action(action: str) -> None:
    """Refuse what is no action.

    Raises:
        ArgumentError: neither one of `ACTIONS` nor ``relabel:NAME``.
    """
    if action not in ACTIONS and not (action.startswith(RELABEL) and len(action) > len(RELABEL)):
        raise ArgumentError(f"an action is keep, drop, look or relabel:NAME, got {action!r}")


@dataclass(frozen=True)
class IssueTable:
    """All issues of a dataset: by kind, the worst first.

    Attributes:
        rows: the issues.

    >>> table = IssueTable.of([Issue("label", 1, 0.9, "p 0.02")], ids={"train": ["a", "b"]})
    >>> len(table), table.counts()["label"], table.rows[0].id
    (1, 1, 'b')
    """

    rows: tuple[Issue, ...] = ()

    @classmethod
    def of(
        cls,
        issues: Iterable[Issue],
        *,
        ids: Mapping[str, Sequence[str]],
        labels: Mapping[str, Sequence[str]] | None = None,
        rows: Mapping[str, Sequence[int]] | None = None,
    ) -> IssueTable:
        """The table of ``issues``, in order, with the name, the label and the place of each example.

        Args:
            issues: in any order; the examples known by their positions.
            ids: split -> (n,) names of its examples.
            labels: split -> (n,) names of their classes.
            rows: split -> (n,) places in the source. Default: the positions.

        Raises:
            ArgumentError: an example beyond its split, or twice with one issue in one group.
        """
        named: list[Issue] = []
        seen: set[tuple[str, int, str, int | None]] = set()
        for issue in issues:
            if issue.example < 0:
                named.append(issue)
                continue
            names = ids.get(issue.split, ())
            if issue.example >= len(names):
                raise ArgumentError(
                    f"issue {issue.issue!r} names example {issue.example} of {len(names)} in the {issue.split} split"
                )
            key = (issue.split, issue.example, issue.issue, issue.group)
            if key in seen:
                raise ArgumentError(f"example {issue.example} has the issue {issue.issue!r} twice")
            seen.add(key)
            named.append(
                replace(
                    issue,
                    id=str(names[issue.example]),
                    label=str(labels[issue.split][issue.example]) if labels and issue.split in labels else issue.label,
                    row=int(rows[issue.split][issue.example]) if rows and issue.split in rows else issue.example,
                )
            )
        return cls(tuple(sorted(named, key=lambda issue: issue.sort_key)))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Issue]:
        return iter(self.rows)

    def counts(self) -> dict[str, int]:
        """Number of rows of each kind, in the order of `ISSUE_KINDS`; 0 for none."""
        numbers = dict.fromkeys(ISSUE_KINDS, 0)
        for issue in self.rows:
            numbers[issue.issue] += 1
        return numbers

    def of_kind(self, *kinds: str) -> IssueTable:
        """The rows of these kinds."""
        return IssueTable(tuple(issue for issue in self.rows if issue.issue in kinds))

    def columns(self) -> dict[str, list[Any]]:
        """The table by columns, in the order of `ISSUE_COLUMNS`."""
        return {name: [getattr(issue, name) for issue in self.rows] for name in ISSUE_COLUMNS}

    def to_table(self) -> pa.Table:
        """The table for pyarrow and pandas."""
        import pyarrow as pa

        types = _column_types()
        return pa.table({name: pa.array(values, types[name]) for name, values in self.columns().items()})


ISSUE_COLUMNS = (
    "id",
    "split",
    "issue",
    "severity",
    "label",
    "suggested_label",
    "suggested_probability",
    "action",
    "evidence",
    "group",
    "example",
    "row",
)
"""Columns of ``issues.parquet`` and of the CSV file, in order."""


def _column_types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    numbers = {"severity": pa.float64(), "suggested_probability": pa.float64()}
    numbers |= {name: pa.int64() for name in ("group", "example", "row")}
    return {name: numbers.get(name, pa.string()) for name in ISSUE_COLUMNS}


def write_issues(path: Path, table: IssueTable, metadata: Mapping[str, Any]) -> None:
    """Write ``issues.parquet``: the columns of `ISSUE_COLUMNS`, with a checksum a row.

    Args:
        path: the file.
        table: the issues.
        metadata: as `IssuesFile` of `datawinnow.core.artifact_schemas`: ``dataset``, ``fingerprint``, ``n`` (examples
            by split), ``classes`` and whatever else JSON holds.

    Raises:
        RunError: metadata that are not valid, or the disk is full.
    """
    check_content(dict(metadata), IssuesFile, path)
    write_table(path, with_row_checks(table.to_table(), ISSUE_COLUMNS), metadata)


def read_issues(path: Path, *, fingerprint: str | None = None, name: str = "") -> tuple[IssueTable, dict[str, Any]]:
    """The issues and the metadata of a file that `write_issues` wrote; it may have been sorted or filtered since.

    Args:
        path: ``issues.parquet``, or the run folder that holds it.
        fingerprint: of the dataset that it is to be used on; another is refused.
        name: of that dataset.

    Raises:
        RunError: no such file, truncated, changed, not a table of issues, or of another dataset.
    """
    path = path / ISSUES_FILE if path.is_dir() else path
    remedy = f"make it again with: {REMEDY_COMMAND}"
    stored, metadata = read_table(path, REMEDY_COMMAND)
    missing = [column for column in ISSUE_COLUMNS if column not in stored.column_names]
    if missing:
        raise RunError(f"{path} is not a table of issues: it lacks the columns {', '.join(missing)}; {remedy}")
    check_content(metadata, IssuesFile, path, remedy=remedy)
    if fingerprint is not None and metadata["fingerprint"] != fingerprint:
        raise RunError(
            f"{path} is of the dataset {metadata['dataset']!r} (fingerprint {metadata['fingerprint']}), not of "
            f"{name!r} (fingerprint {fingerprint})"
        )
    stored = _with_column_types(stored, path, remedy)
    positions = checked_rows(stored, path, 2**53, remedy)
    kept = stored.drop_columns([POSITION, CHECKSUM]).take(np.argsort(positions, kind="stable")).to_pylist()
    try:
        return IssueTable(tuple(Issue(**{column: row[column] for column in ISSUE_COLUMNS}) for row in kept)), metadata
    except (ArgumentError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); {remedy}") from None


def _with_column_types(stored: pa.Table, path: Path, remedy: str) -> pa.Table:
    """``stored`` with the types that were written: pandas makes floating numbers of integers with empty cells."""
    import pyarrow as pa

    try:
        for name, kind in _column_types().items():
            at = stored.column_names.index(name)
            stored = stored.set_column(at, name, stored.column(name).cast(kind))
    except pa.ArrowException as error:
        raise RunError(f"{path} is damaged ({str(error).splitlines()[0]}); {remedy}") from None
    return stored


def write_issues_csv(path: Path, table: IssueTable) -> None:
    """Write the columns of `ISSUE_COLUMNS` as CSV (UTF-8, one line of names).

    Raises:
        RunError: the disk is full.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ISSUE_COLUMNS)
    for issue in table:
        values = (getattr(issue, name) for name in ISSUE_COLUMNS)
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))
