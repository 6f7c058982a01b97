"""A condensation as a run folder: resumable, judged on held-out data, with the files of a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from datawinnow.condense.augment import Augmentation
from datawinnow.condense.evaluation import evaluate
from datawinnow.condense.options import OnIteration
from datawinnow.condense.projection import feature_projection
from datawinnow.condense.real_sets import real_set
from datawinnow.core import check, provenance
from datawinnow.core.artifact_schemas import CondenseFile, CurveFile
from datawinnow.core.artifacts import check_content, read_json, require_same, write_json, write_table
from datawinnow.core.card import card_of
from datawinnow.core.counts import a_type
from datawinnow.core.errors import ArgumentError, RunError
from datawinnow.core.load_options import LoadOptions
from datawinnow.core.lock import only_writer
from datawinnow.core.progress import Progress
from datawinnow.core.rng import stream
from datawinnow.core.row_checks import ROW, with_row_checks
from datawinnow.core.synthetic import Synthetic

SYNTHETIC_FILE = "synthetic.safetensors"
CHECKPOINT_FILE = "checkpoint.safetensors"
REAL_EXAMPLES_FILE = "real_examples.parquet"
CURVE_FILE, RUN_FILE, PROJECTION_FILE = "curve.json", "run.json", "projection.json"
JUDGING_EPOCHS_WITHOUT_AUGMENTATION = {"dc": 300, "cafe": 600}
JUDGING_EPOCHS = 1000


@dataclass(frozen=True)
class Judging:
    """How the states of a condensation are judged on held-out data. It chooses nothing.

    Args:
        networks: fresh networks trained on the result, and on as many random real images; 0 to judge nothing.
        watched: networks that judge each snapshot before the last.
        snapshots: number of states kept and judged, the first and the last included; at least 2.
        epochs: epochs of a judging network; by default the papers', 1,000 with augmentation, else 300 (CAFE 600).

    Raises:
        ArgumentError: a number out of range.
    """

    networks: int = 5
    watched: int = 1
    snapshots: int = 4
    epochs: int | None = None

    def __post_init__(self) -> None:
        check.number("networks", self.networks, 0, 100_000, integer=True)
        check.number("watched", self.watched, 0, 100_000, integer=True)
        check.number("snapshots", self.snapshots, 2, 100_000, integer=True)
        if self.epochs is not None:
            check.number("judge_epochs", self.epochs, 1, 100_000, integer=True)

    def epochs_for(self, method: str, augment: Augmentation | None) -> int:
        """Epochs of a judging network for a method by key."""
        if self.epochs is not None:
            return self.epochs
        return (
            JUDGING_EPOCHS if augment is not None else JUDGING_EPOCHS_WITHOUT_AUGMENTATION.get(method, JUDGING_EPOCHS)
        )

    @property
    def num_networks(self) -> int:
        """Number of networks trained in all."""
        return 2 * self.networks + self.watched * (self.snapshots - 1) if self.networks else 0


@dataclass(frozen=True, eq=False)
class ExampleNames:
    """What the examples of a dataset are called.

    Attributes:
        ids: (n,) their names.
        rows: (n,) int64 their places in the source.
    """

    ids: Sequence[str]
    rows: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class CondenseRun:
    """What a condensation runs: the condenser with its options, and its networks.

    Attributes:
        method: a condenser.
        per_class: images of every class.
        iterations: iterations of the condenser.
        build: builds a fresh network.
        network: its name and options, for the record.
        augment: augmentation of matching and judging.
        device: of matching.
        seed: seed of all draws.
        options: other options of the condenser.
    """

    method: Callable[..., Synthetic]
    per_class: int
    iterations: int
    build: Callable[[], nn.Module]
    network: str
    augment: Augmentation | None
    device: str
    seed: int
    options: Mapping[str, Any]

    def condense(
        self,
        train: Any,
        generator: torch.Generator,
        *,
        on_iteration: OnIteration,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> Synthetic:
        """Run the condenser on `Examples` of images in memory; the other parameters are the condenser's."""
        return self.method(
            train.x,
            train.labels,
            per_class=self.per_class,
            build=self.build,
            generator=generator,
            iterations=self.iterations,
            mean=train.mean or None,
            std=train.std or None,
            classes=train.classes,
            augment=self.augment,
            device=self.device,
            on_iteration=on_iteration,
            checkpoint=checkpoint,
            progress=progress,
            **self.options,
        )


def condense_into_folder(
    run: CondenseRun,
    train: Any,
    test: Any,
    path: Path,
    *,
    judging: Judging,
    names: ExampleNames,
    load: LoadOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Condense ``train`` in the folder ``path``; a stopped run resumes and ends in the same images.

    Args:
        run: the condenser with its options.
        train: `Examples` of images in memory.
        test: held-out `Examples`; None to judge nothing.
        path: the run folder.
        judging: how the result is judged.
        names: of the examples of ``train``.
        load: how the data were loaded, for the record.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The content of ``run.json``.

    Raises:
        ArgumentError: data that are no images in memory, an option out of range, or a class with too few images to
            compare with.
        RunError: ``path`` holds another run, or another process writes there.
    """
    with only_writer(path, option="run", who="another command"):
        return _condense_alone(run, train, test, path, judging=judging, names=names, load=load, progress=progress)


def _condense_alone(
    run: CondenseRun,
    train: Any,
    test: Any,
    path: Path,
    *,
    judging: Judging,
    names: ExampleNames,
    load: LoadOptions | None,
    progress: Progress | None,
) -> dict[str, Any]:
    x = images_of(train)
    if judging.networks and test is not None:
        check_class_sizes(train.labels, run.per_class)
    card = card_of(run.method)
    iterations, augment = run.iterations, run.augment
    epochs = judging.epochs_for(card.key, augment)
    recorded_options = {
        "method": card.key,
        "per_class": run.per_class,
        "iterations": iterations,
        "seed": run.seed,
        "network": run.network,
        "load": {} if load is None else load.to_dict(),
        **{name: _to_plain(value) for name, value in run.options.items()},
        "augment": _to_plain(augment),
        "device": run.device,
    }
    metadata: dict[str, Any] = {
        "verb": "condense",
        "name": f"{train.name}, {run.per_class} a class by {card.name}",
        "dataset": {
            "name": train.name,
            "n": len(train),
            "shape": list(train.shape),
            "classes": list(train.classes),
            "fingerprint": train.fingerprint,
            "notes": list(train.notes),
        },
        "options": recorded_options,
        "judged": {
            **asdict(judging),
            "epochs": epochs,
            "augment": _to_plain(augment),
            "test": 0 if test is None else len(test),
        },
    }
    if _open_folder(path, metadata) and (path / SYNTHETIC_FILE).exists():
        return read_json(path / RUN_FILE, schema=CondenseFile)
    curve = path / CURVE_FILE
    rows: list[dict[str, Any]] = read_json(curve, schema=CurveFile)["rows"] if curve.exists() else []
    write_json(curve, {"rows": rows})

    def judge(synthetic: Synthetic, name: str, iteration: int | None, networks: int) -> None:
        # a set that was judged before a kill is not judged again
        if test is None or not networks or any(row["set"] == name for row in rows):
            return
        result = evaluate(
            synthetic,
            test.x,
            test.labels,
            build=run.build,
            generator=stream(run.seed, "judge", name),
            networks=networks,
            epochs=epochs,
            augment=augment,
            progress=progress,
        )
        accuracies = list(result.accuracies)
        rows.append({"set": name, "iteration": iteration, "accuracies": accuracies, "seconds": result.seconds})
        write_json(curve, {"rows": rows})

    snapshots = path / "snapshots"
    snapshot_iterations = {round(i * iterations / (judging.snapshots - 1)) for i in range(judging.snapshots)}

    def on_iteration(done: int, _loss: float | None, synthetic: Callable[[], Synthetic]) -> None:
        if done in snapshot_iterations and not (snapshots / f"{done:07}.png").exists():
            snapshot = synthetic()
            snapshot.save(snapshots / f"{done:07}.safetensors")
            networks = judging.networks if done == iterations else judging.watched
            judge(snapshot, f"iteration {done}", done, networks if judging.networks else 0)
            columns = 10 if run.per_class == 1 else None
            # the PNG is written last: it marks the snapshot as judged
            scale = max(1, 32 // snapshot.images.shape[-1])
            snapshot.save_grid(snapshots / f"{done:07}.png", columns, scale=scale)

    synthetic = run.condense(
        train,
        stream(run.seed, "condense"),
        on_iteration=on_iteration,
        checkpoint=path / CHECKPOINT_FILE,
        progress=progress,
    )
    synthetic = with_names(synthetic, names)
    synthetic.save(path / SYNTHETIC_FILE)
    random = None
    if judging.networks and test is not None:
        random = real_set(
            "random",
            x,
            train.labels,
            per_class=run.per_class,
            build=run.build,
            generator=stream(run.seed, "random"),
            mean=train.mean or None,
            std=train.std or None,
            classes=train.classes,
        )
        judge(random, "random", None, judging.networks)
    write_real_examples(path / REAL_EXAMPLES_FILE, names, train, synthetic, random)
    if not (path / PROJECTION_FILE).exists():
        points = feature_projection(synthetic, x, train.labels, build=run.build, seed=run.seed)
        write_json(path / PROJECTION_FILE, points)
    metadata |= {
        "cost": {name: synthetic.about[name] for name in ("seconds", "images_seen", "memory")},
        "status": {"condense": "done"},
        "result": {"outside": synthetic.outside, "curve": rows},
        "created": provenance.now(),
        "commit": provenance.commit(),
        "versions": provenance.versions(),
        "device": synthetic.about["device"],
        "threads": torch.get_num_threads(),
        "seed": synthetic.about["seed"],
    }
    write_json(path / RUN_FILE, metadata)
    (path / CHECKPOINT_FILE).unlink(missing_ok=True)
    return read_json(path / RUN_FILE)


def with_names(synthetic: Synthetic, names: ExampleNames) -> Synthetic:
    """``synthetic`` whose record has the ids and the rows of the source of the real images that it began as.

    They stand as ``initial_ids`` and ``initial_rows`` beside the positions, ``initial``, a list for each image.
    """
    positions = synthetic.about.get("initial")
    if positions is None:
        return synthetic
    initial = {
        "initial_ids": [[names.ids[i] for i in each] for each in positions],
        "initial_rows": [names.rows[each].tolist() for each in positions],
    }
    return replace(synthetic, about={**synthetic.about, **initial})


def write_real_examples(
    path: Path, names: ExampleNames, train: Any, synthetic: Synthetic, random: Synthetic | None
) -> None:
    """``real_examples.parquet``: the real examples that the images began as, and those that they are compared with.

    A row an example: ``id``, ``row`` in the source, ``label``, ``initial`` (number of the synthetic image that began
    as it, -1 for none) and ``compared`` (whether it is in the random set), with ``position`` and ``checksum`` as
    selections have them. No file is written where there are none.
    """
    initial = np.full(len(train), -1, dtype=np.int64)
    for number, positions in enumerate(synthetic.about.get("initial") or ()):
        initial[positions] = number
    compared = np.zeros(len(train), dtype=bool)
    compared[[] if random is None else random.about["positions"]] = True
    used = np.flatnonzero((initial >= 0) | compared)
    if not len(used):
        return
    columns = {
        "id": pa.array(names.ids, pa.string()),
        ROW: pa.array(names.rows.numpy()),
        "label": pa.array(train.labels.numpy()),
        "initial": pa.array(initial),
        "compared": pa.array(compared),
    }
    table = with_row_checks(pa.table(columns), list(columns)).take(used)
    write_table(path, table, {"fingerprint": train.fingerprint, "n": len(train)})


def check_class_sizes(labels: torch.Tensor, per_class: int) -> None:
    """Check that every class has as many images as the comparison with real ones needs, before condensing.

    Raises:
        ArgumentError: a class has fewer than ``per_class``.
    """
    counts = torch.bincount(labels)
    if int(counts.min()) < per_class:
        raise ArgumentError(
            f"the result is compared with {per_class} random real images of every class, but class "
            f"{int(counts.argmin())} has {int(counts.min())}: use a smaller `per_class`, or judge nothing: "
            "`networks=0`"
        )


def _open_folder(path: Path, metadata: Mapping[str, Any]) -> bool:
    """Write ``run.json``, or compare it with ``metadata``; returns whether the run is done.

    Raises:
        RunError: ``path`` holds another run.
    """
    if not (path / RUN_FILE).exists():
        write_json(path / RUN_FILE, {**metadata, "status": {"condense": "unfinished"}, "cost": {}})
        return False
    saved = read_json(path / RUN_FILE)
    if saved.get("verb") != "condense":
        raise RunError(f"{path} holds a run of another kind: give another `run=` folder")
    check_content(saved, CondenseFile, path / RUN_FILE)
    for section in ("dataset", "options", "judged"):
        require_same(saved.get(section) or {}, metadata[section], path, ignore=("notes",))
    return bool(saved.get("status", {}).get("condense") == "done")


def images_of(train: Any) -> torch.Tensor:
    """The (n, channels, height, width) images of a dataset.

    Raises:
        ArgumentError: examples that are no images, or images that are not in memory.
    """
    x = getattr(train, "x", None)
    if not isinstance(x, torch.Tensor) and not hasattr(train, "plan"):  # no images that are decoded on demand
        raise ArgumentError(
            f"condensing draws from all images at once, but {a_type(train)} gives one at a time: give arrays "
            "(x, y) with x of shape (n, channels, height, width), uint8, or DATA"
        )
    if not isinstance(x, torch.Tensor):
        raise ArgumentError(
            f"{train.name} does not fit into memory, and condensing draws from all of it: load fewer examples "
            "(`limit=`), or smaller images (`size=`)"
        )
    if x.ndim != 4:
        raise ArgumentError(f"condensing needs images, but an example of {train.name} has shape {tuple(x.shape[1:])}")
    return x


def _to_plain(value: Any) -> Any:
    """``value`` as JSON holds it; `repr` of anything else."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return repr(value)
