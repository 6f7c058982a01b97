"""``hf:PATH``: where the weights of a transformers model lie, and the extra that they need."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from datawinnow.core.errors import ArgumentError

PREFIX = "hf:"
PACKAGE = "package:"


def is_pretrained(name: object) -> bool:
    """Whether a name means a transformers model.

    >>> is_pretrained("hf:my-model"), is_pretrained("text_cnn"), is_pretrained(None)
    (True, False, False)
    """
    return isinstance(name, str) and name.startswith(PREFIX)


def located(name: str) -> tuple[str, dict[str, Any]]:
    """What ``from_pretrained`` is given for ``hf:FOLDER``, ``hf:package:NAME`` or ``hf:owner/name``.

    Args:
        name: with its ``hf:``. ``package:NAME`` is the folder of weights in an installed Python package.

    Returns:
        A folder, or a name on the hub; and the options that hold for it: of a folder nothing is fetched.

    Raises:
        ArgumentError: no such folder or package.
    """
    rest = name.removeprefix(PREFIX)
    if rest.startswith(PACKAGE):
        return str(_in_package(rest.removeprefix(PACKAGE))), {"local_files_only": True}
    path = Path(rest).expanduser()
    if path.is_dir():
        return str(path), {"local_files_only": True}
    if not rest or rest[0] in "./~\\" or rest.count("/") > 1 or (os.sep != "/" and os.sep in rest):
        raise ArgumentError(
            f"{name}: no such folder; give one that holds config.json, the weights and the tokenizer, as "
            "save_pretrained leaves them, or hf:owner/name of the Hugging Face hub"
        )
    return rest, {}


def from_pretrained(kind: str, name: str, what: str, **options: Any) -> Any:
    """A network by one of transformers' ``Auto`` classes, in float32, from safetensors alone.

    Nothing is unpickled and no code of the model's own is run.

    Args:
        kind: ``"AutoModel"`` or ``"AutoModelForSequenceClassification"``.
        name: with its ``hf:``.
        what: for the error, what it is loaded as.
        options: passed on.

    Raises:
        ArgumentError: transformers is not installed, or no such weights.
    """
    import torch

    transformers = transformers_for(f"the model {name}")
    path, how = located(name)
    told = transformers.utils.logging
    verbosity, bar = told.get_verbosity(), told.is_progress_bar_enabled()
    told.set_verbosity_error()  # that a head is new, or left out, is meant
    told.disable_progress_bar()
    try:
        return getattr(transformers, kind).from_pretrained(
            path, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, **how, **options
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ArgumentError(f"cannot load {name} as {what}: {str(error).strip()[:400]}") from error
    finally:
        told.set_verbosity(verbosity)
        if bar:
            told.enable_progress_bar()


def _in_package(package: str) -> Path:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        for config in sorted(Path(root).rglob("config.json"), key=lambda file: len(file.parts)):
            if any(config.parent.glob("*.safetensors")):
                return config.parent
    what = "is not installed" if spec is None else "holds no config.json beside *.safetensors"
    raise ArgumentError(f"{PREFIX}{PACKAGE}{package}: the Python package {package!r} {what}")


def transformers_for(what: str) -> Any:
    """The transformers library.

    Args:
        what: needs it, for the error.

    Raises:
        ArgumentError: it is not installed; the error names the extra.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ArgumentError(f"{what} needs transformers: pip install 'datawinnow[transformers]' ({error})") from error
