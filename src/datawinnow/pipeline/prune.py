"""`prune`: record, score and select in one; and the check whether it was worth it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datawinnow.core.budget import budget_of
from datawinnow.core.cost import Cost
from datawinnow.core.files import FORMAT_VERSION, write_json
from datawinnow.core.provenance import commit, now, versions
from datawinnow.core.rng import stream
from datawinnow.core.selection import Selection
from datawinnow.data.batches import labels_of
from datawinnow.data.kept import Kept
from datawinnow.pipeline.folder import RunFolder
from datawinnow.pipeline.methods import METHODS, Method, method_of, needs_of, select_by_method
from datawinnow.pipeline.verbs import Model, describe, network, record, select
from datawinnow.train import Progress, Recipe, fit


def prune(
    train: Any,
    *,
    keep: float,
    method: str | Method | None = None,
    epochs: int = 30,
    of: int | None = None,
    model: Model = None,
    seed: int = 0,
    run: Path | str | None = None,
    test: Any = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    **parts: Any,
) -> Kept:
    """Record a short training run, score every example, and keep the fraction worth keeping.

    Args:
        train: `Examples` or any map-style dataset of ``(x, y)``.
        keep: fraction **kept**, in (0, 1].
        method: DUAL with Beta sampling unless told; see ``datawinnow methods``.
        epochs: epochs recorded. DUAL's paper records 30 of a 200-epoch schedule.
        of: length of the training that is planned, whose schedule is followed; ``epochs`` unless told.
        model: network to record with; chosen by the pictures' size unless told.
        seed: of everything random.
        run: run folder to leave behind, which resumes after a kill; a temporary one when None.
        test: held-out split, for the report only.
        recipe: how to train.
        progress: told after each step.
        parts: ``score``, ``select_by``, ``options``, ``score_options``, ``per_class``: a method put together.

    Returns:
        The kept examples, for `fit` or a DataLoader; ``.selection`` says which, with what weight, and why.

    Raises:
        ArgumentError: keep outside (0, 1], unknown names or options.
        RunError: ``run`` is about another dataset.
    """
    budget_of(keep, len(train))
    chosen = method_of(method, **parts)
    read = needs_of(chosen)
    if not read and chosen.score is None and run is None:  # nothing to learn from a recording
        labels = labels_of(train)
        assert labels is not None or len(train)
        import torch

        stand_in = labels if labels is not None else torch.zeros(len(train), dtype=torch.int64)
        generator = stream(seed, "select", chosen.key, f"{keep:g}")
        return Kept(train, select_by_method(chosen, {}, stand_in, keep=keep, generator=generator)[0])
    with tempfile.TemporaryDirectory(prefix="datawinnow-") as scratch:
        folder = record(
            train,
            Path(run) if run is not None else Path(scratch) / "run",
            test=test,
            epochs=epochs,
            of=of,
            model=model,
            seed=seed,
            recipe=recipe,
            progress=progress,
            signals=_signals(chosen),
        )
        return Kept(train, select(folder, train, keep=keep, method=chosen, seed=seed, pictures=run is not None))


def _signals(method: Method) -> tuple[str, ...]:
    from datawinnow.core.arrays import RECORDED

    return (*RECORDED, "kl_step") if "kl_step" in needs_of(method) else RECORDED


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
    """
    facts = describe(train)
    own = folder.facts["options"]["select"]
    record_cost = Cost.from_dict(folder.facts["cost"]["record"])
    read = own["charge"] / max(1, record_cost.backward)
    arms = {
        own["method"]: (own["label"], None),
        "random": ("random", None),
        "shorter_full": ("all the data, fewer epochs", max(1, round(epochs * keep))),
    }
    rows = []
    for seed in range(seeds):
        for name, (label, shorter) in arms.items():
            chosen = selection
            if name == "random":
                chosen, _ = select_by_method(
                    METHODS["random"],
                    {},
                    labels_of(train) if labels_of(train) is not None else _any_labels(train),
                    keep=keep,
                    generator=stream(seed, "check", "random"),
                )
            elif shorter is not None:
                chosen = Selection.everything(len(train))
            if model is None and not model_options:
                model_options = folder.facts["model"].get("options", {})
            built, model_name, _ = network(model or folder.facts["model"]["name"], facts, seed, **(model_options or {}))
            _, history = fit(
                built,
                Kept(train, chosen),
                epochs=shorter or epochs,
                test=test,
                seed=seed,
                recipe=recipe,
                progress=_named(progress, f"checking: {label}"),
            )
            scoring = record_cost.share(min(1.0, read)) if name == own["method"] else Cost()
            row = {
                "format": FORMAT_VERSION,
                "benchmark": "check",
                "dataset": facts["name"],
                "fingerprint": facts["fingerprint"],
                "n": len(train),
                "test_n": len(test),
                "model": model_name,
                "epochs": epochs,
                "method": name,
                "label": label,
                "keep": keep,
                "kept": len(chosen),
                "seed": seed,
                "scenario": "clean",
                "trained_epochs": shorter or epochs,
                "accuracy": history.test_accuracy,
                "test_loss": history.test_loss,
                "changed_kept": None,
                "cost": {"score": scoring.as_dict(), "select": Cost().as_dict(), "train": history.cost.as_dict()},
                "passes": history.cost.passes,
                "total_passes": (scoring + history.cost).passes,
                "device": folder.facts["device"],
                "threads": folder.facts["threads"],
                "versions": versions(),
                "commit": commit(),
                "finished": now(),
            }
            rows.append(row)
            if on_row is not None:
                on_row(row)
    answer = {"rows": rows, "sentence": verdict(rows, own["method"], own["label"])}
    write_json(folder.path / "check.json", answer)
    return answer


def _named(progress: Progress | None, what: str) -> Progress | None:
    if progress is None:
        return None
    return lambda _, done, total: progress(what, done, total)


def _any_labels(train: Any) -> Any:
    import torch

    return torch.zeros(len(train), dtype=torch.int64)


def verdict(rows: list[dict[str, Any]], method: str, label: str) -> str:
    """Which of the three arms won and by how much, in a sentence; against the better of the two baselines."""
    mean = {
        name: sum(r["accuracy"] for r in rows if r["method"] == name) / sum(r["method"] == name for r in rows)
        for name in {r["method"] for r in rows}
    }
    seeds = len({r["seed"] for r in rows})
    ours = mean[method]
    words = []
    for name, other in (("random", "as many random examples"), ("shorter_full", "all the data for fewer epochs")):
        gap = 100 * (ours - mean[name])
        verb = "beats" if gap > 0 else "loses to" if gap < 0 else "ties with"
        words.append(f"{verb} {other} by {abs(gap):.2f} points ({100 * ours:.2f} against {100 * mean[name]:.2f})")
    best = max(mean, key=lambda name: mean[name])
    advice = {
        method: f"{label} is the best of the three here.",
        "random": "As many random examples did best here: do not pay for scoring at this keep and schedule.",
        "shorter_full": "All the data for fewer epochs did best here, at the same number of examples passed and with "
        "nothing spent on scoring: train shorter instead of pruning.",
    }[best]
    trust = (
        "One seed: an indication, not a result; try --check-seeds 3." if seeds == 1 else f"Means over {seeds} seeds."
    )
    return f"{label} {words[0]}, and {words[1]}. {advice} {trust}"


__all__ = ["check", "prune", "replace", "verdict"]
