"""Models, tokenizers and image processors of transformers, loaded from a folder, a package or the hub.

A model is named ``hf:FOLDER`` (in the layout of ``save_pretrained``), ``hf:package:NAME`` (the folder of weights in an
installed Python package) or ``hf:owner/name`` (a name on the Hugging Face hub). Where no other kind of name is allowed,
``hf:`` can be left out. Of a folder or a package nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datawinnow.core.errors import ArgumentError
from datawinnow.core.extras import import_extra
from datawinnow.core.files import require_file

if TYPE_CHECKING:
    import torch

PREFIX = "hf:"
PACKAGE = "package:"
HASHED_BYTES = 1 << 20
"""Bytes at each end of a file that `fingerprint_pretrained` hashes."""


def is_pretrained(name: object) -> bool:
    """Whether a name means a transformers model.

    >>> is_pretrained("hf:my-model"), is_pretrained("text_cnn"), is_pretrained(None)
    (True, False, False)
    """
    return isinstance(name, str) and name.startswith(PREFIX)


def resolve_name(name: str) -> str:
    """The folder of a model, or its name on the hub.

    Args:
        name: with or without ``hf:``.

    Raises:
        ArgumentError: no such folder or package.
    """
    rest = name.removeprefix(PREFIX)
    if rest.startswith(PACKAGE):
        return str(_package_folder(rest.removeprefix(PACKAGE)))
    path = Path(rest).expanduser()
    if rest and path.is_dir():
        return str(path)
    # a name on the hub has at most one slash
    if not rest or rest[0] in "./~\\" or rest.count("/") > 1 or (os.sep != "/" and os.sep in rest):
        raise ArgumentError(
            f"{name}: no such folder; give one that holds config.json, the weights and the tokenizer, as "
            "save_pretrained writes them, or hf:owner/name of the Hugging Face hub"
        )
    return rest


def _package_folder(package: str) -> Path:
    """The folder in a Python package that holds config.json beside the weights, the least deep one."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        for config in sorted(Path(root).rglob("config.json"), key=lambda file: len(file.parts)):
            if any(config.parent.glob("*.safetensors")):
                return config.parent
    problem = "is not installed" if spec is None else "holds no config.json beside *.safetensors"
    raise ArgumentError(f"{PREFIX}{PACKAGE}{package}: the Python package {package!r} {problem}")


def load_pretrained(kind: str, name: str, purpose: str, **options: Any) -> Any:
    """``transformers.<kind>.from_pretrained(name)``.

    Weights are read from safetensors alone, so nothing is unpickled, and no code that comes with a model is run. A
    name on the hub is downloaded by transformers, unless ``HF_HUB_OFFLINE`` is set.

    Args:
        kind: a class of transformers: ``"AutoModel"``, ``"AutoTokenizer"``, ``"CLIPModel"``, ...
        name: see the module.
        purpose: what needs it, for the error.
        options: passed on; of a model, options of its configuration too.

    Raises:
        ArgumentError: transformers is not installed, or there is no such model, or not of this kind.
    """
    transformers = import_extra("transformers", "transformers", purpose)
    path = resolve_name(name)
    is_folder = Path(path).is_dir()
    # a folder that lacks a file must not be looked up on the hub under that name
    if is_folder:
        options["local_files_only"] = True
        for file in Path(path).iterdir():  # transformers would wait for a FIFO
            if not file.is_dir():
                require_file(file, ArgumentError)
    if kind.startswith("Auto"):
        options["trust_remote_code"] = False
    if kind.endswith("Model") or "ModelFor" in kind:
        options["use_safetensors"] = True
    try:
        with _quiet(transformers):
            return getattr(transformers, kind).from_pretrained(path, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        place = "" if is_folder else " (not a folder, so looked up on the Hugging Face hub)"
        reason = " ".join(str(error).split())[:400]
        raise ArgumentError(f"{purpose}: cannot load {kind} from {name!r}{place}: {reason}") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without progress bars and without warnings: heads that are new or left out are intended."""
    logging = transformers.utils.logging
    verbosity, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bar:
            logging.enable_progress_bar()


def load_tokenizer(name: str, purpose: str) -> Any:
    """The tokenizer of a model, which pads on the right.

    Raises:
        ArgumentError: transformers is not installed, or there is no tokenizer.
    """
    return load_pretrained("AutoTokenizer", name, purpose, padding_side="right")


def max_tokens_of(tokenizer: Any, config: Any = None) -> int:
    """Tokens that a model takes: the smaller limit of its tokenizer and configuration, 2^20 where neither has one.

    Args:
        tokenizer: of transformers.
        config: of a model; its ``max_position_embeddings`` is the limit.
    """
    limits = (getattr(tokenizer, "model_max_length", None), getattr(config, "max_position_embeddings", None))
    # transformers says 10^30 for "no limit"
    return min([*(int(limit) for limit in limits if isinstance(limit, int) and limit > 0), 1 << 20])


def fingerprint_pretrained(name: str, config: Any) -> str:
    """Which weights a name means.

    Args:
        name: see the module.
        config: of the loaded model; of a model of the hub it holds the revision.

    Returns:
        Of a folder a hash over its files (of large ones over both ends), else name and revision.
    """
    path = resolve_name(name)
    if not Path(path).is_dir():
        return f"{path}@{getattr(config, '_commit_hash', None)}"
    digest = hashlib.sha256()
    for file in sorted(f for f in Path(path).iterdir() if f.is_file() and not f.name.startswith(".")):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as data:
            digest.update(data.read(HASHED_BYTES))
            if size > HASHED_BYTES:
                # the two ends do not overlap
                data.seek(max(HASHED_BYTES, size - HASHED_BYTES))
                digest.update(data.read())
    return digest.hexdigest()[:32]


def pick_device(device: str | None) -> torch.device:
    """The device of a name; None and ``"auto"`` are a GPU where there is one.

    Raises:
        ArgumentError: no such device.
    """
    import torch  # not above: the command line imports this module for `is_pretrained` alone

    if device in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        # torch parses the name of a device that is not there; only using it fails
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(f"device={device!r} cannot be used here ({str(error).splitlines()[0][:120]})") from None
    return chosen
