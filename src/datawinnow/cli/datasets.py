"""Datasets and folders: where they are, and where they were when a run was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.cli.options import Loading
from datawinnow.cli.ui import Screen
from datawinnow.core.errors import RunError

if TYPE_CHECKING:
    from datawinnow.runs.folder import RunFolder

RUNS = Path("runs")


def load(source: str, options: Mapping[str, Any], screen: Screen) -> tuple[Any, Any]:
    """The train and test split of ``source``; what was chosen on the way is told."""
    from datawinnow.data.load import load as load_data

    with screen.stage() as stage:
        train, test = load_data(source, progress=stage, **options)
    for note in train.notes:
        screen.note(f"data: {note}")
    return train, test


def nature(train: Any) -> dict[str, Any]:
    """What the measured map is asked by besides numbers: ``kind`` of the examples, and how many ``classes``."""
    kind = "images" if getattr(train, "vocabulary_size", None) is None else "texts"
    return {"kind": kind, "classes": len(train.classes)}


def but_network(screen: Screen) -> Callable[[str], None]:
    """`Screen.note`, without what `begin` has told already."""

    def log(text: str) -> None:
        if not text.startswith("network: "):
            screen.note(text)

    return log


def lasting(source: str) -> str:
    """``source`` as it can be found again from another working directory."""
    if source == "digits" or source.startswith("hf:"):
        return source
    return str(Path(source).expanduser().resolve())


def default_run(train: Any, run: Path | None, *, suffix: str = "") -> Path:
    """The run folder: as told, or after the dataset's name."""
    return run if run is not None else RUNS / f"{train.name}{suffix}"


def dataset_of(folder: RunFolder, override: str | None, screen: Screen) -> tuple[Any, Any]:
    """The dataset that a run was made with, loaded as it was then.

    Args:
        folder: the run.
        override: where the dataset is now.
        screen: where loading is told.

    Raises:
        RunError: the run does not say where its dataset is. (Another dataset is refused by what is done with it.)
    """
    source = override or folder.metadata["dataset"].get("source")
    if not source:
        raise RunError(f"{folder.path} does not say where its dataset is; say it with --data")
    return load(source, folder.metadata["options"].get("load", {}), screen)


def begin(source: str, loading: Loading, screen: Screen, run: Path | None, **how: Any) -> tuple[Any, Any, RunFolder]:
    """Load a dataset and open its run folder, in which the way to find the dataset again is written down.

    Args:
        source: what the user called it.
        loading: how to load it.
        screen: where this is told.
        run: the run folder, or None for the default.
        how: ``model``, ``model_options``, ``seed`` of `datawinnow.runs.record.begin`.
    """
    from datawinnow.runs.record import begin_run

    options = loading.given()
    train, test = load(source, options, screen)
    path = default_run(train, run)
    folder, _, _ = begin_run(train, path, source=lasting(source), log=screen.note, **how)
    if "record" not in folder.metadata["options"]:  # what is recorded stays as it was loaded; `record` refuses others
        folder.update(options={"load": options})
    return train, test, folder
