"""The network of a run; `datawinnow.train.build` makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from datawinnow.core.artifacts import as_json
from datawinnow.core.card import resolve
from datawinnow.core.errors import ArgumentError
from datawinnow.models import MODELS
from datawinnow.runs.folder import RunFolder
from datawinnow.text.pretrained import is_pretrained
from datawinnow.train.build import Model, build_for


def recorded_model(
    folder: RunFolder, model: Model = None, options: Mapping[str, Any] | None = None
) -> tuple[str | Callable[..., nn.Module] | nn.Module, dict[str, Any]]:
    """The network that a run recorded with, and its options.

    A run folder may come from somebody else, so no function that ``run.json`` names is imported: the caller names it
    again, with its options. Names of `MODELS` and ``"hf:PATH"`` are taken from the file.

    Args:
        folder: the run.
        model: the function, or the ``"module:function"`` as it was given for the recording.
        options: its options as they were given for the recording.

    Raises:
        ArgumentError: the run recorded with a function, and it is not given; or another network or other options are.
    """
    description = folder.metadata["model"]
    name, recorded = str(description["name"]), dict(description.get("options") or {})
    is_known = is_pretrained(name) or _is_ours(name)
    if model is None:
        if is_known:
            return name, recorded
        if ":" not in name:
            raise ArgumentError(
                f"{folder.path} was recorded with a network of your own, of which it only knows the name {name!r}: "
                'give it again with `model=` (or record with "module:function")'
            )
        options_text = f" `model_options={_printable(recorded)}`" if recorded else ""
        raise ArgumentError(
            f"{folder.path / 'run.json'} names the function {name!r} as its network. A run folder may come from "
            "somebody else, so nothing that it names is imported. If you trust this function with these options, run "
            f"the same command again with `model={_printable(name)}`{options_text}"
        )
    if isinstance(model, str) and model != name:
        raise ArgumentError(
            f"{folder.path} was recorded with `model={_printable(name)}`, not with {model}: leave it out"
        )
    # both as JSON holds them: a tuple is a list in run.json
    if (options or not is_known) and as_json(options or {}) != as_json(recorded):
        raise ArgumentError(
            f"{folder.path} was recorded with the model options {recorded}, not {dict(options or {})}: give those "
            "of the recording"
        )
    return model, recorded


def _printable(value: Any) -> str:
    """What a file says, for a message whose options are copied into a shell: without backticks and control marks."""
    return "".join(c if c.isprintable() and c != "`" else "?" for c in repr(value))


def _is_ours(name: str) -> bool:
    """Whether a name is one of `MODELS`, however it is spelled."""
    try:
        return resolve(name, MODELS, kind="model") in MODELS.values()
    except ArgumentError:
        return False


def network_of_run(folder: RunFolder, model: Model = None, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A fresh network as the run recorded with; its weights draw from torch's global generator.

    Args:
        folder: the run.
        model: as for `recorded_model`.
        options: as for `recorded_model`.

    Raises:
        ArgumentError: as of `recorded_model`, or options that the network does not take.
    """
    factory, model_options = recorded_model(folder, model, options)
    return build_for(factory, folder.dataset, model_options)
