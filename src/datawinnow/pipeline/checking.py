"""``prune --check``: is the selection worth it? Trains on it, on as many random examples, and on all for less long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from datawinnow.core import check as arguments
from datawinnow.core.cost import Cost
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import write_json
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.kept import Kept
from datawinnow.models import MODELS
from datawinnow.pipeline.about import Model, describe, network, read_labels
from datawinnow.pipeline.folder import RunFolder
from datawinnow.pipeline.methods import METHODS, select_by_method
from datawinnow.pipeline.rows import result_row
from datawinnow.train import History, Progress, Recipe, fit

BASELINES = {"random": "as many random examples", "shorter_full": "all the data for fewer epochs"}


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
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train on the kept examples, on as many random ones, and on all for fewer epochs, and say which won by how much.

    The three pass the same number of examples; the schedule of each decays to its own end. With one seed the answer is
    an indication, and says so.

    Args:
        folder: the run that the selection was made in; ``check.json`` is written there.
        train: the whole dataset.
        test: held-out split; only the last epoch counts.
        selection: what was kept.
        keep: fraction kept.
        epochs: epochs to train on the kept examples.
        seeds: how many times, with paired weights and orders.
        model: network; the run's own unless told.
        model_options: its options.
        recipe: how to train.
        progress: told after each step.
        on_row: told each result row.

    Returns:
        ``{"rows": [...], "sentence": ...}`` as in ``check.json``.

    Raises:
        ArgumentError: no test split, no seeds, or a network that only its maker knows.
        RunError: the run has no selection, or is about another dataset.
    """
    arguments.number("seeds", seeds, 1, 10_000, integer=True)
    arguments.number("epochs", epochs, 1, 1 << 20, integer=True)
    if test is None:
        raise ArgumentError("check needs a test split (test=), since accuracy on the training examples decides nothing")
    own = folder.facts["options"].get("select")
    if own is None:
        raise RunError(f"{folder.path} has no selection to check; make one with: datawinnow select RUN --keep 0.3")
    facts = describe(train)
    folder.check_dataset(facts["fingerprint"], facts["name"])
    if model is None:
        model, options = _own_model(folder)
        model_options = model_options or options
    arms = _arms(own, epochs, keep)
    labels = read_labels(train)
    scoring = _scoring(folder, own)
    rows = []
    for seed in range(seeds):
        draw = stream(seed, "check", "random")
        chosen = {
            own["method"]: selection,
            "random": select_by_method(METHODS["random"], {}, labels, keep=keep, generator=draw)[0],
            "shorter_full": Selection.everything(len(train)),
        }
        for name, (label, trained) in arms.items():
            built, model_name, _ = network(model, facts, seed, **(model_options or {}))
            told = _named(progress, f"checking: {label}")
            kept = Kept(train, chosen[name])
            _, history = fit(built, kept, epochs=trained, test=test, seed=seed, recipe=recipe, progress=told)
            own_facts = {"method": name, "label": label, "trained_epochs": trained, "kept": len(kept), "seed": seed}
            cost = scoring if name == own["method"] else Cost()
            shared = {"model": model_name, "epochs": epochs, "keep": keep, "test_n": len(test)}
            rows.append(_row(facts, history, cost, **own_facts, **shared))
            if on_row is not None:
                on_row(rows[-1])
    answer = {"rows": rows, "sentence": verdict(rows, own["method"], own["label"])}
    write_json(folder.path / "check.json", answer)
    return answer


def _row(facts: Mapping[str, Any], history: History, score: Cost, **own: Any) -> dict[str, Any]:
    return result_row(
        benchmark="check",
        dataset=facts["name"],
        fingerprint=facts["fingerprint"],
        n=facts["n"],
        scenario="clean",
        changed_kept=None,
        accuracy=history.test_accuracy,
        test_loss=history.test_loss,
        score=score,
        select=Cost(),
        train=history.cost,
        **own,
    )


def _own_model(folder: RunFolder) -> tuple[str, dict[str, Any]]:
    """Name and options of the network that the run recorded with."""
    about = folder.facts["model"]
    name = str(about["name"])
    if name not in MODELS and ":" not in name:
        raise ArgumentError(
            f"{folder.path} was recorded with a network of your own, of which it only knows the name {name!r}: give it "
            'again with model= (or by "module:function")'
        )
    return name, dict(about.get("options", {}))


def _arms(own: Mapping[str, Any], epochs: int, keep: float) -> dict[str, tuple[str, int]]:
    """Name -> label, epochs; a random selection is one of its own baselines."""
    arms = {own["method"]: (own["label"], epochs), "random": ("random", epochs)}
    return {**arms, "shorter_full": ("all the data, fewer epochs", max(1, round(epochs * keep)))}


def _scoring(folder: RunFolder, own: Mapping[str, Any]) -> Cost:
    """The recording, if the selection read any of it: it was run whole, also where only its first epochs were read."""
    recorded = Cost.from_dict(folder.facts["cost"].get("record", Cost().as_dict()))
    return recorded if own["charge"] else Cost()


def _named(progress: Progress | None, what: str) -> Progress | None:
    if progress is None:
        return None
    return lambda _, done, total: progress(what, done, total)


def verdict(rows: list[dict[str, Any]], method: str, label: str) -> str:
    """Which of the arms won and by how much, in a sentence; means over seeds, in points of accuracy.

    Args:
        rows: result rows of the three arms, of which ``method`` is one.
        method: key of the method that is checked.
        label: its name for people.
    """
    there = {row["method"] for row in rows}
    names = [name for name in dict.fromkeys((method, *BASELINES)) if name in there]
    points = {}
    for name in names:
        reached = [row["accuracy"] for row in rows if row["method"] == name]
        points[name] = round(100 * sum(reached) / len(reached), 2)  # what is shown is what is compared
    others = [name for name in names if name in BASELINES and name != method]
    words = [_against(points[method], points[name], BASELINES[name]) for name in others]
    # A baseline that is as good is the better advice: it needs no recording.
    best = max(names, key=lambda name: (points[name], name != method))
    if best == method:
        recording = any(row["cost"]["score"]["backward"] for row in rows if row["method"] == method)
        aside = ", the recording that it took set aside" if recording else ""
        advice = f"{label} is the best of the {len(names)} here{aside}."
    else:
        advice = {
            "random": "Random examples did best here: do not pay for scoring at this keep and schedule.",
            "shorter_full": "All the data for fewer epochs did best here, at the same number of examples passed and "
            "with nothing spent on scoring: train shorter instead of pruning.",
        }[best]
    seeds = len({row["seed"] for row in rows})
    trust = (
        "One seed: an indication, not a result; try --check-seeds 3." if seeds == 1 else f"Means over {seeds} seeds."
    )
    return f"{label} {', and '.join(words)}. {advice} {trust}"


def _against(ours: float, theirs: float, what: str) -> str:
    shown = f"({ours:.2f} against {theirs:.2f})"
    if ours == theirs:
        return f"ties with {what} {shown}"
    return f"{'beats' if ours > theirs else 'loses to'} {what} by {abs(ours - theirs):.2f} points {shown}"
