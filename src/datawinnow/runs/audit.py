"""The stage `audit`: what is wrong with a dataset, from one recording of it, its contents and its classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datawinnow.audit.classes import class_issues, confused_classes
from datawinnow.audit.contents import content_issues, read_contents
from datawinnow.audit.label_errors import Engine, LabelErrors, find_label_errors, label_issues
from datawinnow.audit.learning import learning_issues
from datawinnow.audit.outliers import outlier_issues, outlyingness
from datawinnow.core.arrays import chain_arrays
from datawinnow.core.artifacts import read_npy, write_json, write_npy
from datawinnow.core.cost import Cost
from datawinnow.core.counts import many
from datawinnow.core.decisions import (
    DECISIONS_FILE,
    Decisions,
    read_decisions,
    suggested_decisions,
    write_decisions,
)
from datawinnow.core.errors import ArgumentError, DataError
from datawinnow.core.issues import ISSUES_FILE, RELABEL, Issue, IssueTable, write_issues, write_issues_csv
from datawinnow.core.progress import Progress, named_progress
from datawinnow.core.reason import Reason
from datawinnow.core.rng import stream
from datawinnow.data.dataset_info import DatasetInfo, example_ids
from datawinnow.data.decisions import apply_decisions
from datawinnow.data.examples import Examples, LazyExamples
from datawinnow.data.fingerprint import labels_of
from datawinnow.data.source_positions import source_rows
from datawinnow.data.texts import Texts
from datawinnow.data.write import write_kept
from datawinnow.probe import probe
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.issue_examples import write_issue_examples, write_learning
from datawinnow.runs.network import network_of_run
from datawinnow.runs.probe_arrays import probed_arrays
from datawinnow.runs.select import Cleaning
from datawinnow.train import Recipe, fit
from datawinnow.train.build import Model

MAX_STACKED = 1 << 28
"""Numbers of a dataset that is read into memory to compare its contents, at most."""
FOLDS = 5
"""Trainings for out-of-fold probabilities, each on all but a fifth of the examples."""
AUDIT_FILE = "audit.json"
CSV_FILE = "issues.csv"
SOURCES = ("correct", "margin", "p_label")
"""Recorded columns that the audit reads."""


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        issues: a row an example and issue.
        errors: the probability of a wrong label for every training example; None where labels were not compared.
        metadata: dataset, fingerprint, examples by split, classes, counts, notes: as in ``audit.json``.
        train: the training split; None where only arrays were given.
        test: the test split.
        folder: the run folder; None without one.
    """

    issues: IssueTable
    errors: LabelErrors | None
    metadata: dict[str, Any]
    train: Any = None
    test: Any = None
    folder: RunFolder | None = field(default=None, repr=False)

    @property
    def p_wrong(self) -> Tensor | None:
        """(n,) float64 probability that each label is wrong; None where labels were not compared."""
        return None if self.errors is None else self.errors.p_wrong

    @property
    def notes(self) -> list[str]:
        """What could not be told, and what was assumed."""
        return list(self.metadata["notes"])

    def counts(self) -> dict[str, int]:
        """Number of rows of each kind of issue, without those that have none."""
        return {kind: number for kind, number in self.issues.counts().items() if number}

    @property
    def decisions(self) -> Decisions:
        """What is suggested: training examples to be dropped and relabelled, without those that need a look."""
        return suggested_decisions(self.issues, str(self.metadata["fingerprint"]))

    def apply(
        self,
        out: Path | str | None = None,
        *,
        decisions: Decisions | Path | str | None = None,
        log: Callable[[str], None] | None = None,
    ) -> tuple[Any, Any]:
        """The cleaned splits; the audited ones stay as they are.

        Args:
            out: a new or empty folder to write them to, in the layout they came in, with ``.decisions.csv``, which says
                what was done. None writes nothing.
            decisions: what to do, or a file of it. Default: what the audit suggests.
            log: called with what of the source is not written.

        Returns:
            ``(train, test)``, test None without one.

        Raises:
            ArgumentError: the audit was of arrays, or of a dataset that `load` did not make.
            DataError: ``out`` is not empty, or the decisions are not about this dataset.
            RunError: the disk is full.
        """
        check_can_be_cleaned(self.train)
        if out is not None:
            check_empty(out)
        # of the audit's own no check is needed
        chosen = replace(self.decisions, fingerprint="") if decisions is None else decisions
        chosen = chosen if isinstance(chosen, Decisions) else read_decisions(chosen)
        test = self.test if hasattr(self.test, "origin") else None
        if out is not None and test is not None and test.origin is not None and test.origin.is_other:
            decided = [decision.id for decision in chosen.rows if decision.split == "test"]
            if decided:
                raise DataError(
                    f"test examples are decided about ({decided[0]!r} first), but {out} does not hold the test split, "
                    "which is of another source (`test=`): leave them out, and audit that source by itself"
                )
        train, cleaned_test = apply_decisions(self.train, test, chosen)
        if out is not None:
            write_kept(train, torch.arange(len(train)), out, test=cleaned_test, log=log)
            write_decisions(Path(out) / f".{DECISIONS_FILE}", chosen.rows, str(self.metadata["fingerprint"]))
        return train, cleaned_test if test is not None else self.test

    def __repr__(self) -> str:
        counts = ", ".join(f"{number:,} {kind}" for kind, number in self.counts().items()) or "no issue"
        return f"Audit of {self.metadata['dataset']} ({self.metadata['n']['train']:,} examples): {counts}"


def cleaning_of(result: Audit) -> Cleaning:
    """What is left out of a selection: broken examples, then duplicates, then labels that are likely wrong.

    An example that is left out for several is so for the first of them.
    """
    assert result.train is not None
    reason = torch.zeros(len(result.train), dtype=torch.int8)
    notes: dict[int, str] = {}
    of_kind = {"broken": Reason.BROKEN, "label": Reason.SUSPECT}
    of_kind |= dict.fromkeys(("leakage", "duplicate", "near_duplicate"), Reason.DUPLICATE)
    order = ("broken", "leakage", "duplicate", "near_duplicate", "label")
    for issue in sorted(result.issues.of_kind(*order), key=lambda issue: order.index(issue.issue)):
        # every label that is more likely wrong than right; of the others what is to be dropped
        is_out = issue.split == "train" and (issue.issue == "label" or issue.action == "drop")
        if is_out and issue.example not in notes:
            reason[issue.example] = int(of_kind[issue.issue])
            notes[issue.example] = f"{issue.issue}: {issue.evidence}"
    return Cleaning(reason, notes)


def check_can_be_cleaned(train: Any) -> None:
    """Refuse what decisions cannot be applied to.

    Raises:
        ArgumentError: naming its type.
    """
    if not isinstance(train, (Examples, LazyExamples)):
        kind = "arrays alone" if train is None else f"a {type(train).__name__}"
        raise ArgumentError(
            f"decisions are applied to datasets that datawinnow loaded, not to {kind}: use the column row of the "
            "issues with your own"
        )


def check_empty(out: Path | str) -> None:
    """Refuse a folder that holds something: a cleaned dataset replaces nothing.

    Raises:
        DataError: naming it.
    """
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"`apply={str(out)!r}` exists already and is not an empty folder; give another, or remove it")


@dataclass(frozen=True, eq=False)
class AuditedData:
    """The dataset of an audit.

    Attributes:
        info: of the training split.
        test: the test split; None without one.
        seed: of draws.
    """

    info: DatasetInfo
    test: Any = None
    seed: int = 0

    @property
    def splits(self) -> dict[str, Any]:
        """The splits by name."""
        return {"train": self.info.data} | ({} if self.test is None else {"test": self.test})

    def ids(self) -> dict[str, list[str]]:
        """Names of the examples, by split."""
        return {name: self.info.ids if name == "train" else example_ids(data) for name, data in self.splits.items()}

    def labels(self) -> dict[str, Tensor]:
        """Class ids, by split; a split without is left out."""
        labels = {"train": self.info.labels}
        if self.test is not None and (of_test := labels_of(self.test)) is not None:
            labels["test"] = of_test
        return {name: values for name, values in labels.items() if len(values) and int(values.min()) >= 0}

    def class_names(self) -> dict[str, list[str]]:
        """Names of the classes of the examples, by split."""
        names = self.info.classes
        return {split: [names[y] for y in values.tolist()] for split, values in self.labels().items()}


def issues_of_contents(data: AuditedData, progress: Progress | None = None) -> tuple[list[Issue], list[str]]:
    """Duplicates within and across the splits and broken examples, as `datawinnow.audit.contents` finds them.

    Returns:
        The issues, and notes on what was not compared.
    """
    splits = [_with_contents(split) for split in data.splits.values()]
    if any(split is None for split in splits):
        name = type(data.info.data).__name__
        return [], [f"contents are not compared: x of {name} is drawn anew at each access, too large, or no tensor"]
    shapes = {tuple(split.shape) for split in splits}
    if len(shapes) > 1 and not isinstance(splits[0], Texts):
        return [], ["contents are not compared: the splits have examples of different shapes"]
    labels = data.labels()
    both = torch.cat([labels[name] for name in data.splits]) if set(labels) == set(data.splits) else None
    if progress is not None:
        progress("comparing contents", 0, 1)
    contents = read_contents(*splits)
    issues, _ = content_issues(contents, labels=both, ids=data.ids(), classes=list(data.info.classes), seed=data.seed)
    if progress is not None:
        progress("comparing contents", 1, 1)
    is_small = contents.kind == "images" and contents.images is None
    return issues, ["near duplicates are not looked for: such small images are alike"] if is_small else []


def _with_contents(split: Any) -> Any:
    """A split of `load` as it is; of another dataset its x, read twice, as `Examples`; None where that cannot be."""
    if isinstance(split, (Examples, LazyExamples)):
        return split
    n = len(split)
    first = torch.as_tensor(split[0][0]) if n and isinstance(split[0][0], (Tensor, np.ndarray)) else None
    if first is None or first.numel() * n > MAX_STACKED or not torch.equal(first, torch.as_tensor(split[0][0])):
        return None
    rows = [torch.as_tensor(split[i][0]) for i in range(n)]
    if any(row.shape != first.shape for row in rows):
        return None
    x = torch.stack(rows)
    is_images = x.dtype is torch.uint8 and x.ndim == 4
    x = x if is_images else x.flatten(1).float()
    if not bool(x.float().isfinite().all()):
        return None
    return Examples(x, torch.zeros(n, dtype=torch.int64), ("",))


def recorded_issues(
    data: AuditedData, arrays: Mapping[str, Tensor], *, engine: Engine = "datawinnow", out_of_fold: Any = None
) -> tuple[list[Issue], LabelErrors | None, list[str]]:
    """Label errors, examples that were never learned or lost, and confused classes, from arrays by name.

    Args:
        data: the dataset.
        arrays: of `SOURCES` and ``features`` and ``probs``, those that there are.
        engine: as of `find_label_errors`.
        out_of_fold: (n, c) probabilities for ``engine="cleanlab"``.

    Returns:
        The issues, the label errors, and notes.
    """
    labels, classes = data.info.labels, list(data.info.classes)
    columns: dict[str, Any] = {name: arrays[name] for name in (*SOURCES, "features", "probs") if name in arrays}
    if engine == "cleanlab":
        columns["probs"] = out_of_fold if out_of_fold is not None else columns.get("probs")
    issues: list[Issue] = []
    notes: list[str] = []
    if "correct" in columns:
        issues, notes = learning_issues(columns["correct"], columns.get("p_label"))
    if columns.get("probs") is None and "p_label" not in columns:
        return issues, None, [*notes, "labels are not compared: that needs probs (n, c), or a recording"]
    errors = find_label_errors(labels, engine=engine, **columns)
    advice: list[str] = []
    never_learned = sum(issue.issue == "never_learned" for issue in issues)
    if engine == "datawinnow" and not errors.is_separated and never_learned:
        listed = many(never_learned, "example that was never learned", "examples that were never learned")
        advice.append(f"wrong labels, if there are any, are likely among the {listed}: look at these first")
    epochs = len(columns["p_label"]) if "p_label" in columns else 0
    issues += label_issues(errors, labels, classes, epochs=epochs)
    if errors.class_probs.shape[1] > 1 and not bool(errors.p_suggested.isnan().all()):
        issues += confused_classes(errors.class_probs, labels, classes)
    return issues, errors, [*notes, *errors.notes, *advice]


def audit_dataset(
    data: AuditedData,
    arrays: Mapping[str, Tensor],
    *,
    engine: Engine = "datawinnow",
    out_of_fold: Any = None,
    folder: RunFolder | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Everything that is wrong with a dataset whose arrays are there; nothing is trained.

    Args:
        data: the dataset.
        arrays: by name, as of `recorded_issues`.
        engine: as of `find_label_errors`.
        out_of_fold: as of `recorded_issues`.
        folder: the run that the arrays are of.
        progress: called after each part.
    """
    issues, notes = issues_of_contents(data, progress)
    if "features" in arrays:
        measured = outlyingness(arrays["features"], seed=data.seed)
        issues += outlier_issues(measured, labels=data.labels().get("train"), classes=list(data.info.classes))
    else:
        notes.append("outliers are not looked for: that needs features")
    if data.test is None:
        notes.append("no test split: leakage is not looked for")
    labels = data.labels()
    errors = None
    if "train" in labels and data.info.classes:
        issues += class_issues(labels, list(data.info.classes))
        of_labels, errors, label_notes = recorded_issues(data, arrays, engine=engine, out_of_fold=out_of_fold)
        issues += of_labels
        notes += label_notes
        of_test, test_notes = issues_of_test_labels(data, arrays)
        issues += of_test
        notes += test_notes
    else:
        notes.append("the dataset has no classes: labels are not compared")
    rows = {name: source_rows(split).tolist() for name, split in data.splits.items()}
    table = IssueTable.of(without_relabelled_outliers(issues), ids=data.ids(), labels=data.class_names(), rows=rows)
    return Audit(table, errors, audit_metadata(data, table, errors, notes, engine), data.info.data, data.test, folder)


def without_relabelled_outliers(issues: Sequence[Issue]) -> list[Issue]:
    """The issues, in which an outlier with a wrong label is to be looked at: what is unlike all classes is of none."""
    outliers = {(issue.split, issue.example) for issue in issues if issue.issue == "outlier"}

    def is_relabelled_outlier(issue: Issue) -> bool:
        return issue.action.startswith(RELABEL) and (issue.split, issue.example) in outliers

    return [replace(issue, action="look") if is_relabelled_outlier(issue) else issue for issue in issues]


def audit_metadata(
    data: AuditedData, table: IssueTable, errors: LabelErrors | None, notes: Sequence[str], engine: str
) -> dict[str, Any]:
    """What ``audit.json`` holds, beside the cost."""
    actions = Counter(issue.action.split(":")[0] for issue in table if issue.example >= 0)
    label_errors = None
    if errors is not None:
        label_errors = {"engine": engine, "rate": errors.rate, "is_separated": errors.is_separated}
    return {
        "dataset": data.info.name,
        "fingerprint": data.info.fingerprint,
        "n": {name: len(split) for name, split in data.splits.items()},
        "classes": list(data.info.classes),
        "counts": table.counts(),
        "actions": dict(actions),
        "label_errors": label_errors,
        "notes": list(dict.fromkeys(notes)),
    }


def issues_of_test_labels(data: AuditedData, arrays: Mapping[str, Tensor]) -> tuple[list[Issue], list[str]]:
    """Labels of the test split that are likely wrong, by a network that was not trained on them.

    A person is to look at each: a test split is not changed on a suggestion.

    Returns:
        The issues, and notes.
    """
    labels = data.labels().get("test")
    if labels is None or not {"val_probs", "val_features"} <= set(arrays):
        return [], []
    errors = find_label_errors(labels, probs=arrays["val_probs"], features=arrays["val_features"])
    issues = label_issues(errors, labels, list(data.info.classes))
    return [replace(issue, split="test", action="look") for issue in issues], [
        f"test split: {note}" for note in errors.notes
    ]


def arrays_of_run(
    folder: RunFolder,
    info: DatasetInfo,
    *,
    test: Any = None,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Mapping[str, Tensor]:
    """The recorded columns, and features and class probabilities of the recorded network, of the test split too."""
    probed = probed_arrays(folder, info, model=model, model_options=model_options, val=test, progress=progress, log=log)
    return chain_arrays(folder.arrays(), probed.arrays(("features", "probs")))


def out_of_fold_probs(
    folder: RunFolder,
    info: DatasetInfo,
    *,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """(n, c) class probabilities by networks that were not trained on the example: five trainings as recorded.

    They are kept in ``probe/out_of_fold.npy`` of the run.

    Raises:
        ArgumentError: the dataset cannot give a subset, or a class has fewer than two examples.
    """
    path = folder.path / "probe" / "out_of_fold.npy"
    if path.exists():
        return torch.from_numpy(read_npy(path))
    from sklearn.model_selection import StratifiedKFold

    if not hasattr(info.data, "subset"):
        raise ArgumentError(f"`engine='cleanlab'` trains on subsets, which {type(info.data).__name__} cannot give")
    labels = info.labels.numpy()
    if np.bincount(labels)[np.unique(labels)].min() < 2:
        raise ArgumentError("`engine='cleanlab'` needs two examples or more of every class")
    seed = int(folder.metadata.get("seed", 0))
    options = folder.metadata["options"]["record"]
    recipe = Recipe(**{key: value for key, value in options["recipe"].items() if key in Recipe.__dataclass_fields__})
    probs = torch.zeros(info.n, len(info.classes))
    draws = int(torch.randint(2**31, (1,), generator=stream(seed, "audit", "folds")))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=draws).split(labels, labels)
    for k, (kept, left) in enumerate(folds):
        network = network_of_run(folder, model, model_options)
        fold = info.data.subset(torch.from_numpy(kept))
        named = named_progress(progress, f"fold {k + 1} of {FOLDS}")
        trained, _ = fit(network, fold, epochs=folder.epochs, recipe=recipe, seed=seed, progress=named)
        rest = info.data.subset(torch.from_numpy(left))
        probs[torch.from_numpy(left)] = torch.as_tensor(np.asarray(probe(trained, rest, arrays=("probs",))["probs"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_npy(path, probs.numpy())
    return probs


def _label_columns(result: Audit) -> dict[str, Any]:
    """Of every training example its id, and where labels were compared how likely its label is wrong."""
    columns: dict[str, Any] = {"id": example_ids(result.train)}
    if result.errors is not None:
        names = list(result.metadata["classes"])
        columns["p_wrong"] = result.errors.p_wrong.float().numpy()
        columns["suggested_label"] = [names[i] if i >= 0 else None for i in result.errors.suggested.tolist()]
    return columns


def write_audit(
    result: Audit, folder: Path, *, p_label: Tensor | None = None, csv: bool = False, cost: Cost | None = None
) -> list[Path]:
    """Write ``issues.parquet``, ``audit.json``, what is suggested as ``decisions.csv``, and what the page shows.

    Args:
        result: the audit.
        folder: to write into.
        p_label: (epochs, n) as recorded, for the data map.
        csv: write ``issues.csv`` too.
        cost: of the audit.

    Returns:
        The files.

    Raises:
        RunError: the disk is full.
    """
    written = [folder / ISSUES_FILE]
    write_issues(written[0], result.issues, result.metadata)
    fingerprint = str(result.metadata["fingerprint"])
    splits = {"train": result.train} | ({} if result.test is None else {"test": result.test})
    written.append(write_issue_examples(folder, result.issues, splits, fingerprint))
    if p_label is not None:
        written.append(write_learning(folder, p_label, fingerprint, _label_columns(result)))
    if csv:
        written.append(folder / CSV_FILE)
        write_issues_csv(written[-1], result.issues)
    written.append(folder / DECISIONS_FILE)
    write_decisions(written[-1], result.decisions.rows, fingerprint)
    written.append(folder / AUDIT_FILE)
    files = [path.name for path in written[:-1]]
    costs = {} if cost is None else {"cost": cost.as_dict()}
    write_json(written[-1], {"kind": "audit", **result.metadata, "files": files, **costs})
    return written
