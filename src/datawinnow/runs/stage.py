"""`Stage`: a training inside a run folder, of a recording or on kept examples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from datawinnow.core.artifacts import file_checksum, first_difference, settings_difference
from datawinnow.core.errors import RunError
from datawinnow.runs.folder import RunFolder
from datawinnow.train import History, Recipe
from datawinnow.train.checkpoint import save_checkpoint
from datawinnow.train.network import device_for, resolve_precision
from datawinnow.train.recipe import OPTIONAL_FIELDS
from datawinnow.train.state import FIXED_LENGTH_NOTE, describe_sizes, needs_fixed_length, planned_sizes

MEASURED_WITH = ("model", "model_options", "recipe")
"""Options that a measurement of precisions is of."""


@dataclass(frozen=True)
class Stage:
    """One training of a run folder.

    Attributes:
        folder: the run.
        name: ``"record"`` or ``"train"``: its key under ``status``, ``options`` and ``cost`` in ``run.json``.
        epochs: number of epochs; None where a policy decides it.
        extendable: whether the checkpoint stays when the training is finished, for more epochs to follow.
    """

    folder: RunFolder
    name: str
    epochs: int | None
    extendable: bool = False

    @property
    def checkpoint(self) -> Path:
        """The file that an unfinished training resumes from."""
        return self.folder.path / "checkpoint" / f"{self.name}.safetensors"

    @property
    def done(self) -> bool:
        """Whether the training is finished."""
        return bool(self.folder.metadata["status"].get(self.name) == "done")

    @property
    def has_epochs(self) -> bool:
        """Whether an epoch was finished, so that the options are fixed."""
        # the checkpoint may be there before its epoch is in run.json
        return self.folder.metadata["status"].get(self.name) not in (None, "begun") or self.checkpoint.exists()

    def require_same_options(
        self,
        options: Mapping[str, Any],
        *,
        ignore: Collection[str] = (),
        texts: Mapping[str, Callable[[Any], str]] | None = None,
    ) -> None:
        """Refuse options other than those that the training was started with; all may be, where it was not begun.

        Args:
            options: of this call, as `start` writes them.
            ignore: names of options that may differ, beside the number of workers, which changes no result.
            texts: as of `settings_difference`.

        Raises:
            RunError: naming the first that differs.
        """
        before = self.folder.metadata["options"].get(self.name)
        if before is None:
            return
        before, now = _with_recipe_fields(before), _with_recipe_fields(options)
        # an option that an older datawinnow did not have counts as unchanged
        before = {key: before.get(key, value) for key, value in now.items()}
        texts = texts or {}
        difference = first_difference(before, now, ignore=("workers", *ignore), single=texts)
        if difference is not None:
            name, old, new = difference
            raise RunError(
                f"{self.folder.path} was started with {option_text(name, old, texts)}, now it is "
                f"{option_text(name, new, texts)}: use another `run=` folder, or the same options as before"
            )

    def start(
        self,
        built: nn.Module,
        data: Any,
        recipe: Recipe,
        options: Mapping[str, Any],
        log: Callable[[str], None] | None,
        *,
        seed: int,
        model: Mapping[str, Any],
        recorded: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """Write the options and the arithmetic into ``run.json``, before training starts.

        Args:
            built: fresh network.
            data: what it is trained on.
            recipe: of the user.
            options: for ``options`` in ``run.json``; the stage's name is among the keys.
            log: called with the arithmetic, where it was measured.
            seed: for ``run.json``.
            model: name and options of the network, for ``run.json``.
            recorded: arithmetic of the recording that the examples were selected from, as of `recorded_arithmetic`.

        Returns:
            The recipe with its arithmetic fixed: that of the first start, if the training resumes, and that of the
            recording, if it is of the same network, recipe and device.
        """
        # on another device too: a training that resumes ends as it began
        earlier = arithmetic_for(arithmetic_of(self.folder, self.name), options[self.name])
        if earlier is None and (earlier := arithmetic_for(recorded, options[self.name], recipe.device)) is not None:
            earlier = {**earlier, "note": f"{earlier['precision']}, as the selection was recorded"}
        recipe, arithmetic = resolve_arithmetic(built, data, recipe, earlier)
        self.folder.update(
            options=dict(options),
            status={self.name: "begun"},
            device=device_for(recipe.device).type,
            arithmetic=arithmetic,
            seed=seed,
            model=dict(model),
        )
        if log is not None and recipe.batch > self.folder.n > 1:
            log(
                f"batch: {recipe.batch:,} is more than the {self.folder.n:,} examples, so an epoch is a single step; a "
                "smaller `batch=` learns in fewer epochs"
            )
        if log is not None and arithmetic.get("note"):
            log(f"arithmetic: {arithmetic['note']}")
        if log is not None:
            device = device_for(recipe.device)
            sizes = planned_sizes(built.to(device), data, recipe, device)
            if sizes is not None:
                log(describe_sizes(sizes))
            if needs_fixed_length(built, data, device):
                log(FIXED_LENGTH_NOTE)
        return recipe

    def on_epoch(self, epoch: int, history: History) -> None:
        """Write the history and the number of finished epochs."""
        self.folder.write_history(history.rows, self.name, history.cost)
        total = "" if self.epochs is None else f" of {self.epochs}"
        self.folder.update(status={self.name: f"epoch {epoch + 1}{total}"})

    def finish(self, model: nn.Module, history: History, metadata: Mapping[str, Any]) -> None:
        """Write the network, the history, the cost and ``metadata``, and mark the stage as done in ``run.json``."""
        folder = self.folder
        made_by = {"model": folder.metadata["model"]["name"], **folder.made_by(self.name, history.cost)}
        # the network first, run.json last: "done" implies that all files are there
        save_checkpoint(folder.path / "model.safetensors", model, None, made_by)
        # again: a kill may have come between the last checkpoint and its row
        folder.write_history(history.rows, self.name, history.cost)
        written = [folder.path / "model.safetensors", *sorted(folder.signals.glob("*.npy"))]
        written += [self.checkpoint] if self.extendable and self.checkpoint.exists() else []
        checksums = {file.relative_to(folder.path).as_posix(): file_checksum(file) for file in written}
        folder.update(
            cost={self.name: history.cost.as_dict()},
            status={self.name: "done"},
            files={name: checksum for name, checksum in checksums.items() if checksum is not None},
            arithmetic={"precision": history.precision, "channels_last": history.channels_last},
            **metadata,
        )
        self.tidy()

    def tidy(self) -> None:
        """Remove the checkpoint. Called for a finished stage too, since a kill may have come before this line."""
        if self.extendable:
            return
        self.checkpoint.unlink(missing_ok=True)
        if self.checkpoint.parent.is_dir() and not any(self.checkpoint.parent.iterdir()):
            self.checkpoint.parent.rmdir()


def resolve_arithmetic(
    model: nn.Module, data: Any, recipe: Recipe, recorded: Mapping[str, Any] | None
) -> tuple[Recipe, dict[str, Any]]:
    """``recipe`` with its precision and memory format fixed.

    A measurement is never repeated: timings vary, and the trained weights depend on the choice.

    Args:
        model: the network to measure with.
        data: the examples to measure with.
        recipe: of the user.
        recorded: the arithmetic in ``run.json``, if there is any.

    Returns:
        The recipe; ``{"precision", "channels_last", "note"}``, the note empty where nothing was measured.
    """
    if recipe.precision == "auto" and recorded is not None:
        return replace(recipe, precision=recorded["precision"], channels_last=recorded["channels_last"]), dict(recorded)
    fixed, note = resolve_precision(model, data, recipe)
    return fixed, {"precision": fixed.precision, "channels_last": bool(fixed.channels_last), "note": note}


def augment_of(data: Any) -> dict[str, Any] | None:
    """The augmentation of a dataset for ``run.json``; None for none, or a dataset without ``augment``."""
    augment = getattr(data, "augment", None)
    return asdict(augment) if is_dataclass(augment) and not isinstance(augment, type) else None


def arithmetic_of(folder: RunFolder, stage: str = "record") -> dict[str, Any] | None:
    """What a stage of a run was trained with, and in which arithmetic; None where it has none.

    Returns:
        ``model``, ``model_options``, ``recipe``, ``device`` and ``arithmetic``, which a selection keeps for trainings.
    """
    options, arithmetic = folder.metadata["options"].get(stage), folder.metadata.get("arithmetic") or {}
    if options is None or arithmetic.get("precision") is None:
        return None
    trained_with = {name: options.get(name) for name in MEASURED_WITH}
    return {**trained_with, "device": folder.metadata.get("device"), "arithmetic": dict(arithmetic)}


def arithmetic_for(
    before: Mapping[str, Any] | None, options: Mapping[str, Any], device: str | None = None
) -> dict[str, Any] | None:
    """The arithmetic of an earlier training, if it is of the same network and recipe: a choice holds for no other.

    Args:
        before: as of `arithmetic_of`.
        options: of the training now, with ``model``, ``model_options`` and ``recipe``.
        device: that it will be on, as in a recipe; None for that of the earlier one.
    """
    if before is None or (device is not None and before["device"] != device_for(device).type):
        return None
    inputs = ({name: each.get(name) for name in MEASURED_WITH} for each in (before, options))
    return dict(before["arithmetic"]) if settings_difference(*inputs, ignore=("workers",)) is None else None


def option_text(name: str, value: Any, texts: Mapping[str, Callable[[Any], str]] | None = None) -> str:
    """An option with its value, as Python spells it; in backticks it becomes the flag of the command line."""
    if texts and name in texts:
        return f"{name}={texts[name](value)}"
    if value is None:
        return f"the default of `{name}=`" if name.isidentifier() else f"no {name}"
    return f"`{name}={value!r}`" if name.isidentifier() else f"{name}={value!r}"


def _with_recipe_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    # left out where they are not set: then they differ from what is set now
    unset = OPTIONAL_FIELDS if "recipe" in options else {}
    return {**{key: value for key, value in options.items() if key != "recipe"}, **unset, **options.get("recipe", {})}
