"""A training inside a run folder, be it a recording or a training on what was kept: begun, followed, finished once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from datawinnow.runs.folder import RunFolder
from datawinnow.train import History, Recipe
from datawinnow.train.checkpoint import save_checkpoint
from datawinnow.train.network import fabric_for, resolve_precision

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """One training of a run folder.

    Attributes:
        folder: the run.
        name: ``"record"`` or ``"train"``: its key under ``status``, ``options`` and ``cost`` in ``run.json``.
        epochs: how many it has; None where a policy makes as many as it takes.
    """

    folder: RunFolder
    name: str
    epochs: int | None

    @property
    def checkpoint(self) -> Path:
        """What an unfinished one goes on from."""
        return self.folder.path / "checkpoint" / f"{self.name}.safetensors"

    @property
    def done(self) -> bool:
        """Whether it is finished."""
        return bool(self.folder.metadata["status"].get(self.name) == "done")

    def start(
        self,
        built: nn.Module,
        data: Any,
        recipe: Recipe,
        options: Mapping[str, Any],
        log: Tell | None,
        **metadata: Any,
    ) -> Recipe:
        """Write into ``run.json`` what is begun, the arithmetic with it, before anything is trained.

        Args:
            built: fresh network.
            data: what it is trained on.
            recipe: as the user has it.
            options: what ``run.json`` keeps under ``options``, this stage's name among its keys.
            log: told the arithmetic, where it was measured.
            metadata: more of ``run.json``.

        Returns:
            The recipe with its arithmetic fixed: as begun, if this was begun before.
        """
        facts_so_far = self.folder.metadata
        before, now = facts_so_far["options"].get(self.name), json.loads(json.dumps(options[self.name]))
        told = facts_so_far.get("arithmetic") if before is not None and _alike(before, now) else None
        recipe, arithmetic = settle(built, data, recipe, told)
        self.folder.update(
            options=dict(options),
            status={self.name: "begun"},
            device=fabric_for(recipe.device).device.type,
            arithmetic=arithmetic,
            **metadata,
        )
        if log is not None and arithmetic.get("note"):
            log(f"arithmetic: {arithmetic['note']}")
        return recipe

    def on_epoch(self, epoch: int, history: History) -> None:
        """Write the history and how far it has come."""
        self.folder.write_history(history.rows, self.name, history.cost)
        of = "" if self.epochs is None else f" of {self.epochs}"
        self.folder.update(status={self.name: f"epoch {epoch + 1}{of}"})

    def finish(self, model: nn.Module, history: History, **metadata: Any) -> None:
        """Leave the network and the history, and say in ``run.json`` that this is done, what it cost and ``facts``."""
        folder = self.folder
        about = {"model": folder.metadata["model"]["name"], **folder.made_by(self.name, history.cost)}
        save_checkpoint(folder.path / "model.safetensors", model, None, about)
        # again: a kill may have come between the last checkpoint and its row
        folder.write_history(history.rows, self.name, history.cost)
        folder.update(
            cost={self.name: history.cost.as_dict()},
            status={self.name: "done"},
            arithmetic={"precision": history.precision, "channels_last": history.channels_last},
            **metadata,
        )
        self.tidy()

    def tidy(self) -> None:
        """Remove the checkpoint; also on meeting a finished stage, since a kill may have come before this line."""
        self.checkpoint.unlink(missing_ok=True)
        if self.checkpoint.parent.is_dir() and not any(self.checkpoint.parent.iterdir()):
            self.checkpoint.parent.rmdir()


def settle(
    model: nn.Module, data: Any, recipe: Recipe, told: Mapping[str, Any] | None
) -> tuple[Recipe, dict[str, Any]]:
    """``recipe`` with its arithmetic fixed, and what to write down of it.

    A measurement is never repeated: it depends on the machine's mood, and the numbers that are trained depend on it.

    Args:
        model: the network to measure with.
        data: the examples to measure with.
        recipe: as the user has it.
        told: the arithmetic that was written down before, if there is any.

    Returns:
        The recipe; ``{"precision", "channels_last", "note"}``, the note empty where nothing was measured.
    """
    if recipe.precision == "auto" and told is not None:
        return replace(recipe, precision=told["precision"], channels_last=told["channels_last"]), dict(told)
    fixed, note = resolve_precision(model, data, recipe)
    return fixed, {"precision": fixed.precision, "channels_last": bool(fixed.channels_last), "note": note}


def augment_of(data: Any) -> dict[str, Any] | None:
    """What training does to the images of a dataset, for ``run.json``; None for nothing, or where it does not say."""
    found = getattr(data, "augment", None)
    return asdict(found) if is_dataclass(found) and not isinstance(found, type) else None


def _alike(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the measurement before was of the same network under the same recipe."""
    return all(_measured(before).get(key) == value for key, value in _measured(now).items())


def _measured(options: Mapping[str, Any]) -> dict[str, Any]:
    recipe = {key: value for key, value in options.get("recipe", {}).items() if key != "workers"}
    return {"model": options.get("model"), "model_options": options.get("model_options"), "recipe": recipe}
