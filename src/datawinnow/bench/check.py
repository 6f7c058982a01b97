"""``prune --check``: is the selection worth it? Trains on it, on as many random examples, and on all for less long."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from datawinnow.bench.result_row import result_row
from datawinnow.bench.verdict import verdict
from datawinnow.core import check as arguments
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import read_json, write_json
from datawinnow.core.progress import Progress
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.dataset_info import DatasetInfo, dataset_info
from datawinnow.data.fingerprint import fingerprint_of
from datawinnow.data.kept import Kept
from datawinnow.methods import METHODS
from datawinnow.models import MODELS
from datawinnow.runs.folder import RunFolder
from datawinnow.runs.network import Model, build_network, check_outputs
from datawinnow.runs.selection_file import digest
from datawinnow.runs.stage import augment_of, settle
from datawinnow.train import Recipe, fit

FILE = "check.json"
_NEEDED = {"seed", "method", "label", "accuracy", "passes", "cost"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """What is compared with what, settled before anything is trained.

    Attributes:
        folder: the run.
        train: the whole dataset.
        test: held-out split.
        info: of ``train``.
        own: what the run says of its selection.
        selection: what was kept.
        keep: fraction kept.
        epochs: epochs to train on the kept examples.
        model: the network, and
        options: its options.
        recipe: how to train, the arithmetic fixed.
        about: what ``check.json`` says at its top: ``settings`` and ``arithmetic``.
        rows: of the same check, done before.
    """

    folder: RunFolder
    train: Any
    test: Any
    info: DatasetInfo
    own: Mapping[str, Any]
    selection: Selection
    keep: float
    epochs: int
    model: Model
    options: Mapping[str, Any]
    recipe: Recipe
    about: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def arms(self) -> dict[str, tuple[str, float]]:
        """Name -> label, epochs; all pass as many examples. A random selection is one of its own baselines."""
        passed, n = self.epochs * len(self.selection), len(self.train)
        shorter = passed / n if passed % n else passed // n
        own = {self.own["method"]: (self.own["label"], self.epochs), "random": ("random", self.epochs)}
        return {**own, "shorter_full": ("all the data, fewer epochs", shorter)}

    def chosen(self, name: str, seed: int) -> Selection:
        """The examples of an arm; the random ones are drawn anew for every seed."""
        if name == self.own["method"]:
            return self.selection
        if name == "shorter_full":
            return Selection.everything(len(self.train))
        draw, labels = stream(seed, "check", "random"), self.info.labels
        return METHODS["random"].run({}, labels, keep=self.keep, generator=draw)[0]

    def row(self, name: str, seed: int, progress: Progress | None) -> Row:
        """Train one arm; what it reached after the last epoch and what it cost."""
        label, epochs = self.arms[name]
        built, model_name, _ = build_network(self.model, self.info, seed, self.options)
        kept = Kept(self.train, self.chosen(name, seed))
        told = _named(progress, f"checking: {label}")
        _, history = fit(built, kept, epochs=epochs, test=self.test, seed=seed, recipe=self.recipe, progress=told)
        return result_row(
            benchmark="check",
            dataset=self.info.name,
            fingerprint=self.info.fingerprint,
            n=self.info.n,
            test_n=len(self.test),
            scenario="clean",
            changed_kept=None,
            model=model_name,
            keep=self.keep,
            epochs=self.epochs,
            method=name,
            label=label,
            trained_epochs=epochs,
            kept=len(kept),
            seed=seed,
            accuracy=history.test_accuracy,
            test_loss=history.test_loss,
            score=self.scoring() if name == self.own["method"] else Cost(),
            select=Cost(),
            train=history.cost,
        )

    def scoring(self) -> Cost:
        """The recording, if the selection read any of it: it was run whole, also where only its first epochs count."""
        if not self.own["charge"]:
            return Cost()
        spent = self.folder.metadata["cost"]
        return sum((Cost.from_dict(spent[stage]) for stage in ("record", "probe", "subsets") if stage in spent), Cost())

    def write(self, rows: list[Row], sentence: str) -> dict[str, Any]:
        """``check.json`` as far as it is, and what it cost so far; gives what it says."""
        spent = sum((Cost.from_dict(row["cost"]["train"]) for row in rows), Cost())
        self.folder.charge("check", spent)
        answer = {**self.folder.made_by("check"), **self.about, "rows": rows, "sentence": sentence}
        write_json(self.folder.path / FILE, answer)
        return answer


def check(
    folder: RunFolder,
    train: Any,
    test: Any,
    selection: Selection,
    *,
    keep: float,
    epochs: int,
    seeds: int = 1,
    model: Model = None,
    model_options: Mapping[str, Any] | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> dict[str, Any]:
    """Train on the kept examples, on as many random ones, and on all for fewer epochs, and say which won by how much.

    The three pass the same number of examples (all the data end in part of an epoch where need be); the schedule of
    each decays to its own end. With one seed the answer is an indication, and says so. Each training is written down
    when it ends: the same check goes on from there, and a check with more seeds trains only the new ones.

    Args:
        folder: the run that the selection was made in; ``check.json`` is written there.
        train: the whole dataset.
        test: held-out split; only the last epoch counts.
        selection: what was kept.
        keep: fraction kept.
        epochs: epochs to train on the kept examples.
        seeds: how many times at least, with paired weights and orders; seeds that are done already count too.
        model: network; the run's own unless told.
        model_options: its options.
        recipe: how to train; ``precision="auto"`` is what the run recorded with, or else measured once for all arms.
        progress: told after each step.
        on_row: told each new result row.

    Returns:
        ``{"rows": [...], "sentence": ...}`` and how they were made, as in ``check.json``.

    Raises:
        ArgumentError: no test split, no seeds, a network that only its maker knows, or one with too few outputs.
        RunError: the run has no selection, is about another dataset, or its ``check.json`` is damaged.
    """
    arguments.number("seeds", seeds, 1, 10_000, integer=True)
    arguments.number("epochs", epochs, 1, 1 << 20, integer=True)
    if test is None:
        raise ArgumentError("check needs a test split (test=), since accuracy on the training examples decides nothing")
    if model is None and folder.metadata["options"].get("select") is not None:
        model, options = _own_model(folder)
        model_options = model_options or options
    named = (model, model_options or {}, recipe or Recipe())
    trial = _trial(folder, train, test, selection, keep, epochs, *named)
    rows, wanted = _rows_and_wanted(trial, seeds)
    total = len(rows) + len(wanted)
    for seed, name in wanted:
        trial.write(rows, f"The check is not finished: {len(rows)} of {total} trainings are done.")
        rows.append(trial.row(name, seed, progress))
        if on_row is not None:
            on_row(rows[-1])
    return trial.write(rows, verdict(rows, trial.own["method"], trial.own["label"]))


def _trial(
    folder: RunFolder,
    train: Any,
    test: Any,
    selection: Selection,
    keep: float,
    epochs: int,
    model: Model,
    options: Mapping[str, Any],
    asked: Recipe,
) -> Trial:
    own = folder.metadata["options"].get("select")
    if own is None:
        raise RunError(f"{folder.path} has no selection to check; make one with: datawinnow select RUN --keep 0.3")
    info = dataset_info(train)
    train = info.data
    folder.check_dataset(info)
    built, name, _ = build_network(model, info, 0, options)
    check_outputs(built, info)
    settings = {
        "method": own["method"],
        "selection": digest(selection),
        "keep": keep,
        "epochs": epochs,
        "model": name,
        "model_options": dict(options),
        "recipe": {key: value for key, value in asked.metadata().items() if key != "workers"},
        "augment": augment_of(train),
        "test": fingerprint_of(test),
    }
    before = _before(folder, json.loads(json.dumps(settings)))
    recorded = folder.metadata["model"]
    same = recorded["name"] == name and recorded.get("options", {}) == dict(options)
    told = before.get("arithmetic") or (folder.metadata.get("arithmetic") if same else None)
    recipe, arithmetic = settle(built, train, asked, told)
    about = {"settings": settings, "arithmetic": arithmetic}
    rows = tuple(before.get("rows", ()))
    return Trial(folder, train, test, info, own, selection, keep, epochs, model, options, recipe, about, rows)


def _before(folder: RunFolder, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What ``check.json`` says, if it is of the same check; nothing otherwise."""
    path = folder.path / FILE
    if not path.exists():
        return {}
    found = read_json(path)
    if "fingerprint" in found:  # it has been there since settings have
        folder.check_made(found, path)
    if found.get("settings") != settings:
        return {}
    rows = found.get("rows")
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and {"seed", "method", "cost"} <= set(r) for r in rows
    ):
        raise RunError(f"{path} is damaged: its rows are no result rows; remove it and check again")
    return found


def _rows_and_wanted(trial: Trial, seeds: int) -> tuple[list[Row], list[tuple[int, str]]]:
    """Rows that count already, and the trainings that are wanted still, seed by seed."""
    done = {(row["seed"], row["method"]): row for row in trial.rows}
    whole = [seed for seed, _ in done if all((seed, name) in done for name in trial.arms)]
    cells = [(seed, name) for seed in sorted({*range(seeds), *whole}) for name in trial.arms]
    return [done[cell] for cell in cells if cell in done], [cell for cell in cells if cell not in done]


def _own_model(folder: RunFolder) -> tuple[str, dict[str, Any]]:
    """Name and options of the network that the run recorded with."""
    about = folder.metadata["model"]
    name = str(about["name"])
    if name not in MODELS and ":" not in name:
        raise ArgumentError(
            f"{folder.path} was recorded with a network of your own, of which it only knows the name {name!r}: give it "
            'again with model= (or by "module:function")'
        )
    return name, dict(about.get("options", {}))


def _named(progress: Progress | None, what: str) -> Progress | None:
    if progress is None:
        return None
    return lambda _, done, total: progress(what, done, total)


__all__ = ["check", "verdict"]
