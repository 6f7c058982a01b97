"""A condensation as a run folder: resumed where it stopped, watched on held-out data, fit for a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datawinnow.condense._evaluate import Evaluation, evaluate
from datawinnow.condense._projection import projection
from datawinnow.condense._real_sets import real_set
from datawinnow.core import check, provenance
from datawinnow.core.card import card_of
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.files import read_json, write_json
from datawinnow.core.rng import stream
from datawinnow.core.synthetic import Synthetic

EPOCHS = {"dc": 300, "cafe": 600}
"""Epochs of an evaluation without augmentation; with it 1,000 (condense.md section 0)."""
CURVE, DONE, RUN, PROJECTION = "curve.json", "synthetic.safetensors", "run.json", "projection.json"


def evaluation_epochs(method: str, augment: Any) -> int:
    """The papers' epochs of an evaluation."""
    return EPOCHS.get(method, 1000) if augment is None else 1000


def condense_run(
    train: Any,
    test: Any,
    path: Path,
    *,
    method: Callable[..., Synthetic],
    per_class: int,
    build: Callable[[], nn.Module],
    network: str,
    seed: int,
    iterations: int,
    options: Mapping[str, Any],
    networks: int = 5,
    watched: int = 2,
    snapshots: int = 5,
    epochs: int | None = None,
    augment: Any = None,
    load: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Condense ``train`` in the folder ``path``; going on, to the same images, where it was stopped.

    What is done already is not done again.

    Args:
        train: `Examples` of images in memory.
        test: held-out ones; they judge and choose nothing. None to judge nothing.
        path: the run folder.
        method: a condenser.
        per_class: images of every class.
        build: makes a fresh network.
        network: its name and options, for the record.
        seed: of everything.
        iterations: of the condenser.
        options: its other options.
        networks: networks that judge the result, and as many random real images; 0 to judge nothing.
        watched: networks that judge each snapshot.
        snapshots: states to keep, the start and the end among them, at least 2.
        epochs: of a judging network; None for the papers'.
        augment: of those.
        load: how the data were loaded, for the record.
        progress: called as ``progress(what, done, total)``.

    Returns:
        What ``run.json`` holds.

    Raises:
        ArgumentError: data that are no images in memory, or an option out of range.
        RunError: a folder of another run.
    """
    x = all_images(train)
    check_judging(networks, watched, snapshots, epochs)
    key = card_of(method).key
    epochs = epochs or evaluation_epochs(key, augment)
    metadata: dict[str, Any] = {
        "verb": "condense",
        "name": f"{train.name}, {per_class} a class by {card_of(method).name}",
        "dataset": {"name": train.name, "n": len(train), "shape": list(train.shape), "classes": list(train.classes),
                    "fingerprint": train.fingerprint, "notes": list(train.notes)},
        "options": {"method": key, "per_class": per_class, "iterations": iterations, "seed": seed, "network": network,
                    "load": dict(load or {}), **{k: plain(v) for k, v in options.items()}},
        "judged": {"networks": networks, "watched": watched, "snapshots": snapshots, "epochs": epochs,
                   "augment": plain(augment), "test": 0 if test is None else len(test)},
    }  # fmt: skip
    if begin(path, metadata) and (path / DONE).exists():
        return read_json(path / RUN)
    judge = _Judge(path, test, build, seed, epochs, augment, progress)
    at = sorted({round(i * iterations / max(1, snapshots - 1)) for i in range(max(2, snapshots))})

    def on_iteration(done: int, _loss: float | None, synthetic: Callable[[], Synthetic]) -> None:
        if done in at and not (path / "snapshots" / f"{done:07}.png").exists():
            now = synthetic()
            now.save(path / "snapshots" / f"{done:07}.safetensors")
            nets = watched if done < iterations else networks
            judge.row(now, f"iteration {done}", done, nets if networks else 0)
            columns, scale = 10 if per_class == 1 else None, max(1, 32 // now.images.shape[-1])
            now.save_grid(path / "snapshots" / f"{done:07}.png", columns, scale=scale)

    made = method(
        x, train.labels, per_class=per_class, build=build, generator=stream(seed, "condense"), iterations=iterations,
        mean=train.mean or None, std=train.std or None, classes=train.classes, on_iteration=on_iteration,
        checkpoint=path / "checkpoint.safetensors", progress=progress, **options,
    )  # fmt: skip
    made.save(path / DONE)
    if networks and test is not None:
        random = real_set(
            "random", x, train.labels, per_class=per_class, build=build, generator=stream(seed, "random"),
            mean=train.mean or None, std=train.std or None, classes=train.classes,
        )  # fmt: skip
        judge.row(random, "random", None, networks)
    if not (path / PROJECTION).exists():
        write_json(path / PROJECTION, projection(made, x, train.labels, build=build, seed=seed))
    cost = {k: made.about[k] for k in ("seconds", "passed", "memory")}
    metadata |= {"cost": cost, "status": {"condense": "done"}, "result": {"outside": made.outside, "curve": judge.rows}}
    write_json(path / RUN, {**metadata, **_made(made)})
    (path / "checkpoint.safetensors").unlink(missing_ok=True)
    return read_json(path / RUN)


def check_judging(networks: int, watched: int, snapshots: int, epochs: int | None) -> None:
    """Refuse what cannot be judged.

    Raises:
        ArgumentError: a number out of range.
    """
    least = {
        "networks": (networks, 0),
        "watched": (watched, 0),
        "snapshots": (snapshots, 2),
        "judge_epochs": (epochs, 1),
    }
    for name, (value, lowest) in least.items():
        if value is not None:
            check.number(name, value, lowest, 100_000, integer=True)


def begin(path: Path, metadata: Mapping[str, Any]) -> bool:
    """Write ``run.json``, or see that the one there is of the same run; whether that is done.

    Raises:
        RunError: another run lives here.
    """
    if not (path / RUN).exists():
        write_json(path / RUN, {**metadata, "status": {"condense": "unfinished"}, "cost": {}})
        return False
    there, wanted = read_json(path / RUN), json.loads(json.dumps(metadata, default=str))
    if there.get("verb") != "condense":
        raise RunError(f"{path} holds a run of another kind: give another folder with --run")
    for part in ("dataset", "options", "judged"):
        was, now = there.get(part) or {}, wanted[part]
        for key in sorted({*was, *now} - {"notes"}):
            if was.get(key) != now.get(key):
                raise RunError(
                    f"{path} was begun with {key}={was.get(key)!r}, now it is {now.get(key)!r}: give another folder "
                    "with --run, or the options that it was begun with"
                )
    return bool(there.get("status", {}).get("condense") == "done")


def all_images(train: Any) -> torch.Tensor:
    """The (n, channels, height, width) images of a dataset.

    Raises:
        ArgumentError: there are none, or they are not in memory.
    """
    x = getattr(train, "x", None)
    if not isinstance(x, torch.Tensor):
        raise ArgumentError(
            f"{train.name} does not fit into memory, and condensing draws from all of it: load fewer with --limit, or "
            "smaller with --size"
        )
    if x.ndim != 4:
        raise ArgumentError(f"condensing learns images, but an example of {train.name} has shape {tuple(x.shape[1:])}")
    return x


class _Judge:
    """Accuracies on held-out data, a row a set, each written as soon as it is known."""

    def __init__(
        self, path: Path, test: Any, build: Any, seed: int, epochs: int, augment: Any, progress: Any
    ) -> None:  # fmt: skip
        self.file, self.test, self.build, self.seed = path / CURVE, test, build, seed
        self.how = {"epochs": epochs, "augment": augment, "progress": progress}
        self.rows: list[dict[str, Any]] = read_json(self.file)["rows"] if self.file.exists() else []
        if not self.file.exists():
            write_json(self.file, {"rows": []})

    def row(self, synthetic: Synthetic, name: str, iteration: int | None, networks: int) -> None:
        """Judge a set, unless that was done before a stop."""
        if self.test is None or not networks or any(row["set"] == name for row in self.rows):
            return
        found: Evaluation = evaluate(
            synthetic, self.test.x, self.test.labels, build=self.build, networks=networks,
            generator=stream(self.seed, "judge", name), **self.how,
        )  # fmt: skip
        row = {"set": name, "iteration": iteration, "accuracies": list(found.accuracies), "seconds": found.seconds}
        self.rows.append(row)
        write_json(self.file, {"rows": self.rows})


def _made(made: Synthetic) -> dict[str, Any]:
    return {
        "created": provenance.now(), "commit": provenance.commit(), "versions": provenance.versions(),
        "device": made.about["device"], "threads": torch.get_num_threads(), "seed": made.about["seed"],
    }  # fmt: skip


def plain(value: Any) -> Any:
    """``value`` as JSON holds it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence):
        return [plain(v) for v in value]
    return repr(value)
